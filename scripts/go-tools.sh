#!/bin/sh
# Builds the Go programs that the tests use. Each is a Go module under tests/tools/, with go.mod and go.sum that pin it
# and a build.sh that builds it:
#
#   prometheus         Prometheus and promtool, the newest 3.x
#   alertmanager       Alertmanager and amtool, the newest
#   victoria-metrics   VictoriaMetrics, single node, and vmalert: the newest 1.x that the Go of the tests compiles
#   kubernetes         the check of deploy/kubernetes against the Go types of Kubernetes and of the operator
#   promhttp           the benchmark of client_golang's exposition
#   expfmt             reads an exposition with client_golang's parser
#   collector          an OpenTelemetry Collector that writes what it receives to files
#   pyroscope          pulls profiles with the code of Pyroscope's pull mode
#
# A module is built once for a machine, into ${XDG_CACHE_HOME:-~/.cache}/actix-vitals/tools/NAME-CHECKSUM/. The checksum
# covers the module's files and the version of Go. Tests find the programs through links, which each run writes anew:
#
#   ${CARGO_TARGET_DIR:-target}/tmp/tools/NAME -> the directory with NAME's programs
#
# Cargo calls target/tmp CARGO_TARGET_TMPDIR: a test opens `tools/prometheus/promtool` below it. Where there is no Go, or
# a module cannot be built, its link is missing: no test uses an outdated program.
#
# Usage: scripts/go-tools.sh [NAME...]        all of them unless named
set -u
cd "$(dirname "$0")/.." || exit 1

cache=${XDG_CACHE_HOME:-$HOME/.cache}/actix-vitals/tools
links=${CARGO_TARGET_DIR:-target}/tmp/tools

# Static programs, without a C compiler.
export CGO_ENABLED=0

say() {
    echo "test tools: $*" >&2
}

checksum() {
    (
        cd "tests/tools/$1" || exit 1
        find . -type f -exec sha256sum {} + | LC_ALL=C sort
        go version
    ) | sha256sum | cut -c 1-16
}

# Builds into a directory beside the final one and renames it, so that an interrupted build leaves nothing that is used.
build() {
    work=$(mktemp -d "$cache/building.XXXXXX") || return 1
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/out" && cp -R "tests/tools/$1" "$work/module" || return 1
    (cd "$work/module" && ./build.sh "$work/out") && mv "$work/out" "$2"
}

# The directory with the programs of a module, and the link to it.
prepare() {
    directory=$cache/$1-$(checksum "$1")
    rm -f "$links/$1"
    [ -d "$directory" ] || (build "$1" "$directory") || return 1
    ln -s "$directory" "$links/$1"
}

if [ "$#" = 0 ]; then
    set -- prometheus alertmanager victoria-metrics kubernetes promhttp expfmt collector pyroscope
fi
mkdir -p "$links" "$cache" || exit 1
if ! command -v go >/dev/null 2>&1; then
    for name in "$@"; do
        rm -f "$links/$name"
    done
    say "there is no Go: $* cannot be built; Debian's Prometheus and Alertmanager serve alone"
    exit 0
fi
# Another run on this machine builds the same: wait for it, and use its programs.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$cache/lock"
    flock 9
fi
for name in "$@"; do
    prepare "$name" || say "$name could not be built: the tests that need it are skipped"
done
exit 0
