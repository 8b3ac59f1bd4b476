// node-postgres' pool, which needs a listener for the sessions that end while nobody uses them.
const { Pool } = require("pg");

const env = process.env;
const pool = new Pool({
  host: "localhost",
  port: Number(env.MULTIDB_PORT),
  user: env.MULTIDB_USER,
  password: env.MULTIDB_PASSWORD,
  database: "app",
  ssl: { ca: require("fs").readFileSync(env.MULTIDB_CA, "utf8") },
  max: 1,
  // Longer than the daemon's, so that the daemon ends the session.
  idleTimeoutMillis: 0,
});

async function backend() {
  return (await pool.query("select pg_backend_pid() as pid")).rows[0].pid;
}

async function main() {
  const ended = new Promise((resolve) => pool.on("error", resolve));
  const first = await backend();
  const { code } = await ended;
  if (code !== "57P05") {
    throw new Error(`the session ended with ${code}`);
  }
  if ((await backend()) === first) {
    throw new Error("the session did not end");
  }
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
