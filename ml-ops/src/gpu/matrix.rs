//! Matrices in device memory and what networks do with them: products with transposes, bias and activation in one
//! kernel, and steps over entries. A list of steps is submitted at once; nothing comes back but what is asked for.
//!
//! ```text
//!  let x = gpu.matrix(rows, inputs, &values).await?;
//!  gpu.steps(vec![Step::product(&x, &w, &h).bias(&b).activation(Relu), ..]).await?;
//!  let out = gpu.values(&h).await?;
//! ```
//! Numbers are single precision; a row takes whole cells of four, and what is beyond the last column is zero.

use wgpu::{Buffer, BufferUsages};

use super::shaders::{Activation, Cell, MapStep, NetStep, Product, Shader};
use super::worker::{Part, Worker};
use super::{Gpu, Refusal};

/// The inner dimension that one invocation of software adapters may run over.
const SOFTWARE_INNER: usize = 50_000;
/// Groups that keep a device busy.
const BUSY_TILES: usize = 512;
/// Terms of a sum that is not worth parts, and of one that is always cut.
const SHORT_SUM: usize = 256;
const LONG_SUM: usize = 4096;
/// Bytes of the sums of parts, at most.
const SPLIT_BYTES: usize = 128 << 20;

/// A matrix in device memory, `[rows, columns]`; a copy is the same matrix.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    pub(super) buffer: Buffer,
}

impl Matrix {
    /// Cells of four numbers in a row.
    pub(super) fn cells(&self) -> usize {
        self.columns.div_ceil(4)
    }

    pub(super) fn part(&self) -> Part {
        Part::first(&self.buffer, (16 * self.rows * self.cells()).max(16) as u64)
    }

    fn is(&self, other: &Matrix) -> bool {
        self.buffer == other.buffer
    }
}

/// One kernel over matrices. Results never lie in an operand, except where it says so.
#[derive(Clone, Debug)]
pub enum Step {
    /// `c = activation(op(a) op(b) + bias)`, or the same added to `c` before the activation.
    Product {
        /// First operand, `[m, k]`, or `[k, m]` where it is transposed.
        a: Matrix,
        /// Whether it is transposed.
        a_transposed: bool,
        /// Second operand, `[k, n]`, or `[n, k]` where it is transposed.
        b: Matrix,
        /// Whether it is transposed.
        b_transposed: bool,
        /// The result, `[m, n]`.
        c: Matrix,
        /// Added to every row, `[1, n]`.
        bias: Option<Matrix>,
        /// Applied to the result.
        activation: Activation,
        /// Whether the result is added to what `c` holds.
        add: bool,
        /// An activation by whose derivative the result is multiplied, and what it gave (of gelu, what it was given).
        slope: Option<(Activation, Matrix)>,
    },
    /// `c = alpha a + beta b`, entry by entry.
    Combine {
        /// First operand.
        a: Matrix,
        /// Its factor.
        alpha: f32,
        /// Second operand.
        b: Matrix,
        /// Its factor.
        beta: f32,
        /// The result.
        c: Matrix,
    },
    /// `c = gradient times the derivative of an activation`, entry by entry; the derivative follows from its output,
    /// that of gelu from its input.
    Backward {
        /// The gradient of what follows.
        gradient: Matrix,
        /// What the activation gave; for gelu, what it was given.
        output: Matrix,
        /// The activation.
        activation: Activation,
        /// The result.
        c: Matrix,
    },
    /// `c = sum of the rows of a`, `[1, columns]`.
    SumRows {
        /// The operand.
        a: Matrix,
        /// The result.
        c: Matrix,
        /// Whether it is added to what `c` holds.
        add: bool,
    },
}

impl Step {
    /// `c = a b`.
    pub fn product(a: &Matrix, b: &Matrix, c: &Matrix) -> Self {
        Self::Product {
            a: a.clone(),
            a_transposed: false,
            b: b.clone(),
            b_transposed: false,
            c: c.clone(),
            bias: None,
            activation: Activation::Identity,
            add: false,
            slope: None,
        }
    }

