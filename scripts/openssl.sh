#!/bin/sh
# Prints the option of cargo that builds OpenSSL from source, or nothing if its headers are installed. libpq encrypts its
# connections with OpenSSL.
set -u

# Checks what the build script of openssl-sys checks, in its order.
has_headers() {
    [ -n "${OPENSSL_DIR:-}" ] ||
        { [ -n "${OPENSSL_LIB_DIR:-}" ] && [ -n "${OPENSSL_INCLUDE_DIR:-}" ]; } ||
        [ -d /opt/homebrew/opt/openssl@3 ] ||
        "${PKG_CONFIG:-pkg-config}" --exists openssl 2>/dev/null
}

if has_headers; then
    exit 0
fi
if ! perl -MFindBin -MFile::Compare -MIPC::Cmd -e 1 2>/dev/null; then
    echo "OpenSSL's headers are missing (Debian: apt install libssl-dev pkg-config), and so is Perl, which building" \
        "OpenSSL from source needs (apt install perl). Install one of them." >&2
fi
echo "--features vendored-openssl"
