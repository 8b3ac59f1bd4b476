use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::control::model::LogsView;

/// Serves one client these pieces of an answer. Returns the request.
fn answer(dir: &Path, pieces: &'static [&'static str]) -> (AdminClient, JoinHandle<String>) {
    let socket = dir.join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let length = stream.read(&mut asked).await.unwrap();
        asked.truncate(length);
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        String::from_utf8(asked).unwrap()
    });
    (AdminClient::new(socket), served)
}

#[tokio::test]
async fn answer_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (client, served) = answer(
        dir.path(),
        &[
            "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"lines\":",
            "[\"a\"]}",
        ],
    );
    let logs: LogsView = client.get("/v1/instances/x/logs?lines=5").await.unwrap();
    assert_eq!(logs.lines, ["a"]);
    let asked = served.await.unwrap();
    assert!(
        asked.starts_with("GET /v1/instances/x/logs?lines=5 HTTP/1.1\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn error_has_message_and_hint_of_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let (client, _served) = answer(
        dir.path(),
        &[
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n{\"error\":{\"message\":\"no such\",\"hint\":\"Look up.\"}}",
        ],
    );
    let error = client.delete::<()>("/v1/instances/x").await.unwrap_err();
    assert_eq!(error.to_string(), "no such");
    assert_eq!(error.hint(), Some("Look up."));
    assert_eq!(error.detail(), None);
}

#[tokio::test]
async fn error_without_json_has_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let (client, _served) = answer(
        dir.path(),
        &["HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\nno"],
    );
    let error = client.delete::<()>("/v1/x").await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the daemon answered with status 500 Internal Server Error"
    );
}

#[tokio::test]
async fn job_is_followed_across_any_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let (client, served) = answer(
        dir.path(),
        &[
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id\":7,\"kind\":\"import\",\"project\":\"p\",",
            "\"state\":\"running\",\"step\":\"restore\",\"bytes_done\":1,\"bytes_total\":2,\"warnings\":[]}\n\n",
            "{\"id\":7,\"kind\":\"import\",\"project\":\"p\",\"state\":\"failed\",\"bytes_done\":0,\"warnings\":[],",
            "\"ended_at\":\"2026-03-10T12:00:00Z\",\"error\":{\"code\":\"x\",\"message\":\"disk full\"}}\nmore",
        ],
    );
    let mut statuses = Vec::new();
    let followed = client.follow_job(7, |status| statuses.push(status.clone()));
    let last = followed.await.unwrap();
    assert_eq!(statuses.len(), 2);
    assert_eq!(
        (statuses[0].bytes_done, statuses[0].bytes_total),
        (1, Some(2))
    );
    assert_eq!(statuses[1], last);
    assert_eq!(last.error.unwrap().message, "disk full");
    let asked = served.await.unwrap();
    assert!(
        asked.starts_with("GET /v1/jobs/7/events HTTP/1.1\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn job_whose_events_stop_before_its_end_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (client, _served) = answer(
        dir.path(),
        &[
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id\":7,\"kind\":\"import\",\"project\":\"p\",\"state\":\"queued\",\"bytes_done\":0,\"warnings\":[]}\n",
        ],
    );
    let error = client.follow_job(7, |_| {}).await.unwrap_err();
    assert!(matches!(error, AdminError::Broken(_)), "{error:?}");
}

#[tokio::test]
async fn missing_daemon_is_reported_with_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let client = AdminClient::new(&socket);
    let absent = client.get::<LogsView>("/v1/status").await.unwrap_err();
    assert!(matches!(absent, AdminError::NotRunning { .. }));
    drop(UnixListener::bind(&socket).unwrap());
    let dead = client.get::<LogsView>("/v1/status").await.unwrap_err();
    let expected = format!(
        "the daemon is not running: no answer at {}",
        socket.display()
    );
    assert_eq!(dead.to_string(), expected);
    assert!(dead.hint().unwrap().contains("multidb serve"));
}

#[tokio::test]
async fn request_to_a_hanging_daemon_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let client = AdminClient::new(&socket).with_timeout(Duration::from_millis(50));
    let error = client.get::<LogsView>("/v1/status").await.unwrap_err();
    assert_eq!(error.to_string(), "the daemon did not answer within 50ms");
}

#[test]
fn query_is_escaped_and_has_no_missing_values() {
    let pairs = [
        ("a", None),
        ("b", Some("x y".to_owned())),
        ("c", Some("1".to_owned())),
    ];
    assert_eq!(with_query("/p", &pairs), "/p?b=x%20y&c=1");
    assert_eq!(with_query("/p", &pairs[..1]), "/p");
    assert_eq!(
        escaped("feature/x & y").to_string(),
        "feature%2Fx%20%26%20y"
    );
}
