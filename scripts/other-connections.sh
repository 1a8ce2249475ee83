#!/bin/sh
# Runs the tests that need a feature: connections of diesel-async, and Diesel's MySQL. One build has both features.
#
# Diesel's MySQL needs the headers of a MySQL client. Without them its tests are skipped, which is written to the file in the
# first argument. If CI is set, that is a failure.
set -eu

skipped=$1

# Checks what the build script of mysqlclient-sys checks.
has_client() {
    "${PKG_CONFIG:-pkg-config}" --exists mysqlclient 2>/dev/null ||
        "${PKG_CONFIG:-pkg-config}" --exists libmariadb 2>/dev/null ||
        { [ -n "${MYSQLCLIENT_LIB_DIR:-}" ] && [ -n "${MYSQLCLIENT_VERSION:-}" ]; }
}

run() {
    "${CARGO:-cargo}" test --quiet ${OPENSSL:-} "$@"
}

if has_client; then
    run --features diesel-async,mysql --test diesel_async --test mysql --example async_pool
    run --features diesel-async,mysql --test attribution -- mariadb::
    exit
fi
run --features diesel-async --test diesel_async --example async_pool
line="skipped: the tests on MariaDB because the headers of a MySQL client are missing (Debian: libmariadb-dev)"
echo "$line"
mkdir -p "$(dirname "$skipped")"
echo "$line" >>"$skipped"
[ -z "${CI:-}" ]
