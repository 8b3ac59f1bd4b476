//! Containers on the real engine. `scripts/test.sh` starts one and builds the image.

mod faults;
mod fixture;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use multidb_actors::ports::StartError;
use multidb_store::RootId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::fixture::{Fixture, TIMEOUT, check_started, eventually, query};
use super::{DockerHost, Network, probe_engine};
use crate::runtime::{PostgresHost, ProgramNetwork, ProgramRun, Purpose};

#[tokio::test]
async fn a_server_starts_answers_stops_and_leaves_its_log() {
    let fixture = Fixture::new().await;
    let spec = fixture.cluster(1).await;
    let running = fixture.host.start_server(&spec).await.unwrap();
    assert_eq!(query(&running.endpoint, "select 1 + 1").await, "2");
    assert_eq!(
        query(&running.endpoint, "show shared_buffers").await,
        "16MB"
    );
    let lines = fixture
        .host
        .server_logs(spec.uid, &spec.log, 100)
        .await
        .unwrap();
    assert!(
        lines
            .iter()
            .any(|l| l.contains("ready to accept connections")),
        "{lines:?}"
    );

    fixture.host.stop_server(spec.uid, TIMEOUT).await.unwrap();
    assert_eq!(running.exited.await, "exit code 0", "a clean shutdown");
    assert!(fixture.containers().await.is_empty());
    assert!(!fixture.layout().run_dir(spec.uid).exists());
    let log = std::fs::read_to_string(&spec.log).unwrap();
    assert!(log.contains("received fast shutdown request"), "{log}");
    assert!(log.contains("database system is shut down"), "{log}");
    let saved = fixture
        .host
        .server_logs(spec.uid, &spec.log, 1)
        .await
        .unwrap();
    assert_eq!(saved.len(), 1);
    // Stopping it twice is not an error.
    fixture.host.stop_server(spec.uid, TIMEOUT).await.unwrap();

    // The log is of all starts.
    let again = fixture.host.start_server(&spec).await.unwrap();
    assert_eq!(query(&again.endpoint, "select 2").await, "2");
    let lines = fixture
        .host
        .server_logs(spec.uid, &spec.log, 1000)
        .await
        .unwrap();
    let starts = lines
        .iter()
        .filter(|l| l.contains("starting PostgreSQL"))
        .count();
    assert_eq!(starts, 2, "{lines:?}");
    fixture.finish().await;
}

#[tokio::test]
async fn each_network_serves() {
    let named = fixture::TestNetwork::create();
    let networks = [
        Network::None,
        Network::Private,
        Network::Named(named.0.clone()),
    ];
    for network in networks {
        let fixture = Fixture::with(|settings| settings.network = network).await;
        let spec = fixture.cluster(1).await;
        check_started(&fixture.host, &spec).await;
        fixture.finish().await;
    }
}

#[tokio::test]
async fn a_program_gives_its_output_and_its_exit_code() {
    let fixture = Fixture::new().await;
    let run = |program, args: &[&str]| ProgramRun {
        postgres_major: 15,
        program,
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        env: vec![("PGCONNECT_TIMEOUT".to_owned(), "1".to_owned())],
        binds: Vec::new(),
        network: ProgramNetwork::None,
        timeout: None,
    };
    let output = fixture
        .host
        .run_program(&run("psql", &["--version"]))
        .await
        .unwrap();
    assert!(output.success);
    assert!(
        output.stdout.starts_with(b"psql (PostgreSQL) 15"),
        "{output:?}"
    );
    assert!(output.stderr_tail.is_empty());

    let failing = run("psql", &["-h", "/nowhere", "-c", "select 1"]);
    let output = fixture.host.run_program(&failing).await.unwrap();
    assert!(!output.success);
    assert_eq!(output.status, "exit code 2");
    assert!(output.stderr_tail[0].contains("/nowhere"), "{output:?}");

    let error = fixture
        .host
        .run_program(&run("no_such", &[]))
        .await
        .unwrap_err();
    assert!(
        error.message.contains("no program \"no_such\""),
        "{}",
        error.message
    );
    fixture.finish().await;
}

