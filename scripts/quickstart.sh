#!/usr/bin/env bash
# Shows multidb at work on this machine, from nothing: builds it, makes a demo project, starts the
# daemon, and connects to two databases that do not exist until then.
#
# usage: scripts/quickstart.sh [--dir DIR] [--port PORT] [--check | --remove]
#
#   --dir DIR     where the demo lives; default /var/lib/multidb-demo, or $MULTIDB_DEMO_DIR
#   --port PORT   where the daemon listens on 127.0.0.1; default 6432, or $MULTIDB_DEMO_PORT
#   --check       stop when all is shown, instead of leaving the daemon in the foreground
#   --remove      delete the demo
#
# Needs Debian 12 and a Rust toolchain. Installs missing packages (a C compiler, git, Postgres,
# xfsprogs) and says so; uses sudo where it is not run as root. Where DIR's file system cannot
# reflink, it mounts a sparse XFS image there. Ctrl-C ends the daemon, and its Postgres servers with
# it; the demo's databases are there again at the next run.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/command.sh
source "$repo/scripts/lib/command.sh"
# shellcheck source=scripts/lib/packages.sh
source "$repo/scripts/lib/packages.sh"
# shellcheck source=scripts/lib/reflink.sh
source "$repo/scripts/lib/reflink.sh"
# shellcheck source=scripts/lib/demo.sh
source "$repo/scripts/lib/demo.sh"
# shellcheck source=scripts/lib/daemon.sh
source "$repo/scripts/lib/daemon.sh"

dir=${MULTIDB_DEMO_DIR:-/var/lib/multidb-demo}
port=${MULTIDB_DEMO_PORT:-6432}
mode=foreground
daemon_pid=

main() {
    parse "$@"
    if [ "$mode" = remove ]; then
        remove
        return
    fi
    multidb_finish_by finish
    step "Checking what this machine has"
    multidb_find_cargo
    multidb_install_packages build git postgres xfs
    step "Building multidb (the first time takes some minutes)"
    build
    step "Preparing the demo in $dir"
    prepare_storage
    prepare_material
    step "Starting the daemon"
    start_daemon
    step "Importing two snapshots from dumps"
    import v1.0 2026-01-18T03:00:00Z
    import main 2026-02-01T03:00:00Z
    step "Connecting: each name that does not exist yet is created"
    show hello main "select count(*) || ' votes' from polls_vote"
    show archive v1.0 "select count(*) || ' questions' from polls_question"
    closing_words
    if [ "$mode" = foreground ]; then
        wait "$daemon_pid"
    fi
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            --dir | --port)
                [ $# -ge 2 ] || multidb_usage_error "$1 needs a value"
                if [ "$1" = --dir ]; then dir=$2; else port=$2; fi
                shift 2
                ;;
            --check) mode=check && shift ;;
            --remove) mode=remove && shift ;;
            --help | -h) multidb_usage && exit 0 ;;
            *) multidb_usage_error "unknown argument: $1" ;;
        esac
    done
    case $dir in
        /*) ;;
        *) dir=$PWD/$dir ;;
    esac
}

step() {
    printf '\n== %s\n' "$*"
}

say() {
    if [ $# -eq 0 ]; then echo; else printf '   %s\n' "$*"; fi
}

fail() {
    printf '\nquickstart: %s\n' "$1" >&2
    exit 1
}

# Runs a command; shows its output only if it failed.
quietly() {
    local log=$dir/last-step.log
    # In the background, since `set -e` does not hold in a function whose result is tested.
    "$@" >"$log" 2>&1 &
    if ! wait $!; then
        tail --lines 30 "$log" >&2
        fail "this failed: $*"
    fi
}

milliseconds() {
    date +%s%3N
}

build() {
    (cd "$repo" && cargo build --release --locked --bin multidb)
    target=${CARGO_TARGET_DIR:-$repo/target}
    multidb=$target/release/multidb
}

prepare_storage() {
    multidb_as_root mkdir --parents "$dir"
    if [ ! -O "$dir" ]; then
        multidb_as_root chown "$(id --user):$(id --group)" "$dir"
    fi
    # Postgres' user must be able to pass.
    chmod 0755 "$dir"
    exec {lock}>"$dir/lock"
    flock --nonblock "$lock" || fail "another quickstart uses $dir"
    root=$dir/root
    clone_method=auto
    [ -d "$root" ] || mkdir --mode=0711 "$root"
    if [ ! -e "$dir/disk.xfs" ] && multidb_can_reflink "$root"; then
        say "its file system can reflink"
    elif multidb_mount_image xfs "$dir/disk.xfs" "$root" 8G; then
        say "its file system cannot reflink, so a sparse XFS image of 8 GiB is mounted on $root"
        if [ ! -O "$root" ]; then
            multidb_as_root chown "$(id --user):$(id --group)" "$root"
        fi
    else
        clone_method=copy
        say "NOTE: nothing can be mounted here, so this demo copies whole databases; real use never should"
    fi
}

prepare_material() {
    if [ ! -e "$dir/material" ]; then
        quietly multidb_make_demo_repository "$dir/polls.git-demo"
        mkdir --parents "$dir/dumps"
        quietly multidb_make_demo_dumps "$dir/dumps"
        touch "$dir/material"
    fi
    say "a git repository whose migrations.txt lists what each revision defines: $dir/polls.git-demo"
    say "two dumps of its database, made by pg_dump: $dir/dumps"
    {
        multidb_demo_config "$dir" "$port" "$root" "$dir/polls.git-demo"
        printf '\n[clone]\nmethod = "%s"\n' "$clone_method"
    } >"$dir/multidb.toml"
}

start_daemon() {
    export MULTIDB_CONFIG=$dir/multidb.toml
    multidb_start_daemon "$multidb" "$dir/daemon.log" "$lock" || fail "there is no daemon to show"
    say "listens on 127.0.0.1:$port, process $daemon_pid, log $dir/daemon.log"
}

import() {
    local id=$1 taken_at=$2 begin
    if "$multidb" snapshot show "$id" >/dev/null 2>&1; then
        say "$id is there since the last run"
        return
    fi
    begin=$(milliseconds)
    quietly "$multidb" snapshot import "$id" --project polls --dump "$dir/dumps/$id.dump" --taken-at "$taken_at"
    say "$id, taken at $taken_at, in $(($(milliseconds) - begin)) ms"
}

# Connects, and describes the new instance. A field of the JSON has its value on the same line or the next.
show() {
    local instance=$1 gitref=$2 sql=$3 begin answer took snapshot was=created
    if "$multidb" instance show "$instance" >/dev/null 2>&1; then
        was=woken
    fi
    say
    say "psql -h 127.0.0.1 -p $port -U instance:$instance,gitref:$gitref polls"
    begin=$(milliseconds)
    answer=$(connect "$instance,gitref:$gitref" --no-align --tuples-only --command="$sql" \
        2> >(sed 's/^/      /' >&2)) ||
        fail "psql could not connect; see $dir/daemon.log"
    took=$(($(milliseconds) - begin))
    snapshot=$("$multidb" instance show "$instance" --json | tr --delete '\n' |
        sed --quiet 's/.*"snapshot": *"\([^"]*\)".*/\1/p')
    say "   $answer; instance $instance $was from snapshot $snapshot; $took ms from connect to answer"
}

