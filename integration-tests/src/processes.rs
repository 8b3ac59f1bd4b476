//! The processes of this machine, as /proc shows them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::poll::eventually;

/// A process that uses a directory.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) pid: i32,
    pub(crate) command: String,
}

/// The processes whose command line names a path below `dir`, or whose working directory is there.
///
/// A Postgres backend overwrites its command line, but its working directory is the data directory.
pub(crate) fn using(dir: &Path) -> Vec<Leftover> {
    let prefix = format!("{}/", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc can be read").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if pid == std::process::id().cast_signed() {
            continue;
        }
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let below = fs::read_link(entry.path().join("cwd"))
            .is_ok_and(|cwd| cwd.to_string_lossy().starts_with(&prefix));
        if (below || command.contains(&prefix)) && !is_zombie(&entry.path()) {
            found.push(Leftover { pid, command });
        }
    }
    found
}

fn is_zombie(process: &Path) -> bool {
    fs::read_to_string(process.join("stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

/// The process id of the Postgres that runs on a data directory. `postmaster.pid` has its id in its own
/// pid namespace.
pub fn postmaster_pid(data_dir: &Path) -> Option<i32> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let inner: i32 = text.lines().next()?.trim().parse().ok()?;
    let is_postmaster = |process: &Path| {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let own = numbers.and_then(|numbers| numbers.split_whitespace().last());
        own.and_then(|number| number.parse().ok()) == Some(inner)
            && fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == data_dir)
    };
    let processes = fs::read_dir("/proc").expect("/proc can be read").flatten();
    processes
        .filter(|process| is_postmaster(&process.path()))
        .find_map(|process| process.file_name().to_str()?.parse().ok())
}

/// Sends SIGKILL and waits until the process is gone and reaped. A missing process is not an error.
pub fn kill(pid: i32) {
    let Some(id) = Pid::from_raw(pid) else {
        return;
    };
    let _ = kill_process(id, Signal::KILL);
    // Its parent may be the daemon or process 1; the process id is in use until the parent reaps it.
    eventually("a killed process is gone", Duration::from_secs(30), || {
        !Path::new(&format!("/proc/{pid}")).exists()
    });
}

/// Whether a process with this id exists and is not a zombie.
pub fn is_alive(pid: i32) -> bool {
    let process = format!("/proc/{pid}");
    Path::new(&process).exists() && !is_zombie(Path::new(&process))
}

/// Sends SIGKILL to the server that was started on this data directory, wherever it runs.
pub fn kill_servers_of(data_dir: &str) {
    let own = |process: &Leftover| {
        let mut words = process.command.split(' ');
        process.command.contains("postgres")
            && words.any(|word| word == data_dir || word == format!("--pgdata={data_dir}"))
    };
    let servers: Vec<Leftover> = using(Path::new(data_dir).parent().unwrap_or(Path::new("/")))
        .into_iter()
        .filter(own)
        .collect();
    assert!(!servers.is_empty(), "no server runs on {data_dir}");
    for server in servers {
        kill(server.pid);
    }
}

/// Sends SIGKILL to all processes whose command line or working directory is below `dir`, and waits until they are
/// gone.
pub fn kill_all_using(dir: &Path) {
    for process in using(dir) {
        kill(process.pid);
    }
}

/// Raises the limit of open files of this process and its children to the maximum, and returns it. A
/// privileged process also raises the maximum, to the README's value for 10,000 sessions.
pub fn raise_file_limit() -> usize {
    const ENOUGH: u64 = 32_000;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raise_to = |maximum| {
        let current = maximum;
        setrlimit(Resource::Nofile, Rlimit { current, maximum })
    };
    let wanted = maximum.map(|maximum| maximum.max(ENOUGH));
    let raised = match raise_to(wanted) {
        Ok(()) => wanted,
        Err(_) => {
            raise_to(maximum).expect("a limit can be raised to its maximum");
            maximum
        }
    };
    raised.map_or(usize::MAX, |raised| raised as usize)
}
