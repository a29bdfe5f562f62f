//! A pipeline with one keep-alive connection and no library between it and the socket.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The engine, as a process of its own.
pub struct Engine {
    process: Child,
    /// Where it listens.
    pub address: String,
    /// From the start of the process to the first accepted event.
    pub started: Instant,
}

impl Engine {
    /// Starts the release build on a directory and waits until its port is open.
    pub fn start(data: &Path) -> Self {
        Self::spawn(data, &[], Stdio::null())
    }

    /// As [`Engine::start`], with more arguments; it must not say much, since nobody may be reading.
    pub fn start_with(data: &Path, extra: &[&str]) -> Self {
        Self::spawn(data, extra, Stdio::piped())
    }

    /// As [`Engine::start`], with more arguments; what it says is thrown away.
    pub fn start_quietly(data: &Path, extra: &[&str]) -> Self {
        Self::spawn(data, extra, Stdio::null())
    }

    fn spawn(data: &Path, extra: &[&str], stderr: Stdio) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let started = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_annals"))
            .args(["serve", "--data", data.to_str().unwrap(), "--listen", &address])
            .args(extra)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        while TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < deadline, "the engine did not open its port");
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { process, address, started }
    }

    /// Waits until the views have all that is in the journal: what they still do would be measured too.
    pub fn wait_for_views(&self) {
        let deadline = Instant::now() + Duration::from_secs(900);
        loop {
            let views: serde_json::Value =
                ureq::get(format!("http://{}/v1/views", self.address)).call().unwrap().into_body().read_json().unwrap();
            // before the journal is folded there is nothing to be behind of, and no position either
            let behind = |view: &serde_json::Value| view["lag_events"] != 0 || view["position"].as_str().is_none_or(str::is_empty);
            let ready = ureq::get(format!("http://{}/readyz", self.address)).call().is_ok();
            if ready && !views["views"].as_array().unwrap().iter().any(behind) {
                return;
            }
            assert!(Instant::now() < deadline, "the views do not catch up: {views}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until every partition is folded.
    pub fn wait_for_fold(&self) {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            let found: serde_json::Value =
                ureq::get(format!("http://{}/v1/partitions", self.address)).call().unwrap().into_body().read_json().unwrap();
            let partitions = found["partitions"].as_array().unwrap();
            if partitions.iter().all(|p| p["seq"].as_u64().is_some_and(|seq| seq >= 1_000_000)) {
                return;
            }
            assert!(Instant::now() < deadline, "the journal is not folded: {found}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What it says on standard error, from now on; once.
    pub fn log(&mut self) -> std::process::ChildStderr {
        self.process.stderr.take().unwrap()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Asks it to stop as an operator would, and waits.
    pub fn stop(mut self) {
        Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    source: String,
    sent: u64,
}

impl Client {
    pub fn connect(address: &str, source: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader, source: source.into(), sent: 0 }
    }

    /// Publishes one measurement of a model and returns the status.
    pub fn publish(&mut self, kind: &str, subject: &str, data: &str) -> u16 {
        self.sent += 1;
        let request = format!(
            "POST /v1/events HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nce-specversion: 1.0\r\nce-id: {}\r\nce-source: /bench/{}\r\nce-type: dev.annals.{kind}.v1\r\nce-subject: {subject}\r\ncontent-length: {}\r\n\r\n{data}",
            self.sent,
            self.source,
            data.len()
        );
        self.stream.write_all(request.as_bytes()).unwrap();
        self.response()
    }

    /// Publishes measurements of several models in one request and returns the status.
    pub fn publish_batch(&mut self, subjects: impl Iterator<Item = String>) -> u16 {
        self.batch("model.measured", MEASURED, subjects)
    }

    /// Creates several models in one request and returns the status.
    pub fn create_batch(&mut self, subjects: impl Iterator<Item = String>) -> u16 {
        self.batch("model.created", "{}", subjects)
    }

    fn batch(&mut self, kind: &str, data: &str, subjects: impl Iterator<Item = String>) -> u16 {
        let mut body = String::from("[");
        for subject in subjects {
            self.sent += 1;
            let comma = if body.len() > 1 { "," } else { "" };
            write!(
                body,
                r#"{comma}{{"specversion":"1.0","id":"{}","source":"/bench/{}","type":"dev.annals.{kind}.v1","subject":"{subject}","data":{data}}}"#,
                self.sent, self.source
            )
            .unwrap();
        }
        body.push(']');
        let request = format!(
            "POST /v1/events HTTP/1.1\r\nhost: bench\r\ncontent-type: application/cloudevents-batch+json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).unwrap();
        let (status, body) = self.answer();
        assert!(!body.windows(9).any(|w| w == b"\"problem\""), "{}", String::from_utf8_lossy(&body));
        status
    }

    /// Sends what Alertmanager sends, and returns the status and the answer.
    pub fn notify(&mut self, notice: &str) -> (u16, Vec<u8>) {
        let head = "POST /v1/hooks/alertmanager HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: ";
        self.stream.write_all(format!("{head}{}\r\n\r\n{notice}", notice.len()).as_bytes()).unwrap();
        self.answer()
    }

    fn response(&mut self) -> u16 {
        self.answer().0
    }

    fn answer(&mut self) -> (u16, Vec<u8>) {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        loop {
            line.clear();
            self.reader.read_line(&mut line).unwrap();
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        (status, body)
    }
}

/// What a pipeline sends most often: about 400 bytes.
pub const MEASURED: &str = r#"{"metric":"accuracy","value":0.9666666666666667,"window":{"start":"2026-03-01T00:00:00Z","end":"2026-03-01T01:00:00Z","n":150},"labels":{"dataset":"iris-holdout","pipeline":"nightly-evaluation","region":"eu-central","owner":"platform-team"}}"#;
