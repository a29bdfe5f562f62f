//! A proposal: what somebody says happened or wants, read from the CloudEvents Kafka binding.
//!
//! Source: CloudEvents 1.0.2 and its Kafka protocol binding (binary and structured mode).

use std::collections::BTreeMap;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::kind::{About, Kind};
use crate::names::{self, Key, VersionRef};
use crate::schema::{self, Half};
use crate::submission::{Submission, VALUE_BYTES_MAX};
use crate::time::Timestamp;
use crate::verdict::{Code, Refusal};

/// Longest id, in bytes.
pub const ID_BYTES_MAX: usize = 128;
/// Longest source or extension attribute, in bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// Most extension attributes.
pub const EXTENSIONS_MAX: usize = 32;
/// Attributes that only the engine writes.
const ENGINE: [&str; 10] = ["seq", "modelseq", "src", "recordedtime", "rules", "prevhash", "hash", "contentdigest", "policy", "position"];
/// What is no attribute: in structured mode it would be taken for the payload (CloudEvents 1.0.2, section 3).
const PAYLOAD: &str = "data";

/// A proposal whose form is right; whether it may happen is for the ledger to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// With `source` the idempotency key.
    pub id: String,
    /// Who produced it, as a URI reference.
    pub source: String,
    /// What is said to have happened.
    pub kind: Kind,
    /// The model.
    pub key: Key,
    /// The version, as the producer names it.
    pub version: Option<VersionRef>,
    /// When it happened (RFC 3339), verbatim.
    pub time: Option<String>,
    /// Who asks, as the door knows or the producer claims.
    pub actor: Option<String>,
    /// The model sequence that the producer has seen; refused if the model has moved on.
    pub expected: Option<u64>,
    /// Refuse rather than create an unknown model.
    pub must_exist: bool,
    /// Other CloudEvents attributes by name, such as `correlationid`.
    pub extensions: BTreeMap<String, String>,
    /// The payload: a JSON object, byte for byte.
    pub data: String,
}

/// A submission that is not a proposal: what could be read of its identity, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Its id, if it could be read.
    pub id: String,
    /// Its source, likewise.
    pub source: String,
    /// What is wrong.
    pub refusal: Refusal,
}

impl Proposal {
    /// Reads a submission in binary or structured mode and checks its data against the schema.
    /// The prefix of a schema registry's serializer (`0x00`, then a 4-byte id) is passed over.
    ///
    /// # Errors
    /// [`Unreadable`] with what was wrong and what to do.
    pub fn read(submission: &Submission) -> Result<Self, Unreadable> {
        let unread = |refusal| Unreadable { id: String::new(), source: String::new(), refusal };
        let value = unframed(&submission.value);
        if value.len() > VALUE_BYTES_MAX {
            return Err(unread(too_large(value.len())));
        }
        let structured = submission.header("content-type").is_some_and(is_structured);
        let (attributes, data) = if structured { structured_parts(value) } else { binary_parts(submission, value) }.map_err(unread)?;
        let identity = |name: &str| attributes.get(name).cloned().unwrap_or_default();
        let (id, source) = (identity("id"), identity("source"));
        Self::from_parts(attributes, data, submission.key.as_deref()).map_err(|refusal| Unreadable { id, source, refusal })
    }

