#!/usr/bin/env bash
# Takes the pictures of the web page that the documents show.
#
# usage: scripts/screenshots.sh [--all DIR]
#
#   --all DIR   take each page at two widths, and dark, into DIR, to be looked at; without it, those of
#               docs/images are made anew
#
# Needs Debian 12 with a Rust toolchain, and root or sudo. Installs missing packages (Chromium, Postgres,
# xfsprogs, git, a C compiler), mounts a sparse file system, and takes it away again, however it ends.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/command.sh
source "$repo/scripts/lib/command.sh"
# shellcheck source=scripts/lib/packages.sh
source "$repo/scripts/lib/packages.sh"
# shellcheck source=scripts/lib/reflink.sh
source "$repo/scripts/lib/reflink.sh"

work=

main() {
    local to=$repo/docs/images arguments=()
    case ${1-} in
        '') ;;
        --help | -h) multidb_usage && exit 0 ;;
        --all)
            [ $# -eq 2 ] || { multidb_usage >&2 && exit 2; }
            to=$(realpath "$2")
            arguments=(all)
            ;;
        *) multidb_usage >&2 && exit 2 ;;
    esac
    multidb_needs_root "$@"
    cd "$repo"
    multidb_finish_by finish
    multidb_find_cargo
    multidb_install_packages build git postgres xfs browser
    cargo build --workspace --locked
    mkdir --parents "$to"
    if [ -z "${MULTIDB_TEST_XFS:-}" ]; then
        work=$(mktemp --directory --tmpdir="${TMPDIR:-/var/tmp}" multidb-screenshots.XXXXXX)
        chmod 0755 "$work"
        multidb_mount_image xfs "$work/xfs.img" "$work/xfs" 8G
        chmod 0755 "$work/xfs"
        export MULTIDB_TEST_XFS=$work/xfs
    fi
    local target=${CARGO_TARGET_DIR:-$repo/target}/debug
    "$target/screenshots" "$target/multidb" "$to" "${arguments[@]}"
}

finish() {
    local result=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [ -n "$work" ]; then
        multidb_kill_users_of "$work"
        multidb_unmount_image "$work/xfs"
        rm --recursive --force --one-file-system "$work"
    fi
    exit "$result"
}

main "$@"
