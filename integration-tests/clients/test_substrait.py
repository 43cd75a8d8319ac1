"""Plans in Substrait: made by DataFusion in this process, sent by ADBC and by hand, run by the server."""

import datafusion
import pyarrow
import pytest
from datafusion import col, substrait
from datafusion import functions as f


@pytest.fixture
def context(connection):
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE TABLE trips AS SELECT value AS id, value % 3 AS zone, value * 0.5 AS tip FROM range(0, 99)"
        )
    context = datafusion.SessionContext()
    schema = pyarrow.schema([("id", pyarrow.int64()), ("zone", pyarrow.int64()), ("tip", pyarrow.float64())])
    context.register_record_batches("trips", [[pyarrow.RecordBatch.from_pylist([], schema=schema)]])
    return context


def encoded(context, frame):
    return substrait.Producer.to_substrait_plan(frame.optimized_logical_plan(), context).encode()


def test_a_plan_runs(context, connection):
    frame = context.table("trips").filter(col("tip") > 1.0).aggregate([col("zone")], [f.sum(col("tip")).alias("tips")])
    with connection.cursor() as cursor:
        for _ in range(2):
            cursor.execute(encoded(context, frame))
            table = cursor.fetch_arrow_table()
            assert table.column_names == ["zone", "tips"]
            assert sum(table["tips"].to_pylist()) == sum(i * 0.5 for i in range(3, 99))


def test_what_is_no_plan_is_told(context, connection):
    missing = pyarrow.schema([("id", pyarrow.int64())])
    context.register_record_batches("missing", [[pyarrow.RecordBatch.from_pylist([], schema=missing)]])
    with connection.cursor() as cursor:
        with pytest.raises(Exception, match="SINEW-3304"):
            cursor.execute(b"no plan at all")
        with pytest.raises(Exception, match="SINEW-3002.*missing.*not found"):
            cursor.execute(encoded(context, context.table("missing")))
