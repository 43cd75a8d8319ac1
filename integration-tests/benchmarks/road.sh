#!/usr/bin/env bash
# The road benchmark: builds sinew for release, prepares scikit-learn, runs both on the same files.
#   integration-tests/benchmarks/road.sh [arguments of road.py, e.g. --shapes logistic_2m_32 --scale 0.1]
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
work="${SINEW_BENCH_DIR:-${TMPDIR:-/tmp}/sinew-bench}"
mkdir -p "$work"
cargo build --release -p sinew
[ -d "$work/venv" ] || python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scikit-learn scikit-learn-intelex pyarrow duckdb numpy
exec "$work/venv/bin/python" integration-tests/benchmarks/road.py "$CARGO_TARGET_DIR/release/sinew" "$work" "$@"
