"""psycopg 3 at the console: text and binary rows, parameters, a transaction, errors."""

import psycopg
from sessions import CA, HOST, PASSWORD, PORT, expect

SYNTAX_ERROR = "42601"


def main():
    with psycopg.connect(
        host=HOST, port=PORT, user="user:alice", password=PASSWORD, dbname="multidb",
        sslmode="verify-full", sslrootcert=CA, channel_binding="require",
    ) as session:
        for number in range(10):
            row = session.execute("show instance %s", ("drivers",), prepare=True).fetchone()
            expect(row[0], "drivers")
        for binary in (False, True):
            cursor = session.cursor(binary=binary, row_factory=psycopg.rows.dict_row)
            (shown,) = cursor.execute("show instances").fetchall()
            expect((shown["name"], shown["pinned"]), ("drivers", False))
            expect(type(shown["connections"]), int)
            expect(shown["created_at"].tzinfo is not None, True)
        # The transaction that psycopg has opened.
        session.execute("pin instance drivers")
        session.commit()
        refuse(session, "select 1")
        session.rollback()
        cursor = session.cursor(row_factory=psycopg.rows.dict_row)
        (shown,) = cursor.execute("show instances").fetchall()
        expect(shown["pinned"], True)


def refuse(session, statement):
    try:
        session.execute(statement)
    except psycopg.errors.SyntaxError as error:
        expect(error.sqlstate, SYNTAX_ERROR)
        expect("SHOW HELP" in error.diag.message_hint, True)
    else:
        raise SystemExit(f"{statement} had an answer")


main()
