#!/usr/bin/env bash
# What users see of the crate: docs/public-api.txt lists it, with all features.
#
#   .ci/api.sh                 compares the list with the code; a difference is a failure
#   .ci/api.sh --bless         writes the list anew
#   .ci/api.sh semver REV      what has changed since the git revision REV; what breaks users is a failure
#
# Exits with 0, or with 77 and a line `SKIPPED: why`, or with anything else for a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

list=docs/public-api.txt
# That of rustdoc's JSON which the tool in .ci/api reads.
format=57

skip() {
    echo "SKIPPED: $1"
    exit 77
}

# Prints the list. Its caller looks at the exit code, so that `set -e` does not hold in it.
look() {
    # rustdoc's JSON is not stable. Only rustdoc gets the leave, not the build scripts, so that
    # what the steps before have built serves here too.
    mkdir -p target
    printf '#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@"\n' >target/rustdoc-json
    chmod +x target/rustdoc-json
    RUSTDOC="$PWD/target/rustdoc-json" cargo rustdoc -p adaptive-pool --quiet --locked --lib --all-features -- \
        -Zunstable-options --output-format json --cap-lints allow >&2 || exit 1
    local json=target/doc/adaptive_pool.json found
    found="$(grep -o '"format_version":[0-9]*' "$json" | tail -n 1 | cut -d: -f2)" || exit 1
    if [ "$found" != "$format" ]; then
        skip "this toolchain's rustdoc writes JSON of format $found, and .ci/api reads $format"
    fi
    if ! cargo fetch --quiet --locked --manifest-path .ci/api/Cargo.toml; then
        skip "what .ci/api depends on cannot be fetched"
    fi
    cargo run --quiet --locked --manifest-path .ci/api/Cargo.toml --target-dir target -- "$json"
}

# The list, in `now`; or the end, with what `look` says.
see() {
    now="$(look)" || {
        code=$?
        echo "$now"
        exit "$code"
    }
}

case "${1:-}" in
    "")
        see
        if ! diff --unified=0 --label "$list" --label "the code" "$list" - <<<"$now"; then
            echo "FAILED: the interface is not what $list says. If that is meant: .ci/api.sh --bless"
            exit 1
        fi
        ;;
    --bless)
        see
        cat >"$list" <<<"$now"
        ;;
    semver)
        rev="${2:?which revision?}"
        if cargo semver-checks --version >/dev/null 2>&1; then
            exec cargo semver-checks --baseline-rev "$rev" --all-features
        fi
        # Without that tool the lists are compared, each of which was true of its revision.
        if ! before="$(git show "$rev:$list" 2>/dev/null)"; then
            skip "$rev has no $list, and cargo-semver-checks is not installed"
        fi
        changes="$(diff <(echo "$before") "$list" || true)"
        grep '^>' <<<"$changes" | sed 's/^>/new: /' || true
        if grep '^<' <<<"$changes" | sed 's/^</gone:/'; then
            echo "FAILED: what is gone or has changed breaks users of $rev"
            exit 1
        fi
        echo "Nothing is gone. A new field or variant breaks users too, if its type is not #[non_exhaustive]."
        ;;
    *)
        sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
