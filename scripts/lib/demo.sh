#!/usr/bin/env bash
# The material of the quickstart: a git repository with a migration listing, and dumps of a small
# Django project's database at two moments of its history. To be sourced after packages.sh; the
# caller sets `set -euo pipefail`.
#
#   multidb_make_demo_repository DIR   a repository with the tag v1.0, the branch main one release
#                                      further, and the branch feature/tags ahead of every snapshot
#   multidb_make_demo_dumps DIR        DIR/v1.0.dump and DIR/main.dump, by pg_dump --format=custom

multidb_make_demo_repository() {
    local dir=$1
    rm --recursive --force "$dir"
    git init --quiet --initial-branch=main "$dir"
    cat >"$dir/migrations.txt" <<'LISTING'
# One line for each migration that this revision defines: app.name
contenttypes.0001_initial
auth.0001_initial
polls.0001_initial
LISTING
    multidb_demo_commit "$dir" '2026-01-12T10:00:00Z' 'Polls: questions and choices'
    git -C "$dir" tag v1.0
    echo 'polls.0002_question_closed_at' >>"$dir/migrations.txt"
    multidb_demo_commit "$dir" '2026-01-19T10:00:00Z' 'Polls: a question can be closed'
    echo 'polls.0003_vote' >>"$dir/migrations.txt"
    multidb_demo_commit "$dir" '2026-01-26T10:00:00Z' 'Polls: keep each vote with its time'
    git -C "$dir" checkout --quiet -b feature/tags
    echo 'polls.0004_tags' >>"$dir/migrations.txt"
    multidb_demo_commit "$dir" '2026-02-02T10:00:00Z' 'Polls: tag questions'
    git -C "$dir" checkout --quiet main
}

# Fixed names and dates give the same commits on every machine.
multidb_demo_commit() {
    local dir=$1 date=$2 message=$3
    git -C "$dir" add migrations.txt
    GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date git -C "$dir" \
        -c user.name='multidb demo' -c user.email=demo@multidb.invalid -c commit.gpgsign=false \
        commit --quiet --message "$message"
}

# In a subshell, so that its trap ends the temporary server however this ends.
multidb_make_demo_dumps() (
    dir=$1
    bin=$(multidb_postgres_bin)
    tmp=$(mktemp --directory --tmpdir=/tmp multidb-dump.XXXXXX)
    trap 'multidb_demo_server_stop "$bin" "$tmp"' EXIT
    if [ "$(id --user)" -eq 0 ]; then
        chown postgres: "$tmp"
    fi
    cd "$tmp" || exit
    multidb_demo_as_postgres "$bin/initdb" --pgdata="$tmp/data" --username=postgres --auth=trust \
        --encoding=UTF8 --locale=C.UTF-8 --no-sync >"$tmp.log"
    multidb_demo_as_postgres "$bin/pg_ctl" --pgdata="$tmp/data" --log="$tmp/data/log" --wait --silent \
        --options="-c listen_addresses='' -c unix_socket_directories='$tmp' -c fsync=off" start
    export PGHOST=$tmp PGUSER=postgres PGOPTIONS='--client-min-messages=warning'
    "$bin/createdb" polls
    multidb_demo_sql_v1 | "$bin/psql" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=polls
    "$bin/pg_dump" --format=custom --file="$dir/v1.0.dump" polls
    multidb_demo_sql_main | "$bin/psql" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=polls
    "$bin/pg_dump" --format=custom --file="$dir/main.dump" polls
)

# Postgres refuses to run as root.
multidb_demo_as_postgres() {
    if [ "$(id --user)" -eq 0 ]; then
        runuser --user postgres -- "$@"
    else
        "$@"
    fi
}

multidb_demo_server_stop() {
    local bin=$1 tmp=$2
    if [ -e "$tmp/data/postmaster.pid" ]; then
        # With no cluster left to keep, immediate is right.
        multidb_demo_as_postgres "$bin/pg_ctl" --pgdata="$tmp/data" --mode=immediate --silent stop || true
    fi
    rm --recursive --force "$tmp" "$tmp.log"
}

multidb_demo_sql_v1() {
    cat <<'SQL'
CREATE TABLE django_content_type (
    id serial PRIMARY KEY, app_label varchar(100) NOT NULL, model varchar(100) NOT NULL,
    UNIQUE (app_label, model));
CREATE TABLE django_migrations (
    id bigserial PRIMARY KEY, app varchar(255) NOT NULL, name varchar(255) NOT NULL,
    applied timestamptz NOT NULL);
CREATE TABLE auth_user (
    id serial PRIMARY KEY, password varchar(128) NOT NULL, last_login timestamptz,
    is_superuser boolean NOT NULL, username varchar(150) NOT NULL UNIQUE,
    email varchar(254) NOT NULL, is_active boolean NOT NULL, date_joined timestamptz NOT NULL);
CREATE TABLE polls_question (
    id bigserial PRIMARY KEY, question_text varchar(200) NOT NULL, pub_date timestamptz NOT NULL);
CREATE TABLE polls_choice (
    id bigserial PRIMARY KEY, question_id bigint NOT NULL REFERENCES polls_question,
    choice_text varchar(200) NOT NULL, votes integer NOT NULL);
CREATE INDEX polls_choice_question_id ON polls_choice (question_id);
INSERT INTO django_content_type (app_label, model)
    VALUES ('auth', 'user'), ('polls', 'question'), ('polls', 'choice');
INSERT INTO django_migrations (app, name, applied) VALUES
    ('contenttypes', '0001_initial', '2026-01-12 10:05:00Z'),
    ('auth', '0001_initial', '2026-01-12 10:05:00Z'),
    ('polls', '0001_initial', '2026-01-12 10:05:01Z');
INSERT INTO auth_user (password, is_superuser, username, email, is_active, date_joined)
    SELECT '!' || md5(n::text), n = 1, 'user' || n, 'user' || n || '@example.com', true,
           timestamptz '2026-01-12 11:00:00Z' + n * interval '1 minute'
    FROM generate_series(1, 5000) AS n;
INSERT INTO polls_question (question_text, pub_date)
    SELECT 'Question number ' || n || '?', timestamptz '2026-01-13 09:00:00Z' + n * interval '5 minutes'
    FROM generate_series(1, 1000) AS n;
INSERT INTO polls_choice (question_id, choice_text, votes)
    SELECT q, 'Choice ' || c, (q * 7 + c * 13) % 50
    FROM generate_series(1, 1000) AS q, generate_series(1, 4) AS c;
SQL
}

multidb_demo_sql_main() {
    cat <<'SQL'
ALTER TABLE polls_question ADD COLUMN closed_at timestamptz;
CREATE TABLE polls_vote (
    id bigserial PRIMARY KEY, choice_id bigint NOT NULL REFERENCES polls_choice,
    user_id integer NOT NULL REFERENCES auth_user, voted_at timestamptz NOT NULL);
CREATE INDEX polls_vote_choice_id ON polls_vote (choice_id);
INSERT INTO django_migrations (app, name, applied) VALUES
    ('polls', '0002_question_closed_at', '2026-01-19 10:05:00Z'),
    ('polls', '0003_vote', '2026-01-26 10:05:00Z');
UPDATE polls_question SET closed_at = pub_date + interval '7 days' WHERE id <= 700;
INSERT INTO polls_vote (choice_id, user_id, voted_at)
    SELECT 1 + n % 4000, 1 + n % 5000, timestamptz '2026-01-26 12:00:00Z' + n * interval '3 seconds'
    FROM generate_series(1, 50000) AS n;
SQL
}
