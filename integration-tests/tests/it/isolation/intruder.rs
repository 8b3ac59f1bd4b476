//! A superuser in a container or a local process that tries all means of a superuser: programs, files, large
//! objects.

use std::path::{Path, PathBuf};

use multidb_integration_tests::{Daemon, PgFailure, Session};

/// Secrets of the host and of the other instance.
pub(super) const SECRET: &str = "multidb-test-secret-4711";

/// A superuser's session in an instance.
pub(super) struct Intruder {
    pub(super) session: Session,
    /// The instance's own directory, the one place where it may write.
    pub(super) data: PathBuf,
    /// Whether it may look into `/proc`, as in a container, which has one of its own.
    has_proc: bool,
}

impl Intruder {
    /// Into a container.
    pub(super) fn enter(daemon: &Daemon, instance: &str) -> Self {
        Self::enter_with(daemon, instance, true)
    }

    /// Into a local process.
    pub(super) fn enter_process(daemon: &Daemon, instance: &str) -> Self {
        Self::enter_with(daemon, instance, false)
    }

    fn enter_with(daemon: &Daemon, instance: &str, has_proc: bool) -> Self {
        let session = daemon.connect(&format!("instance:{instance},snapshot:monday"));
        assert_eq!(session.one("show is_superuser"), "on");
        session
            .query("create table said (line text); create table note (x text); create extension dblink")
            .expect("it is writable");
        session
            .query(&format!("insert into note values ('{SECRET}')"))
            .expect("it is writable");
        // In a separate transaction: lo_export reads with an older MVCC snapshot.
        session
            .query("select lo_from_bytea(4711, 'intruder')")
            .expect("it is writable");
        let data = daemon.data_dir(instance);
        Self {
            session,
            data,
            has_proc,
        }
    }

    /// Runs a command beside the server by `COPY … FROM PROGRAM`: whether it succeeded, and all
    /// its output.
    #[track_caller]
    pub(super) fn shell(&self, command: &str) -> (bool, String) {
        let quoted = command.replace('\'', r"'\''");
        let sql = format!(
            "truncate said; copy said from program $program$timeout 20 bash -c '{quoted}' 2>&1; echo \"exit $?\"$program$ \
             with (format csv, delimiter e'\\x01', quote e'\\x02')"
        );
        self.session
            .query(&sql)
            .unwrap_or_else(|failure| panic!("{command}: {failure:?}"));
        let said = self
            .session
            .one("select coalesce(string_agg(line, e'\\n'), '') from said");
        (said.ends_with("exit 0"), said)
    }

    #[track_caller]
    pub(super) fn can(&self, command: &str) -> String {
        let (done, said) = self.shell(command);
        assert!(done, "the control failed: {command}: {said}");
        said
    }

    #[track_caller]
    pub(super) fn cannot(&self, command: &str) {
        let (done, said) = self.shell(command);
        assert!(!done, "it got through: {command}: {said}");
        assert!(
            !said.contains(SECRET),
            "it read a secret: {command}: {said}"
        );
    }

    #[track_caller]
    pub(super) fn can_query(&self, sql: &str) {
        self.session
            .query(sql)
            .unwrap_or_else(|failure| panic!("the control failed: {sql}: {failure:?}"));
    }

    /// A statement that must fail: not found, not permitted or not connected.
    #[track_caller]
    pub(super) fn cannot_query(&self, sql: &str) {
        match self.session.query(sql) {
            Ok(rows) => panic!("it got through: {sql}: {rows:?}"),
            Err(failure) => assert!(is_wall(&failure), "{sql}: {failure:?}"),
        }
    }

    /// Every means by which a superuser reads and writes a file.
    #[track_caller]
    pub(super) fn cannot_touch(&self, file: &Path) {
        let file = file.display();
        self.cannot(&format!("head -c 100 {file}"));
        self.cannot(&format!("echo intruder >> {file}"));
        for path in [file.to_string(), format!("/proc/1/root{file}")] {
            self.cannot_query(&format!("select pg_read_binary_file('{path}')"));
            self.cannot_query(&format!("select lo_import('{path}')"));
            self.cannot_query(&format!("copy said from '{path}'"));
            self.cannot_query(&format!("copy note to '{path}'"));
            self.cannot_query(&format!("select lo_export(4711, '{path}')"));
        }
    }

    /// The controls of [`Self::cannot_touch`], on a file of its own.
    #[track_caller]
    pub(super) fn can_touch_its_own(&self) {
        let file = self.data.join("probe");
        let file = file.display();
        self.can(&format!("echo one > {file} && head -c 100 {file}"));
        self.can_query(&format!("copy note to '{file}'"));
        self.can_query(&format!("copy said from '{file}'"));
        assert_eq!(
            self.session
                .one("select line from said where line like 'multidb%'"),
            SECRET
        );
        let paths = [file.to_string(), format!("/proc/1/root{file}")];
        for path in &paths[..if self.has_proc { 2 } else { 1 }] {
            self.can_query(&format!("select pg_read_binary_file('{path}')"));
            self.can_query(&format!("select lo_import('{path}')"));
            self.can_query(&format!("select lo_export(4711, '{path}')"));
        }
    }
}

fn is_wall(failure: &PgFailure) -> bool {
    // No such file, not permitted (a read-only file system too), no connection.
    matches!(failure.sqlstate(), "58P01" | "42501" | "08001")
}
