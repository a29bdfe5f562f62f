//! Real endpoints for webhooks: programs of their own, which verify what they get with the spec's libraries.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::services::python;
use crate::stage::eventually;

/// What an endpoint got, in its order.
pub type Got = Arc<Mutex<Vec<Value>>>;

/// A running endpoint; killed when it goes out of scope.
pub struct Receiver {
    process: Child,
    pub url: String,
    got: Got,
}

fn program(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(name).to_str().unwrap().to_owned()
}

impl Receiver {
    /// In Python, on a free port.
    pub fn python() -> Self {
        Self::python_at(0)
    }

    /// In Python, on this port.
    pub fn python_at(port: u16) -> Self {
        let mut command = python();
        command.args(["-u", &program("webhook_receiver.py"), &port.to_string()]);
        Self::spawn(command)
    }

    /// In Python, with a certificate that is right or wrong in this way; `ca.pem` goes into the directory.
    pub fn tls(dir: &Path, kind: &str) -> Self {
        let mut command = python();
        command.args(["-u", &program("webhook_receiver.py"), "0", dir.to_str().unwrap(), kind]);
        Self::spawn(command)
    }

    /// In JavaScript.
    #[track_caller]
    pub fn javascript() -> Self {
        let home = std::env::var("ANNALS_TEST_JAVASCRIPT").expect("ANNALS_TEST_JAVASCRIPT is not set: start the tests with tests/run");
        let mut command = Command::new("node");
        // the packages lie in the cache, not beside the program
        command.env("NODE_PATH", Path::new(&home).join("node_modules")).arg(program("webhook_receiver.cjs"));
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines.next().expect("the endpoint says where it listens").unwrap();
        let got = Got::default();
        let kept = Arc::clone(&got);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { process, url, got }
    }

    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// What the endpoint is to verify with.
    pub fn know(&self, keys: &[&str]) {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().into();
        let answer = agent.post(format!("{}/keys", self.url)).send(json!(keys).to_string()).unwrap();
        assert_eq!(answer.status().as_u16(), 204);
    }

    /// What came to this path, in its order.
    pub fn got(&self, path: &str) -> Vec<Value> {
        self.got.lock().unwrap().iter().filter(|request| request["path"] == path).cloned().collect()
    }

    /// Waits until so much came to this path, and returns it.
    #[track_caller]
    pub fn wait_for(&self, path: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} messages at {path}"), || self.got(path).len() >= count);
        self.got(path)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what {} got: {:?}", self.url, self.got.lock().unwrap());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
