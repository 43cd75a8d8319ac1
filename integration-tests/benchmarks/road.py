"""Training from Parquet files to a fitted model: sinew beside scikit-learn, in one session.

Run by `road.sh`, which prepares a virtual environment and a release build. Every peer reads the same
files and is timed from there to its fitted model (imports and process start not counted for the peers;
for sinew the whole process is timed, start included). Held-out loss shows that all solve one problem.

    road.py SINEW_BINARY DATA_FOLDER [--shapes a,b] [--runs 3] [--peers sklearn,intel,duckdb] [--scale 1.0]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SHAPES = {
    "logistic_2m_32": dict(rows=2_000_000, features=32, kind="binary", dtype="float32"),
    "logistic_2m_32_f64": dict(rows=2_000_000, features=32, kind="binary", dtype="float64"),
    "linear_2m_32": dict(rows=2_000_000, features=32, kind="number", dtype="float32"),
    "linear_2m_32_f64": dict(rows=2_000_000, features=32, kind="number", dtype="float64"),
    "softmax_500k_64": dict(rows=500_000, features=64, kind="ten", dtype="float32"),
    "logistic_200k_512": dict(rows=200_000, features=512, kind="binary", dtype="float32"),
    "kmeans_1m_16": dict(rows=1_000_000, features=16, kind="blobs", dtype="float32"),
}
FILES = 8
TEST_ROWS = 100_000


def make(shape, folder):
    """Writes `train/*.parquet` and `test.parquet` once."""
    if os.path.exists(f"{folder}/done"):
        return
    os.makedirs(f"{folder}/train", exist_ok=True)
    rng = np.random.default_rng(20261122)
    p, kind = shape["features"], shape["kind"]
    mixing = np.eye(p) + 0.15 * rng.standard_normal((p, p)) / np.sqrt(p) * 3
    scale = np.exp(rng.uniform(-0.5, 0.5, p))
    shift = rng.uniform(-0.5, 0.5, p) * scale
    beta = rng.standard_normal((10 if kind == "ten" else 1, p)) / np.sqrt(p) * 1.5
    centers = rng.uniform(-8, 8, (20, p))

    def part(rows):
        z = rng.standard_normal((rows, p)) @ mixing
        if kind == "blobs":
            x, y = z + centers[rng.integers(0, 20, rows)], None
        else:
            margin = z @ beta.T
            x = z * scale + shift
            if kind == "number":
                y = margin[:, 0] + rng.standard_normal(rows)
            elif kind == "binary":
                y = (rng.random(rows) < 1 / (1 + np.exp(-margin[:, 0] - 0.5))).astype(np.int32)
            else:
                y = np.argmax(margin + rng.gumbel(size=margin.shape), axis=1).astype(np.int32)
        columns = {f"x{j}": x[:, j].astype(shape["dtype"]) for j in range(p)}
        if y is not None:
            columns["y"] = y.astype(np.float64) if kind == "number" else y
        return pa.table(columns)

    for i in range(FILES):
        pq.write_table(part(shape["rows"] // FILES), f"{folder}/train/{i}.parquet", compression="snappy", row_group_size=131_072)
    pq.write_table(part(TEST_ROWS), f"{folder}/test.parquet", compression="snappy")
    open(f"{folder}/done", "w").close()


def matrix(path, features):
    table = pq.read_table(path)
    x = np.column_stack([table[f"x{j}"].to_numpy() for j in range(features)])
    return x, (table["y"].to_numpy() if "y" in table.column_names else None)


def test_loss(kind, x, y, coefficients, intercept):
    """Mean held-out loss of a linear model; `coefficients` [K, P]."""
    margin = x.astype(np.float64) @ np.atleast_2d(coefficients).T + np.atleast_1d(intercept)
    if kind == "number":
        return float(np.mean((margin[:, 0] - y) ** 2))
    if kind == "binary" and margin.shape[1] == 1:
        m = margin[:, 0]
        return float(np.mean(np.logaddexp(0, m) - m * y))
    margin -= margin.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(margin).sum(axis=1)) - margin[np.arange(len(y)), y]))


def sinew(binary, shape, folder, threads):
    family = {"number": "linear_regression", "blobs": "kmeans"}.get(shape["kind"], "logistic_regression")
    label = "" if shape["kind"] == "blobs" else "PREDICT y"
    options = "OPTIONS(k=20, seed=1, max_iter=300)" if shape["kind"] == "blobs" else ""
    train = f"TRAIN MODEL m USING {family} {label} SPLIT NONE {options} FROM '{folder}/train/'"
    with tempfile.TemporaryDirectory() as warehouse:
        base = [binary, "--quiet", "--warehouse", warehouse, "--threads", str(threads), "--format", "ndjson", "-c"]
        before = time.perf_counter()
        child = subprocess.Popen(base + [train], stdout=subprocess.PIPE)
        out = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - before
        if status:
            sys.exit(f"sinew failed: {train}")
        last = json.loads(out.decode().strip().splitlines()[-1])
        passes = len(out.decode().strip().splitlines())
        loss = None
        if shape["kind"] != "blobs":
            metric = {"number": "mean_squared_error"}.get(shape["kind"], "log_loss")
            sql = f"SELECT {metric} AS loss FROM ML.EVALUATE(MODEL m, (SELECT * FROM '{folder}/test.parquet'))"
            loss = json.loads(subprocess.run(base + [sql], check=True, stdout=subprocess.PIPE).stdout.decode())["loss"]
        else:
            loss = last["loss"] * shape["rows"]
    return dict(seconds=seconds, loss=loss, peak_mb=usage.ru_maxrss / 1024, iterations=passes)


PEER = r"""
import sys, time, json
peer, folder, features, kind, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
sys.path.insert(0, sys.argv[6])
if peer == "intel":
    from sklearnex import patch_sklearn
    patch_sklearn(verbose=False)
