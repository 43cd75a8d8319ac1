"""The package of `python/`."""

import copy
import gc
import io

import numpy
import pandas
import polars
import pyarrow
import pytest
import sinew
from datafusion import col, lit
from datafusion import functions as f


@pytest.fixture
def c(url):
    with sinew.connect(url) as connection:
        yield connection


@pytest.fixture
def patients(c, data):
    return c.table(f"{data}/breast_cancer.csv")


def test_statements(c):
    rows = c.sql("SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, NULL ORDER BY a")
    assert rows.to_arrow().to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert rows.to_pandas()["a"].tolist() == [1, 2] and rows.to_polars()["a"].to_list() == [1, 2]
    assert len(rows) == 2 and pyarrow.table(rows).num_rows == 2 and rows["a"][0].as_py() == 1
    assert "a  b" in repr(rows) and "<th>a</th>" in rows._repr_html_()
    assert c.sql("SELECT ? + 1 AS n", [41]).to_pylist() == [{"n": 42}]
    with pytest.raises(sinew.Error, match="SINEW-3002") as failed:
        c.sql("SELECT nope")
    assert failed.value.code == "SINEW-3002" and "gRPC" not in str(failed.value)
    with pytest.raises(sinew.Error) as failed:
        c.sql("SELECT nope + ?", [1])
    assert failed.value.code == "SINEW-3002"


def test_frames_run_on_the_server(c, patients):
    large = patients.filter(col("mean_radius") > lit(15.0))
    means = large.aggregate([col("diagnosis")], [f.avg(col("mean_radius")).alias("r"), f.count_star().alias("n")])
    assert isinstance(means, sinew.DataFrame)
    found = {row["diagnosis"]: row["n"] for row in means.to_pylist()}
    assert found["malignant"] > found["benign"] > 0 and sum(found.values()) == large.count()
    assert means.sort(col("n").sort(ascending=False)).to_pandas()["diagnosis"].tolist() == ["malignant", "benign"]
    assert means.to_polars().height == 2 and polars.DataFrame(means).height == 2
    assert sum(batch.num_rows for batch in patients.execute_stream()) == 569
    joined = patients.select(col("diagnosis").alias("d")).distinct().join(means, left_on="d", right_on="diagnosis")
    assert joined.count() == 2
    benign = c.query("SELECT 'benign' AS diagnosis")
    assert patients.join(benign, on="diagnosis", how="semi").count() == 357
    with pytest.raises(AttributeError, match="CREATE TABLE"):
        patients.write_parquet("/tmp/x.parquet")


def test_long_frames(c):
    frame = c.query("SELECT value AS n FROM range(0, 9)")
    for i in range(60):
        frame = frame.filter(col("n") > lit(-i)).with_column("m", col("n") + lit(i))
    assert frame.count() == 8
    total = col("n")
    for _ in range(300):
        total = total + lit(1)
    assert frame.select(total.alias("t")).sort(col("t")).to_pydict()["t"][0] == 301
    for _ in range(1000):
        total = total + lit(1)
    with pytest.raises(sinew.Error, match="SINEW-3307"):
        c.query("SELECT 1 AS n").select(total.alias("t")).count()


def test_frames_are_trained(c, patients, capsys):
    large = patients.filter(col("mean_radius") > lit(8.0))
    trained = c.train(
        large, model="py_tumour", family="logistic_regression", predict="diagnosis", split=0.2, reg_param=0.01, progress=True
    )
    assert trained.version == 1 and trained.iterations.num_rows > 1 and trained.metrics["accuracy"] > 0.9
    assert "py_tumour: iteration" in capsys.readouterr().err
    scored = c.predict(large, "py_tumour@1").filter(col("predicted_diagnosis") != col("diagnosis"))
    assert 0 < scored.count() < 60
    assert c.evaluate(large, "py_tumour")["accuracy"] > 0.9
    assert "py_tumour" in c.models()["name"].to_pylist()
    # What was trained on a DataFrame is recorded as SQL where that says the same.
    statement = c.sql("SHOW CREATE MODEL py_tumour").to_pylist()[0]["statement"]
    assert " AS SELECT " in statement and "breast_cancer.csv" in statement, statement
    c.sql("RETRAIN MODEL py_tumour")
    weights = c.sql(
        "SELECT v1.weight = v2.weight AS same FROM ML.WEIGHTS(MODEL py_tumour@1) v1 JOIN ML.WEIGHTS(MODEL py_tumour@2) v2 USING (processed_input)"
    )
    assert all(row["same"] for row in rows_of(weights))
    features = scored.select(col("mean_radius"), col("mean_texture"), col("diagnosis"))
    again = c.train(features, model="py_wrong", family="logistic_regression", predict="diagnosis", split="NONE")
    assert again.version == 1 and again.metrics == {}


