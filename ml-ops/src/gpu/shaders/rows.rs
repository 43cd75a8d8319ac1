//! The text of kernels over rows: the fused gradient of one margin, and what happens to a row between two products.

use std::fmt::Write;

use super::{Cell, RowColumns, RowStep};
use crate::fold::Loss;

fn weighing(rows: RowColumns) -> String {
    let binding = |there: bool, text: &'static str| if there { text } else { "" };
    let mut body = String::new();
    if rows.role {
        body.push_str(
            "train = has_role(p.train_low, p.train_high, roles[r]); held = has_role(p.eval_low, p.eval_high, roles[r]); ",
        );
    }
    if rows.sample {
        body.push_str("train *= in_sample(hashes[r]); ");
    }
    if rows.weight {
        body.push_str("weight = weights[r];");
    }
    [include_str!("mix.wgsl"), include_str!("weigh.wgsl")]
        .concat()
        .replacen("@WEIGHT@", binding(rows.weight, "@group(0) @binding(5) var<storage, read> weights: array<f32>;"), 1)
        .replace("@ROLE@", binding(rows.role, "@group(0) @binding(6) var<storage, read> roles: array<u32>;"))
        .replace("@HASH@", binding(rows.sample, "@group(0) @binding(7) var<storage, read> hashes: array<u32>;"))
        .replace("@WEIGH@", &body)
}

pub(super) fn glm(loss: Loss, lanes: u32, cells: u32, codes: u32, cell: Cell, rows: RowColumns) -> String {
    let v = cells.div_ceil(lanes).max(1);
    let u = if v <= 2 { 2 } else { 1 };
    let (kind, unpack) = cell.wgsl();
    let mut shuffle = String::new();
    let mut mask = lanes / 2;
    while mask > 0 {
        let _ = write!(shuffle, "m += subgroupShuffleXor(m, {mask}u); ");
        mask /= 2;
    }
    let loss = match loss {
        Loss::Squared => "let slope = m - target_value; let value = 0.5 * slope * slope;",
        Loss::Logistic => {
            "let e = exp_below(-abs(m)); \
             let above = 1.0 / (1.0 + e); \
             let below = e * above; \
             let slope = (1.0 - target_value) * select(below, above, m >= 0.0) \
                 - target_value * select(above, below, m >= 0.0); \
             let value = ln_one_plus(e) + (max(m, 0.0) - target_value * m);"
        }
    };
    let (mut bindings, mut gather, mut residual) = (String::new(), String::new(), "");
    if codes > 0 {
        bindings.push_str(
            "\n@group(0) @binding(8) var<storage, read> codes: array<u32>;\n\
             @group(0) @binding(9) var<storage, read> gathered: array<f32>;\n\
             @group(0) @binding(10) var<storage, read> spans: array<vec2<u32>>;\n\
             @group(0) @binding(11) var<storage, read_write> residual: array<f32>;\n",
        );
        let _ = write!(
            gather,
            "if (r < end) {{ for (var c = lane; c < {codes}u; c += L) {{ let code = codes[r * {codes}u + c]; \
             if (code < spans[c].y) {{ m += gathered[spans[c].x + code]; }} }} }}"
        );
        residual = "if (r < end) { residual[r] = g; }";
    }
    let head = [include_str!("numbers.wgsl"), &weighing(rows)].concat();
    head + &include_str!("glm.wgsl")
        .replace("@CELL@", kind)
        .replace("@UNPACK@", unpack)
        .replace("@CODES@", &bindings)
        .replace("@GATHER@", &gather)
        .replace("@RESIDUAL@", residual)
        .replace("@SHUFFLE@", &shuffle)
        .replace("@LOSS@", loss)
        .replace("@UV@", &(u * v).to_string())
        .replace("@NV@", &cells.to_string())
        .replace("@L@", &lanes.to_string())
        .replace("@V@", &v.to_string())
        .replace("@U@", &u.to_string())
}

pub(super) fn row_step(step: RowStep, lanes: u32, rows: RowColumns) -> String {
    let weights = "@group(0) @binding(8) var<storage, read_write> h: array<f32>;\n";
    let (body, output) = match step {
        RowStep::Softmax => (include_str!("rows_softmax.wgsl"), String::new()),
        RowStep::Curvature => (include_str!("rows_curvature.wgsl"), weights.into()),
        RowStep::Weight => (include_str!("rows_weight.wgsl"), weights.into()),
        RowStep::Nearest => {
            let nearest = "@group(0) @binding(9) var<storage, read_write> nearest: array<u32>;\n";
            (include_str!("rows_nearest.wgsl"), [weights, nearest].concat())
        }
    };
    let head = [include_str!("numbers.wgsl"), &weighing(rows)].concat();
    let shared = include_str!("lanes.wgsl");
    head + &include_str!("rows.wgsl")
        .replace("@LANES@", shared)
        .replace("@OUTPUT@", &output)
        .replace("@BODY@", body)
        .replace("@T@", &lanes.to_string())
}
