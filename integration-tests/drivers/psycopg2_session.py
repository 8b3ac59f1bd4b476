"""What every session of psycopg 2 can do, whoever opened it: Django and SQLAlchemy sit on it too."""

import io
import select
import threading

import psycopg2
from sessions import CANCELLED, SLEEP, expect


def exercise(session):
    """Prepared statements, COPY, LISTEN and NOTIFY, and a cancel request."""
    session.autocommit = True
    with session.cursor() as cursor:
        prepared(cursor)
        copy(cursor)
        listen(session, cursor)
        cancel(session, cursor)


def prepared(cursor):
    cursor.execute("prepare plus (int) as select $1 + 1")
    cursor.execute("execute plus (%s)", (1,))
    expect(cursor.fetchone(), (2,))
    cursor.execute("deallocate plus")


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
