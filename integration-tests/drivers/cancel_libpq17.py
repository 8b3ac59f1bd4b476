"""libpq's functions for cancelling since 17, over TLS: each waits for the end of its connection, and fails without it."""

import threading

import psycopg
from sessions import CANCELLED, SLEEP, URL, expect

ATTEMPTS = 5


def blocking(session):
    """By PQcancelBlocking."""
    request = session.pgconn.cancel_conn()
    request.blocking()
    request.finish()


def polling(session):
    """By PQcancelStart and PQcancelPoll."""
    session.cancel_safe(timeout=20)


def cancel(session, function):
    failures = []

    def run():
        try:
            function(session)
        except Exception as error:
            failures.append(repr(error))

    timer = threading.Timer(0.2, run)
    timer.start()
    try:
        session.execute(SLEEP)
    except psycopg.errors.QueryCanceled as error:
        expect(error.sqlstate, CANCELLED)
    else:
        raise SystemExit("the query was not cancelled")
    timer.join()
    expect(failures, [])


def main():
    if psycopg.pq.version() < 170000:
        raise SystemExit(f"libpq {psycopg.pq.version()} has no such functions")
    with psycopg.connect(URL, autocommit=True) as session:
        for function in (blocking, polling):
            for _ in range(ATTEMPTS):
                cancel(session, function)
        expect(session.execute("select 2").fetchone(), (2,))


main()
