#!/usr/bin/env bash
# The tests under one of the compiler's sanitizers.
#
#   .ci/sanitizers.sh            address and leaks; works with a stable toolchain
#   .ci/sanitizers.sh thread     data races; requires a nightly with rust-src
#
# Exits with 0, with 77 and a line `SKIPPED: reason`, or with another code on failure.
#
# `thread` is not part of .ci/run. ThreadSanitizer does not understand fences, which crossbeam-deque
# and our protocols rely on, so its reports need review. loom checks the fences. On a busy machine it
# also reports the deques of rayon-core: a thief of crossbeam-deque may read a slot while its owner
# overwrites it. The thief then discards what it has read.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "SKIPPED: $1"
    exit 77
}

host="$(rustc -vV | sed -n 's/^host: //p')"
target="x86_64-unknown-linux-gnu"
if [ "$host" != "$target" ]; then
    skip "the sanitizers are set up for $target, and this is $host"
fi

# The seconds that `.ci/run` has left, if it is the caller: too little skips the step.
left="${CI_BUDGET_LEFT:-}"
if [ -n "$left" ] && [ "$left" -lt 250 ]; then
    skip "takes four minutes, and $left s are left; run .ci/sanitizers.sh"
fi

mode="${1:-address}"
# For tests of deep recursion: a sanitizer has larger frames, and is slow with large stacks.
export LEVELS="${LEVELS:-1000}"
export SMALL_STACK_KIB="${SMALL_STACK_KIB:-512}"
case "$mode" in
    address)
        # Leaks are detected at the end of each test program. A job that never ends is none.
        # A failed allocation returns null, as without the sanitizer. The pool compares addresses of
        # locals, so they have to be on the real stack.
        options=detect_leaks=1:allocator_may_return_null=1:detect_stack_use_after_return=0
        export ASAN_OPTIONS="${ASAN_OPTIONS:-$options}"
        export LSAN_OPTIONS="${LSAN_OPTIONS:-suppressions=$PWD/.ci/lsan.supp:print_suppressions=0}"
        # All tests of the library except those of features: with `tracing` a job costs an allocation,
        # which the tests that count allocations do not expect.
        suites=()
        for file in tests/*.rs; do
            suite="$(basename "$file" .rs)"
            case "$suite" in
                # Lists, and programs of another build.
                lock_file | shuttle) ;;
                serde | tracing | tracing_panics) ;;
                # Not in CI: they take a minute on a slow machine.
                model | processes)
                    if [ -z "$left" ]; then
                        suites+=(--test "$suite")
                    fi
                    ;;
                # Tests that count, time and compare the same code: if time permits.
                builder | idle | latencies | membarrier | metrics | reliability_page | scaling | \
                    stress | admission)
                    if [ "${left:-1000}" -ge 340 ]; then
                        suites+=(--test "$suite")
                    fi
                    ;;
                *) suites+=(--test "$suite") ;;
            esac
        done
        # The placement search has no unsafe code, and takes half a minute here.
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" cargo test -p adaptive-pool --no-fail-fast \
            --target "$target" --target-dir target/asan --lib "${suites[@]}" -- --skip placement::
        ;;
    thread)
        if ! sysroot="$(rustup run nightly rustc --print sysroot 2>/dev/null)"; then
            skip "no nightly toolchain is installed"
        fi
        if [ ! -d "$sysroot/lib/rustlib/src/rust/library" ]; then
            skip "rust-src is not installed for nightly"
        fi
        RUSTFLAGS="-Zsanitizer=thread --cfg crossbeam_sanitize_thread" \
            cargo +nightly test -p adaptive-pool -Zbuild-std --target "$target" --tests --target-dir target/tsan
        ;;
    *)
        echo "usage: .ci/sanitizers.sh [address|thread]" >&2
        exit 2
        ;;
esac
