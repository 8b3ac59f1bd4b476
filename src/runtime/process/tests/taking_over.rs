//! Taking over servers after a restart of the daemon.

use super::*;
use crate::runtime::Purpose;
use crate::runtime::postmaster::Postmaster;

#[tokio::test]
async fn a_running_server_is_taken_over() {
    let fixture = Fixture::new().await;
    let first = fixture.start().await;
    let second = fixture.another_host();
    let mut found = second.running_servers().await.unwrap().found;
    assert_eq!(found.len(), 1);
    let (purpose, found) = found.remove(0);
    assert_eq!((purpose, found.uid), (Purpose::Instance, uid()));
    assert_eq!(found.postgres.endpoint, first.endpoint);
    let answer = value(&found.postgres.endpoint, "select 'yes'").await;
    assert_eq!(answer, "yes");
    // The first host forgets its child, but must reap it, as init would.
    let reaped = tokio::spawn(first.exited);
    second.stop_server(uid(), TIMEOUT).await.unwrap();
    found.postgres.exited.await;
    reaped.await.unwrap();
    assert_eq!(fixture.state().await, "shut down");
    assert!(second.running_servers().await.unwrap().found.is_empty());
}

#[tokio::test]
async fn one_server_is_found_by_its_uid() {
    let fixture = Fixture::new().await;
    let other = fixture.another_host();
    assert!(other.find_server(uid()).await.unwrap().is_none());
    let first = fixture.start().await;
    let reaped = tokio::spawn(first.exited);
    let found = other.find_server(uid()).await.unwrap().unwrap();
    assert_eq!(found.uid, uid());
    assert_eq!(value(&found.postgres.endpoint, "select 'yes'").await, "yes");
    // Without its socket it is of no use, and its data is not free before it has stopped.
    fs::remove_dir_all(fixture.layout.run_dir(uid())).unwrap();
    assert!(other.find_server(uid()).await.unwrap().is_none());
    reaped.await.unwrap();
    assert!(fixture.is_clear());
}

#[tokio::test]
async fn the_death_of_a_server_that_was_taken_over_is_noticed() {
    let fixture = Fixture::new().await;
    let first = fixture.start().await;
    let reaped = tokio::spawn(first.exited);
    let mut found = fixture
        .another_host()
        .running_servers()
        .await
        .unwrap()
        .found;
    let (_, found) = found.remove(0);
    fixture.kill_postmaster();
    let exited = tokio::time::timeout(TIMEOUT, found.postgres.exited).await;
    assert!(exited.is_ok());
    reaped.await.unwrap();
}

#[tokio::test]
async fn a_server_of_an_import_is_found_as_such() {
    let fixture = Fixture::new().await;
    let staging = fixture.layout.snapshots().join(".staging-s1");
    fs::create_dir(&staging).unwrap();
    let mut spec = fixture.spec();
    fs::rename(&spec.data_dir, staging.join("data")).unwrap();
    spec.data_dir = staging.join("data");
    spec.purpose = Purpose::Import;
    let running = fixture.host.start_server(&spec).await.unwrap();
    let reaped = tokio::spawn(running.exited);
    let second = fixture.another_host();
    let found = second.running_servers().await.unwrap().found;
    assert!(matches!(&found[..], [(Purpose::Import, found)] if found.uid == uid()));
    second.stop_server(uid(), TIMEOUT).await.unwrap();
    assert_eq!(reaped.await.unwrap(), "exit status 0");
}

