//! The text of every shader: templates with `@X@` filled in, and the list of all that can be asked for.

mod map;
mod network;
mod rows;
mod tile;

pub use network::{NetStep, Stepping};

use crate::fold::Loss;

/// How a number lies in device memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cell {
    /// Single precision.
    #[default]
    F32,
    /// Half precision: 11 digits of binary, magnitudes to 65,504.
    F16,
    /// The upper half of single precision: 8 digits of binary.
    Bf16,
}

impl Cell {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// The name of the option's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The type of four numbers, and how they become a `vec4<f32>`.
    fn wgsl(self) -> (&'static str, &'static str) {
        match self {
            Self::F32 => ("vec4<f32>", "return x[i];"),
            Self::F16 => ("vec2<u32>", "let q = x[i]; return vec4<f32>(unpack2x16float(q.x), unpack2x16float(q.y));"),
            Self::Bf16 => (
                "vec2<u32>",
                "let q = x[i]; return bitcast<vec4<f32>>(vec4<u32>(q.x << 16u, q.x & 0xffff0000u, q.y << 16u, q.y & 0xffff0000u));",
            ),
        }
    }
}

/// Which columns beside the features decide what a row counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RowColumns {
    /// There is a weight.
    pub weight: bool,
    /// There is a role.
    pub role: bool,
    /// Only a sample counts, chosen by hash.
    pub sample: bool,
}

/// What happens to a row between two products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowStep {
    /// Margins become residuals of softmax.
    Softmax,
    /// A margin becomes the weight of its row in the cross products.
    Curvature,
    /// The weight of a row in the cross products is its own.
    Weight,
    /// Distances become the index of the nearest centre.
    Nearest,
}

/// What a function of a network's layer is applied to its output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The value itself.
    #[default]
    Identity,
    /// `max(v, 0)`.
    Relu,
    /// `1 / (1 + e^-v)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// The value times the normal distribution function of it.
    Gelu,
}

/// Which two operands a tiled product has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Product {
    /// Rows times coefficients, plus intercepts: `[rows, K]`.
    Margins,
    /// Squared distances of rows to centres: `[rows, K]`.
    Distances,
    /// Residuals times rows: `[splits, K, P + 1]`.
    Residuals,
    /// Cross products of rows, with the label if it takes part: `[splits, n, n]`, the upper triangle.
    Cross {
        /// Whether the label is one more column.
        label: bool,
    },
    /// Sums of rows around centres: `[splits, K, P + 1]`.
    Clusters,
    /// A product of two matrices of a network.
    Dense {
        /// Whether the first operand is transposed.
        a: bool,
        /// Whether the second operand is transposed.
        b: bool,
        /// What is applied to the result.
        activation: Activation,
        /// Whether a row is added to every row of the result.
        bias: bool,
        /// Whether the result is added to what is there.
        add: bool,
        /// The activation by whose derivative the result is multiplied, at an output of it (of gelu, at an input);
        /// none for the identity.
        slope: Activation,
        /// Whether every part of the inner dimension has a result of its own.
        split: bool,
    },
}

/// One shader, as text and as the key of its pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shader {
    /// A loss of one margin and its gradient.
    Glm {
        /// The loss.
        loss: Loss,
        /// Lanes of a row, a power of two.
        lanes: u32,
        /// Cells of four numbers in a row.
        cells: u32,
        /// Wide categories in a row.
        codes: u32,
        /// Storage.
        cell: Cell,
        /// What a row counts for.
        rows: RowColumns,
    },
    /// Sums of residuals by category.
    Scatter,
    /// A step between two products.
    Rows {
        /// Which.
        step: RowStep,
        /// Lanes of a row, a power of two up to 256.
        lanes: u32,
        /// What a row counts for.
        rows: RowColumns,
    },
    /// A tiled product.
    Tile {
        /// Which.
        product: Product,
        /// Storage of the rows.
        cell: Cell,
        /// 1: tiles of 64, 2: tiles of 128.
        size: u32,
    },
    /// One matrix of a network from others, entry by entry.
    Map(MapStep),
    /// What else a network needs.
    Net(NetStep),
    /// A loop that some drivers cut short, for the test of a device.
    Loop,
}

/// A step over the entries of matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapStep {
    /// `c = alpha a + beta b`.
    Combine,
    /// `c = a times the derivative of an activation at its output b`, of gelu at its input b.
    Backward(Activation),
    /// `c[0, j] = sum over rows of a`, or the same added to `c`.
    SumRows,
}

/// Cells of a row that each lane keeps in registers, at most.
pub const MOST_CELLS: u32 = 8;

/// The text of an activation of `v`.
fn activated(activation: Activation) -> &'static str {
    match activation {
        Activation::Identity => "v",
        Activation::Relu => "max(v, vec4<f32>(0.0))",
        Activation::Sigmoid => "sigmoid4(v)",
        Activation::Tanh => "tanh4(v)",
        Activation::Gelu => "gelu4(v)",
    }
}

/// The text of `v` times the derivative of an activation whose output (of gelu, whose input) is `o`.
fn sloped(activation: Activation) -> &'static str {
    match activation {
        Activation::Identity => "v + 0.0 * o",
        Activation::Relu => "select(vec4<f32>(0.0), v, o > vec4<f32>(0.0))",
        Activation::Sigmoid => "v * (o * (1.0 - o))",
        Activation::Tanh => "v * (1.0 - o * o)",
        Activation::Gelu => "v * gelu_slope4(o)",
    }
}

