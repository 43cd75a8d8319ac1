// What happens to a row between two products: T lanes share a row of `m`, whose stride is p.stride.
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> part: array<vec4<f32>>;   // a group: (loss, held loss, 0, 0), counts
@OUTPUT@
@LANES@
var<workgroup> place: array<u32, 256>;
var<workgroup> wide: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % T;
    var totals = vec4<f32>(0.0);
    var counts = vec4<f32>(0.0);
    let first = wid.x * p.per_group;
    let end = min(first + p.per_group, p.rows);
    for (var base = first; base < end; base += G) {
        let r = base + lid / T;
        let inside = r < end;
        let at = min(r, p.rows - 1u) * p.stride;
        var counted = vec3<f32>(0.0);
        if (inside) { counted = weigh(r); }
        let used = counted.xy * counted.z;
        @BODY@
        if (lane == 0u && inside) { counts += vec4<f32>(counted.xy, used); }
    }
    wide[lid] = totals;
    workgroupBarrier();
    for (var s = 128u; s > 0u; s >>= 1u) {
        if (lid < s) { wide[lid] += wide[lid + s]; }
        workgroupBarrier();
    }
    if (lid == 0u) { part[wid.x * 2u] = wide[0]; }
    workgroupBarrier();
    wide[lid] = counts;
    workgroupBarrier();
    for (var s = 128u; s > 0u; s >>= 1u) {
        if (lid < s) { wide[lid] += wide[lid + s]; }
        workgroupBarrier();
    }
    if (lid == 0u) { part[wid.x * 2u + 1u] = wide[0]; }
}