    /// Builds a proposal from CloudEvents attributes (without `ce_`) and its data.
    ///
    /// # Errors
    /// A refusal that names the attribute or the fields.
    pub fn from_parts(mut attributes: BTreeMap<String, String>, data: String, key: Option<&[u8]>) -> Result<Self, Refusal> {
        if data.len() > VALUE_BYTES_MAX {
            return Err(too_large(data.len()));
        }
        let mut take = |name: &str| attributes.remove(name);
        if take("specversion").as_deref() != Some("1.0") {
            return Err(malformed("the attribute `specversion` is not `1.0`", "send a CloudEvent of version 1.0"));
        }
        let id = required(take("id"), "id", ID_BYTES_MAX)?;
        let source = required(take("source"), "source", ATTRIBUTE_BYTES_MAX)?;
        let kind = read_kind(&required(take("type"), "type", ATTRIBUTE_BYTES_MAX)?)?;
        let (subject_key, version) = read_subject(&required(take("subject"), "subject", ATTRIBUTE_BYTES_MAX)?, kind)?;
        check_key(key, &subject_key)?;
        let time = take("time");
        if let Some(time) = &time {
            Timestamp::parse(time)
                .map_err(|e| malformed(format!("the attribute `time` is wrong: {e}"), "send an RFC 3339 time, or none"))?;
        }
        if take("datacontenttype").is_some_and(|t| !is_json(&t)) {
            return Err(malformed("the attribute `datacontenttype` is not JSON", "send the data as application/json"));
        }
        take("dataschema"); // the schema follows from the type
        let actor = take("actor").map(|actor| required(Some(actor), "actor", ATTRIBUTE_BYTES_MAX)).transpose()?;
        let expected = take("expectedseq")
            .map(|text| {
                text.parse()
                    .map_err(|_| malformed("the attribute `expectedseq` is not a number", "send the model's sequence as a decimal number"))
            })
            .transpose()?;
        let must_exist = take("modelexists").is_some_and(|text| text == "true");
        check_extensions(&attributes)?;
        check_data(kind, &data)?;
        Ok(Self { id, source, kind, key: subject_key, version, time, actor, expected, must_exist, extensions: attributes, data })
    }

    /// The message that [`Proposal::read`] reads back: binary mode, keyed by the model.
    #[must_use]
    pub fn to_submission(&self) -> Submission {
        let mut headers = vec![("content-type".to_owned(), b"application/json".to_vec())];
        let mut push = |name: &str, value: &str| headers.push((format!("ce_{name}"), value.as_bytes().to_vec()));
        push("specversion", "1.0");
        push("id", &self.id);
        push("source", &self.source);
        push("type", self.kind.name());
        push("subject", &self.subject());
        if let Some(time) = &self.time {
            push("time", time);
        }
        if let Some(actor) = &self.actor {
            push("actor", actor);
        }
        if let Some(expected) = self.expected {
            push("expectedseq", &expected.to_string());
        }
        if self.must_exist {
            push("modelexists", "true");
        }
        for (name, value) in &self.extensions {
            push(name, value);
        }
        Submission { key: Some(self.key.as_str().as_bytes().to_vec()), headers, value: self.data.clone().into_bytes() }
    }

    /// `workspace/model` or `workspace/model/version`, as the producer named it.
    #[must_use]
    pub fn subject(&self) -> String {
        match &self.version {
            Some(version) => format!("{}/{version}", self.key),
            None => self.key.to_string(),
        }
    }

    /// What tells a retry from another proposal with the same id: the first 128 bits of SHA-256
    /// over type, subject, expectation and data, each with its 32-bit big-endian length before it.
    #[must_use]
    pub fn content_digest(&self) -> u128 {
        let expected = self.expected.map(|e| e.to_string()).unwrap_or_default();
        let mut hasher = Sha256::new();
        for item in [self.kind.name(), &self.subject(), &expected, &self.data] {
            hasher.update(u32::try_from(item.len()).unwrap_or(u32::MAX).to_be_bytes());
            hasher.update(item);
        }
        let digest: [u8; 32] = hasher.finalize().into();
        u128::from_be_bytes(*digest.first_chunk().expect("32 bytes hold 16"))
    }
}

fn malformed(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::Malformed, message, remedy)
}

fn too_large(bytes: usize) -> Refusal {
    Refusal::new(
        Code::TooLarge,
        format!("the payload has {bytes} bytes, and {VALUE_BYTES_MAX} are allowed"),
        "put the large part behind a URI and send its digest",
    )
}

