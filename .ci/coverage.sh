#!/usr/bin/env bash
# Which lines of src the tests run.
#
#   .ci/coverage.sh              all tests, doc tests too; a table of the files, and the lines that nobody ran
#   .ci/coverage.sh --again      the table once more, without tests: of what the last run left
#
# Exits with 0, or with 77 and a line `SKIPPED: why`, or with anything else for a failure: of a test, or because
# less than $COVERAGE_LEAST percent of the lines were run (default 95).
#
# Not part of .ci/run: it builds all that `cargo test` does a second time. Wants llvm-profdata and llvm-cov that
# can read what this compiler writes: rustup's component llvm-tools, or LLVM 19 or later from elsewhere (on
# Debian: apt-get install llvm-19). $LLVM_PROFDATA and $LLVM_COV name others.
#
# Not counted are the lines of tests and models (whole files of them, and from `mod tests {` to a file's end), and
# those of mutants, which this build does not have. What runs in a process that ends by a signal or by _exit is not
# seen.
set -euo pipefail
cd "$(dirname "$0")/.."

least="${COVERAGE_LEAST:-95}"
# Each cargo call ends within this many seconds.
limit="${COVERAGE_LIMIT:-1200}"
out="target/coverage"
# Only for tests.
tests='src/(.*/)?((tests|model|simulation|frozen|poison)\.rs|tests/.*)$'

skip() {
    echo "SKIPPED: $1"
    exit 77
}

failed=0

# The table is shown even so.
fail() {
    echo "$1" >&2
    failed=1
}

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Whether these two read what this compiler writes: tried with a program of one line.
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

# Builds, and lists the programs that came of it: not those of older builds, which are there too.
list_programs() {
    run_cargo "$@" --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' >>"$out/programs"
}

run_tests() {
    rm -rf "$out/profraw" "$out/doctests" "$out/programs"
    mkdir -p "$out/profraw" "$out/doctests"
    # One file for each program, into which all its processes merge what they ran.
    export LLVM_PROFILE_FILE="$PWD/$out/profraw/%m.profraw"
    export RUSTFLAGS="-C instrument-coverage"
    # The programs of doc tests are kept by an option that is not stable. For all, or all would be built anew.
    export RUSTC_BOOTSTRAP=1
    export RUSTDOCFLAGS="$RUSTFLAGS -Z unstable-options --persist-doctests $PWD/$out/doctests"
    list_programs build --examples
    list_programs test --tests --no-run
    # What build scripts and macros have run.
    rm -f "$out"/profraw/*
    run_cargo test --no-fail-fast --tests || fail "tests have failed"
    run_cargo test --doc || fail "doc tests have failed"
    find "$PWD/$out/doctests" -type f -perm -u+x >>"$out/programs"
}

# Of each file: its lines that have code, and how many of these were run. Then those that were not.
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
                # To the brace that stands as far to the right as the line of the mutant begins.
                if (mutant != "") {
                    delete text[number]
                    if (index(line, mutant) == 1) mutant = ""
                } else if (line ~ /[ (]if cfg!\(mutant/) {
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
    echo "The lines that nobody ran are in $out/not-run."
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
