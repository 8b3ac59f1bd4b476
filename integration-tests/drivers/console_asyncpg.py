"""asyncpg at the console: it prepares every statement, speaks binary, and resets sessions of a pool."""

import asyncio
import ssl

import asyncpg
from sessions import CA, HOST, PASSWORD, PORT, expect


async def main():
    tls = ssl.create_default_context(cafile=CA)
    to = dict(host=HOST, port=PORT, user="user:alice", password=PASSWORD, database="multidb", ssl=tls)
    session = await asyncpg.connect(**to)
    shown = await session.fetchrow("show instance $1", "drivers")
    expect((shown["name"], shown["created_by"]), ("drivers", "alice"))
    rows = await session.fetch("show instances")
    expect([(row["name"], type(row["connections"])) for row in rows], [("drivers", int)])
    try:
        await session.fetch("select relname from pg_class")
    except asyncpg.PostgresSyntaxError as error:
        expect("SHOW HELP" in error.hint, True)
    else:
        raise SystemExit("there is a catalog")
    await session.close()
    async with asyncpg.create_pool(min_size=1, max_size=1, **to) as pool:
        for _ in range(3):
            async with pool.acquire() as session:
                status = await session.fetchrow("show status")
                expect(status["snapshots"] > 0, True)


asyncio.run(main())
