//! A search cluster over plain REST, as Elasticsearch 7 and 8 and OpenSearch speak it, and what its refusals mean.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::http::uri;
use crate::world::webhook::send::trust;

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long a request may take: a bulk on a busy cluster.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes: a page of a thousand documents with all that they may say fits.
const ANSWER_MAX: usize = 256 * 1024 * 1024;
/// Longest reason that is kept of an answer, in characters.
const REASON_MAX: usize = 500;

/// One cluster.
pub struct Cluster {
    http: reqwest::Client,
    url: String,
    authorization: Option<String>,
    /// Without user and password, for people.
    shown: String,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Does.
    Post,
    /// Makes or changes.
    Put,
    /// Removes.
    Delete,
}

/// What goes with a request.
pub enum Body {
    /// Nothing.
    None,
    /// One JSON document.
    Json(String),
    /// Lines of JSON.
    Lines(Vec<u8>),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body: JSON, mostly.
    pub text: String,
}

/// Why a cluster does not do what is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It does not answer, or not as a search cluster.
    #[error("the search cluster {0} does not answer: {1}")]
    Away(String, String),
    /// It has too much to do (429).
    #[error("the search cluster has too much to do: {0}")]
    Busy(String),
    /// Shards are missing (503).
    #[error("the search cluster is red: {0}")]
    Red(String),
    /// It does not let us in (401, 403).
    #[error("the search cluster refuses us: {0}")]
    Denied(String),
    /// What is in our place is none of ours.
    #[error("{0}")]
    Foreign(String),
    /// It is ours and not as we make it.
    #[error("{0}")]
    Changed(String),
    /// The index has what the journal has not.
    #[error("the index has events that the journal does not have (partition {partition}: up to {indexed}; the journal ends at {head})")]
    Ahead {
        /// The partition.
        partition: u32,
        /// The last event that is in the index.
        indexed: u64,
        /// The journal's last one.
        head: u64,
    },
    /// Another answer than these.
    #[error("the search cluster says {0}: {1}")]
    Refused(u16, String),
    /// This instance does not index, and so does not make the index anew.
    #[error("another instance keeps the index, or this one has no role `actor`")]
    Elsewhere,
    /// The index is being made anew.
    #[error("the index is being made anew already")]
    Reindexing,
    /// The index does not have what is asked for yet.
    #[error("the search index cannot answer yet: {0}")]
    Behind(&'static str),
    /// The cluster has refused documents.
    #[error("the search index lacks documents that the cluster did not take")]
    Lacks,
    /// The documents cannot be read.
    #[error("the documents cannot be read: {0}")]
    Views(String),
}

impl Trouble {
    /// The word for the state that it leads to.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Away(..) => "away",
            Self::Busy(_) => "busy",
            Self::Red(_) => "red",
            Self::Denied(_) => "denied",
            Self::Foreign(_) => "foreign",
            Self::Changed(_) => "changed",
            Self::Ahead { .. } => "ahead",
            Self::Refused(..) => "refused",
            Self::Elsewhere => "standby",
            Self::Reindexing => "reindexing",
            Self::Behind(_) => "filling",
            Self::Lacks => "lacking",
            Self::Views(_) => "waiting",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Away(..) => "see that it runs and that --search names it; nothing is lost, and indexing goes on by itself",
            Self::Busy(_) => "it passes by itself, or the cluster is too small; indexing goes on with growing pauses",
            Self::Red(_) => {
                "bring the missing shards back; nothing is lost, and indexing goes on by itself. If they are gone: `annals search reindex`"
            }
            Self::Denied(_) => "give the account all rights on the index, its alias and `NAME-*`, and name it with --search-auth-file",
            Self::Foreign(_) => {
                "name another one with --search-index; `annals import elasticsearch` takes its records over. Nothing of it was changed"
            }
            Self::Changed(_) => "run `annals search reindex`: a new index is made beside it, and takes its place",
            Self::Ahead { .. } => "the journal was restored from a backup: run `annals search reindex`",
            Self::Refused(..) => "look at the cluster's own log; it is tried again",
            Self::Elsewhere => "ask the instance that acts: `annals doctor` tells of each what it does",
            Self::Reindexing => "wait until that is done: `annals doctor` shows it",
            Self::Behind(_) => "wait; GET /v1/search/index shows how far it is",
            Self::Lacks => "`annals doctor` names them and why; mend that at the cluster, then run `annals search reindex`",
            Self::Views(_) => "look at GET /v1/views; it is tried again",
        }
    }
}

