"""A scheduler and two single-core executors on this machine, beside the embedded engine.

Run by `cluster.sh`, which prepares a virtual environment and a release build.

    cluster.py FOLDER_OF_BINARIES DATA_FOLDER [--parts rounds,road,kill,sql,tpch,soak] [--soak-rounds 10000]
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, os.path.dirname(__file__))


class Cluster:
    """Processes of a cluster over a warehouse of its own."""

    def __init__(self, binaries, executors=2, cores=1):
        self.folder = tempfile.mkdtemp(prefix="sinew-cluster-")
        self.binaries, self.cores, self.executors = binaries, cores, []
        self.warehouse = f"{self.folder}/warehouse"
        # Loopback, free ports; the first line says which.
        self.scheduler = subprocess.Popen(
            [f"{binaries}/sinew-scheduler", "--listen", "127.0.0.1:0", "--cluster", "127.0.0.1:0", "--log", "warn",
             "--warehouse", self.warehouse, "--roots", "any"], stdout=subprocess.PIPE, text=True)
        line = self.scheduler.stdout.readline().strip()
        door, self.private = line.split(" at grpc://")[1].split(", cluster at ")
        self.url = f"grpc://{door}"
        for _ in range(executors):
            self.add()
        self.wait(executors)

    def add(self):
        self.executors.append(subprocess.Popen(
            [f"{self.binaries}/sinew-executor", "--scheduler", self.private, "--cores", str(self.cores), "--log", "warn",
             "--work-dir", f"{self.folder}/work", "--warehouse", self.warehouse, "--memory-limit", "4GB"]))

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.private}/metrics") as answer:
            lines = [l.split() for l in answer.read().decode().splitlines() if l and not l.startswith("#")]
        return {l[0]: float(l[-1]) for l in lines}

    def wait(self, executors):
        while self.metrics().get("sinew_executors") != executors:
            time.sleep(0.02)

    def sql(self, text):
        return run([f"{self.binaries}/sinew", "--connect", self.url], text)

    def close(self):
        for process in [*self.executors, self.scheduler]:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def run(command, text):
    """Runs statements; the rows of the last, and the seconds it took as a whole."""
    start = time.perf_counter()
    done = subprocess.run([*command, "-q", "--format", "ndjson", "-c", text], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{text}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], seconds


def embedded(binaries, folder, threads):
    return [f"{binaries}/sinew", "--warehouse", f"{folder}/embedded", "--threads", str(threads)]


def percentile(values, q):
    return float(np.percentile(np.array(values), q))


def rounds(binaries, folder):
    """Milliseconds of a round over 2,000 rows, whose computation is microseconds."""
    path = f"{folder}/tiny.parquet"
    rng = np.random.default_rng(1)
    columns = {f"x{j}": rng.standard_normal(2_000) for j in range(10)}
    columns["y"] = (rng.random(2_000) < 0.5).astype(np.int32)
    pq.write_table(pa.table(columns), path, row_group_size=500)
    train = (f"TRAIN MODEL tiny USING logistic_regression PREDICT y SPLIT NONE "
             f"OPTIONS (solver = 'sgd', max_iter = 300, tol = 0) FROM '{path}'")
    own, _ = run(embedded(binaries, folder, 2), train)
    cluster = Cluster(binaries)
    cluster.sql(train)
    before = cluster.metrics()
    rows, _ = cluster.sql(train)
    after = cluster.metrics()
    steps = after["sinew_steps_total"] - before["sinew_steps_total"]
    seconds = after["sinew_step_seconds_total"] - before["sinew_step_seconds_total"]
    times = [row["duration_ms"] for row in rows[1:]]
    inside = [row["duration_ms"] for row in own[1:]]
    print("\n| a round over 2,000 rows | p50 ms | p90 ms | rounds |\n|---|---|---|---|")
    print(f"| embedded | {percentile(inside, 50):.2f} | {percentile(inside, 90):.2f} | {len(inside)} |")
    print(f"| two executors | {percentile(times, 50):.2f} | {percentile(times, 90):.2f} | {len(times)} |")
    print(f"| a step as the scheduler sees it (mean) | {seconds / steps * 1e3:.2f} | | {steps:.0f} |")
    cluster.close()


def road(binaries, folder, kill):
    """The logistic benchmark of road.py, embedded on two threads and on two executors."""
    from road import SHAPES, make
    make(SHAPES["logistic_2m_32"], f"{folder}/logistic_2m_32")
    train = f"TRAIN MODEL big USING logistic_regression PREDICT y SPLIT NONE FROM '{folder}/logistic_2m_32/train/*.parquet'"
    own, cold, warm, lost = [], [], [], []
    hits = None
    for _ in range(3):
        shutil.rmtree(f"{folder}/embedded", ignore_errors=True)
        own.append(run(embedded(binaries, folder, 2), train)[1])
        cluster = Cluster(binaries)
        cold.append(cluster.sql(train)[1])
        before = cluster.metrics()
        warm.append(cluster.sql(train)[1])
        after = cluster.metrics()
        found = after["sinew_cache_hits_total"] - before["sinew_cache_hits_total"]
        read = after["sinew_cache_loads_total"] - before["sinew_cache_loads_total"]
        hits = found / (found + read)
        cluster.close()
        if kill:
            cluster = Cluster(binaries)
            timer = threading.Timer(cold[-1] / 2, lambda: cluster.executors[0].send_signal(signal.SIGKILL))
            timer.start()
            lost.append(cluster.sql(train)[1])
            timer.join()
            cluster.close()
    base = statistics.median(own)
    print("\n| logistic regression, 2,000,000 x 32 | seconds | / embedded |\n|---|---|---|")
    for name, values in [("embedded, 2 threads, whole process", own), ("two executors, rows read from files", cold),
                         ("two executors, rows resident", warm), ("two executors, one killed half way", lost)]:
        if values:
            middle = statistics.median(values)
            print(f"| {name} | {middle:.2f} | {middle / base:.2f} |")
    print(f"\ncache hits of the second training: {hits:.1%}")


def small(binaries, folder):
    """Round trips of small statements over one ADBC connection."""
    import adbc_driver_flightsql.dbapi as flight
    path = f"{folder}/small.parquet"
    pq.write_table(pa.table({"k": np.arange(10_000) % 10, "v": np.arange(10_000.0)}), path)
    cluster = Cluster(binaries)
    print("\n| statement | p50 ms | p99 ms |\n|---|---|---|")
    with flight.connect(cluster.url.replace("grpc://", "grpc+tcp://")) as connection, connection.cursor() as cursor:
        for sql in ["SELECT 1", f"SELECT count(*) FROM '{path}' WHERE v > 5", f"SELECT k, sum(v) FROM '{path}' GROUP BY k"]:
            times = []
            for i in range(220):
                start = time.perf_counter()
                cursor.execute(sql)
                cursor.fetchall()
                times.append((time.perf_counter() - start) * 1e3)
            print(f"| `{sql.replace(path, 'small.parquet')}` | {percentile(times[20:], 50):.1f} | {percentile(times[20:], 99):.1f} |")
    cluster.close()


def free_port():
    """A port no one listens on now; stock Ballista takes a number only."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Stock:
    """Ballista as its own crates start it: a scheduler, two executors of one core, a client for each query."""

    def __init__(self, binaries, folder, tables):
        self.program = f"{binaries}/examples/stock-ballista"
        self.folder = tempfile.mkdtemp(dir=folder)
        self.tables = tables
        self.port, *ports = [free_port() for _ in range(5)]
        log = open(f"{self.folder}/log", "w")
        start = lambda *words: subprocess.Popen([self.program, *map(str, words)], stdout=log, stderr=log)
        self.processes = [start("scheduler", self.port)]
        for i in range(2):
            os.mkdir(f"{self.folder}/{i}")
            self.processes.append(start("executor", self.port, *ports[2 * i:2 * i + 2], f"{self.folder}/{i}"))
        time.sleep(3)

    def seconds(self, sql, repeat):
        """The quicker of the repetitions; the tables are registered before the clock starts."""
        with open(f"{self.folder}/job.json", "w") as file:
            json.dump({"tables": self.tables, "queries": [["q", sql]], "repeat": repeat}, file)
        done = subprocess.run([self.program, "queries", str(self.port), file.name], capture_output=True, text=True)
        word = done.stdout.split()[1] if done.stdout.split() else "failed"
        if word == "failed":
            print(done.stdout.strip(), done.stderr.strip()[-300:], file=sys.stderr)
            return float("nan")
        return float(word)

    def close(self):
        """Ends what was started, by process id."""
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def tpch(binaries, folder, scale):
    """TPC-H's queries, embedded on two threads and on two executors."""
    data = f"{folder}/tpch-{scale}"
    if not os.path.exists(f"{data}/done"):
        subprocess.run([os.path.join(os.path.dirname(sys.executable), "tpchgen-cli"), "parquet", "-s", str(scale),
                        "--parts=4", f"--output-dir={data}"], check=True)
        open(f"{data}/done", "w").close()
    tables = ["lineitem", "orders", "customer", "part", "partsupp", "supplier", "nation", "region"]
    def location(table):
        folder_of = f"{data}/{table}"
        return f"{folder_of}/" if os.path.isdir(folder_of) else f"{folder_of}.parquet"
    create = ";".join(f"CREATE EXTERNAL TABLE IF NOT EXISTS {t} STORED AS PARQUET LOCATION '{location(t)}'" for t in tables)
    queries = os.path.join(os.path.dirname(__file__), "../tpch")
    cluster = Cluster(binaries)
    own = embedded(binaries, folder, 2)
    cluster.sql(create)
    run(own, create)
    stock = Stock(binaries, folder, {t: location(t) for t in tables})
    total = [0.0, 0.0, 0.0]
    print(f"\n| TPC-H scale {scale} | embedded s | two executors s | ratio | stock Ballista s | ours / stock |")
    print("|---|---|---|---|---|---|")
    for name in sorted(os.listdir(queries)):
        sql = open(f"{queries}/{name}").read()
        a = min(run(own, sql)[1] for _ in range(2))
        b = min(cluster.sql(sql)[1] for _ in range(2))
        c = stock.seconds(sql, 2)
        total = [total[0] + a, total[1] + b, total[2] + c]
        print(f"| {name.split('.')[0]} | {a:.2f} | {b:.2f} | {b / a:.2f} | {c:.2f} | {b / c:.2f} |", flush=True)
    a, b, c = total
    print(f"| all | {a:.2f} | {b:.2f} | {b / a:.2f} | {c:.2f} | {b / c:.2f} |")
    stock.close()
    cluster.close()


