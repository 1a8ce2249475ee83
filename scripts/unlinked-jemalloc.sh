#!/bin/sh
# Prints the path of an empty file, for JEMALLOC_OVERRIDE where nothing is linked: jemalloc is then not built. Where the service
# is not part of the build, it would be a second one, with other options.
set -eu
cd "$(dirname "$0")/.."

directory=${CARGO_TARGET_DIR:-target}/tmp/unlinked
mkdir -p "$directory"
file=$(cd "$directory" && pwd)/libjemalloc.a
[ -f "$file" ] || : >"$file"
echo "$file"
