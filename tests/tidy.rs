//! The shape of the code as a test: what is too long, in the wrong room or unfinished fails with its rule and its place.

#![allow(clippy::unwrap_used)] // a test

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/scan.rs"]
mod scan;

use std::collections::HashSet;
use std::path::Path;

use annals_events::kind::Kind;
use rules::{Finding, event_findings, findings};
use scan::Source;

/// Folders and files that are not ours, or no text.
const SKIPPED: [&str; 7] = ["target", ".git", ".venv", "__pycache__", "node_modules", "Cargo.lock", "LICENSE"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the tree, by its path from the root.
fn tree() -> Vec<Source> {
    let mut folders = vec![root().to_path_buf()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if SKIPPED.contains(&entry.file_name().to_str().unwrap()) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
                let path = entry.path().strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
                sources.push(Source::new(&path, &text));
            }
        }
    }
    mark_test_modules(&mut sources);
    sources
}

/// A file whose module is under `#[cfg(test)]`, or under such a file, is a test, wherever it lies.
fn mark_test_modules(sources: &mut [Source]) {
    loop {
        let children: HashSet<String> = sources.iter().filter(|s| s.is_rust()).flat_map(Source::test_children).collect();
        let found: Vec<&mut Source> = sources.iter_mut().filter(|s| children.contains(&s.path) && s.test.contains(&false)).collect();
        if found.is_empty() {
            return;
        }
        found.into_iter().for_each(|source| source.test.fill(true));
    }
}

fn fail_on(mut found: Vec<Finding>) {
    found.sort();
    let list: Vec<String> = found.iter().map(|f| format!("{}: {} ({})", f.place, f.message, f.rule)).collect();
    assert!(list.is_empty(), "the house is not tidy:\n{}\n", list.join("\n"));
}

#[test]
fn every_file_keeps_to_its_room_and_its_length() {
    let sources = tree();
    let rust = sources.iter().filter(|s| s.is_rust()).count();
    assert!(rust > 20, "only {rust} Rust files were found: the rules looked at the wrong folder");
    fail_on(sources.iter().flat_map(findings).collect());
}

#[test]
fn every_event_has_schemas_a_golden_example_and_a_line_in_the_readme() {
    let kinds: Vec<(&str, &str)> = Kind::ALL.iter().map(|kind| (kind.dotted(), kind.short())).collect();
    let golden: Vec<String> = std::fs::read_dir(root().join("events/golden"))
        .map_or_else(|_| Vec::new(), |entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect());
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    fail_on(event_findings(&kinds, &|path| root().join(path).is_file(), &golden, &readme));
}

/// The rules that a text breaks at a path.
fn broken(path: &str, text: &str) -> Vec<(&'static str, String)> {
    findings(&Source::new(path, text)).into_iter().map(|f| (f.rule, f.place)).collect()
}

fn breaks(path: &str, body: &str, rule: &str) {
    let found = broken(path, &format!("//! A file of a test.\n{body}\n"));
    assert!(found.iter().any(|(name, place)| *name == rule && *place == format!("{path}:2")), "{rule} was not seen in `{body}`: {found:?}");
}

fn keeps(path: &str, body: &str) {
    let found = broken(path, &format!("//! A file of a test.\n{body}\n"));
    assert!(found.is_empty(), "nothing is wrong with `{body}` in {path}, but: {found:?}");
}

#[test]
fn a_long_file_and_a_long_function_are_found() {
    let long = |lines: usize| format!("fn long() {{\n{}}}", "    work();\n".repeat(lines));
    breaks("src/serve.rs", &long(80), "function length");
    breaks("src/serve.rs", &format!("pub async {}", long(69)), "function length");
    keeps("src/serve.rs", &long(68));
    assert_eq!(
        broken("src/serve.rs", &format!("//! A long file.\n{}", "// line\n".repeat(500))),
        [("file length", "src/serve.rs:501".into())]
    );
    assert_eq!(broken("tests/run", &"true\n".repeat(501)), [("file length", "tests/run:501".into())]);
}

#[test]
fn a_file_without_its_sentence_or_with_a_vague_name_is_found() {
    assert_eq!(broken("src/serve.rs", "fn main() {}\n"), [("opening", "src/serve.rs:1".into())]);
    for path in ["src/http/util.rs", "events/src/types.rs", "src/journal/common/codec.rs", "examples/helpers.py"] {
        assert!(broken(path, "//! A file of a test.\n").iter().any(|(rule, _)| *rule == "name"), "{path}");
    }
}

