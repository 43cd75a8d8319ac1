// Sums of residuals by category, exact: a residual is three integers of 15 bits, added by integer atomics in
// workgroup memory. A group takes at most 65,536 rows, so that no sum overflows.
struct Scatter { rows: u32, per_group: u32, column: u32, columns: u32, width: u32, scale: f32, groups: u32, pad: u32 }
@group(0) @binding(0) var<storage, read> codes: array<u32>;      // [rows, columns]
@group(0) @binding(1) var<storage, read> residual: array<f32>;
@group(0) @binding(3) var<uniform> p: Scatter;
@group(0) @binding(4) var<storage, read_write> part: array<i32>; // [groups, width, 3]
const TILE: u32 = 2048u;
var<workgroup> cells: array<atomic<i32>, 6144>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    for (var i = lid; i < 3u * TILE; i += 256u) { atomicStore(&cells[i], 0); }
    workgroupBarrier();
    let lowest = wid.y * TILE;
    let first = wid.x * p.per_group;
    let end = min(first + p.per_group, p.rows);
    for (var r = first + lid; r < end; r += 256u) {
        let code = codes[r * p.columns + p.column];
        let place = code - lowest;
        if (code >= lowest && place < TILE && code < p.width) {
            let high = residual[r] * p.scale;
            let a = trunc(high);
            let middle = (high - a) * 32768.0;
            let b = trunc(middle);
            let c = round((middle - b) * 32768.0);
            atomicAdd(&cells[3u * place], i32(a));
            atomicAdd(&cells[3u * place + 1u], i32(b));
            atomicAdd(&cells[3u * place + 2u], i32(c));
        }
    }
    workgroupBarrier();
    for (var i = lid; i < 3u * TILE; i += 256u) {
        if (lowest + i / 3u < p.width) { part[(wid.x * p.width + lowest) * 3u + i] = atomicLoad(&cells[i]); }
    }
}
