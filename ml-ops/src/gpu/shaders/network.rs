//! The text of the kernels of networks beside products: each over the entries of a matrix, unless it says otherwise.

use super::{Activation, Cell};

/// One kernel. Constants are `n` and `m`, four integers each, and `f` and `g`, four numbers each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetStep {
    /// Copies those rows of a piece that a batch names, with label and weight.
    Pick {
        /// How the piece's numbers are stored.
        cell: Cell,
        /// Whether there are weights.
        weight: bool,
    },
    /// `z += the rows of a table that codes name`.
    Gather,
    /// Sums of rows that one category names, some at a time.
    Segments,
    /// Sums of those sums: the rows of a table.
    Categories,
    /// `c = f(a)`.
    Activate(Activation),
    /// `c = a mask`.
    Keep,
    /// `c = c mask f'`, from what follows from the activation's output, for gelu from its input.
    MaskedSlope(Activation),
    /// Outputs become the derivative of their loss.
    Loss {
        /// Softmax; else squared.
        softmax: bool,
        /// Whether there are weights.
        weight: bool,
        /// Lanes of a row, a power of two up to 256.
        lanes: u32,
    },
    /// `c += alpha a`.
    AddScaled,
    /// The largest magnitude.
    Largest,
    /// `c = sum of matrices`, or the same added to what is there.
    Reduce,
    /// A step of an optimizer.
    Step(Stepping),
}

/// How an optimizer steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stepping {
    /// Along the gradient.
    Plain,
    /// With momentum.
    Momentum,
    /// With Nesterov's form of it.
    Nesterov,
    /// By Adam.
    Adam,
}

const HEAD: &str = "struct P { n: vec4<u32>, m: vec4<u32>, f: vec4<f32>, g: vec4<f32> }
@group(0) @binding(3) var<uniform> p: P;
";
const ENTRY: &str = "@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
";

/// The kernel that does `body` for every `i` below `n.x`.
fn each(bindings: &str, body: &str) -> String {
    format!(
        "{HEAD}{bindings}{ENTRY}for (var i = wid.x * 256u + lid; i < p.n.x; i += groups.x * 256u) {{ {body} }}\n}}\n"
    )
}

fn read(binding: u32, name: &str) -> String {
    format!("@group(0) @binding({binding}) var<storage, read> {name}: array<vec4<f32>>;\n")
}

fn write(binding: u32, name: &str) -> String {
    format!("@group(0) @binding({binding}) var<storage, read_write> {name}: array<vec4<f32>>;\n")
}

fn integers(binding: u32, name: &str) -> String {
    format!("@group(0) @binding({binding}) var<storage, read> {name}: array<u32>;\n")
}

/// `n = (cells, cells of a row, columns)`, `m = (salt, limit)`, `f.x` what a unit that is kept is multiplied by.
const MASK: &str = "fn kept(at: u32) -> f32 { return select(p.f.x, 0.0, below(mixed(at, p.m.xy), p.m.zw)); }
fn mask(i: u32) -> vec4<f32> { let at = (i / p.n.y) * p.n.z + 4u * (i % p.n.y); \
return vec4<f32>(kept(at), kept(at + 1u), kept(at + 2u), kept(at + 3u)); }
";

