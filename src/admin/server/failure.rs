//! The one map from errors to HTTP status and JSON.

use std::fmt::{self, Display};
use std::io;
use std::str::FromStr;
use std::time::Duration;

use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use multidb_actors::instance::InstanceError;
use multidb_actors::ports::{CloneError, DiskError, RevisionError, StartError};
use multidb_actors::project::ProjectError;
use multidb_actors::snapshot_index::ChooseError;
use multidb_actors::supervisor::{AcquireError, RecoverError, RenameError};
use multidb_store::{DiskFault, error_chain};

use super::document::Methods;
use crate::admin::api::{ErrorBody, ErrorInfo};
use crate::control::ControlError;
use crate::control::advice::advice;
use crate::diff::DiffError;
use crate::doctor::Refusal;
use crate::jobs::JobError;

mod status;

/// The detail of an error whose cause is for the log alone.
const IN_LOG: &str = "The log of multidb has the cause.";

/// A handler's answer.
pub(super) type Answer<T> = Result<web::Json<T>, Failure>;

/// A failed request: its status and its JSON.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    info: ErrorInfo,
    retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that is none of `control`.
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let info = ErrorInfo {
            code: code.to_owned(),
            message: message.into(),
            ..ErrorInfo::default()
        };
        Self {
            status,
            info,
            retry_after: None,
        }
    }

    /// Says how long the client should wait before it tries again.
    #[must_use]
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The stable word for programs.
    #[cfg(test)]
    pub(crate) fn code(&self) -> &str {
        &self.info.code
    }

    /// What people are told beside the message.
    pub(crate) fn detail_and_hint(&self) -> (Option<String>, Option<String>) {
        (self.info.detail.clone(), self.info.hint.clone())
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        failure.info.into()
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.info.message)
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let error = self.info.clone();
        let mut response = HttpResponse::build(self.status);
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.insert_header((RETRY_AFTER, seconds));
        }
        let mut response = response.json(ErrorBody {
            error: error.clone(),
        });
        // For listeners that show errors in another form.
        response.extensions_mut().insert(error);
        response
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let info = ErrorInfo {
            code: error.code().to_owned(),
            message: message(&error),
            detail: detail(&error),
            hint: hint(&error),
        };
        Self {
            status: status::status(&error),
            info,
            retry_after: status::retry_after(&error),
        }
    }
}

/// The message. The cause of an unreadable repository may hold paths, so it is for the log alone.
fn message(error: &ControlError) -> String {
    match error {
        ControlError::Choose(ChooseError::Revision(RevisionError::Repository { .. })) => {
            "the git repository cannot be read".to_owned()
        }
        ControlError::Choose(ChooseError::Revision(RevisionError::Disk(error))) => {
            format!("the git repository cannot be fetched: {}", error.fault)
        }
        _ => error_chain(error),
    }
}

