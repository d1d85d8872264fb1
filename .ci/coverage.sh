#!/usr/bin/env bash
# The lines of src that the tests run.
#
#   .ci/coverage.sh              all tests and doc tests; prints a table of the files, lists the lines not run
#   .ci/coverage.sh --again      prints the table of the last run again
#
# Exits with 0, with 77 and a line `SKIPPED: reason`, or with another code on failure: of a test, or if
# less than $COVERAGE_LEAST percent of the lines ran (default 95).
#
# Not part of .ci/run: it builds everything that `cargo test` builds a second time. Requires llvm-profdata
# and llvm-cov that can read this compiler's output: rustup's component llvm-tools, or LLVM 19 or later (on
# Debian: apt-get install llvm-19). $LLVM_PROFDATA and $LLVM_COV override them.
#
# Not counted: tests and models (whole files, and from `mod tests {` to a file's end), and mutants, which
# this build does not contain. Code in a process that ends by a signal or by _exit is missed.
set -euo pipefail
cd "$(dirname "$0")/.."

least="${COVERAGE_LEAST:-95}"
# The limit of each cargo call, in seconds.
limit="${COVERAGE_LIMIT:-1200}"
out="target/coverage"
# Only for tests.
tests='src/(.*/)?((tests|model|simulation|frozen|poison)\.rs|(tests|model)/.*)$'

skip() {
    echo "SKIPPED: $1"
    exit 77
}

failed=0

# Still prints the table afterwards.
fail() {
    echo "$1" >&2
    failed=1
}

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Whether these two tools read this compiler's output, tried with a program of one line.
can_read() {
    "$1" merge -o "$work/one.profdata" "$work/one.profraw" &&
        "$2" report --instr-profile="$work/one.profdata" "$work/one"
} >/dev/null 2>&1

find_tools() {
    echo 'fn main() {}' >"$work/one.rs"
    if ! rustc -C instrument-coverage -o "$work/one" "$work/one.rs" >/dev/null 2>&1; then
        skip "this toolchain has no profiler_builtins"
    fi
    LLVM_PROFILE_FILE="$work/one.profraw" "$work/one"
    if [ -n "${LLVM_PROFDATA:-}" ] && [ -n "${LLVM_COV:-}" ]; then
        profdata="$LLVM_PROFDATA" cov="$LLVM_COV"
        if can_read "$profdata" "$cov"; then
            return
        fi
    fi
    local directory
    for directory in "$(rustc --print target-libdir)/../bin" $(ls -dr /usr/lib/llvm-*/bin 2>/dev/null); do
        profdata="$directory/llvm-profdata" cov="$directory/llvm-cov"
        if can_read "$profdata" "$cov"; then
            return
        fi
    done
    skip "no llvm-profdata and llvm-cov read what rustc writes, of LLVM $(rustc -vV | sed -n 's/^LLVM version: //p')"
}

run_cargo() {
    echo "+ cargo $*" >&2
    timeout --kill-after=10 "$limit" cargo "$@" --locked --target-dir "$out"
}

# Builds, and lists the resulting programs, but not those of older builds.
list_programs() {
    run_cargo "$@" --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' >>"$out/programs"
}

run_tests() {
    rm -rf "$out/profraw" "$out/doctests" "$out/programs"
    mkdir -p "$out/profraw" "$out/doctests"
    # One file per program, into which all its processes merge their counters.
    export LLVM_PROFILE_FILE="$PWD/$out/profraw/%m.profraw"
    export RUSTFLAGS="-C instrument-coverage"
    # An unstable option keeps the programs of doc tests. Set for all, or everything would be rebuilt.
    export RUSTC_BOOTSTRAP=1
    export RUSTDOCFLAGS="$RUSTFLAGS -Z unstable-options --persist-doctests $PWD/$out/doctests"
    list_programs build --examples
    list_programs test --tests --no-run
    # The counters of build scripts and macros.
    rm -f "$out"/profraw/*
    run_cargo test --no-fail-fast --tests || fail "tests failed"
    run_cargo test --doc || fail "doc tests failed"
    find "$PWD/$out/doctests" -type f -perm -u+x >>"$out/programs"
}

# Prints for each file its lines of code and the number that ran. Lists the others.
show() {
    "$profdata" merge --sparse -o "$out/all.profdata" "$out"/profraw/*.profraw
    local objects=()
    local program
    while read -r program; do
        objects+=(--object "$program")
    done <"$out/programs"
    "$cov" export --format=lcov --instr-profile="$out/all.profdata" --ignore-filename-regex="$tests" \
        "${objects[@]}" --sources "$PWD/src" >"$out/lcov.info" 2>"$out/warnings"
    awk -v here="$PWD/" -v least="$least" -v list="$out/not-run" '
        BEGIN { printf "" >list }
        /^SF:/ {
            path = substr($0, 4); file = substr(path, length(here) + 1)
            lines = run = number = 0; mutant = ""; split("", text)
            while ((getline line <path) > 0) {
                if (line ~ /^mod tests \{/) break
                text[++number] = line
                # Up to the closing brace in the column in which the line of the mutant begins.
                if (mutant != "") {
                    delete text[number]
                    if (index(line, mutant) == 1) mutant = ""
                } else if (line ~ /[ (]if mutant!\(/) {
                    mutant = line; sub(/[^ ].*/, "}", mutant)
                }
            }
            close(path)
        }
        /^DA:/ {
            split(substr($0, 4), at, ",")
            if (!(at[1] in text)) next
            lines++
            if (at[2] > 0) run++; else print file ":" at[1] ":" text[at[1]] >list
        }
        /^end_of_record/ && lines > 0 {
            printf "%-32s %6d %6d  %5.1f %%\n", file, lines, run, 100 * run / lines
            all += lines; all_run += run
        }
        END {
            if (all == 0) { print "no lines at all"; exit 1 }
            printf "%-32s %6d %6d  %5.1f %%\n", "src", all, all_run, 100 * all_run / all
            if (100 * all_run < least * all) { printf "less than %s %%\n", least; exit 1 }
        }
    ' "$out/lcov.info" || failed=1
    echo "The lines not run are in $out/not-run."
}

case "${1:-}" in
    "" | --again) ;;
    *)
        echo "usage: .ci/coverage.sh [--again]" >&2
        exit 2
        ;;
esac
find_tools
if [ "${1:-}" != "--again" ]; then
    run_tests
fi
show
exit "$failed"
