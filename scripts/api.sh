#!/bin/sh
# Lists the public interface of the two libraries that adopters use, in docs/api, by cargo-public-api.
#
# `scripts/api.sh write` writes the lists. `scripts/api.sh check FILE` compares them; it adds to FILE what cannot be checked.
# `scripts/api.sh install` builds the tool, once for a machine.
# The tool reads rustdoc's JSON, which the stable compiler writes with RUSTC_BOOTSTRAP only. Nothing that is built this way is
# run or kept.
set -eu
cd "$(dirname "$0")/.."

action=$1
skipped=${2:-/dev/null}
cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
# Without `diesel-async`: rustdoc asks which methods an alias such as `deadpool::Pool<C>` has for any `C`. The bounds of
# diesel-async's manager lead to Diesel's `SelectStatement` and back, without end (E0275, at any `recursion_limit`).
features=actix-vitals/jemalloc,actix-vitals/otlp,actix-vitals/profiling

version=0.52.0
tool=${XDG_CACHE_HOME:-$HOME/.cache}/actix-vitals/tools/cargo-public-api-$version
PATH=$tool/bin:$PATH

if [ "$action" = install ]; then
    command -v cargo-public-api >/dev/null 2>&1 && exit
    echo "test tools: building cargo-public-api, once for this machine: takes minutes"
    exec "$cargo" install --quiet --locked --root "$tool" --version "$version" cargo-public-api
fi

if ! command -v cargo-public-api >/dev/null 2>&1; then
    echo "skipped: the public interface because cargo-public-api is missing" | tee -a "$skipped"
    # Where CI is set, or the lists are to be written, that is a failure.
    [ "$action" = check ] && [ -z "${CI:-}" ]
    exit
fi

lists=$(mktemp -d)
trap 'rm -rf "$lists"' EXIT

JEMALLOC_OVERRIDE=$(scripts/unlinked-jemalloc.sh) RUSTC_BOOTSTRAP=1 RUSTDOCFLAGS="-Z unstable-options --output-format json --cap-lints allow" \
    "$cargo" doc --quiet --no-deps --lib --features "$features" \
    -p vitals-registry -p vitals-recorder -p vitals-console -p vitals-otlp -p actix-vitals

# Without derived and automatic implementations.
list() {
    cargo-public-api public-api --rustdoc-json "$target/doc/$1.json" -sss
}

# Of what the crates below have in public, only the items that `actix-vitals` re-exports.
reexported() {
    awk '
        NR == FNR {
            if (/^pub use /) { sub(/.*::/, ""); names[$0] }
            next
        }
        {
            item = $0
            if (item ~ /^impl.* for /) sub(/.* for /, "", item)
            if (!match(item, /vitals_(recorder|console|otlp)(::[A-Za-z0-9_]+)+/)) next
            count = split(substr(item, RSTART, RLENGTH), path, "::")
            for (i = 1; i <= count; i++) if (path[i] in names) { print; next }
        }
    ' "$1" -
}

list vitals_registry >"$lists/vitals-registry.txt"
list actix_vitals >"$lists/facade"
# The modules of types are left out: those of other crates are private ones, which may change.
{
    cat "$lists/facade"
    list vitals_recorder | reexported "$lists/facade"
    list vitals_console | reexported "$lists/facade"
    list vitals_otlp | reexported "$lists/facade"
} | sed -E 's/\b(vitals_[a-z]+)(::[a-z_0-9]+)+::([A-Z])/\1::\3/g' >"$lists/actix-vitals.txt"

for name in actix-vitals vitals-registry; do
    if [ "$action" = write ]; then
        mkdir -p docs/api
        cp "$lists/$name.txt" "docs/api/$name.txt"
    elif ! diff -u "docs/api/$name.txt" "$lists/$name.txt"; then
        echo "The public interface of $name has changed: run \`make api\`, and review the difference." >&2
        exit 1
    fi
done
