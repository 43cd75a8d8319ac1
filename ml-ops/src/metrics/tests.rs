#![allow(clippy::unwrap_used)]
use super::*;

fn get(metrics: &Metrics, name: &str) -> Option<f64> {
    metrics.iter().find(|(known, _)| known == name).unwrap().1
}

/// Expected values are scikit-learn's (1.9.1), to 1e-12.
fn assert_metrics(found: &Metrics, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        let found = get(found, name).unwrap();
        assert!((found - value).abs() <= 1e-12, "{name}: {found} is not {value}");
    }
}

const LABELS: [u32; 10] = [0, 0, 1, 1, 1, 0, 1, 0, 1, 0];
const POSITIVE: [f64; 10] = [0.1, 0.4, 0.35, 0.8, 0.65, 0.5, 0.5, 0.2, 0.9, 0.65];

fn binary(positive: &[f64]) -> Vec<Vec<f64>> {
    vec![positive.iter().map(|p| 1.0 - p).collect(), positive.to_vec()]
}

#[test]
fn two_classes_as_scikit_learn() {
    let metrics = classification(2, &LABELS, &binary(&POSITIVE), 0.5);
    assert_metrics(
        &metrics,
        &[
            ("precision", 0.75),
            ("recall", 0.6),
            ("accuracy", 0.7),
            ("f1_score", 0.6666666666666666),
            ("log_loss", 0.5084555283919763),
            ("roc_auc", 0.8),
        ],
    );
    assert!(metrics.iter().map(|m| m.0.as_str()).eq(names(Task::Classification).iter().copied()));
    let metrics = classification(2, &LABELS, &binary(&POSITIVE), 0.3);
    assert_metrics(
        &metrics,
        &[("precision", 0.625), ("recall", 1.0), ("accuracy", 0.7), ("f1_score", 0.7692307692307693)],
    );
}

#[test]
fn three_classes_as_scikit_learn() {
    let rows = [
        [0.7, 0.2, 0.1],
        [0.3, 0.4, 0.3],
        [0.1, 0.2, 0.7],
        [0.5, 0.3, 0.2],
        [0.2, 0.5, 0.3],
        [0.4, 0.4, 0.2],
        [0.25, 0.5, 0.25],
        [0.1, 0.6, 0.3],
    ];
    let columns: Vec<Vec<f64>> = (0..3).map(|k| rows.iter().map(|row| row[k]).collect()).collect();
    assert_eq!(decide(&columns, 0.5), [0, 1, 2, 0, 1, 0, 1, 1]);
    let metrics = classification(3, &[0, 1, 2, 2, 1, 0, 2, 1], &columns, 0.5);
    assert_metrics(
        &metrics,
        &[
            ("precision", 0.8055555555555555),
            ("recall", 0.7777777777777778),
            ("accuracy", 0.75),
            ("f1_score", 0.719047619047619),
            ("log_loss", 0.8432045536882128),
            ("roc_auc", 0.7833333333333333),
        ],
    );
}

#[test]
fn numbers_as_scikit_learn() {
    let metrics = regression(&[3.0, -0.5, 2.0, 7.0, 4.25], &[2.5, 0.0, 2.0, 8.0, 5.0]);
    assert_metrics(
        &metrics,
        &[
            ("mean_absolute_error", 0.55),
            ("mean_squared_error", 0.4125),
            ("mean_squared_log_error", 0.10599742460782462),
            ("median_absolute_error", 0.5),
            ("r2_score", 0.9328175895765473),
            ("explained_variance", 0.9527687296416938),
        ],
    );
    assert!(metrics.iter().map(|m| m.0.as_str()).eq(names(Task::Regression).iter().copied()));
}

