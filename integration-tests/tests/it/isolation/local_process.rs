//! The sandbox of the process runtime, with the daemon of root and with that of an ordinary user.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, Fixture, eventually, is_alive, postmaster_pid, run};

use super::intruder::{Intruder, SECRET};
use super::{dial, dial_unix, fingerprint, run_dir};
use crate::daemon;

/// The limit for every wait, on a busy machine.
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

fn of_root() -> Daemon {
    daemon().start()
}

fn of_ordinary_user() -> Daemon {
    daemon().as_postgres().start()
}

#[test]
fn superuser_of_a_local_process_reads_and_writes_its_own_files_alone() {
    reads_and_writes_its_own_files_alone(&of_root());
}

#[test]
fn superuser_of_an_ordinary_users_process_reads_and_writes_its_own_files_alone() {
    reads_and_writes_its_own_files_alone(&of_ordinary_user());
}

fn reads_and_writes_its_own_files_alone(daemon: &Daemon) {
    let secret = daemon.dir().join("secret");
    fs::write(&secret, SECRET).expect("the test's directory is writable");
    let snapshots = daemon.root().join("snapshots");
    let before = fingerprint(&snapshots);
    let (intruder, other) = (
        Intruder::enter_process(daemon, "a"),
        Intruder::enter_process(daemon, "b"),
    );
    intruder.can_touch_its_own();
    intruder.can("touch /tmp/new && cat /etc/passwd && date && ls /usr/share/zoneinfo");
    let other_run = run_dir(daemon, &other.data);
    let state = daemon.root().join("state");
    for file in [
        secret,
        snapshots.join("monday/data/PG_VERSION"),
        daemon.config_file(),
        daemon.root().join("new"),
        state.join("new"),
        state.join("db/db"),
        other.data.join("PG_VERSION"),
        other.data.join("global/pg_control"),
        other_run.join("postgresql.conf"),
        intruder.data.with_file_name("postgres.log"),
        intruder.data.with_file_name("manifest.json"),
        PathBuf::from("/etc/new"),
        PathBuf::from("/dev/shm/new"),
        PathBuf::from("/etc/ssl/openssl.cnf"),
    ] {
        intruder.cannot_touch(&file);
    }
    for command in [
        format!("ls {}", other.data.display()),
        format!("ls {} | grep .", state.display()),
        format!("ls {} | grep monday", snapshots.display()),
        format!("chmod 0777 {}", other.data.display()),
        format!("chmod 0777 {}", snapshots.join("monday").display()),
        format!("mv {} /tmp", other.data.display()),
        "ls /proc".to_owned(),
        "ls /dev/shm".to_owned(),
        "cp /bin/true ./program && ./program".to_owned(),
        "mount -t tmpfs none /tmp".to_owned(),
        "su -c true".to_owned(),
        "setpriv --reuid 0 true".to_owned(),
        "chroot / true".to_owned(),
    ] {
        intruder.cannot(&command);
    }
    assert_eq!(fingerprint(&snapshots), before);
    assert_eq!(other.session.one("select x from note"), SECRET);
}

#[test]
fn superuser_of_a_local_process_reaches_no_socket_but_its_own() {
    reaches_no_socket_but_its_own(&of_root());
}

#[test]
fn superuser_of_an_ordinary_users_process_reaches_no_socket_but_its_own() {
    reaches_no_socket_but_its_own(&of_ordinary_user());
}

