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
// SplitMix64, as `fold::mix`; `salt` is the salt times the golden ratio.
fn mixed(hash: u32, salt: vec2<u32>) -> vec2<u32> {
    let low = hash + salt.x;
    let carry = select(0u, 1u, low < hash);
    var z = vec2<u32>(low, hash + salt.y + carry);
    z = product(shifted(z, 30u), vec2<u32>(0x1ce4e5b9u, 0xbf58476du));
    z = product(shifted(z, 27u), vec2<u32>(0x133111ebu, 0x94d049bbu));
    return shifted(z, 31u);
}
fn below(z: vec2<u32>, limit: vec2<u32>) -> bool {
    return z.y < limit.y || (z.y == limit.y && z.x < limit.x);
}
