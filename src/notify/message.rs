//! The message: an occurrence, or many of one kind together, as JSON.

use bytes::Bytes;
use jiff::Timestamp;
use multidb_store::{InstanceName, JobId, ProjectName, SnapshotId};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedSender;

use crate::config::NotifyEvent;

/// The event of a message that was asked for.
const TEST: &str = "test";
/// The names in a message about many.
const NAMES_MAX: usize = 10;
/// The longest text, in characters. An error may quote text of a dump.
const TEXT_CHARS_MAX: usize = 2000;
/// The bytes of a hash that make an id.
const ID_BYTES: usize = 12;

/// Something that is the case, or has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// Stable for as long as it is the same one: also after a restart.
    pub key: String,
    /// Its kind.
    pub event: NotifyEvent,
    /// The project, instance, snapshot or job that it concerns.
    pub subject: Subject,
    /// The event, in a sentence.
    pub message: String,
    /// The remedy, in sentences.
    pub action: String,
}

/// The subject of an event. The others are null in its JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// The project.
    pub project: Option<ProjectName>,
    /// The instance.
    pub instance: Option<InstanceName>,
    /// The snapshot.
    pub snapshot: Option<SnapshotId>,
    /// The number of the job.
    pub job: Option<JobId>,
}

/// The JSON of a message. Fields may be added.
#[derive(Debug, Serialize)]
struct Body<'a> {
    event: &'a str,
    id: &'a str,
    time: Timestamp,
    #[serde(flatten)]
    subject: &'a Subject,
    /// How many occurrences the message tells of.
    count: usize,
    /// The first names, where it is more than one.
    names: Vec<String>,
    message: &'a str,
    action: &'a str,
    text: String,
}

/// A message to all targets that want its event. When it is dropped, delivered or not, its keys are settled.
#[derive(Debug)]
pub struct Message {
    event: Option<NotifyEvent>,
    id: String,
    body: Bytes,
    keys: Vec<String>,
    settled: Option<UnboundedSender<Vec<String>>>,
}

impl Message {
    /// A message about these occurrences, all of one kind, of which there is at least one. Sends their keys to
    /// `settled` at its end.
    pub fn new(
        occurrences: Vec<Occurrence>,
        time: Timestamp,
        settled: UnboundedSender<Vec<String>>,
    ) -> Option<Self> {
        let first = occurrences.first()?;
        let event = first.event;
        let (subject, message, action, names) = match occurrences.as_slice() {
            [only] => {
                let (message, action) = (only.message.clone(), only.action.clone());
                (only.subject.clone(), message, action, Vec::new())
            }
            many => {
                let names = many.iter().map(|one| one.subject.name());
                let names: Vec<String> = names.take(NAMES_MAX).collect();
                let message = summary(event, many.len(), &names);
                let subject = common(many);
                (subject, message, common_action(event).to_owned(), names)
            }
        };
        let keys: Vec<String> = occurrences.iter().map(|one| one.key.clone()).collect();
        let id = id(&keys);
        let body = Body {
            event: event.name(),
            id: &id,
            time,
            subject: &subject,
            count: keys.len(),
            names,
            message: &printable(&message, TEXT_CHARS_MAX),
            action: &printable(&action, TEXT_CHARS_MAX),
            text: text(&message, &action),
        };
        Some(Self {
            event: Some(event),
            body: encode(&body),
            id,
            keys,
            settled: Some(settled),
        })
    }

    /// A message that tries the targets.
    pub fn test(time: Timestamp) -> Self {
        let id = id(&[format!("{TEST}/{time}")]);
        let message = "This is a test of the notifications of multidb.";
        let action = "Nothing is to be done.";
        let body = Body {
            event: TEST,
            id: &id,
            time,
            subject: &Subject::default(),
            count: 1,
            names: Vec::new(),
            message,
            action,
            text: text(message, action),
        };
        Self {
            event: None,
            body: encode(&body),
            id,
            keys: Vec::new(),
            settled: None,
        }
    }

    /// Its kind; `None` for a test.
    pub fn event(&self) -> Option<NotifyEvent> {
        self.event
    }

    /// The word for its kind.
    pub fn event_word(&self) -> &'static str {
        self.event.map_or(TEST, NotifyEvent::name)
    }

    /// The same for every delivery of the message, also after a restart.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The JSON.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Some(settled) = &self.settled {
            // Without a receiver, the daemon stops, and tells it again at its next start.
            let _stopping = settled.send(std::mem::take(&mut self.keys));
        }
    }
}

impl Subject {
    /// Its name in a list.
    fn name(&self) -> String {
        if let Some(instance) = &self.instance {
            return instance.to_string();
        }
        if let Some(job) = self.job {
            return job.to_string();
        }
        let snapshot = self.snapshot.as_ref().map(ToString::to_string);
        let project = || self.project.as_ref().map(ToString::to_string);
        snapshot.or_else(project).unwrap_or_default()
    }
}

/// The subject that all occurrences have in common.
fn common(occurrences: &[Occurrence]) -> Subject {
    let projects = occurrences.iter().map(|one| &one.subject.project);
    let mut distinct: Vec<_> = projects.collect();
    distinct.dedup();
    Subject {
        project: match distinct.as_slice() {
            [project] => (*project).clone(),
            _ => None,
        },
        ..Subject::default()
    }
}

