#!/bin/sh
# Builds the benchmark of client_golang's promhttp into the directory $1.
set -eu
version=$(go list -m -f '{{.Version}}' github.com/prometheus/client_golang)
echo "test tools: building the benchmark of client_golang $version, once for this machine" >&2
go build -trimpath -ldflags "-s -w" -o "$1/" .
