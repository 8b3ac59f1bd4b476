"""psycopg 2."""

import io
import select
import threading

import psycopg2
from sessions import (
    CA, CANCELLED, DATABASE, HOST, LARGE, PASSWORD, PORT, SLEEP, URL, USER, expect, expect_large,
)


def main():
    by_url = psycopg2.connect(URL)
    with by_url.cursor() as cursor:
        cursor.execute("select 1")
        expect(cursor.fetchone(), (1,))
    by_url.close()
    session = psycopg2.connect(
        host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=DATABASE,
        sslmode="verify-full", sslrootcert=CA,
    )
    session.autocommit = True
    cursor = session.cursor()
    cursor.execute("prepare plus (int) as select $1 + 1")
    cursor.execute("execute plus (%s)", (1,))
    expect(cursor.fetchone(), (2,))
    copy(cursor)
    listen(session, cursor)
    cancel(session, cursor)
    cursor.execute(LARGE)
    expect_large(cursor.fetchall())
    session.close()


def copy(cursor):
    cursor.execute("create temp table copied (n int)")
    rows = "".join(f"{number}\n" for number in range(10_000))
    cursor.copy_expert("copy copied from stdin", io.StringIO(rows))
    back = io.StringIO()
    cursor.copy_expert("copy (select * from copied order by n) to stdout", back)
    expect(back.getvalue() == rows, True)


def listen(session, cursor):
    cursor.execute("listen changes")
    cursor.execute("notify changes, 'hello'")
    while not session.notifies:
        select.select([session], [], [], 30)
        session.poll()
    expect(session.notifies.pop().payload, "hello")


def cancel(session, cursor):
    threading.Timer(0.5, session.cancel).start()
    try:
        cursor.execute(SLEEP)
    except psycopg2.extensions.QueryCanceledError as error:
        expect(error.pgcode, CANCELLED)
    else:
        raise SystemExit("the query was not cancelled")
    cursor.execute("select 2")
    expect(cursor.fetchone(), (2,))


main()
