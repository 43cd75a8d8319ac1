//! The Cholesky factor of a positive semi-definite matrix, with pivoting, so that rank is seen.

use serde::{Deserialize, Serialize};

use super::{Symmetric, add_scaled, dot};

/// `A = L L'` up to a permutation of rows, `L` of shape `[size, rank]`.
///
/// When the matrix is singular, [`Self::solve`] gives the shortest of all least-squares solutions,
/// `x = L (L'L)^-2 L' b` (Courrieu, *Fast Computation of Moore-Penrose Inverse Matrices*, 2005).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cholesky {
    size: usize,
    rank: usize,
    /// Row `i` of the factor belongs to row `order[i]` of the matrix.
    order: Vec<u32>,
    /// `[size, rank]`; zero above the diagonal.
    lower: Vec<f64>,
    /// The factor of `L'L` when the matrix is singular.
    inner: Option<Box<Cholesky>>,
    /// What the coordinates were multiplied by before; nothing if they were not.
    scale: Vec<f64>,
}

/// A direction that curves less than this part of the largest diagonal entry is flat.
const FLAT: f64 = 1e-10;

/// The matrix in coordinates in which its diagonal is 1, and what they are multiplied by.
fn unit_diagonal(matrix: &Symmetric) -> (Symmetric, Vec<f64>) {
    let size = matrix.size;
    let root = |i: usize| matrix.at(i, i).max(0.0).sqrt();
    let scale: Vec<f64> = (0..size).map(|i| if root(i) > 0.0 { 1.0 / root(i) } else { 0.0 }).collect();
    let mut scaled = matrix.clone();
    for (row, a) in scaled.values.chunks_exact_mut(size.max(1)).zip(&scale) {
        row.iter_mut().zip(&scale).for_each(|(value, b)| *value *= a * b);
    }
    (scaled, scale)
}

impl Cholesky {
    /// Factors a positive semi-definite matrix.
    ///
    /// A pivot at or below `tolerance` times the largest diagonal entry counts as zero.
    pub fn new(matrix: &Symmetric, tolerance: f64) -> Self {
        let mut factor = Self::pivoted(matrix, tolerance);
        let (n, rank) = (factor.size, factor.rank);
        if rank < n && rank > 0 {
            let mut inner = Symmetric::zero(rank);
            for i in 0..n {
                let row = factor.row(i);
                for a in 0..rank.min(i + 1) {
                    add_scaled(&mut inner.values[a * rank..(a + 1) * rank], row[a], row);
                }
            }
            factor.inner = Some(Box::new(Self::new(&inner, 0.0)));
        }
        factor
    }

    /// The factor alone.
    fn pivoted(matrix: &Symmetric, tolerance: f64) -> Self {
        let n = matrix.size;
        let mut order: Vec<usize> = (0..n).collect();
        let mut left: Vec<f64> = (0..n).map(|i| matrix.at(i, i)).collect();
        let floor = left.iter().fold(0.0, |most: f64, d| most.max(*d)) * tolerance;
        let mut lower = vec![0.0; n * n];
        let mut rank = 0;
        while rank < n {
            let k = rank;
            // The first of the largest remaining diagonal entries.
            let (mut pivot, mut largest) = (k, left[k]);
            for (i, &d) in left.iter().enumerate().skip(k + 1) {
                if d > largest {
                    (pivot, largest) = (i, d);
                }
            }
            if largest.is_nan() || largest <= floor || largest <= 0.0 {
                break;
            }
            if pivot != k {
                order.swap(k, pivot);
                left.swap(k, pivot);
                for j in 0..k {
                    lower.swap(k * n + j, pivot * n + j);
                }
            }
            let root = largest.sqrt();
            let (above, below) = lower.split_at_mut((k + 1) * n);
            let pivot_row = &mut above[k * n..];
            pivot_row[k] = root;
            let source = matrix.row(order[k]);
            for (i, row) in below.chunks_exact_mut(n).enumerate() {
                let i = k + 1 + i;
                let entry = (source[order[i]] - dot(&row[..k], &pivot_row[..k])) / root;
                row[k] = entry;
                left[i] -= entry * entry;
            }
            rank += 1;
        }
        let lower: Vec<f64> = lower.chunks(n.max(1)).flat_map(|row| row[..rank].iter().copied()).collect();
        let order = order.iter().map(|&i| i as u32).collect();
        Self { size: n, rank, order, lower, inner: None, scale: Vec::new() }
    }

    /// Factors a matrix that is positive semi-definite up to rounding; a pivot at the level of rounding
    /// errors counts as zero.
    pub fn semidefinite(matrix: &Symmetric) -> Self {
        Self::new(matrix, 1e-13 + matrix.size as f64 * 4e-16)
    }

    /// Factors curvature that is to have no part in flat directions: those that curve less than 1e-10 of what they would
    /// if their coordinates were independent.
    pub fn curved(matrix: &Symmetric) -> Self {
        let (scaled, scale) = unit_diagonal(matrix);
        Self { scale, ..Self::new(&scaled, FLAT) }
    }

    /// Whether every direction curves at least `floor` times what it would if its coordinates were independent.
    pub fn is_curved(matrix: &Symmetric, floor: f64) -> bool {
        let (scaled, _) = unit_diagonal(matrix);
        Self::pivoted(&scaled, floor).is_regular()
    }

