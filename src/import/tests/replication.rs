//! A subscriber as the source, with a real publisher: clones take nothing from it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use multidb_actors::ports::Endpoint;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::fixture::{Fixture, TIMEOUT, major};
use crate::import::ImportSource;
use crate::runtime::PostgresHost;
use crate::runtime::binaries::Binaries;
use crate::runtime::process::tests::fixture::connect;

/// A server without a sandbox, which reaches the others, with the settings in its data directory. Nothing but its
/// data keeps a clone from the publisher.
struct Plain {
    child: Child,
    sockets: PathBuf,
}

impl Plain {
    async fn start(fixture: &Fixture, data: &Path, name: &str) -> Self {
        let sockets = fixture.own_dir(&format!("{name} sockets"));
        let programs = Binaries::search()
            .installation(major())
            .await
            .unwrap()
            .directory;
        let (uid, gid) = fixture.host.data_owner();
        let mut command = Command::new(programs.join("postgres"));
        command.arg("-D").arg(data);
        for setting in [
            "listen_addresses=",
            "wal_level=logical",
            "fsync=off",
            "shared_buffers=16MB",
            &format!("unix_socket_directories={}", sockets.display()),
        ] {
            command.arg("-c").arg(setting);
        }
        if rustix::process::geteuid().is_root() {
            command.uid(uid).gid(gid);
        }
        command
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let server = Self { child, sockets };
        let ready = async || {
            let endpoint = server.endpoint();
            let Endpoint::Unix(socket) = &endpoint else {
                return None;
            };
            let pid_file = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
            (socket.exists() && pid_file.lines().nth(7)?.trim() == "ready").then_some(())
        };
        until("the server accepts connections", ready).await;
        server
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.sockets.join(".s.PGSQL.5432"))
    }

    async fn run(&self, database: &str, sql: &str) {
        let client = connect(&self.endpoint(), database).await;
        client.batch_execute(sql).await.unwrap();
    }

    async fn ask(&self, database: &str, sql: &str) -> String {
        let client = connect(&self.endpoint(), database).await;
        client.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn wait_for(&self, database: &str, sql: &str, expected: &str) {
        let answered = async || (self.ask(database, sql).await == expected).then_some(());
        until(sql, answered).await;
    }

    /// A fast shutdown.
    async fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        until("the server ends", async || self.child.try_wait().unwrap()).await;
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone = kill_process(Pid::from_child(&self.child), Signal::QUIT);
            let _status = self.child.wait();
        }
    }
}

async fn until<T>(what: &str, mut happened: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = happened().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A publisher of the tables of its database.
async fn start_publisher(fixture: &Fixture) -> Plain {
    let data = fixture.init("publisher").await;
    let publisher = Plain::start(fixture, &data, "publisher").await;
    publisher.run("postgres", "CREATE DATABASE proj").await;
    let table = "CREATE TABLE items (x int PRIMARY KEY); INSERT INTO items VALUES (0)";
    publisher.run("proj", table).await;
    publisher
        .run("proj", "CREATE PUBLICATION p FOR ALL TABLES")
        .await;
    publisher
}

/// The stopped data directory of a subscriber that has all rows, and its dump.
async fn subscriber_of(fixture: &Fixture, publisher: &Plain) -> (PathBuf, Vec<u8>) {
    let data = fixture.init("source").await;
    let subscriber = Plain::start(fixture, &data, "subscriber").await;
    subscriber.run("postgres", "CREATE ROLE app LOGIN").await;
    subscriber
        .run("postgres", "CREATE DATABASE proj OWNER app")
        .await;
    let tables = "CREATE TABLE django_migrations AS SELECT 'a'::text AS app, 'b'::text AS name; \
                  CREATE TABLE items (x int PRIMARY KEY)";
    subscriber.run("proj", tables).await;
    let subscribe = format!(
        "CREATE SUBSCRIPTION s CONNECTION 'host=''{}'' user=postgres dbname=proj' PUBLICATION p",
        publisher.sockets.display()
    );
    subscriber.run("proj", &subscribe).await;
    let synced = "SELECT string_agg(srsubstate::text, '') FROM pg_subscription_rel";
    subscriber.wait_for("proj", synced, "r").await;
    let mut dump = Command::new("pg_dump");
    dump.args(["--username=postgres", "--dbname=proj", "--host"]);
    let dump = dump.arg(&subscriber.sockets).output().unwrap();
    assert!(dump.status.success(), "{dump:?}");
    subscriber.stop().await;
    (data, dump.stdout)
}

#[tokio::test]
async fn clones_of_a_subscriber_take_nothing_from_its_publisher() {
    let fixture = Fixture::new();
    let publisher = start_publisher(&fixture).await;
    let (data, dump) = subscriber_of(&fixture, &publisher).await;
    let request = fixture.request("s", ImportSource::DataDir(data.clone()));
    let snapshot = fixture.import(request).await.unwrap();
    let warning =
        "subscriptions are disabled, and have lost the name of their slot: \"s\" of \"proj\"";
    let warnings = fixture.warnings();
    assert!(warnings.iter().any(|text| text == warning), "{warnings:?}");
    let mut clones = Vec::new();
    for name in ["one", "two"] {
        let copy = fixture.copy_of(&fixture.snapshot_data(&snapshot.id), name);
        clones.push(Plain::start(&fixture, &copy, name).await);
    }
    publisher
        .run("proj", "INSERT INTO items SELECT generate_series(1, 100)")
        .await;
    for clone in &clones {
        // It waits after it has started the workers of all subscriptions that are enabled.
        let waits =
            "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'LogicalLauncherMain'";
        clone.wait_for("proj", waits, "1").await;
        let workers = "SELECT count(pid)::text FROM pg_stat_subscription";
        assert_eq!(clone.ask("proj", workers).await, "0");
        clone.run("proj", "DROP SUBSCRIPTION s").await;
    }
    let slots = "SELECT string_agg(slot_name || active::text, ',') FROM pg_replication_slots";
    assert_eq!(publisher.ask("proj", slots).await, "sfalse");
    let subscriber = Plain::start(&fixture, &data, "subscriber again").await;
    let count = "SELECT count(*)::text FROM items";
    subscriber.wait_for("proj", count, "101").await;
    for clone in clones {
        assert_eq!(clone.ask("proj", count).await, "1");
        clone.stop().await;
    }
    subscriber.stop().await;

    // The dump of a subscription has the name of the slot.
    let dump = fixture.write("the dump", &dump);
    let snapshot = fixture.import_dump("dumped", &dump).await.unwrap();
    let warnings = fixture.warnings();
    assert!(warnings.iter().any(|text| text == warning), "{warnings:?}");
    let copy = fixture.copy_of(&fixture.snapshot_data(&snapshot.id), "restored");
    let clone = Plain::start(&fixture, &copy, "restored").await;
    clone.run("proj", "DROP SUBSCRIPTION s").await;
    assert_eq!(publisher.ask("proj", slots).await, "sfalse");
    clone.stop().await;
    publisher.stop().await;
}
