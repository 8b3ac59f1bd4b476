#!/usr/bin/env bash
# Measures multidb from outside, and the floor beside it: the same clone and the same Postgres start
# by hand. Prints a table and a line of JSON for each file system and runtime.
#
# usage: scripts/bench.sh [--gib N] [--runs N] [--on xfs|btrfs|all] [--runtime process|docker|all]
#                         [--no-throughput]
#
#   --gib N          the size of the snapshot; default 1, the real thing is 15
#   --runs N         the runs of each latency; default 20
#   --no-throughput  leave out pgbench and COPY through multidb, HAProxy and PgBouncer
#
# Needs Debian 12 with a Rust toolchain, root, and about 2.5 times the snapshot's size in /var/tmp.
# Installs what is missing, takes away what it made.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/packages.sh
source "$repo/scripts/lib/packages.sh"
# shellcheck source=scripts/lib/reflink.sh
source "$repo/scripts/lib/reflink.sh"
# shellcheck source=scripts/lib/docker.sh
source "$repo/scripts/lib/docker.sh"
# shellcheck source=scripts/lib/image.sh
source "$repo/scripts/lib/image.sh"

gib=1
runs=20
kinds=(xfs btrfs)
runtimes=(process docker)
throughput=yes
work=

usage() {
    sed --quiet '2,/^set -/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            --gib) gib=${2:?} && shift ;;
            --runs) runs=${2:?} && shift ;;
            --on) [ "${2:?}" = all ] || kinds=("$2") && shift ;;
            --runtime) [ "${2:?}" = all ] || runtimes=("$2") && shift ;;
            --no-throughput) throughput=no ;;
            --help | -h) usage && exit 0 ;;
            *)
                echo "bench: unknown argument: $1" >&2
                usage >&2
                exit 2
                ;;
        esac
        shift
    done
}

finish() {
    local kind
    for kind in xfs btrfs; do
        if [ -n "$work" ] && [ -d "$work/$kind" ]; then
            multidb_kill_users_of "$work/$kind" || true
            multidb_unmount_image "$work/$kind" || true
        fi
    done
    [ -z "$work" ] || rm --recursive --force "$work"
    multidb_stop_docker || true
}

main() {
    parse "$@"
    if [ "$(id --user)" -ne 0 ]; then
        echo "bench: run it as root" >&2
        exit 1
    fi
    cd "$repo"
    trap finish EXIT
    trap 'exit 130' INT TERM HUP
    multidb_find_cargo
    multidb_install_packages build git postgres xfs btrfs docker tools
    if [ "$throughput" = yes ] && ! { multidb_has haproxy && multidb_has pgbouncer; }; then
        multidb_apt_install haproxy pgbouncer
    fi
    cargo build --release --locked --package multidb --package multidb-integration-tests --bins
    local target=${CARGO_TARGET_DIR:-$repo/target}/release
    work=$(mktemp --directory --tmpdir="${TMPDIR:-/var/tmp}" multidb-bench.XXXXXX)
    chmod 0755 "$work"
    local kind runtime
    for runtime in "${runtimes[@]}"; do
        if [ "$runtime" = docker ]; then
            multidb_start_docker
            multidb_build_image 15
        fi
        for kind in "${kinds[@]}"; do
            echo "== $kind"
            multidb_mount_image "$kind" "$work/$kind.img" "$work/$kind" "$((gib * 5 / 2 + 8))G"
            chmod 0755 "$work/$kind"
            "$target/bench" "$target/multidb" "$work/$kind" "$gib" "$runs" "$runtime" "$throughput"
            multidb_unmount_image "$work/$kind"
            rm --force "$work/$kind.img"
        done
    done
}

main "$@"