impl NetStep {
    /// The shader as WGSL.
    pub(super) fn source(self) -> String {
        let (numbers, mix) = (include_str!("numbers.wgsl"), include_str!("mix.wgsl"));
        let activations = include_str!("activations.wgsl");
        match self {
            Self::Pick { cell, weight } => pick(cell, weight),
            // n = (cells of z, cells of a row, codes of a row, rows of the table)
            Self::Gather => each(
                &(read(0, "table") + &integers(1, "codes") + &write(4, "z")),
                "let r = i / p.n.y; let c = i % p.n.y; var v = z[i]; for (var j = 0u; j < p.n.z; j++) { \
                 let code = codes[r * p.n.z + j]; if (code < p.n.w) { v += table[code * p.n.y + c]; } } z[i] = v;",
            ),
            // n = (cells of the sums, cells of a row)
            Self::Segments => each(
                &(read(0, "delta") + &integers(1, "order") + &integers(2, "starts") + &write(4, "sums")),
                "let s = i / p.n.y; let c = i % p.n.y; var v = vec4<f32>(0.0); \
                 for (var e = starts[s]; e < starts[s + 1u]; e++) { v += delta[order[e] * p.n.y + c]; } sums[i] = v;",
            ),
            // n = (cells of the table, cells of a row, 1 to add)
            Self::Categories => each(
                &(read(0, "sums") + &integers(1, "firsts") + &write(4, "table")),
                "let t = i / p.n.y; let c = i % p.n.y; var v = vec4<f32>(0.0); if (p.n.z != 0u) { v = table[i]; } \
                 for (var s = firsts[t]; s < firsts[t + 1u]; s++) { v += sums[s * p.n.y + c]; } table[i] = v;",
            ),
            // n = (cells, cells of a row, columns); what is beyond the columns stays zero.
            Self::Activate(f) => each(
                &[numbers, activations, &read(0, "a"), &write(4, "c")].concat(),
                &format!(
                    "let v = a[i]; let k = vec4<u32>(4u * (i % p.n.y)) + vec4<u32>(0u, 1u, 2u, 3u); \
                     c[i] = select(vec4<f32>(0.0), {}, k < vec4<u32>(p.n.z));",
                    super::activated(f)
                ),
            ),
            Self::Keep => each(&[mix, &read(0, "a"), &write(4, "c"), MASK].concat(), "c[i] = a[i] * mask(i);"),
            Self::MaskedSlope(f) => each(
                &[numbers, activations, mix, &read(0, "b"), &write(4, "c"), MASK].concat(),
                &format!("let v = c[i] * mask(i); let o = b[i]; c[i] = {};", super::sloped(f)),
            ),
            Self::Loss { softmax, weight, lanes } => {
                let (weights, own) = match weight {
                    true => ("@group(0) @binding(5) var<storage, read> weights: array<f32>;", "weights[row]"),
                    false => ("", "1.0"),
                };
                let body = if softmax { include_str!("loss_softmax.wgsl") } else { include_str!("loss_squared.wgsl") };
                let text = include_str!("loss.wgsl").replace("@LANES@", include_str!("lanes.wgsl"));
                let text = text.replace("@WEIGHTS@", weights).replace("@WEIGHT@", own);
                [HEAD, numbers, &text.replace("@BODY@", body).replace("@T@", &lanes.to_string())].concat()
            }
            Self::AddScaled => each(&(read(0, "a") + &write(4, "c")), "c[i] = fma(vec4<f32>(p.f.x), a[i], c[i]);"),
            // n.x = cells, m.x = first slot; as integers, magnitudes keep their order and a NaN is the largest.
            Self::Largest => format!(
                "{HEAD}@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;\n\
                 @group(0) @binding(4) var<storage, read_write> slots: array<u32>;\n\
                 var<workgroup> red: array<u32, 256>;\n{ENTRY}var top = vec4<u32>(0u);\n\
                 for (var i = wid.x * 256u + lid; i < p.n.x; i += groups.x * 256u) {{ top = max(top, a[i] & vec4<u32>(0x7fffffffu)); }}\n\
                 red[lid] = max(max(top.x, top.y), max(top.z, top.w)); workgroupBarrier();\n\
                 for (var s = 128u; s > 0u; s >>= 1u) {{ if (lid < s) {{ red[lid] = max(red[lid], red[lid + s]); }} workgroupBarrier(); }}\n\
                 if (lid == 0u) {{ slots[p.m.x + wid.x] = red[0]; }}\n}}\n"
            ),
            // n = (cells, matrices, 1 to add)
            Self::Reduce => each(
                &(read(0, "a") + &write(4, "c")),
                "var v = vec4<f32>(0.0); if (p.n.z != 0u) { v = c[i]; } \
                 for (var s = 0u; s < p.n.y; s++) { v += a[s * p.n.x + i]; } c[i] = v;",
            ),
            Self::Step(stepping) => step(stepping),
        }
    }

