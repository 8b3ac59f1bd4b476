//! Configurations as the distributions lay them out, and as a stranger might.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use rustix::process::{getegid, geteuid};

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(files.path(""), Permissions::from_mode(0o711)).unwrap();
        fs::create_dir(files.root()).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("data")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read_as(&self, reader: (u32, u32)) -> Configuration {
        read(&self.root(), reader).unwrap()
    }

    fn read(&self) -> Configuration {
        self.read_as((geteuid().as_raw(), getegid().as_raw()))
    }
}

fn value<'a>(configuration: &'a Configuration, name: &str) -> Option<&'a str> {
    configuration.settings.get(name).map(String::as_str)
}

#[test]
fn later_files_and_the_command_line_win() {
    let files = Files::new();
    files.write(
        "data/postgresql.conf",
        "a = 1\nb = 1\nc = 1\nd = 1\ninclude_dir 'conf.d'\ninclude_if_exists 'absent.conf'\nb = 2\n",
    );
    files.write("data/conf.d/20.conf", "a = 3\n");
    files.write("data/conf.d/10.conf", "a = 2\ninclude '../more.conf'\n");
    files.write("data/conf.d/.hidden.conf", "a = 9\n");
    files.write("data/conf.d/30.bak", "a = 9\n");
    files.write("data/more.conf", "E = 1\n");
    files.write("data/postgresql.auto.conf", "c = 4\nd = 4\n");
    files.write(
        "data/postmaster.opts",
        "/usr/bin/postgres \"-D\" \"/elsewhere\" \"-c\" \"d=5\" \"--Time-Zone=UTC\" \"-cx=a b\"\n",
    );
    let read = files.read();
    assert_eq!(read.problems, Vec::<String>::new());
    let found: Vec<_> = read
        .settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        found,
        ["a=3", "b=2", "c=4", "d=5", "e=1", "time_zone=UTC", "x=a b"]
    );
}

#[test]
fn configuration_in_a_directory_of_its_own_is_found_by_the_command_line() {
    let files = Files::new();
    files.write(
        "etc/postgresql.conf",
        "datestyle = 'ISO, DMY'\ninclude_dir = 'conf.d'\n",
    );
    files.write("etc/conf.d/site.conf", "timezone = UTC\n");
    let options = |data_dir: &Path| {
        format!(
            "/usr/lib/postgresql/15/bin/postgres \"-D\" \"{}\" \"-c\" \"config_file={}\"\n",
            data_dir.display(),
            files.path("etc/postgresql.conf").display()
        )
    };
    files.write("data/postmaster.opts", &options(&files.root()));
    let read = files.read();
    assert_eq!(read.problems, Vec::<String>::new());
    assert_eq!(value(&read, "datestyle"), Some("ISO, DMY"));
    assert_eq!(value(&read, "timezone"), Some("UTC"));

    // Copied from another place: the cluster there now may be another one.
    files.write(
        "data/postmaster.opts",
        &options(Path::new("/var/lib/postgresql/15/main")),
    );
    let read = files.read();
    assert_eq!(value(&read, "datestyle"), None);
    let problem = format!(
        "its server used {}, which is not read (copy it to postgresql.conf in the data directory)",
        files.path("etc/postgresql.conf").display()
    );
    assert_eq!(read.problems, [problem.as_str()]);
    files.write("data/postgresql.conf", "datestyle = 'SQL'\n");
    assert_eq!(value(&files.read(), "datestyle"), Some("SQL"));
    fs::remove_file(files.path("etc/postgresql.conf")).unwrap();
    files.write("data/postmaster.opts", &options(&files.root()));
    let read = files.read();
    assert_eq!(value(&read, "datestyle"), Some("SQL"));
    assert_eq!(read.problems, [problem]);
    // Of an instance.
    files.write("data/multidb.conf", "datestyle = 'German'\n");
    let read = files.read();
    assert_eq!(value(&read, "datestyle"), Some("German"));
    assert_eq!(read.problems, Vec::<String>::new());
}

#[test]
fn what_its_owner_cannot_read_is_not_read_and_no_text_is_told() {
    /// `nobody`.
    const STRANGER: (u32, u32) = (65534, 65534);
    let files = Files::new();
    files.write("secret.conf", "a = secret\n");
    files.write("shadow", "b = secret\n");
    files.write("open.conf", "c = 1\nroot:secret\n");
    let closed = Permissions::from_mode(if geteuid().is_root() { 0o600 } else { 0 });
    fs::set_permissions(files.path("secret.conf"), closed).unwrap();
    for name in ["shadow", "open.conf"] {
        fs::set_permissions(files.path(name), Permissions::from_mode(0o644)).unwrap();
    }
    symlink("../secret.conf", files.root().join("postgresql.conf")).unwrap();
    symlink("../shadow", files.root().join("shadow.conf")).unwrap();
    symlink("../open.conf", files.root().join("open.conf")).unwrap();
    symlink("..", files.root().join("up")).unwrap();
    files.write(
        "data/postgresql.auto.conf",
        "include 'shadow.conf'\ninclude 'open.conf'\ninclude 'up/secret.conf'\ninclude '/etc/shadow'\ninclude '/dev/zero'\n",
    );
    let read = files.read_as(STRANGER);
    let refused = "cannot be read: Permission denied (os error 13)";
    let expected = [
        format!("postgresql.conf {refused}"),
        "shadow.conf leads to a file that is not named .conf".to_owned(),
        "line 2 of open.conf is no setting".to_owned(),
        format!("up/secret.conf {refused}"),
        "/etc/shadow leads to a file that is not named .conf".to_owned(),
        "/dev/zero leads to a file that is not named .conf".to_owned(),
    ];
    assert_eq!(read.problems, expected);
    let found: Vec<_> = read.settings.into_iter().collect();
    assert_eq!(found, [("c".to_owned(), "1".to_owned())]);
    // A hard link in the directory of a stranger.
    if geteuid().is_root() {
        chown(files.root(), Some(STRANGER.0), None).unwrap();
        fs::remove_file(files.root().join("postgresql.auto.conf")).unwrap();
        fs::hard_link(
            files.path("secret.conf"),
            files.root().join("postgresql.auto.conf"),
        )
        .unwrap();
        let read = files.read_as(STRANGER);
        let problem = "postgresql.auto.conf has more than one hard link";
        assert!(
            read.problems.iter().any(|told| told == problem),
            "{:?}",
            read.problems
        );
        assert!(read.settings.is_empty());
    }
}

#[test]
fn files_that_include_each_other_end() {
    let files = Files::new();
    files.write(
        "data/postgresql.conf",
        "a = 1\ninclude 'postgresql.conf'\ninclude 'postgresql.conf'\n",
    );
    files.write(
        "data/postgresql.auto.conf",
        &format!("b = '{}'\n", "x".repeat(VALUE_BYTES_MAX + 1)),
    );
    let read = files.read();
    assert_eq!(value(&read, "a"), Some("1"));
    assert_eq!(
        read.problems,
        [
            "postgresql.conf is one of too many files",
            "b has a value that is too long"
        ]
    );
    let long = "a = 1\n".repeat(FILE_BYTES_MAX as usize);
    files.write("data/postgresql.conf", &long);
    files.write("data/postgresql.auto.conf", "");
    assert_eq!(
        files.read().problems,
        ["postgresql.conf is longer than 1048576 bytes"]
    );
}
