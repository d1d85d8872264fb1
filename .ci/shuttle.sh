#!/usr/bin/env bash
# Runs the whole pool under schedules chosen by shuttle. Arguments, if any, select programs by name or
# part of it. SCHEDULES (default 400) is the number per program. SEED repeats the schedules of one
# seed, which a failure prints.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg shuttle"

# One at a time, so that each reports its own time.
exec cargo test -p adaptive-pool --features _shuttle --release --test shuttle --target-dir target/shuttle -- \
    --nocapture --test-threads 1 "$@"
