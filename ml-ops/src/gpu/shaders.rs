//! The text of every shader: templates with `@X@` filled in, and the list of all that can be asked for.

mod network;

use std::fmt::Write;

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

fn weighing(rows: RowColumns) -> String {
    let binding = |there: bool, text: &'static str| if there { text } else { "" };
    let mut body = String::new();
    if rows.role {
        body.push_str(
            "train = has_role(p.train_low, p.train_high, roles[r]); held = has_role(p.eval_low, p.eval_high, roles[r]); ",
        );
    }
    if rows.sample {
        body.push_str("train *= in_sample(hashes[r]); ");
    }
    if rows.weight {
        body.push_str("weight = weights[r];");
    }
    [include_str!("shaders/mix.wgsl"), include_str!("shaders/weigh.wgsl")]
        .concat()
        .replacen("@WEIGHT@", binding(rows.weight, "@group(0) @binding(5) var<storage, read> weights: array<f32>;"), 1)
        .replace("@ROLE@", binding(rows.role, "@group(0) @binding(6) var<storage, read> roles: array<u32>;"))
        .replace("@HASH@", binding(rows.sample, "@group(0) @binding(7) var<storage, read> hashes: array<u32>;"))
        .replace("@WEIGH@", &body)
}

fn glm(loss: Loss, lanes: u32, cells: u32, codes: u32, cell: Cell, rows: RowColumns) -> String {
    let v = cells.div_ceil(lanes).max(1);
    let u = if v <= 2 { 2 } else { 1 };
    let (kind, unpack) = cell.wgsl();
    let mut shuffle = String::new();
    let mut mask = lanes / 2;
    while mask > 0 {
        let _ = write!(shuffle, "m += subgroupShuffleXor(m, {mask}u); ");
        mask /= 2;
    }
    let loss = match loss {
        Loss::Squared => "let slope = m - target_value; let value = 0.5 * slope * slope;",
        Loss::Logistic => {
            "let e = exp_below(-abs(m)); \
             let above = 1.0 / (1.0 + e); \
             let below = e * above; \
             let slope = (1.0 - target_value) * select(below, above, m >= 0.0) \
                 - target_value * select(above, below, m >= 0.0); \
             let value = ln_one_plus(e) + (max(m, 0.0) - target_value * m);"
        }
    };
    let (mut bindings, mut gather, mut residual) = (String::new(), String::new(), "");
    if codes > 0 {
        bindings.push_str(
            "\n@group(0) @binding(8) var<storage, read> codes: array<u32>;\n\
             @group(0) @binding(9) var<storage, read> gathered: array<f32>;\n\
             @group(0) @binding(10) var<storage, read> spans: array<vec2<u32>>;\n\
             @group(0) @binding(11) var<storage, read_write> residual: array<f32>;\n",
        );
        let _ = write!(
            gather,
            "if (r < end) {{ for (var c = lane; c < {codes}u; c += L) {{ let code = codes[r * {codes}u + c]; \
             if (code < spans[c].y) {{ m += gathered[spans[c].x + code]; }} }} }}"
        );
        residual = "if (r < end) { residual[r] = g; }";
    }
    let head = [include_str!("shaders/numbers.wgsl"), &weighing(rows)].concat();
    head + &include_str!("shaders/glm.wgsl")
        .replace("@CELL@", kind)
        .replace("@UNPACK@", unpack)
        .replace("@CODES@", &bindings)
        .replace("@GATHER@", &gather)
        .replace("@RESIDUAL@", residual)
        .replace("@SHUFFLE@", &shuffle)
        .replace("@LOSS@", loss)
        .replace("@UV@", &(u * v).to_string())
        .replace("@NV@", &cells.to_string())
        .replace("@L@", &lanes.to_string())
        .replace("@V@", &v.to_string())
        .replace("@U@", &u.to_string())
}

