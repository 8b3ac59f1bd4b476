// node-postgres: by its fields, which it passes on as they are, and by URL. It has no COPY of its own.
const fs = require("fs");
const { Client } = require("pg");

const env = process.env;
const ssl = { ca: fs.readFileSync(env.MULTIDB_CA, "utf8") };

function expect(got, wanted) {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) {
    throw new Error(`got ${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`);
  }
}

async function connect(config) {
  const client = new Client(config);
  await client.connect();
  return client;
}

async function main() {
  // Debian's version of the driver decodes a URL before it splits it, so a colon is one even if it is escaped.
  const byUrl = await connect(env.MULTIDB_URL.replaceAll("%3A", "%3D"));
  expect((await byUrl.query("select 1 as one")).rows, [{ one: 1 }]);
  await byUrl.end();
  const config = {
    host: "localhost",
    port: Number(env.MULTIDB_PORT),
    user: env.MULTIDB_USER,
    password: env.MULTIDB_PASSWORD,
    database: "app",
    ssl,
  };
  const client = await connect(config);
  for (let number = 0; number < 10; number++) {
    const query = { name: "plus", text: "select $1::int + 1 as sum", values: [number] };
    expect((await client.query(query)).rows, [{ sum: number + 1 }]);
  }
  const heard = new Promise((resolve) => client.once("notification", resolve));
  await client.query("listen changes");
  await client.query("notify changes, 'hello'");
  expect((await heard).payload, "hello");
  await cancel(config, client);
  const large = "select n, repeat('x', 100) as text from generate_series(1, 100000) n";
  const { rows } = await client.query(large);
  expect([rows.length, rows[99999]], [100000, { n: 100000, text: "x".repeat(100) }]);
  await client.end();
}

// The driver's own way to cancel: a request on a connection of its own, in plain.
async function cancel(config, client) {
  const sleeping = client.query("select pg_sleep(60)").then(
    () => { throw new Error("the query was not cancelled"); },
    (error) => expect(error.code, "57014"),
  );
  await new Promise((resolve) => setTimeout(resolve, 500));
  new Client({ ...config, ssl: false }).cancel(client, client.activeQuery);
  await sleeping;
  expect((await client.query("select 2 as two")).rows, [{ two: 2 }]);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
