//! The connection to the Docker engine: its version, a limit on every call, and errors with hints.
//!
//! Each call opens its own connection (bollard keeps none), so an engine that was restarted needs
//! no reconnecting. bollard 0.21.1 leaves the API version out of the path (its issue 736), which
//! Docker calls deprecated, so the version that both sides know is put in here: an engine as old
//! as Debian's 20.10 refuses a newer one, and a new engine refuses the oldest.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use multidb_actors::ports::RuntimeError;

use super::image::image_name;

/// The socket of an engine, unless `DOCKER_HOST` names another.
const SOCKET_DEFAULT: &str = "/var/run/docker.sock";

/// The limit of a call that moves no data.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The limit of the first call.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// bollard's limit for the head of an answer. The limits here end a call earlier, except for the calls
/// that last as long as a container.
const TRANSPORT_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The oldest API with all the calls that are used here (Docker 20.10).
const API_MIN: ClientVersion = ClientVersion {
    major_version: 1,
    minor_version: 41,
};

/// The version of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// The engine's version, such as `20.10.24`.
    pub version: String,
    /// The API version that multidb speaks with it, such as `1.41`.
    pub api: String,
}

/// The socket of the local engine: `DOCKER_HOST` where it names a Unix socket, else the usual one.
pub fn default_socket() -> PathBuf {
    std::env::var("DOCKER_HOST")
        .ok()
        .and_then(|host| host.strip_prefix("unix://").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from(SOCKET_DEFAULT))
}

/// The version of the engine that answers on `socket`. Takes 5 seconds at most.
pub async fn probe_engine(socket: &Path) -> Result<EngineInfo, RuntimeError> {
    Engine::new(socket).check().await
}

/// The images of these majors that the engine lacks, by name. `template` is the setting `runtime.image`.
///
/// # Errors
///
/// The engine does not answer.
pub async fn missing_images(
    socket: &Path,
    template: &str,
    majors: impl IntoIterator<Item = u16>,
) -> Result<Vec<(u16, String)>, RuntimeError> {
    let engine = Engine::new(socket);
    let mut missing = Vec::new();
    for major in majors {
        let name = image_name(template, major);
        if engine.inspect_image(&name, major).await?.is_none() {
            missing.push((major, name));
        }
    }
    Ok(missing)
}

/// A connection to an engine, cheap to clone.
#[derive(Clone)]
pub(super) struct Engine {
    /// bollard makes one only where the socket exists, which it may not yet.
    docker: Arc<OnceLock<Docker>>,
    socket: Arc<Path>,
    /// The API version in each request's path, once it is known.
    version: Arc<RwLock<Option<String>>>,
}

impl Engine {
    /// An engine that listens at this path, now or later.
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            docker: Arc::default(),
            socket: Arc::from(socket),
            version: Arc::default(),
        }
    }

    /// Asks the engine for its version, and returns the one to speak with it.
    pub(super) async fn check(&self) -> Result<EngineInfo, RuntimeError> {
        self.negotiate().await
    }

    /// bollard's client. Use it inside [`Engine::call`], or bound it otherwise.
    pub(super) fn docker(&self) -> Result<&Docker, CallError> {
        if let Some(docker) = self.docker.get() {
            return Ok(docker);
        }
        let version = Arc::clone(&self.version);
        let docker = Docker::connect_with_unix(
            &self.socket.to_string_lossy(),
            TRANSPORT_TIMEOUT.as_secs(),
            API_DEFAULT_VERSION,
        )
        .map_err(|error| CallError::Failed(failure(&self.socket, "connecting", &error)))?
        .with_request_modifier(move |request| with_version(request, &version));
        Ok(self.docker.get_or_init(|| docker))
    }

    /// Runs one call within [`CALL_TIMEOUT`]. `action` completes "docker failed at …".
    ///
    /// An engine that was replaced by another version refuses the call: then the version is
    /// negotiated again and the call repeated once, which is safe since a refused call did nothing.
    pub(super) async fn call<T, F>(
        &self,
        action: &str,
        make: impl Fn(Docker) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        if self.version().is_none() {
            self.negotiate().await.map_err(CallError::Failed)?;
        }
        let first = self.once(action, make(self.docker()?.clone())).await;
        match first {
            Err(CallError::Refused {
                status: 400,
                ref message,
                ..
            }) if message.contains("client version") => {
                self.negotiate().await.map_err(CallError::Failed)?;
                self.once(action, make(self.docker()?.clone())).await
            }
            result => result,
        }
    }

    async fn once<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, CallError> {
        let result = match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(result) => result,
            Err(_) => Err(Error::RequestTimeoutError),
        };
        result.map_err(|error| self.error(action, &error))
    }

    /// The meaning of an error of bollard.
    pub(super) fn error(&self, action: &str, error: &Error) -> CallError {
        match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => CallError::Refused {
                status: *status_code,
                action: action.to_owned(),
                message: message.trim().to_owned(),
            },
            error => CallError::Failed(failure(&self.socket, action, error)),
        }
    }

    async fn negotiate(&self) -> Result<EngineInfo, RuntimeError> {
        // Without a version in the path, every engine answers this.
        self.set_version(None);
        let docker = self.docker()?;
        let asked = tokio::time::timeout(PROBE_TIMEOUT, docker.version()).await;
        let said = asked
            .unwrap_or(Err(Error::RequestTimeoutError))
            .map_err(|error| failure(&self.socket, "asking for its version", &error))?;
        let version = said.version.unwrap_or_else(|| "unknown".to_owned());
        let newest = said.api_version.as_deref().and_then(parse_version);
        let oldest = said.min_api_version.as_deref().and_then(parse_version);
        let api = choose_version(newest, oldest).ok_or_else(|| RuntimeError {
            for_clients: false,
            message: format!(
                "the docker engine {version} at {} speaks API {} to {}, multidb {API_MIN} to {API_DEFAULT_VERSION}",
                self.socket.display(),
                said.min_api_version.as_deref().unwrap_or("?"),
                said.api_version.as_deref().unwrap_or("?"),
            ),
            hint: Some("Use Docker 20.10 or newer, and a current multidb.".to_owned()),
        })?;
        self.set_version(Some(api.clone()));
        Ok(EngineInfo { version, api })
    }

    fn version(&self) -> Option<String> {
        let version = self.version.read().unwrap_or_else(|e| e.into_inner());
        version.clone()
    }

    fn set_version(&self, version: Option<String>) {
        *self.version.write().unwrap_or_else(|e| e.into_inner()) = version;
    }
}

