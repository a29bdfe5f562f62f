//! A program that is run for each event, again and again until it has taken it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use annals_events::kind::Kind;
use serde_json::Value;

use crate::cli::output::{plain, say};

/// Pauses between two tries with one event, the first and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A program and its arguments, as they were given: no shell reads them.
pub struct Program<'a> {
    program: &'a Path,
    arguments: &'a [String],
    url: &'a str,
}

impl<'a> Program<'a> {
    /// This program, which finds the engine at `url`.
    pub fn new(program: &'a Path, arguments: &'a [String], url: &'a str) -> Self {
        Self { program, arguments, url }
    }

    /// Runs it with an event until it ends with 0. No event is passed over, so this may take for ever.
    pub fn run(&self, text: &str, event: &Value) {
        let mut pause = PAUSE_MIN;
        loop {
            let why = match self.once(text, event) {
                Ok(status) if status.success() => return,
                Ok(status) => status.to_string(),
                Err(e) => e.to_string(),
            };
            let about = event.get("position").map(plain).unwrap_or_default();
            say(&format!("{} did not take the event at {about} ({why}): trying again in {} s", self.program.display(), pause.as_secs()));
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn once(&self, text: &str, event: &Value) -> std::io::Result<ExitStatus> {
        let mut command = Command::new(self.program);
        command.args(self.arguments).envs(variables(event)).env("ANNALS_URL", self.url).stdin(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // a program that does not read has its reasons
            let _ = stdin.write_all(text.as_bytes()).and_then(|()| stdin.write_all(b"\n"));
        }
        child.wait()
    }
}

/// The event's parts; what it does not have is empty, so that nothing is inherited from around us.
fn variables(event: &Value) -> Vec<(&'static str, String)> {
    // no variable holds a NUL
    let text = |value: Option<&Value>| value.filter(|v| !v.is_null()).map(plain).unwrap_or_default().replace('\0', "");
    let of = |name: &str| text(event.get(name));
    let subject = of("subject");
    let mut parts = subject.splitn(3, '/').map(ToOwned::to_owned);
    let (workspace, model, version) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let decided = |name: &str| text(event.pointer(&format!("/data/decided/{name}")));
    let (kind, numbered) = (of("type"), decided("version"));
    vec![
        ("ANNALS_EVENT_ID", of("id")),
        ("ANNALS_EVENT_SOURCE", of("source")),
        ("ANNALS_TYPE", Kind::from_any(&kind).map_or(kind, |kind| kind.short().to_owned())),
        ("ANNALS_WORKSPACE", workspace),
        ("ANNALS_MODEL", model),
        ("ANNALS_VERSION", if numbered.is_empty() { version } else { numbered }),
        ("ANNALS_CHANNEL", decided("channel")),
        ("ANNALS_POSITION", of("position")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_finds_the_parts_of_the_event_and_nothing_from_around() {
        let event = serde_json::json!({"id": "e1", "source": "/s", "type": "dev.annals.version.promoted.v1", "subject": "default/iris/1.0",
            "position": "3:17", "data": {"decided": {"channel": "production", "version": 1}}});
        let found = variables(&event);
        let of = |name: &str| found.iter().find(|(n, _)| *n == name).unwrap().1.as_str();
        assert_eq!(
            (of("ANNALS_TYPE"), of("ANNALS_MODEL"), of("ANNALS_VERSION"), of("ANNALS_CHANNEL")),
            ("promoted", "iris", "1", "production")
        );
        let nothing = variables(&Value::Null);
        assert!(nothing.len() == found.len() && nothing.iter().all(|(_, value)| value.is_empty()), "{nothing:?}");
    }
}
