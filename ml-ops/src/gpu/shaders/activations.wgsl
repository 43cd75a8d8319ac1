fn sigmoid1(v: f32) -> f32 { let e = exp_below(-abs(v)); return select(e / (1.0 + e), 1.0 / (1.0 + e), v >= 0.0); }
fn sigmoid4(v: vec4<f32>) -> vec4<f32> { return vec4<f32>(sigmoid1(v.x), sigmoid1(v.y), sigmoid1(v.z), sigmoid1(v.w)); }
// Near zero the difference of two exponentials has no digits left, so there it is a polynomial (Taylor).
fn tanh1(v: f32) -> f32 {
    let e = exp_below(-2.0 * abs(v));
    let far = (1.0 - e) / (1.0 + e);
    let q = v * v;
    let near = v * fma(q, fma(q, fma(q, -17.0 / 315.0, 2.0 / 15.0), -1.0 / 3.0), 1.0);
    return select(select(-far, far, v >= 0.0), near, abs(v) < 0.25);
}
fn tanh4(v: vec4<f32>) -> vec4<f32> { return vec4<f32>(tanh1(v.x), tanh1(v.y), tanh1(v.z), tanh1(v.w)); }
// The normal distribution function. Half the complementary error function of x is e^(-x^2) t P(t - 13/22) with
// t = 1 / (1 + x / 2); P interpolates it at the Chebyshev nodes of 0 <= x <= 9, within 4e-8 of it.
fn normal1(z: f32) -> f32 {
    let x = abs(z) * 0.70710678;
    let t = 1.0 / (1.0 + 0.5 * x);
    let u = t - 0.59090909;
    var s = fma(u, 0.010803500, -0.028808719);
    s = fma(u, s, -0.0013781801);
    s = fma(u, s, 0.055963967);
    s = fma(u, s, -0.022047551);
    s = fma(u, s, -0.10291635);
    s = fma(u, s, 0.038106177);
    s = fma(u, s, 0.29474601);
    s = fma(u, s, 0.39592615);
    s = fma(u, s, 0.28898853);
    let tail = exp_below(-x * x) * t * s;
    return select(tail, 1.0 - tail, z >= 0.0);
}
fn gelu4(v: vec4<f32>) -> vec4<f32> {
    return v * vec4<f32>(normal1(v.x), normal1(v.y), normal1(v.z), normal1(v.w));
}
fn gelu_slope1(v: f32) -> f32 { return normal1(v) + v * 0.39894228 * exp_below(-0.5 * v * v); }
fn gelu_slope4(v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(gelu_slope1(v.x), gelu_slope1(v.y), gelu_slope1(v.z), gelu_slope1(v.w));
}
