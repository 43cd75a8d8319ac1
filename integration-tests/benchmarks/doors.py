"""Flight SQL as clients feel it: a server in one process, and a scheduler with two single-core executors.

Run by `doors.sh`, which prepares a virtual environment and a release build.

    doors.py FOLDER_OF_BINARIES DATA_FOLDER [--parts small,rows,ingest,sessions,slow] [--rows 10000000]
"""

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as adbc
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq

sys.path.insert(0, os.path.dirname(__file__))
from cluster import Cluster  # noqa: E402


class Server:
    """`sinew serve` on a free port."""

    def __init__(self, binaries, folder):
        self.process = subprocess.Popen(
            [f"{binaries}/sinew", "serve", "--listen", "127.0.0.1:0", "--warehouse", f"{folder}/doors-warehouse", "--roots", "any"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.url = self.process.stdout.readline().strip().split("listening on ")[1].split()[0]
        self.pid = self.process.pid

    def close(self):
        self.process.terminate()
        self.process.wait()


def connect(url):
    return adbc.connect(url.replace("grpc://", "grpc+tcp://"), autocommit=True)


def resident(pid):
    """Resident megabytes of a process."""
    return int(open(f"/proc/{pid}/statm").read().split()[1]) * 4096 / 1e6


def percentile(times, p):
    return float(np.percentile(times, p))


def rows_file(folder, count):
    """A Parquet file of numbers and text."""
    path = f"{folder}/doors-{count}.parquet"
    if not os.path.exists(path):
        random = np.random.default_rng(7)
        writer = None
        for start in range(0, count, 1_000_000):
            n = min(1_000_000, count - start)
            part = pa.table({
                "id": np.arange(start, start + n), "a": random.normal(size=n), "b": random.normal(size=n),
                "day": random.integers(0, 3650, n).astype("int32"), "kind": np.array(["red", "green", "blue"])[random.integers(0, 3, n)]})
            writer = writer or pq.ParquetWriter(path, part.schema)
            writer.write_table(part)
        writer.close()
    return path


def small(url):
    """Round trips of SELECT 1 over one connection."""
    with connect(url) as connection, connection.cursor() as cursor:
        times = []
        for _ in range(300):
            start = time.perf_counter()
            cursor.execute("SELECT 1")
            cursor.fetchall()
            times.append((time.perf_counter() - start) * 1e3)
    return percentile(times[50:], 50), percentile(times[50:], 99)


class Raw:
    """The `raw-flight` example: the Arrow Flight crate by itself, giving out the rows from memory."""

    def __init__(self, binaries, path):
        self.process = subprocess.Popen([f"{binaries}/examples/raw-flight", path], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip().split("listening on ")[1]

    def fetch(self):
        client = flight.FlightClient(f"grpc://{self.address}")
        start = time.perf_counter()
        count = sum(chunk.data.num_rows for chunk in client.do_get(flight.Ticket(b"")))
        return count / (time.perf_counter() - start)

    def close(self):
        self.process.kill()
        self.process.wait()


def ask(client, sql):
    """GetFlightInfo of a statement, as Flight SQL packs it."""
    def field(number, data):
        size, head = len(data), bytes([number << 3 | 2])
        while size > 127:
            head, size = head + bytes([size & 127 | 128]), size >> 7
        return head + bytes([size]) + data
    kind = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    command = field(1, kind) + field(2, field(1, sql.encode()))
    return client.get_flight_info(flight.FlightDescriptor.for_command(command))


def fetch(url, path):
    with connect(url) as connection, connection.cursor() as cursor:
        start = time.perf_counter()
        cursor.execute(f"SELECT * FROM '{path}'")
        rows = sum(batch.num_rows for batch in cursor.fetch_record_batch())
        return rows / (time.perf_counter() - start)


def rows(binaries, server, cluster, path):
    """Rows per second of a whole table."""
    def best(measure):
        return max(measure() for _ in range(3))

    def to_pandas():
        with connect(server.url) as connection, connection.cursor() as cursor:
            start = time.perf_counter()
            cursor.execute(f"SELECT * FROM '{path}'")
            return len(cursor.fetch_arrow_table().to_pandas()) / (time.perf_counter() - start)

    def from_memory():
        # The client of the raw server: what its connection made is there for its next statement.
        client = flight.FlightClient(server.url.replace("grpc://", "grpc+tcp://"))
        ask(client, f"CREATE TEMPORARY TABLE held AS SELECT * FROM '{path}'")
        speeds = []
        for _ in range(3):
            start = time.perf_counter()
            ticket = ask(client, "SELECT * FROM held").endpoints[0].ticket
            count = sum(chunk.data.num_rows for chunk in client.do_get(ticket))
            speeds.append(count / (time.perf_counter() - start))
        return max(speeds)

    def duck():
        start = time.perf_counter()
        return len(duckdb.sql(f"SELECT * FROM '{path}'").df()) / (time.perf_counter() - start)

    raw = Raw(binaries, path)
    found = {"raw Arrow Flight, from memory": best(raw.fetch)}
    raw.close()
    found["`sinew serve`, from memory"] = from_memory()
    found["`sinew serve`, read from Parquet"] = best(lambda: fetch(server.url, path))
    found["two executors, through the scheduler"] = best(lambda: fetch(cluster.url, path))
    found["`sinew serve`, to pandas"] = best(to_pandas)
    found["DuckDB in process, to pandas"] = best(duck)
    print("\n| a result of all rows | million rows/s |\n|---|---|")
    for name, speed in found.items():
        print(f"| {name} | {speed / 1e6:.2f} |")


def ingest(url, path):
    """Rows per second that a client stores as a new table."""
    table = pq.read_table(path).slice(0, 2_000_000)
    with connect(url) as connection, connection.cursor() as cursor:
        speeds = []
        for i in range(3):
            start = time.perf_counter()
            cursor.adbc_ingest(f"stored{i}", table, mode="create")
            speeds.append(table.num_rows / (time.perf_counter() - start))
            cursor.execute(f"DROP TABLE stored{i}")
    return max(speeds)


def sessions(url, path, count=64, each=30):
    """Short queries of many sessions at once."""
    times, errors, lock = [], [], threading.Lock()

    def one(number):
        try:
            with connect(url) as connection, connection.cursor() as cursor:
                for i in range(each):
                    start = time.perf_counter()
                    cursor.execute(f"SELECT kind, count(*) FROM '{path}' WHERE id % 64 = {(number + i) % 64} GROUP BY kind")
                    cursor.fetchall()
                    with lock:
                        times.append((time.perf_counter() - start) * 1e3)
        except Exception as error:  # noqa: BLE001
            with lock:
                errors.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    return len(times) / took, percentile(times, 50), percentile(times, 99), len(errors)


def slow(url, pid, path, seconds=20):
    """Memory of a server while a client reads one batch a second of a large result, and another works."""
    with connect(url) as connection, connection.cursor() as cursor:
        before = resident(pid)
        cursor.execute(f"SELECT * FROM '{path}'")
        reader = cursor.fetch_record_batch()
        most, others = before, []
        for _ in range(seconds):
            reader.read_next_batch()
            others.append(small_once(url))
            most = max(most, resident(pid))
            time.sleep(1)
        return before, most, statistics.median(others)


def small_once(url):
    with connect(url) as connection, connection.cursor() as cursor:
        start = time.perf_counter()
        cursor.execute("SELECT 1")
        cursor.fetchall()
        return (time.perf_counter() - start) * 1e3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries")
    parser.add_argument("folder")
    parser.add_argument("--parts", default="small,rows,ingest,sessions,slow")
    parser.add_argument("--rows", type=int, default=10_000_000)
    args = parser.parse_args()
    parts = args.parts.split(",")
    for name in list(os.environ):
        if name.startswith("SINEW_") and name != "SINEW_BENCH_DIR":
            del os.environ[name]
    path = rows_file(args.folder, args.rows)
    little = rows_file(args.folder, 20_000)
    server, cluster = Server(args.binaries, args.folder), Cluster(args.binaries)
    doors = {"`sinew serve`": server.url, "two executors": cluster.url}
    if "small" in parts:
        print("| `SELECT 1`, one connection | p50 ms | p99 ms |\n|---|---|---|")
        for name, url in doors.items():
            print("| {} | {:.1f} | {:.1f} |".format(name, *small(url)))
    if "rows" in parts:
        rows(args.binaries, server, cluster, path)
    if "ingest" in parts:
        print("\n| 2,000,000 rows stored as a table | million rows/s |\n|---|---|")
        for name, url in doors.items():
            print(f"| {name} | {ingest(url, path) / 1e6:.2f} |")
    if "sessions" in parts:
        print("\n| 64 sessions, an aggregate over 20,000 rows each time | queries/s | p50 ms | p99 ms | errors |\n|---|---|---|---|---|")
        for name, url in doors.items():
            print("| {} | {:.0f} | {:.0f} | {:.0f} | {} |".format(name, *sessions(url, little)))
    if "slow" in parts:
        print("\n| a client that reads a batch a second of all rows | MB before | MB at most | `SELECT 1` of others, ms |\n|---|---|---|---|")
        for name, url, pid in [("`sinew serve`", server.url, server.pid), ("scheduler of two executors", cluster.url, cluster.scheduler.pid)]:
            print("| {} | {:.0f} | {:.0f} | {:.1f} |".format(name, *slow(url, pid, path)))
    server.close()
    cluster.close()


if __name__ == "__main__":
    main()
