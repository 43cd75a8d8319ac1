"""ADBC's Flight SQL driver, and pandas and polars, which stand on it."""

import os

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pandas
import polars
import pyarrow
import pytest

POINTS = "SELECT value AS x, 2 * value AS y FROM range(0, 50)"


def rows(cursor, sql, parameters=None):
    cursor.execute(sql, parameters)
    return cursor.fetchall()


def test_select(cursor):
    assert rows(cursor, "SELECT 1 AS a, 'x' AS b, NULL AS c") == [(1, "x", None)]
    assert [column[0] for column in cursor.description] == ["a", "b", "c"]
    assert rows(cursor, "SELECT 1 AS a WHERE false") == []
    cursor.execute("SELECT arrow_cast('x', 'Dictionary(Int32, Utf8)') AS d, max('y') AS m")
    assert cursor.fetch_arrow_table().schema.types == [pyarrow.string(), pyarrow.string()]
    assert len(rows(cursor, "SELECT value FROM range(0, 100000)")) == 100_000


def test_training_runs_without_a_fetch(cursor):
    cursor.execute(f"TRAIN MODEL unfetched USING linear_regression PREDICT y AS {POINTS}")
    assert [row[:2] for row in rows(cursor, "SHOW MODELS LIKE 'unfetched'")] == [("unfetched", 1)]
    cursor.execute(f"SELECT predicted_y FROM ML.PREDICT(MODEL unfetched, ({POINTS})) WHERE x = 21")
    assert abs(cursor.fetchone()[0] - 42) < 1e-6
    report = f"TRAIN MODEL unfetched USING linear_regression PREDICT y AS {POINTS}"
    cursor.execute(report)
    assert cursor.fetch_arrow_table()["version"].to_pylist()[-1] == 2


def test_training_is_polled(cursor):
    cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
    partitions = []
    while True:
        found, _ = cursor.adbc_execute_partitions(f"TRAIN MODEL polled USING linear_regression PREDICT y AS {POINTS}")
        if not found:
            break
        partitions += found
    assert len(partitions) == 1
    cursor.adbc_read_partition(partitions[0])
    assert cursor.fetch_arrow_table()["version"].to_pylist()[-1] == 1


def test_parameters(cursor):
    assert rows(cursor, "SELECT ? + 1 AS a, ? AS b", (41, "x")) == [(42, "x")]
    assert rows(cursor, "SELECT value FROM range(0, 9) WHERE value > $2 AND value < $1", (6, 3)) == [(4,), (5,)]
    cursor.adbc_ingest("numbers", pyarrow.table({"n": [1], "t": ["one"]}), mode="replace")
    cursor.executemany("INSERT INTO numbers VALUES (?, ?)", [(2, "two"), (3, None)])
    assert cursor.rowcount == 2
    assert rows(cursor, "SELECT * FROM numbers ORDER BY n") == [(1, "one"), (2, "two"), (3, None)]


def test_errors_keep_their_codes(cursor):
    for sql, code in [
        ("SELECT nope", "SINEW-3002"),
        ("SELEC 1", "SINEW-1001"),
        ("SELECT * FROM nowhere", "SINEW-3002"),
        ("DROP MODEL none", "SINEW-3102"),
        ("SELECT 1; SELECT 2", "SINEW-3304"),
    ]:
        with pytest.raises(adbc_driver_manager.Error, match=code):
            cursor.execute(sql)
    assert rows(cursor, "SELECT 1") == [(1,)]


def test_catalog(connection, cursor):
    cursor.execute("CREATE VIEW seen AS SELECT 1 AS n, 'x' AS t")
    info = connection.adbc_get_info()
    assert (info["vendor_name"], bool(info["vendor_version"])) == ("Sinew", True)
    assert connection.adbc_get_table_types() == ["TABLE", "VIEW"]
    schema = connection.adbc_get_table_schema("seen")
    assert (schema.names, schema.types) == (["n", "t"], [pyarrow.int64(), pyarrow.string()])
    objects = connection.adbc_get_objects(depth="all", table_name_filter="seen").read_all().to_pylist()
    schemas = {s["db_schema_name"]: s["db_schema_tables"] for c in objects for s in c["catalog_db_schemas"]}
    assert [table["table_name"] for table in schemas["public"]] == ["seen"]
    assert (connection.adbc_current_catalog, connection.adbc_current_db_schema) == ("sinew", "public")
    connection.adbc_current_db_schema = "information_schema"
    assert rows(cursor, "SELECT count(*) > 0 FROM tables") == [(True,)]