fn row_step(step: RowStep, lanes: u32, rows: RowColumns) -> String {
    let weights = "@group(0) @binding(8) var<storage, read_write> h: array<f32>;\n";
    let (body, output) = match step {
        RowStep::Softmax => (include_str!("shaders/rows_softmax.wgsl"), String::new()),
        RowStep::Curvature => (include_str!("shaders/rows_curvature.wgsl"), weights.into()),
        RowStep::Weight => (include_str!("shaders/rows_weight.wgsl"), weights.into()),
        RowStep::Nearest => {
            let nearest = "@group(0) @binding(9) var<storage, read_write> nearest: array<u32>;\n";
            (include_str!("shaders/rows_nearest.wgsl"), [weights, nearest].concat())
        }
    };
    let head = [include_str!("shaders/numbers.wgsl"), &weighing(rows)].concat();
    head + &include_str!("shaders/rows.wgsl")
        .replace("@OUTPUT@", &output)
        .replace("@BODY@", body)
        .replace("@T@", &lanes.to_string())
}

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

/// A tiled product's operands: bindings and loads, whether each lies along the inner dimension, the operation,
/// what is left out, and whether long sums are carried in parts.
struct Operands {
    loads: String,
    a_inner: bool,
    b_inner: bool,
    squares: bool,
    skip: &'static str,
    parts: bool,
}

fn operands(product: Product, cell: Cell) -> Operands {
    let (kind, unpack) = cell.wgsl();
    let rows = format!(
        "@group(0) @binding(0) var<storage, read> x: array<{kind}>;\nfn cell(i: u32) -> vec4<f32> {{ {unpack} }}\n"
    );
    let out = "@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;\n";
    let second = "@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;\n";
    let extra = "@group(0) @binding(7) var<storage, read> extra: array<vec4<f32>>;\n";
    let load_w = "fn load_b(j: u32, c: u32) -> vec4<f32> { var v = vec4<f32>(0.0); if (j < d.n && c < d.b) { v = w[j * d.b + c]; } return v; }\n";
    let store = |value: &str| {
        format!(
            "fn store(split: u32, row: u32, c: u32, v: vec4<f32>) {{ if (row < d.m && c < d.c) {{ out[(split * d.m + row) * d.c + c] = {value}; }} }}\n"
        )
    };
    let z = |label: &str| {
        format!(
            "fn z(r: u32, c: u32) -> vec4<f32> {{ var v = vec4<f32>(0.0); if (r < d.k) {{ if (c < d.b) {{ v = cell(r * d.b + c); }} \
             let i = vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u); v = select(v, vec4<f32>(1.0), i == vec4<u32>(d.flags)); {label} }} return v; }}\n\
             fn load_b(r: u32, c: u32) -> vec4<f32> {{ return z(r, c); }}\n"
        )
    };
    let weights = "@group(0) @binding(5) var<storage, read> h: array<f32>;\n";
    match product {
        Product::Margins => Operands {
            loads: rows
                + out
                + second
                + extra
                + "fn load_a(i: u32, c: u32) -> vec4<f32> { var v = vec4<f32>(0.0); if (i < d.m && c < d.a) { v = cell(i * d.a + c); } return v; }\n"
                + load_w
                + &store("v + extra[c]"),
            a_inner: true,
            b_inner: true,
            squares: false,
            skip: "",
            parts: false,
        },
        Product::Distances => Operands {
            loads: rows
                + out
                + second
                + extra
                + "fn load_a(i: u32, c: u32) -> vec4<f32> { var v = vec4<f32>(0.0); if (i < d.m && c < d.a) { v = cell(i * d.a + c) * extra[c]; } return v; }\n"
                + load_w
                + &store("v"),
            a_inner: true,
            b_inner: true,
            squares: true,
            skip: "",
            parts: false,
        },
        Product::Residuals => Operands {
            loads: rows
                + out
                + second
                + "fn load_a(r: u32, c: u32) -> vec4<f32> { var v = vec4<f32>(0.0); if (r < d.k && c < d.a) { v = w[r * d.a + c]; } return v; }\n"
                + &z("")
                + &store("v"),
            a_inner: false,
            b_inner: false,
            squares: false,
            skip: "",
            parts: true,
        },
        Product::Cross { label } => {
            let (binding, column) = if label {
                (
                    "@group(0) @binding(1) var<storage, read> y: array<f32>;\n",
                    "v = select(v, vec4<f32>(select(0.0, y[r], h[r] != 0.0)), i == vec4<u32>(d.flags + 1u));",
                )
            } else {
                ("", "")
            };
            Operands {
                loads: rows
                    + out
                    + weights
                    + binding
                    + &z(column)
                    + "fn load_a(r: u32, c: u32) -> vec4<f32> { var v = vec4<f32>(0.0); if (r < d.k) { v = h[r] * z(r, c); } return v; }\n"
                    + &store("v"),
                a_inner: false,
                b_inner: false,
                squares: false,
                skip: "if (wid.y > wid.x) { return; }",
                parts: true,
            }
        }
        Product::Clusters => Operands {
            loads: rows
                + out
                + weights
                + "@group(0) @binding(6) var<storage, read> nearest: array<u32>;\n"
                + "fn load_a(r: u32, c: u32) -> vec4<f32> { var v = vec4<f32>(0.0); if (r < d.k) { \
                   let i = vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u); v = select(v, vec4<f32>(h[r]), i == vec4<u32>(nearest[r])); } return v; }\n"
                + &z("")
                + &store("v"),
            a_inner: false,
            b_inner: false,
            squares: false,
            skip: "",
            parts: true,
        },
        Product::Dense { a, b, activation, bias, add, slope, split } => {
            // Rows of a matrix are d.a (d.b, d.c) cells long; cells beyond the last column hold zero.
            let first = "@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;\n";
            let load = |name: &str, buffer: &str, rows: &str, stride: &str| {
                format!(
                    "fn {name}(r: u32, c: u32) -> vec4<f32> {{ var v = vec4<f32>(0.0); \
                     if (r < {rows} && c < {stride}) {{ v = {buffer}[r * {stride} + c]; }} return v; }}\n"
                )
            };
            let mut loads =
                [include_str!("shaders/numbers.wgsl"), include_str!("shaders/activations.wgsl"), first, second, out]
                    .concat();
            loads += &load("load_a", "x", if a { "d.k" } else { "d.m" }, "d.a");
            loads += &load("load_b", "w", if b { "d.n" } else { "d.k" }, "d.b");
            if bias {
                loads += extra;
            }
            let mut times = String::new();
            if slope != Activation::Identity {
                loads += "@group(0) @binding(8) var<storage, read> before: array<vec4<f32>>;\n";
                times = format!("let o = before[at]; v = {}; ", sloped(slope));
            }
            let _ = writeln!(
                loads,
                "fn store(split: u32, row: u32, c: u32, sum: vec4<f32>) {{ if (row < d.m && c < d.c) {{ let at = {} * d.c + c; \
                 var v = sum; {}{}{}let i = vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u); \
                 out[at] = select(vec4<f32>(0.0), {}, i < vec4<u32>(d.n)); }} }}",
                if split { "(split * d.m + row)" } else { "row" },
                if add { "v += out[at]; " } else { "" },
                if bias { "v += extra[c]; " } else { "" },
                times,
                activated(activation)
            );
            Operands { loads, a_inner: !a, b_inner: b, squares: false, skip: "", parts: false }
        }
    }
}

