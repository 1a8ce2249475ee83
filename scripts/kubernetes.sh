#!/bin/sh
# Writes deploy/kubernetes/rules.yml from the rules and alerts of deploy/prometheus.
#
# Usage: scripts/kubernetes.sh            writes the file
#        scripts/kubernetes.sh --check    fails where the file is outdated, and shows the difference
set -eu
cd "$(dirname "$0")/.."

manifest=deploy/kubernetes/rules.yml

# A PrometheusRule of this name, whose spec is the file.
resource() {
    cat <<END
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: $1
  labels:
    app.kubernetes.io/name: actix-vitals
spec:
END
    sed 's/^./  &/' "$2"
}

manifest() {
    cat <<END
# The recording rules and alerts of deploy/prometheus for the Prometheus Operator.
#
# Written by scripts/kubernetes.sh: change rules.yml and alerts.yml there, and run it again.

END
    resource actix-vitals-rules deploy/prometheus/rules.yml
    echo ---
    resource actix-vitals-alerts deploy/prometheus/alerts.yml
}

case ${1-} in
'') manifest >"$manifest" ;;
--check) manifest | diff -u "$manifest" - ;;
*)
    echo "usage: $0 [--check]" >&2
    exit 2
    ;;
esac
