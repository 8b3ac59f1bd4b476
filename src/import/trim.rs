//! The trimming of a data directory before it becomes a snapshot: each file costs every clone time.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::context::Context;
use super::control::Control;
use super::error::{ImportError, tree_error};
use super::prepare::{Kept, remove_leftovers};
use super::tree::is_excluded;
use crate::fsutil::beneath::{Directory, Kind, TreeError, Walk};
use crate::runtime::conf_file::{self, Entry};
use crate::wal_segment::is_segment;

/// An upper bound for the WAL record of a checkpoint, with its page headers.
const CHECKPOINT_RECORD_BYTES_MAX: u64 = 8192;
/// Behind the header of its first page, a new WAL file begins with the checkpoint of the shutdown.
const FIRST_RECORD_OFFSET_MAX: u64 = 8192;
/// The most that is read of `postgresql.auto.conf`.
const AUTO_CONF_BYTES_MAX: u64 = 1 << 20;
/// The most that a warning has of the name of a setting.
const SETTING_CHARS_MAX: usize = 100;
/// The settings that a warning names.
const SETTINGS_MAX: usize = 100;

/// Checks that the server of an import was stopped cleanly, and trims its data directory.
/// `carried` are the settings of the source's server that its instances have; `kept` the files of a cluster that
/// was written anew after its preparations, of which nothing else stays.
pub(super) async fn trim(
    context: &Context,
    postgres_major: u16,
    carried: Vec<(String, String)>,
    kept: Option<Kept>,
) -> Result<(), ImportError> {
    let data_dir = context.staging.data();
    let control = Control::read(context, postgres_major, &data_dir).await?;
    if !control.is_shut_down() {
        return Err(ImportError::Server {
            action: "stop the server of the import cleanly".to_owned(),
            message: format!("its state is \"{}\"", control.state),
        });
    }
    if kept.is_some() && control.redo_offset > FIRST_RECORD_OFFSET_MAX {
        // The rewriting has switched to a new file before the server stopped.
        return Err(ImportError::Server {
            action: "begin a new WAL file".to_owned(),
            message: format!(
                "the last checkpoint is {} bytes behind its begin",
                control.redo_offset
            ),
        });
    }
    let source = context.source_path().to_owned();
    let removed = context
        .run_blocking(move || {
            let trimmed = trim_files(&data_dir, &control).and_then(|()| match &kept {
                Some(kept) => remove_leftovers(&data_dir, kept),
                None => Ok(Vec::new()),
            });
            trimmed.map_err(|error| tree_error(&source, &data_dir, error))
        })
        .await?;
    if !removed.is_empty() {
        let names = removed.join(", ");
        let warning = format!(
            "files that are none of Postgres' are left out, since the data was prepared: {names}"
        );
        context.progress.warn(warning).await;
    }
    // The script of a dump can write this file and run ALTER SYSTEM, too.
    context.write_carried(carried).await?;
    drop_alter_system(context).await
}

/// Drops the settings that ALTER SYSTEM made, with a warning: they would override the settings of multidb.
async fn drop_alter_system(context: &Context) -> Result<(), ImportError> {
    let mut dropped = clear_alter_system(context).await?;
    if !dropped.is_empty() {
        dropped.truncate(SETTINGS_MAX);
        let names = dropped.join(", ");
        tracing::warn!(
            id = %context.request.id,
            settings = names,
            "settings by ALTER SYSTEM dropped"
        );
        let warning = format!("settings made by ALTER SYSTEM are left out: {names}");
        context.progress.warn(warning).await;
    }
    Ok(())
}

/// Drops the settings that ALTER SYSTEM made, and returns their names.
pub(super) async fn clear_alter_system(context: &Context) -> Result<Vec<String>, ImportError> {
    let data_dir = context.staging.data();
    let source = context.source_path().to_owned();
    let clear = move || {
        let cleared = clear_auto_conf(&data_dir);
        cleared.map_err(|error| tree_error(&source, &data_dir, error))
    };
    context.run_blocking(clear).await
}