connect() {
    local name=$1
    shift
    psql --no-psqlrc --host=127.0.0.1 --port="$port" --username="instance:$name" --dbname=polls "$@"
}

closing_words() {
    step "Your turn"
    say "A new name is a new database, and it is yours to break:"
    say
    say "    psql -h 127.0.0.1 -p $port -U instance:mine,gitref:main polls"
    say
    say "The branch feature/tags is ahead of both snapshots and gets the newest; v1.0 gets the old one."
    say "    $multidb --socket $dir/admin.sock instance ls"
    if [ "$mode" = foreground ]; then
        say
        say "Ctrl-C ends the daemon. All databases are kept; --remove deletes the demo."
    fi
}

finish() {
    local result=$?
    trap - EXIT
    trap '' INT
    if [ -n "$daemon_pid" ] && kill -TERM "$daemon_pid" 2>/dev/null; then
        step "Stopping the daemon"
        wait "$daemon_pid" || { [ "$result" -ne 0 ] || result=1; }
    fi
    if [ -n "${root:-}" ]; then
        multidb_unmount_image "$root" || result=1
    fi
    # Ctrl-C is how the foreground is meant to end.
    if [ "$mode" = foreground ] && [ "$result" -eq 130 ]; then
        result=0
    fi
    exit "$result"
}

remove() {
    if [ ! -e "$dir/multidb.toml" ]; then
        fail "there is no demo in $dir"
    fi
    exec {lock}>"$dir/lock"
    flock --nonblock "$lock" || fail "a quickstart runs in $dir; end it first"
    multidb_unmount_image "$dir/root"
    multidb_as_root rm --recursive --force --one-file-system "$dir"
    echo "removed $dir"
}

main "$@"