impl Cluster {
    /// A cluster at a URL, which may name user and password; `authorization` is `USER:PASSWORD` or `ApiKey KEY`.
    ///
    /// # Errors
    /// What is wrong with the URL or the authorities' file.
    pub fn new(url: &str, authorization: Option<&str>, ca: Option<&Path>) -> Result<Self, String> {
        let mut parsed = reqwest::Url::parse(url).map_err(|e| format!("this is no URL ({e}): say http://HOST:9200"))?;
        if !["http", "https"].contains(&parsed.scheme()) || parsed.host().is_none() || parsed.query().is_some() {
            return Err("say http://HOST:PORT or https://HOST:PORT, and no more than a path behind it".into());
        }
        // a URL's own escapes stand for what they stand for
        let plain = |text: &str| String::from_utf8_lossy(&uri::decode(text.as_bytes())).into_owned();
        let said = (!parsed.username().is_empty()).then(|| basic(&plain(parsed.username()), &plain(parsed.password().unwrap_or_default())));
        let _ = parsed.set_username("").and_then(|()| parsed.set_password(None)); // it has a host, so it takes both
        let authorization = authorization.map(|text| match text.trim().split_once(':') {
            Some((user, password)) if !text.starts_with("ApiKey ") => basic(user, password),
            _ => text.trim().to_owned(),
        });
        let http = reqwest::Client::builder().connect_timeout(CONNECT_MAX).timeout(REQUEST_MAX).tls_backend_preconfigured(trust(ca)?);
        let http = http.redirect(reqwest::redirect::Policy::none()).build().map_err(|e| e.to_string())?;
        let shown = parsed.as_str().trim_end_matches('/').to_owned();
        Ok(Self { http, url: shown.clone(), authorization: authorization.or(said), shown })
    }

    /// Its address, without secrets.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Asks, and takes any answer that a search cluster gives; one that is busy, red, away or denies is a trouble.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn ask(&self, verb: Verb, path: &str, body: Body) -> Result<Answer, Trouble> {
        let url = format!("{}{path}", self.url);
        let mut request = match verb {
            Verb::Get => self.http.get(url),
            Verb::Post => self.http.post(url),
            Verb::Put => self.http.put(url),
            Verb::Delete => self.http.delete(url),
        };
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        request = match body {
            Body::None => request,
            // no vendor's media type: OpenSearch refuses Elasticsearch's
            Body::Json(text) => request.header("content-type", "application/json").body(text),
            Body::Lines(bytes) => request.header("content-type", "application/x-ndjson").body(bytes),
        };
        let away = |e: &reqwest::Error| {
            let mut why: &dyn std::error::Error = e;
            while let Some(source) = why.source() {
                why = source;
            }
            let why = if e.is_timeout() { "no answer in time".to_owned() } else { why.to_string() };
            Trouble::Away(self.shown.clone(), why)
        };
        let mut response = request.send().await.map_err(|e| away(&e))?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(some) = response.chunk().await.map_err(|e| away(&e))? {
            if bytes.len() + some.len() > ANSWER_MAX {
                return Err(Trouble::Refused(status, format!("more than {} MiB, which is no answer", ANSWER_MAX / 1024 / 1024)));
            }
            bytes.extend_from_slice(&some);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match status {
            401 | 403 => Err(Trouble::Denied(reason(&text))),
            429 => Err(Trouble::Busy(reason(&text))),
            503 => Err(Trouble::Red(reason(&text))),
            502 | 504 => Err(Trouble::Away(self.shown.clone(), format!("something before it says {status}"))),
            _ => Ok(Answer { status, text }),
        }
    }

