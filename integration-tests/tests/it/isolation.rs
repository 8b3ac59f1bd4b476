//! A superuser inside a container or a local process cannot reach the host, the network, other instances or
//! the snapshots.
//!
//! Each probe is also aimed at a target that it must reach: a control, so that a broken probe does not
//! count as isolation.

mod intruder;
mod local_process;

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, Engine, eventually, run, run_as_postgres};
use serde_json::Value;

use self::intruder::{Intruder, SECRET};
use self::local_process::{WAIT_TIMEOUT, runs};
use crate::daemon_on;

/// A shell command that connects to a TCP port of the loopback.
fn dial(port: u16) -> String {
    format!("exec 3<>/dev/tcp/127.0.0.1/{port}")
}

/// A shell command that connects to a Unix socket; `@` begins an abstract one.
fn dial_unix(name: &str) -> String {
    let name = name.replacen('@', "\\0", 1);
    format!(
        "perl -MIO::Socket::UNIX -e \"IO::Socket::UNIX->new(Peer => qq({name})) or die qq(no: \\$!\\n)\""
    )
}

fn docker_inspect(instance: &str, daemon: &Daemon) -> Value {
    let root = format!("label=multidb.root={}", daemon.root().display());
    let name = format!("label=multidb.instance={instance}");
    let listed =
        run(Command::new("docker").args(["ps", "-q", "--filter", &root, "--filter", &name]));
    let id = listed.ok();
    assert!(
        !id.is_empty() && !id.contains('\n'),
        "one container: {id:?}"
    );
    let shown = run(Command::new("docker").args(["inspect", id]));
    let shown: Value = serde_json::from_str(shown.ok()).expect("docker prints JSON");
    shown[0].clone()
}

/// All files below a directory, with their sizes and times.
fn fingerprint(directory: &Path) -> Vec<String> {
    let mut find = Command::new("find");
    let found = run(find.arg(directory).args(["-printf", "%P %y %s %T@ %m\n"]));
    let mut lines: Vec<String> = found.ok().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn run_dir(daemon: &Daemon, data: &Path) -> PathBuf {
    let uid = data.parent().and_then(Path::file_name);
    daemon
        .root()
        .join("run")
        .join(uid.expect("data is in the instance's directory"))
}

#[test]
fn container_has_only_the_privileges_that_postgres_needs() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).start();
    let intruder = Intruder::enter(&daemon, "a");
    let container = docker_inspect("a", &daemon);
    let host = &container["HostConfig"];
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    assert!(host["CapAdd"].is_null(), "{}", host["CapAdd"]);
    assert_eq!(host["Privileged"], false);
    let options = host["SecurityOpt"].to_string();
    assert!(options.contains("no-new-privileges"), "{options}");
    assert!(!options.contains("unconfined"), "{options}");
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["PidsLimit"], 4096);
    for (namespace, private) in [("PidMode", ""), ("IpcMode", "private"), ("UTSMode", "")] {
        assert_eq!(host[namespace], private, "{namespace}");
    }
    assert_eq!(
        host["Tmpfs"]["/tmp"],
        "rw,noexec,nosuid,nodev,mode=1777,size=256m"
    );
    assert!(
        host["PortBindings"]
            .as_object()
            .is_none_or(|ports| ports.is_empty())
    );
    assert_ne!(container["Config"]["User"], "0:0");

    assert_network_is_that_of_the_pause_container(host);
    assert_mounts_are_data_and_sockets(&daemon, &intruder, &container);
    assert_kernel_confines(&intruder);
}

/// By default a container joins the pause container's network namespace, which has only loopback.
fn assert_network_is_that_of_the_pause_container(host: &Value) {
    let mode = host["NetworkMode"].as_str().expect("a text");
    let pause = mode
        .strip_prefix("container:")
        .expect("a container's network");
    let format = "{{.HostConfig.NetworkMode}}";
    let network = run(Command::new("docker").args(["inspect", "--format", format, pause]));
    assert_eq!(network.ok(), "none");
}

/// The only mounts of the host are the instance's own data and its own socket directory.
fn assert_mounts_are_data_and_sockets(daemon: &Daemon, intruder: &Intruder, container: &Value) {
    let mut binds: Vec<_> = container["Mounts"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|mount| mount["Type"] == "bind")
        .map(|mount| {
            assert_eq!(mount["Propagation"], "rprivate", "{mount}");
            (
                mount["Destination"].as_str().expect("a text").into(),
                mount["RW"] == true,
            )
        })
        .collect();
    binds.sort();
    let mut expected = vec![
        (PathBuf::from("/etc/passwd"), false),
        (run_dir(daemon, &intruder.data), true),
        (intruder.data.clone(), true),
    ];
    expected.sort();
    assert_eq!(binds, expected);
}

