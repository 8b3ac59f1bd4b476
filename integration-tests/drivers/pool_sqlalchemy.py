"""SQLAlchemy's pool, which tries a session before it gives it out."""

import sqlalchemy
from sessions import URL, expect, wait_for_end
from sqlalchemy import text


def main():
    engine = sqlalchemy.create_engine(URL, pool_size=1, pool_pre_ping=True)
    first = backend(engine)
    wait_for_end(first)
    expect(backend(engine) != first, True)
    engine.dispose()


def backend(engine):
    """The process of the session that the pool gives out."""
    with engine.connect() as session:
        return session.execute(text("select pg_backend_pid()")).scalar()


main()