#[test]
fn a_line_in_the_wrong_room_is_found() {
    breaks("events/src/time.rs", "let at = SystemTime::now();", "clock in events");
    breaks("src/http/read.rs", "use rdkafka::consumer;", "kafka outside the journal");
    breaks("src/arbiter.rs", "let topic = 1;", "kafka outside the journal");
    breaks("projections/src/registry.rs", "use rusqlite::Connection;", "rusqlite outside the journal");
    breaks("src/arbiter/door.rs", "fn status() -> StatusCode;", "http outside the door");
    breaks("src/arbiter/door.rs", "use axum::Json;", "axum outside the door");
    breaks("src/serve.rs", "let home = std::env::var(name);", "flag outside config");
    breaks("src/serve.rs", "let q = \"SELECT seq FROM events\";", "sql");
    breaks("src/http/read.rs", "const Q: &str = r#\"UPDATE models SET \"name\" = 1\"#;", "sql");
    keeps("src/journal/sqlite/append.rs", "const Q: &str = \"INSERT INTO events VALUES (1)\"; use rusqlite::params;");
    keeps("projections/src/registry.rs", "const Q: &str = \"SELECT seq FROM events\";");
    keeps("src/arbiter.rs", "// the topic is SELECTed FROM the journal\nlet topical = \"topic\";");
    keeps("src/http.rs", "use axum::http::StatusCode;");
}

#[test]
fn a_wrong_edge_between_rooms_is_found() {
    breaks("src/arbiter/door.rs", "use crate::http::publish;", "edge");
    breaks("src/http/read.rs", "use crate::arbiter::Arbiter;", "edge");
    breaks("src/http/read.rs", "use crate::{journal::Journal, arbiter::{Arbiter}};", "edge");
    breaks("src/http/read.rs", "use crate::arbiter::{door::Door, Arbiter};", "edge");
    breaks("src/journal/sqlite.rs", "fn f() { crate::arbiter::step() }", "edge");
    breaks("src/cli/read.rs", "use crate::http::publish::Receipt;", "edge");
    breaks("src/journal/follow.rs", "use crate::http::filter::Filter;", "edge");
    breaks("src/main.rs", "fn main() { annals::serve::run() }", "edge");
    assert_eq!(broken("src/stuff.rs", "//! A file of a test.\n"), [("edge", "src/stuff.rs:1".into())]);
    keeps(
        "src/http/read.rs",
        "use crate::{config::Config, journal::{Journal, Batch}, http::problem};\nuse crate::arbiter::{door::{Door, Ask}};",
    );
    keeps("src/arbiter.rs", "use crate::journal::Journal;\nuse annals_events::ledger;");
    keeps("src/arbiter.rs", "#[cfg(test)]\nmod tests {\n    use crate::http::publish;\n}");
    keeps("src/serve.rs", "use crate::{http, arbiter::Arbiter};");
}

#[test]
fn what_is_unfinished_or_somebodys_own_is_found() {
    breaks("src/serve.rs", "fn f() { g().unwrap(); }", "unwrap");
    breaks("src/serve.rs", "fn f() { todo!() }", "unfinished");
    breaks("tests/it/main.rs", "#[ignore = \"slow\"]", "unfinished");
    breaks("src/serve.rs", concat!("// see /", "home/ada/annals"), "machine path");
    assert_eq!(broken("docker-compose.yml", concat!("volumes: [/", "work/data:/data]")), [("machine path", "docker-compose.yml:1".into())]);
    keeps("src/serve.rs", "#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap(); }\n}");
    keeps("src/serve.rs", "/// Never `.unwrap()` here.\nfn f() { g(\".unwrap() todo!\") }");
    breaks("src/serve.rs", "fn f(c: char) -> bool { g().unwrap(); c == '\"' || c == '\\'' }\n#[cfg(test)]\nmod tests {}", "unwrap");
    keeps(
        "src/serve.rs",
        "fn f<'a>(c: &'a char) -> bool { *c == '\"' || *c == '{' || *c == '\\'' }\n#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }",
    );
}

#[test]
fn a_test_module_in_a_file_of_its_own_counts_as_test() {
    let parent = Source::new("src/journal.rs", "//! A file of a test.\n#[cfg(test)]\nmod suite;\nmod codec;\n");
    let crate_root = Source::new("src/lib.rs", "//! A file of a test.\n#[cfg(any(test, feature = \"x\"))]\npub mod suite;\n");
    assert_eq!(parent.test_children(), ["src/journal/suite.rs"]);
    assert_eq!(crate_root.test_children(), ["src/suite.rs"]);
    let suite = Source::new("src/journal/suite.rs", "//! A file of a test.\nmod world;\nfn f() { g().unwrap() }\n");
    let mut sources = [Source::new("src/journal/suite/world.rs", "//! A file of a test.\nfn f() { g().unwrap() }\n"), parent, suite];
    assert_eq!(sources.iter().flat_map(findings).count(), 2);
    mark_test_modules(&mut sources);
    assert_eq!(sources.iter().flat_map(findings).count(), 0);
}

#[test]
fn an_event_without_schema_golden_example_or_readme_line_is_found() {
    let readme = "| `run.trained` | `trained` | a run ended |\n";
    let golden = ["run.trained.v1.json".to_owned()];
    let all = event_findings(&[("run.trained", "trained")], &|_| true, &golden, readme);
    assert_eq!(all, []);
    let rules = |found: Vec<Finding>| found.into_iter().map(|f| f.rule).collect::<Vec<_>>();
    assert_eq!(
        rules(event_findings(&[("run.trained", "trained")], &|path| path.ends_with("data.json"), &[], "")),
        ["schema", "golden", "readme"]
    );
    assert_eq!(rules(event_findings(&[("run", "trained")], &|_| true, &golden, readme)), ["golden", "readme"]);
}
