//! The text of kernels over the entries of matrices.

use super::{MapStep, sloped};

pub(super) fn map(step: MapStep) -> String {
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
            let (numbers, all) = (include_str!("numbers.wgsl"), include_str!("activations.wgsl"));
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