def test_ingest(uri, cursor):
    table = pyarrow.table({"a": [1, 2, None], "b": ["x", "y", None]})
    for mode, total in [("create", 3), ("append", 6), ("create_append", 9), ("replace", 3)]:
        assert cursor.adbc_ingest("kept", table, mode=mode) == 3
        assert rows(cursor, "SELECT count(*), sum(a) FROM kept") == [(total, total)]
    with pytest.raises(adbc_driver_manager.Error, match="SINEW-3309"):
        cursor.adbc_ingest("kept", table, mode="create")
    with pytest.raises(adbc_driver_manager.Error, match="SINEW-3310"):
        cursor.adbc_ingest("missing", table, mode="append")
    assert cursor.adbc_ingest("scratch", table, mode="create", temporary=True) == 3
    with flightsql.connect(uri, autocommit=True) as other, other.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error, match="not found"):
            cursor.execute("SELECT * FROM scratch")


def test_sessions_are_apart(uri, connection):
    with flightsql.connect(uri, autocommit=True) as other:
        with connection.cursor() as mine, other.cursor() as theirs:
            mine.execute("CREATE VIEW mine AS SELECT 1 AS n")
            assert rows(mine, "SELECT * FROM mine") == [(1,)]
            with pytest.raises(adbc_driver_manager.Error, match="not found"):
                theirs.execute("SELECT * FROM mine")


def test_cookies_keep_a_session(uri):
    options = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    with flightsql.connect(uri, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE VIEW kept_view AS SELECT 1 AS n")
        assert rows(cursor, "SELECT * FROM kept_view") == [(1,)]


def test_parameters_of_a_training(cursor):
    train = (
        "TRAIN MODEL given USING logistic_regression PREDICT c OPTIONS (reg_param = ?) AS "
        "SELECT value AS x, value > ? AS c FROM range(0, 100) WHERE value <> ?"
    )
    cursor.execute(train, (0.25, 50, 7))
    assert cursor.fetch_arrow_table()["rows"].to_pylist()[0] == 99
    ((_, statement),) = rows(cursor, "SHOW CREATE MODEL given")
    assert "reg_param = 0.25" in statement and "value <> 7" in statement
    cursor.execute("RETRAIN MODEL given")
    assert cursor.fetch_arrow_table()["version"].to_pylist()[-1] == 2
    with pytest.raises(adbc_driver_manager.Error, match="SINEW-"):
        cursor.execute(train, ("much", 50, 7))


def test_low_level(uri):
    with adbc_driver_flightsql.connect(uri) as database, adbc_driver_manager.AdbcConnection(database) as connection:
        with adbc_driver_manager.AdbcStatement(connection) as statement:
            statement.set_sql_query("SELECT value AS n FROM range(0, 3)")
            stream, _ = statement.execute_query()
            assert pyarrow.RecordBatchReader.from_stream(stream).read_all()["n"].to_pylist() == [0, 1, 2]
            statement.set_sql_query("CREATE TABLE low_level AS SELECT value AS n FROM range(0, 3)")
            statement.execute_update()
            statement.set_sql_query("INSERT INTO low_level VALUES (7), (8)")
            assert statement.execute_update() == 2
            statement.set_options(**{"adbc.statement.exec.incremental": "true"})
            statement.set_sql_query(f"TRAIN MODEL low_level USING linear_regression PREDICT y AS {POINTS}")
            partitions, _, _ = statement.execute_partitions()
            while True:
                more, _, _ = statement.execute_partitions()
                if not more:
                    break
                partitions += more
            assert len(partitions) == 1


def test_pandas(connection):
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert frame.to_sql("from_pandas", connection, index=False, if_exists="replace") == 2
    assert pandas.read_sql("SELECT sum(a) AS s FROM from_pandas", connection)["s"].tolist() == [3]


def test_polars(connection):
    frame = polars.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert frame.write_database("from_polars", connection, engine="adbc", if_table_exists="replace") == 2
    assert polars.read_database("SELECT * FROM from_polars ORDER BY a", connection).rows() == [(1, "x"), (2, None)]
    uri = os.environ["SINEW_URL"].replace("grpc://", "flightsql://") + "?transport=tcp"
    assert polars.read_database_uri("SELECT sum(a) AS s FROM from_polars", uri, engine="adbc")["s"].to_list() == [3]
