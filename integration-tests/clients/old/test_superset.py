"""flightsql-dbapi with SQLAlchemy 1.4, as Superset uses it: it needs a Python of its own."""

import os
import sys

import flightsql.sqlalchemy  # noqa: F401  this is what registers the dialect
import pandas
import sqlalchemy

sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))
import snippets  # noqa: E402


def test_superset():
    engine = sqlalchemy.create_engine(f"datafusion+flightsql://{snippets.HOST}?insecure=True")
    with engine.connect() as connection:
        connection.execute("CREATE OR REPLACE TABLE superset AS SELECT value AS n, 'x' AS t FROM range(0, 9)")
        assert connection.execute("SELECT sum(n) FROM superset").fetchall() == [(36,)]
        inspector = sqlalchemy.inspect(connection)
        assert "public" in inspector.get_schema_names()
        assert "superset" in inspector.get_table_names("public")
        assert [column["name"] for column in inspector.get_columns("superset", "public")] == ["n", "t"]
        frame = pandas.read_sql_query("SELECT n FROM superset ORDER BY n LIMIT 2", connection)
        assert frame["n"].tolist() == [0, 1]


def test_the_manual_runs():
    found = list(snippets.sections("docs/clients.md", "python flightsql-dbapi"))
    assert found
    for _, blocks in found:
        snippets.run(blocks)
