// C = A B in tiles of EDGE x EDGE for a group of 256: BK steps of the inner dimension lie in workgroup memory, each
// invocation keeps (4 H) x (4 H) sums in registers. Where the cells of A and B come from is filled in.
struct Shape { m: u32, n: u32, k: u32, per_split: u32, a: u32, b: u32, c: u32, flags: u32 }
@group(0) @binding(3) var<uniform> d: Shape;
@LOADS@
const BK: u32 = 16u;
const H: u32 = @H@u;
const EDGE: u32 = 64u * H;
var<workgroup> sa: array<vec4<f32>, @CELLS@>;
var<workgroup> sb: array<vec4<f32>, @CELLS@>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let tx = lid % 16u;
    let ty = lid / 16u;
    let m0 = wid.y * EDGE;
    let n0 = wid.x * EDGE;
    @SKIP@
    @SUMS@
    let k0 = wid.z * d.per_split;
    let k1 = min(k0 + d.per_split, d.k);
    for (var kb = k0; kb < k1; kb += BK) {
        for (var t = 0u; t < H; t++) {
            let q = lid + t * 256u;
            @FETCH_A@
            @FETCH_B@
        }
        workgroupBarrier();
        for (var k = 0u; k < BK; k++) {
            @PRODUCTS@
        }
        workgroupBarrier();
        @FLUSH@
    }
    @STORES@
}
