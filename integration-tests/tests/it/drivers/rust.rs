//! The Rust drivers: tokio-postgres and sqlx.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt, TryStreamExt, pin_mut};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgSslMode};
use sqlx::{ConnectOptions, Connection, Row};
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{PASSWORD, Site, USER};

const LARGE: &str = "select n, repeat('x', 100) from generate_series(1, 100000) n";
const SLEEP: &str = "select pg_sleep(60)";
/// Whether a backend runs [`SLEEP`].
const SLEEPS: &str =
    "select exists (select from pg_stat_activity where pid = $1 and wait_event = 'PgSleep')";
/// The limit for a backend to begin to sleep, and the delay between two looks at it.
const SLEEP_TIMEOUT: Duration = Duration::from_secs(30);
const SLEEP_POLL_DELAY: Duration = Duration::from_millis(10);

fn tls(site: &Site) -> MakeRustlsConnect {
    let authority = CertificateDer::from_pem_file(&site.authority).expect("it is there");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).expect("it is an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them all")
        .with_root_certificates(roots)
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
}

/// Connects a client. The receiver gets the messages that answer no query, such as notifications.
async fn connect(
    config: &Config,
    tls: MakeRustlsConnect,
) -> (Client, tokio::sync::mpsc::UnboundedReceiver<AsyncMessage>) {
    let (client, mut connection) = config.connect(tls).await.expect("it connects");
    let (said, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(|cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            // The test may have dropped the receiver.
            let _ = said.send(message);
        }
    });
    (client, heard)
}

#[tokio::test]
async fn tokio_postgres_works_unchanged() {
    let site = Site::open();
    let url = site.url();
    // Its URLs name neither an authority file nor verify-full, which its TLS always does.
    let url = url.split('?').next().expect("it has a beginning");
    let by_url: Config = format!("{url}?sslmode=require")
        .parse()
        .expect("it is a URL");
    let (observer, _) = connect(&by_url, tls(&site)).await;
    let row = observer.query_one("select 1", &[]).await.expect("a row");
    assert_eq!(row.get::<_, i32>(0), 1);

    let mut config = Config::new();
    config
        .host("localhost")
        .port(site.daemon.port())
        .user(USER)
        .password(PASSWORD)
        .dbname("app")
        .ssl_mode(SslMode::Require)
        .channel_binding(ChannelBinding::Require);
    let (client, mut heard) = connect(&config, tls(&site)).await;
    let plus = client
        .prepare("select $1::int + 1")
        .await
        .expect("it is prepared");
    let row = client.query_one(&plus, &[&1]).await.expect("a row");
    assert_eq!(row.get::<_, i32>(0), 2);
    copy(&client).await;
    let said = "listen changes; notify changes, 'hello'";
    client.batch_execute(said).await.expect("it listens");
    let notification = async {
        while let Some(message) = heard.recv().await {
            if let AsyncMessage::Notification(notification) = message {
                return notification.payload().to_owned();
            }
        }
        panic!("the connection has ended");
    };
    assert_eq!(notification.await, "hello");

    let pid = client.query_one("select pg_backend_pid()", &[]).await;
    let pid: i32 = pid.expect("a row").get(0);
    let token = client.cancel_token();
    let cancel = async {
        until_asleep(async || {
            let row = observer.query_one(SLEEPS, &[&pid]).await;
            row.expect("a row").get(0)
        })
        .await;
        token.cancel_query(tls(&site)).await
    };
    let (slept, cancelled) = tokio::join!(client.query(SLEEP, &[]), cancel);
    cancelled.expect("the request is taken");
    let error = slept.expect_err("it is cancelled");
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(client.query(LARGE, &[]).await.expect("rows").len(), 100_000);
}

/// Waits until a backend runs [`SLEEP`], so that there is a query to cancel.
async fn until_asleep(mut sleeps: impl AsyncFnMut() -> bool) {
    let asleep = async {
        while !sleeps().await {
            tokio::time::sleep(SLEEP_POLL_DELAY).await;
        }
    };
    tokio::time::timeout(SLEEP_TIMEOUT, asleep)
        .await
        .expect("the query begins to sleep");
}

async fn copy(client: &Client) {
    let create = "create temp table copied (n int)";
    client.batch_execute(create).await.expect("it is made");
    let sink = client
        .copy_in("copy copied from stdin")
        .await
        .expect("it copies");
    pin_mut!(sink);
    for number in 0..10_000 {
        let row = bytes::Bytes::from(format!("{number}\n"));
        sink.feed(row).await.expect("a row is taken");
    }
    assert_eq!(sink.finish().await.expect("it ends"), 10_000);
    let rows = client
        .copy_out("copy copied to stdout")
        .await
        .expect("it copies");
    let rows: Vec<_> = rows.try_collect().await.expect("all rows");
    assert_eq!(rows.len(), 10_000);
}

#[tokio::test]
async fn sqlx_works_unchanged() {
    let site = Site::open();
    let mut by_url = PgConnection::connect(&site.url())
        .await
        .expect("it connects");
    let one: i32 = sqlx::query_scalar("select 1")
        .fetch_one(&mut by_url)
        .await
        .expect("a row");
    assert_eq!(one, 1);

    let options = PgConnectOptions::new_without_pgpass()
        .host("localhost")
        .port(site.daemon.port())
        .username(USER)
        .password(PASSWORD)
        .database("app")
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(&site.authority);
    let mut session = options.connect().await.expect("it connects");
    for number in 0..10 {
        let plus = sqlx::query_scalar("select $1::int + 1").bind(number);
        let sum: i32 = plus.fetch_one(&mut session).await.expect("a row");
        assert_eq!(sum, number + 1);
    }
    let create = sqlx::query("create temp table copied (n int)");
    create.execute(&mut session).await.expect("it is made");
    let mut copy = session
        .copy_in_raw("copy copied from stdin")
        .await
        .expect("it copies");
    let rows: String = (0..10_000).map(|number| format!("{number}\n")).collect();
    copy.send(rows.as_bytes()).await.expect("rows are taken");
    assert_eq!(copy.finish().await.expect("it ends"), 10_000);
    let copied = session.copy_out_raw("copy (select * from copied order by n) to stdout");
    let copied = copied.await.expect("it copies");
    let copied: Vec<_> = copied.try_collect().await.expect("all rows");
    assert_eq!(copied.concat(), rows.as_bytes());

    let mut listener = PgListener::connect(&site.url()).await.expect("it connects");
    listener.listen("changes").await.expect("it listens");
    let notify = sqlx::query("notify changes, 'hello'");
    notify.execute(&mut session).await.expect("it is said");
    assert_eq!(listener.recv().await.expect("it hears").payload(), "hello");

    // The driver has no cancel request of its own.
    let pid = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session);
    let pid: i32 = pid.await.expect("a row");
    let cancel = async {
        until_asleep(async || {
            let sleeps = sqlx::query_scalar(SLEEPS).bind(pid);
            sleeps.fetch_one(&mut by_url).await.expect("a row")
        })
        .await;
        let cancel = sqlx::query("select pg_cancel_backend($1)").bind(pid);
        cancel.execute(&mut by_url).await
    };
    let (slept, cancelled) = tokio::join!(sqlx::query(SLEEP).execute(&mut session), cancel);
    cancelled.expect("it is told");
    let error = slept.expect_err("it is cancelled");
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("57014"));
    let rows = sqlx::query(LARGE)
        .fetch_all(&mut session)
        .await
        .expect("rows");
    assert_eq!(
        (rows.len(), rows[99_999].get::<i32, _>(0)),
        (100_000, 100_000)
    );
}
