#!/usr/bin/env bash
# Runs the loom models. Arguments, if any, select models by name or part of it.
# LOOM_MAX_PREEMPTIONS (default 3) bounds the search; a large model states a bound of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg loom"
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}"
if [ $# -eq 0 ]; then set -- model::; fi

# One at a time, so that each reports its own time; in parallel if .ci/run is the caller.
threads=1
if [ -n "${CI_BUDGET_LEFT:-}" ]; then threads="$(nproc)"; fi
exec cargo test -p adaptive-pool --release --lib --target-dir target/loom -- \
    --nocapture --test-threads "$threads" "$@"
