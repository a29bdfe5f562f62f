//! The calls to the schema registry, and what their failures mean.

use std::error::Error;
use std::time::Duration;

use annals_events::kind::Kind;
use schema_registry_converter::async_impl::schema_registry::{SrSettings, post_schema};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType, SuppliedSchema};

use super::form::{Form, PREFIX, registered};
use super::{BadUrl, innermost};

/// Every new version must be able to read what all earlier ones wrote.
const COMPATIBILITY: &str = r#"{"compatibility":"BACKWARD_TRANSITIVE"}"#;
/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(5);
/// Longest reason that is kept of an answer, in bytes.
const REASON_BYTES_MAX: usize = 1000;

/// Why a call did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The server does not answer, or not as a schema registry: try again.
    #[error("{0}")]
    Away(String),
    /// It has the schema and does not take it: a person has to look.
    #[error("{0}")]
    Refused(String),
}

/// One schema registry.
pub(super) struct Client {
    settings: SrSettings,
    http: reqwest::Client,
    url: String,
    /// Without user and password, for people.
    shown: String,
    prefix: String,
}

impl Client {
    pub(super) fn new(url: &str, prefix: &str) -> Result<Self, BadUrl> {
        let url = url.trim_end_matches('/').to_owned();
        let mut parsed = reqwest::Url::parse(&url).map_err(|e| BadUrl(e.to_string()))?;
        if parsed.scheme() != "http" || parsed.host().is_none() {
            return Err(BadUrl(format!("only http:// is built in, not {}://", parsed.scheme())));
        }
        // its clients want to know who would encrypt, though nothing is; that somebody said so already is as good
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let settings = SrSettings::new_builder(url.clone()).set_timeout(CALL_MAX).build().map_err(|e| BadUrl(e.error))?;
        let http = reqwest::Client::builder().timeout(CALL_MAX).build().map_err(|e| BadUrl(e.to_string()))?;
        let _ = parsed.set_username("").and_then(|()| parsed.set_password(None));
        Ok(Self { settings, http, url, shown: parsed.to_string(), prefix: prefix.to_owned() })
    }

    /// Registers a schema, or finds it registered, and gives its id.
    pub(super) async fn register(&self, kind: Kind, form: Form) -> Result<u32, CallError> {
        let subject = self.subject(kind, form);
        let schema = SuppliedSchema::new(Some(form.name(kind)), SchemaType::Json, registered(kind, form));
        post_schema(&self.settings, subject.clone(), schema).await.map(|schema| schema.id).map_err(|e| self.failed(&subject, &e))
    }

    /// Sets what new versions are compared with. The converter has no call for it.
    pub(super) async fn demand_compatibility(&self, kind: Kind, form: Form) -> Result<(), CallError> {
        let url = format!("{}/config/{}", self.url, self.subject(kind, form));
        let request = self.http.put(url).header("content-type", "application/vnd.schemaregistry.v1+json").body(COMPATIBILITY);
        let answer = request.send().await.map_err(|e| self.away(&innermost(&e)))?;
        if answer.status().is_success() { Ok(()) } else { Err(self.away(&format!("it answered {}", answer.status()))) }
    }

    fn subject(&self, kind: Kind, form: Form) -> String {
        form.name(kind).replacen(PREFIX, &self.prefix, 1)
    }

    fn failed(&self, subject: &str, error: &SRCError) -> CallError {
        let raw = error.source().and_then(|source| source.downcast_ref::<RawError>());
        match raw.map(|raw| raw.error_code) {
            // incompatible; or invalid, in the numbers that Confluent's server gives
            Some(409 | 422 | 42200..=42299) => CallError::Refused(format!(
                "the schema registry refuses the schema of `{subject}`: {}; somebody else has registered under this name, or it has a \
                 schema of a newer Annals: compare `{}/subjects/{subject}/versions` with `annals schemas`, and delete what is not ours",
                short(raw.map_or("", |raw| &raw.message)),
                self.shown.trim_end_matches('/'),
            )),
            _ => self.away(&format!("{}: {}", error.error, error.source().map_or_else(String::new, innermost))),
        }
    }

    fn away(&self, reason: &str) -> CallError {
        CallError::Away(format!(
            "the schema registry at {} does not answer as it should ({}): start it, or correct --schema-registry",
            self.shown,
            short(reason)
        ))
    }
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_BYTES_MAX)]
}
