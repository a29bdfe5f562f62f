//! Progress bars of long work: on standard error, and only if a person watches it.

use indicatif::{ProgressBar, ProgressStyle};

use super::output::is_watched;

/// A bar, or nothing.
pub struct Progress(ProgressBar);

impl Progress {
    /// Counts records (or events) towards a total, if that is known.
    pub fn records(what: &'static str, total: Option<u64>) -> Self {
        Self::new(what, total, "{human_pos}/{human_len}", "{human_pos}")
    }

    /// Counts bytes towards a total, if that is known.
    pub fn bytes(what: &'static str, total: Option<u64>) -> Self {
        Self::new(what, total, "{bytes}/{total_bytes}", "{bytes}")
    }

    fn new(what: &'static str, total: Option<u64>, of: &str, alone: &str) -> Self {
        if !is_watched() {
            return Self(ProgressBar::hidden());
        }
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let template = match total {
            Some(_) => format!("{{msg}} {{wide_bar}} {of} {{eta}}"),
            None => format!("{{msg}} {{spinner}} {alone} in {{elapsed}}"),
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self(bar.with_message(what))
    }

    /// So many more are done.
    pub fn add(&self, n: u64) {
        self.0.inc(n);
    }

    /// So many are done, of so many.
    pub fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// It is over: takes the bar away, so that the result stands alone.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
