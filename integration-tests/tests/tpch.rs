//! The 22 queries of TPC-H: a cluster answers as one process does.
//!
//! The queries are those of the specification with its validation parameters; where an order leaves ties, a key
//! is added to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::parquet::arrow::ArrowWriter;
use sinew_integration_tests::{Engine, Topology, root};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow,
};

/// 150,000 orders with 600,000 lines.
const SCALE: f64 = 0.1;
/// Files of the large tables.
const FILES: i32 = 3;

/// Writes the rows of one part of a table.
fn write(folder: &Path, table: &str, part: i32, rows: impl Iterator<Item = Result<RecordBatch, ArrowError>>) {
    let folder = folder.join(table);
    std::fs::create_dir_all(&folder).unwrap();
    let file = File::create(folder.join(format!("{part}.parquet"))).unwrap();
    let mut rows = rows.map(Result::unwrap).peekable();
    let mut writer = ArrowWriter::try_new(file, rows.peek().unwrap().schema(), None).unwrap();
    for batch in rows {
        writer.write(&batch).unwrap();
    }
    writer.close().unwrap();
}

/// Writes all tables.
fn tables(folder: &Path) {
    for part in 1..=FILES {
        let lines = LineItemGenerator::new(SCALE, part, FILES);
        write(folder, "lineitem", part, LineItemArrow::new(lines));
        write(folder, "orders", part, OrderArrow::new(OrderGenerator::new(SCALE, part, FILES)));
        write(folder, "partsupp", part, PartSuppArrow::new(PartSuppGenerator::new(SCALE, part, FILES)));
    }
    write(folder, "customer", 1, CustomerArrow::new(CustomerGenerator::new(SCALE, 1, 1)));
    write(folder, "part", 1, PartArrow::new(PartGenerator::new(SCALE, 1, 1)));
    write(folder, "supplier", 1, SupplierArrow::new(SupplierGenerator::new(SCALE, 1, 1)));
    write(folder, "nation", 1, NationArrow::new(NationGenerator::new(SCALE, 1, 1)));
    write(folder, "region", 1, RegionArrow::new(RegionGenerator::new(SCALE, 1, 1)));
}

const TABLES: [&str; 8] = ["lineitem", "orders", "partsupp", "customer", "part", "supplier", "nation", "region"];

/// The tables as external ones.
async fn define(engine: &Engine, folder: &Path) {
    for table in TABLES {
        let path = folder.join(table);
        engine.run(&format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{}/'", path.display())).await;
    }
}

/// A value, as a number where it is a floating-point one.
enum Value {
    Number(f64),
    Text(String),
}

fn values(batches: &[RecordBatch]) -> Vec<Vec<Value>> {
    let value = |column: &ArrayRef, row: usize| match column.data_type() {
        DataType::Float64 if column.is_valid(row) => Value::Number(column.as_primitive::<Float64Type>().value(row)),
        _ => {
            let options = FormatOptions::default().with_null("NULL");
            Value::Text(ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string())
        }
    };
    let rows = |batch: &RecordBatch| {
        let row = |row| batch.columns().iter().map(|column| value(column, row)).collect();
        (0..batch.num_rows()).map(row).collect::<Vec<_>>()
    };
    batches.iter().flat_map(rows).collect()
}

fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => (left - right).abs() <= 1e-9 * left.abs().max(right.abs()),
        (Value::Text(left), Value::Text(right)) => left == right,
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_answers_as_one_process() {
    let data = tempfile::tempdir().unwrap();
    tables(data.path());
    let alone = Engine::new(2);
    let together = Engine::on(Topology::Cluster(2), 2).await;
    define(&alone, data.path()).await;
    define(&together, data.path()).await;
    for query in 1..=22 {
        let file = root().join(format!("integration-tests/tpch/q{query:02}.sql"));
        let sql = std::fs::read_to_string(file).unwrap();
        let expected = values(&alone.run(&sql).await);
        let found = values(&together.run(&sql).await);
        assert!(!expected.is_empty(), "query {query} has rows");
        assert_eq!(expected.len(), found.len(), "query {query}");
        for (row, (expected, found)) in expected.iter().zip(&found).enumerate() {
            assert!(
                expected.len() == found.len() && expected.iter().zip(found).all(|(l, r)| same(l, r)),
                "query {query}, row {row}"
            );
        }
    }
}
