//! The engine over HTTP: requests, answers, and problems in words.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Failure;
use super::output::printable;

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take: longer than the engine itself waits for anything.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long a stream may be silent before it is taken for dead; the engine sends heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Largest answer that is read at once, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An engine.
pub struct Client {
    agent: ureq::Agent,
    url: String,
}

/// What the engine answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u64>,
    /// The body; `null` if it was no JSON.
    pub body: Value,
}

/// How something is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Does it.
    Post,
    /// Makes it so.
    Put,
    /// Ends it.
    Delete,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nothing was sent.
    Unreachable(String),
    /// It was sent, and what became of it is not known.
    Lost(String),
}

impl Client {
    /// The engine at this address.
    pub fn new(url: &str) -> Self {
        Self::within(url, None)
    }

    /// The engine at this address, to which a whole request may take no longer than this.
    pub fn within(url: &str, longest: Option<Duration>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(longest)
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_recv_response(Some(ANSWER_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .user_agent(concat!("annals/", env!("CARGO_PKG_VERSION")));
        // a proxy could not reach what listens on this machine only
        let config = if is_local(url) { config.proxy(None) } else { config };
        Self { agent: config.build().new_agent(), url: url.to_owned() }
    }

    /// Asks, and expects JSON.
    ///
    /// # Errors
    /// [`Failure`] in the words of the engine.
    pub fn get(&self, path: &Path) -> Result<Value, Failure> {
        let answer = self.try_get(path, &[])?;
        if answer.status < 300 { Ok(answer.body) } else { Err(refused(&answer)) }
    }

    /// Asks a view, and expects an answer that knows of every event there is now: what a caller was
    /// told before must not be missing because the view is a moment behind.
    ///
    /// # Errors
    /// [`Failure`] in the words of the engine.
    pub fn get_fresh(&self, path: &Path) -> Result<Value, Failure> {
        let now = self.partitions()?.positions();
        let headers: &[(&str, &str)] = if now.is_empty() { &[] } else { &[("annals-min-position", &now)] };
        let answer = self.try_get(path, headers)?;
        if answer.status < 300 { Ok(answer.body) } else { Err(refused(&answer)) }
    }

    /// Where the partitions are.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn partitions(&self) -> Result<Partitions, Failure> {
        let body = self.get(&Path::new(&["v1", "partitions"]))?;
        Partitions::deserialize(&body).map_err(|e| Failure::Unavailable(format!("{} does not answer like an engine: {e}", self.url)))
    }

    /// Asks, and takes any status for an answer.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if there is none.
    pub fn try_get(&self, path: &Path, headers: &[(&str, &str)]) -> Result<Answer, Failure> {
        let mut request = self.agent.get(self.address(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.call().map_err(|e| self.no_answer(e)).and_then(read).map_err(|none| self.unavailable(none))
    }

    /// Sends JSON of the given type, and takes any status for an answer.
    ///
    /// # Errors
    /// [`NoAnswer`]: whether it was sent matters to who sends events.
    pub fn post(&self, path: &Path, headers: &[(&str, &str)], body: &str) -> Result<Answer, NoAnswer> {
        let mut request = self.agent.post(self.address(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send(body).map_err(|e| self.no_answer(e)).and_then(read)
    }

    /// Changes something, and expects JSON or nothing. `null` is no body.
    ///
    /// # Errors
    /// [`Failure`] in the words of the engine.
    pub fn change(&self, method: Method, path: &Path, body: &Value) -> Result<Value, Failure> {
        let method = match method {
            Method::Post => ureq::http::Method::POST,
            Method::Put => ureq::http::Method::PUT,
            Method::Delete => ureq::http::Method::DELETE,
        };
        let request = ureq::http::Request::builder().method(method).uri(self.address(path)).header("content-type", "application/json");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(body).map_err(|e| Failure::Usage(e.to_string()))?;
        // DELETE says why in its body, which the library would not send unless told
        let sent = self.agent.run(self.agent.configure_request(request).allow_non_standard_methods(true).build());
        let answer = sent.map_err(|e| self.no_answer(e)).and_then(read).map_err(|none| self.unavailable(none))?;
        if answer.status < 300 { Ok(answer.body) } else { Err(refused(&answer)) }
    }

    /// Puts JSON in a place, and takes any status for an answer.
    ///
    /// # Errors
    /// [`NoAnswer`]: whether it was sent matters to who moves something.
    pub fn put(&self, path: &Path, headers: &[(&str, &str)], body: &str) -> Result<Answer, NoAnswer> {
        let mut request = self.agent.put(self.address(path)).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send(body).map_err(|e| self.no_answer(e)).and_then(read)
    }

    /// Removes something, and takes any status for an answer.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if there is none.
    pub fn delete(&self, path: &Path) -> Result<Answer, Failure> {
        let request = self.agent.delete(self.address(path));
        request.call().map_err(|e| self.no_answer(e)).and_then(read).map_err(|none| self.unavailable(none))
    }

    /// Asks for something long, and returns it as it comes.
    ///
    /// # Errors
    /// [`Failure`] in the words of the engine.
    pub fn stream(&self, path: &Path, headers: &[(&str, &str)]) -> Result<Box<dyn Read>, Failure> {
        let mut request = self.agent.get(self.address(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.body(request.call())
    }

    /// Asks for something long to be done, and returns what is said of it as it comes.
    ///
    /// # Errors
    /// [`Failure`] in the words of the engine.
    pub fn post_stream(&self, path: &Path) -> Result<Box<dyn Read>, Failure> {
        self.body(self.agent.post(self.address(path)).send_empty())
    }

    fn body(&self, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Box<dyn Read>, Failure> {
        let response = response.map_err(|e| self.unavailable(self.no_answer(e)))?;
        if response.status().as_u16() < 300 {
            return Ok(Box::new(response.into_body().into_reader()));
        }
        Err(read(response).map_or_else(|none| self.unavailable(none), |answer| refused(&answer)))
    }

    /// Says that the engine did not answer.
    pub fn unavailable(&self, none: NoAnswer) -> Failure {
        let (NoAnswer::Unreachable(why) | NoAnswer::Lost(why)) = none;
        let url = &self.url;
        Failure::Unavailable(format!("no answer from {url}: {why}\nis `annals serve` running there? --url or ANNALS_URL say where it is"))
    }

    fn address(&self, path: &Path) -> String {
        format!("{}{}", self.url, path.0)
    }

    fn no_answer(&self, error: ureq::Error) -> NoAnswer {
        use std::io::ErrorKind;
        match &error {
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => {
                NoAnswer::Unreachable(error.to_string())
            }
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => NoAnswer::Unreachable(error.to_string()),
            ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => NoAnswer::Unreachable("connection refused".into()),
            _ => NoAnswer::Lost(error.to_string()),
        }
    }
}

/// The journal's partitions, as the engine tells them.
#[derive(Debug, Default, Deserialize)]
pub struct Partitions {
    /// The journal's name.
    pub journal: String,
    /// One per partition.
    pub partitions: Vec<Partition>,
}

/// One partition.
#[derive(Debug, Default, Deserialize)]
pub struct Partition {
    /// Its number.
    pub partition: u32,
    /// What its arbiter does.
    pub state: String,
    /// Why it does not work.
    #[serde(default)]
    pub reason: Option<String>,
    /// Its last place.
    pub seq: Option<u64>,
    /// Models in it.
    #[serde(default)]
    pub models: u64,
}

impl Partitions {
    /// The position list of now.
    pub fn positions(&self) -> String {
        let list = self.partitions.iter().filter_map(|p| Some(format!("{}:{}", p.partition, p.seq?)));
        list.collect::<Vec<_>>().join(",")
    }

    /// How many events there are.
    pub fn events(&self) -> u64 {
        self.partitions.iter().map(|p| p.seq.map_or(0, |seq| seq + 1)).sum()
    }
}

fn is_local(url: &str) -> bool {
    let host = url.trim_start_matches("http://");
    ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local))
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer, NoAnswer> {
    let status = response.status().as_u16();
    let retry_after_s = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().map_err(|e| NoAnswer::Lost(e.to_string()))?;
    Ok(Answer { status, retry_after_s, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
}

/// What a problem says (RFC 9457, with the engine's additions).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    remedy: String,
    allowed: Vec<String>,
    violations: Vec<Violation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Violation {
    field: String,
    message: String,
}

impl Answer {
    /// What was wrong, and what to do about it.
    pub fn wrong(&self) -> (String, String) {
        let problem: Problem = Problem::deserialize(&self.body).unwrap_or_default();
        let what = [&problem.detail, &problem.title].into_iter().find(|text| !text.is_empty());
        let what = what.map_or_else(|| format!("the engine answered with status {}", self.status), |text| printable(text));
        (what, printable(&problem.remedy))
    }
}

/// A problem in words: what was wrong, what to do, what would be allowed.
pub fn explain(answer: &Answer) -> String {
    let problem: Problem = Problem::deserialize(&answer.body).unwrap_or_default();
    let (what, remedy) = answer.wrong();
    let mut lines = vec![what];
    for violation in &problem.violations {
        let field = if violation.field.is_empty() { "the data" } else { &violation.field };
        lines.push(format!("  {}: {}", printable(field), printable(&violation.message)));
    }
    if !remedy.is_empty() {
        lines.push(format!("what to do: {remedy}"));
    }
    if !problem.allowed.is_empty() {
        lines.push(format!("allowed now: {}", printable(&problem.allowed.join(", "))));
    }
    lines.join("\n")
}

/// The failure that an unhappy answer is.
pub fn refused(answer: &Answer) -> Failure {
    let words = explain(answer);
    match answer.status {
        400 => Failure::Usage(words),
        500.. => Failure::Unavailable(words),
        _ => Failure::Refused(words),
    }
}

/// A path with its query, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// A path of these segments.
    pub fn new(segments: &[&str]) -> Self {
        Self(segments.iter().map(|segment| format!("/{}", encode(segment))).collect())
    }

    /// Adds a parameter to the query.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0 += &format!("{name}={}", encode(value));
        self
    }

    /// Whether the query has this parameter.
    pub fn has(&self, name: &str) -> bool {
        self.0.split(['?', '&']).skip(1).any(|pair| pair.split('=').next() == Some(name))
    }

    /// Adds a parameter, if there is one.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(text: &str) -> String {
    let byte = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_values_are_encoded() {
        let path =
            Path::new(&["v1", "models", "grün/1 a"]).with("as_of", "2026-03-01T12:00:00+01:00").maybe("x", None).maybe("y", Some("&"));
        assert_eq!(path.0, "/v1/models/gr%C3%BCn%2F1%20a?as_of=2026-03-01T12%3A00%3A00%2B01%3A00&y=%26");
        assert!(path.has("as_of") && path.has("y") && !path.has("x"));
    }

    #[test]
    fn a_problem_is_told_with_its_remedy_its_fields_and_what_is_allowed() {
        let body = json!({"title": "t", "detail": "it is retired", "remedy": "restore it", "allowed": ["a", "b"],
            "violations": [{"field": "/x", "message": "is missing"}, {"field": "", "message": "\u{7}"}]});
        let answer = Answer { status: 409, retry_after_s: None, body };
        let told = "it is retired\n  /x: is missing\n  the data: \u{fffd}\nwhat to do: restore it\nallowed now: a, b";
        assert_eq!(explain(&answer), told);
        assert_eq!(refused(&answer).code(), 1);
    }

    #[test]
    fn every_status_has_its_exit_code_and_words_even_without_a_problem() {
        for (status, code) in [(400, 2), (404, 1), (409, 1), (410, 1), (412, 1), (422, 1), (500, 69), (503, 69)] {
            let failure = refused(&Answer { status, retry_after_s: None, body: Value::Null });
            assert_eq!(failure.code(), code, "{status}");
            assert!(failure.to_string().contains(&status.to_string()));
        }
    }
}
