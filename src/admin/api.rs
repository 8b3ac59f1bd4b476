//! The paths and the JSON of the admin socket.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | [`StatusView`] |
//! | `GET /v1/doctor` | list of [`Finding`](crate::doctor::Finding), for administrators; it can take as long as a repository does not answer |
//! | `GET /v1/instances?project=&state=&created_by=&after=&limit=` | list of [`InstanceView`] in name order, as all lists with `Link: rel="next"` where a limit cut it |
//! | `POST /v1/instances` | takes a [`CreateBody`]; [`InstanceView`] once the new instance runs |
//! | `GET /v1/instances/{name}` | [`InstanceView`] with `exclusive_bytes` and `awake_because` |
//! | `DELETE /v1/instances/{name}` | [`DeletedView`] |
//! | `POST /v1/instances/{name}/{start,stop,reset,pin,unpin,recover,rename}` | [`InstanceView`]; `pin` takes a [`PinBody`], `recover` a [`RecoverBody`], `rename` a [`RenameBody`] |
//! | `POST /v1/instances/{name}/diff` | takes a [`DiffBody`]; [`DiffView`] |
//! | `GET /v1/instances/{name}/logs?lines=N` | [`LogsView`] |
//! | `GET /v1/snapshots?after=&limit=` | list of [`SnapshotView`] |
//! | `GET /v1/snapshots/{id}` | [`SnapshotView`] with `applied` |
//! | `DELETE /v1/snapshots/{id}?force=true` | nothing |
//! | `POST /v1/snapshots/{id}/{pin,unpin}` | [`SnapshotView`]; `pin` takes a [`PinBody`] |
//! | `POST /v1/snapshots/import` | takes an [`ImportBody`]; the [`JobView`] of its job, with status 202 |
//! | `POST /v1/snapshots/refresh` | takes a [`RefreshBody`]; the [`JobView`] of its job, with status 202 |
//! | `PUT /v1/jobs/{id}/upload` | takes the dump of a job with an `upload` as its source; [`JobView`] once the job has all of it, or has ended |
//! | `GET /v1/snapshots/explain?project=P&gitref=REF` | [`ExplainView`] |
//! | `GET /v1/jobs?after=&limit=` | list of [`JobView`] in the order of their numbers |
//! | `GET /v1/jobs/{id}` | [`JobView`] |
//! | `GET /v1/jobs/{id}/events` | a line of JSON for each change, at least each second, until the job has ended: [`JobView`] |
//! | `POST /v1/jobs/{id}/cancel` | [`JobView`] after the job was cleaned up |
//! | `GET /v1/dedup` | [`DedupView`] |
//! | `POST /v1/dedup/run` | list of [`JobView`]: the jobs that were started, with status 202 |
//! | `POST /v1/dedup/{pause,resume}` | [`DedupView`] |
//! | `GET /v1/connections?after=&limit=` | list of [`ConnectionView`] |
//! | `DELETE /v1/connections/{id}` | nothing |
//! | `GET /metrics` | the metrics, as [`crate::metrics`] has them, as text |
//! | `POST /v1/users/reload` | [`UsersView`] after the file of users was read again |
//! | `POST /v1/notify/test` | list of [`NotifyTestView`] after each target of notifications was tried |
//!
//! An error is an [`ErrorBody`] with status 400, 403, 404, 409, 413, 415 or 500. Fields may be added, so readers
//! ignore unknown ones.
//!
//! [`StatusView`]: crate::control::model::StatusView
//! [`InstanceView`]: crate::control::model::InstanceView
//! [`DeletedView`]: crate::control::model::DeletedView
//! [`DiffView`]: crate::control::model::DiffView
//! [`LogsView`]: crate::control::model::LogsView
//! [`SnapshotView`]: crate::control::model::SnapshotView
//! [`JobView`]: crate::control::model::JobView
//! [`DedupView`]: crate::control::model::DedupView
//! [`ExplainView`]: crate::control::model::ExplainView
//! [`ConnectionView`]: crate::control::model::ConnectionView
//! [`UsersView`]: crate::control::model::UsersView
//! [`NotifyTestView`]: crate::control::model::NotifyTestView

use jiff::Timestamp;
use multidb_store::Class;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use crate::control::model::{OrderSource as ImportSource, ServerInfo, UploadInfo};
pub use crate::import::ErrorPolicy;

use crate::doctor::Refusal;

/// The query of `GET /v1/instances`. Without a limit, the answer has all selected instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct InstancesQuery {
    /// Instances of this project.
    pub project: Option<String>,
    /// Instances in this state.
    pub state: Option<String>,
    /// Instances that this user created.
    pub created_by: Option<String>,
    /// Only instances whose names sort after this one: the last name of the page before.
    pub after: Option<String>,
    /// The longest answer.
    pub limit: Option<usize>,
}

/// The query of the other lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Only what comes after this one: the last of the page before.
    pub after: Option<String>,
    /// The longest answer.
    pub limit: Option<usize>,
}

/// The instance in a path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct InstancePath {
    /// Its name.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    pub name: String,
}

/// The snapshot in a path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct SnapshotPath {
    /// Its id.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    pub id: String,
}

/// The job or the connection in a path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct NumberPath {
    /// Its number.
    pub id: u64,
}