fn is_structured(content_type: &str) -> bool {
    content_type.trim().to_ascii_lowercase().starts_with("application/cloudevents+json")
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// What follows the prefix that a schema registry's serializer writes: `0x00` and an id of 4 bytes.
/// No JSON begins with `0x00`. The id is not looked up: which schema holds follows from the type.
fn unframed(value: &[u8]) -> &[u8] {
    match value {
        [0, _, _, _, _, framed @ ..] => framed,
        plain => plain,
    }
}

fn text_of(bytes: &[u8], what: &str) -> Result<String, Refusal> {
    String::from_utf8(bytes.to_vec()).map_err(|_| malformed(format!("{what} is not UTF-8"), "send UTF-8"))
}

type Parts = (BTreeMap<String, String>, String);

fn binary_parts(submission: &Submission, data: &[u8]) -> Result<Parts, Refusal> {
    let mut attributes = BTreeMap::new();
    for (name, value) in &submission.headers {
        let Some(name) = name.strip_prefix("ce_") else { continue };
        let value = text_of(value, &format!("the header ce_{name}"))?;
        if attributes.insert(name.to_owned(), value).is_some() {
            return Err(malformed(format!("the header ce_{name} comes twice"), "send each attribute once"));
        }
    }
    if attributes.is_empty() {
        return Err(malformed(
            "this is not a CloudEvent: there is no ce_* header, and the content type is not application/cloudevents+json",
            "send a CloudEvent in binary or structured mode",
        ));
    }
    Ok((attributes, text_of(data, "the data")?))
}

/// Splits a structured-mode CloudEvent into attributes and its data, byte for byte.
///
/// # Errors
/// A refusal that says what is not as the CloudEvents JSON format has it.
pub fn structured_parts(event: &[u8]) -> Result<Parts, Refusal> {
    let text = std::str::from_utf8(event).map_err(|_| malformed("the CloudEvent is not UTF-8", "send UTF-8"))?;
    unique_json(text).map_err(|e| malformed(format!("the CloudEvent is not proper JSON: {e}"), "send one JSON object"))?;
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|e| malformed(format!("the CloudEvent is not a JSON object: {e}"), "send one JSON object"))?;
    let mut attributes = BTreeMap::new();
    let mut data = None;
    for (name, raw) in fields {
        match name.as_str() {
            "data" => data = Some(raw.get().to_owned()),
            "data_base64" => return Err(malformed("the CloudEvent carries data_base64", "send the data as JSON in `data`")),
            _ => {
                let value = match serde_json::from_str(raw.get()) {
                    Ok(Value::String(text)) => text,
                    Ok(Value::Bool(flag)) => flag.to_string(),
                    Ok(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
                    Ok(Value::Null) => continue,
                    _ => {
                        return Err(malformed(
                            format!("the attribute `{name}` is neither text, a whole number nor a boolean"),
                            "put structured values into `data`",
                        ));
                    }
                };
                attributes.insert(name, value);
            }
        }
    }
    Ok((attributes, data.ok_or_else(|| malformed("the CloudEvent has no data", "send a JSON object in `data`"))?))
}

fn required(value: Option<String>, name: &str, bytes_max: usize) -> Result<String, Refusal> {
    let value = value.filter(|v| !v.is_empty()).ok_or_else(|| malformed(format!("the attribute `{name}` is missing"), "send it"))?;
    if value.len() > bytes_max {
        return Err(malformed(format!("the attribute `{name}` is longer than {bytes_max} bytes"), "send a shorter one"));
    }
    if value.contains(char::is_control) {
        return Err(malformed(format!("the attribute `{name}` holds a control character"), "send printable text"));
    }
    Ok(value)
}

fn read_kind(name: &str) -> Result<Kind, Refusal> {
    let unknown = |message: String| Refusal::new(Code::UnknownType, message, "`annals schemas` lists the types");
    let kind = Kind::from_name(name).ok_or_else(|| unknown(format!("`{name}` is not an event type")))?;
    if kind.about() == About::Engine {
        return Err(unknown(format!("`{name}` is written by the engine only")));
    }
    Ok(kind)
}

fn read_subject(subject: &str, kind: Kind) -> Result<(Key, Option<VersionRef>), Refusal> {
    let form = match kind.about() {
        About::Workspace => "send `workspace/_system`",
        About::Target => "send `workspace/model`, `workspace/model/version`, or `workspace/_system` if no model is deployed there",
        About::Model | About::Version | About::Either | About::Engine => "send `workspace/model` or `workspace/model/version`",
    };
    let bad = |e: names::BadName| malformed(format!("the subject is wrong: {e}"), form);
    let mut parts = subject.splitn(3, '/');
    let key = Key::of(kind, parts.next().unwrap_or_default(), parts.next().unwrap_or_default()).map_err(bad)?;
    let version = parts.next().map(VersionRef::parse).transpose().map_err(bad)?;
    match (kind.about(), &version) {
        (About::Version, None) => {
            Err(malformed(format!("{kind} is about a version, and the subject `{key}` names none"), "send `workspace/model/version`"))
        }
        (About::Model, Some(_)) => {
            Err(malformed(format!("{kind} is about a model, and the subject `{subject}` names a version"), "send `workspace/model`"))
        }
        (_, Some(_)) if key.is_system() => {
            Err(malformed(format!("the subject `{subject}` names a version, and `{key}` is no model"), "send `workspace/_system`"))
        }
        _ => Ok((key, version)),
    }
}

fn check_key(key: Option<&[u8]>, subject: &Key) -> Result<(), Refusal> {
    match key {
        Some(key) if key == subject.as_str().as_bytes() => Ok(()),
        Some(key) => Err(malformed(
            format!("the key `{}` is not the subject's `{subject}`", String::from_utf8_lossy(&key[..key.len().min(64)])),
            "use `workspace/model` as the key",
        )),
        None => Err(malformed("the message has no key", "use `workspace/model` as the key, so that a model's events stay in order")),
    }
}

fn check_extensions(extensions: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if extensions.len() > EXTENSIONS_MAX {
        return Err(malformed(format!("there are more than {EXTENSIONS_MAX} extension attributes"), "put the rest into the data's labels"));
    }
    for (name, value) in extensions {
        if ENGINE.contains(&name.as_str()) {
            return Err(malformed(format!("the attribute `{name}` is written by the engine only"), "leave it out"));
        }
        if name == PAYLOAD {
            return Err(malformed("an attribute must not be called `data`", "rename it (CloudEvents 1.0.2, section 3)"));
        }
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(malformed("an attribute's name may only hold a-z and 0-9", "rename it (CloudEvents 1.0.2, section 3)"));
        }
        if value.len() > ATTRIBUTE_BYTES_MAX || value.contains(char::is_control) {
            return Err(malformed(
                format!("the attribute `{name}` is longer than {ATTRIBUTE_BYTES_MAX} bytes or holds control characters"),
                "put it into the data's labels",
            ));
        }
    }
    Ok(())
}

