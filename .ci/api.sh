#!/usr/bin/env bash
# The public API with all features, as listed in docs/public-api.txt.
#
#   .ci/api.sh                 fails if the list and the code differ
#   .ci/api.sh --bless         rewrites the list
#   .ci/api.sh semver REV      lists the changes since the git revision REV; fails if one breaks users
#
# Exits with 0, with 77 and a line `SKIPPED: reason`, or with another code on failure.
set -euo pipefail
cd "$(dirname "$0")/.."

list=docs/public-api.txt
# The format of rustdoc's JSON that .ci/api reads.
format=57

skip() {
    echo "SKIPPED: $1"
    exit 77
}

# Prints the list. The caller checks the exit code, so `set -e` does not apply inside.
list_api() {
    # rustdoc's JSON is unstable. Only rustdoc gets RUSTC_BOOTSTRAP, not the build scripts, so that
    # earlier builds are reused.
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

# Puts the list into `now`, or exits with the output of `list_api`.
load_api() {
    now="$(list_api)" || {
        code=$?
        echo "$now"
        exit "$code"
    }
}

case "${1:-}" in
    "")
        load_api
        if ! diff --unified=0 --label "$list" --label "the code" "$list" - <<<"$now"; then
            echo "FAILED: the public API differs from $list. If intended: .ci/api.sh --bless"
            exit 1
        fi
        ;;
    --bless)
        load_api
        cat >"$list" <<<"$now"
        ;;
    semver)
        rev="${2:?which revision?}"
        if cargo semver-checks --version >/dev/null 2>&1; then
            exec cargo semver-checks --baseline-rev "$rev" --all-features
        fi
        # Otherwise compare the lists, each of which was correct for its revision.
        if ! before="$(git show "$rev:$list" 2>/dev/null)"; then
            skip "$rev has no $list, and cargo-semver-checks is not installed"
        fi
        changes="$(diff <(echo "$before") "$list" || true)"
        grep '^>' <<<"$changes" | sed 's/^>/new: /' || true
        if grep '^<' <<<"$changes" | sed 's/^</gone:/'; then
            echo "FAILED: the removals and changes break users of $rev"
            exit 1
        fi
        echo "Nothing was removed. A new field or variant also breaks users unless its type is #[non_exhaustive]."
        ;;
    *)
        sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
