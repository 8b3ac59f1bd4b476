//! Real servers as local processes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::runtime::ProgramNetwork;
use fixture::{Fixture, TIMEOUT, client, uid, until, value};

pub(crate) mod fixture;
mod taking_over;

#[tokio::test]
async fn a_server_starts_answers_and_stops_cleanly() {
    let fixture = Fixture::new().await;
    for _ in 0..2 {
        let running = fixture.start().await;
        assert_eq!(value(&running.endpoint, "show cluster_name").await, "test");
        assert_eq!(value(&running.endpoint, "show fsync").await, "on");
        fixture.stop().await;
        assert_eq!(running.exited.await, "exit status 0");
        assert_eq!(fixture.state().await, "shut down");
        assert!(fixture.is_clear());
    }
    // Stopping it twice is not an error.
    fixture.stop().await;
    let log = fixture.spec().log;
    let lines = fixture.host.server_logs(uid(), &log, 100).await.unwrap();
    let starts = lines
        .iter()
        .filter(|line| line.contains("ready to accept connections"));
    assert_eq!(starts.count(), 2);
}

#[tokio::test]
async fn a_failed_start_reports_its_own_log_lines_and_leaves_nothing() {
    let fixture = Fixture::new().await;
    fixture.start().await;
    fixture.stop().await;
    let mut spec = fixture.spec();
    spec.settings
        .push(("work_mem".to_owned(), "nonsense".to_owned()));
    let error = fixture.host.start_server(&spec).await.err().unwrap();
    let StartError::Exited { status, log, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(status, "exit status 1");
    assert!(log.iter().any(|line| line.contains("work_mem")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("ready to accept")));
    assert!(fixture.is_clear());
}

#[tokio::test]
async fn only_the_owner_can_read_the_files_of_a_start() {
    let fixture = Fixture::new().await;
    fixture.start().await;
    let (owner, _) = fixture.host.data_owner();
    let run_dir = fixture.layout.run_dir(uid());
    for path in [run_dir.clone(), run_dir.join("postgresql.conf")] {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.uid(), owner, "{}", path.display());
        assert_eq!(metadata.mode() & 0o077, 0, "{}", path.display());
    }
    let log = fs::metadata(fixture.spec().log).unwrap();
    assert_eq!(log.mode() & 0o077, 0);
    fixture.stop().await;
}