import numpy as np, road
from sklearn.linear_model import LogisticRegression, LinearRegression
from sklearn.cluster import KMeans
import duckdb
matrix_of = road.matrix
test_x, test_y = matrix_of(f"{folder}/test.parquet", features)
before = time.perf_counter()
if peer == "duckdb":
    terms = [f"x{j}" for j in range(features)] + ["1", "y"]
    sums = [f"sum(({a})::DOUBLE*({b})::DOUBLE)" for i, a in enumerate(terms) for b in terms[i:]]
    con = duckdb.connect(); con.execute(f"SET threads={threads}")
    values = con.execute(f"SELECT {', '.join(sums)} FROM '{folder}/train/*.parquet'").fetchone()
    n = len(terms); g = np.zeros((n, n)); g[np.triu_indices(n)] = values; g = g + np.triu(g, 1).T
    b = np.linalg.solve(g[:-1, :-1], g[:-1, -1]); coef, intercept, loss = b[:-1], b[-1], None
else:
    x, y = matrix_of(f"{folder}/train", features)
    if kind == "blobs":
        m = KMeans(n_clusters=20, n_init=1, random_state=1, max_iter=300).fit(x); loss = float(m.inertia_)
    elif kind == "number":
        m = LinearRegression().fit(x, y)
    else:
        solver = "newton-cholesky" if peer == "sklearn-newton" else "lbfgs"
        m = LogisticRegression(solver=solver, max_iter=200).fit(x, y)
    if kind != "blobs":
        coef, intercept = m.coef_, m.intercept_
seconds = time.perf_counter() - before
if kind != "blobs":
    loss = road.test_loss(kind, test_x, test_y, coef, intercept)
import resource
print(json.dumps(dict(seconds=seconds, loss=loss, peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)))
"""


def peer(name, shape, folder, threads):
    arguments = [name, folder, str(shape["features"]), shape["kind"], str(threads), os.path.dirname(os.path.abspath(__file__))]
    run = subprocess.run([sys.executable, "-c", PEER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if run.returncode:
        return dict(seconds=float("nan"), loss=None, peak_mb=0, error=run.stderr.decode()[-300:])
    return json.loads(run.stdout.decode().strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("data")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", default="sklearn,intel")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    print(f"{options.threads} threads, median of {options.runs} runs each, in turn; data scale {options.scale}\n")
    print("| shape | engine | seconds | sinew / it | held-out loss (k-means: inertia) | peak MB |")
    print("|---|---|---|---|---|---|")
    for name in options.shapes.split(","):
        shape = dict(SHAPES[name])
        shape["rows"] = int(shape["rows"] * options.scale) // FILES * FILES
        folder = f"{options.data}/v2_{name}_{options.scale}"
        # In a process of its own: peak memory of a child counts what its parent had.
        subprocess.run([sys.executable, "-c", f"import road; road.make({shape!r}, {folder!r})"], check=True, cwd=os.path.dirname(os.path.abspath(__file__)))
        peers = options.peers.split(",") if options.peers else []
        peers = [p for p in peers if p != "duckdb" or shape["kind"] == "number"]
        peers = [p for p in peers if p != "sklearn-newton" or shape["kind"] == "binary"]
        results = {p: [] for p in ["sinew", *peers]}
        for _ in range(options.runs):
            results["sinew"].append(sinew(options.binary, shape, folder, options.threads))
            for p in peers:
                results[p].append(peer(p, shape, folder, options.threads))
        median = lambda p: float(np.median([r["seconds"] for r in results[p]]))
        for p, runs in results.items():
            loss = runs[-1]["loss"]
            shown = runs[-1].get("error", f"{loss:.6g}" if loss is not None else "")
            print(f"| {name} | {p} | {median(p):.2f} | {median('sinew') / median(p):.2f} | {shown} | {max(r['peak_mb'] for r in runs):.0f} |", flush=True)


if __name__ == "__main__":
    main()
