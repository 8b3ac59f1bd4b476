#!/usr/bin/env bash
# Simulates the daemon's actors in a world in which everything fails: the disk, the records, the servers, the
# runtime, git, the clock, and the daemon itself. Each seed is another course of events, always the same one.
#
# usage: scripts/simulate.sh [--seeds N] [--seed S] [--seconds T] [--lines L] [--dev]
#
#   --seeds N    how many seeds; 100 by default, or 1 with --seed
#   --seed S     the first seed; 1 by default
#   --seconds T  stop after this time, even if seeds are left
#   --lines L    how many of the last lines of the trace a failure prints; 200 by default
#   --dev        with the build of the tests, which is slower and is there after them
#
# Prints the first seed that breaks an invariant, the simulated time and the end of its trace, and fails. Such a
# seed goes to actors/tests/simulate/seeds.txt, whose seeds run with the tests. One process runs on each processor.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/command.sh
source "$repo/scripts/lib/command.sh"
# shellcheck source=scripts/lib/packages.sh
source "$repo/scripts/lib/packages.sh"

seeds=
first=
seconds=
lines=200
profile=simulate

number() {
    case $2 in
        '' | *[!0-9]*)
            echo "simulate: $1 needs a number, not \"$2\"" >&2
            exit 2
            ;;
        *) echo "$2" ;;
    esac
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            --seeds) seeds=$(number "$1" "${2:-}") && shift ;;
            --seed) first=$(number "$1" "${2:-}") && shift ;;
            --seconds) seconds=$(number "$1" "${2:-}") && shift ;;
            --lines) lines=$(number "$1" "${2:-}") && shift ;;
            --dev) profile=dev ;;
            --help | -h) multidb_usage && exit 0 ;;
            *) multidb_usage_error "unknown argument: $1" ;;
        esac
        shift
    done
    if [ -z "$seeds" ]; then
        if [ -n "$first" ]; then seeds=1; elif [ -n "$seconds" ]; then seeds=1000000000; else seeds=100; fi
    fi
    first=${first:-1}
}

# The binary of the simulation. With the features of the whole workspace, as the tests are built.
build() {
    cargo test --profile "$profile" --workspace --test simulate --locked --no-run --message-format=json |
        sed --quiet 's/.*"executable":"\([^"]*simulate-[^"]*\)".*/\1/p' | tail --lines=1
}

main() {
    parse "$@"
    cd "$repo"
    multidb_find_cargo
    local binary processes work failed=0 number pids=()
    binary=$(build)
    processes=$(nproc)
    if [ "$processes" -gt "$seeds" ]; then
        processes=$seeds
    fi
    work=$(mktemp --directory --tmpdir multidb-simulate.XXXXXX)
    # shellcheck disable=SC2064  # the directory of now
    trap "rm --recursive --force '$work'" EXIT
    [ -z "$seconds" ] || export MULTIDB_SIMULATE_SECONDS=$seconds
    for ((number = 0; number < processes; number++)); do
        RUST_BACKTRACE=0 MULTIDB_SIMULATE_LINES=$lines MULTIDB_SIMULATE_STEP=$processes \
            MULTIDB_SIMULATE_SEED=$((first + number)) \
            MULTIDB_SIMULATE_SEEDS=$(((seeds - number + processes - 1) / processes)) \
            "$binary" --exact seeds_keep_the_invariants --nocapture >"$work/$number" 2>&1 &
        pids+=($!)
    done
    for ((number = 0; number < processes; number++)); do
        if wait "${pids[number]}"; then
            grep ' seeds from ' "$work/$number"
        else
            failed=1
            grep --invert-match --extended-regexp '^(running|test |failures:|    seeds_|note:|$)' "$work/$number"
        fi
    done
    return "$failed"
}

main "$@"
