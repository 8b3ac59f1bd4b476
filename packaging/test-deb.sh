#!/usr/bin/env bash
# Installs, upgrades, removes and purges the Debian package in roots of Debian 12 and 13, then boots each root and does the main
# job under its systemd, with the sandbox of the unit.
#
# usage: packaging/test-deb.sh [--debug] [SUITE...]
#
#   --debug   packages the debug build
#   SUITE     bookworm or trixie; both without one
#
# To be run before a release, as root, with network: it takes minutes, most of them for the packages of the roots. Needs
# debootstrap, systemd-container, xfsprogs, btrfs-progs, cargo-deb and the needs of packaging/deb.sh. The packages come from the mirror of this machine's apt.
# There are two packages of the same program, the older one with a lower version number; so this shows that an upgrade
# keeps files and records, not that the program reads records of an older version, which tests of the store do.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/command.sh
source "$repo/scripts/lib/command.sh"
# shellcheck source=scripts/lib/packages.sh
source "$repo/scripts/lib/packages.sh"
# shellcheck source=scripts/lib/reflink.sh
source "$repo/scripts/lib/reflink.sh"

OLD=0.0.1-1
NEW=99.0.0-1
suites=()
deb_options=()
work=
root=
# The process of the booted root's systemd, as this machine sees it, and of the program that booted it.
init=
nspawn=

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            --debug) deb_options+=(--debug) ;;
            --help | -h) multidb_usage && exit 0 ;;
            bookworm | trixie) suites+=("$1") ;;
            *) multidb_usage_error "unknown argument: $1" ;;
        esac
        shift
    done
    [ ${#suites[@]} -gt 0 ] || suites=(bookworm trixie)
}

main() {
    parse "$@"
    if [ "$(id --user)" -ne 0 ]; then
        echo "test-deb: needs root, for debootstrap and chroot" >&2
        return 1
    fi
    # A mount namespace of its own, so that nothing stays mounted.
    if [ -z "${MULTIDB_TEST_DEB_UNSHARED:-}" ]; then
        MULTIDB_TEST_DEB_UNSHARED=1 exec unshare --mount --propagation private "${BASH_SOURCE[0]}" "$@"
    fi
    work=$(mktemp --directory --tmpdir="${TMPDIR:-/var/tmp}" multidb-deb.XXXXXX)
    trap finish EXIT
    chmod 0755 "$work"
    "$repo/packaging/deb.sh" "${deb_options[@]}" --version "$OLD" --output "$work"
    "$repo/packaging/deb.sh" "${deb_options[@]}" --version "$NEW" --output "$work"
    local suite
    for suite in "${suites[@]}"; do
        printf '== %s\n' "$suite"
        make_root "$suite"
        installed
        upgraded
        interrupted
        removed
        rm --recursive --force "$root/var/lib/multidb"
        booted xfs
        booted btrfs
        printf '== %s: ok\n' "$suite"
    done
}

finish() {
    local result=$?
    trap - EXIT
    stop_daemon || true
    power_off || true
    umount --recursive --quiet "$work"/*/var/lib/multidb 2>/dev/null || true
    umount --recursive --quiet "$work"/*/proc "$work"/*/sys "$work"/*/dev 2>/dev/null || true
    rm --recursive --force --one-file-system "$work"
    exit "$result"
}

# Runs a command in the root, among its processes if it is booted.
inside() {
    local enter=(chroot "$root")
    if [ -n "$init" ]; then
        enter=(nsenter --target "$init" --mount --uts --ipc --net --pid --root --wd)
    fi
    "${enter[@]}" env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive "$@"
}

# Runs a noisy command in the root, and shows its output if it fails.
quietly() {
    if ! inside "$@" >"$work/log" 2>&1; then
        tail --lines 40 "$work/log" >&2
        echo "test-deb: failed: $*" >&2
        return 1
    fi
}

expect() {
    if ! "$@"; then
        echo "test-deb: does not hold: $*" >&2
        [ -z "$init" ] || inside journalctl --no-pager --lines 30 --unit multidb.service >&2 || true
        return 1
    fi
    printf 'ok: %s\n' "${*/"$root"/}"
}

make_root() {
    local suite=$1 mirror
    root=$work/$suite
    mirror=$(multidb_debian_mirror Debian)
    if ! debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$work/log" 2>&1; then
        tail --lines 20 "$work/log" >&2
        return 1
    fi
    printf 'deb %s %s main\n' "$mirror" "$suite" >"$root/etc/apt/sources.list"
    # No services, no cluster.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 0755 "$root/usr/sbin/policy-rc.d"
    mkdir --parents "$root/etc/postgresql-common"
    echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.conf"
    mount --types proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    cp "$work/multidb_${OLD}"_*.deb "$root/old.deb"
    cp "$work/multidb_${NEW}"_*.deb "$root/new.deb"
    quietly apt-get --quiet update
}

# A field of the package's record.
recorded() {
    inside dpkg-query --show --showformat="\${$1}" multidb
}

has_version() {
    [ "$(recorded Version)" = "$1" ]
}

has_status() {
    [ "$(recorded db:Status-Status)" = "$1" ]
}

installed() {
    quietly apt-get --quiet --yes --no-install-recommends install /old.deb
    expect has_version "$OLD"
    inside getent passwd postgres >/dev/null
    # After multidb, whose user it has to take as it is.
    quietly apt-get --quiet --yes --no-install-recommends install postgresql postgresql-client git man-db bash-completion
    inside multidb --version
    expect inside man -w multidb multidb-instance-ls
    expect inside multidb config check
    expect inside bash -c 'source /usr/share/bash-completion/completions/multidb && complete -p multidb'
    expect inside test -e /usr/lib/systemd/system/multidb.socket -a -e /usr/lib/systemd/system/multidb.service
    [ -z "$(inside find /usr/share/man/man1 -name 'multidb*help*')" ]
    # Not every file system has reflinks, and the machine's own may be nearly full.
    configure <<'TOML'
[clone]
method = "copy"
[limits]
disk_reserve = "64MiB"
disk_high_water = "none"
TOML
    make_project
    start_daemon
    make_instance
    stop_daemon
}

# Writes the settings: those of the input, and the project.
configure() {
    {
        cat
        cat <<'TOML'
[runtime]
kind = "process"
[project.demo]
git = "/srv/git"
migrations = { query = "select '0001'::text" }
database = "postgres"
TOML
    } >"$root/etc/multidb/multidb.toml"
}

# A project whose snapshot is an empty cluster.
make_project() {
    inside sh -c 'mkdir /srv/git && cd /srv/git && git init --quiet --initial-branch=main && echo 0001 >migrations.txt &&
        git add . && git -c user.name=a -c user.email=a@b.invalid commit --quiet --message=listing'
    inside sh -c 'mkdir /srv/data && chown postgres: /srv/data &&
        setpriv --reuid=postgres --regid=postgres --init-groups /usr/lib/postgresql/*/bin/initdb --auth=trust /srv/data >/dev/null'
}

start_daemon() {
    chroot "$root" /usr/bin/multidb serve >>"$work/daemon.log" 2>&1 &
    daemon=$!
    local attempt
    for attempt in {1..300}; do
        if inside multidb status >/dev/null 2>&1; then
            return 0
        fi
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    tail --lines 20 "$work/daemon.log" >&2
    echo "test-deb: the daemon did not start ($attempt attempts)" >&2
    return 1
}

stop_daemon() {
    if [ -n "${daemon:-}" ]; then
        kill -TERM "$daemon" && wait "$daemon"
        daemon=
    fi
}

make_instance() {
    quietly multidb snapshot import first --project demo --data-dir /srv/data
    inside psql --no-psqlrc --quiet --host=127.0.0.1 --port=6432 --username=instance:kept,gitref:main \
        --dbname=postgres --command='create table kept (n int)' 2>&1 | grep --invert-match NOTICE || true
    expect has_instance
}

has_instance() {
    [ "$(inside psql --no-psqlrc --quiet --tuples-only --no-align --host=127.0.0.1 --port=6432 \
        --username=instance:kept --dbname=postgres --command='select count(*) from kept')" = 0 ]
}

# Everything that people made is there.
has_all() {
    grep --quiet '^\[project.demo\]' "$root/etc/multidb/multidb.toml" || return 1
    start_daemon && has_instance && stop_daemon
}

upgraded() {
    quietly apt-get --quiet --yes --no-install-recommends install /new.deb
    expect has_version "$NEW"
    expect has_all
}

# Back to the old one first. Killed between unpacking and configuring, and while it unpacks.
interrupted() {
    quietly dpkg --force-downgrade --install /old.deb
    quietly dpkg --unpack /new.deb
    expect has_status unpacked
    quietly dpkg --configure --pending
    expect has_status installed
    expect has_version "$NEW"
    expect has_all
    quietly dpkg --force-downgrade --install /old.deb
    kill_while_it_unpacks
    printf 'killed: the package is %s\n' "$(recorded db:Status-Status)"
    # As apt and dpkg advise.
    inside dpkg --configure --pending >/dev/null 2>&1 || true
    quietly dpkg --install /new.deb
    expect has_status installed
    expect has_version "$NEW"
    expect has_all
}

kill_while_it_unpacks() {
    local pid
    chroot "$root" dpkg --install /new.deb >/dev/null 2>&1 &
    pid=$!
    # The new program beside the old one, before it takes its place.
    until [ -e "$root/usr/bin/multidb.dpkg-new" ]; do
        if ! kill -0 "$pid" 2>/dev/null; then
            echo "test-deb: dpkg was done before it could be killed" >&2
            return 1
        fi
    done
    kill -KILL "$pid"
    wait "$pid" || true
}

removed() {
    quietly dpkg --remove multidb
    expect test ! -e "$root/usr/bin/multidb"
    expect test -e "$root/etc/multidb/multidb.toml"
    expect test -d "$root/var/lib/multidb/instances"
    quietly apt-get --quiet --yes --no-install-recommends install /new.deb
    expect has_all
    quietly dpkg --purge multidb
    cat "$work/log"
    expect test ! -e "$root/etc/multidb"
    expect test -d "$root/var/lib/multidb/instances"
}

# What the unit's filters refuse shows only under systemd. The file system of the root directory is of this kind.
booted() {
    local kind=$1
    printf 'booted, on %s\n' "$kind"
    quietly apt-get --quiet --yes --no-install-recommends install systemd systemd-sysv dbus procps iproute2
    umount --recursive --quiet "$root/proc" "$root/sys" "$root/dev" || true
    multidb_mount_image "$kind" "$work/$kind.img" "$root/var/lib/multidb" 2G
    boot
    quietly apt-get --quiet --yes --no-install-recommends install /new.deb
    configure <<'TOML'
[limits]
disk_reserve = "64MiB"
TOML
    quietly systemctl restart multidb.service
    expect inside multidb doctor
    expect is_sandboxed
    make_instance
    expect imports_script
    expect clones_instance
    expect survives_kill
    expect is_started_by_client
    power_off
    multidb_unmount_image "$root/var/lib/multidb"
    rm --force "$work/$kind.img"
}

boot() {
    # systemd-nspawn refuses the calls of Landlock unless they are named.
    systemd-nspawn --quiet --boot --directory "$root" --machine=multidb-test --register=no --keep-unit --private-network \
        --console=pipe --system-call-filter='landlock_create_ruleset landlock_add_rule landlock_restrict_self' \
        </dev/null >"$work/boot.log" 2>&1 &
    nspawn=$!
    local attempt
    for attempt in {1..300}; do
        # Before that, its parent's child is of this machine's namespaces.
        init=$(pgrep --parent "$nspawn" | head --lines 1) || true
        if is_first_process "$init"; then
            # Also where a service that has no use here failed.
            case $(inside systemctl is-system-running 2>/dev/null) in
                running | degraded) return 0 ;;
            esac
        fi
        init=
        kill -0 "$nspawn" 2>/dev/null || break
        sleep 0.2
    done
    tail --lines 20 "$work/boot.log" >&2
    echo "test-deb: the root did not boot ($attempt attempts)" >&2
    return 1
}

# Whether a process is the first one of a namespace of its own.
is_first_process() {
    [ -n "$1" ] && [ "$(awk '/^NSpid:/ && NF > 2 { print $NF }' "/proc/$1/status" 2>/dev/null)" = 1 ]
}

power_off() {
    local attempt signal=TERM
    [ -n "$nspawn" ] || return 0
    # systemd(1): RTMIN+4 powers it off. systemd-nspawn ends its root when it is ended itself.
    if is_first_process "$init"; then
        kill -s RTMIN+4 "$init"
        signal=0
    fi
    for attempt in {1..600}; do
        kill -s "$signal" "$nspawn" 2>/dev/null || break
        signal=0
        [ "$attempt" -ne 300 ] || signal=TERM
        [ "$attempt" -ne 500 ] || signal=KILL
        sleep 0.1
    done
    wait "$nspawn" || true
    init='' nspawn=''
}

is_sandboxed() {
    inside multidb doctor | grep --quiet 'servers run in a sandbox of Landlock and namespaces'
}

query() {
    inside psql --no-psqlrc --quiet --tuples-only --no-align --host=127.0.0.1 --port=6432 --username="$1" \
        --dbname=postgres --command="$2" 2>"$work/log"
}

imports_script() {
    printf 'create table imported (n int);\ninsert into imported values (7);\n' >"$root/srv/dump.sql"
    quietly multidb snapshot import second --project demo --dump /srv/dump.sql &&
        [ "$(query instance:script,snapshot:second 'select n from imported')" = 7 ]
}

clones_instance() {
    query instance:kept 'insert into kept values (1)' &&
        [ "$(query instance:child,from:kept 'select count(*) from kept')" = 1 ] &&
        inside multidb instance rm child --yes >/dev/null
}

main_process() {
    inside systemctl show --property=MainPID --value multidb.service
}

# systemd starts the daemon again, and the servers go on.
survives_kill() {
    local server process attempt
    server=$(query instance:kept 'select pg_postmaster_start_time()') || return 1
    process=$(main_process)
    quietly systemctl kill --kill-who=main --signal=KILL multidb.service || return 1
    for attempt in {1..100}; do
        sleep 0.2
        if [ "$(query instance:kept 'select pg_postmaster_start_time()')" = "$server" ]; then
            [ "$(main_process)" != "$process" ]
            return
        fi
    done
    echo "test-deb: $attempt attempts: $(cat "$work/log")" >&2
    return 1
}

is_started_by_client() {
    quietly systemctl stop multidb.service || return 1
    quietly systemctl start multidb.socket || return 1
    ! inside systemctl is-active --quiet multidb.service || return 1
    [ "$(query instance:kept 'select count(*) from kept')" = 1 ]
}

main "$@"