/// The limits of the container as the kernel reports them.
fn assert_kernel_confines(intruder: &Intruder) {
    let status = intruder.can("cat /proc/self/status");
    for line in [
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert_eq!(
        intruder
            .session
            .one("select count(*) from pg_ls_dir('/sys/class/net')"),
        "1"
    );
    let routes = intruder.can("cat /proc/net/route");
    assert_eq!(routes.lines().count(), 2, "a route leads out: {routes}");
}

#[test]
fn superuser_in_a_container_reaches_neither_host_nor_snapshots() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).start();
    let secret = daemon.dir().join("secret");
    std::fs::write(&secret, SECRET).expect("the test's directory is writable");
    // Permissions do not protect the secret.
    assert_eq!(
        run_as_postgres(Command::new("cat").arg(&secret)).ok(),
        SECRET
    );
    let snapshots = daemon.root().join("snapshots");
    let before = fingerprint(&snapshots);
    assert!(before.len() > 100, "{before:?}");

    let intruder = Intruder::enter(&daemon, "a");
    intruder.can_touch_its_own();
    let monday = snapshots.join("monday/data/PG_VERSION");
    assert!(monday.exists());
    for file in [
        secret,
        monday,
        daemon.config_file(),
        daemon.root().join("new"),
    ] {
        intruder.cannot_touch(&file);
    }
    intruder.can(&format!("ls {}", intruder.data.display()));
    intruder.can_query(&format!("select pg_ls_dir('{}')", intruder.data.display()));
    for directory in [
        daemon.dir().to_owned(),
        snapshots.clone(),
        "/var/lib/docker".into(),
    ] {
        // The engine makes only the parent directories of its mounts.
        let (_, said) = intruder.shell(&format!("ls {}", directory.display()));
        assert!(!said.contains("monday") && !said.contains("toml"), "{said}");
        intruder.cannot(&format!("touch {}/new", directory.display()));
    }
    assert_eq!(fingerprint(&snapshots), before);

    // Its own program's command line is there, the daemon's is not.
    let processes = intruder.can("cat /proc/[0-9]*/cmdline | tr \"\\0\" \" \"");
    assert!(
        processes.contains(&intruder.data.display().to_string()),
        "{processes}"
    );
    assert!(!processes.contains("multidb.toml"), "{processes}");
    intruder.can("kill -0 $PPID");
    intruder.cannot(&format!("kill -0 {}", daemon.pid()));

    intruder.can("touch /tmp/new /dev/shm/new");
    for command in [
        "touch /new",
        "touch /etc/new /usr/bin/new",
        "echo x >> /etc/passwd",
        "cp /bin/true /tmp/true && /tmp/true",
        "echo core > /proc/sys/kernel/core_pattern",
        "echo h > /proc/sysrq-trigger",
        "head -c 1 /proc/kcore",
        "mkdir /sys/fs/cgroup/new || mkdir /sys/fs/cgroup/memory/new",
        "find /dev -type b | grep .",
        "mknod /tmp/disk b 8 0",
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /",
        "unshare --user --map-root-user true",
        "unshare --net true",
        "chroot / true",
        "setpriv --reuid 0 true",
        "chown 0 /tmp/new",
        "su -c true",
        "dmesg",
        "nsenter --target 1 --mount true",
    ] {
        intruder.cannot(command);
    }
}

#[test]
fn superuser_in_a_container_reaches_no_socket_of_the_host() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).start();
    let intruder = Intruder::enter(&daemon, "a");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let tcp = tcp.local_addr().expect("it is bound").port();
    let abstract_name = format!("multidb-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&abstract_name).expect("the name is short");
    let _listener = UnixListener::bind_addr(&address).expect("the name is free");
    let engine = "/var/run/docker.sock".to_owned();
    let sockets = [
        format!("@{abstract_name}"),
        engine,
        daemon.admin_socket().display().to_string(),
    ];

    // From the host, all of them are reached.
    let on_host = |command: &str| run(Command::new("bash").args(["-c", command]));
    for port in [tcp, daemon.port()] {
        on_host(&dial(port)).ok();
        intruder.cannot(&dial(port));
        intruder.cannot_query(&format!(
            "select dblink_connect('host=127.0.0.1 port={port} user=instance:b,snapshot:monday dbname=app')"
        ));
    }
    for socket in &sockets {
        on_host(&dial_unix(socket)).ok();
        intruder.cannot(&dial_unix(socket));
    }
    // From the inside, a socket of its own.
    let own = run_dir(&daemon, &intruder.data);
    intruder.can(&dial_unix(&format!("{}/.s.PGSQL.5432", own.display())));
    intruder.can("perl -MIO::Socket::INET -e \"\\$l = IO::Socket::INET->new(Listen => 1, LocalAddr => qq(127.0.0.1)) or die; IO::Socket::INET->new(PeerAddr => qq(127.0.0.1), PeerPort => \\$l->sockport) or die\"");
    intruder.can_query(&format!(
        "select dblink_connect('own', 'host={} user=postgres dbname=app')",
        own.display()
    ));
}