def rows_of(rows):
    return rows.to_arrow().to_pylist()


def test_other_sources_are_trained(c):
    points = {"x": [float(i) for i in range(40)], "y": [2.0 * i for i in range(40)]}
    options = dict(model="py_line", family="linear_regression", predict="y", split="NONE", progress=False)
    for source in (pandas.DataFrame(points), polars.DataFrame(points), pyarrow.table(points), points):
        c.train(source, **options)
    c.ingest("py_points", points, mode="replace")
    c.train("py_points", **options)
    c.train("SELECT * FROM py_points WHERE x > 3", **options)
    assert c.sql("SHOW VERSIONS OF MODEL py_line").num_rows == 6
    assert round(c.predict({"x": [21.0]}, "py_line").to_pylist()[0]["predicted_y"], 6) == 42
    assert c.evaluate("py_points", "py_line")["r2_score"] > 0.999
    with pytest.raises(sinew.Error, match="SINEW"):
        c.train("py_points", model="m", family="linear_regresion", predict="y")


def test_values_of_numpy_are_options(c):
    points = {"x": [float(i) for i in range(40)], "y": [i % 2 for i in range(40)]}
    trained = c.train(
        points, model="py_numpy", family="logistic_regression", predict="y", split=numpy.float64(0.25),
        reg_param=numpy.float64(0.1), max_iter=numpy.int64(7), progress=False,
    )  # fmt: skip
    assert trained.version == 1
    statement = c.sql("SHOW CREATE MODEL py_numpy").to_pylist()[0]["statement"]
    assert "RANDOM 0.25" in statement and "= 0.1" in statement and "= 7" in statement, statement
    assert c.predict({"x": [1.0]}, "py_numpy", threshold=numpy.float32(0.5)).count() == 1
    for wrong in ({"reg_param": None}, {"reg_param": float("nan")}, {"split": numpy.float64("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            c.train(points, model="py_numpy", family="logistic_regression", predict="y", **wrong)
    with pytest.raises(ValueError, match="threshold"):
        c.predict(points, "py_numpy", threshold=float("inf"))


def frames_of(c):
    return [name for name in c.sql("SHOW TABLES")["table_name"].to_pylist() if name.startswith("dataframe_")]


def test_rows_that_were_sent_are_dropped(c):
    points = {"x": [float(i) for i in range(40)], "y": [2.0 * i for i in range(40)]}
    for _ in range(3):
        c.train(points, model="py_dropped", family="linear_regression", predict="y", split="NONE", progress=False)
        c.evaluate(points, "py_dropped")
    assert frames_of(c) == []
    scored = c.predict({"x": [21.0]}, "py_dropped")
    few = scored.filter(col("x") > lit(0.0))
    del scored
    gc.collect()
    assert len(frames_of(c)) == 1 and round(few.to_pylist()[0]["predicted_y"], 6) == 42
    joined = c.frame({"x": [21.0], "b": [1]}).join(few, on="x")
    del few
    gc.collect()
    assert len(frames_of(c)) == 2 and copy.copy(joined).count() == 1
    stream = joined.execute_stream()
    del joined
    gc.collect()
    assert frames_of(c) == [] and stream.read_all().num_rows == 1
    with pytest.raises(sinew.Error):
        c.train(points, model="py_dropped", family="nothing", predict="y")
    gc.collect()
    assert frames_of(c) == []


def test_rows_are_stored(c):
    table = pyarrow.table({"a": [1, 2, None], "b": ["x", "y", None]})
    assert c.ingest("py_kept", table, mode="replace") == 3
    with pytest.raises(sinew.Error, match="SINEW-3309"):
        c.ingest("py_kept", table)
    assert c.ingest("py_kept", pandas.DataFrame({"a": [7], "b": ["z"]}), mode="append") == 1
    assert c.sql("SELECT count(*) AS n, sum(a) AS s FROM py_kept").to_pylist() == [{"n": 4, "s": 10}]
    c.ingest("py_scratch", table, temporary=True)
    # The DB-API connection is the same session.
    assert pandas.read_sql("SELECT count(*) AS n FROM py_scratch", c.adbc)["n"].tolist() == [3]
    assert c.table("py_scratch").count() == 3
    c.ingest("Mixed Case", pyarrow.table({"X": [1, 2]}), mode="replace")
    assert c.table("Mixed Case").aggregate([], [f.sum(col('"X"')).alias("s")]).to_pydict() == {"s": [3]}
    with pytest.raises(ValueError, match="mode"):
        c.ingest("py_kept", table, mode="upsert")


def test_magic(c):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "sinew")
    assert shell.run_cell_magic("sql", "", "SELECT 6 * 7 AS n").to_pylist() == [{"n": 42}]
    shell.run_cell_magic("sql", "kept", "SELECT 1 AS n")
    assert shell.user_ns["kept"].to_pylist() == [{"n": 1}]


def test_progress_is_one_line(c):
    out = io.StringIO()
    line = sinew._connection._Progress("m", out)
    with line:
        for i in range(3):
            line.show(pyarrow.RecordBatch.from_pylist([{"iteration": i, "loss": 1.0 / (i + 1), "rows": 10}]))
    text = out.getvalue()
    assert text.startswith("\rm: reading the rows\r") and text.count("\n") == 1 and text.count("\r") == 4


def test_what_a_training_warns_of(c, patients):
    options = {"max_iter": 1, "split": "NONE"}
    with pytest.warns(sinew.SinewWarning, match="not converged after 1 iterations") as seen:
        trained = c.train(patients, model="py_short", family="logistic_regression", predict="diagnosis", **options)
    assert seen[0].filename == __file__ and trained.warnings == tuple(str(warning.message) for warning in seen)
    with pytest.warns(sinew.SinewWarning, match="not converged"):
        c.sql(
            "TRAIN MODEL py_short USING logistic_regression PREDICT y SPLIT NONE OPTIONS (max_iter = 1)"
            " AS SELECT value AS x, value % 2 AS y FROM generate_series(1, 50) t(value)"
        )
    # What shows a training is none.
    assert c.sql("SELECT * FROM ML.TRAINING_INFO(MODEL py_short)").num_rows == 2


def test_columns_keep_their_names(c):
    people = pandas.DataFrame({"Age": [20.0, 30.0, 40.0] * 20, "Home Town": ["a", "b", "c"] * 20, "pay": [1.0, 2.0, 3.0] * 20})
    frame = c.frame(people)
    assert frame.filter(col("Age") > lit(25.0)).count() == 40 and frame.filter("Age > 25 AND 'Age' <> 'age'").count() == 40
    assert frame.select("Age", "Home Town").to_arrow().column_names == ["Age", "Home Town"]
    assert frame.drop("pay").to_arrow().column_names == ["Age", "Home Town"]
    assert frame["Age"].count() == 60 and frame[["Age", "pay"]].sort("Age").to_pylist()[0] == {"Age": 20.0, "pay": 1.0}
    renamed = frame.with_column_renamed("Age", "Years").with_column("Twice", col("Years") * lit(2))
    assert renamed.to_pandas()["Twice"].max() == 80
    means = frame.aggregate([col("Home Town")], [f.avg(col("Age")).alias("Mean")]).sort(col("Mean").sort(ascending=False))
    assert means.to_pylist()[0] == {"Home Town": "c", "Mean": 40.0}
    assert frame.join(means.select("Mean"), left_on="Age", right_on="Mean").count() == 60
    trained = c.train(people, model="py_names", family="linear_regression", predict="pay", weight_by="Age", split="NONE")
    assert c.predict(people, "py_names").filter(col("Age") == lit(30.0)).count() == 20 and trained.version == 1
    # In SQL quotes keep capitals.
    c.ingest("People", people, mode="replace")
    assert c.sql('SELECT max("Age") AS a FROM "People"').to_pylist() == [{"a": 40.0}]
    assert c.table("People").select("Age").count() == 60
    # A name in lower case is taken first.
    both = c.frame({"a": [1], "A": [2]})
    assert both.select(col("a")).to_pylist() == [{"a": 1}] and both.select(col('"A"')).to_pylist() == [{"A": 2}]


def test_errors_have_codes(c, url):
    with pytest.raises(sinew.Error, match="SINEW-3002: No field named nope. Valid fields are a") as failed:
        c.frame({"a": [1]}).filter(col("nope") > lit(1))
    assert failed.value.code == "SINEW-3002" and "dataframe_" not in str(failed.value)
    with pytest.raises(sinew.Error, match="SINEW-3301: cannot reach .*sinew serve") as failed:
        sinew.connect("grpc://127.0.0.1:1")
    assert failed.value.code == "SINEW-3301" and "gRPC" not in str(failed.value)