    /// Asks, and expects a good answer.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn get(&self, verb: Verb, path: &str, body: Body) -> Result<String, Trouble> {
        let answer = self.ask(verb, path, body).await?;
        if answer.status < 300 { Ok(answer.text) } else { Err(Trouble::Refused(answer.status, reason(&answer.text))) }
    }

    /// What runs there, such as `opensearch 2.19.6`; some accounts may not know.
    ///
    /// # Errors
    /// [`Trouble`] if it does not answer.
    pub async fn engine(&self) -> Result<String, Trouble> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Root {
            version: Version,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Version {
            number: String,
            distribution: Option<String>,
        }
        let text = match self.get(Verb::Get, "/", Body::None).await {
            Err(Trouble::Denied(_) | Trouble::Refused(..)) => String::new(),
            other => other?,
        };
        let Version { number, distribution } = serde_json::from_str::<Root>(&text).unwrap_or_default().version;
        Ok(if number.is_empty() {
            "a search cluster".into()
        } else {
            format!("{} {number}", distribution.as_deref().unwrap_or("elasticsearch"))
        })
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// An error as a cluster tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    #[serde(rename = "type")]
    kind: String,
    reason: Option<String>,
    caused_by: Option<Box<Told>>,
}

impl Told {
    /// Whether it is the document that does not fit, and not the index or the cluster that is unwell.
    pub(super) fn is_of_the_document(&self) -> bool {
        let kind = self.kind.as_str();
        // an illegal argument may be the alias or a pipeline, too, which then meets every document
        let is_of_a_word = || kind == "illegal_argument_exception" && self.words().contains("immense term");
        kind.ends_with("parsing_exception") || kind == "strict_dynamic_mapping_exception" || is_of_a_word()
    }

    /// In words, with the innermost cause.
    pub(super) fn words(&self) -> String {
        let mut cause = self;
        while let Some(inner) = &cause.caused_by {
            cause = inner;
        }
        let own = self.reason.as_deref().unwrap_or(&self.kind);
        let deep = cause.reason.as_deref().filter(|reason| *reason != own).map(|reason| format!(" ({reason})"));
        short(&format!("{own}{}", deep.unwrap_or_default()))
    }
}

/// What an answer that is not good says.
pub(super) fn reason(text: &str) -> String {
    #[derive(Deserialize)]
    struct Wrong {
        error: Told,
    }
    match serde_json::from_str::<Wrong>(text) {
        Ok(wrong) => wrong.error.words(),
        Err(_) if text.trim().is_empty() => "it says no more".into(),
        Err(_) => short(text),
    }
}

fn short(text: &str) -> String {
    text.chars().take(REASON_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_sent_and_not_shown() {
        let cluster = Cluster::new("http://ada:secret@host:9200/es/", None, None).unwrap();
        assert_eq!((cluster.shown(), cluster.authorization.as_deref()), ("http://host:9200/es", Some("Basic YWRhOnNlY3JldA==")));
        let escaped = Cluster::new("http://ada%40x:a=b%25@host", None, None).unwrap().authorization;
        assert_eq!(escaped, Some(basic("ada@x", "a=b%")), "as they are meant");
        let with = |text: &str| Cluster::new("http://h", Some(text), None).unwrap().authorization.unwrap();
        assert_eq!((with("ada:secret\n").as_str(), with("ApiKey a:b\n").as_str()), ("Basic YWRhOnNlY3JldA==", "ApiKey a:b"));
        for bad in ["", "host:9200", "ftp://host", "http://", "http://h/?q=1"] {
            assert!(Cluster::new(bad, None, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_innermost_cause() {
        let text = r#"{"error":{"type":"a","reason":"failed to parse","caused_by":{"type":"b","reason":null,"caused_by":{"type":"c","reason":"no date"}}}}"#;
        assert_eq!(reason(text), "failed to parse (no date)");
        assert_eq!((reason("").as_str(), reason("<html>\n").as_str()), ("it says no more", "<html> "));
    }
}
