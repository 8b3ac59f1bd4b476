//! What failed, as HTTP says it.

use std::fmt;

use actix::MailboxError;
use actix_web::error::{JsonPayloadError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use multidb_actors::client_error::ClientError;
use multidb_actors::instance::InstanceError;
use multidb_actors::ports::{RevisionError, RuntimeError};
use multidb_actors::snapshot_index::ChooseError;
use multidb_store::error_chain;

use crate::admin::api::{ErrorBody, ErrorInfo};

/// A handler's answer.
pub(super) type Answer<T> = Result<web::Json<T>, Failure>;

/// What failed, and with which status it is told.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    pub(super) info: ErrorInfo,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        let info = ErrorInfo {
            message,
            ..ErrorInfo::default()
        };
        Self { status, info }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.info.hint = Some(hint.into());
        self
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(super) fn internal(error: impl std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error_chain(&error))
    }
}

impl fmt::Display for Failure {
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
        HttpResponse::build(self.status).json(ErrorBody { error })
    }
}

impl From<MailboxError> for Failure {
    fn from(error: MailboxError) -> Self {
        Self::internal(error)
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let mut failure = Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.message);
        failure.info.hint = error.hint;
        failure
    }
}

impl From<InstanceError> for Failure {
    fn from(error: InstanceError) -> Self {
        match &error {
            InstanceError::Deleted => Self::not_found("the instance was deleted meanwhile"),
            InstanceError::Stopped => Self::conflict("the instance was stopped meanwhile"),
            InstanceError::Start(multidb_actors::ports::StartError::Exited { log, .. }) => {
                let mut failure = Self::internal(&error);
                if !log.is_empty() {
                    failure.info.detail = Some(format!("Its log ends so:\n{}", log.join("\n")));
                }
                failure
            }
            InstanceError::Clone(_)
            | InstanceError::Start(_)
            | InstanceError::StartTimeout { .. }
            | InstanceError::NoSlot { .. }
            | InstanceError::Stop(_)
            | InstanceError::Died
            | InstanceError::Storage(_)
            | InstanceError::Delete(_) => Self::internal(&error),
        }
    }
}

impl From<ChooseError> for Failure {
    fn from(error: ChooseError) -> Self {
        let status = match &error {
            ChooseError::NoSuchSnapshot { .. }
            | ChooseError::NoSnapshots { .. }
            | ChooseError::NoSnapshotAsOf { .. } => StatusCode::NOT_FOUND,
            ChooseError::Revision(
                RevisionError::Unknown { .. }
                | RevisionError::Ambiguous { .. }
                | RevisionError::ListingMissing { .. },
            ) => StatusCode::BAD_REQUEST,
            ChooseError::NoCompatibleSnapshot { .. } => StatusCode::CONFLICT,
            ChooseError::IndexUnavailable
            | ChooseError::Revision(RevisionError::Repository { .. }) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let error = ClientError::from(&error);
        let info = ErrorInfo {
            message: error.message,
            detail: error.detail,
            hint: error.hint,
        };
        Self { status, info }
    }
}

/// A body that is no JSON of the right form.
pub(super) fn bad_json(error: JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    Failure::bad_request(error_chain(&error)).into()
}

/// A query string of the wrong form.
pub(super) fn bad_query(error: QueryPayloadError, _: &HttpRequest) -> actix_web::Error {
    Failure::bad_request(error_chain(&error)).into()
}

/// A path that is not served.
pub(super) async fn no_such_path(request: HttpRequest) -> HttpResponse {
    let message = format!("there is no {} {}", request.method(), request.path());
    Failure::not_found(message).error_response()
}
