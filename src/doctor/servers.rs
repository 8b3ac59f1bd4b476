//! The runtime of the Postgres servers.

use std::collections::BTreeMap;

use multidb_actors::ports::RuntimeError;
use multidb_store::{Layout, SnapshotRecord};

use super::{Finding, Level};
use crate::config::{Config, RuntimeKind};
use crate::daemon::{host, root};
use crate::runtime::binaries::Binaries;
use crate::runtime::data_owner;
use crate::runtime::docker::{default_socket, missing_images, probe_engine};
use crate::runtime::extensions::{HINT, lacking, of_programs};
use crate::runtime::process::Confinement;

/// The runtime that `serve` chooses, and whether it has the majors of the snapshots.
pub(super) async fn examine(config: &Config, snapshots: &[SnapshotRecord]) -> Vec<Finding> {
    let kind = match host::kinds(config).await {
        Ok(kinds) => kinds.used,
        Err(error) => return vec![finding(Level::Fail, format!("{error:#}"))],
    };
    let mut findings = Vec::new();
    let mut program_directories = Vec::new();
    match kind {
        RuntimeKind::Docker => {
            findings.push(engine().await);
            findings.extend(images(&config.runtime.image, snapshots).await);
        }
        RuntimeKind::Process => {
            let binaries = Binaries::search();
            program_directories = binaries.directories();
            findings.extend(programs(&binaries.majors(), snapshots));
            findings.extend(missing_extensions(&binaries, snapshots).await);
            findings.extend(sandbox(&Confinement::probe().gaps()));
        }
    }
    match data_owner(&config.runtime.user) {
        Ok(owner) => {
            let layout = Layout::new(&config.root);
            let data = root::check_access(&layout, kind, owner);
            findings.extend(data.err().map(|error| failed("root", &error)));
            let programs = root::check_directories(&program_directories, owner);
            findings.extend(programs.err().map(|error| failed("runtime", &error)));
        }
        Err(error) => findings.push(failed("runtime", &error)),
    }
    findings
}

fn finding(level: Level, message: impl Into<String>) -> Finding {
    Finding::new(level, "runtime", message)
}

fn failed(subject: &str, error: &RuntimeError) -> Finding {
    let finding = Finding::new(Level::Fail, subject, &*error.message);
    match &error.hint {
        Some(hint) => finding.hint(hint),
        None => finding,
    }
}

async fn engine() -> Finding {
    match probe_engine(&default_socket()).await {
        Ok(engine) => finding(
            Level::Ok,
            format!("docker {}, API {}", engine.version, engine.api),
        ),
        Err(error) => failed("runtime", &error),
    }
}

/// The protections that the sandbox of the servers lacks on this machine.
fn sandbox(gaps: &[&str]) -> Vec<Finding> {
    const HINT: &str = "Use a kernel of 6.12 or later with Landlock, and allow the daemon to make namespaces \
        (as root, or by kernel.unprivileged_userns_clone), or run Docker.";
    if gaps.is_empty() {
        let message = "servers run in a sandbox of Landlock and namespaces";
        return vec![Finding::new(Level::Ok, "sandbox", message)];
    }
    let finding = |gap: &&str| Finding::new(Level::Warn, "sandbox", *gap).hint(HINT);
    gaps.iter().map(finding).collect()
}

/// The images that the engine lacks. An engine that does not answer has its own finding.
async fn images(template: &str, snapshots: &[SnapshotRecord]) -> Vec<Finding> {
    let needed = needed_majors(snapshots);
    let majors = needed.keys().copied();
    let missing = missing_images(&default_socket(), template, majors).await;
    let missing = missing.unwrap_or_default().into_iter();
    missing
        .map(|(major, name)| missing_image(&name, needed.get(&major).map_or(&[], Vec::as_slice)))
        .collect()
}

fn missing_image(name: &str, snapshots: &[&str]) -> Finding {
    let message = format!(
        "docker lacks the image {name}, which is needed for {}",
        snapshots.join(", ")
    );
    let hint = format!(
        "Run \"docker pull {name}\"; else the first start waits for the engine to pull it."
    );
    finding(Level::Warn, message).hint(hint)
}

/// The majors of the snapshots, with the snapshots of each.
fn needed_majors(snapshots: &[SnapshotRecord]) -> BTreeMap<u16, Vec<&str>> {
    let mut needed: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for snapshot in snapshots {
        let of_major = needed.entry(snapshot.postgres_major).or_default();
        of_major.push(snapshot.id.as_str());
    }
    needed
}