#[tokio::test]
async fn a_server_that_was_killed_is_noticed_and_starts_again() {
    let fixture = Fixture::new().await;
    let running = fixture.start().await;
    let table = "create table kept (n int)";
    client(&running.endpoint)
        .await
        .batch_execute(table)
        .await
        .unwrap();
    fixture.kill_postmaster();
    assert_eq!(running.exited.await, "signal 9");
    fixture.stop().await;
    let running = fixture.start().await;
    let kept = "select count(*)::text from kept";
    assert_eq!(value(&running.endpoint, kept).await, "0");
    fixture.stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_the_end_of_a_start_that_was_given_up() {
    let fixture = Fixture::new().await;
    for step in 0..12 {
        let limit = Duration::from_millis(step * 8);
        // It may have succeeded in time.
        let _started =
            tokio::time::timeout(limit, fixture.host.start_server(&fixture.spec())).await;
        fixture.stop().await;
        assert!(fixture.is_clear(), "after {limit:?}");
    }
}

#[tokio::test]
async fn a_backend_that_does_not_notice_its_postmasters_death_does_not_prevent_a_start() {
    let fixture = Fixture::new().await;
    let running = fixture.start().await;
    let computing = client(&running.endpoint).await;
    // A backend notices the death of its postmaster only while it waits, and this one computes.
    let computing = tokio::spawn(async move {
        computing
            .batch_execute("do $$ begin loop end loop; end $$")
            .await
    });
    let active = "select count(*)::text from pg_stat_activity where query like 'do %'";
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while value(&running.endpoint, active).await != "1" {
        assert!(tokio::time::Instant::now() < deadline);
    }
    fixture.kill_postmaster();
    assert_eq!(running.exited.await, "signal 9");
    let running = fixture.start().await;
    assert_eq!(value(&running.endpoint, "select 'yes'").await, "yes");
    assert!(computing.await.unwrap().is_err());
    fixture.stop().await;
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let fixture = Fixture::new().await;
    for millis in [0, 1, 5, 20] {
        let spec = fixture.spec();
        let start = fixture.host.start_server(&spec);
        let given_up = tokio::time::timeout(Duration::from_millis(millis), start).await;
        if given_up.is_ok_and(|started| started.is_ok()) {
            fixture.stop().await;
        }
        until("clear", || fixture.is_clear()).await;
    }
}

#[tokio::test]
async fn a_start_right_after_one_that_was_given_up_serves() {
    let fixture = Fixture::new().await;
    for millis in [0, 1, 2, 4, 8, 12, 16, 20, 25, 30] {
        let spec = fixture.spec();
        let start = fixture.host.start_server(&spec);
        let given_up = tokio::time::timeout(Duration::from_millis(millis), start).await;
        if given_up.is_ok_and(|started| started.is_ok()) {
            fixture.stop().await;
        }
        let running = tokio::time::timeout(TIMEOUT, fixture.start()).await;
        let running = running.unwrap_or_else(|_| panic!("never ready after {millis} ms"));
        // Leftovers of the other start have had time to interfere.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(value(&running.endpoint, "select 'yes'").await, "yes");
        fixture.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_was_killed_before_it_wrote_its_pid_file_prevents_no_start() {
    let fixture = Fixture::new().await;
    fs::write(fixture.spec().data_dir.join("postmaster.pid"), "").unwrap();
    let running = fixture.start().await;
    assert_eq!(value(&running.endpoint, "select 'yes'").await, "yes");
    fixture.stop().await;
}

#[tokio::test]
async fn a_shell_in_the_data_directory_is_not_taken_for_a_server() {
    let fixture = Fixture::new().await;
    let data_dir = fixture.spec().data_dir;
    fs::write(data_dir.join("postmaster.pid"), "999999\n").unwrap();
    let mut shell = std::process::Command::new("sleep")
        .arg("60")
        .current_dir(&data_dir)
        .spawn()
        .unwrap();
    let started = fixture.host.start_server(&fixture.spec()).await;
    let alive = shell.try_wait().unwrap().is_none();
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert!(alive);
    started.unwrap();
    fixture.stop().await;
}

#[tokio::test]
async fn alter_system_works_but_does_not_override_owned_settings() {
    let fixture = Fixture::new().await;
    let running = fixture.start().await;
    let altering = client(&running.endpoint).await;
    for setting in [
        "listen_addresses = '*'",
        "unix_socket_directories = '/nowhere'",
        "port = 1",
        "hba_file = '/nowhere'",
        "work_mem = '7MB'",
    ] {
        let statement = format!("alter system set {setting}");
        altering.batch_execute(&statement).await.unwrap();
    }
    fixture.stop().await;
    let running = fixture.start().await;
    for (setting, expected) in [("listen_addresses", ""), ("work_mem", "7MB")] {
        let shown = value(&running.endpoint, &format!("show {setting}")).await;
        assert_eq!(shown, expected, "{setting}");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn a_cluster_with_large_wal_segments_starts() {
    let fixture = Fixture::init(&["--wal-segsize=64"]).await;
    let running = fixture.start().await;
    let shown = value(&running.endpoint, "show min_wal_size").await;
    assert_eq!(shown, "128MB");
    fixture.stop().await;
}

#[tokio::test]
async fn values_reach_postgres_as_they_were_written() {
    let fixture = Fixture::new().await;
    let written = r"it's a \ 'b' \n # c";
    let mut spec = fixture.spec();
    spec.settings
        .push(("multidb.text".to_owned(), written.to_owned()));
    let running = fixture.host.start_server(&spec).await.unwrap();
    assert_eq!(value(&running.endpoint, "show multidb.text").await, written);
    fixture.stop().await;
}

#[tokio::test]
async fn an_abandoned_program_ends_with_its_children() {
    let fixture = Fixture::new().await;
    let target = fixture.layout.instance(uid()).join("given-up");
    let target = target.display().to_string();
    let args = ["-D", target.as_str()];
    let run = fixture.run("initdb", &args);
    let given_up = tokio::time::timeout(Duration::from_millis(150), run).await;
    assert!(given_up.is_err(), "initdb ended before the limit");
    let is_of_it = |process: &fs::DirEntry| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&target)
    };
    until("without the program", || {
        let processes = fs::read_dir("/proc").unwrap();
        !processes.flatten().any(|process| is_of_it(&process))
    })
    .await;
}

#[tokio::test]
async fn a_major_that_is_not_installed_is_an_error_with_a_hint() {
    let error = Binaries::default().installation(7).await.unwrap_err();
    assert!(error.hint.unwrap().contains("postgresql-7"));
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_ended() {
    let fixture = Fixture::new().await;
    let run = ProgramRun {
        postgres_major: fixture.spec().postgres_major,
        program: "pg_test_timing",
        args: vec!["--duration=1000".to_owned()],
        env: Vec::new(),
        binds: Vec::new(),
        network: ProgramNetwork::None,
        timeout: Some(Duration::from_millis(300)),
    };
    let began = tokio::time::Instant::now();
    let error = fixture.host.run_program(&run).await.unwrap_err();
    assert_eq!(error.message, "pg_test_timing did not end within 300ms");
    assert!(began.elapsed() < TIMEOUT);
}
