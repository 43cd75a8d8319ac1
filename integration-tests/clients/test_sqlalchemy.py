"""SQLAlchemy 2 through sqlalchemy-adbc, and pandas on top of it."""

import pandas
import pytest
import sqlalchemy


@pytest.fixture
def engine(url):
    engine = sqlalchemy.create_engine(url.replace("grpc://", "adbc+flightsql://") + "/?tls=false")
    yield engine
    engine.dispose()


def test_statements_and_parameters(engine):
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE OR REPLACE TABLE alchemy AS SELECT value AS n FROM range(0, 9)"))
        found = connection.execute(sqlalchemy.text("SELECT n FROM alchemy WHERE n > :least ORDER BY n"), {"least": 6})
        assert [row.n for row in found] == [7, 8]
        train = "TRAIN MODEL alchemy USING linear_regression PREDICT y AS SELECT n AS x, 3 * n AS y FROM alchemy"
        connection.execute(sqlalchemy.text(train))
        predict = "SELECT round(predicted_y) AS y FROM ML.PREDICT(MODEL alchemy, (SELECT 7 AS x))"
        assert connection.execute(sqlalchemy.text(predict)).scalar_one() == 21


def test_inspection(engine):
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE OR REPLACE TABLE inspected AS SELECT 1 AS n, 'x' AS t"))
        inspector = sqlalchemy.inspect(connection)
        assert "public" in inspector.get_schema_names()
        # get_table_names() looks for the type "table" in lower case, which Flight SQL does not have.
        assert inspector.has_table("inspected", schema="public")
        assert [column["name"] for column in inspector.get_columns("inspected", schema="public")] == ["n", "t"]


def test_pandas(engine):
    with engine.connect() as connection:
        frame = pandas.read_sql_query(sqlalchemy.text("SELECT value AS n FROM range(0, 3)"), connection)
    assert frame["n"].tolist() == [0, 1, 2]
