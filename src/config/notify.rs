//! `[[notify]]`: the targets, and the events that each is told of.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::Scheme;

use super::prepare::{absolute_program, program_problem};
use super::section::{Report, SIMILAR_MIN, Section, kind};
use super::value::{Value, string};
use super::{Config, Fault};

/// The most targets.
const TARGETS_MAX: usize = 20;
/// The time of an attempt.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// A target that takes longer would fill its queue.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// A shorter key could be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// What may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotifyEvent {
    /// An instance is marked as expired.
    Expiring,
    /// The pin of an instance or a snapshot ends within a day.
    PinEnding,
    /// A refresh failed, the first one since the last success.
    RefreshFailed,
    /// The newest snapshot of a project is older than its schedule promises.
    RefreshLate,
    /// The disk is above its mark, or below its reserve.
    DiskHigh,
    /// A job has done its work.
    JobDone,
    /// A job failed.
    JobFailed,
    /// An instance failed.
    InstanceFailed,
}

impl NotifyEvent {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Expiring,
        Self::PinEnding,
        Self::RefreshFailed,
        Self::RefreshLate,
        Self::DiskHigh,
        Self::JobDone,
        Self::JobFailed,
        Self::InstanceFailed,
    ];

    /// The word in the configuration and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expiring => "expiring",
            Self::PinEnding => "pin_ending",
            Self::RefreshFailed => "refresh_failed",
            Self::RefreshLate => "refresh_late",
            Self::DiskHigh => "disk_high",
            Self::JobDone => "job_done",
            Self::JobFailed => "job_failed",
            Self::InstanceFailed => "instance_failed",
        }
    }
}

impl Value for NotifyEvent {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        if let Some(event) = Self::ALL.into_iter().find(|event| event.name() == text) {
            return Ok(event);
        }
        let likeness = |event: &Self| strsim::jaro_winkler(event.name(), &text);
        let best = Self::ALL.into_iter();
        let best = best.max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
        Err(match best.filter(|best| likeness(best) >= SIMILAR_MIN) {
            Some(best) => format!("\"{text}\" is no event; did you mean \"{}\"?", best.name()),
            None => {
                let names = Self::ALL.map(|event| format!("\"{}\"", event.name()));
                format!("\"{text}\" is no event; events: {}", names.join(", "))
            }
        })
    }

    fn show(&self) -> toml::Value {
        string(self.name())
    }
}

/// One section.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifyConfig {
    /// The events that are told.
    pub on: Vec<NotifyEvent>,
    /// Who is told.
    pub target: NotifyTarget,
    /// The time of an attempt.
    pub timeout: Duration,
}

/// Who is told.
#[derive(Debug, Clone, PartialEq)]
pub enum NotifyTarget {
    /// A program, by its absolute path, and its arguments. It reads the event from its standard input.
    Command(Vec<String>),
    /// A URL that the event is posted to.
    Webhook {
        /// The URL.
        url: WebhookUrl,
        /// The key by which it is signed, if it is.
        secret: Option<NotifySecret>,
    },
}

impl fmt::Display for NotifyTarget {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => f.write_str(command.first().map_or("", String::as_str)),
            Self::Webhook { url, .. } => url.fmt(f),
        }
    }
}

/// The URL of a webhook. Those of chats have a token in their path, so that it is shown without it.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Uri);

impl WebhookUrl {
    /// The URL.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether it is encrypted on its way.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// The host, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let default = if self.is_https() { 443 } else { 80 };
        self.0.port_u16().unwrap_or(default)
    }

    fn is_loopback(&self) -> bool {
        let address: Result<std::net::IpAddr, _> = self.host().parse();
        address.map_or(self.host() == "localhost", |one| one.is_loopback())
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self.0.authority().map_or("", |one| one.as_str());
        let rest = match self.0.path_and_query().map_or("/", |one| one.as_str()) {
            "/" => "/",
            _ => "/***",
        };
        write!(f, "{scheme}://{authority}{rest}")
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Value for WebhookUrl {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        let like = "a URL such as \"https://chat.internal/hook\"";
        if !text.starts_with("https://") && !text.starts_with("http://") {
            return Err(format!("is not {like}: it begins with https:// or http://"));
        }
        let uri = text.parse();
        let uri: Uri = uri.map_err(|error| format!("is not {like}: {error}"))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(format!("is not {like}: it has no host"));
        }
        let has_login = uri
            .authority()
            .is_some_and(|one| one.as_str().contains('@'));
        if has_login {
            return Err(
                "has a login, which is not sent; sign the messages by secret_file".to_owned(),
            );
        }
        Ok(Self(uri))
    }

    fn show(&self) -> toml::Value {
        string(self.to_string())
    }
}

/// The key that signs messages.
#[derive(Clone, PartialEq, Eq)]
pub enum NotifySecret {
    /// The key itself.
    Key(String),
    /// A file with the key, read at each attempt so that it can be replaced.
    File(PathBuf),
}

