//! The edges that objectives.md names, and the like.

use super::*;
use crate::MlError;

/// Three columns, a label that depends on them, and classes from it.
fn rows(n: usize, classes: usize) -> Rows {
    let mut noise = Noise(n as u64 * 1000);
    let x: Vec<Vec<f64>> = (0..n).map(|_| vec![noise.normal(), 5.0 + 2.0 * noise.normal(), noise.uniform()]).collect();
    let y = x.iter().map(|x| {
        let m = 1.0 + x[0] - 0.5 * x[1] + x[2] + noise.normal();
        if classes == 0 { m } else { ((m + 3.0).max(0.0) / 2.0).min(classes as f64 - 1.0).floor() }
    });
    let y = y.collect();
    Rows::new(x, y, classes)
}

fn ends_well(trained: &Trained) {
    assert!(trained.flat().iter().all(|v| v.is_finite()), "{trained:?}");
}

/// The data error's text.
fn refused(result: Result<Trained>) -> String {
    match result {
        Err(e @ (MlError::Data { .. } | MlError::Conflict { .. } | MlError::NotAvailable { .. })) => e.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_strong_l1_leaves_only_the_intercept() -> Result<()> {
    let strong = [("reg_param", number(100.0)), ("elastic_net_param", number(1.0))];
    let linear = rows(200, 0);
    let trained = linear.train("linear_regression", &strong, 0)?;
    assert_eq!(trained.flat()[1..], [0.0; 3]);
    assert!((trained.flat()[0] - trained.setup.moments.label_mean).abs() < 1e-12);
    for solver in ["newton", "lbfgs", "gd"] {
        let options = [strong.to_vec(), vec![("solver", word(solver))]].concat();
        let trained = rows(200, 2).train("logistic_regression", &options, 0)?;
        let w = &trained.setup.moments.class_weight;
        assert_eq!(trained.flat()[1..], [0.0; 3]);
        assert!((trained.flat()[0] - (w[1] / w[0]).ln()).abs() < 1e-12);
        let trained = rows(200, 3).train("logistic_regression", &options, 0)?;
        let logs: Vec<f64> = trained.setup.moments.class_weight.iter().map(|w| w.ln()).collect();
        let mean = logs.iter().sum::<f64>() / 3.0;
        for (k, log) in logs.iter().enumerate() {
            assert_eq!(trained.flat()[k * 4 + 1..k * 4 + 4], [0.0; 3]);
            assert!((trained.flat()[k * 4] - (log - mean)).abs() < 1e-12);
        }
    }
    Ok(())
}

#[test]
fn a_constant_label_is_its_mean() -> Result<()> {
    let mut rows = rows(50, 0);
    rows.y = vec![3.25; 50];
    for lambda in [0.0, 0.3] {
        let trained = rows.train("linear_regression", &[("reg_param", number(lambda))], 0)?;
        assert!(distance(&trained.flat(), &[3.25, 0.0, 0.0, 0.0]) < 1e-12, "{:?}", trained.flat());
    }
    let without = [("reg_param", number(0.3)), ("fit_intercept", flag(false))];
    assert!(refused(rows.train("linear_regression", &without, 0)).contains("constant"));
    let raw = [without.to_vec(), vec![("standardization", flag(false))]].concat();
    ends_well(&rows.train("linear_regression", &raw, 0)?);
    Ok(())
}

#[test]
fn collinear_and_constant_columns_do_not_matter() -> Result<()> {
    for (family, classes) in [("linear_regression", 0), ("logistic_regression", 2), ("logistic_regression", 3)] {
        let plain = rows(300, classes);
        let mut wide = plain.clone();
        for x in &mut wide.x {
            *x = vec![x[0], 7.0, x[1], x[0] - 3.0 * x[2] + 2.0, x[2]];
        }
        wide.layout = crate::fold::Layout::new(vec![None; 5]);
        let options = [("tol", number(1e-10))];
        let (plain, found) = (plain.train(family, &options, 0)?, wide.train(family, &options, 0)?);
        assert!(plain.outcome.converged && found.outcome.converged, "{:?}", found.outcome);
        let rows = plain.weights["intercept"].data.len();
        for k in 0..rows {
            let (a, b) = (&plain.flat()[k * 4..k * 4 + 4], &found.flat()[k * 6..k * 6 + 6]);
            assert_eq!(b[2], 0.0, "the constant column has a coefficient");
            for x in &wide.x[..20] {
                let wide: f64 = b[0] + x.iter().zip(&b[1..]).map(|(x, b)| x * b).sum::<f64>();
                let plain = a[0] + a[1] * x[0] + a[2] * x[2] + a[3] * x[4];
                assert!((wide - plain).abs() < 1e-7, "{wide} {plain}");
            }
        }
    }
    Ok(())
}

#[test]
fn fewer_rows_than_features_fit_exactly() -> Result<()> {
    let mut noise = Noise(5);
    let x: Vec<Vec<f64>> = (0..6).map(|_| (0..20).map(|_| noise.normal()).collect()).collect();
    let rows = Rows::new(x.clone(), (0..6).map(f64::from).collect(), 0);
    let flat = rows.train("linear_regression", &[], 0)?.flat();
    for (x, y) in x.iter().zip(&rows.y) {
        let found = flat[0] + x.iter().zip(&flat[1..]).map(|(x, b)| x * b).sum::<f64>();
        assert!((found - y).abs() < 1e-7, "{found} {y}");
    }
    for classes in [2, 3] {
        let rows = Rows::new(x.clone(), (0..6).map(|i| f64::from(i % classes)).collect(), classes as usize);
        ends_well(&rows.train("logistic_regression", &[], 0)?);
        ends_well(&rows.train("logistic_regression", &[("reg_param", number(0.1))], 0)?);
    }
    Ok(())
}

#[test]
fn constant_features_leave_only_the_intercept() -> Result<()> {
    for (family, classes) in [("linear_regression", 0), ("logistic_regression", 2), ("logistic_regression", 3)] {
        let mut rows = rows(60, classes);
        rows.x = vec![vec![1.0, 0.0, 1e9]; 60];
        for solver in ["auto", "lbfgs", "gd", "sgd", "adam"] {
            let trained = rows.train(family, &[("solver", word(solver))], 0)?;
            ends_well(&trained);
            assert!(trained.weights["coefficients"].data.iter().all(|&b| b == 0.0));
        }
    }
    Ok(())
}

#[test]
fn separable_classes_end_with_finite_weights() -> Result<()> {
    for classes in [2, 3] {
        let x: Vec<Vec<f64>> = (0..60).map(|i| vec![f64::from(i), f64::from(i % 7)]).collect();
        let y = (0..60).map(|i| f64::from(i * classes / 60)).collect();
        let rows = Rows::new(x, y, classes as usize);
        for solver in ["newton", "lbfgs", "gd", "adam"] {
            for l1 in [0.0, 1e-9] {
                let options = [("solver", word(solver)), ("reg_param", number(l1)), ("elastic_net_param", number(1.0))];
                let trained = rows.train("logistic_regression", &options, 0)?;
                ends_well(&trained);
                println!("separable {classes} {solver} {l1}: {:?} {}", trained.passes, trained.outcome.reason);
            }
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_trained_says_why() -> Result<()> {
    let mut one = rows(40, 2);
    one.y = vec![1.0; 40];
    assert!(refused(one.train("logistic_regression", &[], 0)).contains("at least two classes"));
    let three = rows(40, 3);
    assert!(refused(three.train("logistic_regression", &[("family", word("binomial"))], 0)).contains("multinomial"));
    assert!(refused(three.train("logistic_regression", &[("solver", word("normal"))], 0)).contains("newton"));
    assert!(refused(rows(40, 0).train("linear_regression", &[("loss", word("huber"))], 0)).contains("huber"));
    let same = Rows::new((0..30).map(|i| vec![f64::from(i % 3)]).collect(), Vec::new(), 0);
    for mode in ["random", "k-means||"] {
        let options = |k| [("k", ParamValue::Int(k)), ("init_mode", word(mode))];
        assert!(refused(same.train("kmeans", &options(4), 0)).contains("3 distinct rows"));
        assert!(refused(same.train("kmeans", &options(31), 0)).contains("30 training rows"));
        let trained = same.train("kmeans", &options(3), 0)?;
        assert_eq!(trained.objective(), 0.0);
    }
    Ok(())
}

#[test]
fn weights_count_like_repeated_rows() -> Result<()> {
    for (family, classes) in [("linear_regression", 0), ("logistic_regression", 2), ("logistic_regression", 3)] {
        let mut weighted = rows(90, classes);
        let mut repeated = Rows::new(Vec::new(), Vec::new(), classes);
        repeated.layout = weighted.layout.clone();
        for i in 0..90 {
            weighted.w[i] = (i % 3) as f64;
            for _ in 0..i % 3 {
                repeated.x.push(weighted.x[i].clone());
                repeated.y.push(weighted.y[i]);
                repeated.w.push(1.0);
            }
        }
        let options = [("reg_param", number(0.1)), ("standardization", flag(false)), ("tol", number(1e-10))];
        let (a, b) = (weighted.train(family, &options, 0)?, repeated.train(family, &options, 0)?);
        assert!(distance(&a.flat(), &b.flat()) < 1e-8, "{:?} {:?}", a.flat(), b.flat());
    }
    Ok(())
}

#[test]
fn categories_are_centred_like_numbers() -> Result<()> {
    // The same indicators, once as a category and once as numeric columns.
    for (family, classes) in [("linear_regression", 0), ("logistic_regression", 2), ("logistic_regression", 3)] {
        let mut numeric = rows(200, classes);
        for (i, x) in numeric.x.iter_mut().enumerate() {
            let code = (i * i) % 7 % 3;
            x.extend((0..3).map(|c| f64::from(c == code)));
        }
        numeric.layout = crate::fold::Layout::new(vec![None; 6]);
        let mut coded = numeric.clone();
        coded.layout = crate::fold::Layout::new(vec![None, None, None, Some(3)]);
        for lambda in [0.0, 0.1] {
            let options = [("reg_param", number(lambda)), ("tol", number(1e-11))];
            let (a, b) = (numeric.train(family, &options, 0)?, coded.train(family, &options, 0)?);
            assert!(distance(&a.flat(), &b.flat()) < 1e-6, "{:?} {:?}", a.flat(), b.flat());
        }
    }
    Ok(())
}

#[test]
fn every_solver_comes_near_the_optimum() -> Result<()> {
    for (family, classes) in [("linear_regression", 0), ("logistic_regression", 2), ("logistic_regression", 3)] {
        for alpha in [0.0, 0.6] {
            let rows = rows(400, classes);
            let options = |solver| {
                vec![
                    ("reg_param", number(0.05)),
                    ("elastic_net_param", number(alpha)),
                    ("solver", word(solver)),
                    ("max_iter", ParamValue::Int(3000)),
                ]
            };
            let best = rows.train(family, &options("auto"), 0)?.flat();
            for (solver, most) in [("newton", 1e-4), ("lbfgs", 1e-4), ("gd", 1e-4), ("sgd", 0.3), ("adam", 0.02)] {
                let trained = rows.train(family, &options(solver), 0)?;
                let off = distance(&trained.flat(), &best);
                println!("{family} {classes} alpha {alpha} {solver}: off {off:.1e} {:?}", trained.passes);
                assert!(off < most, "{family} {solver} is off by {off}");
            }
            let batches = [options("sgd"), vec![("mini_batch_fraction", number(0.3))]].concat();
            let off = distance(&rows.train(family, &batches, 0)?.flat(), &best);
            assert!(off < 0.3, "{family} mini-batches are off by {off}");
        }
    }
    Ok(())
}
