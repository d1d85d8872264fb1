#!/usr/bin/env bash
# The number of instructions of an empty job on each path into the pool, with one worker:
#
#   bash benches/instructions.sh [WAY]...
#
# Each path runs under callgrind with N jobs and with 3 N. The difference is divided by 2 N, which
# excludes the fixed cost of a pool. valgrind runs one thread at a time, so its scheduler decides
# which thread waits, and how many items of a batch the caller runs itself. So it is done ROUNDS
# times, and the table shows the median, the minimum and the maximum.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs="${JOBS:-100000}"
rounds="${ROUNDS:-5}"

if ! command -v valgrind >/dev/null; then
    echo "SKIPPED: valgrind is not installed"
    exit 77
fi
cargo build --quiet --release -p adaptive-pool-benches --bin compare

instructions() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        target/release/compare --once "$1" "$2" "$3" 1 2>&1 >/dev/null |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

instructions_per_job() {
    local few many
    few="$(instructions "$1" "$2" "$jobs")"
    many="$(instructions "$1" "$2" $((3 * jobs)))"
    echo $(((many - few) / (2 * jobs)))
}

row() {
    local -a found
    mapfile -t found < <(
        for ((round = 0; round < rounds; round++)); do
            instructions_per_job "$1" "$2"
        done | sort -n
    )
    printf '| %s | %s | %s to %s |\n' "$2" "${found[rounds / 2]}" "${found[0]}" "${found[rounds - 1]}"
}

if [ $# -eq 0 ]; then
    set -- "spawn" "reserve, spawn" "submit" "for_each" "map" "map_unordered" \
        "scope, from a worker" "scope, from outside" "rayon::spawn"
fi
printf '| path | instructions per job | of %s runs |\n|---|--:|--:|\n' "$rounds"
for way in "$@"; do
    row paths "$way"
done