fn detail(error: &ControlError) -> Option<String> {
    match error {
        ControlError::Project(error) => {
            let known = error.known()?;
            Some(format!("The projects are {}.", list(known)))
        }
        ControlError::SnapshotInUse {
            instances,
            instances_total,
            ..
        } => {
            let more = match instances_total.saturating_sub(instances.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named = list(instances);
            Some(format!("Instances cloned from it: {named}{more}."))
        }
        ControlError::Recover(RecoverError::NothingToRecover { quarantined, .. }) => {
            Some(match quarantined.as_slice() {
                [] => "The quarantine is empty.".to_owned(),
                clones => format!("In the quarantine: {}.", clones.join(", ")),
            })
        }
        ControlError::Recover(RecoverError::InstanceExists { uid, .. }) => {
            Some(format!("Clone {uid} stays in the quarantine."))
        }
        ControlError::Instance(InstanceError::Start(
            StartError::Exited { log, .. } | StartError::Disk(DiskError { log, .. }),
        )) if !log.is_empty() => Some(format!("The end of its log:\n{}", log.join("\n"))),
        ControlError::Choose(ChooseError::Revision(error)) => match error {
            RevisionError::Repository { form: None, .. } | RevisionError::Disk(_) => {
                Some(IN_LOG.to_owned())
            }
            error => error.detail(),
        },
        ControlError::ActorEnded => Some(IN_LOG.to_owned()),
        _ => None,
    }
}

fn hint(error: &ControlError) -> Option<String> {
    if let ControlError::Choose(ChooseError::Revision(error)) = error
        && let Some(hint) = error.hint()
    {
        return Some(hint);
    }
    let hint = match error {
        ControlError::NoSuchInstance(_)
        | ControlError::Acquire(AcquireError::NoSuchParent { .. }) => {
            "\"multidb instance ls\" lists the instances."
        }
        ControlError::NoSuchSnapshot(_) => "\"multidb snapshot ls\" lists the snapshots.",
        ControlError::NoSuchJob(_) => "\"multidb job ls\" lists the jobs.",
        ControlError::InstanceExists(_) => {
            "Choose another name, or remove that instance first; a reset gives it a fresh clone of its snapshot."
        }
        ControlError::Acquire(AcquireError::TtlTooLong { .. }) => {
            "\"multidb config show\" has limits.retention, the longest ttl; a pin keeps an instance for longer."
        }
        ControlError::SnapshotExists(_) => "Choose another id, or remove that snapshot first.",
        ControlError::DumpUnreadable { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            "Let the user that the daemon runs as read it; a dump in one file can also be sent, with --dump -."
        }
        ControlError::Job(JobError::SnapshotBusy { .. }) => {
            "Wait for that job with \"multidb job wait\", or choose another id."
        }
        ControlError::Job(JobError::ProjectBusy { .. }) => {
            "Wait for that job with \"multidb job wait\", or cancel it with \"multidb job cancel\"."
        }
        ControlError::NoRefreshSource(_) => {
            "Add a section [project.NAME.refresh] with a source to the configuration."
        }
        ControlError::NoSuchConnection(_) => "\"multidb connection ls\" lists the connections.",
        ControlError::Project(ProjectError::NoProject) => {
            "Add a [project.NAME] section to the configuration."
        }
        ControlError::Project(ProjectError::ProjectNeeded { .. }) => "Name one with --project.",
        ControlError::SnapshotInUse { .. } => {
            "With --force it is deleted nevertheless; the instances keep their data, but cannot be \
             reset."
        }
        ControlError::Recover(RecoverError::NothingToRecover { .. }) => {
            "\"multidb instance ls\" lists the instances, and \"multidb doctor\" the quarantine."
        }
        ControlError::Recover(RecoverError::InstanceExists { .. }) => {
            "Give the clone another name with --as."
        }
        ControlError::Recover(RecoverError::ManifestUnusable { .. }) => {
            "Repair its manifest.json by hand, then try again."
        }
        ControlError::Diff(DiffError::Unread { .. }) => {
            "Does the project's database exist there, and does nobody change its tables now? \"multidb instance logs\" \
             has what its Postgres says."
        }
        ControlError::Rename(RenameError::NameLeft { .. }) => {
            "Choose another name; \"multidb doctor\" lists the clones in the quarantine."
        }
        ControlError::Rename(RenameError::Unsettled { .. }) => {
            "Try again once it is stopped or running."
        }
        ControlError::Instance(error) => return advice("NAME", error),
        ControlError::Runtime(error) => return error.hint.clone(),
        _ => disk_fault(error)?.hint(),
    };
    Some(hint.to_owned())
}

/// The fault of the disk for which the request failed; [`advice`] has those of instances.
fn disk_fault(error: &ControlError) -> Option<DiskFault> {
    match error {
        ControlError::Storage(CloneError::NoSpace { .. }) => Some(DiskFault::Full),
        ControlError::Storage(CloneError::Disk(error))
        | ControlError::Choose(ChooseError::Revision(RevisionError::Disk(error))) => {
            Some(error.fault)
        }
        ControlError::Job(JobError::Store(error)) => error.disk_fault(),
        _ => None,
    }
}

/// Names in double quotes, separated by commas.
fn list(names: &[impl Display]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
}

/// Reads a name from a path, a query or a body.
pub(super) fn parse<T: FromStr<Err: std::error::Error>>(text: &str) -> Result<T, Failure> {
    text.parse()
        .map_err(|error| bad_request(error_chain(&error)))
}

/// As [`parse`], for a value that may be left out.
pub(super) fn parse_optional<T: FromStr<Err: std::error::Error>>(
    text: Option<&str>,
) -> Result<Option<T>, Failure> {
    text.map(parse).transpose()
}

pub(super) fn bad_request(message: String) -> Failure {
    ControlError::InvalidArgument(message).into()
}

/// The answer to a body that is not JSON of the expected form.
pub(super) fn bad_json(error: JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    let failure = match &error {
        JsonPayloadError::OverflowKnownLength { limit, .. }
        | JsonPayloadError::Overflow { limit } => Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the body has more than {limit} bytes"),
        ),
        JsonPayloadError::ContentType => Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the body must be JSON, with Content-Type: application/json",
        ),
        error => bad_request(error_chain(error)),
    };
    failure.into()
}

