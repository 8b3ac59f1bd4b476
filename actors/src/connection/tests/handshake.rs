//! Encryption requests, malformed logins and the connection limits.

use super::*;

#[test]
fn each_kind_of_encryption_is_declined_once_and_the_login_continues() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.connect().await;
            for code in [5680, 5679] {
                client.send(&request(code, &[])).await;
                assert_eq!(client.socket.read_u8().await.unwrap(), b'N');
            }
            client.send(&startup(&[("user", "instance:a")])).await;
            assert_eq!(client.until_ready().await, "RSKZ");

            let mut client = fixture.connect().await;
            client.send(&request(5679, &[])).await;
            assert_eq!(client.socket.read_u8().await.unwrap(), b'N');
            client.send(&request(5679, &[])).await;
            assert_eq!(client.refusal().await, "0A000");
            client.until_closed().await;
        },
    );
}

#[test]
fn bytes_sent_along_with_an_encryption_request_end_the_connection() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.connect().await;
            let login = startup(&[("user", "instance:a")]);
            client.send(&[request(5679, &[]), login].concat()).await;
            assert_eq!(client.refusal().await, "08P01");
            client.until_closed().await;
            assert!(fixture.actors.runtime.started.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn other_protocols_get_an_answer_in_their_own_form() {
    let oversized = [&20_000u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
    let unterminated = packet(b"\x00\x03\x00\x00user\0instance:a\0");
    run_test(
        |_| {},
        |fixture| async move {
            for (bytes, expected) in [
                (oversized, "08P01"),
                (unterminated, "08P01"),
                (packet(&[0, 4, 0, 0]), "0A000"),
            ] {
                let mut client = fixture.connect().await;
                client.send(&bytes).await;
                assert_eq!(client.refusal().await, expected, "{bytes:?}");
                client.until_closed().await;
            }
            for (bytes, expected) in [
                (&b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"[..], &b""[..]),
                (b"\x16\x03\x01\x02\x00\x01", crate::wire::TLS_REFUSED),
                (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
                (&request(5678, &[0, 0, 0, 1, 7]), b""),
                (&[0, 0, 0, 7], b""),
                (
                    &packet(&[0, 2, 0, 0]),
                    b"EFATAL:  multidb: unsupported frontend protocol 2.0: server supports 3.0 to 3.2\n\0",
                ),
            ] {
                let mut client = fixture.connect().await;
                client.send(bytes).await;
                assert_eq!(client.read_to_end().await, expected, "{bytes:?}");
                client.until_closed().await;
            }
        },
    );
}

#[test]
fn incomplete_login_gets_a_timeout_error() {
    run_test(
        |limits| limits.login_timeout = Duration::from_millis(30),
        |fixture| async move {
            let login = startup(&[("user", "instance:a")]);
            for sent in [&[][..], &login[..9]] {
                let mut client = fixture.connect().await;
                client.send(sent).await;
                assert_eq!(client.refusal().await, "57014");
                client.until_closed().await;
            }
        },
    );
}

#[test]
fn login_sent_byte_by_byte_succeeds() {
    run_test(
        |_| {},
        |fixture| async move {
            let mut client = fixture.connect().await;
            for byte in startup(&[("user", "instance:a")]) {
                client.send(&[byte]).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(client.until_ready().await, "RSKZ");
        },
    );
}

#[test]
fn health_check_is_answered_without_a_session_or_an_instance() {
    run_test(
        |_| {},
        |fixture| async move {
            for parameters in [
                &[("user", "healthcheck")][..],
                &[("user", "healthcheck"), ("database", "healthcheck")],
            ] {
                let mut client = fixture.connect().await;
                client.send(&startup(parameters)).await;
                let ok = client.message().await.unwrap();
                assert_eq!((ok.tag, &ok.body[..]), (b'R', &[0; 4][..]));
                assert_eq!(client.message().await.unwrap().tag, b'E');
                assert_eq!(client.read_to_end().await, b"");
                client.until_closed().await;
            }
            assert!(fixture.actors.runtime.started.lock().unwrap().is_empty());
            // With options it is the user name of a client that names its instance there.
            let mut client = fixture.connect().await;
            let options = "-c multidb.instance=a";
            let parameters = [("user", "healthcheck"), ("options", options)];
            client.send(&startup(&parameters)).await;
            assert_eq!(client.until_ready().await.chars().next_back(), Some('Z'));
        },
    );
}

#[test]
fn connection_limit_refuses_sessions_but_not_cancel_requests() {
    run_test(
        |limits| limits.max_connections = 1,
        |fixture| async move {
            let mut session = fixture.session("instance:a").await;
            session.query("sleep").await;
            eventually(|| fixture.postgres.queries() == ["sleep"]).await;

            let mut client = fixture.connect().await;
            client.send(&request(5679, &[])).await;
            assert_eq!(client.socket.read_u8().await.unwrap(), b'N');
            client.send(&startup(&[("user", "instance:b")])).await;
            assert_eq!(client.refusal().await, "53300");
            client.until_closed().await;
            assert_eq!(fixture.actors.runtime.started.lock().unwrap().len(), 1);

            let mut client = fixture.connect().await;
            client.send(&cancel_request(1000)).await;
            assert_eq!(client.read_to_end().await, b"");
            assert_eq!(fixture.postgres.cancelled(), [1000]);
        },
    );
}

#[test]
fn disconnect_before_the_login_leaves_nothing_behind() {
    run_test(
        |_| {},
        |fixture| async move {
            let login = startup(&[("user", "instance:a")]);
            for sent in [&[][..], &login[..9]] {
                let mut client = fixture.connect().await;
                client.send(sent).await;
                let Client { socket, ended, .. } = client;
                drop(socket);
                let ended = tokio::time::timeout(TIMEOUT, ended).await;
                assert!(ended.expect("its actor ends").is_err());
            }
            assert!(fixture.actors.runtime.started.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn flood_of_unauthenticated_connections_evicts_its_oldest() {
    run_test(
        |limits| (limits.max_unauthenticated, limits.max_connections) = (2, 2),
        |fixture| async move {
            let mut session = fixture.session("instance:a").await;
            let mut silent = fixture.connect().await;
            let mut slow = fixture.connect().await;
            let login = startup(&[("user", "instance:b")]);
            slow.send(&login[..9]).await;
            let mut third = fixture.connect().await;
            assert_eq!(silent.refusal().await, "53300");
            silent.until_closed().await;

            third.send(&login).await;
            assert_eq!(third.until_ready().await, "RSKZ");
            slow.send(&login[9..]).await;
            assert_eq!(slow.refusal().await, "53300");
            slow.until_closed().await;
            for _ in 0..5 {
                fixture.connect().await;
            }
            session.answers().await;
            third.answers().await;
        },
    );
}
