//! The settings that every server gets, and the files that hold them.
//!
//! They stand in one file outside the data directory, so that a snapshot's own configuration
//! never matters, but for the settings that its import carried. Settings that multidb owns are passed on the command line too, which also takes
//! precedence over an `ALTER SYSTEM` in the instance (`postgresql.auto.conf`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use super::{ServerSpec, carried, conf_file};
use crate::fsutil::beneath::Directory;
use crate::wal_segment::is_segment;

/// The port in the name of the Unix socket; nothing listens on it.
pub const PORT: u16 = 5432;

/// The name of the socket in a server's run directory.
pub const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// Only the daemon can enter the run directory, and it has authenticated the client.
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
        ("ssl", "off"),
        ("archive_mode", "off"),
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
        ("log_line_prefix", "%m [%p] %q%u@%d "),
        ("unix_socket_permissions", "0700"),
        // initdb writes it into the file that this one replaces; with Postgres' own default,
        // `simple`, a text search has other results.
        ("default_text_search_config", "pg_catalog.english"),
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

/// The settings that multidb owns, for a server with this run directory.
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

/// Writes the configuration files of one start: multidb's defaults, then the settings that the data carries, the
/// configured ones and the server's. The last value of a name wins.
///
/// # Errors
///
/// A file cannot be written.
pub fn write_files(
    run_dir: &Path,
    spec: &ServerSpec,
    configured: &[(String, String)],
) -> io::Result<()> {
    let mut text = String::from("# Written by multidb at each start.\n");
    let mut defaults = defaults(spec.postgres_major);
    defaults.extend(wal_sizes(wal_segment_bytes(&spec.data_dir)));
    // Shown by ps.
    defaults.push(("cluster_name".to_owned(), spec.name.clone()));
    let carried = carried::read(&spec.data_dir);
    let settings = defaults.iter().chain(&carried).chain(configured);
    for (name, value) in settings.chain(&spec.settings) {
        text.push_str(&conf_file::line(name, value));
    }
    write_new(run_dir, "postgresql.conf", text.as_bytes())?;
    write_new(run_dir, "pg_hba.conf", HBA.as_bytes())?;
    write_new(run_dir, "pg_ident.conf", b"")
}

