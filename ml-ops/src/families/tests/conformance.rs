//! Published and recomputed reference results (`integration-tests/data/conformance`).

use serde_json::Value;

use super::*;

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Object(map) if map.contains_key("coef") => match map.get("intercept") {
            None => numbers(&map["coef"]),
            Some(first) => [numbers(first), numbers(&map["coef"])].concat(),
        },
        other => other.as_f64().into_iter().collect(),
    }
}

fn run(case: &Value, tol: Option<f64>, solver: Option<&'static str>) -> Result<Trained> {
    let params = &case["params"];
    let flagged = |name: &str, default: bool| params[name].as_bool().unwrap_or(default);
    let name = case["data"].as_str().unwrap_or_default().split('+').next().unwrap_or_default().to_lowercase();
    let logistic = params["model"] != "linear";
    let multinomial = params["family"] == "multinomial";
    let weighted = flagged("weighted", false);
    let classes = if !logistic {
        0
    } else if multinomial {
        3
    } else {
        2
    };
    let path = format!("integration-tests/data/conformance/data/{name}.csv");
    let ignore: &[&str] = if weighted { &[] } else { &["w"] };
    let rows = table(&path, "y", weighted.then_some("w"), ignore, classes)?;
    let mut options = vec![
        ("regParam", number(params["regParam"].as_f64().unwrap_or(0.0))),
        ("elasticNetParam", number(params["elasticNetParam"].as_f64().unwrap_or(0.0))),
        ("standardization", flag(flagged("standardization", true))),
        ("fitIntercept", flag(flagged("fitIntercept", true))),
    ];
    if logistic {
        options.push(("family", word(if multinomial { "multinomial" } else { "binomial" })));
    }
    options.extend(tol.map(|tol| ("tol", number(tol))));
    options.extend(solver.map(|solver| ("solver", word(solver))));
    if solver.is_some() {
        options.push(("max_iter", ParamValue::Int(2000)));
    }
    rows.train(if logistic { "logistic_regression" } else { "linear_regression" }, &options, 1)
}

/// Cases of the families that exist, with their optimum.
fn cases() -> Result<Vec<(String, Value, Vec<f64>)>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../integration-tests/data/conformance/cases.json");
    let text = std::fs::read_to_string(path).map_err(|e| crate::MlError::Internal(e.to_string()))?;
    let file: Value = serde_json::from_str(&text).map_err(|e| crate::MlError::Internal(e.to_string()))?;
    let mut found = Vec::new();
    for case in file["cases"].as_array().into_iter().flatten() {
        let id = case["id"].as_str().unwrap_or_default().to_string();
        let params = &case["params"];
        let ours = params["model"] == "linear" && params["loss"].is_null()
            || params["model"] == "logistic"
            || id == "glm_binomial_logit_int";
        if ours {
            let expected = numbers(&case["exact_optimum"]);
            assert!(!expected.is_empty(), "{id} has no optimum");
            found.push((id, case.clone(), expected));
        }
    }
    assert!(found.len() >= 36, "{}", found.len());
    Ok(found)
}

fn check(tol: Option<f64>, solver: Option<&'static str>) -> Result<Vec<String>> {
    let mut bad = Vec::new();
    for (id, case, expected) in cases()? {
        if solver.is_some() && case["params"]["model"] == "linear" && case["data"] != "LIN10K" {
            continue;
        }
        let trained = run(&case, tol, solver)?;
        let off = distance(&trained.flat(), &expected);
        let softmax = case["params"]["family"] == "multinomial";
        let state = if trained.outcome.converged { "" } else { " not converged" };
        println!("{id:24} {:8} off {off:.1e} {:?}{state}", trained.solver, trained.passes);
        if off > if softmax { 1e-5 } else { 1e-6 } || !trained.outcome.converged {
            bad.push(format!("{id}: off by {off:e}{state}, {:?} not {expected:?}", trained.flat()));
        }
    }
    Ok(bad)
}

#[test]
fn every_case_reaches_its_optimum() -> Result<()> {
    let bad = check(Some(1e-10), None)?;
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    Ok(())
}

#[test]
fn the_default_tolerance_comes_close() -> Result<()> {
    let bad = check(None, None)?;
    println!("not at 1e-6 with the default tol:\n{}", bad.join("\n"));
    Ok(())
}

#[test]
fn first_order_methods_reach_the_same_optimum() -> Result<()> {
    let bad = check(Some(1e-9), Some("lbfgs"))?;
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    Ok(())
}

#[test]
fn newton_solves_least_squares_too() -> Result<()> {
    let bad = check(Some(1e-9), Some("newton"))?;
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    Ok(())
}
