#!/bin/sh
# Builds Alertmanager and amtool into the directory $1.
set -eu
module=github.com/prometheus/alertmanager
# An empty cache has no directory of the module yet.
go mod download $module
directory=$(go list -m -f '{{.Dir}}' $module)
version=$(cat "$directory/VERSION")
echo "test tools: building Alertmanager $version, once for this machine: takes minutes" >&2
# The published module lacks the built page that the program embeds: a copy of the module gets an empty one.
cp -R "$directory" source
chmod -R u+w source
mkdir -p source/ui/app/dist
: >source/ui/app/dist/index.html
go mod edit -replace "$module=./source"
go build -trimpath -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" \
    -o "$1/" $module/cmd/alertmanager $module/cmd/amtool
