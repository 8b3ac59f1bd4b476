//! Before anything is known of the client.

use super::*;

#[test]
fn encryption_is_declined_once_each_and_the_login_goes_on() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.connect().await;
            for code in [5680, 5679] {
                client.send(&request(code, &[])).await;
                assert_eq!(client.socket.read_u8().await.unwrap(), b'N');
            }
            client.send(&startup(&[("user", "instance:a")])).await;
            assert_eq!(client.until_ready().await, "RSKZ");

            let mut client = bench.connect().await;
            client.send(&request(5679, &[])).await;
            assert_eq!(client.socket.read_u8().await.unwrap(), b'N');
            client.send(&request(5679, &[])).await;
            assert_eq!(client.refusal().await, "0A000");
            client.over().await;
        },
    );
}

#[test]
fn bytes_that_come_with_an_encryption_request_end_the_connection() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.connect().await;
            let login = startup(&[("user", "instance:a")]);
            client.send(&[request(5679, &[]), login].concat()).await;
            assert_eq!(client.refusal().await, "08P01");
            client.over().await;
            assert!(bench.world.runtime.started.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn bytes_that_are_no_login_are_answered_as_their_sender_understands() {
    let oversized = [&20_000u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
    let unterminated = packet(b"\x00\x03\x00\x00user\0instance:a\0");
    bench(
        |_| {},
        |bench| async move {
            for (bytes, expected) in [
                (oversized, "08P01"),
                (unterminated, "08P01"),
                (packet(&[0, 4, 0, 0]), "0A000"),
            ] {
                let mut client = bench.connect().await;
                client.send(&bytes).await;
                assert_eq!(client.refusal().await, expected, "{bytes:?}");
                client.over().await;
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
                let mut client = bench.connect().await;
                client.send(bytes).await;
                assert_eq!(client.rest().await, expected, "{bytes:?}");
                client.over().await;
            }
        },
    );
}

#[test]
fn a_client_that_does_not_finish_its_login_is_told_so() {
    bench(
        |limits| limits.login_timeout = Duration::from_millis(30),
        |bench| async move {
            let login = startup(&[("user", "instance:a")]);
            for sent in [&[][..], &login[..9]] {
                let mut client = bench.connect().await;
                client.send(sent).await;
                assert_eq!(client.refusal().await, "57014");
                client.over().await;
            }
        },
    );
}

#[test]
fn a_login_that_comes_byte_by_byte_is_a_login() {
    bench(
        |_| {},
        |bench| async move {
            let mut client = bench.connect().await;
            for byte in startup(&[("user", "instance:a")]) {
                client.send(&[byte]).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(client.until_ready().await, "RSKZ");
        },
    );
}

#[test]
fn where_there_is_no_room_sessions_are_refused_and_cancel_requests_pass() {
    bench(
        |limits| limits.max_connections = 1,
        |bench| async move {
            let mut session = bench.session("instance:a").await;
            session.query("sleep").await;
            eventually(|| bench.postgres.queries() == ["sleep"]).await;

            let mut client = bench.connect().await;
            client.send(&request(5679, &[])).await;
            assert_eq!(client.socket.read_u8().await.unwrap(), b'N');
            client.send(&startup(&[("user", "instance:b")])).await;
            assert_eq!(client.refusal().await, "53300");
            client.over().await;
            assert_eq!(bench.world.runtime.started.lock().unwrap().len(), 1);

            let mut client = bench.connect().await;
            client.send(&cancel_request(1000)).await;
            assert_eq!(client.rest().await, b"");
            assert_eq!(bench.postgres.cancelled(), [1000]);
        },
    );
}

#[test]
fn a_client_that_leaves_before_its_login_leaves_nothing() {
    bench(
        |_| {},
        |bench| async move {
            let login = startup(&[("user", "instance:a")]);
            for sent in [&[][..], &login[..9]] {
                let mut client = bench.connect().await;
                client.send(sent).await;
                let Client { socket, ended, .. } = client;
                drop(socket);
                let ended = tokio::time::timeout(PATIENCE, ended).await;
                assert!(ended.expect("its actor ends").is_err());
            }
            assert!(bench.world.runtime.started.lock().unwrap().is_empty());
        },
    );
}

#[test]
fn a_flood_of_clients_that_do_not_log_in_puts_out_its_oldest() {
    bench(
        |limits| (limits.max_unauthenticated, limits.max_connections) = (2, 2),
        |bench| async move {
            let mut session = bench.session("instance:a").await;
            let mut silent = bench.connect().await;
            let mut slow = bench.connect().await;
            let login = startup(&[("user", "instance:b")]);
            slow.send(&login[..9]).await;
            let mut third = bench.connect().await;
            assert_eq!(silent.refusal().await, "53300");
            silent.over().await;

            third.send(&login).await;
            assert_eq!(third.until_ready().await, "RSKZ");
            slow.send(&login[9..]).await;
            assert_eq!(slow.refusal().await, "53300");
            slow.over().await;
            for _ in 0..5 {
                bench.connect().await;
            }
            session.answers().await;
            third.answers().await;
        },
    );
}
