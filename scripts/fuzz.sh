#!/usr/bin/env bash
# Fuzzes the parsers of unauthenticated input: the startup packet, the user name, the options, the
# messages of SCRAM, and the idle detector; and the messages and statements of the console.
#
# usage: scripts/fuzz.sh [SECONDS] [TARGET...]
#
#   SECONDS  how long each target runs; 60 by default
#   TARGET   only these, of startup, user_name, options, scram, idle, console
#
# Needs rustup, installs a nightly toolchain through it where there is none, and cargo-fuzz where it
# is missing. An input that fails is kept in fuzz/artifacts; when its fault is fixed it goes to
# fuzz/corpus, which also runs with the normal tests, on the stable toolchain. Inputs that a run finds on
# its way stay in fuzz/target.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/command.sh
source "$repo/scripts/lib/command.sh"
# shellcheck source=scripts/lib/packages.sh
source "$repo/scripts/lib/packages.sh"

seconds=60
targets=(startup user_name options scram idle console)

parse() {
    case ${1:-} in
        --help | -h) multidb_usage && exit 0 ;;
        '' | *[!0-9]*) ;;
        *) seconds=$1 && shift ;;
    esac
    if [ $# -gt 0 ]; then
        targets=("$@")
    fi
    local target
    for target in "${targets[@]}"; do
        if [ ! -f "$repo/fuzz/fuzz_targets/$target.rs" ]; then
            multidb_usage_error "no such target: $target"
        fi
    done
}

tools() {
    multidb_find_cargo
    multidb_install_packages build
    if ! cargo +nightly --version >/dev/null 2>&1; then
        rustup toolchain install nightly --profile minimal
    fi
    if ! cargo fuzz --version >/dev/null 2>&1; then
        cargo +nightly install cargo-fuzz --locked
    fi
}

main() {
    parse "$@"
    tools
    cd "$repo"
    local target failed=()
    for target in "${targets[@]}"; do
        echo "== $target, $seconds s"
        # New inputs go to the first directory; the kept ones are only read.
        mkdir --parents "fuzz/target/corpus/$target"
        cargo +nightly fuzz run "$target" "fuzz/target/corpus/$target" "fuzz/corpus/$target" -- \
            -max_total_time="$seconds" -max_len=12000 -timeout=10 -print_final_stats=1 || failed+=("$target")
    done
    if [ ${#failed[@]} -gt 0 ]; then
        echo "fuzz: failed: ${failed[*]}; see fuzz/artifacts"
        return 1
    fi
    echo "fuzz: nothing found"
}

main "$@"