fn tile(product: Product, cell: Cell, size: u32) -> String {
    let Operands { loads, a_inner, b_inner, squares, skip, parts } = operands(product, cell);
    let fetch = |name: &str, inner: bool| {
        if inner {
            let mut text = format!("let v{name} = load_{name}({name}0 + q / 4u, kb / 4u + q % 4u); ");
            for (e, part) in ["x", "y", "z", "w"].iter().enumerate() {
                let _ = write!(
                    text,
                    "s{name}[((q % 4u) * 4u + {e}u) * (16u * H) + q / 16u][(q / 4u) % 4u] = v{name}.{part}; "
                );
            }
            text
        } else {
            format!("s{name}[q] = load_{name}(kb + q / (16u * H), {name}0 / 4u + q % (16u * H));")
        }
    };
    let h = size;
    let places = || (0..h).flat_map(move |r| (0..4).flat_map(move |i| (0..h).map(move |g| (r, i, g))));
    let (mut sums, mut products, mut flush, mut stores) = (String::new(), String::new(), String::new(), String::new());
    for (r, i, g) in places() {
        let _ = write!(sums, "var c{r}{i}{g} = vec4<f32>(0.0); ");
        if parts {
            let _ = write!(sums, "var t{r}{i}{g} = vec4<f32>(0.0); ");
            let _ = write!(flush, "t{r}{i}{g} += c{r}{i}{g}; c{r}{i}{g} = vec4<f32>(0.0); ");
        }
    }
    for r in 0..h {
        let _ = write!(products, "let a{r} = sa[k * (16u * H) + {}u + ty]; ", 16 * r);
        let _ = write!(products, "let b{r} = sb[k * (16u * H) + {}u + tx]; ", 16 * r);
    }
    for (r, i, g) in places() {
        let part = ["x", "y", "z", "w"][i as usize];
        if squares {
            let _ = write!(products, "let d{r}{i}{g} = vec4<f32>(a{r}.{part}) - b{g}; ");
            let _ = writeln!(products, "c{r}{i}{g} = fma(d{r}{i}{g}, d{r}{i}{g}, c{r}{i}{g});");
        } else {
            let _ = writeln!(products, "c{r}{i}{g} = fma(vec4<f32>(a{r}.{part}), b{g}, c{r}{i}{g});");
        }
        let sum = if parts { format!("t{r}{i}{g} + c{r}{i}{g}") } else { format!("c{r}{i}{g}") };
        let _ = writeln!(
            stores,
            "store(wid.z, m0 + {}u + ty * 4u + {i}u, wid.x * (16u * H) + {}u + tx, {sum});",
            64 * r,
            16 * g
        );
    }
    // A sum of many terms is made of sums of 256, so that its error does not grow with their number.
    let flush = if parts { format!("if (((kb - k0) & 255u) == 240u) {{ {flush} }}") } else { String::new() };
    include_str!("shaders/tile.wgsl")
        .replace("@LOADS@", &loads)
        .replace("@SKIP@", skip)
        .replace("@SUMS@", &sums)
        .replace("@FETCH_A@", &fetch("a", a_inner).replace("a0", "m0"))
        .replace("@FETCH_B@", &fetch("b", b_inner).replace("b0", "n0"))
        .replace("@PRODUCTS@", &products)
        .replace("@FLUSH@", &flush)
        .replace("@STORES@", &stores)
        .replace("@CELLS@", &(256 * h).to_string())
        .replace("@H@", &h.to_string())
}