    /// The product with its operands transposed or not.
    pub fn transposed(mut self, first: bool, second: bool) -> Self {
        if let Self::Product { a_transposed, b_transposed, .. } = &mut self {
            (*a_transposed, *b_transposed) = (first, second);
        }
        self
    }

    /// The product plus a row.
    pub fn bias(mut self, row: &Matrix) -> Self {
        if let Self::Product { bias, .. } = &mut self {
            *bias = Some(row.clone());
        }
        self
    }

    /// The product through an activation.
    pub fn activation(mut self, function: Activation) -> Self {
        if let Self::Product { activation, .. } = &mut self {
            *activation = function;
        }
        self
    }

    /// The product times the derivative of an activation.
    pub fn slope(mut self, function: Activation, at: &Matrix) -> Self {
        if let Self::Product { slope, .. } = &mut self {
            *slope = Some((function, at.clone()));
        }
        self
    }

    /// The product added to what is there.
    pub fn added(mut self) -> Self {
        if let Self::Product { add, .. } = &mut self {
            *add = true;
        }
        self
    }

    pub(super) fn dispatch(&self, worker: &mut Worker) -> Result<(), Refusal> {
        match self {
            Self::Product { a, a_transposed, b, b_transposed, c, bias, activation, add, slope } => {
                let turned = |m: &Matrix, turn: bool| if turn { (m.columns, m.rows) } else { (m.rows, m.columns) };
                let ((m, k), (inner, n)) = (turned(a, *a_transposed), turned(b, *b_transposed));
                let like = |at: &Matrix| (at.rows, at.columns) == (m, n);
                let fits = k == inner && like(c) && slope.as_ref().is_none_or(|(_, at)| like(at));
                if !fits || bias.as_ref().is_some_and(|bias| bias.columns != n) {
                    let shapes = format!("[{m}, {k}] times [{inner}, {n}] into [{}, {}]", c.rows, c.columns);
                    return Err(Refusal::Failed(format!("a product of {shapes} is none")));
                }
                if c.is(a) || c.is(b) {
                    return Err(Refusal::Failed("the result of a product lies in an operand".into()));
                }
                let size = if m > 64 && n > 64 { 2 } else { 1 };
                let [x, y] = [n, m].map(|v| v.div_ceil(64 * size) as u32);
                if y > 65_535 || x > 65_535 {
                    return Err(Refusal::Unsupported(format!("a result of {m} x {n} entries in one product")));
                }
                let plain = bias.is_none() && slope.is_none() && *activation == Activation::Identity;
                let splits = if plain { splits((x * y) as usize, k, 16 * m * c.cells()) } else { 1 };
                let share = k.div_ceil(splits).next_multiple_of(16).max(16);
                let splits = k.div_ceil(share).max(1);
                if worker.shared.software && share > SOFTWARE_INNER {
                    return Err(Refusal::Unsupported(format!("an inner dimension of {k} on a software adapter")));
                }
                let shape = [m, n, k, share, a.cells(), b.cells(), c.cells(), 0].map(|v| v as u32);
                let shape = worker.uniform(bytemuck::cast_slice(&shape));
                let mut parts = vec![(0, a.part()), (2, b.part()), (3, Part::whole(&shape))];
                parts.extend(bias.as_ref().map(|bias| (7, bias.part())));
                parts.extend(slope.as_ref().map(|(_, at)| (8, at.part())));
                let split = splits > 1;
                let product = Product::Dense {
                    a: *a_transposed,
                    b: *b_transposed,
                    activation: *activation,
                    bias: bias.is_some(),
                    add: *add && !split,
                    slope: slope.as_ref().map_or(Activation::Identity, |(function, _)| *function),
                    split,
                };
                let shader = Shader::Tile { product, cell: Cell::F32, size: size as u32 };
                if !split {
                    parts.push((4, c.part()));
                    return worker.dispatch(shader, &parts, [x, y, 1]);
                }
                let cells = m * c.cells();
                let sums = worker.scratch((16 * splits * cells) as u64);
                parts.push((4, Part::first(&sums, (16 * splits * cells) as u64)));
                worker.dispatch(shader, &parts, [x, y, splits as u32])?;
                let numbers = [cells as u32, splits as u32, u32::from(*add)];
                let parts = [(0, Part::first(&sums, (16 * splits * cells) as u64)), (4, c.part())];
                net(worker, NetStep::Reduce, numbers, [0.0; 8], parts.to_vec())?;
                worker.give(sums);
                Ok(())
            }
            Self::Combine { a, alpha, b, beta, c } => entries(worker, MapStep::Combine, a, b, c, [*alpha, *beta]),
            Self::Backward { gradient, output, activation, c } => {
                entries(worker, MapStep::Backward(*activation), gradient, output, c, [1.0, 1.0])
            }
            Self::SumRows { a, c, add } => {
                if (c.rows, c.columns) != (1, a.columns) || c.is(a) {
                    return Err(Refusal::Failed("the sum of rows does not fit its result".into()));
                }
                let numbers = [0, a.rows as u32, a.cells() as u32, u32::from(*add), 0, 0, 0, 0];
                let constants = worker.uniform(bytemuck::cast_slice(&numbers));
                let parts = [(0, a.part()), (3, Part::whole(&constants)), (4, c.part())];
                worker.dispatch(Shader::Map(MapStep::SumRows), &parts, [a.cells() as u32, 1, 1])
            }
        }
    }
}

