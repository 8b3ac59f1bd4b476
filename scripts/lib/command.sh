#!/usr/bin/env bash
# How each script is called and how it ends. To be sourced, with packages.sh; the caller sets `set -euo pipefail`.
#
#   multidb_usage                 prints the comment at the head of the running script
#   multidb_usage_error MESSAGE   prints the message and the usage, and exits with 2
#   multidb_needs_root "$@"       starts the script again as root, with these arguments, unless it runs as root
#   multidb_finish_by FUNCTION    calls the function at the end, also at one by a signal

# The running script, not this file.
multidb_script=${BASH_SOURCE[-1]}

multidb_usage() {
    sed --quiet '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$multidb_script"
}

multidb_usage_error() {
    echo "$(basename "$multidb_script" .sh): $1" >&2
    multidb_usage >&2
    exit 2
}

multidb_needs_root() {
    if [ "$(id --user)" -ne 0 ]; then
        multidb_find_cargo
        # A target directory of its own, for root's files are not the caller's.
        multidb_as_root env "PATH=$PATH" "HOME=$HOME" "CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$repo/target-root}" \
            "$multidb_script" "$@"
        exit
    fi
}

multidb_finish_by() {
    # shellcheck disable=SC2064  # the function of now
    trap "$1" EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}