#[test]
fn clusters_as_scikit_learn() {
    let rows = [
        [0.0, 0.0],
        [0.0, 2.0],
        [2.0, 0.0],
        [2.0, 2.0],
        [10.0, 10.0],
        [10.0, 12.0],
        [12.0, 10.0],
        [12.0, 12.0],
        [20.0, 0.0],
        [20.0, 4.0],
    ];
    let centers = [1.0, 1.0, 11.0, 11.0, 20.0, 2.0];
    let distances: Vec<Vec<f64>> = centers
        .chunks(2)
        .map(|c| rows.iter().map(|r| (r[0] - c[0]) * (r[0] - c[0]) + (r[1] - c[1]) * (r[1] - c[1])).collect())
        .collect();
    let (assigned, squared): (Vec<u32>, Vec<f64>) = nearest(&distances).into_iter().unzip();
    assert_eq!(assigned, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
    let metrics = clustering(&centers, 2, &assigned, &squared);
    assert_metrics(&metrics, &[("davies_bouldin_index", 0.24549730091652555), ("mean_squared_distance", 2.4)]);
}

#[test]
fn what_the_rows_do_not_define_is_none() {
    assert!(classification(2, &[], &binary(&[]), 0.5).iter().all(|m| m.1.is_none()));
    assert!(regression(&[], &[]).iter().all(|m| m.1.is_none()));
    assert!(clustering(&[0.0, 1.0], 1, &[], &[]).iter().all(|m| m.1.is_none()));

    let one_class = classification(2, &[1, 1], &binary(&[0.9, 0.2]), 0.5);
    assert_eq!(get(&one_class, "roc_auc"), None);
    assert_eq!(get(&one_class, "recall"), Some(0.5));
    let nothing_found = classification(2, &[1, 0], &binary(&[0.1, 0.2]), 0.5);
    assert_eq!((get(&nothing_found, "precision"), get(&nothing_found, "f1_score")), (Some(0.0), Some(0.0)));
    let sure_and_wrong = classification(2, &[1], &binary(&[0.0]), 0.5);
    assert_metrics(&sure_and_wrong, &[("log_loss", 52.0 * std::f64::consts::LN_2)]);

    let constant = regression(&[2.0, 2.0], &[2.0, 3.0]);
    assert_eq!((get(&constant, "r2_score"), get(&constant, "mean_squared_error")), (None, Some(0.5)));
    assert_eq!(get(&regression(&[-1.0, 2.0], &[0.0, 0.0]), "mean_squared_log_error"), None);
    assert_eq!(get(&regression(&[0.0, 2.0], &[0.0, -1.5]), "mean_squared_log_error"), None);
    assert_eq!(get(&regression(&[1e308], &[-1e308]), "mean_squared_error"), None);

    let one_cluster = clustering(&[0.0, 5.0], 1, &[0, 0], &[1.0, 9.0]);
    assert_eq!(get(&one_cluster, "davies_bouldin_index"), None);
    assert_eq!(get(&one_cluster, "mean_squared_distance"), Some(5.0));
}

#[test]
fn probabilities_do_not_overflow() {
    let linear = Kernel::Linear { loss: crate::fold::Loss::Logistic, intercept: 0.0, weights: vec![] };
    let found = probabilities(&linear, &[vec![0.0, 1000.0, -1000.0]]);
    assert_eq!((&found[0][..1], &found[1][..2]), (&[0.5][..], &[0.5, 1.0][..]));
    assert!(found[0][2] == 1.0 && found[0][1] < 1e-300 && found[1][2] < 1e-300);
    let softmax = Kernel::Softmax { intercepts: vec![0.0; 3], weights: vec![] };
    let found = probabilities(&softmax, &[vec![0.0, 1e6], vec![0.0, 1e6], vec![0.0, -1e6]]);
    assert!(found[0][1] == 0.5 && found[1][1] == 0.5 && found[2][1] < 1e-300);
    assert!((found[2][0] - 1.0 / 3.0).abs() < 1e-15);
}

#[test]
fn gathered_rows_are_scored_rows_with_a_weight() {
    let kernel = Kernel::Linear { loss: crate::fold::Loss::Squared, intercept: 0.0, weights: vec![1.0] };
    let gathered = [(7, vec![3.0, 1.0, 2.5]), (1, vec![-0.5, 2.0, 0.0])];
    assert_eq!(of_gathered(&kernel, 0, &gathered, 0.5), regression(&[3.0, -0.5], &[2.5, 0.0]));
    let centroids = Kernel::Centroids { shift: vec![0.0], scale: vec![1.0], centers: vec![0.0, 4.0] };
    let gathered = [(7, vec![0.0, 1.0, 0.0, 1.0]), (1, vec![0.0, 1.0, 1.0, 4.0])];
    assert_eq!(of_gathered(&centroids, 0, &gathered, 0.5), clustering(&[0.0, 4.0], 1, &[0, 1], &[1.0, 4.0]));
}

type Row = (f64, f64, f64);

/// Metrics of every task over pseudo-random rows, as bits.
fn all_bits(rows: &[Row]) -> Vec<Option<u64>> {
    let flat = |f: fn(&Row) -> Vec<f64>| rows.iter().flat_map(f).collect::<Vec<_>>();
    let linear = Kernel::Linear { loss: crate::fold::Loss::Squared, intercept: 0.0, weights: vec![] };
    let softmax = Kernel::Softmax { intercepts: vec![0.0; 3], weights: vec![] };
    let centroids = Kernel::Centroids { shift: vec![0.0], scale: vec![1.0], centers: vec![0.0, 4.0, 9.0] };
    [
        of_rows(&linear, 0, &flat(|r| vec![r.0, r.1 + r.2]), 0.5),
        of_rows(&linear, 2, &flat(|r| vec![f64::from(u8::from(r.0 > 0.0)), r.1.round() / 10.0]), 0.5),
        of_rows(&softmax, 3, &flat(|r| vec![r.0.abs() % 3.0, r.1, r.2, r.0]), 0.5),
        of_rows(&centroids, 0, &flat(|r| vec![r.0.abs() % 3.0, r.1.abs()]), 0.5),
    ]
    .into_iter()
    .flatten()
    .map(|(_, value)| value.map(f64::to_bits))
    .collect()
}

#[test]
fn the_order_of_rows_does_not_matter() {
    use crate::fold::{mix, uniform};
    for case in 0..200_u64 {
        let draw = |row: u32, salt: u64, scale: f64| (uniform(mix(row, case * 8 + salt)) - 0.5) * scale;
        let rows: Vec<Row> =
            (0..1 + (case as u32) * 2).map(|i| (draw(i, 0, 2e3), draw(i, 1, 100.0), draw(i, 2, 1e-3))).collect();
        let mut permuted: Vec<_> = rows.iter().copied().zip(0_u32..).collect();
        permuted.sort_by_key(|(_, row)| mix(*row, !case));
        let permuted: Vec<_> = permuted.into_iter().map(|(row, _)| row).collect();
        assert_eq!(all_bits(&rows), all_bits(&permuted), "case {case}");
    }
}
