//! Every operator of ours, and the functions that carry a model, survive the way to another process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionContext;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::physical_plan::DefaultPhysicalExtensionCodec;
use sinew_ml::columns::Columns;
use sinew_ml::device::{Device, Work};
use sinew_ml::exact::Grid;
use sinew_ml::family::Task;
use sinew_ml::fold::{Fold, Kernel, Layout, Loss, RoleSet, Sample};
use sinew_ml::operators::{
    FeatureCacheExec, GradientExec, MergeExec, Parcel, Pass, Placement, SinewPhysicalCodec, Stage, TrainExec,
};
use sinew_ml::prepare::Frozen;
use sinew_ml::split::{SplitRule, SplitSpec};
use sinew_ml::training::TrainSpec;
use sinew_ml::transform::{Encoding, FittedFeature, FittedLabel, FittedTransform, OnMissing};

fn rows() -> Arc<dyn ExecutionPlan> {
    let batch = RecordBatch::try_from_iter([
        ("x", Arc::new(Float64Array::from(vec![1.0, 2.0])) as ArrayRef),
        ("y", Arc::new(Int32Array::from(vec![0, 1])) as ArrayRef),
    ])
    .unwrap();
    MemorySourceConfig::try_new_exec(&[vec![batch.clone()]], batch.schema(), None).unwrap()
}

fn there_and_back(plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let codec = SinewPhysicalCodec::new(Arc::new(DefaultPhysicalExtensionCodec {}));
    let bytes = physical_plan_to_bytes_with_extension_codec(plan, &codec).unwrap();
    let context = SessionContext::new();
    physical_plan_from_bytes_with_extension_codec(&bytes, &context.task_ctx(), &codec).unwrap()
}

fn columns() -> Columns {
    Columns::assign(&rows().schema(), Task::Classification, Some("y"), None, &SplitSpec::None).unwrap()
}

#[test]
fn a_whole_training() {
    let spec = TrainSpec {
        model: "m".into(),
        run: "r".into(),
        family: "logistic_regression".into(),
        columns: columns(),
        ..TrainSpec::default()
    };
    let plan: Arc<dyn ExecutionPlan> = Arc::new(TrainExec::over(Arc::new(spec.clone()), rows(), 3, "cpu (avx2)"));
    let back = there_and_back(Arc::clone(&plan));
    assert_eq!(
        displayable(plan.as_ref()).indent(true).to_string(),
        displayable(back.as_ref()).indent(true).to_string()
    );
    assert_eq!(back.downcast_ref::<TrainExec>().unwrap().spec().as_ref(), &spec);
}

#[test]
fn a_step_with_its_parameters() {
    let awkward = [0.1 + 0.2, -1e-300, f64::MAX, 5e-324];
    let fold = Fold {
        kernel: Kernel::Linear { loss: Loss::Logistic, intercept: 1.0 / 3.0, weights: awkward.to_vec() },
        layout: Layout::new([None, Some(3)]),
        train: RoleSet::TRAIN,
        eval: RoleSet::EVAL,
        sample: Some(Sample::resident(0.3, 7)),
        weight_grid: Grid::covering(1.0).unwrap(),
        loss_grid: Grid::covering(1e9).unwrap(),
        grids: vec![Grid::covering(0.7).unwrap(); 5],
        around: None,
    };
    let frozen = Frozen::new(
        columns(),
        FittedTransform {
            features: vec![
                FittedFeature {
                    name: "x".into(),
                    data_type: "Float64".into(),
                    encoding: Encoding::Numeric { impute: 0.1 + 0.2 },
                },
                FittedFeature {
                    name: "kind \"of\" thing".into(),
                    data_type: "Utf8".into(),
                    encoding: Encoding::OneHot { categories: vec!["a".into(), "ü".into()], null: true },
                },
            ],
            label: Some(FittedLabel {
                name: "y".into(),
                data_type: "Int32".into(),
                classes: vec!["0".into(), "1".into()],
            }),
            on_missing: OnMissing::Skip,
        },
        SplitRule::Hash(Sample::fraction(0.2, 3)),
    );
    for stage in [
        Stage::Raw,
        Stage::Prepared(Parcel::Here(Arc::new(frozen.clone()))),
        Stage::Sharded(Parcel::Here(Arc::new(frozen.clone())), 8),
        Stage::Sampled(Parcel::Here(Arc::new(frozen)), Sample::resident(0.3, 7)),
    ] {
        let cache = FeatureCacheExec::new(rows(), "key".into(), stage.clone(), 2);
        let plan = Arc::new(GradientExec::new(Arc::new(cache), Parcel::Here(Arc::new(Pass::Fold(fold.clone())))));
        let back = there_and_back(plan);
        let back = back.downcast_ref::<GradientExec>().unwrap();
        assert_eq!(back.pass().here().unwrap().as_ref(), &Pass::Fold(fold.clone()));
        let cache = back.input().downcast_ref::<FeatureCacheExec>().unwrap();
        assert_eq!((cache.key(), cache.stage()), ("key", &stage));
    }
    let work = Work { rows: Some(1000), columns: 3, outputs: 2, passes: 30, effort: Some((12, 3)), results: 5 };
    let placement = Placement { device: Device::Named("H200".into()), work, unit_bytes: 4096 };
    let asked = GradientExec::new(rows(), Parcel::Here(Arc::new(Pass::Devices))).placed(placement.clone());
    let back = there_and_back(Arc::new(asked));
    assert_eq!(back.downcast_ref::<GradientExec>().unwrap().placement(), &placement);
    let gradient = GradientExec::new(
        Arc::new(FeatureCacheExec::new(rows(), "key".into(), Stage::Raw, 2)),
        Parcel::Here(Arc::new(Pass::Fold(fold))),
    );
    let merge: Arc<dyn ExecutionPlan> = Arc::new(MergeExec::over(gradient, 3).unwrap());
    let back = there_and_back(Arc::clone(&merge));
    let text = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(true).to_string();
    assert_eq!(text(&merge), text(&back));
    let profile = Arc::new(GradientExec::new(
        Arc::new(FeatureCacheExec::new(rows(), "key".into(), Stage::Raw, 1)),
        Parcel::Here(Arc::new(Pass::Profile(columns()))),
    ));
    let back = there_and_back(profile);
    let back = back.downcast_ref::<GradientExec>().unwrap();
    assert_eq!(back.pass().here().unwrap().as_ref(), &Pass::Profile(columns()));
}
