"""SQLAlchemy, by its pool and by psycopg 2."""

import sqlalchemy
from psycopg2_session import exercise
from sessions import CA, DATABASE, HOST, LARGE, PASSWORD, PORT, URL, USER, expect, expect_large
from sqlalchemy import text


def main():
    with sqlalchemy.create_engine(URL).connect() as by_url:
        expect(by_url.execute(text("select 1")).scalar(), 1)
    url = sqlalchemy.engine.URL.create(
        "postgresql+psycopg2", USER, PASSWORD, HOST, PORT, DATABASE,
        {"sslmode": "verify-full", "sslrootcert": CA},
    )
    engine = sqlalchemy.create_engine(url)
    orm(engine)
    with engine.connect() as session:
        expect_large(session.execute(text(LARGE)).all())
        streamed = session.execution_options(stream_results=True).execute(text(LARGE))
        expect_large(streamed.all())
    driver(engine)
    engine.dispose()


def orm(engine):
    table = sqlalchemy.Table(
        "noted", sqlalchemy.MetaData(),
        sqlalchemy.Column("id", sqlalchemy.Integer, primary_key=True),
        sqlalchemy.Column("note", sqlalchemy.Text),
    )
    table.create(engine)
    with engine.begin() as session:
        session.execute(table.insert(), [{"note": str(number)} for number in range(1_000)])
    with engine.connect() as session:
        expect(session.execute(sqlalchemy.select(sqlalchemy.func.count(table.c.id))).scalar(), 1_000)


def driver(engine):
    """The session below, which has COPY, LISTEN and a way to cancel."""
    session = engine.raw_connection()
    exercise(session.connection)
    session.close()


main()
