//! The causes of messages of libpq and of a source's server, and their remedies.

use std::path::Path;

use crate::import::error::ImportError;

/// Parts of a message, the cause, and the remedy. The first one that fits counts.
const CAUSES: [(&[&str], &str, &str); 13] = [
    (
        &["No space left on device", "Disk quota exceeded"],
        "disk_full",
        "Make room: here if the message is one of a program, on the source if it is one of its server (ERROR).",
    ),
    (
        &[
            "password authentication failed",
            "no password supplied",
            "fe_sendauth",
        ],
        "source_password",
        "Put the right password into the passfile, as host:port:database:user:password with * or replication as the \
         database of a physical copy, and host and port as in the URL.",
    ),
    (
        &["no pg_hba.conf entry", "pg_hba.conf rejects"],
        "source_not_allowed",
        "Let the role in from this machine by pg_hba.conf of the source; a physical copy needs a line for the \
         database \"replication\".",
    ),
    (
        &[
            "must be superuser or replication role",
            "permission denied to start WAL sender",
            "REPLICATION attribute",
        ],
        "source_not_allowed",
        "Give the role the right on the source: ALTER ROLE … REPLICATION; or copy one database with method = \
         \"logical\" (--logical).",
    ),
    (
        &["permission denied"],
        "source_not_allowed",
        "Let the role read all of the database: GRANT pg_read_all_data TO … (since Postgres 14); or leave the table \
         out by exclude_table.",
    ),
    (
        &[
            "max_wal_senders",
            "WAL level not sufficient",
            "requires \"wal_level\"",
        ],
        "source_wal_senders",
        "A physical copy takes two WAL senders: set max_wal_senders higher on the source, and wal_level to replica, \
         and restart it; or use method = \"logical\" (--logical).",
    ),
    (
        &["replication slots are in use"],
        "source_wal_senders",
        "A physical copy takes a replication slot while it runs: set max_replication_slots higher on the source.",
    ),
    (
        &["certificate", "SSL", "sslmode"],
        "source_tls",
        "Check sslmode and sslrootcert in the URL: sslrootcert=system takes the certificates of this machine.",
    ),
    (
        &["does not exist"],
        "source_unknown",
        "Check the database, the role and the tables of the source.",
    ),
    (
        &[
            "Connection refused",
            "could not translate host name",
            "timeout expired",
            "No route to host",
            "Network is unreachable",
            "No such file or directory",
            "invalid port",
            "starting up",
            "shutting down",
            "not accepting connections",
        ],
        "source_unreachable",
        "Check that the source runs, host and port in the URL, and that this machine reaches it (listen_addresses, \
         firewall).",
    ),
    (
        &[
            "closed the connection",
            "terminating connection",
            "connection to client lost",
            "could not receive data",
            "unexpected termination of replication stream",
            "could not read COPY data",
            "Connection reset",
            "no COPY data",
            "SSL SYSCALL",
            "server process",
            "background process terminated",
            "lost synchronization",
        ],
        "source_vanished",
        "Refresh again once the source runs; nothing is left of this attempt.",
    ),
    (
        &[
            "too many connections",
            "too many clients",
            "connection slots",
        ],
        "source_busy",
        "The source has no connection free: refresh at another time, or raise max_connections there.",
    ),
    (
        &[
            "unexpected tablespace",
            "could not create directory",
            "tablespace",
        ],
        "source_tablespace",
        "The source has tablespaces: let the role also connect to a database of it, so that multidb learns where they \
         are.",
    ),
];

/// The remedy of any other failure.
const OTHER: &str = "The message is that of the source or of Postgres' program; docs/refresh.md says what a source needs.";

/// The error of a source, by the message of the program that copied it.
pub(super) fn source_error(from: &Path, message: &str) -> ImportError {
    let meant = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    let cause = CAUSES.iter().find(|(parts, _, _)| meant(parts));
    let (code, hint) = cause.map_or(("source_failed", OTHER), |(_, code, hint)| (*code, *hint));
    ImportError::Source {
        from: from.display().to_string(),
        code,
        message: message.to_owned(),
        hint: hint.to_owned(),
    }
}

/// The error of a source for which there are no programs.
pub(super) fn no_programs(from: &Path, major: u16, reason: &str, hint: &str) -> ImportError {
    ImportError::Source {
        from: from.display().to_string(),
        code: "source_major",
        message: format!("it runs PostgreSQL {major}, and {reason}"),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_sources_are_understood() {
        let refused = "psql: error: connection to server at \"127.0.0.1\", port 1 failed: ";
        for (message, expected) in [
            (
                "Connection refused\n\tIs the server running",
                "source_unreachable",
            ),
            (
                "FATAL:  password authentication failed for user \"b\"",
                "source_password",
            ),
            ("fe_sendauth: no password supplied", "source_password"),
            (
                "FATAL:  no pg_hba.conf entry for replication connection from host \"::1\", user \"b\", no encryption",
                "source_not_allowed",
            ),
            (
                "FATAL:  must be superuser or replication role to start walsender",
                "source_not_allowed",
            ),
            (
                "FATAL:  number of requested standby connections exceeds max_wal_senders (currently 1)",
                "source_wal_senders",
            ),
            (
                "server closed the connection unexpectedly",
                "source_vanished",
            ),
            ("FATAL:  database \"x\" does not exist", "source_unknown"),
            (
                "could not create directory \"/x/data/base\": No space left on device",
                "disk_full",
            ),
            ("something else", "source_failed"),
        ] {
            let error = source_error(Path::new("postgres://b@h/"), &format!("{refused}{message}"));
            assert_eq!(error.code(), expected, "{message}");
        }
    }
}
