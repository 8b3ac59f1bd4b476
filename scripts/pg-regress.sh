#!/usr/bin/env bash
# Runs PostgreSQL's own regression suite twice, directly against an instance's server and through
# multidb against another instance of the same snapshot, and fails unless both runs say the same.
#
# usage: scripts/pg-regress.sh [--dir DIR] [--keep DIR] [TEST...]
#
#   --dir DIR   where the work goes; default ${TMPDIR:-/var/tmp}. It needs 3 GiB
#   --keep DIR  keep the output of both runs there: logs, results, and differences, if any
#   TEST        only these tests, one after the other, such as `boolean`; default is the whole parallel
#               schedule. Most tests need `test_setup` before them
#
# Needs Debian 12 with a Rust toolchain, and root. Installs missing packages (Postgres, xfsprogs, git, a
# C compiler, make, bzip2, perl), fetches Debian's source package of the installed Postgres, builds the
# suite's own library from it, builds multidb, and takes away all that it made, however it ends.
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

dir=${TMPDIR:-/var/tmp}
keep=
tests=()
work=
daemon_pid=

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            --help | -h) multidb_usage && exit 0 ;;
            --dir | --keep)
                [ $# -ge 2 ] || multidb_usage_error "$1 needs a value"
                if [ "$1" = --dir ]; then dir=$2; else keep=$2; fi
                shift
                ;;
            -*) multidb_usage_error "unknown argument: $1" ;;
            *) tests+=("$1") ;;
        esac
        shift
    done
    [ -d "$dir" ] || multidb_usage_error "there is no directory $dir"
    [ "$(id --user)" -eq 0 ] || multidb_usage_error "run it as root: it mounts a file system and runs servers as postgres"
}

main() {
    parse "$@"
    multidb_finish_by finish
    multidb_find_cargo
    multidb_install_packages build git postgres xfs source
    bin=$(multidb_postgres_bin)
    major=$(basename "$(dirname "$bin")")
    work=$(mktemp --directory --tmpdir="$dir" multidb-regress.XXXXXX)
    chmod 0755 "$work"
    step "Building the suite's library from Debian's source of PostgreSQL $major"
    fetch_source
    build_suite
    step "Building multidb"
    (cd "$repo" && cargo build --release --locked --bin multidb)
    multidb=${CARGO_TARGET_DIR:-$repo/target}/release/multidb
    start_daemon
    # Each connects once, so that both are there and awake.
    connect direct
    connect proxied
    step "The suite, directly"
    run_suite direct '' --host="$root/run/$(basename "$(dirname "$(data_dir direct)")")"
    step "The suite, through multidb"
    run_suite proxied '-c multidb.instance=proxied' --host=127.0.0.1 --port="$port"
    step "Comparing"
    compare
}

data_dir() {
    "$multidb" instance show "$1" --json | sed --quiet 's/.*"data_dir": *"\([^"]*\)".*/\1/p'
}

step() {
    printf '\n== %s\n' "$*"
}

# The source of the installed version, or the newest of this major. The machine's apt names the mirrors; the list of
# sources is a separate one, since most machines fetch no sources.
fetch_source() {
    local release mirror security version installed lists=$work/apt
    release=$(sed --quiet 's/^VERSION_CODENAME=//p' /etc/os-release)
    mirror=$(multidb_debian_mirror Debian)
    security=$(multidb_debian_mirror Debian-Security)
    mkdir --parents "$lists/partial" "$work/source"
    printf 'deb-src %s main\n' "$mirror $release" "$mirror $release-updates" "$security $release-security" \
        >"$work/sources.list"
    local apt=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/nonexistent
        -o "Dir::State::Lists=$lists" -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" --quiet --quiet update
    installed=$(dpkg-query --show --showformat='${Version}' "postgresql-$major")
    cd "$work/source"
    for version in "$installed" $(apt-cache "${apt[@]}" showsrc "postgresql-$major" |
        sed --quiet 's/^Version: //p' | sort --version-sort --reverse); do
        if apt-get "${apt[@]}" --quiet --quiet source --download-only "postgresql-$major=$version" 2>/dev/null; then
            echo "   $version (installed: $installed)"
            tar --extract --strip-components=1 --file "postgresql-${major}_${version%-*}.orig.tar.bz2"
            return
        fi
    done
    echo "pg-regress: Debian has no source of postgresql-$major" >&2
    return 1
}