/// Trims a data directory that is shut down.
fn trim_files(data_dir: &Path, control: &Control) -> Result<(), TreeError> {
    remove_excluded(Directory::open(data_dir)?)?;
    trim_wal(&Directory::open(data_dir)?.directory("pg_wal")?, control)
}

fn remove_excluded(data_dir: Directory) -> Result<(), TreeError> {
    let mut walk = Walk::new(data_dir)?;
    while let Some(kind) = walk.advance()? {
        if kind == Kind::End {
            continue;
        }
        if is_excluded(walk.relative()) {
            walk.remove()?;
        } else if kind == Kind::Directory {
            walk.enter()?;
        }
    }
    Ok(())
}

/// Keeps the WAL file with the last checkpoint, which is enough for a start, and the next one if
/// the checkpoint's record can reach into it.
fn trim_wal(wal: &Directory, control: &Control) -> Result<(), TreeError> {
    let reaches_over = reaches_over(control);
    let mut next: Option<OsString> = None;
    for name in wal.names()? {
        let name = name?;
        let is_later = is_segment(&name) && name.as_os_str() > OsStr::new(&control.redo_wal_file);
        if reaches_over && is_later && next.as_ref().is_none_or(|next| name < *next) {
            next = Some(name);
        }
    }
    for name in wal.names()? {
        let name = name?;
        let is_kept = name == *control.redo_wal_file || Some(&name) == next.as_ref();
        if is_segment(&name) && !is_kept {
            wal.remove(&name)?;
        }
    }
    let status = wal.directory("archive_status")?;
    for name in status.names()? {
        status.remove(&name?)?;
    }
    Ok(())
}

/// Whether the start of a server after a clean shutdown may need this file of `pg_wal`.
pub(super) fn may_be_needed(name: &OsStr, control: &Control) -> bool {
    let redo = OsStr::new(&control.redo_wal_file);
    !is_segment(name) || name == redo || (reaches_over(control) && name > redo)
}

/// Whether the checkpoint's record can reach into the next file.
fn reaches_over(control: &Control) -> bool {
    control.wal_segment_bytes - control.redo_offset < CHECKPOINT_RECORD_BYTES_MAX
}

