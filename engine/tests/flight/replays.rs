//! The calls of clients that no package registry here has, as their sources make them: JDBC (DBeaver, Tableau,
//! IntelliJ) and Grafana. They fail on answers that Flight SQL allows, so each answer is looked at.

use arrow_flight::sql::{ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult};
use arrow_flight::sql::{
    Any, CommandGetCrossReference, CommandGetExportedKeys, CommandGetImportedKeys, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, DoPutPreparedStatementResult, DoPutUpdateResult, SqlInfo,
};
use arrow_flight::{IpcMessage, SchemaAsIpc};
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::ipc::writer::IpcWriteOptions;

use super::*;

/// A statement as the JDBC driver prepares it: the type of the call that runs it follows from the columns.
struct Jdbc {
    handle: bytes::Bytes,
    columns: Schema,
    parameters: Schema,
}

async fn prepare(client: &mut Client, sql: &str) -> Jdbc {
    let request = ActionCreatePreparedStatementRequest { query: sql.into(), transaction_id: None };
    let action = Action::new("CreatePreparedStatement", request.as_any().encode_to_vec());
    let answer = client.do_action(action).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let any = Any::decode(&*answer[0].body).unwrap();
    let result: ActionCreatePreparedStatementResult = any.unpack().unwrap().unwrap();
    let schema = |bytes: &bytes::Bytes| Schema::try_from(IpcMessage(bytes.clone())).unwrap();
    Jdbc {
        columns: schema(&result.dataset_schema),
        parameters: schema(&result.parameter_schema),
        handle: result.prepared_statement_handle,
    }
}

impl Jdbc {
    /// What `setLong` and `execute` do, with one value for each parameter.
    async fn execute(&self, client: &mut Client, values: &[i64]) -> Result<Vec<RecordBatch>, i64> {
        assert_eq!(self.parameters.fields().len(), values.len(), "the driver counts parameters by this schema");
        let handle = self.handle.clone();
        let command = match self.columns.fields().is_empty() {
            true => CommandPreparedStatementUpdate { prepared_statement_handle: handle }.as_any(),
            false => CommandPreparedStatementQuery { prepared_statement_handle: handle }.as_any(),
        };
        let descriptor = FlightDescriptor::new_cmd(command.encode_to_vec());
        if self.columns.fields().is_empty() {
            let answer = put(client, &descriptor, values).await;
            return Err(DoPutUpdateResult::decode(answer).unwrap().record_count);
        }
        if !values.is_empty() {
            let answer = put(client, &descriptor, values).await;
            let bound = DoPutPreparedStatementResult::decode(answer).unwrap();
            assert_eq!(bound.prepared_statement_handle.unwrap(), self.handle);
        }
        let info = client.inner_mut().get_flight_info(descriptor).await.unwrap().into_inner();
        assert!(info.endpoint.iter().all(|endpoint| endpoint.location.is_empty()), "rows come over this connection");
        Ok(fetch(client, &info).await)
    }
}

/// Sends a row of values, as the driver does even where there is none.
async fn put(client: &mut Client, descriptor: &FlightDescriptor, values: &[i64]) -> bytes::Bytes {
    let names: Vec<String> = (1..=values.len()).map(|i| format!("${i}")).collect();
    let columns: Vec<[Option<i64>; 1]> = values.iter().map(|value| [Some(*value)]).collect();
    let named: Vec<_> = names.iter().map(String::as_str).zip(columns.iter().map(|c| c.as_slice())).collect();
    let messages: Vec<FlightData> = match values.is_empty() {
        true => {
            let (empty, options) = (Schema::empty(), IpcWriteOptions::default());
            vec![FlightData::from(SchemaAsIpc::new(&empty, &options))]
        }
        false => {
            let rows = futures::stream::iter([Ok(ints(&named))]);
            let encoder = arrow_flight::encode::FlightDataEncoderBuilder::new().build(rows);
            encoder.try_collect().await.unwrap()
        }
    };
    let mut messages = messages;
    messages[0].flight_descriptor = Some(descriptor.clone());
    let mut answer = client.inner_mut().do_put(futures::stream::iter(messages)).await.unwrap().into_inner();
    answer.message().await.unwrap().unwrap().app_metadata
}

