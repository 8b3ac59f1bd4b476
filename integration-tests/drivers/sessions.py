"""What the scripts of Python's drivers share: where to connect, and what to expect.

Each script connects twice, by keywords and by URL, both with the overloaded user name, and does what
its driver can: prepared statements, COPY, LISTEN and NOTIFY, cancelling, large results. It exits with 0,
or says what it got.
"""

import faulthandler
import os
import time

# What hangs says where.
faulthandler.dump_traceback_later(120, exit=True)

HOST = "localhost"
PORT = int(os.environ["MULTIDB_PORT"])
USER = os.environ["MULTIDB_USER"]
PASSWORD = os.environ["MULTIDB_PASSWORD"]
DATABASE = "app"
CA = os.environ["MULTIDB_CA"]
URL = os.environ["MULTIDB_URL"]

ROWS = 100_000
LARGE = f"select n, repeat('x', 100) as text from generate_series(1, {ROWS}) n"
SLEEP = "select pg_sleep(60)"
CANCELLED = "57014"


def expect(got, wanted):
    """Fails unless both are the same."""
    if got != wanted:
        raise SystemExit(f"got {got!r} instead of {wanted!r}")


def expect_large(rows):
    """Fails unless this is the large result."""
    expect(len(rows), ROWS)
    expect(tuple(rows[-1]), (ROWS, "x" * 100))


def wait_for_end(process):
    """Waits until the daemon has ended the session of this process, by a session that it does not find idle."""
    import psycopg2

    observer = psycopg2.connect(URL)
    observer.autocommit = True
    with observer.cursor() as cursor:
        while True:
            cursor.execute("select from pg_stat_activity where pid = %s", (process,))
            if cursor.rowcount == 0:
                break
            time.sleep(0.1)
    observer.close()
