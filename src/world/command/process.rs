//! One run of a program: its process group, what it reads, the end of what it says, and its end.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// How long a program may take to end when it is told to, before it is made to.
const GRACE: Duration = Duration::from_secs(2);
/// How long the pipes are read on when it has ended: what it left behind may hold them open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How much of the end of what it says is kept, in bytes.
const TAIL_BYTES: usize = 4 * 1024;
/// Longest last line, in characters.
const LINE_MAX: usize = 300;
/// What the engine may have been told and programs must not know.
const SECRETS: [&str; 3] = ["ANNALS_DATABASE_URL", "ANNALS_KAFKA_PROPERTIES", "ANNALS_SCHEMA_REGISTRY_URL"];

/// A running program; dropping it kills it and all that it started.
pub struct Process {
    child: Child,
    group: Group,
}

/// How a run ended, with the last line that it printed (`said`) or complained.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exit { code: i32, said: String, complained: String },
    /// By a signal that is not ours.
    Signal { signal: i32, complained: String },
    /// It took too long and was killed.
    Timeout { complained: String },
    /// The system does not say.
    Lost(String),
}

impl Process {
    /// Starts a program in a group of its own.
    ///
    /// # Errors
    /// As the system has them.
    pub fn start(program: &Path, args: &[String], variables: &[(&str, String)], directory: Option<&Path>) -> std::io::Result<Self> {
        let program = std::path::absolute(program)?;
        let mut command = Command::new(program);
        command.args(args).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for secret in SECRETS {
            command.env_remove(secret);
        }
        command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        let child = command.spawn()?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        Ok(Self { child, group })
    }

    /// Gives it its input, and waits until it has ended, at most so long.
    pub async fn finish(mut self, input: &[u8], timeout: Duration) -> Ended {
        let (stdin, stdout, stderr) = (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let input = input.to_vec();
        // beside everything else: a program need not read, nor read before it prints
        let feeding = Aborted(tokio::spawn(async move {
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(&input).await; // it may have closed its end
                let _ = stdin.write_all(b"\n").await;
            }
        }));
        let (said, complained) = (Tail::of(stdout), Tail::of(stderr));
        let status = tokio::time::timeout(timeout, self.child.wait()).await;
        let late = status.is_err();
        let status = match status {
            Ok(status) => status,
            Err(_) => {
                self.group.tell(Signal::TERM);
                match tokio::time::timeout(GRACE, self.child.wait()).await {
                    // what it started may not have listened
                    Ok(status) => {
                        self.group.tell(Signal::KILL);
                        status
                    }
                    Err(_) => {
                        self.group.tell(Signal::KILL);
                        self.child.wait().await
                    }
                }
            }
        };
        self.group.0 = None; // it has ended: its number may be another's soon
        drop(feeding);
        let (said, complained) = tokio::join!(said.last_line(), complained.last_line());
        if late {
            return Ended::Timeout { complained };
        }
        match status {
            Ok(status) => match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
                (Some(code), _) => Ended::Exit { code, said, complained },
                (None, Some(signal)) => Ended::Signal { signal, complained },
                (None, None) => Ended::Lost("it has neither exited nor been ended".into()),
            },
            Err(e) => Ended::Lost(e.to_string()),
        }
    }
}

/// The process group of a child that was not waited for yet.
struct Group(Option<Pid>);

impl Group {
    fn tell(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, signal); // it may have ended just now
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.tell(Signal::KILL);
    }
}

/// A task that ends with whoever waits for it.
struct Aborted<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads a pipe for as long as there is something, and keeps its end.
struct Tail {
    kept: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    reading: Aborted<()>,
}

impl Tail {
    fn of(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let keep = std::sync::Arc::clone(&kept);
        let reading = tokio::spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
                let mut kept = keep.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..read]);
                let over = kept.len().saturating_sub(TAIL_BYTES);
                kept.drain(..over);
            }
        });
        Self { kept, reading: Aborted(reading) }
    }

    async fn last_line(mut self) -> String {
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.reading.0).await; // the rest is not waited for
        let kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_MAX).collect()
    }
}
