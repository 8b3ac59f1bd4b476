//! Errors of an instance: its clone, its start, its stop.

use std::time::Duration;

use multidb_store::{DiskFault, InstanceName, SnapshotId};

use super::ClientError;
use crate::instance::InstanceError;
use crate::ports::{CloneError, DiskError, RuntimeError, StartError, Taken, Unavailable};
use crate::text;
use crate::wire::sqlstate;

/// The most lines of Postgres' log in an error.
const LOG_LINES_MAX: usize = 10;
/// The longest line of Postgres' log in an error, in characters.
const LOG_LINE_LENGTH_MAX: usize = 300;

impl ClientError {
    /// Adds how Postgres exited, and the settings of ALTER SYSTEM that may be the cause.
    fn because_of_exit(
        self,
        instance: &InstanceName,
        status: &str,
        log: &[String],
        altered: &[String],
    ) -> Self {
        let exited = self.detail(exit_detail(status, log, altered));
        if altered.is_empty() {
            return exited;
        }
        exited.hint(format!(
            "If a setting of ALTER SYSTEM is the cause, \"multidb instance start {instance} --without-alter-system\" leaves them out."
        ))
    }

    /// Adds the requirement that is missing for any Postgres to start. Other errors of a runtime are for the log.
    fn lacking(self, error: &RuntimeError) -> Self {
        if !error.for_clients {
            return self;
        }
        let told = self.detail(format!("{}.", capitalized(&error.message)));
        match &error.hint {
            Some(hint) => told.hint(hint.clone()),
            None => told,
        }
    }

    /// The error of this instance.
    pub(super) fn of_instance(instance: &InstanceName, error: &InstanceError) -> Self {
        let not_started = || {
            Self::new(
                sqlstate::SYSTEM_ERROR,
                format!("could not start Postgres for instance \"{instance}\""),
            )
        };
        match error {
            InstanceError::Clone(error) => of_clone(instance, error),
            InstanceError::Start(StartError::Exited {
                status,
                log,
                altered,
            }) => not_started().because_of_exit(instance, status, log, altered),
            InstanceError::Start(StartError::EndedUncleanly) => not_started()
                .detail("Its last run ended uncleanly, without fsync.")
                .hint("Try again in a moment."),
            InstanceError::Renew { snapshot, error } => of_renewal(instance, snapshot, error),
            InstanceError::Start(StartError::Runtime(error)) => not_started().lacking(error),
            InstanceError::Start(StartError::Disk(error)) => not_started().because_of_disk(error),
            InstanceError::Start(StartError::Unavailable(unavailable))
            | InstanceError::Unavailable(unavailable) => Self::of_unavailable(
                format!("instance \"{instance}\" is unavailable"),
                unavailable,
            ),
            InstanceError::Unknown(_) => Self::new(
                sqlstate::CANNOT_CONNECT_NOW,
                format!("instance \"{instance}\" is not ready"),
            )
            .detail("Whether its Postgres runs is not known yet; multidb looks again.")
            .hint("Try again in a moment."),
            InstanceError::StartTimeout { limit } => not_ready(instance, *limit),
            InstanceError::NoSlot { max, waited } => no_slot(instance, *max, *waited),
            InstanceError::NoMemory {
                used_percent,
                mark_percent,
                waited,
            } => no_memory(instance, *used_percent, *mark_percent, *waited),
            InstanceError::Stop(_) => not_started()
                .detail("The previous server could not be stopped; retrying.")
                .hint("Try again in a moment."),
            InstanceError::Stopped => Self::new(
                sqlstate::ADMIN_SHUTDOWN,
                format!(
                    "terminating connection because an administrator stopped instance \"{instance}\""
                ),
            )
            .hint("The next connection starts it again."),
            InstanceError::DataUnusable { why } => Self::new(
                sqlstate::SYSTEM_ERROR,
                format!("the data of instance \"{instance}\" cannot be used"),
            )
            .detail(format!("{}.", capitalized(why)))
            .hint(format!(
                "Bring its data back and run \"multidb instance recover {instance}\", or run \"multidb instance reset {instance}\" for a fresh clone."
            )),
            InstanceError::OverLimit(over) => Self::refused_over_limit(instance, over),
            InstanceError::GivenUp => Self::given_up(instance),
            InstanceError::Storage(error @ (CloneError::NoSpace { .. } | CloneError::Disk(_)))
            | InstanceError::Delete(error @ CloneError::Disk(_)) => of_clone(instance, error),
            InstanceError::Deleted
            | InstanceError::Died
            | InstanceError::Storage(_)
            | InstanceError::Delete(_) => Self::internal(),
        }
    }
}

