// T lanes share a row; what they find together, each of them has.
const T: u32 = @T@u;
const G: u32 = 256u / T;
var<workgroup> red: array<f32, 256>;

fn largest(v: f32, lid: u32) -> f32 {
    red[lid] = v;
    workgroupBarrier();
    for (var s = T / 2u; s > 0u; s >>= 1u) {
        if (lid % T < s) { red[lid] = max(red[lid], red[lid + s]); }
        workgroupBarrier();
    }
    let found = red[lid - lid % T];
    workgroupBarrier();
    return found;
}
fn together(v: f32, lid: u32) -> f32 {
    red[lid] = v;
    workgroupBarrier();
    for (var s = T / 2u; s > 0u; s >>= 1u) {
        if (lid % T < s) { red[lid] += red[lid + s]; }
        workgroupBarrier();
    }
    let found = red[lid - lid % T];
    workgroupBarrier();
    return found;
}
