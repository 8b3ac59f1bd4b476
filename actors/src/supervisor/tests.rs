//! The Supervisor and the SnapshotIndex against fakes of the ports, in paused time.

mod restoring;

use std::time::Duration;

use jiff::Timestamp;
use multidb_store::{InstanceUid, Phase, Pin, SnapshotId};

use super::expiry::SWEEP_INTERVAL_MAX;
use super::*;
use crate::instance::lifecycle::Command;
use crate::instance::{Attach, InstanceError, Lease};
use crate::ports::{FoundPostgres, FoundServers, RevisionError, WhyUnknown};
use crate::request::SnapshotSelector;
use crate::snapshot_index::cause::Cause;
use crate::snapshot_index::decision::NearestMiss;
use crate::snapshot_index::{AddSnapshot, Choose, ForgetSnapshot};
use crate::testing::{Harness, limits, paused, project, record, snapshot};

mod eviction;
mod expiring;
mod leftovers;
mod recovering;
mod removal;
mod renaming;
mod room;
mod stopped;

fn gitref(name: &str) -> Option<Source> {
    Some(Source::GitRef(name.to_owned()))
}

fn latest() -> Option<Source> {
    Some(Source::Snapshot(SnapshotSelector::Latest))
}

fn refused(result: Result<Acquired, AcquireError>) -> AcquireError {
    result.err().expect("it is refused")
}

async fn attach(world: &Harness, name: &str) -> Result<Lease, InstanceError> {
    let acquired = world.acquire(name, latest()).await.unwrap();
    acquired.addr.send(Attach::default()).await.unwrap()
}

async fn status(world: &Harness, name: &str) -> Option<InstanceStatus> {
    let name = name.parse().unwrap();
    world.supervisor.send(GetInstance(name)).await.unwrap()
}

#[test]
fn the_newest_compatible_snapshot_is_chosen() {
    paused(async {
        let world = Harness::new(limits());
        for (name, source, expected) in [
            ("a", gitref("main"), "s2"),
            ("b", gitref("old"), "s1"),
            ("c", latest(), "s2"),
            (
                "d",
                Some(Source::Snapshot(SnapshotSelector::Id(
                    "s1".parse().unwrap(),
                ))),
                "s1",
            ),
            (
                "e",
                Some(Source::AsOf(Timestamp::from_second(150).unwrap())),
                "s1",
            ),
        ] {
            let acquired = world.acquire(name, source).await.unwrap();
            assert_eq!(acquired.record.snapshot.as_str(), expected, "{name}");
            assert!(acquired.created.is_some());
        }
    });
}

