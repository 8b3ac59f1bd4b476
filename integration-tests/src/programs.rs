//! Programs, as a user runs them.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The result of a program.
#[derive(Debug, Clone)]
pub struct ProgramOutput {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl ProgramOutput {
    /// Its standard output without the line break at the end. Panics if it failed.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "the program failed: {self:?}");
        self.stdout.trim_end()
    }
}

/// Runs a command to its end, with no input and without the caller's Postgres settings.
#[track_caller]
pub fn run(command: &mut Command) -> ProgramOutput {
    for variable in [
        "PGUSER",
        "PGDATABASE",
        "PGHOST",
        "PGPORT",
        "PGPASSWORD",
        "PGOPTIONS",
        "PGSERVICE",
    ] {
        command.env_remove(variable);
    }
    let output = command
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{:?} cannot be run: {error}", command.get_program()));
    ProgramOutput {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command as Postgres' user, since Postgres refuses to run as root.
#[track_caller]
pub fn run_as_postgres(command: &mut Command) -> ProgramOutput {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = postgres_ids();
        command.uid(uid).gid(gid).current_dir("/");
    }
    run(command)
}

/// The user and group that Postgres runs as.
pub fn postgres_ids() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let line = passwd
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("a user postgres exists; scripts/test.sh installs Postgres");
    let mut fields = line.split(':').skip(2);
    let mut number = || fields.next().and_then(|field| field.parse().ok());
    (
        number().expect("/etc/passwd has the user id"),
        number().expect("/etc/passwd has the group id"),
    )
}

/// The majors beside Debian's whose programs scripts/test.sh installs, from npm and PyPI.
pub const OTHER_MAJORS: [u16; 3] = [13, 16, 18];

/// The directory of the programs of one of [`OTHER_MAJORS`].
#[track_caller]
pub fn other_postgres_bin(major: u16) -> PathBuf {
    let bin = Path::new("/usr/local/share/multidb-tests/postgresql").join(format!("{major}/bin"));
    assert!(
        bin.join("postgres").exists(),
        "Postgres {major} is not in {}; scripts/test.sh installs it",
        bin.display()
    );
    bin
}

/// A PATH with these directories before those of the test's own.
pub fn path_with(directories: impl IntoIterator<Item = PathBuf>) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = directories.into_iter().chain(std::env::split_paths(&path));
    let joined = std::env::join_paths(all).expect("no directory has a colon in its name");
    joined.into_string().expect("PATH is UTF-8")
}

/// The directory of the newest installed Postgres' programs, and its major version.
pub fn postgres_bin() -> (PathBuf, u16) {
    let all = Path::new("/usr/lib/postgresql");
    std::fs::read_dir(all)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("postgres").exists().then_some((bin, major))
        })
        .max_by_key(|&(_, major)| major)
        .expect("a Postgres server is installed; scripts/test.sh installs one")
}