#[tokio::test(flavor = "multi_thread")]
async fn jdbc() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // DatabaseMetaData unboxes every code, and fails on one that is missing.
    let info = client.get_sql_info(vec![]).await.unwrap();
    assert_eq!(fetch(&mut client, &info).await[0].num_rows(), 91);
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::SqlIdentifierQuoteChar]).await.unwrap();
    assert_eq!(fetch(&mut client, &info).await[0].num_rows(), 2);

    let create = prepare(&mut client, "CREATE TABLE t (a BIGINT, b BIGINT)").await;
    assert_eq!(create.execute(&mut client, &[]).await, Err(0));
    let insert = prepare(&mut client, "INSERT INTO t VALUES (?, ?)").await;
    for row in [[1, 2], [3, 4]] {
        assert_eq!(insert.execute(&mut client, &row).await, Err(1));
    }
    let select = prepare(&mut client, "SELECT b FROM t WHERE a = ?").await;
    assert_eq!(select.parameters.field(0).data_type(), &DataType::Int64);
    assert_eq!(values(&select.execute(&mut client, &[3]).await.unwrap()), [4]);
    assert_eq!(values(&select.execute(&mut client, &[1]).await.unwrap()), [2], "a statement is executed many times");

    let sql = "TRAIN MODEL m USING linear_regression PREDICT y AS \
        SELECT value AS x, 2 * value AS y FROM range(0, 50) WHERE value > ?";
    let train = prepare(&mut client, sql).await;
    assert_eq!(train.parameters.field(0).data_type(), &DataType::Int64);
    assert!(!train.execute(&mut client, &[5]).await.unwrap().is_empty());
    let shown = query(&mut client, "SHOW CREATE MODEL m").await;
    let shown = shown[0].column(1).as_string::<i32>().value(0);
    assert!(shown.ends_with("WHERE value > 5"), "{shown}");

    // The tree of a database browser.
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(fetch(&mut client, &info).await[0].num_rows(), 1);
    let schemas = CommandGetDbSchemas { catalog: Some("sinew".into()), db_schema_filter_pattern: Some("%".into()) };
    let info = client.get_db_schemas(schemas).await.unwrap();
    assert_eq!(fetch(&mut client, &info).await[0].num_rows(), 2);
    let tables = CommandGetTables {
        catalog: Some("sinew".into()),
        db_schema_filter_pattern: Some("public".into()),
        table_name_filter_pattern: Some("%".into()),
        table_types: vec!["TABLE".into(), "VIEW".into()],
        include_schema: true,
    };
    let info = client.get_tables(tables).await.unwrap();
    let found = fetch(&mut client, &info).await;
    let columns = Schema::try_from(IpcMessage(found[0].column(4).as_binary::<i32>().value(0).to_vec().into())).unwrap();
    assert_eq!(columns.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let table = || Some("t".to_string());
    let keys = [
        CommandGetPrimaryKeys { table: "t".into(), ..Default::default() }.as_any(),
        CommandGetExportedKeys { table: "t".into(), ..Default::default() }.as_any(),
        CommandGetImportedKeys { table: "t".into(), ..Default::default() }.as_any(),
        CommandGetCrossReference { pk_table: table().unwrap(), fk_table: table().unwrap(), ..Default::default() }
            .as_any(),
    ];
    for command in keys {
        let descriptor = FlightDescriptor::new_cmd(command.encode_to_vec());
        let info = client.inner_mut().get_flight_info(descriptor).await.unwrap().into_inner();
        assert!(fetch(&mut client, &info).await.iter().all(|batch| batch.num_rows() == 0));
    }
    client.do_action(Action::new("CloseSession", "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn grafana() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // The health check, and what the query builder asks for.
    assert_eq!(integer(&query(&mut client, "select 1").await), 1);
    let create = "CREATE VIEW cpu AS SELECT to_timestamp_seconds(1700000000 + value) AS time, value AS usage \
        FROM range(0, 120)";
    client.execute_update(create.into(), None).await.unwrap();
    let info = client.get_sql_info(vec![]).await.unwrap();
    assert_eq!(fetch(&mut client, &info).await[0].num_rows(), 91);
    let tables = CommandGetTables {
        table_types: vec!["BASE TABLE".into(), "table".into(), "VIEW".into()],
        include_schema: false,
        ..CommandGetTables::default()
    };
    let info = client.get_tables(tables).await.unwrap();
    let names: Vec<_> = fetch(&mut client, &info)
        .await
        .iter()
        .flat_map(|b| b.column(2).as_string::<i32>().iter().flatten().map(String::from).collect::<Vec<_>>())
        .collect();
    assert!(names.contains(&"cpu".to_string()), "{names:?}");
    // $__timeFilter, $__dateBin and $__interval as the plugin expands them.
    let panel = "SELECT date_bin(interval '60 second', time, timestamp '1970-01-01T00:00:00Z') AS bin, \
        avg(usage) AS usage, 1 AS one FROM cpu \
        WHERE time >= '2023-11-14T22:13:20Z' AND time <= '2023-11-14T22:15:20Z' GROUP BY 1 ORDER BY 1";
    let rows = query(&mut client, panel).await;
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    assert!(matches!(rows[0].column(0).data_type(), DataType::Timestamp(..)), "a time axis needs times");
}