def soak(binaries, folder, count):
    """Many rounds; memory, file descriptors and work folder before and after."""
    path = f"{folder}/tiny.parquet"
    cluster = Cluster(binaries)
    per = 1_000
    train = (f"TRAIN MODEL soak USING logistic_regression PREDICT y SPLIT NONE "
             f"OPTIONS (solver = 'sgd', max_iter = {per}, tol = 0) FROM '{path}'")

    def look():
        pids = [cluster.scheduler.pid, *[e.pid for e in cluster.executors]]
        memory = [int(open(f"/proc/{p}/statm").read().split()[1]) * 4096 / 1e6 for p in pids]
        files = [len(os.listdir(f"/proc/{p}/fd")) for p in pids]
        entries = sum(len(d) + len(f) for _, d, f in os.walk(f"{cluster.folder}/work"))
        return memory, files, entries

    print("\n| steps | scheduler MB | executors MB | descriptors | entries in work folders |\n|---|---|---|---|---|")
    while True:
        cluster.sql(train)
        steps = cluster.metrics()["sinew_steps_total"]
        memory, files, entries = look()
        print(f"| {steps:.0f} | {memory[0]:.0f} | {memory[1]:.0f}, {memory[2]:.0f} | {files} | {entries} |", flush=True)
        if steps >= count:
            break
    cluster.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries")
    parser.add_argument("folder")
    parser.add_argument("--parts", default="rounds,road,kill,sql,tpch")
    parser.add_argument("--soak-rounds", type=int, default=10_000)
    parser.add_argument("--scale", type=float, default=1)
    args = parser.parse_args()
    parts = args.parts.split(",")
    for name in list(os.environ):
        if name.startswith("SINEW_") and name != "SINEW_BENCH_DIR":
            del os.environ[name]
    if "rounds" in parts:
        rounds(args.binaries, args.folder)
    if "road" in parts or "kill" in parts:
        road(args.binaries, args.folder, "kill" in parts)
    if "sql" in parts:
        small(args.binaries, args.folder)
    if "tpch" in parts:
        tpch(args.binaries, args.folder, int(args.scale) if args.scale == int(args.scale) else args.scale)
    if "soak" in parts:
        rounds(args.binaries, args.folder)
        soak(args.binaries, args.folder, args.soak_rounds)


if __name__ == "__main__":
    main()
