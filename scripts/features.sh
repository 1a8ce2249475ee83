#!/bin/sh
# Compiles every combination of features that makes sense, with warnings as errors: in the directory that all builds share,
# so that a second run has only this crate to look at.
set -eu

combinations='
-
http
database
http,database
ops
ops,database
dashboard
dashboard,database
http,jemalloc
service
service,prometheus-protobuf
'

for features in $combinations; do
    case $features in
    -) set -- ;;
    *) set -- --features "$features" ;;
    esac
    echo "features: $features"
    "${CARGO:-cargo}" clippy --quiet --lib --bins --no-default-features "$@" ${OPENSSL:-} -- -D warnings
done

# Nothing is linked, so the client library need not be there: the build script is told of one all the same.
echo "features: mysql"
MYSQLCLIENT_LIB_DIR=/nowhere MYSQLCLIENT_VERSION=8.4.3 \
    "${CARGO:-cargo}" clippy --quiet --example mysql --features mysql ${OPENSSL:-} -- -D warnings
