#!/usr/bin/env bash
# File systems that can reflink, made in sparse files. To be sourced after packages.sh; the caller
# sets `set -euo pipefail`.
#
#   multidb_can_reflink DIR                   whether files in DIR can be cloned as they are
#   multidb_mount_image KIND IMAGE DIR SIZE   mounts IMAGE at DIR; makes it first (xfs or btrfs, sparse,
#                                             SIZE as truncate reads it, at least 512M) if it is not there
#   multidb_unmount_image DIR                 unmounts DIR, which may not be mounted at all; IMAGE stays
#   multidb_kill_users_of DIR                 ends the processes that use files below DIR

multidb_can_reflink() {
    local dir=$1 probe result=0
    probe=$(mktemp "$dir/.reflink-probe.XXXXXX") || return 1
    # An empty file can be cloned anywhere.
    head --bytes 65536 /dev/zero >"$probe"
    cp --reflink=always "$probe" "$probe.clone" 2>/dev/null || result=1
    rm --force "$probe" "$probe.clone"
    return "$result"
}

multidb_mount_image() {
    local kind=$1 image=$2 dir=$3 size=$4
    mkdir --parents "$dir" || return 1
    if mountpoint --quiet "$dir"; then
        return 0
    fi
    if [ ! -e "$image" ]; then
        multidb_make_image "$kind" "$image" "$size" || return 1
    fi
    multidb_as_root mount --options loop,noatime "$image" "$dir" || return 1
    # As systemd makes all mounts: an unmount below it also reaches the mount namespaces of servers, which otherwise
    # keep the mount in use.
    multidb_as_root mount --make-shared "$dir"
}

# The image gets its name only once it is whole.
multidb_make_image() {
    local kind=$1 image=$2 size=$3
    rm --force "$image.partial"
    truncate --size "$size" "$image.partial" || return 1
    case $kind in
        xfs) mkfs.xfs -q -m reflink=1 "$image.partial" || return 1 ;;
        btrfs) mkfs.btrfs --quiet "$image.partial" >/dev/null || return 1 ;;
        *)
            echo "reflink: no file system is called $kind" >&2
            return 1
            ;;
    esac
    mv "$image.partial" "$image"
}

multidb_unmount_image() {
    local dir=$1 attempt
    if ! mountpoint --quiet "$dir"; then
        return 0
    fi
    # A process that has just been told to end may hold the file system a moment longer.
    for attempt in $(seq 50); do
        if multidb_as_root umount "$dir" 2>/dev/null; then
            return 0
        fi
        sleep 0.1
    done
    echo "reflink: $dir is still in use after $attempt tries" >&2
    multidb_as_root umount --lazy "$dir"
}

# The directory's path is in the command line of every daemon and Postgres that runs below it.
multidb_kill_users_of() {
    local dir=$1 pid pids=() attempt
    for attempt in 1 2 3; do
        pids=()
        for pid in /proc/[0-9]*; do
            pid=${pid#/proc/}
            if [ "$pid" != $$ ] && { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep --quiet --fixed-strings -- "$dir/"; then
                pids+=("$pid")
            fi
        done
        if [ ${#pids[@]} -eq 0 ]; then
            return 0
        fi
        echo "ending what still runs below $dir (try $attempt): ${pids[*]}" >&2
        multidb_as_root kill -KILL "${pids[@]}" 2>/dev/null || true
        sleep 0.2
    done
}