fn entries(
    worker: &mut Worker,
    step: MapStep,
    a: &Matrix,
    b: &Matrix,
    c: &Matrix,
    factors: [f32; 2],
) -> Result<(), Refusal> {
    let shape = |m: &Matrix| (m.rows, m.columns);
    if shape(a) != shape(b) || shape(a) != shape(c) || c.is(a) || c.is(b) {
        return Err(Refusal::Failed("entries of matrices of different shapes, or a result in an operand".into()));
    }
    let cells = (a.rows * a.cells()) as u32;
    let numbers = [cells, 0, 0, 0, factors[0].to_bits(), factors[1].to_bits(), 0, 0];
    let constants = worker.uniform(bytemuck::cast_slice(&numbers));
    let parts = [(0, a.part()), (2, b.part()), (3, Part::whole(&constants)), (4, c.part())];
    worker.dispatch(Shader::Map(step), &parts, [cells.div_ceil(256).clamp(1, 16_384), 1, 1])
}

/// In how many parts a product over `k` is computed whose result has few tiles: enough to keep a device busy, and few
/// enough that their sums, of `bytes` each, do not take much. Parts also keep the sums of single precision short.
fn splits(tiles: usize, k: usize, bytes: usize) -> usize {
    if k <= SHORT_SUM {
        return 1;
    }
    let busy = (BUSY_TILES / tiles.max(1)).clamp(1, k.div_ceil(SHORT_SUM));
    busy.max(k.div_ceil(LONG_SUM)).min((SPLIT_BYTES / bytes.max(1)).max(1))
}

/// One of the kernels of networks over the entries of a matrix: `integers` are n and m, `numbers` f and g.
pub(super) fn net(
    worker: &mut Worker,
    step: NetStep,
    integers: impl AsRef<[u32]>,
    numbers: [f32; 8],
    parts: Vec<(u32, Part)>,
) -> Result<(), Refusal> {
    let groups = integers.as_ref().first().map_or(1, |cells| cells.div_ceil(256).clamp(1, 16_384));
    net_in(worker, step, integers, numbers, parts, groups)
}

/// The same in so many groups.
pub(super) fn net_in(
    worker: &mut Worker,
    step: NetStep,
    integers: impl AsRef<[u32]>,
    numbers: [f32; 8],
    mut parts: Vec<(u32, Part)>,
    groups: u32,
) -> Result<(), Refusal> {
    let mut constants = [0u32; 16];
    constants.iter_mut().zip(integers.as_ref()).for_each(|(to, from)| *to = *from);
    constants[8..].iter_mut().zip(numbers).for_each(|(to, from)| *to = from.to_bits());
    let uniform = worker.uniform(bytemuck::cast_slice(&constants));
    parts.push((3, Part::whole(&uniform)));
    worker.dispatch(Shader::Net(step), &parts, [groups, 1, 1])
}

