#!/usr/bin/env bash
# The front-door benchmark: builds for release, serves on this machine, measures with stock clients.
#   integration-tests/benchmarks/doors.sh [--parts small,rows,ingest,sessions,slow] [--rows 10000000]
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
work="${SINEW_BENCH_DIR:-${TMPDIR:-/tmp}/sinew-bench}"
mkdir -p "$work"
cargo build --release --workspace --bins --example raw-flight
[ -d "$work/venv" ] || python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyarrow numpy pandas duckdb adbc-driver-flightsql tpchgen-cli
exec "$work/venv/bin/python" integration-tests/benchmarks/doors.py "$CARGO_TARGET_DIR/release" "$work" "$@"
