#!/usr/bin/env bash
# A Docker engine for tests and benchmarks. To be sourced; the caller sets `set -euo pipefail`.
#
#   multidb_start_docker   makes sure that an engine answers: the one that runs, else one of ours
#   multidb_stop_docker    stops the engine if this shell started it, and only then
#   multidb_remove_containers DIRECTORY
#                          removes the containers whose labels name a root below the directory
#
# An engine of ours keeps everything in $MULTIDB_ENGINE_DIR (default /var/tmp/multidb-engine), with
# the images that it built; nothing of it is in /var/lib/docker. It leaves the machine's firewall
# and bridges alone: our containers have no network. It listens on Docker's usual socket.

MULTIDB_ENGINE_DIR=${MULTIDB_ENGINE_DIR:-/var/tmp/multidb-engine}
MULTIDB_ENGINE_PID=${MULTIDB_ENGINE_PID:-}

multidb_docker_answers() {
    command -v docker >/dev/null &&
        timeout 10 docker version --format '{{.Server.APIVersion}}' >/dev/null 2>&1
}

multidb_start_docker() {
    if multidb_docker_answers; then
        return 0
    fi
    if [ "$(id --user)" -ne 0 ]; then
        echo "docker: no engine answers, and only root can start one" >&2
        return 1
    fi
    local dockerd
    if ! dockerd=$(PATH="$PATH:/usr/sbin:/sbin" command -v dockerd) || ! command -v docker >/dev/null; then
        echo "docker: not installed; try: apt-get install docker.io" >&2
        return 1
    fi
    mkdir --parents "$MULTIDB_ENGINE_DIR"
    # Two scripts at once start one engine between them; the engine must not hold the lock.
    local lock
    exec {lock}>"$MULTIDB_ENGINE_DIR/lock"
    flock "$lock"
    local result=0
    if ! multidb_docker_answers; then
        multidb_docker_mount_cgroups
        multidb_docker_launch "$dockerd" "$lock" || result=$?
    fi
    exec {lock}>&-
    return "$result"
}

# Starts the engine in a session of its own, so that Ctrl-C reaches the script alone, which still
# needs the engine to clean up.
multidb_docker_launch() {
    local dockerd=$1 lock=$2 dir=$MULTIDB_ENGINE_DIR
    rm --force "$dir/docker.pid"
    PATH="$PATH:/usr/sbin:/sbin" setsid "$dockerd" \
        --data-root "$dir/data" \
        --exec-root "$dir/exec" \
        --pidfile "$dir/docker.pid" \
        --host unix:///var/run/docker.sock \
        --bridge none --iptables=false --ip-forward=false \
        --log-level warn \
        </dev/null >"$dir/docker.log" 2>&1 {lock}>&- &
    MULTIDB_ENGINE_PID=$!
    local attempt
    for attempt in $(seq 300); do
        if multidb_docker_answers; then
            echo "docker: started an engine, process $MULTIDB_ENGINE_PID, log $dir/docker.log" >&2
            return 0
        fi
        if ! kill -0 "$MULTIDB_ENGINE_PID" 2>/dev/null; then
            break
        fi
        sleep 0.1
    done
    echo "docker: the engine did not start ($attempt tries); the end of $dir/docker.log:" >&2
    tail --lines 20 "$dir/docker.log" >&2
    multidb_stop_docker
    return 1
}

# Without systemd the control groups that limit containers may not be mounted.
multidb_docker_mount_cgroups() {
    if [ -e /sys/fs/cgroup/cgroup.controllers ] || [ -d /sys/fs/cgroup/memory ]; then
        return 0
    fi
    mount --types cgroup2 none /sys/fs/cgroup
}

multidb_stop_docker() {
    local pid=$MULTIDB_ENGINE_PID
    MULTIDB_ENGINE_PID=
    if [ -z "$pid" ] || ! kill -TERM "$pid" 2>/dev/null; then
        return 0
    fi
    local attempt
    for attempt in $(seq 300); do
        if ! kill -0 "$pid" 2>/dev/null; then
            return 0
        fi
        sleep 0.1
    done
    echo "docker: process $pid still runs after $attempt checks; killing it" >&2
    kill -KILL "$pid" 2>/dev/null || true
}

multidb_remove_containers() {
    local directory=$1 id
    for id in $(docker ps --all --quiet --filter label=multidb.root 2>/dev/null); do
        case $(docker inspect --format '{{index .Config.Labels "multidb.root"}}' "$id") in
            "$directory"/*) docker rm --force --volumes "$id" >/dev/null ;;
        esac
    done
}
