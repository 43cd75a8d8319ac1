// What a row counts for: (1 if it trains, 1 if it is held out, its weight).
struct Rows {
    rows: u32, per_group: u32, train_low: u32, train_high: u32,
    eval_low: u32, eval_high: u32, salt_low: u32, salt_high: u32,
    below_low: u32, below_high: u32, classes: u32, stride: u32,
}
@group(0) @binding(3) var<uniform> p: Rows;
@WEIGHT@
@ROLE@
@HASH@

fn has_role(low: u32, high: u32, role: u32) -> f32 {
    return select(0.0, 1.0, role < 64u && ((select(low, high, role >= 32u) >> (role & 31u)) & 1u) == 1u);
}

// 64-bit numbers are (low, high).
fn high_product(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu; let a1 = a >> 16u; let b0 = b & 0xffffu; let b1 = b >> 16u;
    let low = a0 * b0;
    let mid = a1 * b0 + (low >> 16u);
    let mid2 = a0 * b1 + (mid & 0xffffu);
    return a1 * b1 + (mid >> 16u) + (mid2 >> 16u);
}
fn product(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x * b.x, high_product(a.x, b.x) + a.x * b.y + a.y * b.x);
}
fn shifted(a: vec2<u32>, n: u32) -> vec2<u32> {
    return a ^ vec2<u32>((a.x >> n) | (a.y << (32u - n)), a.y >> n);
}
// SplitMix64 over the row's hash, as `fold::mix`; `salt` is the salt times the golden ratio.
fn in_sample(hash: u32) -> f32 {
    let low = hash + p.salt_low;
    let carry = select(0u, 1u, low < hash);
    var z = vec2<u32>(low, hash + p.salt_high + carry);
    z = product(shifted(z, 30u), vec2<u32>(0x1ce4e5b9u, 0xbf58476du));
    z = product(shifted(z, 27u), vec2<u32>(0x133111ebu, 0x94d049bbu));
    z = shifted(z, 31u);
    return select(0.0, 1.0, z.y < p.below_high || (z.y == p.below_high && z.x < p.below_low));
}

fn weigh(r: u32) -> vec3<f32> {
    var train = has_role(p.train_low, p.train_high, 0u);
    var held = has_role(p.eval_low, p.eval_high, 0u);
    var weight = 1.0;
    @WEIGH@
    return vec3<f32>(train, held, weight);
}
