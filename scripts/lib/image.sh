#!/usr/bin/env bash
# An image like Docker's official `postgres`, from Debian's packages, where no registry can be
# reached. To be sourced after packages.sh; the caller sets `set -euo pipefail`. Needs root, debootstrap,
# and an engine. The packages come from the mirrors of this machine's own apt.
#
#   multidb_build_image MAJOR   makes the image postgres:MAJOR unless the engine has it
#
# These parts, on which multidb relies, are as in the official image: the server's programs in
# /usr/lib/postgresql/MAJOR/bin and on the PATH, user and group postgres with the id 999, the
# locales C.UTF-8 and en_US.UTF-8, the declared volume. The entrypoint only drops root: it makes no
# cluster. (`docker import` cannot set the stop signal; multidb states it for each container.)

multidb_build_image() {
    local major=$1 image=postgres:$1 suite
    if docker image inspect "$image" >/dev/null 2>&1; then
        return 0
    fi
    case $major in
        13) suite=bullseye ;;
        15) suite=bookworm ;;
        17) suite=trixie ;;
        *)
            echo "image: Debian has no PostgreSQL $major, only 13, 15 and 17" >&2
            return 1
            ;;
    esac
    local debootstrap mirror security
    mirror=$(multidb_debian_mirror Debian) || return 1
    security=$(multidb_debian_mirror Debian-Security) || return 1
    if ! debootstrap=$(PATH="$PATH:/usr/sbin" command -v debootstrap); then
        echo "image: debootstrap is not installed; try: apt-get install debootstrap" >&2
        return 1
    fi
    echo "image: building $image from Debian's packages ($suite)" >&2
    # A subshell, so that its trap removes the tree however the build ends.
    (
        tree=$(mktemp --directory --tmpdir="${TMPDIR:-/var/tmp}" multidb-image.XXXXXX)
        trap 'rm --recursive --force --one-file-system "$tree"' EXIT
        chmod 0755 "$tree"
        log=$tree.log
        trap 'rm --recursive --force --one-file-system "$tree" "$log"' EXIT
        if ! multidb_image_tree "$debootstrap" "$tree" "$suite" "$major" "$mirror" "$security" >"$log" 2>&1; then
            echo "image: building $image failed; the end of the log:" >&2
            tail --lines 30 "$log" >&2
            exit 1
        fi
        multidb_image_import "$tree" "$major" "$image"
    )
}

multidb_image_tree() {
    local debootstrap=$1 tree=$2 suite=$3 major=$4 mirror=$5 security=$6
    # `set -e` does not hold in a function whose result is tested.
    "$debootstrap" --variant=minbase \
        "$suite" "$tree" "$mirror" &&
        multidb_image_prepare "$tree" "$suite" "$mirror" "$security" &&
        multidb_image_install "$tree" "$major" &&
        multidb_image_trim "$tree"
}

# Settles how packages are installed: no services, no documentation, no cluster, no fsync.
multidb_image_prepare() {
    local tree=$1 suite=$2 mirror=$3 security=$4
    cat >"$tree/etc/apt/sources.list" <<LIST
deb $mirror $suite main
deb $mirror $suite-updates main
deb $security $suite-security main
LIST
    printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d" &&
        chmod 0755 "$tree/usr/sbin/policy-rc.d" &&
        cat >"$tree/etc/dpkg/dpkg.cfg.d/multidb" <<DPKG &&
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
DPKG
        mkdir --parents "$tree/etc/postgresql-common" &&
        echo 'create_main_cluster = false' >"$tree/etc/postgresql-common/createcluster.conf" &&
        chroot "$tree" groupadd --system --gid=999 postgres &&
        chroot "$tree" useradd --system --gid=postgres --uid=999 \
            --home-dir=/var/lib/postgresql --shell=/bin/bash postgres
}

multidb_image_install() {
    local tree=$1 major=$2
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes --no-install-recommends)
    chroot "$tree" "${apt[@]}" update &&
        chroot "$tree" "${apt[@]}" -o Dpkg::Options::=--force-confold \
            install "postgresql-$major" locales &&
        chroot "$tree" localedef --inputfile=en_US --force --charmap=UTF-8 en_US.UTF-8 &&
        mkdir --parents "$tree/var/lib/postgresql/data" "$tree/var/run/postgresql" "$tree/docker-entrypoint-initdb.d" &&
        chroot "$tree" chown postgres:postgres /var/lib/postgresql /var/lib/postgresql/data /var/run/postgresql &&
        chroot "$tree" chmod 1777 /var/lib/postgresql/data &&
        chroot "$tree" chmod 3777 /var/run/postgresql &&
        multidb_image_entrypoint "$tree/usr/local/bin/docker-entrypoint.sh"
}

multidb_image_entrypoint() {
    cat >"$1" <<'ENTRYPOINT' && chmod 0755 "$1"
#!/bin/sh
# Runs the command as the user postgres.
set -e
if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"
fi
exec "$@"
ENTRYPOINT
}

multidb_image_trim() {
    local tree=$1
    chroot "$tree" apt-get clean &&
        rm --recursive --force \
            "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/* "$tree"/var/cache/debconf/*-old \
            "$tree"/var/log/* "$tree"/tmp/* "$tree"/usr/share/doc/* "$tree"/usr/share/man/* \
            "$tree"/usr/share/locale/* "$tree"/usr/share/i18n \
            "$tree"/etc/ssl/private/* "$tree"/usr/sbin/policy-rc.d "$tree"/etc/dpkg/dpkg.cfg.d/multidb
}

multidb_image_import() {
    local tree=$1 major=$2 image=$3
    local path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    tar --create --directory="$tree" --numeric-owner --one-file-system . |
        docker import \
            --change "ENV PATH=$path:/usr/lib/postgresql/$major/bin" \
            --change "ENV LANG=en_US.utf8" \
            --change "ENV PG_MAJOR=$major" \
            --change "ENV PGDATA=/var/lib/postgresql/data" \
            --change "VOLUME /var/lib/postgresql/data" \
            --change 'ENTRYPOINT ["docker-entrypoint.sh"]' \
            --change "EXPOSE 5432" \
            --change 'CMD ["postgres"]' \
            --message "PostgreSQL $major from Debian's packages" \
            - "$image" >/dev/null
}
