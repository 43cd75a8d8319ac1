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

use super::shaders::{Activation, Cell, MapStep, Product, Shader};
use super::worker::{Part, Worker};
use super::{Gpu, Refusal};

/// The inner dimension that one invocation of software adapters may run over.
const SOFTWARE_INNER: usize = 50_000;

/// A matrix in device memory, `[rows, columns]`; a copy is the same matrix.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    buffer: Buffer,
}

impl Matrix {
    /// Cells of four numbers in a row.
    fn cells(&self) -> usize {
        self.columns.div_ceil(4)
    }

    fn part(&self) -> Part {
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
    /// `c = gradient times the derivative of an activation`, entry by entry; the derivative follows from its output.
    Backward {
        /// The gradient of what follows.
        gradient: Matrix,
        /// What the activation gave.
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

    /// The product added to what is there.
    pub fn added(mut self) -> Self {
        if let Self::Product { add, .. } = &mut self {
            *add = true;
        }
        self
    }

    fn dispatch(&self, worker: &mut Worker) -> Result<(), Refusal> {
        match self {
            Self::Product { a, a_transposed, b, b_transposed, c, bias, activation, add } => {
                let turned = |m: &Matrix, turn: bool| if turn { (m.columns, m.rows) } else { (m.rows, m.columns) };
                let ((m, k), (inner, n)) = (turned(a, *a_transposed), turned(b, *b_transposed));
                let fits = k == inner && (c.rows, c.columns) == (m, n);
                if !fits || bias.as_ref().is_some_and(|bias| bias.columns != n) {
                    let shapes = format!("[{m}, {k}] times [{inner}, {n}] into [{}, {}]", c.rows, c.columns);
                    return Err(Refusal::Failed(format!("a product of {shapes} is none")));
                }
                if c.is(a) || c.is(b) {
                    return Err(Refusal::Failed("the result of a product lies in an operand".into()));
                }
                if worker.shared.software && k > SOFTWARE_INNER {
                    return Err(Refusal::Unsupported(format!("an inner dimension of {k} on a software adapter")));
                }
                let size = if m > 64 && n > 64 { 2 } else { 1 };
                let [x, y] = [n, m].map(|v| v.div_ceil(64 * size) as u32);
                if y > 65_535 || x > 65_535 {
                    return Err(Refusal::Unsupported(format!("a result of {m} x {n} entries in one product")));
                }
                let shape = [m, n, k, k.next_multiple_of(16).max(16), a.cells(), b.cells(), c.cells(), 0];
                let shape = shape.map(|v| v as u32);
                let shape = worker.constants(bytemuck::cast_slice(&shape), BufferUsages::UNIFORM);
                let mut parts = vec![(0, a.part()), (2, b.part()), (3, Part::whole(&shape)), (4, c.part())];
                parts.extend(bias.as_ref().map(|bias| (7, bias.part())));
                let bias = bias.is_some();
                let (a, b, activation, add) = (*a_transposed, *b_transposed, *activation, *add);
                let product = Product::Dense { a, b, activation, bias, add };
                worker.dispatch(Shader::Tile { product, cell: Cell::F32, size: size as u32 }, &parts, [x, y, 1])
            }
            Self::Combine { a, alpha, b, beta, c } => entries(worker, MapStep::Combine, a, b, c, [*alpha, *beta]),
            Self::Backward { gradient, output, activation, c } => {
                entries(worker, MapStep::Backward(*activation), gradient, output, c, [1.0, 1.0])
            }
            Self::SumRows { a, c } => {
                if (c.rows, c.columns) != (1, a.columns) || c.is(a) {
                    return Err(Refusal::Failed("the sum of rows does not fit its result".into()));
                }
                let numbers = [0, a.rows as u32, a.cells() as u32, 0, 0, 0, 0, 0];
                let constants = worker.constants(bytemuck::cast_slice(&numbers), BufferUsages::UNIFORM);
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
    let constants = worker.constants(bytemuck::cast_slice(&numbers), BufferUsages::UNIFORM);
    let parts = [(0, a.part()), (2, b.part()), (3, Part::whole(&constants)), (4, c.part())];
    worker.dispatch(Shader::Map(step), &parts, [cells.div_ceil(256).clamp(1, 16_384), 1, 1])
}

/// Rows in whole cells.
fn padded(rows: usize, columns: usize, values: &[f32]) -> Vec<f32> {
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
