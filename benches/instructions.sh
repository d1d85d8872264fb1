#!/usr/bin/env bash
# How many instructions an empty job costs on each way into the pool, with one worker:
#
#   bash benches/instructions.sh [WAY]...
#
# Each way is run under callgrind with N jobs and with 3 N; the difference is divided by 2 N, so what
# a pool costs once is not in it. valgrind runs one thread at a time, so who waits for whom is decided by
# valgrind's scheduler, and how many items of a batch the caller runs himself. So it is done ROUNDS times, and
# the table has the median, and the least and the most.
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

instructions_a_job() {
    local few many
    few="$(instructions "$1" "$2" "$jobs")"
    many="$(instructions "$1" "$2" $((3 * jobs)))"
    echo $(((many - few) / (2 * jobs)))
}

row() {
    local -a found
    mapfile -t found < <(
        for ((round = 0; round < rounds; round++)); do
            instructions_a_job "$1" "$2"
        done | sort -n
    )
    printf '| %s | %s | %s to %s |\n' "$2" "${found[rounds / 2]}" "${found[0]}" "${found[rounds - 1]}"
}

if [ $# -eq 0 ]; then
    set -- "spawn" "reserve, spawn" "submit" "for_each" "map" "map_unordered" \
        "scope, from a worker" "scope, from outside" "rayon::spawn"
fi
printf '| way | instructions a job | of %s runs |\n|---|--:|--:|\n' "$rounds"
for way in "$@"; do
    row paths "$way"
done