/// Writes a new file that only the owner of the directory can read, regardless of the umask. The owner of the directory
/// is not trusted: a link in the file's place is not followed.
///
/// # Errors
///
/// The file exists, or cannot be written.
pub(super) fn write_new(run_dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    // Trusted path: only multidb can write the directory of the run directories, and a file that exists is
    // not opened.
    let owner = fs::metadata(run_dir)?;
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(run_dir.join(name))?;
    file.write_all(bytes)?;
    if file.metadata()?.uid() != owner.uid() {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Postgres refuses WAL sizes of less than two segments, and the size of a segment is fixed when the
/// cluster is made.
fn wal_sizes(segment_bytes: u64) -> [(String, String); 2] {
    let at_least = |bytes: u64| format!("{}MB", bytes.max(2 * segment_bytes) >> 20);
    [
        ("min_wal_size".to_owned(), at_least(32 << 20)),
        ("max_wal_size".to_owned(), at_least(1 << 30)),
    ]
}

/// The size of the cluster's WAL segments, as it is on disk.
fn wal_segment_bytes(data_dir: &Path) -> u64 {
    const USUAL: u64 = 16 << 20;
    const LARGEST: u64 = 1 << 30;
    /// The segments that are looked at.
    const SEGMENTS_MAX: usize = 1000;
    let wal = Directory::open(data_dir).and_then(|data_dir| data_dir.directory("pg_wal"));
    let Ok(wal) = wal else { return USUAL };
    let names = wal.names().into_iter().flatten().flatten();
    names
        .filter(|name| is_segment(name))
        .take(SEGMENTS_MAX)
        .filter_map(|name| wal.find(name).ok().flatten())
        .map(|stat| stat.st_size as u64)
        .find(|bytes| bytes.is_power_of_two() && *bytes <= LARGEST)
        .unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use crate::config::OWNED_SETTINGS;

    use super::*;

    #[test]
    fn the_configuration_refuses_each_setting_on_the_command_line() {
        let arguments = arguments(Path::new("/data"), Path::new("/run"));
        let names = arguments
            .iter()
            .filter_map(|argument| Some(argument.split_once('=')?.0));
        for name in names {
            assert!(OWNED_SETTINGS.contains(&name), "{name}");
        }
    }

    fn write(directory: &Path, major: u16, configured: &[(&str, &str)]) -> String {
        let spec = ServerSpec {
            uid: multidb_store::InstanceUid::from_bits(1),
            name: "testdb".to_owned(),
            purpose: crate::runtime::Purpose::Instance,
            postgres_major: major,
            data_dir: directory.join("data"),
            log: directory.join("log"),
            settings: vec![("work_mem".to_owned(), "1MB".to_owned())],
        };
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let configured: Vec<_> = configured.iter().map(own).collect();
        write_files(directory, &spec, &configured).unwrap();
        fs::read_to_string(directory.join("postgresql.conf")).unwrap()
    }

    /// The value that Postgres takes: that of the last line.
    fn effective<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        let prefix = format!("{name} = ");
        text.lines()
            .rev()
            .find_map(|line| line.strip_prefix(&prefix))
    }

    #[test]
    fn the_server_beats_the_configuration_and_that_the_data_and_that_the_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        fs::create_dir(&data_dir).unwrap();
        let carried = "work_mem = 7MB\nshared_buffers = 7MB\nhuge_pages = try\n";
        fs::write(data_dir.join(carried::FILE), carried).unwrap();
        let configured = [("shared_buffers", "1GB"), ("work_mem", "9MB")];
        let text = write(directory.path(), 15, &configured);
        assert_eq!(effective(&text, "shared_buffers"), Some("'1GB'"));
        assert_eq!(effective(&text, "work_mem"), Some("'1MB'"));
        assert_eq!(effective(&text, "huge_pages"), Some("'try'"));
        assert_eq!(effective(&text, "cluster_name"), Some("'testdb'"));
        assert_eq!(effective(&text, "fsync"), None);
    }

    #[test]
    fn a_major_gets_only_settings_that_it_knows() {
        for (major, known) in [(12, false), (13, false), (14, true), (18, true)] {
            let directory = tempfile::tempdir().unwrap();
            let text = write(directory.path(), major, &[]);
            let sync = effective(&text, "recovery_init_sync_method");
            assert_eq!(sync.is_some(), known, "{major}");
        }
    }

    #[test]
    fn wal_sizes_suit_the_segments_of_the_cluster() {
        for (segment_mib, min, max) in [(1, "'32MB'", "'1024MB'"), (1024, "'2048MB'", "'2048MB'")] {
            let directory = tempfile::tempdir().unwrap();
            let wal = directory.path().join("data/pg_wal");
            fs::create_dir_all(wal.join("archive_status")).unwrap();
            let segment = File::create(wal.join("000000010000000000000001")).unwrap();
            segment.set_len(segment_mib << 20).unwrap();
            let text = write(directory.path(), 15, &[]);
            assert_eq!(effective(&text, "min_wal_size"), Some(min));
            assert_eq!(effective(&text, "max_wal_size"), Some(max));
        }
    }

    #[test]
    fn files_are_for_their_owner_and_never_written_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = directory.path();
        write_new(run_dir, "file", b"text").unwrap();
        let mode = fs::metadata(run_dir.join("file")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::os::unix::fs::symlink(run_dir.join("target"), run_dir.join("link")).unwrap();
        assert!(write_new(run_dir, "link", b"text").is_err());
        assert!(!run_dir.join("target").exists());
    }
}
