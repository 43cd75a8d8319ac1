#!/usr/bin/env bash
# The GPU benchmark: what the device does, what PyTorch does on it, and whole trainings on CPU, GPU and PyTorch.
#   integration-tests/benchmarks/gpu.sh [--scale 0] [--torch] [--parts kernels,torch,runs]
# --torch installs PyTorch first (some gigabytes); without it, PyTorch is measured where python3 has it.
# A software adapter needs SINEW_GPU_ALLOW_SOFTWARE=1 and a scale of 5 or more.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
work="${SINEW_BENCH_DIR:-${TMPDIR:-/tmp}/sinew-bench}"
mkdir -p "$work"
cargo build --release -p sinew -p sinew-ml --bin sinew --example gpu_bench
[ -d "$work/venv-gpu" ] || python3 -m venv --system-site-packages "$work/venv-gpu"
packages=(pyarrow numpy)
for argument in "$@"; do [ "$argument" != --torch ] || packages+=(torch); done
"$work/venv-gpu/bin/pip" install --quiet "${packages[@]}"
exec "$work/venv-gpu/bin/python" integration-tests/benchmarks/gpu.py "$CARGO_TARGET_DIR/release" "$work" "$@"
