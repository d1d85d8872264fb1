#!/usr/bin/env bash
# The tests in miri, an interpreter that detects undefined behaviour, deadlocks and use after free.
#
#   .ci/miri.sh                  the library's own tests, and the suites below
#   .ci/miri.sh handles          the library's own tests, and tests/handles.rs
#
# Exits with 0, with 77 and a line `SKIPPED: reason`, or with another code on failure.
set -euo pipefail
cd "$(dirname "$0")/.."

# The limit of each cargo call, in seconds. miri is about a hundred times slower than native code.
limit="${MIRI_LIMIT:-200}"

# The suites that exercise the unsafe code with few jobs. Stress tests would take hours.
suites=(handles scopes fork)
if [ "$#" -gt 0 ]; then
    suites=("$@")
fi

skip() {
    echo "SKIPPED: $1"
    exit 77
}

if ! sysroot="$(rustup run nightly rustc --print sysroot 2>/dev/null)"; then
    skip "no nightly toolchain is installed"
fi
if ! rustup run nightly cargo miri --version >/dev/null 2>&1; then
    skip "miri is not installed for nightly"
fi
if [ ! -d "$sysroot/lib/rustlib/src/rust/library" ]; then
    skip "rust-src is not installed for nightly"
fi
if ! setup="$(timeout --kill-after=10 "$limit" cargo +nightly miri setup 2>&1)"; then
    echo "$setup"
    skip "miri's standard library could not be built: see above"
fi

# crossbeam requires tree-borrows, ignore-leaks and permissive-provenance: its epochs keep memory until
# the end, and convert pointers to integers. Isolation is off, so that tests may read the clock.
export MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-permissive-provenance -Zmiri-disable-isolation"
# proptest: few cases, and no file of regressions.
export PROPTEST_CASES="${PROPTEST_CASES:-4}" PROPTEST_DISABLE_FAILURE_PERSISTENCE=true

run_miri() {
    echo "+ cargo +nightly miri test $*"
    timeout --kill-after=10 "$limit" cargo +nightly miri test -p adaptive-pool --target-dir target/miri "$@"
}

run_miri --lib
for suite in "${suites[@]}"; do
    if [ -f "tests/$suite.rs" ]; then
        run_miri --test "$suite"
    elif [ "$#" -gt 0 ]; then
        echo "there is no tests/$suite.rs" >&2
        exit 2
    fi
done
