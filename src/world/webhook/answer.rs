//! What an endpoint's answer means, and what of it is kept.

use std::time::{Duration, SystemTime};

/// Longest `Retry-After` that is kept to.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Characters of an answer that a person gets to see.
const EXCERPT_MAX: usize = 200;

/// One try, and how long it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From the first look at the name to the end of the answer.
    pub took: Duration,
    /// The answer, or why there was none.
    pub result: Result<Answer, String>,
}

/// An answer, as much of it as was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`, without parameters.
    pub media_type: String,
    /// `Retry-After`, at most [`RETRY_AFTER_MAX`].
    pub retry_after: Option<Duration>,
    /// `Location`, where the endpoint would like us to go.
    pub location: Option<String>,
    /// The beginning of the body, on one line.
    pub excerpt: String,
}

/// What a try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint has it: 2xx.
    Delivered,
    /// It does not want anything any more: 410.
    Gone,
    /// It does not have it; try again, no sooner than after this time.
    Failed(Option<Duration>),
}

impl Attempt {
    /// What it came to, by the status alone: a receiver whose framework calls `ok` HTML has it all the same.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match &self.result {
            Ok(Answer { status: 200..=299, .. }) => Outcome::Delivered,
            Ok(Answer { status: 410, .. }) => Outcome::Gone,
            Ok(answer) => Outcome::Failed(answer.retry_after),
            Err(_) => Outcome::Failed(None),
        }
    }

    /// The status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.result.as_ref().ok().map(|answer| answer.status)
    }

    /// One line for a person: what was answered, and what that means if it is not plain.
    #[must_use]
    pub fn note(&self) -> String {
        let ms = self.took.as_millis();
        let answer = match &self.result {
            Ok(answer) => answer,
            Err(why) => return format!("no answer after {ms} ms: {why}"),
        };
        let is_page = ["text/html", "application/xhtml+xml"].contains(&answer.media_type.as_str());
        let mut note = format!("{} in {ms} ms", answer.status);
        note += match answer.status {
            200..=299 if is_page => ": an HTML page; is this the receiver, or something before it?",
            200..=299 => "",
            300..=399 => ": redirects are not followed; give the subscription the new URL",
            401 | 403 => ": the receiver does not accept our signature, or wants something else",
            410 => ": the endpoint wants nothing any more",
            429 => ": too many requests",
            _ if is_page => ": an HTML page; is this the receiver's URL?",
            _ => "",
        };
        if let Some(location) = answer.location.as_ref().filter(|_| (300..400).contains(&answer.status)) {
            note += &format!(" ({location})");
        }
        if let (Some(wait), Outcome::Failed(_)) = (answer.retry_after, self.outcome()) {
            note += &format!("; it asks for {} s", wait.as_secs());
        }
        if !answer.excerpt.is_empty() && !matches!(answer.status, 200..=299) {
            note += &format!(": {}", answer.excerpt);
        }
        note
    }
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3). What is longer than
/// [`RETRY_AFTER_MAX`] is cut to it, and what cannot be read is as if it were not there.
#[must_use]
pub fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The beginning of a body as one line: without tags, if it is a page, and without what steers a terminal.
#[must_use]
pub fn excerpt(body: &[u8], media_type: &str) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(16 * EXCERPT_MAX)]);
    let text = if media_type.contains("html") { without_tags(&text) } else { text.into_owned() };
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(EXCERPT_MAX) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn without_tags(text: &str) -> String {
    let mut inside = false;
    let keep = |c: char| match (c, inside) {
        ('<', _) => {
            inside = true;
            ' '
        }
        ('>', true) => {
            inside = false;
            ' '
        }
        (_, true) => ' ',
        (c, false) => c,
    };
    text.chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, change: impl Fn(&mut Answer)) -> Attempt {
        let mut answer = Answer { status, ..Answer::default() };
        change(&mut answer);
        Attempt { took: Duration::from_millis(12), result: Ok(answer) }
    }

    #[test]
    fn the_status_alone_decides() {
        let html = |answer: &mut Answer| answer.media_type = "text/html".into();
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(answered(status, html).outcome(), Outcome::Delivered, "{status}");
        }
        for status in [100, 300, 301, 307, 400, 401, 404, 429, 500, 503, 599] {
            assert_eq!(answered(status, |_| ()).outcome(), Outcome::Failed(None), "{status}");
        }
        assert_eq!(answered(410, |_| ()).outcome(), Outcome::Gone);
        let busy = answered(429, |answer| answer.retry_after = Some(Duration::from_secs(7)));
        assert_eq!(busy.outcome(), Outcome::Failed(Some(Duration::from_secs(7))));
        assert_eq!(Attempt { took: Duration::ZERO, result: Err("reset".into()) }.outcome(), Outcome::Failed(None));
    }

    #[test]
    fn the_note_says_what_a_person_needs() {
        assert_eq!(answered(204, |_| ()).note(), "204 in 12 ms");
        let moved = answered(301, |answer| answer.location = Some("https://new.example/".into())).note();
        assert!(moved.contains("not followed") && moved.contains("https://new.example/"), "{moved}");
        let page = answered(200, |answer| answer.media_type = "text/html".into()).note();
        assert!(page.contains("HTML"), "{page}");
        let broken = answered(500, |answer| answer.excerpt = "no database".into()).note();
        assert_eq!(broken, "500 in 12 ms: no database");
        let busy = answered(503, |answer| answer.retry_after = Some(Duration::from_secs(7))).note();
        assert!(busy.contains("asks for 7 s"), "{busy}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_longer_than_a_day() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // 1994-11-06T08:49:37Z
        let after = |text: &str| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!((after("0"), after(" 120 ")), (Some(0), Some(120)));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(after("Sunday, 06-Nov-94 08:50:07 GMT"), Some(30));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0), "in the past: at once");
        let day = Some(24 * 3600);
        assert_eq!((after("999999"), after("99999999999999999999999"), after("Fri, 01 Jan 2100 00:00:00 GMT")), (day, day, day));
        assert_eq!((after(""), after("-1"), after("soon"), after("1.5")), (None, None, None, None));
    }

    #[test]
    fn an_excerpt_is_short_and_harmless() {
        assert_eq!(excerpt(b"  no\tdatabase\r\n", "text/plain"), "no database");
        assert_eq!(excerpt(b"<html><title>502 Bad Gateway</title><h1>nginx</h1>", "text/html"), "502 Bad Gateway nginx");
        assert_eq!(excerpt(b"\x1b[2Jcleared \xff", "text/plain"), "[2Jcleared \u{fffd}");
        let long = excerpt("é".repeat(5_000).as_bytes(), "text/plain");
        assert_eq!(long.chars().count(), EXCERPT_MAX + 1);
    }
}
