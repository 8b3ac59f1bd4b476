"""SQLAlchemy, by its pool and by psycopg 2."""

import sqlalchemy
from sessions import CA, DATABASE, HOST, LARGE, PASSWORD, PORT, SLEEP, URL, USER, expect, expect_large
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
    cancel(engine)
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


def cancel(engine):
    with engine.connect() as session:
        session.execute(text("set statement_timeout = '500ms'"))
        try:
            session.execute(text(SLEEP))
        except sqlalchemy.exc.OperationalError as error:
            expect(error.orig.pgcode, "57014")
        else:
            raise SystemExit("the query was not cancelled")


main()