/// The installed majors, and the missing ones.
fn programs(installed: &[u16], snapshots: &[SnapshotRecord]) -> Vec<Finding> {
    let needed = needed_majors(snapshots);
    let mut findings = Vec::new();
    if installed.is_empty() {
        findings.push(
            finding(Level::Fail, "process, but PostgreSQL is not installed")
                .hint("Install it (on Debian: apt-get install postgresql), or run Docker."),
        );
    } else {
        let majors: Vec<_> = installed.iter().map(u16::to_string).collect();
        let message = format!("process, with PostgreSQL {}", majors.join(", "));
        findings.push(finding(Level::Ok, message));
    }
    for (major, of_major) in needed
        .iter()
        .filter(|(major, _)| !installed.contains(major))
    {
        let message = format!(
            "PostgreSQL {major} is not installed, but is needed for {}",
            of_major.join(", ")
        );
        let hint = format!("Install it (on Debian: apt-get install postgresql-{major}).");
        findings.push(finding(Level::Fail, message).hint(hint));
    }
    findings
}

/// The extensions of snapshots that the local programs lack. The daemon warns of the extensions that images lack at its
/// start.
async fn missing_extensions(binaries: &Binaries, snapshots: &[SnapshotRecord]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for major in needed_majors(snapshots).into_keys() {
        let installed = binaries.installation(major).await.ok();
        let installed = installed.and_then(|found| of_programs(&found.directory, major));
        let of_major = snapshots.iter().filter(|one| one.postgres_major == major);
        findings.extend(installed.into_iter().flat_map(|installed| {
            let lacking = lacking(of_major.clone(), &installed).into_iter();
            let finding = |(extension, needed): (&str, Vec<&str>)| {
                let needed = needed.join(", ");
                let message = format!("PostgreSQL {major} lacks the extension {extension}, which is needed for {needed}");
                finding(Level::Warn, message).hint(HINT)
            };
            lacking.map(finding).collect::<Vec<_>>()
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use multidb_actors::testing;

    use super::*;

    fn snapshot(id: &str, postgres_major: u16) -> SnapshotRecord {
        SnapshotRecord {
            postgres_major,
            ..testing::snapshot(id, 0, &[])
        }
    }

    #[test]
    fn gaps_of_the_sandbox_are_warnings_with_a_hint() {
        assert_eq!(sandbox(&[])[0].level, Level::Ok);
        let findings = sandbox(&["no TCP", "no signals"]);
        assert_eq!(findings.len(), 2);
        assert_eq!(findings[1].level, Level::Warn);
        assert_eq!(findings[1].message, "no signals");
        assert!(findings[1].hint.as_ref().unwrap().contains("Landlock"));
    }

    #[tokio::test]
    async fn missing_extension_is_reported_with_its_snapshots() {
        let binaries = Binaries::search();
        let major = *binaries.majors().last().unwrap();
        let with = |id: &str, extensions: &[&str]| SnapshotRecord {
            extensions: extensions.iter().map(|&name| name.to_owned()).collect(),
            ..snapshot(id, major)
        };
        let snapshots = [
            with("old", &["acme"]),
            with("new", &["acme", "plpgsql"]),
            with("plain", &[]),
        ];
        let findings = missing_extensions(&binaries, &snapshots).await;
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Warn);
        let expected =
            format!("PostgreSQL {major} lacks the extension acme, which is needed for old, new");
        assert_eq!(findings[0].message, expected);
    }

    #[test]
    fn missing_image_is_reported_with_its_snapshots_and_the_command() {
        let snapshots = [snapshot("old", 9), snapshot("older", 9)];
        let needed = needed_majors(&snapshots);
        let found = missing_image("postgres:9", &needed[&9]);
        assert_eq!(found.level, Level::Warn);
        assert!(found.message.contains("postgres:9") && found.message.contains("old, older"));
        assert!(found.hint.unwrap().contains("docker pull postgres:9"));
    }

    #[test]
    fn missing_major_is_reported_with_its_snapshots() {
        let snapshots = [snapshot("old", 9), snapshot("older", 9)];
        let findings = programs(&[15], &snapshots);
        let missing = findings.last().unwrap();
        assert_eq!(missing.level, Level::Fail);
        assert!(missing.message.contains("PostgreSQL 9 is not installed"));
        assert!(missing.message.contains("old, older"));
        assert!(missing.hint.as_ref().unwrap().contains("postgresql-9"));
    }
}