#[test]
fn superuser_in_a_container_reaches_no_other_instance() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).start();
    let (intruder, other) = (Intruder::enter(&daemon, "a"), Intruder::enter(&daemon, "b"));
    let (own_run, other_run) = (
        run_dir(&daemon, &intruder.data),
        run_dir(&daemon, &other.data),
    );
    intruder.can_touch_its_own();
    for file in ["PG_VERSION", "postmaster.pid", "global/pg_control", "new"] {
        intruder.cannot_touch(&other.data.join(file));
    }
    for file in ["postgresql.conf", "new"] {
        intruder.cannot_touch(&other_run.join(file));
    }
    let socket = |directory: &Path| format!("{}/.s.PGSQL.5432", directory.display());
    intruder.can(&dial_unix(&socket(&own_run)));
    intruder.cannot(&dial_unix(&socket(&other_run)));
    intruder.cannot_query(&format!(
        "select dblink_connect('host={} user=postgres dbname=app')",
        other_run.display()
    ));

    let processes = intruder.can("cat /proc/[0-9]*/cmdline | tr \"\\0\" \" \"");
    assert!(
        processes.contains(&intruder.data.display().to_string()),
        "{processes}"
    );
    assert!(
        !processes.contains(&other.data.display().to_string()),
        "{processes}"
    );
    let other_pid = docker_inspect("b", &daemon)["State"]["Pid"].to_string();
    intruder.cannot(&format!("kill -0 {other_pid}"));
    // Each server has one segment of System V shared memory, and sees no other.
    let segments = intruder.can("tail -n +2 /proc/sysvipc/shm | wc -l");
    assert!(segments.starts_with('1'), "{segments}");
    assert_eq!(other.session.one("select x from note"), SECRET);
}

#[test]
fn socket_that_leads_to_another_instance_is_not_followed() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker).start();
    daemon
        .expect_log("login to postgres failed")
        .expect_log("not");
    let (intruder, other) = (Intruder::enter(&daemon, "a"), Intruder::enter(&daemon, "b"));
    other.can_query("create table only_in_b (x int)");
    let [own, target] = [&intruder, &other].map(|one| {
        run_dir(&daemon, &one.data)
            .join(".s.PGSQL.5432")
            .display()
            .to_string()
    });
    assert_eq!(
        daemon
            .connect("instance:a")
            .one("select to_regclass('only_in_b')"),
        ""
    );
    intruder.can(&format!("ln -sf {target} {own}"));
    let failure = daemon.refused("instance:a");
    assert_ne!(failure.sqlstate(), "", "{failure:?}");
    // The next start makes a socket again.
    daemon.cli(&["instance", "stop", "a"]).ok();
    intruder.session.wait_end(Duration::from_secs(30));
    daemon.wait_state("a", "stopped");
    assert_eq!(
        daemon
            .connect("instance:a")
            .one("select to_regclass('only_in_b')"),
        ""
    );
}

#[test]
fn failure_of_a_process_that_was_left_behind_ends_no_session() {
    for engine in [Engine::Process, Engine::Docker] {
        let daemon = daemon_on(Disk::Xfs, engine).start();
        let session = daemon.connect("instance:a,snapshot:monday");
        let marker = format!("exit-{}", daemon.pid());
        let left = format!(
            "copy (select 1) to program 'cat >/dev/null; setsid sh -c \"sleep 0.3; : {marker}; exit 3\" >/dev/null 2>&1 &'"
        );
        session.query(&left).expect("a superuser may do that");
        eventually("it has ended", WAIT_TIMEOUT, || !runs(&marker));
        let alive = session.one("select pg_sleep(0.5)::text || 'alive'");
        assert_eq!(alive, "alive", "{engine:?}");
        let logs = daemon.cli(&["instance", "logs", "a"]);
        assert!(!logs.ok().contains("terminating any other"), "{logs:?}");
    }
}
