//! Standard output for data, standard error for people; a closed pipe ends the program quietly.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;
use serde_json::Value;

use super::Failure;

/// Standard output, or a buffer in tests.
pub struct Output {
    to: Box<dyn Write>,
}

impl Output {
    /// The program's standard output.
    pub fn stdout() -> Self {
        Self { to: Box::new(BufWriter::new(io::stdout())) }
    }

    /// Writes a line.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to.write_all(bytes).map_err(closed)
    }

    /// Writes one JSON value on one line.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
        self.line(&text)
    }

    /// Hands everything on.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush().map_err(closed)
    }

    /// Writes rows as a table with aligned columns; the last column is not padded.
    pub fn table(&mut self, titles: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        for line in table(titles, rows) {
            self.line(&line)?;
        }
        Ok(())
    }
}

fn closed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Failed(anyhow::Error::from(error).context("standard output could not be written")),
    }
}

/// Tells a person something on standard error. If that is gone too, nobody is there to tell.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Tells a person what went wrong.
pub fn complain(text: &str) {
    say(&format!("annals: {text}"));
}

/// Whether a person watches standard error.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

fn table(titles: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let titles: Vec<String> = titles.iter().map(ToString::to_string).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&titles).chain(rows).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// A JSON value as a person reads it: text without quotes, nothing as `-`, lists with commas.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(members) if members.is_empty() => "-".into(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| format!("{}={}", printable(name), plain(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// `1 record`, `2 records`.
pub fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// What others wrote must not steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_aligned_by_characters_and_the_last_has_no_blanks_behind_it() {
        let rows = [vec!["grün".to_owned(), "1".to_owned()], vec!["iris".to_owned(), "long value".to_owned()]];
        assert_eq!(table(&["NAME", "V"], &rows), ["NAME  V", "grün  1", "iris  long value"]);
    }

    #[test]
    fn values_are_plain_and_cannot_steer_a_terminal() {
        let value = json!({"a": ["x\u{1b}[2J", null], "b": 1.5, "c": {}, "d": true});
        assert_eq!(plain(&value), "a=x\u{fffd}[2J, -, b=1.5, c=-, d=true");
    }

    struct Pipe;
    impl Write for Pipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_ends_the_program_without_a_word() {
        let mut out = Output { to: Box::new(Pipe) };
        assert!(matches!(out.line("x"), Err(Failure::Closed)));
        assert_eq!(Failure::Closed.code(), 0);
    }
}
