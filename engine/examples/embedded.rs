//! Sinew inside a Rust program: `cargo run --example embedded`, from the root of the repository.

use futures::StreamExt;
use sinew::{Session, SessionOptions};

#[tokio::main]
async fn main() -> sinew::Result<()> {
    // A warehouse that ends with the process; with_warehouse(..) names one that stays.
    let session = Session::embedded(SessionOptions::in_memory())?;

    session
        .sql(
            "CREATE EXTERNAL TABLE iris STORED AS CSV LOCATION 'examples/data/iris.csv';
             TRAIN MODEL flower USING logistic_regression PREDICT species OPTIONS (reg_param = 0.01) FROM iris",
        )
        .collect()
        .await?;

    // Statements start one after another; the rows of each come as Arrow batches.
    let mut statements = session.sql(
        "SELECT species, predicted_species, count(*) AS flowers
         FROM ML.PREDICT(MODEL flower, TABLE iris) GROUP BY ALL ORDER BY 1, 2",
    );
    while let Some(rows) = statements.next().await {
        let mut rows = rows?;
        while let Some(batch) = rows.next().await {
            println!("{}", datafusion::arrow::util::pretty::pretty_format_batches(&[batch?]).map_err(internal)?);
        }
    }
    Ok(())
}

fn internal(error: impl std::fmt::Display) -> sinew::SinewError {
    sinew::SinewError::Internal(error.to_string())
}
