"""ADBC's Flight SQL driver, and what stands on it: SINEW_URL is a server with an empty warehouse."""

import os

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pandas
import polars
import pyarrow
import pytest

URI = os.environ["SINEW_URL"].replace("grpc://", "grpc+tcp://")
POINTS = "SELECT value AS x, 2 * value AS y FROM range(0, 50)"


@pytest.fixture
def connection():
    with flightsql.connect(URI, autocommit=True) as connection:
        yield connection


@pytest.fixture
def cursor(connection):
    with connection.cursor() as cursor:
        yield cursor


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


def test_ingest(cursor):
    table = pyarrow.table({"a": [1, 2, None], "b": ["x", "y", None]})
    for mode, total in [("create", 3), ("append", 6), ("create_append", 9), ("replace", 3)]:
        assert cursor.adbc_ingest("kept", table, mode=mode) == 3
        assert rows(cursor, "SELECT count(*), sum(a) FROM kept") == [(total, total)]
    with pytest.raises(adbc_driver_manager.Error, match="SINEW-3309"):
        cursor.adbc_ingest("kept", table, mode="create")
    with pytest.raises(adbc_driver_manager.Error, match="SINEW-3310"):
        cursor.adbc_ingest("missing", table, mode="append")
    assert cursor.adbc_ingest("scratch", table, mode="create", temporary=True) == 3
    with flightsql.connect(URI, autocommit=True) as other, other.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error, match="not found"):
            cursor.execute("SELECT * FROM scratch")


def test_sessions_are_apart(connection):
    with flightsql.connect(URI, autocommit=True) as other:
        with connection.cursor() as mine, other.cursor() as theirs:
            mine.execute("CREATE VIEW mine AS SELECT 1 AS n")
            assert rows(mine, "SELECT * FROM mine") == [(1,)]
            with pytest.raises(adbc_driver_manager.Error, match="not found"):
                theirs.execute("SELECT * FROM mine")


def test_cookies_keep_a_session():
    options = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    with flightsql.connect(URI, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE VIEW kept_view AS SELECT 1 AS n")
        assert rows(cursor, "SELECT * FROM kept_view") == [(1,)]


def test_pandas(connection):
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert frame.to_sql("from_pandas", connection, index=False, if_exists="replace") == 2
    assert pandas.read_sql("SELECT sum(a) AS s FROM from_pandas", connection)["s"].tolist() == [3]


def test_polars(connection):
    frame = polars.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert frame.write_database("from_polars", connection, engine="adbc", if_table_exists="replace") == 2
    assert polars.read_database("SELECT * FROM from_polars ORDER BY a", connection).rows() == [(1, "x"), (2, None)]
