//! The text of tiled products: what each operand is, and where the result goes.

use std::fmt::Write;

use super::{Activation, Cell, Product, activated, sloped};

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
                [include_str!("numbers.wgsl"), include_str!("activations.wgsl"), first, second, out].concat();
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

pub(super) fn tile(product: Product, cell: Cell, size: u32) -> String {
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
    include_str!("tile.wgsl")
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
