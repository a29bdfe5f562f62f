//! Which events a reader of the stream or of a replay wants.

use annals_events::kind::Kind;
use annals_events::model::CHANNELS;
use annals_events::record::View;
use serde::Deserialize;

use super::problem::Problem;
use crate::world::rule::fit::matches;

/// What an event must match; what is not given matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    kinds: Vec<Kind>,
    workspace: Option<String>,
    model: Option<String>,
    channel: Option<String>,
}

/// The part of a decision that names a channel.
#[derive(Deserialize)]
struct Channel<'a> {
    #[serde(borrow)]
    channel: Option<std::borrow::Cow<'a, str>>,
}

impl Filter {
    /// Reads the filters of a request: `kinds` are comma-separated, in any form that a door takes.
    ///
    /// # Errors
    /// 400 for a type, a channel or a pattern that fits none: nothing would ever match it.
    pub fn new(kinds: Option<&str>, workspace: Option<String>, model: Option<String>, channel: Option<String>) -> Result<Self, Problem> {
        let kind = |name: &str| {
            let unknown =
                || Problem::bad_request("unknown-type", format!("`{name}` is not an event type"), "`annals schemas` lists the types");
            Kind::from_any(name.trim()).ok_or_else(unknown)
        };
        let kinds = kinds.filter(|k| !k.is_empty()).map_or(Ok(Vec::new()), |k| k.split(',').map(kind).collect())?;
        let given = |text: Option<String>| text.filter(|t| !t.is_empty());
        let channel = given(channel);
        if let Some(pattern) = channel.as_deref().filter(|pattern| !CHANNELS.iter().any(|channel| matches(pattern, channel))) {
            let remedy = format!("use one of {}", CHANNELS.join(", "));
            return Err(Problem::bad_request("unknown-channel", format!("there is no channel `{pattern}`"), remedy));
        }
        let (workspace, model) = (given(workspace), given(model));
        for (what, pattern) in [("workspace", &workspace), ("model", &model)] {
            if let Some(pattern) = pattern.as_deref().filter(|pattern| names_nothing(pattern)) {
                let detail = format!("no {what} is called `{}`", pattern.escape_debug());
                return Err(Problem::bad_request("bad-pattern", detail, "send a name, in which `*` stands for anything"));
            }
        }
        Ok(Self { kinds, workspace, model, channel })
    }

    /// Whether an event is wanted.
    pub fn wants(&self, view: &View<'_>) -> bool {
        let (workspace, model) = view.key.split_once('/').unwrap_or((view.key, ""));
        (self.kinds.is_empty() || self.kinds.contains(&view.kind))
            && self.workspace.as_deref().is_none_or(|pattern| matches(pattern, workspace))
            && self.model.as_deref().is_none_or(|pattern| matches(pattern, model))
            && self.channel.as_deref().is_none_or(|pattern| {
                let found = serde_json::from_str::<Channel<'_>>(view.decided).ok().and_then(|d| d.channel);
                found.is_some_and(|channel| matches(pattern, &channel))
            })
    }
}

/// Whether no name can fit this pattern: see `annals_events::names::name`. Names of the engine's own begin with `_`.
fn names_nothing(pattern: &str) -> bool {
    let letters = pattern.replace('*', "");
    letters.len() > 255 || letters.contains(|c: char| matches!(c, '/' | ':') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("iris", "iris", true),
            ("iris", "iris2", false),
            ("*", "", true),
            ("iris*", "iris", true),
            ("i*s", "iris", true),
            ("i*r*s", "iris", true),
            ("a*a", "a", false),
            ("*b", "aab", true),
            ("**", "x", true),
            ("a*b*c", "abbc", true),
            ("a*bc*c", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_wanted() {
        let record = annals_events::ledger::opening(3, 12, annals_events::time::Timestamp(0));
        let view = record.view().unwrap();
        let filter = |kinds: Option<&str>, model: Option<&str>, channel: Option<&str>| {
            Filter::new(kinds, None, model.map(Into::into), channel.map(Into::into)).unwrap().wants(&view)
        };
        assert!(filter(None, None, None));
        assert!(filter(Some("promoted,journal-opened"), Some("3"), None));
        assert!(!filter(Some("promoted"), None, None));
        assert!(!filter(None, Some("iris"), None));
        assert!(!filter(None, None, Some("*")));
    }

    #[test]
    fn an_unknown_type_or_channel_is_named() {
        let problem = Filter::new(Some("promoted,nonsense"), None, None, None).unwrap_err();
        assert!(problem.detail.contains("nonsense"));
        let of = |channel: &str| Filter::new(None, None, None, Some(channel.into()));
        let problem = of("prodution").unwrap_err();
        assert!(problem.detail.contains("prodution") && problem.remedy.contains("production"), "{problem:?}");
        assert!(of("prod*").is_ok() && of("dev").is_ok() && of("").is_ok());
    }
}