/// Counts iterations, and shuffles lanes where the device can.
const LOOP: &str = "@group(0) @binding(3) var<uniform> p: vec4<u32>;\n\
    @group(0) @binding(4) var<storage, read_write> part: array<u32>;\n\
    @compute @workgroup_size(64)\nfn main(@builtin(local_invocation_index) lid: u32) {\n\
    var n = 0u; for (var i = 0u; i < p.x; i++) { n += (i ^ p.y) & 1u; } part[lid] = n; }\n";

impl Shader {
    /// The shader as WGSL; its entry point is `main`.
    pub fn source(&self) -> String {
        match *self {
            Self::Glm { loss, lanes, cells, codes, cell, rows } => rows::glm(loss, lanes, cells, codes, cell, rows),
            Self::Scatter => include_str!("shaders/scatter.wgsl").into(),
            Self::Rows { step, lanes, rows } => rows::row_step(step, lanes, rows),
            Self::Tile { product, cell, size } => tile::tile(product, cell, size),
            Self::Map(step) => map::map(step),
            Self::Net(step) => step.source(),
            Self::Loop => LOOP.into(),
        }
    }

    /// Bytes of workgroup memory, which no driver checks for us.
    pub fn workgroup_bytes(&self) -> u32 {
        match self {
            Self::Glm { .. } => 4096,
            Self::Scatter => 24_576,
            Self::Rows { .. } => 6144,
            Self::Tile { size, .. } => 8192 * size,
            Self::Map(_) => 4096,
            Self::Net(step) => step.workgroup_bytes(),
            Self::Loop => 0,
        }
    }

    /// One of every kind with every choice that changes its text in a way of its own.
    pub fn all() -> Vec<Shader> {
        let mut all = vec![Shader::Scatter, Shader::Loop];
        let flags = [false, true];
        let mut rows = Vec::new();
        for weight in flags {
            for role in flags {
                rows.extend(flags.map(|sample| RowColumns { weight, role, sample }));
            }
        }
        let cells = [Cell::F32, Cell::F16, Cell::Bf16];
        for loss in [Loss::Squared, Loss::Logistic] {
            for cell in cells {
                for codes in [0, 1, 3] {
                    for (lanes, cells) in [(1, 0), (1, 1), (1, 7), (4, 3), (8, 8), (8, 33), (32, 256)] {
                        let some = if lanes == 4 { &rows[..] } else { &rows[7..] };
                        all.extend(some.iter().map(|&rows| Shader::Glm { loss, lanes, cells, codes, cell, rows }));
                    }
                }
            }
        }
        for step in [RowStep::Softmax, RowStep::Curvature, RowStep::Weight, RowStep::Nearest] {
            for lanes in [1, 4, 256] {
                all.extend(rows.iter().map(|&rows| Shader::Rows { step, lanes, rows }));
            }
        }
        for size in [1, 2] {
            for cell in cells {
                let cross = flags.map(|label| Product::Cross { label });
                let others = [Product::Margins, Product::Distances, Product::Residuals, Product::Clusters];
                all.extend(others.into_iter().chain(cross).map(|product| Shader::Tile { product, cell, size }));
            }
            for activation in ACTIVATIONS {
                for bits in 0..16u32 {
                    let on = |i: u32| bits >> i & 1 == 1;
                    let (slope, split) = (Activation::Identity, false);
                    let product =
                        Product::Dense { a: on(0), b: on(1), activation, bias: on(2), add: on(3), slope, split };
                    all.push(Shader::Tile { product, cell: Cell::F32, size });
                }
                let (slope, none) = (activation, Activation::Identity);
                let of = |a, slope, split| Product::Dense {
                    a,
                    b: !a,
                    activation: none,
                    bias: false,
                    add: false,
                    slope,
                    split,
                };
                let products = [of(false, slope, false), of(true, none, true)];
                all.extend(products.map(|product| Shader::Tile { product, cell: Cell::F32, size }));
            }
        }
        all.extend([MapStep::Combine, MapStep::SumRows].map(Shader::Map));
        all.extend(ACTIVATIONS.map(|activation| Shader::Map(MapStep::Backward(activation))));
        all.extend(NetStep::all().into_iter().map(Shader::Net));
        all
    }
}

/// Every activation.
pub const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Relu, Activation::Sigmoid, Activation::Tanh, Activation::Gelu];

/// How a shader uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It reads it.
    Read,
    /// It writes it.
    Write,
    /// Small constants.
    Constants,
}

/// The bindings of a shader, as its text declares them.
pub fn bindings(source: &str) -> Vec<(u32, Use)> {
    let mut found = Vec::new();
    for declaration in source.split("@binding(").skip(1) {
        let Some((number, rest)) = declaration.split_once(')') else { continue };
        let Ok(number) = number.parse() else { continue };
        let usage = if rest.starts_with(" var<uniform>") {
            Use::Constants
        } else if rest.starts_with(" var<storage, read_write>") {
            Use::Write
        } else {
            Use::Read
        };
        found.push((number, usage));
    }
    found
}
