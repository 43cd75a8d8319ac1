"""A GPU's kernels beside PyTorch's, and whole trainings on CPU, GPU and PyTorch.

Run by `gpu.sh`, which prepares a virtual environment and a release build.

    gpu.py FOLDER_OF_BINARIES DATA_FOLDER [--scale 0] [--parts kernels,torch,runs] [--torch]
"""

import argparse
import os
import re
import statistics
import subprocess
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

try:
    import torch
except ImportError:
    torch = None


def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(work, times=5):
    """The best of some runs, after one that does not count."""
    def wait():
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    best = float("inf")
    for run in range(times + 1):
        wait()
        start = time.perf_counter()
        work()
        wait()
        if run:
            best = min(best, time.perf_counter() - start)
    return best


def line(name, took, size, operations):
    print(f"{name:42} {took * 1e3:12.3f} {size / took / 1e9:12.1f} {operations / took / 1e9:12.1f}")


def network(layers):
    parts = []
    for a, b in zip(layers, layers[1:]):
        parts += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1]).to(device()), sum(a * b for a, b in zip(layers, layers[1:]))


def network_step(layers, batch, rows):
    """A step over a batch of resident rows, of the rule that `gpu_bench` takes."""
    net, products = network(layers)
    x, y = torch.randn(rows, layers[0], device=device()), torch.randint(0, 10, (rows,), device=device())
    rule = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    def step():
        chosen = torch.randint(0, rows, (batch,), device=device())
        rule.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x[chosen]), y[chosen]).backward()
        rule.step()

    return step, 4.0 * batch * layers[0], batch * (6.0 * products - 2.0 * layers[0] * layers[1])


def scores(layers, rows):
    """Scores of rows in the host's memory, back in it."""
    net, products = network(layers)
    x = torch.randn(rows, layers[0])

    def score():
        with torch.no_grad():
            net(x.to(device())).cpu()

    return score, 4.0 * rows * layers[0], 2.0 * rows * products


def kernels_of_torch(scale):
    """What PyTorch does in the rows that `gpu_bench` prints, in single precision without tensor cores."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(1)
    on = device()
    name = torch.cuda.get_device_name() if on.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(f"\nPyTorch {torch.__version__} on {name}")
    print("{:42} {:>12} {:>12} {:>12}".format("", "ms", "GB/s", "GFLOP/s"))
    count = max((1 << 30 >> min(2 * scale, 10)), 1 << 20) // 4
    source, target = torch.zeros(count, device=on), torch.zeros(count, device=on)
    line("copy, bytes read and written", seconds(lambda: target.copy_(source)), 8.0 * count, 0)
    del source, target
    edge = max(8192 >> scale, 128)
    a = torch.randn(edge, edge, device=on)
    line(f"matrix product of {edge}, f32", seconds(lambda: a @ a), 12.0 * edge**2, 2.0 * edge**3)
    rows = max((1 << 24) >> min(2 * scale, 14), 1024)
    x, y, w = torch.randn(rows, 64, device=on), torch.randint(0, 2, (rows,), device=on).float(), torch.randn(64, device=on)
    line("logistic gradient, 64 columns", seconds(lambda: x.T @ (torch.sigmoid(x @ w) - y)), 4.0 * rows * 64, 4.0 * rows * 64)
    del x, y
    inputs, units, batch = [max(size >> scale, 16) for size in (784, 1024, 8192)]
    layers = [inputs, units, units, 10]
    shape = "-".join(map(str, layers))
    step, size, operations = network_step(layers, batch, 4 * batch)
    line(f"network step {shape}, batch {batch}", seconds(step, 20), size, operations)
    score, size, operations = scores(layers, 8 * batch)
    line(f"scores of {shape}, {8 * batch} rows", seconds(score), size, operations)


def table(folder, rows, columns):
    """A Parquet file of numbers and a label that depends on them."""
    path = f"{folder}/gpu-{rows}-{columns}.parquet"
    if not os.path.exists(path):
        random = np.random.default_rng(3)
        truth, writer = random.normal(size=columns), None
        for start in range(0, rows, 1 << 18):
            x = random.normal(size=(min(1 << 18, rows - start), columns)).astype("float32")
            y = (random.random(len(x)) < 1 / (1 + np.exp(-x @ truth / columns**0.5))).astype("int32")
            part = pa.table({f"x{j}": x[:, j] for j in range(columns)} | {"y": y})
            writer = writer or pq.ParquetWriter(path, part.schema)
            writer.write_table(part)
        writer.close()
    return path


def train(binaries, folder, path, family, options):
    """Seconds of a whole process from files to a published model, and the last line of its report."""
    sql = f"TRAIN MODEL m USING {family} PREDICT y OPTIONS ({options}) SPLIT NONE FROM '{path}'"
    command = [f"{binaries}/sinew", "--warehouse", f"{folder}/gpu-warehouse", "--format", "csv", "-c", sql]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - start, done.stdout.strip().splitlines()[-1]


def descent_of_torch(path, iterations):
    """Logistic regression by L-BFGS, from reading the file to the weights."""
    start = time.perf_counter()
    read = pq.read_table(path)
    y = torch.from_numpy(read["y"].to_numpy().astype("float32")).to(device())
    x = torch.from_numpy(np.column_stack([read[name].to_numpy() for name in read.column_names[:-1]])).to(device())
    w = torch.zeros(x.shape[1] + 1, device=device(), requires_grad=True)
    rule = torch.optim.LBFGS([w], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss():
        rule.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(x @ w[:-1] + w[-1], y)
        value.backward()
        return value

    rule.step(loss)
    return time.perf_counter() - start, float(loss().detach())


def runs(binaries, folder, scale):
    """Whole trainings, medians of three."""
    rows = max((1 << 24) >> min(2 * scale, 14), 4096)
    path = table(folder, rows, 64)
    print(f"\nlogistic regression, {rows} x 64, from a Parquet file to the model: median of three, seconds")
    for name, options in [("sinew, device = 'cpu'", "device = 'cpu'"), ("sinew, device = 'gpu'", "device = 'gpu'")]:
        found = [train(binaries, folder, path, "logistic_regression", options) for _ in range(3)]
        print(f"{name:42} {statistics.median(took for took, _ in found):12.2f}   {found[-1][1]}")
    if torch:
        found = [descent_of_torch(path, 20) for _ in range(3)]
        print(f"{'PyTorch, L-BFGS on ' + device().type:42} {statistics.median(t for t, _ in found):12.2f}   loss {found[-1][1]:.6f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries")
    parser.add_argument("folder")
    parser.add_argument("--scale", type=int, default=0)
    parser.add_argument("--parts", default="kernels,torch,runs")
    parser.add_argument("--torch", action="store_true", help="installed by gpu.sh")
    args = parser.parse_args()
    parts = args.parts.split(",")
    for name in list(os.environ):
        if re.match("SINEW_(?!BENCH_DIR|GPU_)", name):
            del os.environ[name]
    if "kernels" in parts:
        subprocess.run([f"{args.binaries}/examples/gpu_bench", "--scale", str(args.scale)], check=True)
    if "torch" in parts and torch:
        kernels_of_torch(args.scale)
    if "runs" in parts:
        runs(args.binaries, args.folder, args.scale)


if __name__ == "__main__":
    main()
