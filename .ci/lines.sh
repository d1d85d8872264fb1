#!/usr/bin/env bash
# Counts the lines of code in src, without blank lines, comments and checking code (tests, models,
# simulated parts, and items of cfg(test), cfg(loom) and cfg(shuttle)). Prints one number.
#
#   .ci/lines.sh              the number
#   .ci/lines.sh --files      also the number of each file, the largest first
#
# Relies on rustfmt: an item ends with a `;` on its first line, or with a bracket in its first column.
set -euo pipefail
cd "$(dirname "$0")/.."

find src -name '*.rs' |
    grep -vE '/(simulated|tests|model)(/|\.rs$)|/(simulation|frozen|poison|compile_fail)\.rs$' |
    sort |
    xargs awk '
        FNR == 1 { skipping = 0; marked = 0; shown[FILENAME] += 0 }
        skipping {
            if (match($0, /[^ ]/) == length(close_at) + 1 && $0 ~ /^ *[\])}]/ && $0 !~ /\{$/) skipping = 0
            next
        }
        /^ *$/ || /^ *\/\// { next }
        /^ *#\[cfg\((all\()?(test|loom|shuttle)[,)]/ { marked = 1; next }
        marked && /^ *#\[/ { next }
        marked {
            marked = 0
            if ($0 ~ /[;,]$/ || $0 ~ /\}$/) next
            indent = $0; sub(/[^ ].*/, "", indent)
            close_at = indent; skipping = 1
            next
        }
        { shown[FILENAME]++; all++ }
        END {
            for (file in shown) print shown[file], file
            print all
        }
    ' | sort -rn | { [ "${1:-}" = "--files" ] && cat || head -n 1; }