/// Why a call to the engine failed.
#[derive(Debug, Clone)]
pub(super) enum CallError {
    /// The engine answered, and refused.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The call.
        action: String,
        /// The message of the engine.
        message: String,
    },
    /// There was no valid answer.
    Failed(RuntimeError),
}

impl CallError {
    /// Whether the container or image does not exist.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether the container is in the wrong state, or its name is taken.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    /// The message of the engine, if it answered.
    pub(super) fn engine_message(&self) -> &str {
        match self {
            Self::Refused { message, .. } => message,
            Self::Failed(_) => "",
        }
    }
}

impl From<CallError> for RuntimeError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused {
                action, message, ..
            } => RuntimeError {
                for_clients: false,
                message: format!("docker failed at {action}: {message}"),
                hint: None,
            },
            CallError::Failed(error) => error,
        }
    }
}

fn failure(socket: &Path, action: &str, error: &Error) -> RuntimeError {
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let text = inner.to_string();
        if !cause.contains(&text) {
            cause.push_str(": ");
            cause.push_str(&text);
        }
        source = inner.source();
    }
    let hint = if cause.contains("Permission denied") {
        "Run multidb as root or as a member of the group docker."
    } else {
        "Is it running? Try: systemctl status docker. Without Docker, set runtime.kind = \"process\"."
    };
    RuntimeError {
        for_clients: false,
        message: format!(
            "the docker engine does not answer at {} ({action}): {cause}",
            socket.display()
        ),
        hint: Some(hint.to_owned()),
    }
}

/// Puts the negotiated API version in front of a request's path, in place of bollard's own.
fn with_version(mut request: BollardRequest, version: &RwLock<Option<String>>) -> BollardRequest {
    let version = version.read().unwrap_or_else(|e| e.into_inner()).clone();
    let mut parts = request.uri().clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", |p| p.as_str());
    let path = match path.strip_prefix("/v1.") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => path,
    };
    let path = match version {
        Some(version) => format!("/v{version}{path}"),
        None => path.to_owned(),
    };
    // A version adds only digits and a dot to a valid path.
    if let Ok(path) = path.parse() {
        parts.path_and_query = Some(path);
        if let Ok(uri) = parts.try_into() {
            *request.uri_mut() = uri;
        }
    }
    request
}

fn parse_version(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The newest version that both sides support.
fn choose_version(
    newest: Option<(usize, usize)>,
    oldest: Option<(usize, usize)>,
) -> Option<String> {
    let ours_newest = (
        API_DEFAULT_VERSION.major_version,
        API_DEFAULT_VERSION.minor_version,
    );
    let ours_oldest = (API_MIN.major_version, API_MIN.minor_version);
    let chosen = newest?.min(ours_newest);
    (chosen >= ours_oldest && chosen >= oldest.unwrap_or(ours_oldest))
        .then(|| format!("{}.{}", chosen.0, chosen.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_both_know_is_chosen() {
        let choose = |newest, oldest| choose_version(Some((1, newest)), Some((1, oldest)));
        assert_eq!(choose(41, 12).as_deref(), Some("1.41"));
        assert_eq!(choose(52, 44).as_deref(), Some("1.52"));
        assert_eq!(choose(99, 44).as_deref(), Some("1.53"));
        assert_eq!(choose(40, 12), None, "too old an engine");
        assert_eq!(choose(99, 60), None, "too new an engine");
        assert_eq!(choose_version(None, None), None);
        assert_eq!(parse_version("1.41"), Some((1, 41)));
        assert_eq!(parse_version("one"), None);
    }
}
