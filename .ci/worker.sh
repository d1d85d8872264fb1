#!/usr/bin/env bash
# The tests of the member `worker`, with a real nats-server on loopback:
#
#   .ci/worker.sh              all of them, in their short forms
#   .ci/worker.sh kill_storm   those with this in their name
#
# NATS_SERVER names the server's binary. Without it, and without one on the path, Debian's package is
# unpacked into target/nats-server: nothing is installed, and no service is started. Prints SKIPPED and
# exits with 77 if no server is available.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

skip() {
    echo "SKIPPED: $1"
    exit 77
}

need="$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' worker/Cargo.toml)"
have="$(rustc --version | sed 's/^rustc \([0-9.]*\).*/\1/')"
if [ "$(printf '%s\n' "$need" "$have" | sort -V | head -n 1)" != "$need" ]; then
    skip "the worker needs Rust $need, this is $have"
fi

# Unpacks Debian's package.
unpack() {
    local folder="$PWD/target/nats-server"
    mkdir -p "$folder"
    (
        cd "$folder"
        rm -f ./*.deb
        # The package lists may be missing or old; only root can update them.
        timeout 60 apt-get download nats-server ||
            { timeout 90 apt-get update && timeout 60 apt-get download nats-server; }
        dpkg-deb -x ./*.deb .
    ) >"$folder/log" 2>&1
}

PATH="$PATH:/usr/sbin:/usr/local/bin"
unpacked="$PWD/target/nats-server/usr/sbin/nats-server"
if [ -z "${NATS_SERVER:-}" ] && ! command -v nats-server >/dev/null; then
    if [ ! -x "$unpacked" ] && ! unpack; then
        skip "no nats-server is installed, and Debian's package could not be downloaded (target/nats-server/log)"
    fi
    export NATS_SERVER="$unpacked"
fi
echo "$("${NATS_SERVER:-nats-server}" --version)"

exec cargo test --locked -p adaptive-pool-worker -- "$@"