    pub(super) fn workgroup_bytes(self) -> u32 {
        if matches!(self, Self::Loss { .. } | Self::Largest) { 1024 } else { 0 }
    }

    /// One of every kind.
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Gather, Self::Segments, Self::Categories, Self::Keep];
        all.extend([Self::AddScaled, Self::Largest, Self::Reduce]);
        all.extend(super::ACTIVATIONS.into_iter().flat_map(|f| [Self::Activate(f), Self::MaskedSlope(f)]));
        for weight in [false, true] {
            all.extend([Cell::F32, Cell::F16, Cell::Bf16].map(|cell| Self::Pick { cell, weight }));
            all.extend([1, 4, 256].map(|lanes| Self::Loss { softmax: true, weight, lanes }));
            all.push(Self::Loss { softmax: false, weight, lanes: 1 });
        }
        let steps = [Stepping::Plain, Stepping::Momentum, Stepping::Nesterov, Stepping::Adam];
        all.extend(steps.map(Self::Step));
        all
    }
}

/// `n = (cells or rows, cells of a row, first row of the piece, its rows)`, `m = (first row of a batch of rows that
/// follow each other, 1 if they are named)`.
fn pick(cell: Cell, weight: bool) -> String {
    let (kind, unpack) = cell.wgsl();
    let mut bindings = format!(
        "@group(0) @binding(0) var<storage, read> x: array<{kind}>;\n\
         fn cell(i: u32) -> vec4<f32> {{ {unpack} }}\n\
         @group(0) @binding(1) var<storage, read> y: array<f32>;\n\
         @group(0) @binding(8) var<storage, read_write> labels: array<f32>;\n"
    ) + &integers(2, "named")
        + &write(4, "out");
    let mut weigh = "";
    if weight {
        bindings += "@group(0) @binding(5) var<storage, read> w: array<f32>;\n\
                     @group(0) @binding(9) var<storage, read_write> weights: array<f32>;\n";
        weigh = "weights[r] = w[place];";
    }
    let body = format!(
        "let width = max(p.n.y, 1u); let r = i / width; let c = i % width; \
         var row = p.m.x + r; if (p.m.y != 0u) {{ row = named[r]; }} let place = row - p.n.z; \
         if (row >= p.n.z && place < p.n.w) {{ if (c < p.n.y) {{ out[i] = cell(place * p.n.y + c); }} \
         if (c == 0u) {{ labels[r] = y[place]; {weigh} }} }}"
    );
    each(&bindings, &body)
}

fn step(stepping: Stepping) -> String {
    let (memory, body) = match stepping {
        Stepping::Plain => (0, "at[i] = at[i] - p.f.x * slope[i];"),
        Stepping::Momentum => (1, "let v = p.f.y * first[i] + slope[i]; first[i] = v; at[i] = at[i] - p.f.x * v;"),
        Stepping::Nesterov => {
            (1, "let v = p.f.y * first[i] + slope[i]; first[i] = v; at[i] = at[i] - p.f.x * (slope[i] + p.f.y * v);")
        }
        Stepping::Adam => (
            2,
            "let s = slope[i]; let m = p.f.x * first[i] + p.f.y * s; let v = p.f.z * second[i] + p.f.w * s * s; \
             first[i] = m; second[i] = v; at[i] = at[i] * p.g.x - p.g.y * m / (sqrt(v) * p.g.z + vec4<f32>(p.g.w));",
        ),
    };
    let mut bindings = read(0, "slope") + &write(4, "at");
    for (place, name) in ["first", "second"].into_iter().enumerate().take(memory) {
        bindings += &write(5 + place as u32, name);
    }
    each(&bindings, body)
}
