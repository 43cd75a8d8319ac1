"""ibis has no backend for Flight SQL; its expressions become SQL for DataFusion, which runs here."""

import ibis


def test_expressions_become_sql(connection):
    table = ibis.table({"g": "string", "x": "float64"}, name="from_ibis")
    with connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE from_ibis AS SELECT * FROM (VALUES ('a', 1.0), ('a', 3.0), ('b', 5.0)) v(g, x)")
        mean = table.filter(table.x > 0).group_by("g").agg(mean=table.x.mean()).order_by("g")
        cursor.execute(str(ibis.to_sql(mean, dialect="datafusion")))
        assert cursor.fetchall() == [("a", 2.0), ("b", 5.0)]
