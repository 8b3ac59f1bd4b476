//! psql, which runs the script of a restore.

use multidb_actors::ports::Endpoint;

use super::RestoreTarget;
use super::fifos::Fifos;
use crate::import::error::ImportError;
use crate::import::program::failure;
use crate::import::script::Restriction;
use crate::import::server::SUPERUSER;
use crate::runtime::settings::PORT;
use crate::runtime::{PROGRAM_TIMEOUT, PostgresHost, ProgramRun};

/// The run of psql that reads the script from its FIFO.
pub(super) fn run(target: &RestoreTarget<'_>, fifos: &Fifos) -> ProgramRun {
    let (host, port, socket) = match &target.server.endpoint {
        Endpoint::Unix(path) => {
            let directory = path.parent().unwrap_or(path).to_owned();
            (directory.display().to_string(), PORT, Some(directory))
        }
        Endpoint::Tcp(address) => (address.ip().to_string(), address.port(), None),
    };
    let mut binds = vec![fifos.directory.clone()];
    binds.extend(socket);
    let args = [
        "--no-psqlrc".to_owned(),
        "--quiet".to_owned(),
        "--no-password".to_owned(),
        "--output=/dev/null".to_owned(),
        "--set=ON_ERROR_STOP=1".to_owned(),
        format!("--host={host}"),
        format!("--port={port}"),
        format!("--username={SUPERUSER}"),
        format!("--dbname={}", connection_string(&target.project.database)),
        format!("--file={}", fifos.script.display()),
    ];
    ProgramRun {
        postgres_major: target.postgres_major,
        program: "psql",
        args: args.to_vec(),
        env: vec![("PGAPPNAME".to_owned(), "multidb import".to_owned())],
        binds,
        timeout: None,
    }
}

/// A connection string with the database, since psql parses a plain name that contains `=` as one.
fn connection_string(database: &str) -> String {
    let escaped = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!("dbname='{escaped}'")
}

/// How psql of this major is kept from running commands that a dump contains.
pub(super) async fn restriction(
    host: &dyn PostgresHost,
    postgres_major: u16,
) -> Result<Restriction, ImportError> {
    let run = ProgramRun {
        postgres_major,
        program: "psql",
        args: vec!["--version".to_owned()],
        env: Vec::new(),
        binds: Vec::new(),
        timeout: Some(PROGRAM_TIMEOUT),
    };
    let output = host.run_program(&run).await?;
    if !output.success {
        return Err(failure("psql", &output));
    }
    if !has_restrict(&String::from_utf8_lossy(&output.stdout)) {
        return Ok(Restriction::Rewriter);
    }
    let token = format!(
        "{:016x}{:016x}",
        rand::random::<u64>(),
        rand::random::<u64>()
    );
    Ok(Restriction::Psql(token))
}

/// Whether psql of this version has `\restrict`, which fixed CVE-2025-8714.
fn has_restrict(version: &str) -> bool {
    let number = version
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut parts = number
        .unwrap_or_default()
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0_u32));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match major {
        13 => minor >= 22,
        14 => minor >= 19,
        15 => minor >= 14,
        16 => minor >= 10,
        17 => minor >= 6,
        _ => major >= 18,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restrict_is_known_by_version() {
        assert!(has_restrict(
            "psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        ));
        assert!(!has_restrict("psql (PostgreSQL) 15.13"));
        assert!(has_restrict("psql (PostgreSQL) 18beta3"));
        assert!(!has_restrict("psql (PostgreSQL) 12.22"));
        assert!(!has_restrict("nonsense"));
    }

    #[test]
    fn connection_string_escapes_the_database() {
        assert_eq!(connection_string("a b"), "dbname='a b'");
        assert_eq!(connection_string(r"a'b\c"), r"dbname='a\'b\\c'");
    }
}
