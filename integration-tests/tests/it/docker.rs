//! Properties of the docker runtime only.

use std::fs;
use std::path::Path;
use std::process::Command;

use multidb_integration_tests::{Daemon, Disk, Engine, EngineRelay, ProgramOutput, run};

use crate::daemon_on;

fn docker(args: &[&str]) -> ProgramOutput {
    run(Command::new("docker").args(args))
}

/// The ids of the daemon's instance containers, running or not.
pub(crate) fn containers(daemon: &Daemon) -> Vec<String> {
    let root = format!("label=multidb.root={}", daemon.root().display());
    let listed = docker(&[
        "ps",
        "--all",
        "--quiet",
        "--filter",
        &root,
        "--filter",
        "label=multidb.purpose=instance",
    ]);
    listed.ok().lines().map(str::to_owned).collect()
}

#[test]
fn container_has_no_network_and_its_limits_and_is_removed_when_it_stops() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker)
        .set("runtime", "memory", "256MiB")
        .set_raw("runtime", "cpus", "1.5")
        .limit("instance_idle_timeout", "1s")
        .start();
    let session = daemon.connect("instance:a,gitref:main");
    session.one("select 1");
    let found = containers(&daemon);
    let [container] = found.as_slice() else {
        panic!("one container was expected: {found:?}")
    };
    let format =
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.Name}}";
    let limits = docker(&["inspect", "--format", format, container]);
    let limits: Vec<&str> = limits.ok().split_whitespace().collect();
    assert_eq!(limits[..2], ["268435456", "1500000000"]);
    assert!(matches!(limits.get(2), None | Some(&"no")), "{limits:?}");
    let format = "{{.HostConfig.LogConfig.Type}} {{json .HostConfig.LogConfig.Config}}";
    let log = docker(&["inspect", "--format", format, container]);
    // The log is bounded for any output that a superuser causes.
    let bounds = r#"json-file {"max-file":"2","max-size":"10m"}"#;
    assert_eq!(log.ok(), bounds);
    assert_eq!(session.one("show listen_addresses"), "");
    assert_eq!(daemon.instance("a")["runtime"], "docker");
    drop(session);
    daemon.wait_state("a", "stopped");
    let left = docker(&[
        "ps",
        "--all",
        "--quiet",
        "--filter",
        &format!("id={container}"),
    ]);
    assert_eq!(left.ok(), "");
}

#[test]
fn killed_container_comes_back_with_its_data() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).start();
    daemon.expect_log("postgres").expect_log("exited");
    let session = daemon.connect("instance:a,gitref:main");
    session
        .query("create table kept as select 42 as x")
        .expect("it is writable");
    for container in containers(&daemon) {
        docker(&["kill", &container]).ok();
    }
    session.wait_end(std::time::Duration::from_secs(30));
    assert_eq!(daemon.connect("instance:a").one("select x from kept"), "42");
}

/// The bytes of the files whose names begin with that of this one.
fn bytes_beside(file: &Path) -> u64 {
    let name = file.file_name().expect("it has a name").to_string_lossy();
    let directory = file.parent().expect("it has a directory");
    fs::read_dir(directory)
        .expect("it can be read")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&*name))
        .map(|entry| entry.metadata().map_or(0, |metadata| metadata.len()))
        .sum()
}

#[test]
fn log_that_a_statement_fills_is_short_while_the_container_runs_and_after_it_was_saved() {
    const MIB: u64 = 1 << 20;
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).start();
    let session = daemon.connect("instance:a,snapshot:monday");
    let fill =
        "do $$ begin for i in 1..37 loop raise log '%', repeat('x', 1 << 20); end loop; end $$";
    session.query(fill).expect("a superuser may log");
    let found = containers(&daemon);
    let inspect = ["inspect", "--format", "{{.LogPath}}", &found[0]];
    let kept = docker(&inspect).ok().to_owned();
    let kept = bytes_beside(Path::new(&kept));
    // The engine looks at the size after each piece of a line.
    assert!((MIB..21 * MIB).contains(&kept), "{kept}");
    let log = daemon.data_dir("a").with_file_name("postgres.log");
    drop(session);
    daemon.cli(&["instance", "stop", "a"]).ok();
    let saved = bytes_beside(&log);
    assert!((MIB..=16 * MIB).contains(&saved), "{saved}");
    daemon.connect("instance:a").one("select 1");
}