#[tokio::test]
async fn a_program_is_killed_when_its_caller_gives_up() {
    let fixture = Fixture::new().await;
    let run = ProgramRun {
        postgres_major: 15,
        program: "sleep",
        args: vec!["1000".to_owned()],
        env: Vec::new(),
        binds: Vec::new(),
        network: ProgramNetwork::None,
        timeout: None,
    };
    let running = fixture.host.run_program(&run);
    let started = eventually("it runs", async || !fixture.containers().await.is_empty());
    tokio::select! {
        output = running => panic!("it ended: {output:?}"),
        () = started => {}
    }
    eventually("its container is gone", async || {
        fixture.containers().await.is_empty()
    })
    .await;
    fixture.finish().await;
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_ended() {
    let fixture = Fixture::new().await;
    let run = ProgramRun {
        postgres_major: 15,
        program: "sleep",
        args: vec!["1000".to_owned()],
        env: Vec::new(),
        binds: Vec::new(),
        network: ProgramNetwork::None,
        timeout: Some(Duration::from_millis(300)),
    };
    let error = fixture.host.run_program(&run).await.unwrap_err();
    assert_eq!(error.message, "sleep did not end within 300ms");
    assert!(fixture.containers().await.is_empty());
    fixture.finish().await;
}

#[tokio::test]
async fn a_second_daemon_takes_over_what_runs_and_removes_the_rest() {
    let fixture = Fixture::new().await;
    let (alive, dead) = (fixture.cluster(1).await, fixture.cluster(2).await);
    let running = fixture.host.start_server(&alive).await.unwrap();
    fixture.leave_exited(&dead).await;

    let second = fixture.another_host().await;
    let found = second.running_servers().await.unwrap().found;
    assert_eq!(found.len(), 1);
    let (purpose, found) = found.into_iter().next().unwrap();
    assert_eq!((purpose, found.uid), (Purpose::Instance, alive.uid));
    assert_eq!(found.postgres.endpoint, running.endpoint);
    assert_eq!(query(&found.postgres.endpoint, "select 3").await, "3");
    assert_eq!(fixture.containers().await, [fixture.name_of(&alive)]);

    second.stop_server(alive.uid, TIMEOUT).await.unwrap();
    assert_eq!(found.postgres.exited.await, "exit code 0");
    fixture.finish().await;
}

#[tokio::test]
async fn one_server_is_found_by_its_uid() {
    let fixture = Fixture::new().await;
    let (alive, dead) = (fixture.cluster(1).await, fixture.cluster(2).await);
    let running = fixture.host.start_server(&alive).await.unwrap();
    fixture.leave_exited(&dead).await;
    let second = fixture.another_host().await;
    let found = second.find_server(alive.uid).await.unwrap().unwrap();
    assert_eq!(found.uid, alive.uid);
    assert_eq!(found.postgres.endpoint, running.endpoint);
    assert!(second.find_server(dead.uid).await.unwrap().is_none());
    assert_eq!(fixture.containers().await, [fixture.name_of(&alive)]);
    second.stop_server(alive.uid, TIMEOUT).await.unwrap();
    assert!(second.find_server(alive.uid).await.unwrap().is_none());
    fixture.finish().await;
}

#[tokio::test]
async fn another_roots_containers_are_not_ours() {
    let (ours, theirs) = (Fixture::new().await, Fixture::new().await);
    let spec = theirs.cluster(1).await;
    let running = theirs.host.start_server(&spec).await.unwrap();
    assert!(ours.host.running_servers().await.unwrap().found.is_empty());
    // A copied root has the same uids; its clones are other directories.
    assert!(ours.host.find_server(spec.uid).await.unwrap().is_none());
    ours.host.stop_server(spec.uid, TIMEOUT).await.unwrap();
    // A root that has lost its identity, while its server runs.
    let mut lost = theirs.host.inner.settings.clone();
    lost.root = RootId::from_bits(rand::random());
    let lost = DockerHost::new(lost).await.unwrap();
    let found = lost.find_server(spec.uid).await.err();
    let stopped = lost.stop_server(spec.uid, TIMEOUT).await.err();
    for error in [found, stopped] {
        let error = error.expect("the server runs on its data");
        assert!(
            error.message.contains("belongs to another root directory"),
            "{}",
            error.message
        );
    }
    assert_eq!(query(&running.endpoint, "select 4").await, "4");
    theirs.host.stop_server(spec.uid, TIMEOUT).await.unwrap();
    ours.finish().await;
    theirs.finish().await;
}

#[tokio::test]
async fn the_pause_container_is_shared_and_made_anew_when_it_vanishes() {
    let fixture = Fixture::new().await;
    let (first, second, third) = (
        fixture.cluster(1).await,
        fixture.cluster(2).await,
        fixture.cluster(3).await,
    );
    let running = fixture.host.start_server(&first).await.unwrap();
    let pause = fixture.pause_id().await.unwrap();
    check_started(&fixture.host, &second).await;
    assert_eq!(fixture.pause_id().await.unwrap(), pause, "one for both");

    fixture.docker(&["kill", &pause]);
    check_started(&fixture.host, &second).await;
    let stopped = fixture.pause_id().await.unwrap();
    assert_ne!(stopped, pause, "it had stopped");

    fixture.docker(&["rm", "--force", &stopped]);
    check_started(&fixture.host, &third).await;
    assert_ne!(fixture.pause_id().await.unwrap(), stopped, "it was removed");
    assert_eq!(
        query(&running.endpoint, "select 5").await,
        "5",
        "running servers did not notice"
    );

    fixture.host.stop_server(first.uid, TIMEOUT).await.unwrap();
    fixture.host.close().await;
    assert_eq!(fixture.pause_id().await, None);
    fixture.finish().await;
}

#[tokio::test]
async fn a_server_that_exits_early_says_why() {
    let fixture = Fixture::new().await;
    let mut spec = fixture.cluster(1).await;
    spec.settings = vec![("shared_preload_libraries".into(), "no_such_library".into())];
    match fixture.host.start_server(&spec).await {
        Err(StartError::Exited { status, log, .. }) => {
            assert_eq!(status, "exit code 1");
            assert!(log.iter().any(|l| l.contains("no_such_library")), "{log:?}");
        }
        Err(other) => panic!("not its exit: {other}"),
        Ok(_) => panic!("it started"),
    }
    assert!(fixture.containers().await.is_empty());
    let log = std::fs::read_to_string(&spec.log).unwrap();
    assert!(log.contains("no_such_library"), "its log is kept");
    fixture.finish().await;
}

#[tokio::test]
async fn a_server_that_was_killed_before_it_wrote_its_pid_file_prevents_no_start() {
    let fixture = Fixture::new().await;
    let spec = fixture.cluster(1).await;
    fs::write(spec.data_dir.join("postmaster.pid"), "").unwrap();
    check_started(&fixture.host, &spec).await;
    fixture.finish().await;
}

#[tokio::test]
async fn twenty_abandoned_starts_leave_nothing() {
    let fixture = Fixture::new().await;
    let spec = fixture.cluster(1).await;
    check_started(&fixture.host, &spec).await;
    for step in 0..20 {
        let limit = Duration::from_millis(step * 12);
        let _ = tokio::time::timeout(limit, fixture.host.start_server(&spec)).await;
    }
    // Each start waits until the one before is cleaned up.
    check_started(&fixture.host, &spec).await;
    eventually("nothing is left", async || {
        fixture.containers().await.is_empty()
    })
    .await;
    fixture.finish().await;
}

#[tokio::test]
async fn a_stop_waits_for_the_end_of_a_start_that_was_given_up() {
    let fixture = Fixture::new().await;
    let spec = fixture.cluster(1).await;
    for step in 0..8 {
        let limit = Duration::from_millis(step * 40);
        // It may have succeeded in time.
        let _started = tokio::time::timeout(limit, fixture.host.start_server(&spec)).await;
        fixture.host.stop_server(spec.uid, TIMEOUT).await.unwrap();
        assert!(fixture.containers().await.is_empty(), "after {limit:?}");
    }
    fixture.finish().await;
}

#[tokio::test]
async fn a_server_that_nobody_takes_is_not_found_before_it_is_gone() {
    let fixture = Fixture::new().await;
    let spec = fixture.cluster(1).await;
    let inner = &fixture.host.inner;
    let lock = inner.locks.lock(spec.uid).await;
    let started = Arc::clone(inner).start(spec.clone(), lock, CancellationToken::new());
    let started = started.await.unwrap();
    assert!(inner.locks.is_locked(spec.uid));
    drop(started);
    assert!(fixture.host.find_server(spec.uid).await.unwrap().is_none());
    assert!(fixture.containers().await.is_empty());
    fixture.finish().await;
}

#[tokio::test]
async fn the_engine_of_debian_12_is_spoken_to_in_its_own_version() {
    let fixture = Fixture::new().await;
    let info = probe_engine(&fixture.host.inner.settings.socket)
        .await
        .unwrap();
    assert_eq!(info, fixture.host.inner.engine.check().await.unwrap());
    assert!(info.api.starts_with("1."), "{info:?}");
    fixture.finish().await;
}

/// Logs the durations of a start and a stop.
#[tokio::test]
async fn a_start_in_the_shared_network_takes_well_under_a_second() {
    for network in [Network::None, Network::Private] {
        let fixture = Fixture::with(|settings| settings.network = network.clone()).await;
        let spec = fixture.cluster(1).await;
        check_started(&fixture.host, &spec).await;
        let (mut starts, mut stops) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let begun = Instant::now();
            let running = fixture.host.start_server(&spec).await.unwrap();
            starts.push(begun.elapsed());
            query(&running.endpoint, "select 1").await;
            let begun = Instant::now();
            fixture.host.stop_server(spec.uid, TIMEOUT).await.unwrap();
            stops.push(begun.elapsed());
        }
        starts.sort();
        stops.sort();
        let (start, stop) = (starts[5], stops[5]);
        let worst = starts[9];
        tracing::info!(?network, ?start, ?worst, ?stop, "medians of ten");
        if std::env::var_os("MULTIDB_TEST_FIGURES").is_some() {
            std::fs::write(
                std::env::temp_dir().join(format!("multidb-docker-{network:?}.txt")),
                format!("start {starts:?}\nstop {stops:?}\n"),
            )
            .unwrap();
        }
        assert!(start < Duration::from_secs(2), "{starts:?}");
        fixture.finish().await;
    }
}