fn map(step: MapStep) -> String {
    let head = "struct Map { cells: u32, rows: u32, stride: u32, pad: u32, alpha: f32, beta: f32, pad2: f32, pad3: f32 }\n\
        @group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;\n\
        @group(0) @binding(3) var<uniform> p: Map;\n\
        @group(0) @binding(4) var<storage, read_write> c: array<vec4<f32>>;\n";
    let second = "@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;\n";
    let entry = "@compute @workgroup_size(256)\nfn main(@builtin(workgroup_id) wid: vec3<u32>, \
        @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {\n";
    let each = "for (var i = wid.x * 256u + lid; i < p.cells; i += groups.x * 256u)";
    match step {
        MapStep::Combine => {
            format!("{head}{second}{entry}{each} {{ c[i] = p.alpha * a[i] + p.beta * b[i]; }}\n}}\n")
        }
        MapStep::Backward(activation) => {
            let (numbers, all) = (include_str!("shaders/numbers.wgsl"), include_str!("shaders/activations.wgsl"));
            // Identity reads the output as well, so that all have the same bindings.
            let body = format!("let v = a[i]; let o = b[i]; c[i] = {};", sloped(activation));
            format!("{numbers}{all}{head}{second}{entry}{each} {{ {body} }}\n}}\n")
        }
        MapStep::SumRows => format!(
            "{head}var<workgroup> red: array<vec4<f32>, 256>;\n{entry}var sum = vec4<f32>(0.0);\n\
             for (var r = lid; r < p.rows; r += 256u) {{ sum += a[r * p.stride + wid.x]; }}\n\
             red[lid] = sum; workgroupBarrier();\n\
             for (var s = 128u; s > 0u; s >>= 1u) {{ if (lid < s) {{ red[lid] += red[lid + s]; }} workgroupBarrier(); }}\n\
             if (lid == 0u) {{ var v = red[0]; if (p.pad != 0u) {{ v += c[wid.x]; }} c[wid.x] = v; }}\n}}\n"
        ),
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
            Self::Glm { loss, lanes, cells, codes, cell, rows } => glm(loss, lanes, cells, codes, cell, rows),
            Self::Scatter => include_str!("shaders/scatter.wgsl").into(),
            Self::Rows { step, lanes, rows } => row_step(step, lanes, rows),
            Self::Tile { product, cell, size } => tile(product, cell, size),
            Self::Map(step) => map(step),
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
