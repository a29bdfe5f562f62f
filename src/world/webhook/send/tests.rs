//! Endpoints of all kinds, each a real socket on loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as Socket};
use std::thread;

use super::super::answer::Outcome;
use super::*;

/// Answers one connection with what the function writes, and gives back what was read.
fn endpoint(answer: impl FnOnce(&mut Socket) + Send + 'static) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let (mut read, mut block) = (Vec::new(), [0; 4096]);
        while !read.ends_with(b"{\"a\":1}") {
            let n = socket.read(&mut block).unwrap();
            assert!(n > 0, "the request ended early");
            read.extend_from_slice(&block[..n]);
        }
        answer(&mut socket);
        String::from_utf8(read).unwrap()
    });
    (url, served)
}

fn says(text: &'static str) -> (String, thread::JoinHandle<String>) {
    endpoint(move |socket| socket.write_all(text.as_bytes()).unwrap())
}

fn sender(allowed: &str) -> Sender {
    let networks: Vec<_> = allowed.split_terminator(',').map(|net| net.parse().unwrap()).collect();
    Sender::new(networks.into(), None).unwrap()
}

fn send(sender: &Sender, url: &str) -> Attempt {
    let message = Message {
        id: "id_1".into(),
        timestamp_s: 7,
        signature: "v1a,x v1,y".into(),
        content_type: "application/json",
        body: br#"{"a":1}"#.to_vec(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(sender.send(url, message))
}

#[track_caller]
fn failed(attempt: &Attempt, word: &str) {
    assert_eq!(attempt.outcome(), Outcome::Failed(None), "{attempt:?}");
    assert!(attempt.note().contains(word), "no `{word}` in: {}", attempt.note());
}

#[test]
fn a_delivery_carries_its_headers_and_its_body() {
    let (url, served) = says("HTTP/1.1 204 No Content\r\n\r\n");
    let attempt = send(&sender("127.0.0.0/8"), &url);
    assert_eq!((attempt.status(), attempt.outcome()), (Some(204), Outcome::Delivered), "{attempt:?}");
    let request = served.join().unwrap();
    let host = url.split('/').nth(2).unwrap();
    assert!(request.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{request}");
    for line in [
        &format!("host: {host}"),
        "content-type: application/json",
        "webhook-id: id_1",
        "webhook-timestamp: 7",
        "webhook-signature: v1a,x v1,y",
        "content-length: 7",
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line} is not in {request}");
    }
}

#[test]
fn redirects_are_not_followed() {
    let (inner, untouched) = (TcpListener::bind("127.0.0.1:0").unwrap(), "http://127.0.0.1");
    inner.set_nonblocking(true).unwrap();
    let to = format!("{untouched}:{}/secret", inner.local_addr().unwrap().port());
    let head = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    let (url, served) = endpoint(move |socket| socket.write_all(head.as_bytes()).unwrap());
    let attempt = send(&sender("127.0.0.0/8"), &url);
    failed(&attempt, "redirects are not followed");
    assert!(attempt.note().contains(&to), "{}", attempt.note());
    served.join().unwrap();
    assert_eq!(inner.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_body_without_end_is_cut_and_the_status_counts() {
    let (url, served) = endpoint(|socket| {
        socket.write_all(b"HTTP/1.1 500 Oops\r\n\r\n").unwrap();
        // until it is hung up on: what is read must be far less than what there is
        let mut sent = 0_u64;
        while socket.write_all(&[b'x'; 65_536]).is_ok() {
            sent += 65_536;
            assert!(sent < 1 << 30, "a gigabyte was taken");
        }
    });
    let attempt = send(&sender("127.0.0.0/8"), &url);
    failed(&attempt, "xxx");
    assert_eq!(attempt.result.unwrap().excerpt.chars().count(), 201);
    served.join().unwrap();
}

#[test]
fn a_body_that_trickles_does_not_hold_the_delivery() {
    let (url, served) = endpoint(|socket| {
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while socket.write_all(b".").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let attempt = send(&sender("127.0.0.0/8"), &url);
    assert_eq!(attempt.outcome(), Outcome::Delivered);
    assert!(attempt.took < BODY_MAX + Duration::from_secs(3), "{:?}", attempt.took);
    served.join().unwrap();
}

#[test]
fn a_head_without_end_and_what_is_no_http_are_failures() {
    let (url, _served) = endpoint(|socket| {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n");
        while socket.write_all(b"x-more: and more and more and more\r\n").is_ok() {}
    });
    failed(&send(&sender("127.0.0.0/8"), &url), "");
    for text in ["SSH-2.0-OpenSSH_9.2\r\n", "", "HTTP/1.1 200"] {
        let (url, _served) = says(text);
        failed(&send(&sender("127.0.0.0/8"), &url), "no answer after");
    }
}

#[test]
fn what_an_endpoint_asks_for_is_understood() {
    let (url, _served) = says("HTTP/1.1 429 Too Many Requests\r\nretry-after: 77\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(send(&sender("127.0.0.0/8"), &url).outcome(), Outcome::Failed(Some(Duration::from_secs(77))));
    let (url, _served) = says("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(send(&sender("127.0.0.0/8"), &url).outcome(), Outcome::Gone);
    let (url, _served) =
        says("HTTP/1.1 404 Not Found\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 15\r\n\r\n<h1>Oh, no</h1>");
    let attempt = send(&sender("127.0.0.0/8"), &url);
    failed(&attempt, "HTML page");
    assert_eq!(attempt.result.unwrap().excerpt, "Oh, no");
}

#[test]
fn a_connection_that_is_refused_or_reset_is_a_failure() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    failed(&send(&sender("127.0.0.0/8"), &format!("http://127.0.0.1:{port}/")), "connection refused");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // hung up on with a request that nobody read: the kernel sends a reset
    let served = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        while socket.peek(&mut [0]).unwrap() == 0 {}
    });
    failed(&send(&sender("127.0.0.0/8"), &url), "no answer after");
    served.join().unwrap();
}

#[test]
fn a_name_is_judged_by_its_addresses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    failed(&send(&sender(""), &format!("https://localhost:{port}/")), "loopback");
    // allowed elsewhere is not allowed here
    failed(&send(&sender("10.0.0.0/8"), &format!("http://localhost:{port}/")), "--webhook-allow");
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nothing may have come");
    let (url, served) = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let attempt = send(&sender("127.0.0.0/8"), &url.replace("127.0.0.1", "localhost"));
    assert_eq!(attempt.outcome(), Outcome::Delivered, "{attempt:?}");
    served.join().unwrap();
    failed(&send(&sender(""), "https://name.invalid/"), "has no address");
}

#[test]
fn what_speaks_no_tls_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 512]);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    failed(&send(&sender("127.0.0.0/8"), &url), "TLS");
    served.join().unwrap();
}

#[test]
fn authorities_of_ones_own_are_read_and_nonsense_is_said() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = |text: &str| {
        std::fs::write(file.path(), text).unwrap();
        Sender::new(Allowed::default(), Some(file.path())).err().unwrap()
    };
    assert!(error("").contains("there is none in it"));
    assert!(error("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").contains("cannot be read"));
    assert!(Sender::new(Allowed::default(), Some(Path::new("nowhere.pem"))).is_err());
}
