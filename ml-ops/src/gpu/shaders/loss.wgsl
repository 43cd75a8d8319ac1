// Outputs become the derivative of their weighted loss, T lanes to a row; a group leaves the sum of its rows' losses.
// n = (rows, rows of a group, outputs, numbers of a row), m.x = first slot, f = (share, scale of the label).
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;
@group(0) @binding(4) var<storage, read_write> slots: array<f32>;
@WEIGHTS@
@LANES@
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % T;
    var total = 0.0;
    let first = wid.x * p.n.y;
    let end = min(first + p.n.y, p.n.x);
    for (var base = first; base < end; base += G) {
        let r = base + lid / T;
        let inside = r < end;
        let row = min(r, p.n.x - 1u);
        let at = row * p.n.w;
        let w = @WEIGHT@;
        @BODY@
    }
    red[lid] = total;
    workgroupBarrier();
    for (var s = 128u; s > 0u; s >>= 1u) {
        if (lid < s) { red[lid] += red[lid + s]; }
        workgroupBarrier();
    }
    if (lid == 0u) { slots[p.m.x + wid.x] = red[0]; }
}
