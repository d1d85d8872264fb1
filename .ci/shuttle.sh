#!/usr/bin/env bash
# Runs the whole pool under schedules that shuttle chooses. Arguments, if any, are names of programs, or
# parts of them. SCHEDULES (default 400) is how many each program has. SEED runs the schedules of one seed
# again: who fails prints it.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg shuttle"

# One at a time, so that the time that each reports is its own.
exec cargo test -p adaptive-pool --features _shuttle --release --test shuttle --target-dir target/shuttle -- \
    --nocapture --test-threads 1 "$@"
