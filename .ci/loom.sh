#!/usr/bin/env bash
# Runs the loom models. Arguments, if any, are names of models, or parts of them.
# LOOM_MAX_PREEMPTIONS (default 3) bounds the search; a model that would be too large has a bound of
# its own, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg loom"
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}"
if [ $# -eq 0 ]; then set -- model::; fi

# One at a time, so that the time that each reports is its own; unless it is .ci/run that calls.
threads=1
if [ -n "${CI_BUDGET_LEFT:-}" ]; then threads="$(nproc)"; fi
exec cargo test -p adaptive-pool --release --lib --target-dir target/loom -- \
    --nocapture --test-threads "$threads" "$@"