#[test]
fn refused_source_says_why_and_creates_nothing() {
    paused(async {
        let world = Harness::new(limits());
        let id: SnapshotId = "nope".parse().unwrap();
        let second = |second| Timestamp::from_second(second).unwrap();
        let cases = [
            (
                None,
                AcquireError::NoSuchInstance {
                    instance: "x".parse().unwrap(),
                },
            ),
            (
                gitref("nope"),
                ChooseError::Revision(RevisionError::Unknown {
                    gitref: "nope".to_owned(),
                    why: WhyUnknown::NoSuch,
                })
                .into(),
            ),
            (
                gitref("empty"),
                ChooseError::NoCompatibleSnapshot {
                    project: project(),
                    gitref: "empty".to_owned(),
                    nearest: NearestMiss {
                        snapshot: "s1".parse().unwrap(),
                        missing: vec!["a.1".to_owned()],
                        missing_total: 1,
                        cause: Cause::EmptyListing,
                    },
                }
                .into(),
            ),
            (
                Some(Source::Snapshot(SnapshotSelector::Id(id.clone()))),
                ChooseError::NoSuchSnapshot {
                    project: project(),
                    snapshot: id,
                }
                .into(),
            ),
            (
                Some(Source::AsOf(second(50))),
                ChooseError::NoSnapshotAsOf {
                    project: project(),
                    time: second(50),
                    oldest: second(100),
                }
                .into(),
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(refused(world.acquire("x", source).await), expected);
        }
        let list = world.supervisor.send(ListInstances::default());
        assert_eq!(list.await.unwrap().len(), 0);
    });
}

#[test]
fn project_is_chosen_by_name_or_as_the_only_one() {
    paused(async {
        let name = |name: &str| -> ProjectName { name.parse().unwrap() };
        let acquire = async |configured: &[ProjectName], requested: Option<ProjectName>| {
            let world = Harness::with_projects(limits(), configured);
            let request = ConnectRequest {
                instance: "x".parse().unwrap(),
                source: latest(),
                from: None,
                project: requested,
                role: None,
                user: None,
                idle: IdleTimeouts::default(),
                ttl: None,
                class: None,
            };
            let identity = Identity::trusted("staff");
            let acquired = world.supervisor.send(Acquire { request, identity });
            acquired.await.unwrap()
        };
        for requested in [None, Some(name("q"))] {
            let error = refused(acquire(&[], requested).await);
            assert_eq!(error, ProjectError::NoProject.into());
        }
        let known = vec![name("o"), name("p")];
        let error = refused(acquire(&known, None).await);
        let known = || known.clone();
        assert_eq!(error, ProjectError::ProjectNeeded { known: known() }.into());
        let error = refused(acquire(&known(), Some(name("q"))).await);
        let project = name("q");
        let known = known();
        assert_eq!(error, ProjectError::NoSuchProject { project, known }.into());
        let acquired = acquire(&[name("o"), name("p")], Some(name("p"))).await;
        assert_eq!(acquired.unwrap().record.project, name("p"));
    });
}

#[test]
fn a_listing_is_read_once_until_the_snapshots_change() {
    paused(async {
        let world = Harness::new(limits());
        let reads = || *world.source.reads.lock().unwrap();
        world.acquire("a", gitref("old")).await.unwrap();
        world.acquire("b", gitref("also-old")).await.unwrap();
        assert_eq!(reads(), 1);
        let newer = snapshot("s3", 300, &["a.1"]);
        world.index.send(AddSnapshot(newer)).await.unwrap();
        let acquired = world.acquire("c", gitref("old")).await.unwrap();
        assert_eq!((acquired.record.snapshot.as_str(), reads()), ("s3", 2));
        let id = "s3".parse().unwrap();
        world.index.send(ForgetSnapshot(id)).await.unwrap();
        let acquired = world.acquire("d", gitref("old")).await.unwrap();
        assert_eq!(acquired.record.snapshot.as_str(), "s1");
    });
}

#[test]
fn a_name_is_looked_up_again_for_a_remark_after_a_while_and_for_a_creation_at_once() {
    paused(async {
        let world = Harness::new(limits());
        let resolves = || *world.source.resolves.lock().unwrap();
        world.acquire("a", gitref("old")).await.unwrap();
        let remark = async || {
            let choose = Choose {
                project: project(),
                source: gitref("old").unwrap(),
                freshness: Freshness::Local,
            };
            world.index.send(choose).await.unwrap().unwrap();
            resolves()
        };
        assert_eq!((remark().await, remark().await), (1, 1));
        world.acquire("b", gitref("old")).await.unwrap();
        assert_eq!(resolves(), 2);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((remark().await, remark().await), (3, 3));
    });
}

#[test]
fn of_two_who_create_one_name_the_second_gets_what_it_asked_for_if_the_first_fails() {
    paused(async {
        let world = Harness::new(limits());
        let (first, second, third) = tokio::join!(
            world.acquire("x", gitref("nope")),
            world.acquire("x", gitref("old")),
            world.acquire("x", None),
        );
        assert_eq!(refused(first).code(), "unknown_revision");
        assert_eq!(second.unwrap().record.snapshot.as_str(), "s1");
        assert!(third.unwrap().created.is_none());
    });
}

#[test]
fn the_least_recently_used_instance_without_sessions_makes_room() {
    paused(async {
        let world = Harness::new(Limits {
            max_running: 2,
            ..limits()
        });
        drop(attach(&world, "a").await.unwrap());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let used = attach(&world, "b").await.unwrap();
        drop(attach(&world, "c").await.unwrap());
        assert_eq!(status(&world, "a").await.unwrap().state, State::Stopped);
        let error = {
            let _held = attach(&world, "c").await.unwrap();
            attach(&world, "d").await.unwrap_err()
        };
        assert!(
            matches!(error, InstanceError::NoSlot { max: 2, .. }),
            "{error}"
        );
        drop(used);
        attach(&world, "d").await.unwrap();
        assert!(world.runtime.running_now().len() <= 2);
    });
}

#[test]
fn a_place_that_comes_free_is_taken_at_once() {
    paused(async {
        let world = Harness::new(Limits {
            max_running: 1,
            ..limits()
        });
        // Without clones: a thread that works does not hold paused time back.
        let records = vec![record("a", 1, Phase::Ready), record("b", 2, Phase::Ready)];
        restore(&world, records, Vec::new(), Vec::new()).await;
        let held = attach(&world, "a").await.unwrap();
        let began = tokio::time::Instant::now();
        let (waiting, ()) = tokio::join!(attach(&world, "b"), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(held);
        });
        waiting.unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "{:?}",
            began.elapsed()
        );
    });
}

async fn restore(
    world: &Harness,
    records: Vec<InstanceRecord>,
    running: Vec<InstanceUid>,
    directories: Vec<InstanceUid>,
) {
    for record in &records {
        world.store.put(record).unwrap();
    }
    let found = |uid| FoundPostgres {
        uid,
        postgres: world.runtime.run(uid),
    };
    let restore = Restore {
        instances: records.into_iter().map(crate::testing::recovered).collect(),
        found: FoundServers {
            running: running.into_iter().map(found).collect(),
            ..FoundServers::default()
        },
        leftovers: directories
            .into_iter()
            .map(crate::testing::deleted_leftover)
            .collect(),
    };
    world.supervisor.send(restore).await.unwrap();
}

#[test]
fn a_daemon_that_stops_takes_no_clients_and_stops_its_instances() {
    paused(async {
        let world = Harness::new(limits());
        let _held = attach(&world, "a").await.unwrap();
        let later = StopInstances::Later;
        world
            .supervisor
            .send(StopAll { instances: later })
            .await
            .unwrap();
        let error = refused(world.acquire("a", None).await);
        assert_eq!(error, AcquireError::ShuttingDown);
        assert_eq!(world.runtime.running_now().len(), 1);
        let now = StopInstances::Now;
        world
            .supervisor
            .send(StopAll { instances: now })
            .await
            .unwrap();
        assert!(world.runtime.running_now().is_empty());
        let command = ControlInstance {
            name: "none".parse().unwrap(),
            command: Command::Stop,
        };
        assert!(world.supervisor.send(command).await.unwrap().is_none());
    });
}
