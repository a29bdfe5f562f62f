//! What somebody looks for: read once, and said in the words of each database.
//!
//! `churn algorithm:forest prod* -channel:production` means: all of these words, one that begins so, and not that one.

use std::collections::BTreeSet;

use super::words::{FIELDS, split};

/// Longest question, in bytes.
pub const QUERY_BYTES_MAX: usize = 1_000;
/// Most words of a question.
pub const QUERY_WORDS_MAX: usize = 32;

/// A question that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// All of these are there.
    pub all: Vec<Word>,
    /// Of each of these lists, not all are there.
    pub none: Vec<Vec<Word>>,
}

/// A word to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As it stands among the words of a document: small letters and digits, or `field:word`.
    pub text: String,
    /// Whether longer ones that begin so will do.
    pub prefix: bool,
}

/// Why a question cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// Nothing was asked.
    #[error("there is no word to look for")]
    Empty,
    /// All words are such as must not be there.
    #[error("there are only words that must not be there")]
    OnlyNot,
    /// There is no such field.
    #[error("there is no field `{0}`: fields are {fields}; write a blank in place of the colon to look for the words", fields = FIELDS.join(", "))]
    UnknownField(String),
    /// There is no letter and no digit in it.
    #[error("`{0}` has no letter and no digit")]
    NoWord(String),
    /// Too much was asked.
    #[error("it has more than {QUERY_BYTES_MAX} bytes or {QUERY_WORDS_MAX} words")]
    TooLong,
}

impl Query {
    /// Reads a question.
    ///
    /// # Errors
    /// [`BadQuery`] names what is wrong.
    pub fn parse(text: &str) -> Result<Self, BadQuery> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(BadQuery::TooLong);
        }
        let mut query = Self { all: Vec::new(), none: Vec::new() };
        for term in text.split_whitespace() {
            match term.strip_prefix('-') {
                Some(term) => query.none.push(words(term)?),
                None => query.all.extend(words(term)?),
            }
        }
        if query.all.len() + query.none.iter().map(Vec::len).sum::<usize>() > QUERY_WORDS_MAX {
            return Err(BadQuery::TooLong);
        }
        match (query.all.is_empty(), query.none.is_empty()) {
            (true, true) => Err(BadQuery::Empty),
            (true, false) => Err(BadQuery::OnlyNot),
            _ => Ok(query),
        }
    }

    /// Whether a document with these words is meant: what every engine must answer.
    #[must_use]
    pub fn holds(&self, words: &BTreeSet<String>) -> bool {
        let there = |word: &Word| match word.prefix {
            true => words.range(word.text.clone()..).next().is_some_and(|found| found.starts_with(&word.text)),
            false => words.contains(&word.text),
        };
        self.all.iter().all(there) && !self.none.iter().any(|list| list.iter().all(there))
    }

    /// As SQLite's FTS5 has it. A word has no quote in it.
    pub(crate) fn fts5(&self) -> String {
        let all = |words: &[Word]| {
            let one = |word: &Word| format!("\"{}\"{}", word.text, if word.prefix { " *" } else { "" });
            words.iter().map(one).collect::<Vec<_>>().join(" AND ")
        };
        self.none.iter().fold(format!("({})", all(&self.all)), |found, none| format!("({found} NOT ({}))", all(none)))
    }

    /// As PostgreSQL's `tsquery` has it. A word has no quote and no backslash in it.
    pub(crate) fn tsquery(&self) -> String {
        let all = |words: &[Word]| {
            let one = |word: &Word| format!("'{}'{}", word.text, if word.prefix { ":*" } else { "" });
            words.iter().map(one).collect::<Vec<_>>().join(" & ")
        };
        self.none.iter().fold(all(&self.all), |found, none| format!("{found} & !({})", all(none)))
    }
}

/// The words of one term: `forest`, `algorithm:forest`, `fore*`.
fn words(term: &str) -> Result<Vec<Word>, BadQuery> {
    let (field, text) = match term.split_once(':') {
        // what people copy: a digest, the address of a file
        Some(("sha256", _)) => (None, term),
        Some((_, rest)) if rest.starts_with("//") => (Some("uri"), term),
        Some((field, rest)) => match FIELDS.iter().find(|known| known.eq_ignore_ascii_case(field)) {
            Some(field) => (Some(*field), rest),
            None => return Err(BadQuery::UnknownField(field.into())),
        },
        None => (None, term),
    };
    let found = split(text);
    let last = found.len().checked_sub(1).ok_or_else(|| BadQuery::NoWord(term.into()))?;
    let word = |(n, word): (usize, String)| Word {
        text: field.map_or_else(|| word.clone(), |field| format!("{field}:{word}")),
        prefix: n == last && text.ends_with('*'),
    };
    Ok(found.into_iter().enumerate().map(word).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_said_in_the_words_of_each_database() {
        let query = Query::parse("Churn-Model algorithm:Fore* -channel:production -\"old one\"").unwrap();
        assert_eq!(query.fts5(), r#"((("churn" AND "model" AND "algorithm:fore" * AND "one") NOT ("channel:production")) NOT ("old"))"#);
        assert_eq!(query.tsquery(), "'churn' & 'model' & 'algorithm:fore':* & 'one' & !('channel:production') & !('old')");
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_what_is_wrong() {
        for (text, wrong) in [
            ("", BadQuery::Empty),
            (" \t ", BadQuery::Empty),
            ("-draft", BadQuery::OnlyNot),
            ("colour:red", BadQuery::UnknownField("colour".into())),
            ("churn *", BadQuery::NoWord("*".into())),
            ("name:", BadQuery::NoWord("name:".into())),
            ("-", BadQuery::NoWord(String::new())),
            (&"x".repeat(QUERY_BYTES_MAX + 1), BadQuery::TooLong),
            (&"x ".repeat(QUERY_WORDS_MAX + 1), BadQuery::TooLong),
        ] {
            assert_eq!(Query::parse(text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn what_people_copy_is_found() {
        let digest = format!("sha256:{:064}", 7);
        assert_eq!(Query::parse(&digest).unwrap().all.len(), 2);
        assert_eq!(Query::parse("s3://bucket/a.pkl").unwrap().all[1].text, "uri:bucket");
    }

    #[test]
    fn a_document_is_meant_or_not() {
        let words: BTreeSet<String> = ["churn", "production", "channel:production"].map(Into::into).into();
        for (text, holds) in [
            ("churn", true),
            ("chur", false),
            ("chur*", true),
            ("churn prod* channel:production", true),
            ("name:churn", false),
            ("churn -staging", true),
            ("churn -production", false),
            ("churn -production-staging", true),
            ("churn -prod*", false),
        ] {
            assert_eq!(Query::parse(text).unwrap().holds(&words), holds, "{text}");
        }
    }
}
