"""asyncpg, which prepares every statement and speaks binary."""

import asyncio
import io
import ssl

import asyncpg
from sessions import CA, DATABASE, HOST, LARGE, PASSWORD, PORT, SLEEP, URL, USER, expect, expect_large


async def main():
    by_url = await asyncpg.connect(URL)
    expect(await by_url.fetchval("select 1"), 1)
    await by_url.close()
    tls = ssl.create_default_context(cafile=CA)
    session = await asyncpg.connect(
        host=HOST, port=PORT, user=USER, password=PASSWORD, database=DATABASE, ssl=tls
    )
    statement = await session.prepare("select $1::int + 1")
    for number in range(10):
        expect(await statement.fetchval(number), number + 1)
    await copy(session)
    await listen(session)
    await cancel(session)
    expect_large(await session.fetch(LARGE))
    await session.close()
    await direct(tls)


async def copy(session):
    await session.execute("create temp table copied (n int)")
    await session.copy_records_to_table("copied", records=[(number,) for number in range(10_000)])
    back = io.BytesIO()
    await session.copy_from_query("select n from copied order by n", output=back)
    expect(back.getvalue(), "".join(f"{number}\n" for number in range(10_000)).encode())


async def listen(session):
    told = asyncio.get_running_loop().create_future()
    await session.add_listener("changes", lambda *heard: told.set_result(heard[-1]))
    await session.execute("notify changes, 'hello'")
    expect(await asyncio.wait_for(told, 30), "hello")


async def cancel(session):
    try:
        await session.execute(SLEEP, timeout=0.5)
    except asyncio.TimeoutError:
        pass
    else:
        raise SystemExit("the query was not cancelled")
    # The driver waits for its cancel request to have an effect, however long that takes.
    expect(await asyncio.wait_for(session.fetchval("select 2"), 10), 2)


async def direct(tls):
    """TLS from the first byte."""
    tls.set_alpn_protocols(["postgresql"])
    session = await asyncpg.connect(
        host=HOST, port=PORT, user=USER, password=PASSWORD, database=DATABASE, ssl=tls, direct_tls=True
    )
    expect(await session.fetchval("select 1"), 1)
    await session.close()


asyncio.run(main())
