#!/usr/bin/env bash
# The cluster benchmark: builds for release, starts a scheduler and two executors of one core, measures.
#   integration-tests/benchmarks/cluster.sh [--parts rounds,road,kill,sql,tpch,soak] [--soak-rounds 10000]
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
work="${SINEW_BENCH_DIR:-${TMPDIR:-/tmp}/sinew-bench}"
mkdir -p "$work"
cargo build --release --workspace --bins --example stock-ballista --features sinew-integration-tests/stock
[ -d "$work/venv" ] || python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyarrow numpy adbc-driver-flightsql tpchgen-cli
exec "$work/venv/bin/python" integration-tests/benchmarks/cluster.py "$CARGO_TARGET_DIR/release" "$work" "$@"
