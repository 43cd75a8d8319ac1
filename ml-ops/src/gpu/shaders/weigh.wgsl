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

fn in_sample(hash: u32) -> f32 {
    let z = mixed(hash, vec2<u32>(p.salt_low, p.salt_high));
    return select(0.0, 1.0, below(z, vec2<u32>(p.below_low, p.below_high)));
}

fn weigh(r: u32) -> vec3<f32> {
    var train = has_role(p.train_low, p.train_high, 0u);
    var held = has_role(p.eval_low, p.eval_high, 0u);
    var weight = 1.0;
    @WEIGH@
    return vec3<f32>(train, held, weight);
}