    /// Factors a matrix after adding as much to a singular one's diagonal as makes it regular.
    pub fn regularised(matrix: &Symmetric) -> Self {
        let factor = Self::new(matrix, FLAT);
        if factor.is_regular() {
            return factor;
        }
        let largest = (0..matrix.size).fold(0.0, |most: f64, i| most.max(matrix.at(i, i)));
        let ridge = if largest > 0.0 { 1e-9 * largest } else { 1.0 };
        let mut raised = matrix.clone();
        raised.add_diagonal(&vec![ridge; matrix.size]);
        Self::new(&raised, 0.0)
    }

    /// The rank that was found.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Whether the rank is full.
    pub fn is_regular(&self) -> bool {
        self.rank == self.size
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.lower[i * self.rank..(i + 1) * self.rank]
    }

    /// The solution of `A x = b`, the shortest one when there are many or none.
    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        if self.scale.is_empty() {
            return self.solve_scaled(b);
        }
        let scaled = |v: &[f64]| v.iter().zip(&self.scale).map(|(v, scale)| v * scale).collect::<Vec<_>>();
        scaled(&self.solve_scaled(&scaled(b)))
    }

    fn solve_scaled(&self, b: &[f64]) -> Vec<f64> {
        let mut x = vec![0.0; self.size];
        if self.rank == 0 {
            return x;
        }
        let permuted: Vec<f64> = self.order.iter().map(|&i| b[i as usize]).collect();
        let solved = match &self.inner {
            None => self.solve_regular(permuted),
            Some(inner) => {
                let mut inside = vec![0.0; self.rank];
                for (i, b) in permuted.iter().enumerate() {
                    add_scaled(&mut inside, *b, self.row(i));
                }
                let inside = inner.solve(&inner.solve(&inside));
                (0..self.size).map(|i| dot(self.row(i), &inside)).collect()
            }
        };
        for (value, &i) in solved.iter().zip(&self.order) {
            x[i as usize] = *value;
        }
        x
    }

    /// `L L' x = b`, forward and back.
    fn solve_regular(&self, mut x: Vec<f64>) -> Vec<f64> {
        for i in 0..self.size {
            let row = self.row(i);
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
        for i in (0..self.size).rev() {
            let row = self.row(i);
            let value = x[i] / row[i];
            x[i] = value;
            add_scaled(&mut x[..i], -value, &row[..i]);
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `B B'` for a reproducible `[n, r]` matrix B.
    fn product(n: usize, r: usize) -> Symmetric {
        let b: Vec<f64> = (0..n * r).map(|i| libm::sin(i as f64 * 1.7 + (i * i % 97) as f64)).collect();
        let mut a = Symmetric::zero(n);
        for i in 0..n {
            for j in 0..=i {
                a.set(i, j, dot(&b[i * r..(i + 1) * r], &b[j * r..(j + 1) * r]));
            }
        }
        a
    }

    #[test]
    fn a_regular_system_is_solved() {
        let a = product(30, 60);
        let x: Vec<f64> = (0..30).map(|i| f64::from(i) - 7.5).collect();
        let factor = Cholesky::semidefinite(&a);
        assert!(factor.is_regular());
        let solved = factor.solve(&a.times(&x));
        assert!(solved.iter().zip(&x).all(|(s, x)| (s - x).abs() < 1e-8), "{solved:?}");
    }

    #[test]
    fn a_singular_system_gives_its_shortest_solution() {
        let a = product(12, 5);
        let factor = Cholesky::semidefinite(&a);
        assert_eq!(factor.rank(), 5);
        // A vector in the range of A is the shortest solution of its own system.
        let x = a.times(&(0..12).map(|i| libm::cos(f64::from(i))).collect::<Vec<_>>());
        let solved = factor.solve(&a.times(&x));
        assert!(solved.iter().zip(&x).all(|(s, x)| (s - x).abs() < 1e-7), "{solved:?} {x:?}");
    }

    #[test]
    fn one_steep_coordinate_does_not_make_the_others_flat() {
        // Two columns that are one, a third in units of its own, and one without curvature.
        let mut a = Symmetric::zero(4);
        [(0, 0), (0, 1), (1, 1)].into_iter().for_each(|(i, j)| a.set(i, j, 0.25));
        a.set(2, 2, 1e12);
        let factor = Cholesky::curved(&a);
        assert_eq!(factor.rank(), 2);
        let solved = factor.solve(&[0.5 + 1e-9, 0.5 - 1e-9, 2e12, 1e-9]);
        for (solved, expected) in solved.iter().zip([1.0, 1.0, 2.0, 0.0]) {
            assert!((solved - expected).abs() < 1e-12, "{solved} {expected}");
        }
        assert!(!Cholesky::is_curved(&a, 1e-10));
        a.set(0, 1, 0.2);
        a.set(3, 3, 1e-9);
        assert!(Cholesky::is_curved(&a, 0.1) && !Cholesky::is_curved(&a, 0.9));
    }

    #[test]
    fn zero_and_empty_matrices_have_zero_solutions() {
        assert_eq!(Cholesky::semidefinite(&Symmetric::zero(3)).solve(&[1.0, 2.0, 3.0]), vec![0.0; 3]);
        assert!(Cholesky::semidefinite(&Symmetric::zero(0)).solve(&[]).is_empty());
    }

    #[test]
    fn a_thousand_columns_are_quick() {
        let mut a = product(1026, 40);
        a.add_diagonal(&vec![1.0; 1026]);
        let start = std::time::Instant::now();
        assert!(Cholesky::semidefinite(&a).is_regular());
        assert!(start.elapsed().as_secs_f64() < 5.0);
        println!("factor of 1026 columns: {:?}", start.elapsed());
    }
}
