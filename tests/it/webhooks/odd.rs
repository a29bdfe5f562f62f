//! Endpoints that misbehave, and URLs that lead where the engine must not go: each a clear state.

use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use super::receiver::Receiver;
use super::{add, deliveries, move_version, start, start_with, webhook};
use crate::stage::{data_of, directory, eventually, fresh, register};

/// Tries an endpoint out, and returns what `annals webhook test` says.
fn try_out(engine: &crate::stage::Engine, name: &str, url: &str) -> Value {
    add(engine, name, url, "ed25519");
    let output = engine.annals(&["webhook", "test", name, "--json"]);
    let tried: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(output.status.code(), Some(if tried["delivered"] == true { 0 } else { 1 }), "{tried}");
    tried
}

#[test]
fn whatever_an_endpoint_does_the_engine_says_what_it_was() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    // where a redirect would lead: nobody may come
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let moved = format!("moved/{}/secret", inside.local_addr().unwrap());
    let cases = [
        ("status/200", Some(200), "200 in"),
        ("status/500", Some(500), "this is 500"),
        ("status/410", Some(410), "wants nothing any more"),
        ("status/403", Some(403), "does not accept our signature"),
        ("busy/120", Some(429), "asks for 120 s"),
        ("html/", Some(404), "an HTML page; is this the receiver's URL?: It works!"),
        (&moved, Some(302), "redirects are not followed"),
        ("endless/", Some(500), "xxxx"),
        ("trickle/", None, "nothing was answered within 15 s"),
        ("hang/", None, "nothing was answered within 15 s"),
        ("reset/", None, "connection reset"),
    ];
    // at once: two of them take their whole time
    thread::scope(|scope| {
        for (number, (path, status, word)) in cases.iter().enumerate() {
            let (engine, url) = (&engine, format!("{}/{path}", receiver.url));
            scope.spawn(move || {
                let tried = try_out(engine, &format!("odd-{number}"), &url);
                let note = tried["note"].as_str().unwrap();
                assert_eq!(tried["status"].as_u64(), *status, "{path}: {tried}");
                assert!(note.contains(word), "{path}: no `{word}` in: {note}");
                assert!(tried["took_ms"].as_u64().unwrap() < 20_000, "{path}: {tried}");
                assert!(tried["excerpt"].as_str().unwrap_or_default().chars().count() <= 201, "{path}: {tried}");
            });
        }
    });
    assert_eq!(inside.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    // the names of one machine's TCP ports are nobody's
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(try_out(&engine, "nobody", &format!("http://{nobody}/"))["note"].as_str().unwrap().contains("connection refused"));
    assert!(try_out(&engine, "nowhere", "https://name.invalid/")["note"].as_str().unwrap().contains("has no address"));
}

#[test]
fn a_certificate_that_is_wrong_is_not_trusted() {
    for (kind, word) in
        [("good", None), ("expired", Some("xpired")), ("wrong-host", Some("not valid for name")), ("self-signed", Some("TLS"))]
    {
        let dir = directory();
        let receiver = Receiver::tls(dir.path(), kind);
        let url = format!("{}/status/200", receiver.url);
        let ca = dir.path().join("ca.pem");
        let engine = start_with(&data_of(&dir), &["--webhook-ca", ca.to_str().unwrap()]);
        let tried = try_out(&engine, "tls", &url);
        match word {
            None => assert_eq!(tried["status"], 200, "{kind}: {tried}"),
            Some(word) => {
                let note = tried["note"].as_str().unwrap();
                assert!(tried["status"].is_null() && note.contains("TLS") && note.contains(word), "{kind}: {note}");
                assert_eq!(receiver.got("/status/200").len(), 0, "{kind}: nothing may be told");
            }
        }
        if kind == "good" {
            // an authority that nobody named
            drop(engine);
            let engine = start(&data_of(&dir));
            let tried = webhook_fails(&engine);
            assert!(tried.contains("UnknownIssuer") && tried.contains("--webhook-ca"), "{tried}");
        }
    }
}

fn webhook_fails(engine: &crate::stage::Engine) -> String {
    let tried = engine.post("/v1/webhooks/tls/test", &[], b"").ok(200);
    assert_eq!(tried["delivered"], false, "{tried}");
    tried["note"].as_str().unwrap().to_owned()
}

