// exp and ln(1 + e) from arithmetic alone: the built-in ones may be off by some units in any driver.
// e^x for x <= 0: 2^n times a polynomial (Taylor, |r| <= ln 2 / 2: the last term is below 2^-26).
fn exp_below(x: f32) -> f32 {
    let v = max(x, -87.0);
    let n = round(v * 1.4426950408889634);
    let r = fma(n, -1.42860677e-6, fma(n, -0.693145752, v));
    var s = fma(r, 1.0 / 5040.0, 1.0 / 720.0);
    s = fma(r, s, 1.0 / 120.0);
    s = fma(r, s, 1.0 / 24.0);
    s = fma(r, s, 1.0 / 6.0);
    s = fma(r, s, 0.5);
    s = fma(r, s, 1.0);
    s = fma(r, s, 1.0);
    let power = bitcast<f32>(u32(i32(n) + 127) << 23u);
    return select(s * power, 0.0, x < -87.0);
}

// ln(1 + e) for 0 <= e <= 1: twice the area tangent of t = e / (2 + e), t <= 1/3.
fn ln_one_plus(e: f32) -> f32 {
    let t = e / (2.0 + e);
    let q = t * t;
    var s = fma(q, 1.0 / 13.0, 1.0 / 11.0);
    s = fma(q, s, 1.0 / 9.0);
    s = fma(q, s, 1.0 / 7.0);
    s = fma(q, s, 1.0 / 5.0);
    s = fma(q, s, 1.0 / 3.0);
    s = fma(q, s, 1.0);
    return 2.0 * t * s;
}

// ln s for s >= 1: s = 2^k m with m in [1, 2), ln m through the area tangent of (m - 1) / (m + 1).
fn ln_above(s: f32) -> f32 {
    let bits = bitcast<u32>(s);
    let k = f32(i32(bits >> 23u) - 127);
    let m = bitcast<f32>((bits & 0x007fffffu) | 0x3f800000u);
    return fma(k, 0.693147181, ln_one_plus(m - 1.0));
}