/// Empties `postgresql.auto.conf` and returns the names of its settings.
fn clear_auto_conf(data_dir: &Path) -> Result<Vec<String>, TreeError> {
    const HEADER: &str = "# Do not edit this file manually!\n\
                          # It will be overwritten by the ALTER SYSTEM command.\n";
    const NAME: &str = "postgresql.auto.conf";
    let data_dir = Directory::open(data_dir)?;
    let Some(text) = data_dir.read(NAME, AUTO_CONF_BYTES_MAX)? else {
        return Ok(Vec::new());
    };
    let text = String::from_utf8_lossy(&text);
    let dropped: Vec<String> = conf_file::parse(&text)
        .map(|(number, entry)| match entry {
            Entry::Setting(name, _) => name.chars().take(SETTING_CHARS_MAX).collect(),
            Entry::Include(..) | Entry::Invalid => format!("line {number} (not a setting)"),
        })
        .collect();
    if !dropped.is_empty() {
        data_dir.replace(OsStr::new(NAME), HEADER.as_bytes())?;
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn control(redo_offset: u64) -> Control {
        Control {
            state: "shut down".to_owned(),
            checkpoint_at: None,
            redo_wal_file: "00000001000000010000002A".to_owned(),
            redo_offset,
            wal_segment_bytes: 16 << 20,
            catalog_version: "202209061".to_owned(),
            prepared_max: 0,
            damage: None,
        }
    }

    /// As a dump with `COPY ... TO PROGRAM` can make them.
    #[test]
    fn trimming_touches_nothing_outside_and_ends() {
        let directory = tempfile::tempdir().unwrap();
        let (root, outside) = (
            directory.path().join("data"),
            directory.path().join("outside"),
        );
        fs::create_dir_all(root.join("pg_wal")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "a = b\n").unwrap();
        let status = root.join("pg_wal/archive_status");
        let auto_conf = root.join("postgresql.auto.conf");
        let fifo = |path: &Path| {
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        };
        for (target, kind) in [(Some(outside.as_path()), "symbolic link"), (None, "FIFO")] {
            match target {
                Some(target) => symlink(target, &status).unwrap(),
                None => fifo(&status),
            }
            let error = trim_files(&root, &control(40)).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("archive_status is a {kind}")),
                "{error}"
            );
            fs::remove_file(&status).unwrap();
        }
        symlink(&outside, root.join("log")).unwrap();
        fs::create_dir(&status).unwrap();
        trim_files(&root, &control(40)).unwrap();
        assert!(!root.join("log").is_symlink());
        for target in [Some("../outside/precious"), Some("/dev/zero"), None] {
            match target {
                Some(target) => symlink(target, &auto_conf).unwrap(),
                None => fifo(&auto_conf),
            }
            let error = clear_auto_conf(&root).unwrap_err();
            assert!(matches!(error, TreeError::Foreign { .. }), "{error}");
            fs::remove_file(&auto_conf).unwrap();
        }
        fs::File::create(&auto_conf)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let error = clear_auto_conf(&root).unwrap_err();
        assert!(matches!(error, TreeError::TooLong { .. }), "{error}");
        fs::remove_file(&auto_conf).unwrap();
        fs::hard_link(outside.join("precious"), &auto_conf).unwrap();
        assert_eq!(clear_auto_conf(&root).unwrap(), ["a"]);
        assert_eq!(
            fs::read_to_string(outside.join("precious")).unwrap(),
            "a = b\n"
        );
    }

    #[test]
    fn trimming_keeps_the_files_that_a_start_needs() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let make = |path: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        for path in [
            "base/1/1259",
            "base/1/pg_internal.init",
            "base/pgsql_tmp/pgsql_tmp1",
            "log/a.log",
            "postmaster.opts",
            "pg_wal/00000001000000010000002A",
            "pg_wal/00000001000000010000002B",
            "pg_wal/00000001000000010000002C",
            "pg_wal/000000010000000100000029",
            "pg_wal/00000002.history",
            "pg_wal/archive_status/000000010000000100000029.ready",
        ] {
            make(path);
        }
        fs::write(
            root.join("postgresql.auto.conf"),
            "# x = y\nshared_buffers = '1GB'\narchive_mode = on\n",
        )
        .unwrap();
        let wal = || {
            let names = fs::read_dir(root.join("pg_wal")).unwrap();
            let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(
            clear_auto_conf(root).unwrap(),
            ["shared_buffers", "archive_mode"]
        );
        assert_eq!(clear_auto_conf(root).unwrap(), Vec::<String>::new());
        trim_files(root, &control((16 << 20) - 100)).unwrap();
        assert_eq!(
            wal(),
            [
                "00000001000000010000002A",
                "00000001000000010000002B",
                "00000002.history",
                "archive_status"
            ]
        );
        trim_files(root, &control(40)).unwrap();
        assert_eq!(wal().len(), 3);
        assert!(root.join("base/1/1259").exists());
        for gone in [
            "base/1/pg_internal.init",
            "base/pgsql_tmp",
            "log",
            "postmaster.opts",
        ] {
            assert!(!root.join(gone).exists(), "{gone}");
        }
    }

    #[test]
    fn lines_that_are_no_settings_are_dropped_too() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::write(
            root.join("postgresql.auto.conf"),
            "work_mem '1MB'\n<<<<<<< HEAD\nfsync\n",
        )
        .unwrap();
        assert_eq!(
            clear_auto_conf(root).unwrap(),
            [
                "work_mem",
                "line 2 (not a setting)",
                "line 3 (not a setting)"
            ]
        );
        assert_eq!(clear_auto_conf(root).unwrap(), Vec::<String>::new());
    }
}
