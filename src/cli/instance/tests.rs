use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::*;

fn page(names: &[&str]) -> String {
    let instance = |name: &&str| {
        json!({
            "name": name, "project": "p", "state": "stopped", "snapshot": "s", "gitref": null,
            "commit": null, "created_at": "2026-03-08T11:00:00Z", "last_used_at":
            "2026-03-08T11:00:00Z", "expires_at": null, "pinned": false, "pinned_until": null,
            "connections": 0, "postgres_major": 15, "runtime": "process", "data_dir": "/d",
            "uid": "00000000002a", "epoch": 1, "created_by": "staff", "failure": null,
        })
    };
    let instances: Vec<_> = names.iter().map(instance).collect();
    serde_json::to_string(&instances).unwrap()
}

/// Serves these bodies, a connection each. Returns the requested paths.
fn serve(listener: UnixListener, bodies: Vec<String>) -> tokio::task::JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut paths = Vec::new();
        for body in bodies {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(&mut stream);
            reader.read_line(&mut line).await.unwrap();
            paths.push(line.split(' ').nth(1).unwrap().to_owned());
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body.as_bytes()).await.unwrap();
        }
        paths
    })
}

#[tokio::test]
async fn list_is_read_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let names: Vec<String> = (0..PAGE_LENGTH).map(|n| format!("i{n:04}")).collect();
    let full: Vec<&str> = names.iter().map(String::as_str).collect();
    let bodies = vec![page(&full), page(&["last"])];
    let served = serve(UnixListener::bind(&socket).unwrap(), bodies);
    let args = ListArgs {
        project: Some("p".parse().unwrap()),
        ..ListArgs::default()
    };
    let found = list(&AdminClient::new(socket), &args).await.unwrap();
    assert_eq!(found.len(), PAGE_LENGTH + 1);
    let paths = served.await.unwrap();
    assert_eq!(
        paths,
        [
            "/v1/instances?project=p&limit=500",
            "/v1/instances?project=p&after=i0499&limit=500"
        ]
    );
}

#[tokio::test]
async fn limit_ends_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let bodies = vec![page(&["a", "b"])];
    let served = serve(UnixListener::bind(&socket).unwrap(), bodies);
    let args = ListArgs {
        created_by: Some("a b".to_owned()),
        limit: Some(2),
        ..ListArgs::default()
    };
    let found = list(&AdminClient::new(socket), &args).await.unwrap();
    assert_eq!(found.len(), 2);
    let paths = served.await.unwrap();
    assert_eq!(paths, ["/v1/instances?created_by=a%20b&limit=2"]);
}

#[test]
fn clones_are_listed_below_their_parents() {
    let parents = [
        ("a", None),
        ("b", Some("c")),
        ("c", Some("a")),
        ("d", Some("gone")),
        ("e", Some("a")),
    ];
    let names: Vec<&str> = parents.iter().map(|(name, _)| *name).collect();
    let mut instances: Vec<InstanceView> = serde_json::from_str(&page(&names)).unwrap();
    for (instance, (_, parent)) in instances.iter_mut().zip(parents) {
        instance.parent = parent.map(str::to_owned);
    }
    let shown = |instances: &[InstanceView]| {
        let text = text::list(instances, Timestamp::UNIX_EPOCH, None);
        let first = |line: &str| {
            line.split("  p ")
                .next()
                .unwrap_or_default()
                .trim_end()
                .to_owned()
        };
        text.lines()
            .skip(1)
            .take(instances.len())
            .map(first)
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&instances), ["a", "└ c", "  └ b", "└ e", "d"]);
    // A name that was given again makes no row vanish.
    instances[0].parent = Some("b".to_owned());
    let mut rows = shown(&instances);
    rows.sort();
    assert_eq!(rows, ["a", "b", "c", "d", "e"]);
}