fn check_data(kind: Kind, data: &str) -> Result<(), Refusal> {
    let value = unique_json(data).map_err(|e| malformed(format!("the data is not proper JSON: {e}"), "send one JSON object"))?;
    let violations = schema::violations(kind, Half::Data, &value);
    if violations.is_empty() {
        return Ok(());
    }
    let fields: Vec<_> = violations.iter().map(|v| format!("{}: {}", if v.field.is_empty() { "/" } else { &v.field }, v.message)).collect();
    let mut refusal = Refusal::new(
        Code::SchemaViolation,
        format!("the data does not fit {kind}: {}", fields.join("; ")),
        format!("`annals schemas {}` prints the schema", kind.short()),
    );
    refusal.violations = violations;
    Err(refusal)
}

/// Parses JSON whose objects name no member twice (RFC 7493, section 2.3): bytes that are kept for
/// auditors must mean the same to every reader.
fn unique_json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<Unique>(text).map(|unique| unique.0)
}

/// PostgreSQL can keep no null character in text, and few tools print one.
fn no_null<E: de::Error>(text: &str) -> Result<&str, E> {
    if text.contains('\0') { Err(E::custom("a string holds a null character")) } else { Ok(text) }
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Value, E> {
        no_null(v).map(Into::into)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            no_null::<A::Error>(&name)?;
            let Unique(value) = map.next_value()?;
            if members.contains_key(&name) {
                return Err(de::Error::custom(format!("the member `{name}` comes twice")));
            }
            members.insert(name, value);
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests;
