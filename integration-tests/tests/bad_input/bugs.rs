//! A function with a bug ends its statement, not the session.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use sinew_integration_tests::Engine;

#[tokio::test(flavor = "multi_thread")]
async fn panics_are_errors() {
    let engine = Engine::new(2);
    let broken = Arc::new(|_: &[ColumnarValue]| panic!("a bug"));
    let broken = create_udf("broken", vec![DataType::Int64], DataType::Int64, Volatility::Volatile, broken);
    engine.session.context().register_udf(broken);
    let rows = "SELECT broken(value) AS x, value AS y FROM generate_series(1, 1000) t(value)";
    let train = format!("TRAIN MODEL m USING linear_regression PREDICT y AS {rows}");
    for sql in [rows, train.as_str()] {
        let error = engine.error(sql).await;
        assert!(error.starts_with("SINEW-3") && error.contains("a bug"), "{error}");
    }
    assert_eq!(engine.numbers("SELECT 42").await, [42.0]);
}
