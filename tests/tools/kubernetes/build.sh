#!/bin/sh
# Builds the check of Kubernetes manifests into the directory $1.
set -eu
echo "test tools: building the check of deploy/kubernetes, once for this machine" >&2
go build -trimpath -ldflags "-s -w" -o "$1/" .
