"""psycopg 2."""

import psycopg2
from psycopg2_session import exercise
from sessions import CA, DATABASE, HOST, LARGE, PASSWORD, PORT, URL, USER, expect, expect_large


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
    exercise(session)
    with session.cursor() as cursor:
        cursor.execute(LARGE)
        expect_large(cursor.fetchall())
    session.close()


main()
