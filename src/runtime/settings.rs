//! The settings that every server gets, and the files that hold them.
//!
//! They stand in one file outside the data directory, so that a snapshot's own configuration
//! never matters. What multidb owns is passed on the command line too, which also beats an
//! `ALTER SYSTEM` in the instance (`postgresql.auto.conf`).

use std::fs;
use std::io;
use std::path::Path;

/// Settings that multidb owns: a configuration or an import may not set them.
pub const OWNED: [&str; 8] = [
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "port",
    "unix_socket_directories",
];

/// The port in the name of the Unix socket; nothing listens on it.
pub const PORT: u16 = 5432;

/// The name of the socket in a server's run directory.
pub const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// Whoever can enter the run directory is the daemon: it has authenticated the client.
const HBA: &str = "local all all trust\nlocal replication all trust\n";

/// multidb's defaults for this major version. Durability is never among them.
fn defaults(postgres_major: u16) -> Vec<(String, String)> {
    let mut defaults = vec![
        // 20 to 30 ms less at each start than with 256 MB, and an idle instance stays small.
        ("shared_buffers", "16MB"),
        ("huge_pages", "off"),
        // On copy-on-write files, filling and recycling WAL only writes more blocks.
        ("wal_init_zero", "off"),
        ("wal_recycle", "off"),
        ("min_wal_size", "32MB"),
        ("ssl", "off"),
        ("archive_mode", "off"),
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
        ("log_line_prefix", "%m [%p] %q%u@%d "),
        ("unix_socket_permissions", "0700"),
    ];
    if postgres_major >= 14 {
        // An unclean wake took 7.9 s without it for 15 GB, 0.18 s with it.
        defaults.push(("recovery_init_sync_method", "syncfs"));
        // A client that has vanished does not leave its query running.
        defaults.push(("client_connection_check_interval", "10s"));
    }
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    defaults.into_iter().map(own).collect()
}

/// What multidb owns, for a server whose run directory this is.
pub fn owned(run_dir: &Path) -> Vec<(String, String)> {
    let path = |name: &str| run_dir.join(name).display().to_string();
    vec![
        ("config_file".to_owned(), path("postgresql.conf")),
        ("hba_file".to_owned(), path("pg_hba.conf")),
        ("ident_file".to_owned(), path("pg_ident.conf")),
        ("listen_addresses".to_owned(), String::new()),
        ("port".to_owned(), PORT.to_string()),
        (
            "unix_socket_directories".to_owned(),
            run_dir.display().to_string(),
        ),
        ("external_pid_file".to_owned(), String::new()),
    ]
}

/// The server's command line, without the program.
pub fn arguments(data_dir: &Path, run_dir: &Path) -> Vec<String> {
    let mut arguments = vec!["-D".to_owned(), data_dir.display().to_string()];
    for (name, value) in owned(run_dir) {
        arguments.push("-c".to_owned());
        arguments.push(format!("{name}={value}"));
    }
    arguments
}

/// Writes the configuration files of one start. The last value of a name wins.
///
/// # Errors
///
/// A file cannot be written.
pub fn write_files(
    run_dir: &Path,
    postgres_major: u16,
    settings: &[&[(String, String)]],
) -> io::Result<()> {
    let mut text = String::from("# Written by multidb at each start.\n");
    let defaults = defaults(postgres_major);
    for (name, value) in defaults.iter().chain(settings.iter().copied().flatten()) {
        text.push_str(&format!("{name} = {}\n", quoted(value)));
    }
    fs::write(run_dir.join("postgresql.conf"), text)?;
    fs::write(run_dir.join("pg_hba.conf"), HBA)?;
    fs::write(run_dir.join("pg_ident.conf"), "")
}

/// A value as `postgresql.conf` wants it: in single quotes, a quote doubled, and backslash as the
/// escape that it is there (guc-file.l, `DeescapeQuotedString`).
fn quoted(value: &str) -> String {
    let escaped = value
        .replace('\\', "\\\\")
        .replace('\'', "''")
        .replace('\n', "\\n");
    format!("'{escaped}'")
}

/// Whether this is the name of a setting: letters, digits, underscores and one dot.
pub fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match name.split_once('.') {
        Some((class, name)) => part(class) && part(name),
        None => part(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_so_that_they_end_where_they_should() {
        assert_eq!(quoted("64MB"), "'64MB'");
        assert_eq!(quoted(r"a'b\c"), r"'a''b\\c'");
        assert_eq!(quoted("x\nfsync = off"), r"'x\nfsync = off'");
    }

    #[test]
    fn names_are_names() {
        for name in [
            "fsync",
            "_x",
            "pg_stat_statements.max",
            "auto_explain.log_min_duration",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "1x", "a b", "a.b.c", "a=b", "a\nfsync", ".x"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn the_last_value_of_a_name_stands_last() {
        let directory = tempfile::tempdir().unwrap();
        let settings = [("shared_buffers".to_owned(), "1GB".to_owned())];
        write_files(directory.path(), 15, &[&settings]).unwrap();
        let text = fs::read_to_string(directory.path().join("postgresql.conf")).unwrap();
        let last = text
            .lines()
            .rfind(|line| line.starts_with("shared_buffers"));
        assert_eq!(last, Some("shared_buffers = '1GB'"));
    }
}
