#!/usr/bin/env bash
# Runs every check that needs no database, and reports all failures at the end.
#
# usage: scripts/check.sh
#
# Format, clippy with warnings as errors, documentation, the house rules (the `tidy` tests), the
# shell scripts, and cargo-deny where it is installed: building it takes longer than all the rest.
# Installs shellcheck, and rustfmt and clippy through rustup, where they are missing.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/command.sh
source "$repo/scripts/lib/command.sh"
# shellcheck source=scripts/lib/packages.sh
source "$repo/scripts/lib/packages.sh"

failed=()

check() {
    local name=$1
    shift
    printf '== %s\n' "$name"
    if ! "$@"; then
        failed+=("$name")
    fi
}

shell_scripts() {
    shellcheck --external-sources .ci/run scripts/*.sh scripts/lib/*.sh packaging/*.sh packaging/debian/*
}

components() {
    if ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
        rustup component add rustfmt clippy
    fi
}

dependencies() {
    if ! cargo deny --version >/dev/null 2>&1; then
        echo "== deny: left out, cargo-deny is not installed (cargo install --locked cargo-deny)"
        return
    fi
    # Advisories need their database from the network: `cargo deny check advisories` by hand.
    check deny cargo deny check bans licenses sources
}

main() {
    if [ $# -gt 0 ]; then
        multidb_usage
        case $1 in --help | -h) exit 0 ;; *) exit 2 ;; esac
    fi
    cd "$repo"
    multidb_find_cargo
    multidb_install_packages build lint
    components
    check fmt cargo fmt --all --check
    check clippy cargo clippy --workspace --all-targets --locked -- -D warnings
    # Private items are documented too, so a link to one holds.
    check doc env RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --locked --document-private-items --quiet
    check tidy cargo test --quiet --locked --test it -- tidy::
    check shellcheck shell_scripts
    dependencies
    if [ ${#failed[@]} -gt 0 ]; then
        printf '\nfailed: %s\n' "${failed[*]}"
        return 1
    fi
    printf '\nall checks passed\n'
}

main "$@"
