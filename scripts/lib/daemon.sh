#!/usr/bin/env bash
# A daemon of a script's own. To be sourced; the caller sets `set -euo pipefail`.
#
#   multidb_free_port                  prints a port of 127.0.0.1 where nothing listens
#   multidb_demo_config DIR PORT ROOT REPOSITORY
#                                      prints a configuration for the material of demo.sh; its admin socket
#                                      is DIR/admin.sock
#   multidb_start_daemon PROGRAM LOG [FD]
#                                      starts `PROGRAM serve` with $MULTIDB_CONFIG, without the descriptor FD,
#                                      and waits until it answers; sets daemon_pid

# Below 32768, where no outgoing connection gets its port.
multidb_free_port() {
    local port
    for port in $(shuf --input-range=20000-32000 --head-count=100); do
        if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    echo "daemon: no free port" >&2
    return 1
}

multidb_demo_config() {
    local dir=$1 port=$2 root=$3 repository=$4
    cat <<CONFIG
listen = ["127.0.0.1:$port"]
root = "$root"
admin_socket = "$dir/admin.sock"

[runtime]
kind = "process"

[project.polls]
git = "$repository"
listing = "migrations.txt"
migrations = "django"
database = "polls"
role = "postgres"

[limits]
disk_reserve = "100MiB"
CONFIG
}

multidb_start_daemon() {
    local program=$1 log=$2 lock=${3:-} attempt
    # In a session of its own, so that Ctrl-C reaches the script alone, which then ends it in order.
    (
        [ -z "$lock" ] || exec {lock}>&-
        exec setsid "$program" serve </dev/null >"$log" 2>&1
    ) &
    daemon_pid=$!
    for attempt in $(seq 300); do
        if "$program" status >/dev/null 2>&1; then
            return
        fi
        kill -0 "$daemon_pid" 2>/dev/null || break
        sleep 0.1
    done
    tail --lines 20 "$log" >&2
    echo "the daemon did not start ($attempt tries); the end of its log is above" >&2
    return 1
}