impl ClientError {
    /// The error for an instance whose actor is not rebuilt by itself any more.
    pub(super) fn given_up(instance: &InstanceName) -> Self {
        Self::new(
            sqlstate::INTERNAL_ERROR,
            format!("instance \"{instance}\" has failed by a defect of multidb"),
        )
        .detail("Its data is untouched. The log of multidb has the cause.")
        .hint(format!(
            "Run \"multidb instance recover {instance}\" to use it again, and report the defect."
        ))
    }

    /// The error for a fault of the disk.
    pub(super) fn of_disk(message: impl Into<String>, error: &DiskError) -> Self {
        Self::new(sqlstate::IO_ERROR, message).because_of_disk(error)
    }

    /// This error, with a fault of the disk as its cause.
    fn because_of_disk(self, error: &DiskError) -> Self {
        let sqlstate = match error.fault {
            DiskFault::Full => sqlstate::DISK_FULL,
            DiskFault::ReadOnly | DiskFault::Device => sqlstate::IO_ERROR,
        };
        let fault = text::sentence(&error.fault.to_string());
        let lines = last_lines(&error.log);
        let detail = if lines.is_empty() {
            fault
        } else {
            format!(
                "{fault} The last lines of Postgres' log:\n{}",
                lines.join("\n")
            )
        };
        Self { sqlstate, ..self }
            .detail(detail)
            .hint(error.fault.hint())
    }

    /// The error for a runtime that is away.
    pub(super) fn of_unavailable(message: String, unavailable: &Unavailable) -> Self {
        let detail = match unavailable {
            Unavailable::Away { runtime, .. } => {
                format!("The runtime \"{runtime}\", which runs its Postgres, does not answer.")
            }
            Unavailable::NotConfigured {
                runtime,
                configured,
            } => format!(
                "The runtime \"{runtime}\" runs its Postgres, but multidb is configured for \"{configured}\"."
            ),
        };
        Self::new(sqlstate::CANNOT_CONNECT_NOW, message)
            .detail(detail)
            .hint(unavailable.hint())
    }
}

fn of_clone(instance: &InstanceName, error: &CloneError) -> ClientError {
    match error {
        CloneError::NoSpace {
            free_bytes,
            reserve_bytes,
            missing_bytes,
            taken,
        } => no_space(
            instance,
            &text::disk_space(*free_bytes, *reserve_bytes),
            *missing_bytes,
            *taken,
        ),
        CloneError::SnapshotDamaged { snapshot, .. } => ClientError::new(
            sqlstate::DATA_CORRUPTED,
            format!("snapshot \"{snapshot}\" is damaged"),
        )
        .hint("Choose another snapshot, or import this one again."),
        CloneError::SnapshotGone { snapshot } => ClientError::new(
            sqlstate::SYSTEM_ERROR,
            format!("could not create instance \"{instance}\""),
        )
        .detail(format!("Snapshot \"{snapshot}\" is gone."))
        .hint("Choose another snapshot, or import this one again."),
        CloneError::ParentFailed { message } => ClientError::new(
            sqlstate::SYSTEM_ERROR,
            format!("could not create instance \"{instance}\" from a running one"),
        )
        .detail(text::sentence(&format!("its server answered: {message}")))
        .hint("A copy of a running server needs wal_level = replica, Postgres' default."),
        CloneError::Failed { .. } => ClientError::new(
            sqlstate::SYSTEM_ERROR,
            format!("could not create instance \"{instance}\""),
        ),
        CloneError::Disk(error) => ClientError::of_disk(
            format!("could not write for instance \"{instance}\""),
            error,
        ),
    }
}