impl fmt::Debug for NotifySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => f.write_str("Key(***)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl NotifySecret {
    /// The key. Blocks while it reads its file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or its key is too short.
    pub fn key(&self) -> Result<String, String> {
        let key = match self {
            Self::Key(key) => key.clone(),
            Self::File(path) => {
                let read = std::fs::read_to_string(path);
                let text =
                    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                text.trim().to_owned()
            }
        };
        if key.len() < SECRET_BYTES_MIN {
            return Err(format!(
                "the key has {} bytes, and at least {SECRET_BYTES_MIN} are needed; \
                 \"openssl rand -hex 32\" makes one",
                key.len()
            ));
        }
        Ok(key)
    }
}

/// A key of the file, which is not shown.
struct SecretKey(String);

impl Value for SecretKey {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let key = NotifySecret::Key(String::read(value)?);
        key.key().map(Self)
    }

    fn show(&self) -> toml::Value {
        string("***")
    }
}

/// Reads all sections, in their order.
pub(super) fn read(top: &mut Section, report: &mut Report) -> Vec<NotifyConfig> {
    let items = match top.take("notify") {
        None => return Vec::new(),
        Some(toml::Value::Array(items)) => items,
        Some(other) => {
            let message = format!(
                "is {}, but must be a list of sections: write [[notify]]",
                kind(&other)
            );
            report.fault("notify", message);
            return Vec::new();
        }
    };
    if items.len() > TARGETS_MAX {
        report.fault("notify", format!("has more than {TARGETS_MAX} sections"));
    }
    let mut targets = Vec::new();
    for (number, item) in (1..).zip(items) {
        let key = format!("notify[{number}]");
        match item {
            toml::Value::Table(table) => targets.extend(one(Section::at(key, table), report)),
            other => {
                let message = format!("is {}, but must be a section", kind(&other));
                report.fault(key, message);
            }
        }
    }
    targets
}

fn one(mut section: Section, report: &mut Report) -> Option<NotifyConfig> {
    let faults = report.faults.len();
    let on: Option<Vec<NotifyEvent>> = section.required("on", report);
    if on.as_ref().is_some_and(Vec::is_empty) {
        report.fault(section.key("on"), "is empty, so nothing would be told");
    }
    let timeout = section.get("timeout", TIMEOUT_DEFAULT, report);
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        report.fault(section.key("timeout"), "must be between 1ms and 5m");
    }
    let target = target(&mut section, report);
    section.close(report);
    if report.faults.len() > faults {
        return None;
    }
    Some(NotifyConfig {
        on: on?,
        target: target?,
        timeout,
    })
}

fn target(section: &mut Section, report: &mut Report) -> Option<NotifyTarget> {
    let sets = (section.sets("webhook"), section.sets("command"));
    let url: Option<WebhookUrl> = section.optional("webhook", report);
    let command: Option<Vec<String>> = section.optional("command", report);
    let key: Option<SecretKey> = section.optional("secret", report);
    let file: Option<PathBuf> = section.optional("secret_file", report);
    let path = section.path().to_owned();
    match sets {
        (true, true) => report.fault(&path, "has both webhook and command: write two [[notify]]"),
        (false, false) => report.fault(
            &path,
            "needs webhook = \"https://…\" or command = [\"/a/program\"]",
        ),
        (true, false) | (false, true) => {}
    }
    if key.is_some() && file.is_some() {
        report.fault(&path, "has both secret and secret_file");
    }
    if sets == (false, true) && (key.is_some() || file.is_some()) {
        report.fault(&path, "has a secret, but only a webhook is signed");
    }
    if let Some(url) = &url
        && !url.is_https()
        && !url.is_loopback()
    {
        let message = "is not encrypted: names of instances and errors can be read on the network; use https://";
        report.warning(section.key("webhook"), message);
    }
    if let Some(message) = command.as_deref().and_then(absolute_program) {
        report.fault(section.key("command"), message);
    }
    if let Some(command) = command {
        return Some(NotifyTarget::Command(command));
    }
    let key = key.map(|SecretKey(key)| NotifySecret::Key(key));
    let secret = key.or(file.map(NotifySecret::File));
    url.map(|url| NotifyTarget::Webhook { url, secret })
}

/// The targets that cannot be told anything, since a file is missing on this machine.
pub fn unusable_targets(config: &Config) -> Vec<Fault> {
    let targets = (1..).zip(&config.notify);
    let problems = targets.filter_map(|(number, one)| match &one.target {
        NotifyTarget::Command(command) => {
            let problem = program_problem(command)?;
            Some(Fault::new(format!("notify[{number}].command"), problem))
        }
        NotifyTarget::Webhook { secret, .. } => {
            let problem = secret.as_ref()?.key().err()?;
            Some(Fault::new(format!("notify[{number}].secret_file"), problem))
        }
    });
    problems.collect()
}