#[test]
fn no_url_makes_the_engine_speak_to_what_only_it_can_reach() {
    let (_dir, engine) = fresh();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let put = |name: &str, url: &str| {
        let body = json!({"url": url, "when": {"type": ["promoted"]}}).to_string();
        engine.put(&format!("/v1/webhooks/{name}"), body.as_bytes())
    };
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[fd00::1]",
        "[fe80::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ] {
        let problem = put("inside", &format!("https://{host}:{port}/")).problem(422, "schema-violation");
        assert!(problem["detail"].as_str().unwrap().contains("--webhook-allow"), "{host}: {problem}");
    }
    for url in ["http://example.com/", "https://ada:secret@example.com/", "ftp://example.com/", "file:///etc/passwd", "https://", "hook"] {
        put("odd", url).problem(422, "schema-violation");
    }
    // what a name leads to is known when it is asked for, each time
    put("name", &format!("https://localhost:{port}/")).ok(200);
    let tried = engine.post("/v1/webhooks/name/test", &[], b"").ok(200);
    assert!(tried["delivered"] == false && tried["note"].as_str().unwrap().contains("loopback"), "{tried}");
    // and what came into the journal by another door is judged no less
    let data =
        json!({"subscription": "direct", "state": "active", "url": format!("http://127.0.0.1:{port}/"), "when": {"type": ["promoted"]}});
    engine.accept("subscription.changed", "default/_system", data);
    eventually("it is known", || engine.get("/v1/webhooks/direct").status == 200);
    engine.post("/v1/webhooks/direct/test", &[], b"").problem(422, "schema-violation");
    engine.post("/v1/webhooks/direct/rotate", &[], b"").ok(200);
    let tried = engine.post("/v1/webhooks/direct/test", &[], b"").ok(200);
    assert!(tried["note"].as_str().unwrap().contains("https://"), "{tried}");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nothing may have come");
}

#[test]
fn an_endpoint_that_is_gone_pauses_its_webhook() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    add(&engine, "gone", &format!("{}/status/410", receiver.url), "ed25519");
    register(&engine, "iris", 1);
    let id = move_version(&engine, "iris", "staging");
    eventually("it is paused", || webhook(&engine, &["show", "gone"])["state"] == "paused");
    let again = move_version(&engine, "iris", "production");
    eventually("both wait", || deliveries(&engine, "gone", "pending").len() == 2);
    assert_eq!(receiver.got("/status/410").len(), 1, "it is left alone");
    let history = engine.get("/v1/events?type=subscription-changed").text;
    let paused: Value = serde_json::from_str(history.lines().last().unwrap()).unwrap();
    assert_eq!(paused["data"]["data"]["state"], "paused", "{paused}");
    assert!(paused["data"]["data"]["reason"].as_str().unwrap().contains("410") && paused["causationid"] == id.as_str(), "{paused}");
    let doctor = engine.annals(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("its endpoint is gone: 410") && said.contains("annals webhook resume gone"), "{said}");
    // whoever resumes it too early is told so again
    webhook(&engine, &["resume", "gone"]);
    eventually("it is paused again", || webhook(&engine, &["show", "gone"])["state"] == "paused" && receiver.got("/status/410").len() >= 2);
    eventually("and says why", || String::from_utf8_lossy(&engine.annals(&["doctor"]).stdout).contains("its endpoint is gone: 410"));
    // it has moved, and gets what was kept
    webhook(&engine, &["add", "gone", "--to", &format!("{}/hook", receiver.url), "--type", "promoted"]);
    let got = receiver.wait_for("/hook", 2);
    assert_eq!([&got[0], &got[1]].map(|m| m["body"]["data"]["id"].as_str().unwrap()), [id.as_str(), again.as_str()]);
}

#[test]
fn who_asks_for_time_gets_it() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    add(&engine, "busy", &format!("{}/busy/3600", receiver.url), "ed25519");
    register(&engine, "iris", 1);
    move_version(&engine, "iris", "staging");
    eventually("it was tried", || deliveries(&engine, "busy", "pending").iter().any(|delivery| delivery["attempts"] == 1));
    let waiting = &deliveries(&engine, "busy", "pending")[0];
    let time = |member: &str| annals_events::time::Timestamp::parse(waiting[member].as_str().unwrap()).unwrap().0;
    let pause_s = (time("next") - time("updated")) / 1000;
    assert!((3_600..=4_400).contains(&pause_s), "{pause_s}: {waiting}");
    assert!(waiting["note"].as_str().unwrap().contains("429"), "{waiting}");
    let doctor = String::from_utf8_lossy(&engine.annals(&["doctor"]).stdout).into_owned();
    assert!(doctor.contains("webhook busy: deliveries for 1 model failed and are tried again") && doctor.contains("429"), "{doctor}");
}
