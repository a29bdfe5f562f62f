//! What a word is: the one rule by which documents and questions are taken apart, whatever engine looks for them.
//!
//! Letters become small, one by one, as Unicode has it; everything that is no letter and no digit stands between words. An
//! engine is given these words and must not look into them. A word of a field is there twice: `forest` and `algorithm:forest`.

use std::collections::BTreeSet;

use serde_json::Value;

/// Longest word, in characters: of a longer one these many count, in documents and in questions.
pub const WORD_CHARS_MAX: usize = 80;
/// Most entries of one document; what would come behind is not found. Producers' fields come last.
pub const ENTRIES_MAX: usize = 2_000;

/// The fields that a question may name.
pub const FIELDS: [&str; 20] = [
    "name",
    "version",
    "label",
    "status",
    "channel",
    "alias",
    "owner",
    "algorithm",
    "description",
    "purpose",
    "risk",
    "tag",
    "run",
    "digest",
    "format",
    "licence",
    "uri",
    "data",
    "performance",
    "kind",
];

/// The words of a text, in its order.
pub fn split(text: &str) -> Vec<String> {
    let small: String = text.chars().flat_map(char::to_lowercase).collect();
    let words = small.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word.chars().take(WORD_CHARS_MAX).collect()).collect()
}

/// The words of a document.
#[derive(Debug, Default)]
pub struct Words(BTreeSet<String>);

impl Words {
    /// Takes the words of a text; they are found with and without the field's name.
    pub fn add(&mut self, field: &str, text: &str) {
        for word in split(text) {
            if self.0.len() + 2 <= ENTRIES_MAX {
                self.0.insert(format!("{field}:{word}"));
                self.0.insert(word);
            }
        }
    }

    /// Takes the words of a text that are found with the field's name only: everybody has them, or they are numbers.
    pub fn add_named(&mut self, field: &str, text: &str) {
        for word in split(text).into_iter().take(ENTRIES_MAX - self.0.len().min(ENTRIES_MAX)) {
            self.0.insert(format!("{field}:{word}"));
        }
    }

    /// Takes the texts and the members' names of a value of any shape. Figures are no words.
    pub fn add_value(&mut self, field: &str, value: &Value) {
        match value {
            Value::String(text) => self.add(field, text),
            Value::Array(items) => items.iter().for_each(|item| self.add_value(field, item)),
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                self.add_named(field, name);
                self.add_value(field, value);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// All of them, each once, in their order.
    #[must_use]
    pub fn all(&self) -> &BTreeSet<String> {
        &self.0
    }

    /// All of them with a blank between.
    #[must_use]
    pub fn line(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_letters_and_digits_made_small() {
        assert_eq!(split("Logistic-Regression v2.1_Über ÄÖ"), ["logistic", "regression", "v2", "1", "über", "äö"]);
        assert_eq!(split("東京 Ωμέγα ΣΊΣ"), ["東京", "ωμέγα", "σίσ"]);
        assert_eq!(split(" -- :;\u{0} "), [""; 0]);
        assert_eq!(split(&"x".repeat(100)), ["x".repeat(WORD_CHARS_MAX)]);
    }

    #[test]
    fn a_word_is_there_with_and_without_its_field() {
        let mut words = Words::default();
        words.add("algorithm", "Random Forest");
        words.add_named("uri", "file:///a");
        words.add_value("performance", &serde_json::json!([{"name": "accuracy", "value": 0.97}]));
        let expected = "accuracy algorithm:forest algorithm:random forest performance:accuracy performance:name performance:value random uri:a uri:file";
        assert_eq!(words.line(), expected);
    }

    #[test]
    fn there_is_an_end_to_the_words_of_a_document() {
        let mut words = Words::default();
        let long = (0..10_000).map(|n| format!("w{n} ")).collect::<String>();
        words.add("description", &long);
        words.add_named("uri", &long);
        assert_eq!(words.all().len(), ENTRIES_MAX);
    }
}
