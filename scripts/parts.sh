#!/bin/sh
# Makes the given targets of the Makefile one after the other, and lists at the end how long each took. The first that fails
# ends the run with its exit code; the list then ends with it.
set -u

taken=
status=0
for part in "$@"; do
    began=$(date +%s)
    "${MAKE:-make}" --no-print-directory "$part" || status=$?
    taken="$taken$(printf '%7d  %s' $(($(date +%s) - began)) "$part")
"
    [ "$status" = 0 ] || break
done
printf '\nThe parts, in seconds:\n%s' "$taken"
exit "$status"
