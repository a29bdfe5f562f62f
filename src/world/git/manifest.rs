//! What is put into a repository: the manifest of what a channel holds, where it lies, and who it is by.

use super::fill;
use crate::git::put::{Cause, Wanted, reference_word};
use crate::world::Event;
use crate::world::kubernetes::registry::Version;
use crate::world::rule::{Git, render};

/// What may stand between braces beside what an event has.
pub const MORE: [&str; 2] = ["digest", "uri"];
/// Where it lies, unless the rule says otherwise.
const PATH: &str = "{workspace}/{model}/{channel}.yaml";
const BRANCH: &str = "main";
const AUTHOR: (&str, &str) = ("Annals", "annals@localhost");
/// Longest path, in bytes.
const PATH_BYTES_MAX: usize = 1024;

/// What a rule wants to be there; without a version, that nothing is.
///
/// # Errors
/// What the rule wants and the event does not have, in words.
pub fn wanted(rule: &Git, event: &Event, channel: &str, version: Option<&Version>, journal: &str) -> Result<Wanted, String> {
    let more = |name: &str| {
        let value = match name {
            "digest" => version.and_then(|version| version.digest.clone()),
            "uri" => version.and_then(|version| version.uri.clone()),
            _ => return None,
        };
        Some(value.ok_or_else(|| format!("the version has no {name}, which the rule wants as `{{{name}}}`")))
    };
    let path = render::text_with(rule.path.as_deref().unwrap_or(PATH), event, &more)?;
    check_path(&path)?;
    let content = match (version, &rule.manifest) {
        (None, _) => None,
        (Some(_), Some(template)) => Some(fill::manifest(template, event, &more)?),
        (Some(version), None) => Some(plain(event, channel, version)),
    };
    let holds = event.version.filter(|_| version.is_some()).map_or_else(|| "nothing".into(), |number| format!("version {number}"));
    let tag = rule.tag.unwrap_or(true).then(|| {
        let workspace = if event.workspace == "default" { String::new() } else { format!("{}/", event.workspace) };
        reference_word(&format!("{workspace}{}@{channel}", event.model))
    });
    let (name, address) = rule.author.as_deref().and_then(author).unwrap_or(AUTHOR);
    Ok(Wanted {
        branch: rule.branch.as_deref().unwrap_or(BRANCH).into(),
        path: path.clone(),
        content,
        title: format!("{}: {channel} holds {holds}", event.key),
        author: (name.into(), address.into()),
        time_s: event.recorded.0.div_euclid(1000),
        tag,
        cause: Cause {
            journal: journal.into(),
            target: format!("{} {channel} {path}", event.key),
            event: (event.source.clone(), event.id.clone()),
            position: event.position(),
            modelseq: event.modelseq,
        },
    })
}

/// The manifest, if the rule has none of its own: YAML, in which JSON's texts are texts.
fn plain(event: &Event, channel: &str, version: &Version) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let mut lines = format!("# what {} of {} holds, by Annals\n", text(channel), text(&event.key));
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines += &format!("{name}: {value}\n");
        }
    };
    line("workspace", Some(text(&event.workspace)));
    line("model", Some(text(&event.model)));
    line("channel", Some(text(channel)));
    line("version", event.version.map(|version| version.to_string()));
    line("digest", version.digest.as_deref().map(text));
    line("uri", version.uri.as_deref().map(text));
    line("event", Some(text(&event.id)));
    line("source", Some(text(&event.source)));
    line("position", Some(text(&event.position())));
    lines
}

/// Whether a path is one of a file below the repository.
///
/// # Errors
/// What is wrong with it.
pub fn check_path(path: &str) -> Result<(), String> {
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.eq_ignore_ascii_case(".git") || part.contains('\0');
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("the path has more than {PATH_BYTES_MAX} bytes"));
    }
    match path.split('/').find(|part| bad(part)) {
        Some(part) => Err(format!("`{path}` is no path of a file in a repository (`{part}`)")),
        None => Ok(()),
    }
}

/// Name and address out of `Name <address>`.
#[must_use]
pub fn author(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once('<')?;
    let address = rest.strip_suffix('>')?;
    let is_text = |text: &str| !text.trim().is_empty() && !text.contains(['<', '>', '\n', '\0']);
    (is_text(name) && is_text(address)).then(|| (name.trim(), address.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_repository_and_out_of_gits_own_files() {
        for good in ["a", "models/iris/production.yaml", "{model}/{channel}.yaml"] {
            assert_eq!(check_path(good), Ok(()));
        }
        for bad in ["", "/etc/passwd", "a/../b", "a//b", ".git/config", "a/.GIT/hooks/x", "a/"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_author_is_a_name_and_an_address() {
        assert_eq!(author("Annals <annals@example.org>"), Some(("Annals", "annals@example.org")));
        for bad in ["annals", "<a@b>", "A <>", "A <a@b> x", "A\nB <a@b>"] {
            assert_eq!(author(bad), None, "{bad}");
        }
    }
}