fn summary(event: NotifyEvent, count: usize, names: &[String]) -> String {
    let what = match event {
        NotifyEvent::Expiring => "instances are marked as expired",
        NotifyEvent::PinEnding => "pins end within a day",
        NotifyEvent::RefreshFailed => "projects have a refresh that failed",
        NotifyEvent::RefreshLate => "projects have no snapshot as new as their schedule promises",
        NotifyEvent::DiskHigh => "marks of the disk are reached",
        NotifyEvent::JobDone => "jobs are done",
        NotifyEvent::JobFailed => "jobs failed",
        NotifyEvent::InstanceFailed => "instances failed",
    };
    let rest = match count.saturating_sub(names.len()) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!("{count} {what}: {}{rest}.", names.join(", "))
}

fn common_action(event: NotifyEvent) -> &'static str {
    match event {
        NotifyEvent::Expiring => {
            "They are deleted after limits.expiry_grace. A connection to one keeps it, and so does \
             \"multidb instance pin NAME\"; \"multidb instance ls\" shows which ones are marked."
        }
        NotifyEvent::PinEnding => {
            "\"multidb instance pin NAME --for 30d\" and \"multidb snapshot pin ID --for 30d\" pin them for longer."
        }
        NotifyEvent::RefreshFailed | NotifyEvent::RefreshLate => {
            "\"multidb job ls\" and \"multidb status\" say what became of the refreshes."
        }
        NotifyEvent::DiskHigh => {
            "\"multidb instance ls\" and \"multidb snapshot ls\" show what each takes: remove what nobody needs, or enlarge the disk."
        }
        NotifyEvent::JobDone => "Nothing is to be done.",
        NotifyEvent::JobFailed => "\"multidb job show ID\" says why.",
        NotifyEvent::InstanceFailed => "\"multidb instance show NAME\" says why, and what to do.",
    }
}

/// Both in one, for chats. Mentions and links of a chat's markup are disabled, since an error may have any text.
fn text(message: &str, action: &str) -> String {
    let text = printable(&format!("multidb: {message} {action}"), TEXT_CHARS_MAX);
    let text = text.replace('<', "\u{2039}").replace('>', "\u{203a}");
    text.replace('@', "@\u{200b}")
}

/// A text in one line without control characters, cut to so many characters.
pub(super) fn printable(text: &str, chars_max: usize) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(chars_max).map(shown).collect();
    if text.chars().nth(chars_max).is_some() {
        shown.push('…');
    }
    shown
}

/// A short hash of the keys.
fn id(keys: &[String]) -> String {
    let hash = Sha256::digest(keys.join("\n").as_bytes());
    hex::encode(&hash[..ID_BYTES])
}

fn encode(body: &Body<'_>) -> Bytes {
    // Serialization of these types cannot fail: they have no maps and no fallible parts.
    Bytes::from(serde_json::to_vec(body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::*;

    fn expiring(name: &str, project: &str) -> Occurrence {
        Occurrence {
            key: format!("expiring/{name}"),
            event: NotifyEvent::Expiring,
            subject: Subject {
                project: Some(project.parse().unwrap()),
                instance: Some(name.parse().unwrap()),
                ..Subject::default()
            },
            message: format!("Instance \"{name}\" is marked."),
            action: "Use it.".to_owned(),
        }
    }

    fn body(occurrences: Vec<Occurrence>) -> Value {
        let (settled, _receiver) = mpsc::unbounded_channel();
        let message = Message::new(occurrences, Timestamp::UNIX_EPOCH, settled).unwrap();
        serde_json::from_slice(message.body()).unwrap()
    }

    #[test]
    fn one_occurrence_is_told_with_its_subject() {
        let told = body(vec![expiring("a", "shop")]);
        let expected = json!({
            "event": "expiring",
            "id": told["id"],
            "time": "1970-01-01T00:00:00Z",
            "project": "shop",
            "instance": "a",
            "snapshot": null,
            "job": null,
            "count": 1,
            "names": [],
            "message": "Instance \"a\" is marked.",
            "action": "Use it.",
            "text": "multidb: Instance \"a\" is marked. Use it.",
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn many_are_told_with_their_count_and_the_first_names() {
        let many: Vec<_> = (0..500)
            .map(|n| expiring(&format!("i{n:03}"), "shop"))
            .collect();
        let told = body(many.clone());
        assert_eq!(told["count"], 500);
        assert_eq!(told["project"], "shop");
        assert_eq!(told["instance"], Value::Null);
        assert_eq!(told["names"].as_array().unwrap().len(), NAMES_MAX);
        let message = told["message"].as_str().unwrap();
        assert_eq!(
            message,
            "500 instances are marked as expired: i000, i001, i002, i003, i004, i005, i006, i007, i008, i009 and 490 more."
        );
        assert_eq!(body(many)["id"], told["id"]);
        let mixed = body(vec![expiring("a", "shop"), expiring("b", "wiki")]);
        assert_eq!(mixed["project"], Value::Null);
    }

    #[test]
    fn text_has_no_mentions_and_no_control_characters() {
        let told = text("<!channel> @all\n\u{1b}[2J", "x");
        assert!(
            !told.contains(['<', '>', '\n', '\u{1b}']) && !told.contains("@a"),
            "{told}"
        );
        assert_eq!(
            printable(&"ä".repeat(3000), TEXT_CHARS_MAX).chars().count(),
            2001
        );
    }

    #[test]
    fn keys_are_settled_when_the_last_target_is_done() {
        let (settled, mut receiver) = mpsc::unbounded_channel();
        let message = Message::new(vec![expiring("a", "shop")], Timestamp::UNIX_EPOCH, settled);
        let first = std::sync::Arc::new(message.unwrap());
        let second = first.clone();
        drop(first);
        assert!(receiver.try_recv().is_err());
        drop(second);
        assert_eq!(receiver.try_recv().unwrap(), ["expiring/a"]);
    }
}
