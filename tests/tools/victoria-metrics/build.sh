#!/bin/sh
# Builds VictoriaMetrics, single node, and vmalert, which evaluates rules for it, into the directory $1.
#
# v1.151.0 is the newest that Go 1.26 compiles: from v1.152.0 on the module requires Go 1.27.
set -eu
module=github.com/VictoriaMetrics/VictoriaMetrics
version=$(go list -m -f '{{.Version}}' $module)
echo "test tools: building VictoriaMetrics $version, once for this machine: takes minutes" >&2
go build -trimpath -ldflags "-s -w -X $module/lib/buildinfo.Version=victoria-metrics-$version" \
    -o "$1/" $module/app/victoria-metrics $module/app/vmalert