fn reaches_no_socket_but_its_own(daemon: &Daemon) {
    let (intruder, other) = (
        Intruder::enter_process(daemon, "a"),
        Intruder::enter_process(daemon, "b"),
    );
    let tcp = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let tcp = tcp.local_addr().expect("it is bound").port();
    let abstract_name = format!("multidb-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&abstract_name).expect("the name is short");
    let _listener = UnixListener::bind_addr(&address).expect("the name is free");
    let beside = daemon.dir().join("beside.sock");
    let _beside = UnixListener::bind(&beside).expect("the test's directory is writable");
    let on_host = |command: &str| run(Command::new("bash").args(["-c", command]));
    for port in [tcp, daemon.port()] {
        on_host(&dial(port)).ok();
        intruder.cannot(&dial(port));
        intruder.cannot_query(&format!(
            "select dblink_connect('host=127.0.0.1 port={port} user=instance:b,snapshot:monday dbname=app')"
        ));
    }
    let socket = |data: &Path| run_dir(daemon, data).join(".s.PGSQL.5432");
    for path in [
        daemon.admin_socket(),
        daemon.unix_listener(),
        socket(&other.data),
        beside,
    ] {
        let path = path.display().to_string();
        on_host(&dial_unix(&path)).ok();
        intruder.cannot(&dial_unix(&path));
    }
    intruder.cannot_query(&format!(
        "select dblink_connect('host={} user=postgres dbname=app')",
        run_dir(daemon, &other.data).display()
    ));
    let abstract_name = format!("@{abstract_name}");
    on_host(&dial_unix(&abstract_name)).ok();
    intruder.cannot(&dial_unix(&abstract_name));
    intruder.cannot("perl -MIO::Socket::INET -e \"IO::Socket::INET->new(Listen => 1, LocalAddr => qq(127.0.0.1)) or die\"");
    // Its own are reached.
    intruder.can(&dial_unix(&socket(&intruder.data).display().to_string()));
    intruder.can_query(&format!(
        "select dblink_connect('own', 'host={} user=postgres dbname=app')",
        run_dir(daemon, &intruder.data).display()
    ));
    intruder.can("perl -MIO::Socket::UNIX -e \"\\$l = IO::Socket::UNIX->new(Listen => 1, Local => qq(\\0own)) or die; IO::Socket::UNIX->new(Peer => qq(\\0own)) or die\"");
}

#[test]
fn superuser_of_a_local_process_reaches_no_other_process() {
    reaches_no_other_process(&of_root());
}

#[test]
fn superuser_of_an_ordinary_users_process_reaches_no_other_process() {
    reaches_no_other_process(&of_ordinary_user());
}

fn reaches_no_other_process(daemon: &Daemon) {
    let (intruder, other) = (
        Intruder::enter_process(daemon, "a"),
        Intruder::enter_process(daemon, "b"),
    );
    let postmaster = |data: &Path| postmaster_pid(data).expect("it runs");
    let (own, others) = (postmaster(&intruder.data), postmaster(&other.data));
    for pid in [daemon.pid(), others] {
        intruder.cannot(&format!("kill -0 {pid}"));
        intruder.cannot(&format!("kill -9 {pid}"));
        for file in [
            "mem",
            "environ",
            "cmdline",
            "maps",
            "root/etc/passwd",
            "fd/1",
        ] {
            intruder.cannot(&format!("head -c 1 /proc/{pid}/{file} | grep -a ."));
        }
        // PTRACE_ATTACH.
        intruder.cannot(&format!(
            "perl -e \"syscall(101, 16, {pid}, 0, 0) == 0 or die\""
        ));
    }
    intruder.can("kill -0 $PPID");
    assert_namespaces_differ(&[std::process::id().cast_signed(), others, own]);
    // Everything that it may send a signal to is its own: here its own server.
    daemon.expect_log("postgres exited unexpectedly");
    let _ended = intruder
        .session
        .query("copy said from program 'kill -9 -1'");
    assert!(is_alive(daemon.pid()) && is_alive(others));
    assert_eq!(other.session.one("select x from note"), SECRET);
}

/// Each has shared memory, process ids and mounts of its own.
fn assert_namespaces_differ(pids: &[i32]) {
    for namespace in ["ipc", "pid", "mnt"] {
        let links: std::collections::BTreeSet<_> = pids
            .iter()
            .map(|pid| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).expect("it runs"))
            .collect();
        assert_eq!(links.len(), pids.len(), "{namespace}: {links:?}");
    }
}

#[test]
fn log_that_a_statement_fills_is_shortened_also_after_a_restart_of_the_daemon() {
    const LOG_BYTES_MAX: u64 = 8 << 20;
    let daemon = of_root();
    let fill = |daemon: &Daemon| {
        let session = daemon.connect("instance:a,snapshot:monday");
        let log = daemon.data_dir("a").with_file_name("postgres.log");
        let fill =
            "do $$ begin for i in 1..12 loop raise log '%', repeat('x', 1000000); end loop; end $$";
        session.query(fill).expect("a superuser may log");
        eventually("the log is short", WAIT_TIMEOUT, || {
            let kept = fs::metadata(log.with_extension("log.1")).map_or(0, |kept| kept.len());
            let length = fs::metadata(&log).expect("there is a log").len();
            length + kept <= LOG_BYTES_MAX && kept > 0
        });
        fs::remove_file(log.with_extension("log.1")).expect("it is there");
        session.one("select 1");
    };
    fill(&daemon);
    daemon.kill9();
    daemon.start();
    fill(&daemon);
}

/// Whether a process with this in its command line runs.
pub(super) fn runs(text: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc can be read").flatten();
    let mut commands =
        processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    commands.any(|command| {
        String::from_utf8_lossy(&command)
            .replace('\0', " ")
            .contains(text)
    })
}

/// A program that leaves everything that could end it with its parent, as SQL. It reads its input, or the statement
/// could fail with a broken pipe.
fn daemonized(seconds: &str) -> String {
    format!(
        "copy (select 1) to program 'cat >/dev/null; setsid setsid sleep {seconds} >/dev/null 2>&1 &'"
    )
}

#[test]
fn processes_that_an_instance_leaves_end_with_its_server() {
    for daemon in [of_root(), of_ordinary_user()] {
        let seconds = format!("4711.{}", daemon.pid());
        let intruder = Intruder::enter_process(&daemon, "a");
        intruder.can_query(&daemonized(&seconds));
        eventually("it runs", WAIT_TIMEOUT, || {
            runs(&format!("sleep {seconds}"))
        });
        daemon.cli(&["instance", "stop", "a"]).ok();
        daemon.wait_state("a", "stopped");
        assert!(!runs(&format!("sleep {seconds}")));
        let _ended = intruder.session.wait_end(WAIT_TIMEOUT);
    }
}

#[test]
fn processes_that_a_dump_leaves_end_with_its_import() {
    for daemon in [of_root(), of_ordinary_user()] {
        let seconds = format!("4712.{}", daemon.pid());
        let from = Fixture::of(Disk::Xfs, Path::new(crate::PROGRAM)).dump("tuesday.sql");
        let dump = fs::read_to_string(from).expect("the fixture's dump can be read");
        // It would wait for the end, and write into the snapshot that is published then.
        let (header, rest) = dump.split_once("SET statement_timeout").expect("a header");
        let program = daemonized(&seconds);
        let path = daemon.dir().join("left.sql");
        let text = format!("{header}{program};\nSET statement_timeout{rest}");
        fs::write(&path, text).expect("the test's directory is writable");
        let path = path.display().to_string();
        let import = [
            "snapshot",
            "import",
            "left",
            "--project",
            "demo",
            "--dump",
            &path,
        ];
        daemon.cli(&import).ok();
        assert!(!runs(&format!("sleep {seconds}")));
    }
}
