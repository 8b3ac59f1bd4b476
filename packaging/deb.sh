#!/usr/bin/env bash
# Builds the Debian package and prints its path.
#
# usage: packaging/deb.sh [--debug] [--version VERSION] [--output DIR]
#
#   --debug            package the debug build, for a test
#   --version VERSION  in place of the one in Cargo.toml
#   --output DIR       where the package goes; target/debian without it
#
# Needs Debian, a Rust toolchain and cargo-deb (`cargo install --locked cargo-deb`, some minutes). The files of the
# package are in Cargo.toml, [package.metadata.deb]; its scripts are in packaging/debian. A package that is built on
# Debian 12 works on 13 too, not the other way round: it needs the C library that it was built with, or a newer one.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/command.sh
source "$repo/scripts/lib/command.sh"
# shellcheck source=scripts/lib/packages.sh
source "$repo/scripts/lib/packages.sh"

profile=release
options=()
output=$repo/target/debian

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            --debug) profile=dev ;;
            --version) options+=(--deb-version "${2:?--version needs a version}") && shift ;;
            --output) output=${2:?--output needs a directory} && shift ;;
            --help | -h) multidb_usage && exit 0 ;;
            *) multidb_usage_error "unknown argument: $1" ;;
        esac
        shift
    done
}

main() {
    parse "$@"
    multidb_find_cargo
    if ! cargo deb --version >/dev/null 2>&1; then
        echo "deb: cargo-deb is not installed; try: cargo install --locked cargo-deb" >&2
        return 1
    fi
    mkdir --parents "$output"
    output=$(cd "$output" && pwd)
    cd "$repo"
    cargo build --locked --quiet --profile "$profile" --package multidb --bin multidb
    local target=${CARGO_TARGET_DIR:-target} binary
    binary=$target/${profile/dev/debug}/multidb
    # Cargo.toml names these.
    local made=target/package
    rm --recursive --force "$made"
    mkdir --parents "$made"
    "$binary" generate man "$made/man"
    "$binary" generate completions "$made/completions"
    "$binary" generate config >"$made/multidb.toml"
    cargo deb --quiet --locked --no-build --profile "$profile" --package multidb --no-dbgsym \
        --output "$output" "${options[@]}"
}

main "$@"