/// The error for a disk without room, with how much is missing and where it could come from.
fn no_space(
    instance: &InstanceName,
    space: &str,
    missing_bytes: u64,
    taken: Option<Taken>,
) -> ClientError {
    let mut detail = text::sentence(&format!("{space} (limits.disk_reserve)"));
    if missing_bytes > 0 {
        detail.push_str(&format!(" {} are missing.", text::bytes(missing_bytes)));
    }
    let hint = match taken {
        None => "Remove instances or snapshots that are no longer needed.".to_owned(),
        Some(Taken {
            instances_bytes,
            snapshots_bytes,
        }) => format!(
            "Instances take {} of their own and snapshots {}, as \"multidb instance ls\" and \"multidb snapshot ls\" show: remove those that are no longer needed.",
            text::bytes(instances_bytes),
            text::bytes(snapshots_bytes)
        ),
    };
    let message = format!("no disk space for instance \"{instance}\"");
    ClientError::new(sqlstate::DISK_FULL, message)
        .detail(detail)
        .hint(hint)
}

/// The error for an instance whose start took too long.
fn not_ready(instance: &InstanceName, limit: Duration) -> ClientError {
    ClientError::new(
        sqlstate::CANNOT_CONNECT_NOW,
        format!("instance \"{instance}\" is not ready"),
    )
    .detail(format!(
        "It did not accept connections within {} (limits.start_timeout).",
        text::duration(limit)
    ))
    .hint("Try again in a moment.")
}

/// The error for an instance that no slot became free for.
fn no_slot(instance: &InstanceName, max: usize, waited: Duration) -> ClientError {
    ClientError::new(
        sqlstate::TOO_MANY_CONNECTIONS,
        format!("too many running instances to start \"{instance}\""),
    )
    .detail(format!(
        "All {max} that limits.max_running allows are in use, and none became free within {}.",
        text::duration(waited)
    ))
    .hint("Try again later, or end the sessions of another instance.")
}

/// The error for an instance that there was no memory for.
fn no_memory(
    instance: &InstanceName,
    used_percent: u8,
    mark_percent: u8,
    waited: Duration,
) -> ClientError {
    ClientError::new(
        sqlstate::TOO_MANY_CONNECTIONS,
        format!("too little memory to start instance \"{instance}\""),
    )
    .detail(format!(
        "{used_percent}% of the memory are used, no instance starts above {mark_percent}% (limits.memory_high_water), and it did not become less within {}.",
        text::duration(waited)
    ))
    .hint("Try again later, or end the sessions of another instance.")
}

/// The error for a scratch instance without a fresh clone.
fn of_renewal(instance: &InstanceName, snapshot: &SnapshotId, error: &CloneError) -> ClientError {
    let cause = match error {
        CloneError::SnapshotGone { .. } => "that snapshot is gone".to_owned(),
        CloneError::SnapshotDamaged { .. } => "that snapshot is damaged".to_owned(),
        CloneError::NoSpace { .. } | CloneError::ParentFailed { .. } => error.to_string(),
        CloneError::Disk(disk) => disk.fault.to_string(),
        CloneError::Failed { .. } => "the log of multidb has the cause".to_owned(),
    };
    ClientError::new(
        sqlstate::SYSTEM_ERROR,
        format!("the data of scratch instance \"{instance}\" is lost"),
    )
    .detail(format!(
        "It ran without fsync and ended uncleanly, and it could not be cloned afresh from snapshot \"{snapshot}\": {cause}."
    ))
    .hint(format!(
        "The next connection tries again. To give it up, run \"multidb instance rm {instance}\" and create it from another snapshot."
    ))
}

fn exit_detail(status: &str, log: &[String], altered: &[String]) -> String {
    let mut detail = text::sentence(&format!("it ended with {status}"));
    if !altered.is_empty() {
        let altered = last_lines(altered).join("; ");
        detail.push_str(&format!(" ALTER SYSTEM has set {altered}."));
    }
    let lines = last_lines(log);
    if lines.is_empty() {
        detail.push_str(" Its log is empty.");
    } else {
        detail.push_str(&format!(
            " The last lines of its log:\n{}",
            lines.join("\n")
        ));
    }
    detail
}

/// The end of a log, bounded in both directions.
fn last_lines(log: &[String]) -> Vec<String> {
    let skipped = log.len().saturating_sub(LOG_LINES_MAX);
    log.iter()
        .skip(skipped)
        .map(|line| {
            let end = line.char_indices().nth(LOG_LINE_LENGTH_MAX);
            match end {
                Some((end, _)) => format!("{}…", &line[..end]),
                None => line.clone(),
            }
        })
        .collect()
}

/// A sentence begins with a capital letter.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
