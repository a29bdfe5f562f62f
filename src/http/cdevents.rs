//! `format=cdevents`: which words a reader asks for, and our lines told in them.

use annals_events::kind::Kind;

use super::App;
use super::problem::Problem;
use super::read::ask;
use crate::cdevents::{self, Event, NotTold, Words};

/// Reads the parameter `format`.
///
/// # Errors
/// 400 for a word that is not known.
pub fn asked(format: Option<&str>) -> Result<Words, Problem> {
    let format = format.filter(|word| !word.is_empty()).unwrap_or(Words::default().as_str());
    let known = [Words::CloudEvents, Words::CdEvents].into_iter().find(|words| words.as_str() == format);
    known.ok_or_else(|| {
        Problem::bad_request("bad-query", format!("`format={}` is not known", format.escape_debug()), "send cloudevents or cdevents")
    })
}

/// The types to filter by: those that can be told, unless some of them are asked for.
///
/// # Errors
/// 400 for a type that cannot be told: nothing would ever come.
pub fn kinds(words: Words, asked: Option<String>) -> Result<Option<String>, Problem> {
    let asked = asked.filter(|kinds| !kinds.is_empty());
    if words == Words::CloudEvents {
        return Ok(asked);
    }
    let Some(asked) = asked else { return Ok(Some(cdevents::all())) };
    let untold = asked.split(',').find(|name| Kind::from_any(name.trim()).is_some_and(|kind| !words.has(kind)));
    untold.map_or(Ok(Some(asked.clone())), |name| {
        let detail = format!("CDEvents has no word for `{name}`");
        Err(Problem::bad_request("bad-query", detail, format!("ask for {}, or for our own format", cdevents::all())))
    })
}

/// Tells one line of ours in their words.
///
/// # Errors
/// 503 while the registry is not so far, 500 if the line is none of ours.
pub async fn tell(app: &App, line: &[u8]) -> Result<Event, Problem> {
    let runner = ask::viewing(app).await?;
    cdevents::tell(&runner, line).await.map_err(|error| match error {
        NotTold::Behind(_) => Problem::unavailable("view-behind", error, "try again after Retry-After; if it stays so, look at /v1/views"),
        NotTold::Views(error) => ask::problem(error),
        NotTold::Broken(what) => Problem::internal(what),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_word_is_not_waited_for() {
        let told = |asked: &str| kinds(Words::CdEvents, Some(asked.into()));
        assert_eq!(told("promoted,deployed").unwrap().as_deref(), Some("promoted,deployed"));
        assert_eq!(told("").unwrap().as_deref(), Some("promoted,deployed,rolled-back,deployment-removed"));
        assert!(told("promoted,drifted").unwrap_err().detail.contains("drifted"));
        assert_eq!(kinds(Words::CloudEvents, Some("drifted".into())).unwrap().as_deref(), Some("drifted"));
        assert_eq!(asked(Some("xml")).unwrap_err().code, "bad-query");
        assert_eq!((asked(None).unwrap(), asked(Some("cdevents")).unwrap()), (Words::CloudEvents, Words::CdEvents));
    }
}
