#!/bin/sh
# Runs the tests on a real MariaDB. They need the headers of a MySQL client. Without the headers they are skipped, which is
# written to the file in the first argument. If CI is set, that is a failure.
set -eu

skipped=$1

# Checks what the build script of mysqlclient-sys checks.
has_client() {
    "${PKG_CONFIG:-pkg-config}" --exists mysqlclient 2>/dev/null ||
        "${PKG_CONFIG:-pkg-config}" --exists libmariadb 2>/dev/null ||
        { [ -n "${MYSQLCLIENT_LIB_DIR:-}" ] && [ -n "${MYSQLCLIENT_VERSION:-}" ]; }
}

if ! has_client; then
    line="skipped: the tests on MariaDB because the headers of a MySQL client are missing (Debian: libmariadb-dev)"
    echo "$line"
    mkdir -p "$(dirname "$skipped")"
    echo "$line" >>"$skipped"
    if [ -n "${CI:-}" ]; then
        exit 1
    fi
    exit 0
fi
"${CARGO:-cargo}" test --quiet --features mysql --test mysql ${OPENSSL:-}
"${CARGO:-cargo}" test --quiet --features mysql --test attribution ${OPENSSL:-} -- mariadb::
