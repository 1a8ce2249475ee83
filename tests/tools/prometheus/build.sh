#!/bin/sh
# Builds Prometheus and promtool into the directory $1, without most service discoveries and without the page.
set -eu
module=github.com/prometheus/prometheus
# The module is called v0.316.0 where the program is 3.16.0; its file has the program's version.
# An empty cache has no directory of the module yet.
go mod download $module
version=$(cat "$(go list -m -f '{{.Dir}}' $module)/VERSION")
echo "test tools: building Prometheus $version, once for this machine: takes minutes" >&2
# static_configs, file_sd_configs and http_sd_configs are always there.
go build -trimpath -tags remove_all_sd,enable_dns_sd \
    -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" \
    -o "$1/" $module/cmd/prometheus $module/cmd/promtool
