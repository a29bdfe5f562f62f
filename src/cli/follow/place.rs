//! The place that the engine keeps for a subscriber, moved when an event was taken.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::client::{Answer, Client, Path, explain, refused};
use crate::cli::output::say;

/// Pauses between two tries to move the place, the first and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A named cursor.
pub struct Place<'a> {
    client: &'a Client,
    path: Path,
    name: &'a str,
    /// As far as known; 0 before it is made.
    revision: u64,
    cursor: Option<String>,
}

impl<'a> Place<'a> {
    /// Asks where the subscriber of this name goes on, or forgets that.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn find(client: &'a Client, workspace: Option<&str>, name: &'a str, forget: bool) -> Result<Self, Failure> {
        let path = Path::new(&["v1", "cursors", name]).maybe("workspace", workspace);
        let mut place = Self { client, path, name, revision: 0, cursor: None };
        if forget {
            let answer = client.delete(&place.path)?;
            if answer.status >= 300 && answer.status != 404 {
                return Err(refused(&answer));
            }
            return Ok(place);
        }
        match client.try_get(&place.path, &[])? {
            answer if answer.status < 300 => place.is_at(&answer)?,
            // that there is none is told by the engine itself, and not by something in between
            answer if answer.body.get("code").is_some_and(|code| code == "unknown-cursor") => {}
            answer => return Err(refused(&answer)),
        }
        Ok(place)
    }

    /// Where to go on, if anything was taken yet.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    fn is_at(&mut self, answer: &Answer) -> Result<(), Failure> {
        let cursor = answer.body.get("cursor").and_then(Value::as_str);
        let revision = answer.body.get("revision").and_then(Value::as_u64);
        let (Some(cursor), Some(revision)) = (cursor, revision) else {
            return Err(Failure::Unavailable(format!("the engine does not tell where the cursor `{}` is", self.name)));
        };
        (self.cursor, self.revision) = (Some(cursor.to_owned()), revision);
        Ok(())
    }

    /// Moves the place, and waits for the engine as long as it is away: what was taken must not come
    /// again because of a restart.
    ///
    /// # Errors
    /// [`Failure::Refused`] if another subscriber uses the name.
    pub fn move_to(&mut self, cursor: &str) -> Result<(), Failure> {
        if self.cursor.as_deref() == Some(cursor) {
            return Ok(());
        }
        let (mut pause, mut may_have_moved) = (PAUSE_MIN, false);
        let body = json!({"cursor": cursor}).to_string();
        loop {
            let revision = format!("\"{}\"", self.revision);
            let header = if self.revision == 0 { ("if-none-match", "*") } else { ("if-match", revision.as_str()) };
            let why = match self.client.put(&self.path, &[header], &body) {
                Ok(answer) if answer.status < 300 => return self.is_at(&answer),
                Ok(answer) if answer.status == 412 && may_have_moved && self.was_moved_to(cursor)? => return Ok(()),
                Ok(answer) if answer.status == 412 => return Err(self.taken_over(&answer)),
                Ok(answer) if answer.status == 503 => explain(&answer),
                Ok(answer) => return Err(refused(&answer)),
                Err(none) => self.client.unavailable(none).to_string(),
            };
            may_have_moved = true;
            say(&format!("the cursor `{}` cannot be moved: {why}\ntrying again in {} s", self.name, pause.as_secs()));
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Whether it is where we wanted it: the answer to an earlier try may have been lost.
    fn was_moved_to(&mut self, cursor: &str) -> Result<bool, Failure> {
        let answer = self.client.try_get(&self.path, &[])?;
        if answer.body.get("cursor").and_then(Value::as_str) != Some(cursor) {
            return Ok(false);
        }
        self.is_at(&answer).map(|()| true)
    }

    fn taken_over(&self, answer: &Answer) -> Failure {
        Failure::Refused(format!("another subscriber uses the name `{}`: this one ends\n{}", self.name, explain(answer)))
    }
}
