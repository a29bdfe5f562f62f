//! Documents as a bulk request, and what the cluster says of each.

use std::fmt::Write as _;

use annals_events::record::Hash;
use annals_projections::search::Document;
use serde::Deserialize;

use super::cluster::{Body, Cluster, Told, Trouble, Verb};

/// Most documents of a request.
pub const DOCUMENTS_MAX: usize = 500;
/// Most bytes of a request, about: what stands before a cluster may take no more than a megabyte.
pub const BYTES_MAX: usize = 768 * 1024;
/// Longest id that a cluster takes, in bytes.
const ID_BYTES_MAX: usize = 512;

/// Documents on their way.
#[derive(Debug, Default)]
pub struct Bulk {
    lines: Vec<u8>,
    subjects: Vec<String>,
}

/// What became of the documents of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// So many are indexed now.
    pub indexed: u64,
    /// So many were there already, as they are or newer.
    pub known: u64,
    /// These were not taken, and why.
    pub refused: Vec<(String, String)>,
    /// These were taken.
    pub taken: Vec<String>,
}

impl Bulk {
    /// Takes a document; the model's sequence is its version, so that an older one never goes over a newer one.
    ///
    /// # Errors
    /// If it is none of ours.
    pub fn add(&mut self, doc: &str) -> Result<(), Trouble> {
        let document: Document = serde_json::from_str(doc).map_err(|e| Trouble::Views(format!("one is not readable: {e}")))?;
        let subject = document.subject();
        let id = serde_json::Value::String(id(&subject));
        let mut line = String::with_capacity(doc.len() * 2);
        let (version, created) = (document.modelseq, document.created_ms());
        // writing to memory cannot fail
        let _ = writeln!(line, r#"{{"index":{{"_id":{id},"version":{version},"version_type":"external_gte"}}}}"#);
        // members stand as they were written, on many lines perhaps, and here a line is a document; within a text JSON has no raw line end
        line.extend(doc.strip_suffix('}').unwrap_or(doc).chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
        let _ = write!(line, r#","subject":{},"created_ms":{created},"words":["#, serde_json::Value::from(subject.as_str()));
        // a word is letters and digits, and one colon: nothing to be escaped
        for (n, word) in document.words().all().iter().enumerate() {
            let _ = write!(line, "{}\"{word}\"", if n == 0 { "" } else { "," });
        }
        line.push_str("]}\n");
        self.lines.extend_from_slice(line.as_bytes());
        self.subjects.push(subject);
        Ok(())
    }

    /// Whether it should be sent before it grows.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.subjects.len() >= DOCUMENTS_MAX || self.lines.len() >= BYTES_MAX
    }

    /// How many documents are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }
}

/// The id of a document: its subject, or what stands for one that is too long.
fn id(subject: &str) -> String {
    if subject.len() <= ID_BYTES_MAX { subject.to_owned() } else { format!("sha256:{}", Hash::of(subject.as_bytes())) }
}

#[derive(Debug, Deserialize)]
struct Answer {
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    index: Said,
}

#[derive(Debug, Deserialize)]
struct Said {
    status: u16,
    error: Option<Told>,
}

impl Cluster {
    /// Sends documents through an alias: where that is gone, nothing is made by itself.
    ///
    /// # Errors
    /// [`Trouble`], also if the cluster could not take some of them now: all are to be sent again, which does no harm.
    pub async fn send(&self, alias: &str, bulk: &Bulk) -> Result<Outcome, Trouble> {
        if bulk.is_empty() {
            return Ok(Outcome::default());
        }
        let path = format!("/{alias}/_bulk?require_alias=true&timeout=5s&filter_path=errors,items.*.status,items.*.error");
        let text = self.get(Verb::Post, &path, Body::Lines(bulk.lines.clone())).await?;
        read(&text, &bulk.subjects)
    }
}

fn read(text: &str, subjects: &[String]) -> Result<Outcome, Trouble> {
    let unlike = |why: String| Trouble::Refused(200, format!("what became of the documents cannot be read: {why}"));
    let answer: Answer = serde_json::from_str(text).map_err(|e| unlike(e.to_string()))?;
    if answer.items.len() != subjects.len() {
        return Err(unlike(format!("{} are told of, and {} were sent", answer.items.len(), subjects.len())));
    }
    let mut outcome = Outcome::default();
    if !answer.errors {
        outcome.indexed = subjects.len() as u64;
        outcome.taken = subjects.to_vec();
        return Ok(outcome);
    }
    for (subject, Item { index: Said { status, error } }) in subjects.iter().cloned().zip(answer.items) {
        let of_the_document = error.as_ref().is_some_and(Told::is_of_the_document);
        let why = error.map(|error| error.words()).unwrap_or_default();
        match status {
            200..300 => {
                outcome.indexed += 1;
                outcome.taken.push(subject);
            }
            409 => outcome.known += 1,
            429 => return Err(Trouble::Busy(why)),
            503 => return Err(Trouble::Red(why)),
            401 | 403 => return Err(Trouble::Denied(why)),
            400 if of_the_document => outcome.refused.push((subject, why)),
            // such as an index that is closed
            _ => return Err(Trouble::Refused(status, why)),
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOC: &str = r#"{"kind":"model","workspace":"default","name":"iris","created":"1970-01-01T00:00:01Z","created_by":"x","updated":"1970-01-01T00:00:01Z","modelseq":4,"position":"3:17","event":"e"}"#;

    #[test]
    fn a_document_goes_with_its_version_and_its_words() {
        let mut bulk = Bulk::default();
        bulk.add(DOC).unwrap();
        let text = String::from_utf8(bulk.lines).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], serde_json::json!({"index": {"_id": "default/iris", "version": 4, "version_type": "external_gte"}}));
        assert_eq!(lines[1]["words"], serde_json::json!(["iris", "kind:model", "name:iris"]));
        assert_eq!((&lines[1]["created_ms"], &lines[1]["subject"]), (&1000.into(), &"default/iris".into()));
        assert!(Bulk::default().add("{}").is_err());
        assert_eq!(id(&"x".repeat(600)).len(), 71);
    }

    #[test]
    fn a_document_is_one_line_however_its_members_were_written() {
        let mut bulk = Bulk::default();
        bulk.add(&DOC.replace(r#","event""#, ",\"tags\":{\r\n  \"team\": \"a\\nb\"\r},\"event\"")).unwrap();
        let text = String::from_utf8(bulk.lines).unwrap();
        assert_eq!((text.matches('\n').count(), text.contains('\r')), (2, false), "{text}");
        let document: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(document["tags"], serde_json::json!({"team": "a\nb"}));
    }

    #[test]
    fn each_document_has_its_own_word() {
        let three = || vec!["a/1".to_owned(), "a/2".to_owned(), "a/3".to_owned()];
        let text = r#"{"errors":true,"items":[{"index":{"status":201}},{"index":{"status":409,"error":{"type":"v"}}},{"index":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"no date"}}}]}"#;
        let outcome = read(text, &three()).unwrap();
        assert_eq!((outcome.indexed, outcome.known, outcome.refused), (1, 1, vec![("a/3".into(), "no date".into())]));
        assert_eq!(read(&text.replace("400", "429"), &three()).unwrap_err().word(), "busy");
        assert_eq!(read(&text.replace("400", "503"), &three()).unwrap_err().word(), "red");
        assert_eq!(read(&text.replace("400", "404"), &three()).unwrap_err().word(), "refused");
        assert_eq!(read(&text.replace("mapper_parsing", "index_closed"), &three()).unwrap_err().word(), "refused");
        let illegal = text.replace("mapper_parsing", "illegal_argument");
        assert_eq!(read(&illegal, &three()).unwrap_err().word(), "refused", "it is not of the document");
        assert_eq!(read(&illegal.replace("no date", "at least one immense term"), &three()).unwrap().refused.len(), 1);
        assert!(read(text, &["a/1".into()]).is_err() && read("", &three()).is_err());
    }
}