/// The query of `POST /v1/instances/{name}/start`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StartQuery {
    /// Whether the settings that ALTER SYSTEM made are left out.
    #[serde(default)]
    pub without_alter_system: bool,
}

/// The query of `GET /v1/instances/{name}/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// The number of lines.
    pub lines: Option<usize>,
}

/// The query of `DELETE /v1/snapshots/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RemoveQuery {
    /// Whether to delete it although instances need it for a reset.
    #[serde(default)]
    pub force: bool,
}

/// The query of `GET /v1/snapshots/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// The project; needed only if several are configured.
    pub project: Option<String>,
    /// A commit, branch or tag.
    pub gitref: String,
}

/// The body of a rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameBody {
    /// The new name.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    pub new_name: String,
}

/// The body of a recovery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverBody {
    /// The quarantined clone to bring back; without it, the newest of the name.
    #[serde(default)]
    pub uid: Option<String>,
    /// The name that it gets, if it is another one.
    #[serde(default, rename = "as")]
    pub new_name: Option<String>,
}

/// A new instance. Exactly one of `gitref`, `snapshot`, `asof` and `from` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    /// Its name.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    pub name: String,
    /// Its project; needed only if several are configured.
    #[serde(default)]
    pub project: Option<String>,
    /// From the newest snapshot that is compatible with this revision.
    #[serde(default)]
    pub gitref: Option<String>,
    /// From the snapshot of this id, or `latest`.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// From the newest snapshot taken at or before this date or time.
    #[serde(default)]
    pub asof: Option<String>,
    /// From this instance as it is now.
    #[serde(default)]
    pub from: Option<String>,
    /// The seconds without use after which it expires.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub ttl_seconds: Option<u64>,
    /// `durable` or `scratch`.
    #[serde(default)]
    pub class: Option<Class>,
}

/// The body of a pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinBody {
    /// Its time in seconds; without it, the pin has no end.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub for_seconds: Option<u64>,
}

/// How long rows are counted where the request does not say.
pub const DEFAULT_COUNT_SECONDS: u64 = 10;

/// A comparison of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffBody {
    /// The instance that it is compared with; without it, what it was cloned from.
    #[serde(default)]
    pub with: Option<String>,
    /// How long the rows of each are counted, at most 300; the other tables are estimated. The default is 10.
    #[serde(default)]
    #[schema(maximum = 300)]
    pub count_seconds: Option<u64>,
}

/// An import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// The id of the new snapshot.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    pub id: String,
    /// Its project.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    pub project: String,
    /// The data directory or dump.
    #[schema(value_type = SourceSchema)]
    pub source: ImportSource,
    /// When the data was taken; read from the source without it.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub taken_at: Option<Timestamp>,
    /// The major version of Postgres to restore a dump with; that of the dump without it.
    #[serde(default)]
    pub postgres_major: Option<u16>,
    /// What is done at an error of a dump's statement: `default`, `strict` or `keep_going`.
    #[serde(default)]
    pub errors: ErrorPolicy,
}

/// The form of an [`ImportSource`], whose paths and names are texts: one of these keys.
#[derive(ToSchema)]
#[schema(as = ImportSource, rename_all = "snake_case")]
#[expect(dead_code, reason = "it describes another type")]
enum SourceSchema {
    /// The path of the data directory of a Postgres that was shut down cleanly, on the daemon's machine.
    DataDir(String),
    /// The path of a dump on the daemon's machine.
    Dump(String),
    /// A dump that is sent to the job.
    Upload(UploadInfo),
    /// A running server.
    Server(ServerInfo),
    /// An instance as it is now.
    Instance(String),
}

/// A refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshBody {
    /// The project.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    pub project: String,
}

/// The body of a failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorInfo,
}

impl From<ErrorInfo> for Refusal {
    fn from(info: ErrorInfo) -> Self {
        Self {
            message: info.message,
            detail: info.detail,
            hint: info.hint,
        }
    }
}

/// An error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// A stable word in `snake_case`, for programs.
    #[serde(default)]
    pub code: String,
    /// The message, in one line.
    pub message: String,
    /// More about it, in sentences.
    #[serde(default)]
    pub detail: Option<String>,
    /// Advice, in a sentence.
    #[serde(default)]
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn import_body_names_one_source() {
        let body = ImportBody {
            id: "monday".to_owned(),
            project: "polls".to_owned(),
            source: ImportSource::DataDir(PathBuf::from("/d")),
            taken_at: None,
            postgres_major: Some(15),
            errors: ErrorPolicy::KeepGoing,
        };
        let written = to_value(&body).unwrap();
        assert_eq!(written["source"], json!({"data_dir": "/d"}));
        assert_eq!(from_value::<ImportBody>(written).unwrap(), body);
        let short = json!({"id": "i", "project": "p", "source": {"dump": "/x"}});
        let short = from_value::<ImportBody>(short).unwrap();
        assert_eq!(short.source, ImportSource::Dump(PathBuf::from("/x")));
        assert_eq!(short.errors, ErrorPolicy::Default);
        let sent = json!({"id": "i", "project": "p", "source": {"upload": {"name": "-"}}});
        let sent = from_value::<ImportBody>(sent).unwrap();
        let ImportSource::Upload(upload) = sent.source else {
            panic!("{sent:?}");
        };
        assert_eq!((upload.name, upload.bytes), (PathBuf::from("-"), None));
    }
}
