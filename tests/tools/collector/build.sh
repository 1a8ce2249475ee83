#!/bin/sh
# Builds an OpenTelemetry Collector into the directory $1: with a receiver of OTLP, and an exporter to files.
set -eu
version=$(go list -m -f '{{.Version}}' go.opentelemetry.io/collector/otelcol)
echo "test tools: building an OpenTelemetry Collector $version, once for this machine: takes minutes" >&2
go build -trimpath -ldflags "-s -w" -o "$1/" .
