#!/usr/bin/env bash
# Measures multidb from outside, beside the least that this machine needs for the same: a bare
# clone, and Postgres started by hand on it. Prints a table; times are in milliseconds.
#
# usage: scripts/bench.sh [--gib N] [--runs N] [--method xfs|btrfs|all] [--runtime process|docker|all]
#                         [--only SECTION[,SECTION...]] [--sleepers N] [--pgbench-seconds N] [--json FILE]
#                         [--dir DIR] [--before PROGRAM]
#
#   --gib N              the snapshot's size; default 1
#   --runs N             how often each start is measured; default 20
#   --method M           XFS with reflinks, Btrfs with snapshots, or both; default all
#   --runtime R          local processes, Docker containers, or both; default all
#   --only SECTION       only these: create (new, stopped, running; clone, stop, disk), concurrent (15 new
#                        ones at once), throughput (pgbench and COPY through proxies), handshakes (logins
#                        with trust, SCRAM, and SCRAM in TLS), memory (of sessions), sleepers (start,
#                        memory, connections and creations with many stopped instances), load (starts,
#                        commands, logins past max_running, idle sessions, pgbench beside 50 creations),
#                        snapshots (imports beside Postgres' programs, shared blocks, instances from an
#                        instance at work, bytes of instances, lists), operations (the API over the network,
#                        the page in Chromium, metrics; memory, and processor time for each transaction)
#   --before PROGRAM     an older multidb, which load and operations measure by turns with the new one
#   --sleepers N         the number of stopped instances; default 50000
#   --pgbench-seconds N  how long each of pgbench's turns lasts; default 5
#   --json FILE          write all samples there, too
#   --dir DIR            where the file systems' images go; default ${TMPDIR:-/var/tmp}. It needs three
#                        times the snapshot's size and 12 GiB
#
# Needs Debian 12 with a Rust toolchain, and root or sudo. Installs missing packages (Postgres, HAProxy,
# PgBouncer, Chromium, xfsprogs, btrfs-progs, docker.io, debootstrap, git, a C compiler), builds a release, starts
# a Docker engine where none answers, mounts sparse file systems, and takes away all that it made,
# however it ends. Throughput, handshakes and memory are measured in the first environment only: neither
# the file system nor the runtime is in the way of a session's bytes.
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

gib=1
method=all
runtime=all
dir=${TMPDIR:-/var/tmp}
arguments=()
work=

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            --help | -h) multidb_usage && exit 0 ;;
            --gib | --runs | --method | --runtime | --only | --sleepers | --pgbench-seconds | --json | --dir | --before) ;;
            *) multidb_usage_error "unknown argument: $1" ;;
        esac
        [ $# -ge 2 ] || multidb_usage_error "$1 needs a value"
        case $1 in
            --gib) gib=$2 ;;
            --method) method=$2 ;;
            --runtime) runtime=$2 ;;
            --dir) dir=$2 ;;
            *) arguments+=("$1" "$2") ;;
        esac
        shift 2
    done
    [[ $gib =~ ^[1-9][0-9]*$ ]] || multidb_usage_error "--gib is a number above 0"
    case $method in xfs | btrfs | all) ;; *) multidb_usage_error "--method is xfs, btrfs or all" ;; esac
    case $runtime in process | docker | all) ;; *) multidb_usage_error "--runtime is process, docker or all" ;; esac
    [ -d "$dir" ] || multidb_usage_error "there is no directory $dir"
}

main() {
    parse "$@"
    # It gives files to Postgres' user, starts servers as that user, and mounts file systems.
    multidb_needs_root "$@"
    multidb_finish_by finish
    prepare
    # Where the bench is told to write the JSON is where its caller stands.
    "$target/release/bench" --multidb "$target/release/multidb" --gib "$gib" \
        --method "$method" --runtime "$runtime" "${arguments[@]}"
}

prepare() {
    multidb_find_cargo
    multidb_install_packages build git postgres proxies browser
    target=${CARGO_TARGET_DIR:-$repo/target}
    (
        cd "$repo"
        cargo build --release --locked --bin multidb
        cargo build --release --locked --package multidb-integration-tests --bin bench
    )
    if [ "$runtime" != process ]; then
        multidb_install_packages docker
        multidb_start_docker
        local major
        major=$(basename "$(dirname "$(multidb_postgres_bin)")")
        multidb_build_image "$major"
        export MULTIDB_TEST_IMAGE=postgres:$major
    fi
    work=$(mktemp --directory --tmpdir="$dir" multidb-bench.XXXXXX)
    chmod 0755 "$work"
    # The database, the files of its load and its vacuum beside it, and the clones. Sparse.
    local size=$((gib * 4 + 12))G
    if [ "$method" != btrfs ]; then
        multidb_install_packages xfs
        mount_image xfs "$size"
        export MULTIDB_TEST_XFS=$work/xfs
    fi
    if [ "$method" != xfs ]; then
        multidb_install_packages btrfs
        mount_image btrfs "$size"
        export MULTIDB_TEST_BTRFS=$work/btrfs
    fi
}

mount_image() {
    local kind=$1 size=$2
    multidb_mount_image "$kind" "$work/$kind.img" "$work/$kind" "$size"
    chmod 0755 "$work/$kind"
}

finish() {
    local result=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [ -n "$work" ]; then
        multidb_kill_users_of "$work"
        multidb_remove_containers "$work"
        multidb_unmount_image "$work/xfs"
        multidb_unmount_image "$work/btrfs"
        rm --recursive --force --one-file-system "$work"
    fi
    multidb_stop_docker
    exit "$result"
}

main "$@"
