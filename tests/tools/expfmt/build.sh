#!/bin/sh
# Builds the reader of expositions into the directory $1.
set -eu
version=$(go list -m -f '{{.Version}}' github.com/prometheus/common)
echo "test tools: building a reader with expfmt of prometheus/common $version, once for this machine" >&2
go build -trimpath -ldflags "-s -w" -o "$1/" .
