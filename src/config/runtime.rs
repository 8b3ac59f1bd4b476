//! `[runtime]` and `[clone]`: the runtime of the Postgres servers, and the method of clones.

use bytesize::ByteSize;
use multidb_store::RuntimeKind;

use super::section::{Report, Section};
use super::value::{Value, string, word};

/// The minimum that the Docker engine accepts for a container.
const MEMORY_BYTES_MIN: u64 = 6 << 20;

/// The runtime of the Postgres servers.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeConfig {
    /// The kind; none is the one of the root, which is `docker` where an engine answers at its first start.
    pub kind: Option<RuntimeKind>,
    /// The image of a container; `{major}` stands for the major version of Postgres.
    pub image: String,
    /// The network of a container.
    pub network: Network,
    /// The memory of one container.
    pub memory_bytes: u64,
    /// The processors of one container.
    pub cpus: f64,
    /// The user that Postgres runs as if the daemon is root.
    pub user: String,
}

/// The words of the kinds of runtimes.
const KIND_WORDS: [(&str, RuntimeKind); 2] = [
    ("docker", RuntimeKind::Docker),
    ("process", RuntimeKind::Process),
];

/// How clones are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneMethod {
    /// The best of the next two that works. Never a full copy.
    Auto,
    /// A snapshot of a Btrfs subvolume.
    BtrfsSnapshot,
    /// FICLONE of each file.
    Reflink,
    /// A full copy.
    Copy,
}

impl CloneMethod {
    const WORDS: [(&str, Self); 4] = [
        ("auto", Self::Auto),
        ("btrfs-snapshot", Self::BtrfsSnapshot),
        ("reflink", Self::Reflink),
        ("copy", Self::Copy),
    ];
}

/// The network of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Only a loopback, which all instances share.
    None,
    /// A namespace of its own.
    Private,
    /// A network of the Docker engine.
    Named(String),
}

fn name_of<T: Copy + PartialEq>(words: &[(&'static str, T)], word: T) -> &'static str {
    let found = words.iter().find(|(_, other)| *other == word);
    found.map_or("", |(name, _)| name)
}

impl Value for RuntimeKind {
    fn read(value: &toml::Value) -> Result<Self, String> {
        word(value, &KIND_WORDS)
    }

    fn show(&self) -> toml::Value {
        string(name_of(&KIND_WORDS, *self))
    }
}

impl Value for CloneMethod {
    fn read(value: &toml::Value) -> Result<Self, String> {
        word(value, &Self::WORDS)
    }

    fn show(&self) -> toml::Value {
        string(name_of(&Self::WORDS, *self))
    }
}

impl Value for Network {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let name = String::read(value)?;
        match name.as_str() {
            "none" => Ok(Self::None),
            "private" => Ok(Self::Private),
            // It would connect every server to the host's network.
            "host" => Err("\"host\" is refused: it would expose every instance".to_owned()),
            _ => Ok(Self::Named(name)),
        }
    }

    fn show(&self) -> toml::Value {
        string(match self {
            Self::None => "none",
            Self::Private => "private",
            Self::Named(name) => name,
        })
    }
}

pub(super) fn read(mut section: Section, report: &mut Report) -> RuntimeConfig {
    let kind = section.optional("kind", report);
    if kind.is_none() {
        let text = "docker if an engine answers, else process";
        report.setting("runtime.kind", string(text), super::Origin::Default);
    }
    let image = section.get("image", "postgres:{major}".to_owned(), report);
    if let Err(message) = check_image(&image) {
        report.fault("runtime.image", message);
    }
    let network = section.get("network", Network::None, report);
    let memory = section.get("memory", ByteSize::gib(1), report);
    if memory.as_u64() < MEMORY_BYTES_MIN {
        report.fault("runtime.memory", "is less than 6MiB, the minimum of Docker");
    }
    let cpus = section.get("cpus", 2.0, report);
    if cpus < 0.01 {
        report.fault("runtime.cpus", "must be at least 0.01");
    }
    let user = section.get("user", "postgres".to_owned(), report);
    section.close(report);
    RuntimeConfig {
        kind,
        image,
        network,
        memory_bytes: memory.as_u64(),
        cpus,
        user,
    }
}

/// An image without a tag is `latest`, whose major version differs from the data's one day.
fn check_image(image: &str) -> Result<(), String> {
    if image.contains(char::is_whitespace) {
        return Err(format!("\"{image}\" contains a space"));
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    let tag = last.split_once(':').map_or("", |(_, tag)| tag);
    if tag.is_empty() {
        return Err(format!(
            "\"{image}\" has no tag; \"{last}:{{major}}\" uses the major version of the data"
        ));
    }
    Ok(())
}

pub(super) fn clone_method(mut section: Section, report: &mut Report) -> CloneMethod {
    let method = section.get("method", CloneMethod::Auto, report);
    section.close(report);
    method
}