/// The answer to a query of another form than expected.
pub(super) fn bad_query(error: QueryPayloadError, _: &HttpRequest) -> actix_web::Error {
    bad_request(error_chain(&error)).into()
}

/// The answer to an id in the path that is not one.
pub(super) fn bad_path(error: PathError, _: &HttpRequest) -> actix_web::Error {
    bad_request(error_chain(&error)).into()
}

/// The answer to any other request: on no path, or by a method that its path does not have.
pub(crate) async fn no_such_path(request: HttpRequest) -> HttpResponse {
    let (method, path) = (request.method(), request.path());
    let known = request.app_data::<web::Data<Methods>>();
    let methods = known.map_or_else(Vec::new, |known| known.of_path(path));
    if methods.is_empty() {
        let message = format!("there is no {method} {path}");
        return Failure::new(StatusCode::NOT_FOUND, "no_such_path", message).error_response();
    }
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let methods = methods.join(", ");
    let message = format!("{path} has no {method}, but {methods}");
    let refused = Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    );
    let mut response = refused.error_response();
    if let Ok(methods) = HeaderValue::from_str(&methods) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

#[cfg(test)]
mod tests {
    use multidb_actors::ports::CloneError;
    use multidb_store::InstanceUid;

    use super::*;

    fn shown(error: RecoverError) -> String {
        let Failure { status, info, .. } = ControlError::from(error).into();
        let lines = [Some(info.message), info.detail, info.hint];
        let lines: Vec<String> = lines.into_iter().flatten().collect();
        format!("{} {}\n{}", status.as_u16(), info.code, lines.join("\n"))
    }

    #[test]
    fn recovery_that_is_refused_says_what_there_is_and_what_to_do() {
        let (instance, uid) = (|| "a".parse().unwrap(), InstanceUid::from_bits(7));
        let nothing = |quarantined: &[&str]| RecoverError::NothingToRecover {
            instance: instance(),
            quarantined: quarantined.iter().map(ToString::to_string).collect(),
        };
        for (error, expected) in [
            (
                nothing(&[]),
                "404 nothing_to_recover\n\
                 there is nothing of \"a\" to recover\n\
                 The quarantine is empty.\n\
                 \"multidb instance ls\" lists the instances, and \"multidb doctor\" the quarantine.",
            ),
            (
                nothing(&["\"b\" (000000000008)", "000000000009"]),
                "404 nothing_to_recover\n\
                 there is nothing of \"a\" to recover\n\
                 In the quarantine: \"b\" (000000000008), 000000000009.\n\
                 \"multidb instance ls\" lists the instances, and \"multidb doctor\" the quarantine.",
            ),
            (
                RecoverError::InstanceExists {
                    instance: instance(),
                    uid,
                },
                "409 instance_exists\n\
                 instance \"a\" exists\n\
                 Clone 000000000007 stays in the quarantine.\n\
                 Give the clone another name with --as.",
            ),
            (
                RecoverError::ManifestUnusable {
                    uid,
                    why: "it is damaged".to_owned(),
                },
                "409 manifest_unusable\n\
                 the manifest of the quarantined clone 000000000007 cannot be used: it is damaged\n\
                 Repair its manifest.json by hand, then try again.",
            ),
            (
                RecoverError::Storage(CloneError::Failed {
                    message: "the disk failed".to_owned(),
                }),
                "500 clone_failed\n\
                 the clone stays in the quarantine: the disk failed",
            ),
            (
                RecoverError::Instance(InstanceError::DataUnusable {
                    why: "its data is missing".to_owned(),
                }),
                "409 data_unusable\n\
                 the instance's data cannot be used: its data is missing\n\
                 Bring its data back and run \"multidb instance recover NAME\", or run \"multidb \
                 instance reset NAME\" for a fresh clone.",
            ),
        ] {
            assert_eq!(shown(error), expected);
        }
    }
}
