#!/usr/bin/env bash
# The tests under a sanitizer of the compiler.
#
#   .ci/sanitizers.sh            address and leaks; works with a stable toolchain
#   .ci/sanitizers.sh thread     data races; wants a nightly with rust-src
#
# Exits with 0, or with 77 and a line `SKIPPED: why`, or with anything else for a failure.
#
# `thread` is not part of .ci/run: that tool does not understand fences, on which crossbeam-deque and our
# own protocols stand, so what it reports has to be read before it is believed. loom checks the fences.
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

# What `.ci/run` has left, in seconds, if it is that which calls: a step that cannot be done in it is not begun.
left="${CI_BUDGET_LEFT:-}"
if [ -n "$left" ] && [ "$left" -lt 250 ]; then
    skip "takes four minutes, and $left s are left; run .ci/sanitizers.sh"
fi

mode="${1:-address}"
# For tests of deep recursion: a sanitizer's frames are larger, and it is slow with large stacks.
export LEVELS="${LEVELS:-1000}"
case "$mode" in
    address)
        # Leaks are looked for at each test program's end. A job that never ends is not one.
        # An allocation that fails is told to its caller, as it is without the sanitizer.
        export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}"
        export LSAN_OPTIONS="${LSAN_OPTIONS:-suppressions=$PWD/.ci/lsan.supp:print_suppressions=0}"
        # All tests of the library but those of features: with `tracing` a job costs an allocation, which
        # the tests that count those do not expect.
        suites=()
        for file in tests/*.rs; do
            suite="$(basename "$file" .rs)"
            case "$suite" in
                # Lists, and programs of other builds.
                lock_file | shuttle) ;;
                serde | tracing | tracing_panics) ;;
                # Not in CI: they take a minute on a slow machine.
                model | processes)
                    if [ -z "$left" ]; then
                        suites+=(--test "$suite")
                    fi
                    ;;
                # Those that count, time and compare, over the same code: if there is time for them.
                builder | idle | latencies | membarrier | metrics | reliability_page | scaling | \
                    stress | admission)
                    if [ "${left:-1000}" -ge 340 ]; then
                        suites+=(--test "$suite")
                    fi
                    ;;
                *) suites+=(--test "$suite") ;;
            esac
        done
        # The search of the roster has no unsafe code in it, and takes half a minute here.
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
