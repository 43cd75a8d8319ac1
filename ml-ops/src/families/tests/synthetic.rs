//! Passes over larger data; `--ignored` because the plain evaluator takes its time.

use super::*;

fn rows(n: usize, width: usize, classes: usize) -> Rows {
    let mut noise = Noise(9);
    let truth: Vec<f64> = (0..width * classes).map(|_| noise.normal() / (width as f64).sqrt() * 1.5).collect();
    let (mut x, mut y) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for _ in 0..n {
        let common = noise.normal();
        let row: Vec<f64> = (0..width).map(|_| 0.3 * common + noise.normal()).collect();
        // The largest of noisy margins.
        let score = |k: usize, noise: &mut Noise| {
            let gumbel = -(-(noise.uniform() + 1e-12).ln()).ln();
            row.iter().zip(&truth[k * width..]).map(|(x, b)| x * b).sum::<f64>() + gumbel
        };
        let scores: Vec<f64> = (0..classes).map(|k| score(k, &mut noise)).collect();
        let best = (0..classes).fold(0, |b, k| if scores[k] > scores[b] { k } else { b });
        y.push(best as f64);
        x.push(row);
    }
    Rows::new(x, y, classes)
}

fn report(name: &str, rows: &Rows, options: &[(&str, ParamValue)]) -> Result<()> {
    let started = std::time::Instant::now();
    let trained = rows.train("logistic_regression", options, 3)?;
    let norms: Vec<String> = trained.iterations.iter().map(|i| format!("{:.0e}", i.gradient_norm)).collect();
    println!(
        "{name}: {:?} in {:.1?}, {} {}",
        trained.passes,
        started.elapsed(),
        trained.outcome.reason,
        norms.join(" ")
    );
    assert!(trained.outcome.converged);
    Ok(())
}

#[test]
#[ignore = "half a minute"]
fn passes() -> Result<()> {
    let two = rows(200_000, 32, 2);
    for tol in [1e-6, 1e-10] {
        report("logistic 200k x 32", &two, &[("tol", number(tol))])?;
        let l1 = [("reg_param", number(0.01)), ("elastic_net_param", number(1.0)), ("tol", number(tol))];
        report("logistic L1 200k x 32", &two, &l1)?;
    }
    report("logistic 200k x 32 lbfgs", &two, &[("solver", word("lbfgs"))])?;
    let ten = rows(50_000, 64, 10);
    report("softmax 50k x 64 x 10", &ten, &[])?;
    report("softmax 50k x 64 x 10 lbfgs", &ten, &[("solver", word("lbfgs"))])?;
    let l1 = [("reg_param", number(0.003)), ("elastic_net_param", number(1.0))];
    report("softmax L1 50k x 64 x 10", &ten, &l1)
}
