//! DataFrames and models, in this process or on a server: `cargo run --example dataframe [grpc://127.0.0.1:50051]`,
//! from the root of the repository.

use datafusion::functions_aggregate::expr_fn::avg;
use datafusion::prelude::{col, lit};
use futures::StreamExt;
use sinew::frame::{Split, Trained};
use sinew::{Learn, Session, SessionOptions};

#[tokio::main]
async fn main() -> sinew::Result<()> {
    let session = match std::env::args().nth(1) {
        Some(url) => Session::connect(&url).await?,
        None => Session::embedded(SessionOptions::in_memory())?,
    };
    program(&session, "examples/data").await.map(drop)
}

/// The same for every session; `data` is a folder of the machine that runs the statements.
pub async fn program(session: &Session, data: &str) -> sinew::Result<Trained> {
    // DataFusion's verbs; nothing runs before rows are asked for.
    let patients = session.read(&format!("{data}/breast_cancer.csv")).await?.filter(col("mean_radius").gt(lit(7.0)))?;
    let radius = avg(col("mean_radius")).alias("mean_radius");
    patients.clone().aggregate(vec![col("diagnosis")], vec![radius])?.sort_by(vec![col("diagnosis")])?.show().await?;

    // A training is a stream of its iterations; dropping it would cancel it. `.await` in place of `.start()` runs it.
    let train = patients.clone().train("tumour").using("logistic_regression").predict("diagnosis");
    let train = train.option("reg_param", 0.01).split(&Split::Random { fraction: 0.2, seed: Some(7) });
    let mut training = train.start().await?;
    if let Some(first) = training.next().await {
        println!("loss at first: {:.4}", first?.loss);
    }
    let trained = training.finish().await?;
    let accuracy = trained.metrics.get("accuracy").copied().unwrap_or_default();
    println!("version {}: {} iterations, accuracy {accuracy:.3}", trained.version, trained.iterations.len());

    // A prediction is a DataFrame again.
    let scored = patients.clone().predict("tumour").await?;
    let wrong = scored.filter(col("diagnosis").not_eq(col("predicted_diagnosis")))?.count().await?;
    println!("{wrong} of {} rows are predicted wrong", patients.clone().count().await?);
    println!("accuracy on all rows: {:.3}", patients.evaluate("tumour").await?["accuracy"]);
    Ok(trained)
}
