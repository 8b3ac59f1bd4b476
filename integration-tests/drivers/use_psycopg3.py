"""psycopg 3, which binds its SCRAM exchange to the certificate."""

import threading

import psycopg
from sessions import (
    CA, CANCELLED, DATABASE, HOST, LARGE, PASSWORD, PORT, SLEEP, URL, USER, expect, expect_large,
)


def main():
    with psycopg.connect(URL) as by_url:
        expect(by_url.execute("select 1").fetchone(), (1,))
    with psycopg.connect(
        host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=DATABASE, autocommit=True,
        sslmode="verify-full", sslrootcert=CA, channel_binding="require",
    ) as session:
        for number in range(10):
            row = session.execute("select %s::int + 1", (number,), prepare=True).fetchone()
            expect(row, (number + 1,))
        copy(session)
        listen(session)
        cancel(session)
        expect_large(session.execute(LARGE).fetchall())


def copy(session):
    session.execute("create temp table copied (n int)")
    with session.cursor().copy("copy copied from stdin") as rows:
        for number in range(10_000):
            rows.write_row((number,))
    with session.cursor().copy("copy copied to stdout") as rows:
        expect(sum(int(number) for (number,) in rows.rows()), 49_995_000)


def listen(session):
    heard = []
    session.add_notify_handler(lambda notify: heard.append(notify.payload))
    session.execute("listen changes")
    session.execute("notify changes, 'hello'")
    session.execute("select 1")
    expect(heard, ["hello"])


def cancel(session):
    threading.Timer(0.5, session.cancel).start()
    try:
        session.execute(SLEEP)
    except psycopg.errors.QueryCanceled as error:
        expect(error.sqlstate, CANCELLED)
    else:
        raise SystemExit("the query was not cancelled")
    expect(session.execute("select 2").fetchone(), (2,))


main()
