#!/bin/sh
# scripts/unless-passed.sh NAME SKIPPED PATH... -- COMMAND...
#
# Runs the command, unless it has passed before with the same contents of all files under the paths. Says so in a line if it
# does not run it. SKIPPED is the file that lists skipped tests: a run that adds to it is not recorded as passed. Records are
# beside that file. Without git, or if CI is set, the command always runs.
set -u

name=$1
skipped=$2
record=$(dirname "$skipped")/passed/$name
shift 2

paths=
while [ "$1" != -- ]; do
    paths="$paths $1"
    shift
done
shift

# A fingerprint of the compiler and of the files that git knows or does not ignore.
fingerprint() {
    # shellcheck disable=SC2086
    files=$(git ls-files --cached --others --exclude-standard -- $paths 2>/dev/null) || return 1
    [ -n "$files" ] || return 1
    { rustc --version --verbose && echo "$files" | sort | while read -r file; do
        [ ! -f "$file" ] || sha256sum "$file"
    done; } | sha256sum
}

size_of_skipped() {
    cat "$skipped" 2>/dev/null | wc -c
}

now=
if [ -z "${CI:-}" ]; then
    now=$(fingerprint) || now=
fi
if [ -n "$now" ] && [ "$(cat "$record" 2>/dev/null)" = "$now" ]; then
    echo "$name: not run again, it has passed with the same files (remove $record to run it)"
    exit 0
fi
rm -f "$record"
before=$(size_of_skipped)
"$@" || exit
if [ -n "$now" ] && [ "$(size_of_skipped)" = "$before" ]; then
    mkdir -p "$(dirname "$record")"
    echo "$now" >"$record"
fi