# The suite's program is in Debian's server package; its library of C functions is not.
build_suite() {
    suite=$work/source/src/test/regress
    cd "$work/source"
    quietly ./configure --without-readline --without-zlib --without-icu
    quietly make --jobs="$(nproc)" --directory=src/test/regress all
}

quietly() {
    if ! "$@" >"$work/last-step.log" 2>&1; then
        tail --lines 30 "$work/last-step.log" >&2
        echo "pg-regress: this failed: $*" >&2
        return 1
    fi
}

start_daemon() {
    root=$work/root
    port=$(multidb_free_port)
    multidb_mount_image xfs "$work/root.xfs" "$root" 8G
    chmod 0755 "$root"
    multidb_make_demo_repository "$work/polls"
    multidb_make_demo_dumps "$work"
    export MULTIDB_CONFIG=$work/multidb.toml
    {
        multidb_demo_config "$work" "$port" "$root" "$work/polls"
        # The suite's first half must not end while its second half is made ready.
        echo 'instance_idle_timeout = "1h"'
    } >"$MULTIDB_CONFIG"
    multidb_start_daemon "$multidb" "$work/daemon.log"
    "$multidb" snapshot import v1.0 --project polls --dump "$work/v1.0.dump" >/dev/null
}

connect() {
    psql --no-psqlrc --quiet --no-align --tuples-only --output=/dev/null --host=127.0.0.1 --port="$port" \
        --username="instance:$1,gitref:v1.0" --dbname=polls --command='select 1'
}

# The server reads the suite and writes into its directory of output, and reaches nothing but its own data, so
# both are there. The tests' output is compared, not whether they pass. The instance is named in the options, as the
# tests log in as roles of their own.
run_suite() {
    local name=$1 options=$2 own
    own=$(data_dir "$name")/regress
    local output=$own/output
    shift 2
    install --directory --owner=postgres --mode=0700 "$own" "$output"
    cp --recursive "$suite" "$own/suite"
    chown --recursive postgres: "$own"
    local what=(--schedule="$own/suite/parallel_schedule" --max-concurrent-tests=20)
    if [ ${#tests[@]} -gt 0 ]; then
        what=("${tests[@]}")
    fi
    (
        cd "$output"
        runuser --user postgres -- env "PGOPTIONS=$options" \
            "$(dirname "$bin")/lib/pgxs/src/test/regress/pg_regress" --inputdir="$own/suite" \
            --outputdir="$output" --bindir="$bin" --dlpath="$own/suite" --user=postgres "$@" "${what[@]}"
    ) >"$work/$name.log" 2>&1 || true
    cp --recursive "$output" "$work/$name"
    # The line that counts.
    grep --extended-regexp 'tests? (passed|failed)' "$work/$name.log" | sed 's/^/  /' || {
        tail --lines 20 "$work/$name.log" >&2
        echo "pg-regress: the suite did not come to its end" >&2
        return 1
    }
}

# The verdicts, without how long each took, and where tests fail, how.
compare() {
    local name same=yes
    for name in direct proxied; do
        sed --regexp-extended 's/ +[0-9]+ ms$//' "$work/$name.log" |
            grep --extended-regexp '\.\.\. |^ok|^not ok' | sed 's/  */ /g' >"$work/$name.verdicts"
        # The header of each difference has the paths and times of the files.
        sed --regexp-extended '/^(diff|---|\+\+\+) /d' "$work/$name/regression.diffs" >"$work/$name.differences" \
            2>/dev/null || true
    done
    [ -s "$work/direct.verdicts" ] || same=no
    diff --unified "$work/direct.verdicts" "$work/proxied.verdicts" || same=no
    diff --unified "$work/direct.differences" "$work/proxied.differences" || same=no
    if [ -n "$keep" ]; then
        mkdir --parents "$keep"
        cp --recursive "$work/direct" "$work/proxied" "$work"/*.log "$keep"
    fi
    if [ "$same" = no ]; then
        echo "pg-regress: multidb is not as transparent as it should be; see above"
        return 1
    fi
    echo "   the same: $(wc --lines <"$work/direct.verdicts") tests"
}

finish() {
    local result=$?
    trap - EXIT
    trap '' INT TERM HUP
    cd /
    if [ -n "$daemon_pid" ] && kill -TERM "$daemon_pid" 2>/dev/null; then
        wait "$daemon_pid" || true
    fi
    if [ -n "$work" ]; then
        multidb_kill_users_of "$work"
        multidb_unmount_image "$work/root"
        rm --recursive --force --one-file-system "$work"
    fi
    exit "$result"
}

main "$@"
