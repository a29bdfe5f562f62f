//! 1,000 subscribers of the stream at once: what each costs in memory, and how long an event takes to reach them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::client::{Client, Engine};
use crate::{bench_dir, figure, quantile};

const SUBSCRIBERS: usize = 1_000;
const PROMOTIONS: usize = 100;
/// Events that were there before, which everybody who begins with the first one reads.
const HISTORY: usize = 20_000;
/// Most memory of a subscriber, in KiB.
const MEMORY_MAX_KIB: f64 = 64.0;

pub fn run() {
    let dir = bench_dir("subscribers");
    let engine = Engine::start(&dir.join("data"));
    let mut client = Client::connect(&engine.address, "history");
    for some in 0..HISTORY / 100 {
        client.create_batch((0..100).map(|n| format!("default/history-{some}-{n}")));
    }
    assert_eq!(client.publish("version.registered", "default/iris", ARTIFACT), 201);
    assert_eq!(client.publish("version.registered", "default/iris", ARTIFACT), 201);
    engine.wait_for_views();
    alone(&mut client);
    sse(&engine, &mut client, "from=now", "from now");
    sse(&engine, &mut client, "from=beginning&type=promoted", "with 20,000 events to pass over first");
    sse(&engine, &mut client, "from=now&model=other-*", "of which nobody wants what happens");
}

const ARTIFACT: &str =
    r#"{"artifact":{"uri":"file:///model.pkl","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000001"}}"#;

/// A promotion, and how long its accept took.
fn promote(client: &mut Client, n: usize) -> Duration {
    let begun = Instant::now();
    let status = client.publish("version.promoted", &format!("default/iris/{}", n % 2 + 1), r#"{"channel":"production"}"#);
    assert_eq!(status, 201);
    begun.elapsed()
}

fn accepts(client: &mut Client, pause: Duration) -> Vec<Duration> {
    let mut took: Vec<Duration> = (0..PROMOTIONS)
        .map(|n| {
            std::thread::sleep(pause);
            promote(client, n)
        })
        .collect();
    took.sort_unstable();
    took
}

/// What an accept takes when nobody listens.
fn alone(client: &mut Client) {
    let took = accepts(client, Duration::from_millis(20));
    println!("       accept with nobody listening: p50 {:.0} us, p99 {:.0} us", quantile(&took, 0.5), quantile(&took, 0.99));
}

/// One socket of the crowd.
fn subscribe(address: &str, query: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /v1/events/stream?{query} HTTP/1.1\r\nhost: bench\r\n\r\n").unwrap();
    let mut reader = BufReader::with_capacity(2048, stream);
    let mut line = String::new();
    // head and first message
    while !line.starts_with("id: ") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended: {line}");
    }
    reader
}

/// All subscribers at once: memory of each, and from the send of a promotion to each of them.
pub fn sse(engine: &Engine, client: &mut Client, query: &str, what: &str) {
    let before = engine.resident();
    let epoch = Instant::now();
    let (sent, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (arrived, arrivals) = mpsc::channel();
    let sockets: Vec<_> = (0..SUBSCRIBERS).map(|_| subscribe(&engine.address, query)).collect();
    let nobody = query.contains("other-");
    let readers: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            let (sent, arrived, over) = (sent.clone(), arrived.clone(), over.clone());
            let read = move || listen(socket, epoch, &sent, &arrived, &over);
            std::thread::Builder::new().stack_size(64 * 1024).spawn(read).unwrap()
        })
        .collect();
    drop(arrived);
    let (mut delays, mut took) = (Vec::new(), Vec::new());
    for n in 0..PROMOTIONS {
        sent.store(u64::try_from(epoch.elapsed().as_nanos()).unwrap(), Ordering::SeqCst);
        took.push(promote(client, n));
        if nobody {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let mut missing = SUBSCRIBERS;
        while missing > 0 {
            let (of, delay) = arrivals.recv_timeout(Duration::from_secs(60)).expect("an event did not reach everybody");
            if of == sent.load(Ordering::SeqCst) {
                delays.push(delay);
                missing -= 1;
            }
        }
    }
    std::thread::sleep(Duration::from_secs(2)); // what is given back is given back
    let each = engine.resident().saturating_sub(before) as f64 / SUBSCRIBERS as f64 / 1024.0;
    over.store(true, Ordering::SeqCst);
    figure(
        &format!("memory of one of {SUBSCRIBERS} SSE subscribers, {what}"),
        &format!("{each:.1} KiB"),
        &format!("{MEMORY_MAX_KIB:.0} KiB"),
        each / MEMORY_MAX_KIB,
        "<= 1",
        each <= MEMORY_MAX_KIB,
    );
    took.sort_unstable();
    let (p50, p99) = (quantile(&took, 0.5), quantile(&took, 0.99));
    println!("       the accept itself with them: p50 {p50:.0} us, p99 {p99:.0} us");
    if !nobody {
        delays.sort_unstable();
        let (first, p50, p99) = (quantile(&delays, 0.001), quantile(&delays, 0.5), quantile(&delays, 0.99));
        println!("       from the send of a promotion to each subscriber: first {first:.0} us, p50 {p50:.0} us, p99 {p99:.0} us");
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

/// Tells of each event that arrives: when its promotion was sent, and how long ago that was.
fn listen(mut socket: BufReader<TcpStream>, epoch: Instant, sent: &AtomicU64, arrived: &mpsc::Sender<(u64, Duration)>, over: &AtomicBool) {
    socket.get_ref().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut line = Vec::new();
    while !over.load(Ordering::SeqCst) {
        match socket.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.starts_with(b"event: dev.annals.version.promoted") => {
                let (now, of) = (u64::try_from(epoch.elapsed().as_nanos()).unwrap(), sent.load(Ordering::SeqCst));
                let _ = arrived.send((of, Duration::from_nanos(now - of))); // the measuring may be over
                line.clear();
            }
            Ok(_) => line.clear(),
            Err(_) => {} // nothing came
        }
    }
}