#[tokio::test]
async fn a_server_without_a_run_directory_is_stopped() {
    let fixture = Fixture::new().await;
    let first = fixture.start().await;
    let reaped = tokio::spawn(first.exited);
    fs::remove_dir_all(fixture.layout.run_dir(uid())).unwrap();
    let found = fixture
        .another_host()
        .running_servers()
        .await
        .unwrap()
        .found;
    assert!(found.is_empty());
    reaped.await.unwrap();
    assert!(fixture.is_clear());
    // It can be woken.
    fixture.start().await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_server_that_is_shutting_down_is_stopped() {
    let fixture = Fixture::new().await;
    let first = fixture.start().await;
    let reaped = tokio::spawn(first.exited);
    // A smart shutdown accepts no new connections and waits for this session.
    let _session = client(&first.endpoint).await;
    fixture.postmaster().signal(rustix::process::Signal::TERM);
    let pid_file = fixture.spec().data_dir.join("postmaster.pid");
    until("stopping", || {
        fs::read_to_string(&pid_file).is_ok_and(|text| text.contains("stopping"))
    })
    .await;
    let found = fixture
        .another_host()
        .running_servers()
        .await
        .unwrap()
        .found;
    assert!(found.is_empty());
    assert_eq!(reaped.await.unwrap(), "exit status 0");
    assert!(fixture.is_clear());
}

#[tokio::test]
async fn leftovers_of_a_killed_server_are_not_taken_for_a_server() {
    let fixture = Fixture::new().await;
    let first = fixture.start().await;
    fixture.kill_postmaster();
    first.exited.await;
    assert!(fixture.spec().data_dir.join("postmaster.pid").exists());
    let found = fixture
        .another_host()
        .running_servers()
        .await
        .unwrap()
        .found;
    assert!(found.is_empty());
    assert!(!fixture.layout.run_dir(uid()).exists());
}

/// Makes the daemon's file about the server name a process that has ended.
fn forge_identity(fixture: &Fixture) {
    let path = fixture.layout.server_file(uid());
    let mut file: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    file["process"]["started"] = 1.into();
    fs::write(&path, file.to_string()).unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_be_taken_over_leaves_the_others_available() {
    let fixture = Fixture::new().await;
    let mut other = fixture.spec();
    other.uid = InstanceUid::from_bits(77);
    other.data_dir = fixture.layout.instance_data(other.uid);
    other.log = fixture.layout.instance_log(other.uid);
    fs::create_dir(fixture.layout.instance(other.uid)).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("--archive")
        .args([&fixture.spec().data_dir, &other.data_dir])
        .status();
    assert!(copied.unwrap().success());
    let first = fixture.start().await;
    let running = fixture.host.start_server(&other).await.unwrap();
    forge_identity(&fixture);
    let second = fixture.another_host();
    let servers = second.running_servers().await.unwrap();
    let found: Vec<_> = servers.found.iter().map(|(_, found)| found.uid).collect();
    assert_eq!(found, [other.uid]);
    let undecided: Vec<_> = servers.undecided.iter().map(|server| server.uid).collect();
    assert_eq!(undecided, [uid()]);
    assert_eq!(value(&first.endpoint, "select 'yes'").await, "yes");
    let reaped = tokio::spawn(running.exited);
    second.stop_server(other.uid, TIMEOUT).await.unwrap();
    reaped.await.unwrap();
}

#[tokio::test]
async fn a_server_without_any_file_is_not_taken_for_stopped() {
    let fixture = Fixture::new().await;
    let running = fixture.start().await;
    // A superuser can remove the one, and only a fault of the disk the other.
    fs::remove_file(fixture.spec().data_dir.join("postmaster.pid")).unwrap();
    fs::remove_file(fixture.layout.server_file(uid())).unwrap();
    for error in [
        fixture.another_host().find_server(uid()).await.err(),
        fixture.host.stop_server(uid(), TIMEOUT).await.err(),
    ] {
        let error = error.expect("it runs");
        assert!(error.message.contains("another postgres runs"), "{error:?}");
    }
    assert_eq!(value(&running.endpoint, "select 'yes'").await, "yes");
}

#[test]
fn a_recycled_process_id_is_not_taken_for_a_postmaster() {
    let directory = tempfile::tempdir().unwrap();
    let ours = std::process::id();
    fs::write(directory.path().join("postmaster.pid"), format!("{ours}\n")).unwrap();
    assert!(Postmaster::find(directory.path()).is_none());
}

#[test]
fn a_pipe_in_place_of_the_pid_file_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("postmaster.pid");
    let made = std::process::Command::new("mkfifo").arg(&pid_file).status();
    assert!(made.unwrap().success());
    assert!(Postmaster::find(directory.path()).is_none());
}
