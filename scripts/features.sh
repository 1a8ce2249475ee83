#!/bin/sh
# Compiles the combinations of features of the library that a service would choose, and the service without PostgreSQL, without
# TLS, and without either. Warnings are errors. Without either, it runs the tests of what is then rejected, too.
set -eu

jemalloc=$(scripts/unlinked-jemalloc.sh)

combinations='
-
http
database
http,database
ops
otlp
http,otlp-plain
http,database,ops,jemalloc,otlp
profiling
http,database,jemalloc,profiling
http,diesel-async,ops
'

for features in $combinations; do
    case $features in
    -) set -- ;;
    *) set -- --features "$features" ;;
    esac
    echo "features: $features"
    JEMALLOC_OVERRIDE=$jemalloc "${CARGO:-cargo}" clippy --quiet --package actix-vitals --lib --no-default-features "$@" -- -D warnings
done

for features in '' tls postgres; do
    echo "features: the service with ${features:-SQLite alone}"
    openssl=
    [ "$features" = postgres ] && openssl=${OPENSSL:-}
    "${CARGO:-cargo}" clippy --quiet --package actix-vitals-service --no-default-features --features "$features" $openssl -- -D warnings
done
"${CARGO:-cargo}" clippy --quiet --package actix-vitals-service --no-default-features --tests ${OPENSSL:-} -- -D warnings
"${CARGO:-cargo}" test --quiet --package actix-vitals-service --no-default-features --lib ${OPENSSL:-} -- settings:: access::

echo "features: prometheus-protobuf"
"${CARGO:-cargo}" clippy --quiet --package vitals-registry --lib --features prometheus-protobuf -- -D warnings

# Nothing is linked, so the client library may be missing. The build script only needs a path and a version.
echo "features: mysql"
MYSQLCLIENT_LIB_DIR=/nowhere MYSQLCLIENT_VERSION=8.4.3 \
    "${CARGO:-cargo}" clippy --quiet --example mysql --features mysql ${OPENSSL:-} -- -D warnings