/// Rows in whole cells.
pub(super) fn padded(rows: usize, columns: usize, values: &[f32]) -> Vec<f32> {
    let stride = columns.next_multiple_of(4);
    let mut out = vec![0f32; rows * stride];
    if columns > 0 {
        for (to, from) in out.chunks_exact_mut(stride).zip(values.chunks_exact(columns)) {
            to[..columns].copy_from_slice(from);
        }
    }
    out
}

impl Gpu {
    /// A matrix with these values, row by row; zero where there are fewer.
    ///
    /// # Errors
    /// When the device refuses it.
    pub async fn matrix(&self, rows: usize, columns: usize, values: &[f32]) -> Result<Matrix, Refusal> {
        let values = padded(rows, columns, values);
        self.run(move |worker| {
            let bytes = (4 * values.len()) as u64;
            let limit = worker.device.limits().max_storage_buffer_binding_size;
            if bytes > limit {
                return Err(Refusal::Unsupported(format!("a matrix of {bytes} bytes, the device binds {limit}")));
            }
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            let buffer = worker.buffer(bytes, usage);
            worker.write(&buffer, 0, bytemuck::cast_slice(&values));
            Ok(Matrix { rows, columns, buffer })
        })
        .await
    }

    /// Puts other values into a matrix, in the order of the calls.
    ///
    /// # Errors
    /// When the device refuses it.
    pub async fn set(&self, matrix: &Matrix, values: &[f32]) -> Result<(), Refusal> {
        let (values, matrix) = (padded(matrix.rows, matrix.columns, values), matrix.clone());
        self.run(move |worker| {
            worker.write(&matrix.buffer, 0, bytemuck::cast_slice(&values));
            Ok(())
        })
        .await
    }

    /// Runs steps one after the other, in one submission; it does not wait for them.
    ///
    /// # Errors
    /// When shapes do not fit, or the device refuses it.
    pub async fn steps(&self, steps: Vec<Step>) -> Result<(), Refusal> {
        self.run(move |worker| {
            for step in &steps {
                step.dispatch(worker)?;
            }
            worker.submit();
            Ok(())
        })
        .await
    }

    /// Waits until everything that was submitted has run.
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn finish(&self) -> Result<(), Refusal> {
        self.run(|worker| {
            let last = worker.submit();
            worker.wait(last)
        })
        .await
    }

    /// Bytes a second that the device reads and writes when it copies `bytes` from one buffer to another, the best
    /// of `times`.
    ///
    /// # Errors
    /// When the device refuses buffers of that size.
    pub async fn copy_rate(&self, bytes: u64, times: usize) -> Result<f64, Refusal> {
        self.run(move |worker| {
            let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            let (from, to) = (worker.buffer(bytes, usage), worker.buffer(bytes, usage));
            let mut best = 0f64;
            for _ in 0..=times {
                let mut encoder = worker.device.create_command_encoder(&Default::default());
                encoder.copy_buffer_to_buffer(&from, 0, &to, 0, from.size());
                let since = std::time::Instant::now();
                let index = worker.queue.submit([encoder.finish()]);
                worker.wait(index)?;
                best = best.max(2.0 * from.size() as f64 / since.elapsed().as_secs_f64());
            }
            Ok(best)
        })
        .await
    }

    /// The values of a matrix, row by row, once all steps before have run.
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn values(&self, matrix: &Matrix) -> Result<Vec<f32>, Refusal> {
        let matrix = matrix.clone();
        self.run(move |worker| {
            let stride = 4 * matrix.cells();
            let bytes = worker.read(&[(matrix.buffer.clone(), (4 * matrix.rows * stride) as u64)])?;
            let words = bytes.iter().flat_map(|bytes| bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)));
            let all: Vec<f32> = words.collect();
            Ok(all.chunks_exact(stride.max(1)).flat_map(|row| row[..matrix.columns].to_vec()).collect())
        })
        .await
    }
}
