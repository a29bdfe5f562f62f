//! `annals trigger apply`: a file of rules, of which what is so already stays.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::{line, put, told};
use crate::cli::client::Client;
use crate::cli::output::{Output, say};
use crate::cli::{Exit, Failure};
use crate::config::trigger::Apply;

/// Members that a rule in a file may have.
const MEMBERS: [&str; 7] = ["name", "when", "do", "cooldown_s", "dedup", "state", "reason"];

/// Runs the command.
///
/// # Errors
/// [`Failure`]: nothing is changed if the file cannot be read; if a rule is refused, those before it stand.
pub fn run(args: &Apply, out: &mut Output) -> Result<Exit, Failure> {
    let rules = read(&args.file)?;
    let client = Client::new(&args.remote.url);
    let (mut exit, mut all) = (Exit::Done, Vec::new());
    for (name, mut body) in rules {
        for (member, value) in told(&args.why) {
            body.entry(member).or_insert(value);
        }
        let put = put(&client, &args.workspace, &name, &Value::Object(body));
        let changed = put.map_err(|failure| named(failure, &name))?;
        if changed["in_force"] != true {
            exit = Exit::Unsettled;
            say(&format!("annals: `{name}` is recorded, and no instance with the role `actor` has taken note of it yet"));
        }
        if !args.remote.json {
            out.line(&line(&changed))?;
        }
        all.push(changed);
    }
    if args.remote.json {
        out.json(&json!({"triggers": all}))?;
    }
    Ok(exit)
}

fn named(failure: Failure, name: &str) -> Failure {
    let words = |text: String| format!("the trigger `{name}`: {text}");
    match failure {
        Failure::Refused(text) => Failure::Refused(words(text)),
        Failure::Usage(text) => Failure::Usage(words(text)),
        Failure::Unavailable(text) => Failure::Unavailable(words(text)),
        Failure::Unsettled(text) => Failure::Unsettled(words(text)),
        other => other,
    }
}

/// The one rule of a file, without its name and state.
///
/// # Errors
/// [`Failure::Usage`] if there is not exactly one.
pub fn one(file: &Path) -> Result<Map<String, Value>, Failure> {
    let mut rules = parse(&text(file)?, &file.display().to_string(), false)?;
    match (rules.pop(), rules.is_empty()) {
        (Some((_, mut rule)), true) => {
            for member in ["state", "reason"] {
                rule.remove(member);
            }
            Ok(rule)
        }
        _ => Err(Failure::Usage(format!("{} must hold one rule", file.display()))),
    }
}

type Named = (String, Map<String, Value>);

fn read(file: &Path) -> Result<Vec<Named>, Failure> {
    parse(&text(file)?, &file.display().to_string(), true)
}

fn text(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop).context("standard input cannot be read")
    } else {
        std::fs::read_to_string(file).map(|found| text = found).with_context(|| format!("{} cannot be read", file.display()))
    };
    read.map_err(|e| Failure::Usage(format!("{e:#}")))?;
    Ok(text)
}

fn parse(text: &str, file: &str, with_names: bool) -> Result<Vec<Named>, Failure> {
    let usage = |message: String| Failure::Usage(format!("{file}: {message}"));
    // JSON is YAML, too
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| usage(format!("it is no YAML that can be meant: {e}")))?;
    let mut rules: Vec<Named> = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let list = match document {
            Value::Array(items) => items,
            Value::Object(mut members) if members.len() == 1 && members.contains_key("triggers") => match members.remove("triggers") {
                Some(Value::Array(items)) => items,
                _ => return Err(usage("`triggers` is no list".into())),
            },
            one => vec![one],
        };
        for (place, item) in list.into_iter().enumerate() {
            let Value::Object(mut rule) = item else {
                return Err(usage(format!("rule {} is no mapping with `name`, `when` and `do`", place + 1)));
            };
            if let Some(odd) = rule.keys().find(|member| !MEMBERS.contains(&member.as_str())) {
                return Err(usage(format!("rule {} has `{odd}`, which means nothing: use {}", place + 1, MEMBERS.join(", "))));
            }
            let name = match rule.remove("name") {
                Some(Value::String(name)) => name,
                None if !with_names => String::new(),
                _ => return Err(usage(format!("rule {} has no `name`", place + 1))),
            };
            if rules.iter().any(|(known, _)| *known == name) {
                return Err(usage(format!("two rules are called `{name}`")));
            }
            rules.push((name, rule));
        }
    }
    if rules.is_empty() { Err(usage("there is no rule in it".into())) } else { Ok(rules) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "name: a\nwhen: {type: [promoted], where: {/data/n: 1}}\ndo: {webhook: {subscription: s}}\ncooldown_s: 5\n";

    fn names(text: &str) -> Vec<String> {
        parse(text, "f", true).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn one_rule_a_list_or_documents_are_read() {
        let rules = parse(RULE, "f", true).unwrap();
        assert_eq!(rules[0].1["when"], json!({"type": ["promoted"], "where": {"/data/n": 1}}));
        assert_eq!(rules[0].1["cooldown_s"], 5);
        assert_eq!(names(&format!("---\n{RULE}---\n{}", RULE.replace("name: a", "name: b"))), ["a", "b"]);
        assert_eq!(names(r#"[{"name":"x","when":{},"do":{}},{"name":"y","when":{},"do":{}}]"#), ["x", "y"]);
        assert_eq!(names("triggers:\n- {name: x, when: {}, do: {}}\n"), ["x"]);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (text, told) in [
            ("", "no rule"),
            ("a: [", "no YAML"),
            ("- 1\n", "rule 1"),
            ("when: {}\ndo: {}\n", "no `name`"),
            ("name: a\nwen: {}\n", "`wen`"),
            ("[{name: a}, {name: a}]", "two rules"),
        ] {
            let failure = parse(text, "rules.yaml", true).unwrap_err();
            assert!(failure.code() == 2 && failure.to_string().contains(told), "{text}: {failure}");
        }
    }
}