#[test]
fn image_without_postgres_is_a_clear_error() {
    let image = format!("multidb-test-empty:{}", std::process::id());
    let empty = daemon_on(Disk::Xfs, Engine::Docker)
        .without_snapshots()
        .prepare();
    let tar = empty.dir().join("empty.tar");
    run(Command::new("tar")
        .args(["--create", "--files-from=/dev/null", "--file"])
        .arg(&tar))
    .ok();
    docker(&["import", &tar.display().to_string(), &image]).ok();
    let daemon = daemon_on(Disk::Xfs, Engine::Docker)
        .set("runtime", "image", &image)
        .start();
    daemon.expect_log("");
    let failure = daemon.refused("instance:a,gitref:main");
    let text = format!("{failure:?}");
    drop(daemon);
    docker(&["rmi", "--force", &image]).ok();
    assert_eq!(failure.sqlstate(), "58000", "{text}");
}

#[test]
fn missing_image_is_a_clear_error() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker)
        .set("runtime", "image", "127.0.0.1:1/no-such-image:{major}")
        .start();
    daemon.expect_log("image").expect_log("127.0.0.1:1");
    let failure = daemon.refused("instance:a,gitref:main");
    assert_eq!(failure.sqlstate(), "58000", "{failure:?}");
}

#[test]
fn unreachable_engine_is_a_clear_error_until_it_returns() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker)
        .limit("start_timeout", "5s")
        .prepare();
    daemon.expect_log("");
    let relay = EngineRelay::open(&daemon.dir().join("engine.sock"));
    daemon.start_with(&[("DOCKER_HOST", &relay.host())]);
    let session = daemon.connect("instance:running,gitref:main");
    session
        .query("create table kept as select 42 as x")
        .expect("it is writable");
    relay.cut();
    assert_eq!(session.one("select x from kept"), "42");
    let failure = daemon.refused("instance:new,gitref:main");
    assert_eq!(failure.sqlstate(), "57P03", "{failure:?}");
    assert_eq!(daemon.json(&["status"])["snapshots"], 2);
    relay.mend();
    daemon.connect("instance:new,gitref:main").one("select 1");
    assert_eq!(
        daemon.connect("instance:running").one("select x from kept"),
        "42"
    );
    drop(session);
    // Before the relay is dropped.
    daemon.stop();
}

/// An image without any file, until it is dropped.
struct EmptyImage(String);

impl EmptyImage {
    fn import() -> Self {
        let image = Self(format!("multidb-it-empty-{}:1", std::process::id()));
        let import = "tar --create --files-from /dev/null | docker import - \"$0\"";
        run(Command::new("sh").args(["-c", import, &image.0])).ok();
        image
    }
}

impl Drop for EmptyImage {
    fn drop(&mut self) {
        docker(&["rmi", "--force", &self.0]);
    }
}

/// A client, and then `doctor`, are told why no Postgres of this image starts.
fn image_is_told(image: &str, why: &str, advice: &str) {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker)
        .set("runtime", "image", image)
        .start();
    daemon.expect_log("");
    let failure = daemon.refused("instance:x,gitref:main");
    assert_eq!(failure.sqlstate(), "58000", "{failure:?}");
    let detail = failure.detail.clone().unwrap_or_default();
    assert!(detail.contains(why), "{failure:?}");
    let hint = failure.hint.clone().unwrap_or_default();
    assert!(hint.contains(advice), "{failure:?}");
    let examined = daemon.cli(&["doctor"]);
    let told = examined.stdout.contains("instance x: ") && examined.stdout.contains(advice);
    assert!(told, "{examined:?}");
}

#[test]
fn image_that_is_absent_or_has_no_postgres_is_told_to_the_client_and_by_doctor() {
    let absent = "127.0.0.1:1/none:15";
    let why = format!("image \"{absent}\" is missing and cannot be pulled");
    image_is_told(absent, &why, "docker load");
    let empty = EmptyImage::import();
    image_is_told(&empty.0, "has no PostgreSQL", "Set runtime.image");
}
