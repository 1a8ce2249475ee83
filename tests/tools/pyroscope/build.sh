#!/bin/sh
# Builds the puller of profiles into the directory $1.
set -eu
version=$(go list -m -f '{{.Version}}' github.com/pyroscope-io/pyroscope)
echo "test tools: building a puller of profiles with the code of Pyroscope $version, once for this machine" >&2
go build -trimpath -ldflags "-s -w" -o "$1/" .
