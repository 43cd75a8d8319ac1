// A loss of one margin and its gradient. X is read once: L lanes share a row and keep their part of it in
// registers for both products; no barrier and no workgroup memory inside the loop, sums in a fixed order.
//   L lanes a row (a power of two, at most a subgroup), V cells of four numbers for each lane, U rows under way
//   for each lane, NV cells a row, NC wide categories a row.
@group(0) @binding(0) var<storage, read> x: array<@CELL@>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> coef: array<vec4<f32>>;         // NV cells, then (intercept, label, 0, 0)
@group(0) @binding(4) var<storage, read_write> part: array<vec4<f32>>;   // a group: NV cells, (sum r, loss, held loss, 0),
@CODES@                                                                  // (rows, held rows, weight, held weight)
const L: u32 = @L@u;
const V: u32 = @V@u;
const U: u32 = @U@u;
const NV: u32 = @NV@u;
const G: u32 = 256u / L;
var<workgroup> red: array<vec4<f32>, 256>;

fn cell(i: u32) -> vec4<f32> { @UNPACK@ }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % L;
    let group = lid / L;
    var sum: array<vec4<f32>, @V@>;
    var w: array<vec4<f32>, @V@>;
    for (var v = 0u; v < V; v++) {
        let c = v * L + lane;
        sum[v] = vec4<f32>(0.0);
        w[v] = vec4<f32>(0.0);
        if (c < NV) { w[v] = coef[c]; }
    }
    let constants = coef[NV];
    var totals = vec4<f32>(0.0);
    var counts = vec4<f32>(0.0);
    let first = wid.x * p.per_group;
    let end = min(first + p.per_group, p.rows);
    for (var base = first; base < end; base += G * U) {
        var row: array<vec4<f32>, @UV@>;
        var label: array<f32, @U@>;
        for (var u = 0u; u < U; u++) {
            let r = base + u * G + group;
            let inside = r < end;
            label[u] = 0.0;
            if (inside) { label[u] = y[r]; }
            for (var v = 0u; v < V; v++) {
                let c = v * L + lane;
                row[u * V + v] = vec4<f32>(0.0);
                if (inside && c < NV) { row[u * V + v] = cell(r * NV + c); }
            }
        }
        for (var u = 0u; u < U; u++) {
            let r = base + u * G + group;
            var m = 0.0;
            for (var v = 0u; v < V; v++) { m += dot(row[u * V + v], w[v]); }
            @GATHER@
            @SHUFFLE@
            m += constants.x;
            var counted = vec3<f32>(0.0);
            if (r < end) { counted = weigh(r); }
            let used = counted.xy * counted.z;
            let target_value = select(0.0, label[u] + constants.y, used.x != 0.0 || used.y != 0.0);
            @LOSS@
            let g = used.x * slope;
            if (lane == 0u) {
                totals += vec4<f32>(g, used.x * value, used.y * value, 0.0);
                counts += vec4<f32>(counted.xy, used);
                @RESIDUAL@
            }
            for (var v = 0u; v < V; v++) { sum[v] = fma(vec4<f32>(g), row[u * V + v], sum[v]); }
        }
    }
    let at = wid.x * (NV + 2u);
    for (var v = 0u; v < V; v++) {
        red[lid] = sum[v];
        workgroupBarrier();
        for (var s = G / 2u; s > 0u; s >>= 1u) {
            if (group < s) { red[lid] += red[lid + s * L]; }
            workgroupBarrier();
        }
        let c = v * L + lane;
        if (group == 0u && c < NV) { part[at + c] = red[lane]; }
        workgroupBarrier();
    }
    red[lid] = totals;
    workgroupBarrier();
    for (var s = 128u; s > 0u; s >>= 1u) {
        if (lid < s) { red[lid] += red[lid + s]; }
        workgroupBarrier();
    }
    if (lid == 0u) { part[at + NV] = red[0]; }
    workgroupBarrier();
    red[lid] = counts;
    workgroupBarrier();
    for (var s = 128u; s > 0u; s >>= 1u) {
        if (lid < s) { red[lid] += red[lid + s]; }
        workgroupBarrier();
    }
    if (lid == 0u) { part[at + NV + 1u] = red[0]; }
}
