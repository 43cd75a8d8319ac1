//! Every kernel, on every instruction set this machine has, over shapes, tiles, cuts and row orders:
//! the same bits everywhere, and the numbers of a plain loop.

use super::common::{Data, all_kernels, fold_for, naive, run, shapes};
use sinew_ml::fold::{Kernel, RoleSet, Sample};
use sinew_ml::kernels::{Cpu, Isa};

fn isas() -> Vec<Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available()).collect()
}

#[test]
fn every_isa_and_tile_gives_the_same_bits() {
    for shape in shapes() {
        let data = Data::random(&shape, 7);
        for (name, kernel) in all_kernels(&data) {
            let fold = fold_for(&data, kernel);
            let expected = run(&Cpu::with_isa(Isa::Portable).with_tile_rows(2048), &fold, &data.blocks(&[], false));
            for isa in isas() {
                for tile in [16, 48, 256, 1024] {
                    let found = run(&Cpu::with_isa(isa).with_tile_rows(tile), &fold, &data.blocks(&[], false));
                    assert!(found == expected, "{name} {isa} tile {tile} {shape:?}");
                }
                let found = run(&Cpu::with_isa(isa), &fold, &data.blocks(&[], false));
                assert!(found == expected, "{name} {isa} {shape:?}");
            }
        }
    }
}

#[test]
fn row_order_and_cuts_give_the_same_bits() {
    for shape in shapes() {
        let data = Data::random(&shape, 11);
        let shuffled = data.shuffled(3);
        for (name, kernel) in all_kernels(&data) {
            let fold = fold_for(&data, kernel);
            let expected = run(&Cpu::new(), &fold, &data.blocks(&[], false));
            for cuts in [&[][..], &[1], &[3, 17, 40], &[5, 6, 7, 100, 333, 1000]] {
                for sliced in [false, true] {
                    let found = run(&Cpu::new(), &fold, &data.blocks(cuts, sliced));
                    assert!(found == expected, "{name} {cuts:?} {shape:?}");
                    let found = run(&Cpu::new(), &fold, &shuffled.blocks(cuts, sliced));
                    assert!(found == expected, "{name} shuffled {cuts:?} {shape:?}");
                }
            }
        }
    }
}

#[test]
fn partials_merge_to_the_same_bits() {
    let data = Data::random(&shapes()[8], 5);
    for (name, kernel) in all_kernels(&data) {
        let fold = fold_for(&data, kernel);
        let expected = run(&Cpu::new(), &fold, &data.blocks(&[], false));
        let blocks = data.blocks(&[9, 300, 700], false);
        let mut parts: Vec<_> = blocks.iter().map(|b| run(&Cpu::new(), &fold, std::slice::from_ref(b))).collect();
        let mut merged = parts.pop().unwrap();
        while let Some(part) = parts.pop() {
            merged.merge(part).unwrap();
        }
        merged.gathered.settle();
        assert!(merged == expected, "{name}");
    }
}

#[test]
fn sums_are_those_of_a_plain_loop() {
    for shape in shapes() {
        let data = Data::random(&shape, 23);
        for (name, kernel) in all_kernels(&data) {
            for sample in [None, Some(Sample::fraction(0.3, 9))] {
                let mut fold = fold_for(&data, kernel.clone());
                fold.sample = sample;
                let found = run(&Cpu::new(), &fold, &data.blocks(&[50], false));
                let expected = naive(&fold, &data);
                assert_eq!((found.rows, found.eval_rows), (expected.rows, expected.eval_rows), "{name} {shape:?}");
                // Each term is rounded to its grid, and the plain loop rounds as it goes.
                let close = |what: String, found: f64, unit: f64, (value, size): (f64, f64)| {
                    let allowed = 1e-12 * size + unit * shape.rows as f64;
                    assert!((found - value).abs() <= allowed, "{name} {what}: {found} is not {value} {shape:?}");
                };
                for (i, pair) in expected.totals.iter().enumerate() {
                    close(format!("total {i}"), found.totals.value(i), found.totals.grid(i).unit(), *pair);
                }
                assert_eq!(found.sums.len(), expected.sums.len());
                for (i, pair) in expected.sums.iter().enumerate() {
                    close(format!("sum {i}"), found.sums.value(i), found.sums.grid(i).unit(), *pair);
                }
                assert_eq!(found.gathered.rows.len(), expected.gathered.len(), "{name}");
                for ((key, row), (k, r)) in found.gathered.rows.iter().zip(&expected.gathered) {
                    assert_eq!(key, k, "{name}");
                    assert_eq!(row.len(), r.len(), "{name}");
                    for (a, b) in row.iter().zip(r) {
                        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{name}: {row:?} is not {r:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn folds_of_disjoint_roles_add_up() {
    let data = Data::random(&shapes()[9], 31);
    for (name, kernel) in all_kernels(&data) {
        if matches!(kernel, Kernel::Candidates { .. } | Kernel::Scores { .. }) {
            continue;
        }
        let mut fold = fold_for(&data, kernel);
        fold.train = RoleSet(0b11);
        fold.eval = RoleSet::NONE;
        let both = run(&Cpu::new(), &fold, &data.blocks(&[], false));
        fold.train = RoleSet(0b01);
        let mut parts = run(&Cpu::new(), &fold, &data.blocks(&[], false));
        fold.train = RoleSet(0b10);
        parts.merge(run(&Cpu::new(), &fold, &data.blocks(&[], false))).unwrap();
        assert!(parts == both, "{name}");
    }
}
