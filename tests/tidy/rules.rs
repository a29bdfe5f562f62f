//! The rules, each a function from the files of the tree to what breaks it.

use crate::scan::{Source, is_word, line_of};

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 500;
/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;

/// What breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// `path:line`.
    pub place: String,
    /// The rule's name, for the tests of the rules.
    pub rule: &'static str,
    /// The rule, for a person.
    pub message: String,
}

/// All rules that look at one file at a time.
pub fn findings(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut report =
        |rule: &'static str, line: usize, message: String| found.push(Finding { place: format!("{}:{line}", source.path), rule, message });
    name(source, &mut report);
    machine_paths(source, &mut report);
    if is_code(&source.path) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            report("file length", lines, format!("a file has at most {FILE_LINES_MAX} lines, this one has {lines}: split it by subject"));
        }
    }
    if source.is_rust() {
        opening(source, &mut report);
        functions(source, &mut report);
        endings(source, &mut report);
        rooms(source, &mut report);
        sql(source, &mut report);
        edges(source, &mut report);
    }
    found
}

type Report<'a> = dyn FnMut(&'static str, usize, String) + 'a;

fn is_code(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.ends_with(".rs") || path.ends_with(".py") || path.ends_with(".sh") || name == "run"
}

fn name(source: &Source, report: &mut Report<'_>) {
    const VAGUE: [&str; 11] = ["util", "utils", "common", "helper", "helpers", "types", "domain", "infra", "manager", "managers", "misc"];
    for part in source.path.split('/') {
        let stem = part.split('.').next().unwrap_or(part);
        if VAGUE.contains(&stem) {
            report("name", 1, format!("nothing is called `{stem}`: a file is named for its subject"));
        }
    }
}

fn opening(source: &Source, report: &mut Report<'_>) {
    let said = source.text.strip_prefix("//! ").and_then(|rest| rest.lines().next());
    if said.is_none_or(|sentence| sentence.split_whitespace().count() < 3) {
        report("opening", 1, "each file opens with one `//!` sentence for what it is for".into());
    }
}

fn functions(source: &Source, report: &mut Report<'_>) {
    for function in source.functions().iter().filter(|f| f.lines > FUNCTION_LINES_MAX) {
        let message = format!("a function has at most {FUNCTION_LINES_MAX} lines, `{}` has {}", function.name, function.lines);
        report("function length", function.line, message);
    }
}

/// What no line outside tests, or no line at all, may say.
fn endings(source: &Source, report: &mut Report<'_>) {
    for (line, text) in source.outside_tests(&source.code) {
        if text.contains(".unwrap()") {
            report("unwrap", line, "no `unwrap` outside tests: return an error, or `expect` with the reason why it holds".into());
        }
    }
    for (line, text) in (1..).zip(source.code.lines()) {
        for word in ["todo!", "unimplemented!", "dbg!", "#[ignore"] {
            if text.contains(word) {
                report("unfinished", line, format!("`{word}` is not for a commit: finish it, or open an issue"));
            }
        }
    }
}

/// A word that may be said in some rooms only.
struct Word {
    rule: &'static str,
    /// As it stands in code, on word boundaries.
    words: &'static [&'static str],
    /// Where the rule holds: prefixes of paths.
    within: &'static [&'static str],
    /// Where the words may be said all the same: prefixes of paths.
    allowed: &'static [&'static str],
    because: &'static str,
}

const WORDS: [Word; 7] = [
    Word {
        rule: "clock in events",
        words: &[
            "SystemTime",
            "Instant",
            "Uuid",
            "Zoned::now",
            "Timestamp::now",
            "rand",
            "std::net",
            "std::fs",
            "std::env",
            "tokio",
            "async",
        ],
        within: &["events/src/"],
        allowed: &[],
        because: "events/ is true with the power off: no clock, randomness, socket or file",
    },
    Word {
        rule: "kafka outside the journal",
        words: &["rdkafka", "topic", "topics", "schema_registry", "schema_registry_converter"],
        within: &["src/", "projections/src/"],
        // the command that makes the topics, and its flags, must name them
        allowed: &["src/journal/", "src/journal.rs", "src/cli.rs", "src/cli/topics.rs", "src/config.rs", "src/config/kafka.rs"],
        because: "only src/journal/ speaks Kafka",
    },
    Word {
        rule: "rusqlite outside the journal",
        words: &["rusqlite"],
        within: &["src/", "projections/src/", "events/src/"],
        allowed: &["src/journal/sqlite"],
        because: "only src/journal/sqlite speaks rusqlite",
    },
    Word {
        rule: "git2 outside its room",
        words: &["git2"],
        within: &["src/", "projections/src/", "events/src/"],
        allowed: &["src/git/", "src/git.rs"],
        because: "only src/git speaks libgit2",
    },
    Word {
        rule: "http outside the door",
        words: &["StatusCode", "HeaderMap", "HeaderName", "HeaderValue"],
        within: &["src/", "events/src/", "projections/src/"],
        allowed: &["src/http/", "src/http.rs"],
        because: "only src/http says HTTP status or header",
    },
    Word {
        rule: "axum outside the door",
        words: &["axum"],
        within: &["src/", "events/src/", "projections/src/"],
        allowed: &["src/http/", "src/http.rs", "src/serve.rs"],
        because: "src/http speaks HTTP, and src/serve.rs runs it",
    },
    Word {
        rule: "flag outside config",
        words: &["env::var", "env::vars", "env::var_os", "env::args", "env::args_os", "clap"],
        within: &["src/", "events/src/", "projections/src/"],
        allowed: &["src/config.rs", "src/config/", "src/cli/", "src/cli.rs", "src/main.rs"],
        because: "only src/config.rs and src/cli read a flag or a variable",
    },
];

fn starts_with_any(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// Whether the text says the word, not a longer one.
fn says(text: &str, word: &str) -> bool {
    let bytes = text.as_bytes();
    text.match_indices(word).any(|(at, _)| {
        let behind = bytes.get(at + word.len());
        (at == 0 || !is_word(bytes[at - 1])) && behind.is_none_or(|b| !is_word(*b))
    })
}

fn rooms(source: &Source, report: &mut Report<'_>) {
    for rule in WORDS.iter().filter(|w| starts_with_any(&source.path, w.within) && !starts_with_any(&source.path, w.allowed)) {
        for (line, text) in source.outside_tests(&source.code) {
            for word in rule.words.iter().filter(|word| says(text, word)) {
                report(rule.rule, line, format!("`{word}` is in the wrong room: {}", rule.because));
            }
        }
    }
}

/// Statements in literals: a word of SQL in capitals, and the word that follows it.
fn sql(source: &Source, report: &mut Report<'_>) {
    const STATEMENTS: [(&str, &str); 9] = [
        ("SELECT ", " FROM "),
        ("INSERT INTO ", ""),
        ("INSERT OR ", ""),
        ("UPDATE ", " SET "),
        ("DELETE FROM ", ""),
        ("CREATE TABLE ", ""),
        ("CREATE INDEX ", ""),
        ("DROP TABLE ", ""),
        ("PRAGMA ", ""),
    ];
    let somewhere = starts_with_any(&source.path, &["src/", "events/src/"]) && !source.path.starts_with("src/journal/sqlite");
    for (line, text) in source.outside_tests(&source.spoken).filter(|_| somewhere) {
        if STATEMENTS.iter().any(|(first, then)| text.find(first).is_some_and(|at| text[at..].contains(then))) {
            report("sql", line, "SQL lives in projections/ and src/journal/sqlite.rs".into());
        }
    }
}

/// Which rooms of src/ a room may name, beside `config` and `metrics`; `serve` wires all.
const EDGES: [(&str, &[&str]); 13] = [
    ("main", &["cli"]),
    // Commands that work on a directory without a server need the journal itself and the views'
    // source; a replay has the door's form of an event, its filters and its times.
    (
        "cli",
        &[
            "serve",
            "audit",
            "arbiter::resume",
            "drift",
            "git",
            "journal",
            "runner",
            "http::cloudevent",
            "http::filter",
            "http::position",
            "http::problem",
            // an import reads another's index itself, and proposes at the door
            "world::search",
        ],
    ),
    // The runner knows how far each view is, which every read waits for.
    (
        "http",
        &[
            "arbiter::door",
            "arbiter::Status",
            "arbiter::drive::AllCounts",
            "cdevents",
            "drift",
            "git",
            "journal",
            "runner",
            "audit",
            "world",
        ],
    ),
    // From bytes to data, for whoever has the bytes.
    ("drift", &[]),
    // From our events to another's words, for whoever tells them; the runner has the views that it asks, and what goes
    // into a URI is written as the door writes it.
    ("cdevents", &["http::uri", "runner"]),
    // Repositories, for whoever wants to know or to put something there.
    ("git", &[]),
    ("arbiter", &["journal"]),
    ("runner", &["arbiter::door", "journal"]),
    // It follows the journal and hands events on as the door writes them; an actor that converges asks what is wanted
    // now, and the runner knows how far the registry is. A search cluster's URL is read as the door reads one.
    ("world", &["arbiter::door", "git", "journal", "cdevents", "http::cloudevent", "http::uri", "runner"]),
    ("audit", &["journal"]),
    ("journal", &[]),
    ("config", &[]),
    // What it counts is the arbiter's and the publisher's own word; they count without knowing of it.
    ("metrics", &["arbiter::Counts", "arbiter::Status", "journal::facts", "journal::publishing"]),
];

fn edges(source: &Source, report: &mut Report<'_>) {
    let Some(inside) = source.path.strip_prefix("src/") else { return };
    let room = inside.split(['/', '.']).next().unwrap_or(inside);
    if room == "lib" || room == "serve" {
        return;
    }
    let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == room) else {
        return report(
            "edge",
            1,
            format!("src/{room} is no room of the house: give it its edges in tests/tidy/rules.rs, or another place"),
        );
    };
    for (line, target) in targets(&source.code) {
        let first = target.split("::").next().unwrap_or(&target);
        let is_outside_tests = !source.test.get(line - 1).copied().unwrap_or(false);
        let fits = |edge: &str| target == edge || target.strip_prefix(edge).is_some_and(|rest| rest.starts_with("::"));
        let is_allowed = first == room || ["config", "metrics"].contains(&first) || allowed.iter().any(|edge| fits(edge));
        if is_outside_tests && !is_allowed {
            let list = if allowed.is_empty() { "nothing".into() } else { allowed.join(", ") };
            report("edge", line, format!("src/{room} may name {list}, config and metrics, not `{target}`"));
        }
    }
}

/// What follows `crate::`, as `room::module`, each with its line; a braced list gives one per entry.
fn targets(code: &str) -> Vec<(usize, String)> {
    let path = |text: &str| -> String { text.trim_start().bytes().take_while(|b| is_word(*b) || *b == b':').map(char::from).collect() };
    let mut found = Vec::new();
    for start in ["crate::", "annals::"] {
        for (at, _) in code.match_indices(start).filter(|(at, _)| *at == 0 || !is_word(code.as_bytes()[at - 1])) {
            let (line, rest) = (line_of(code, at), &code[at + start.len()..]);
            match rest.strip_prefix('{') {
                Some(list) => found.extend(entries(list).into_iter().map(|entry| (line, path(entry)))),
                None => {
                    let target = path(rest);
                    let inner = rest[target.len()..].strip_prefix('{').filter(|_| target.ends_with("::"));
                    let names = inner.map_or_else(Vec::new, entries);
                    if names.is_empty() {
                        found.push((line, target.trim_end_matches("::").into()));
                    }
                    found.extend(names.into_iter().map(|entry| (line, format!("{target}{}", path(entry)))));
                }
            }
        }
    }
    found
}

/// The entries of a braced list, without what lies in inner braces.
fn entries(list: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0_usize, 0, Vec::new());
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' | b',' if depth == 0 => {
                found.push(&list[from..at]);
                from = at + 1;
                if byte == b'}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|entry| !entry.trim().is_empty());
    found
}

/// A path of somebody's machine, in any file.
fn machine_paths(source: &Source, report: &mut Report<'_>) {
    // Put together here, so that this file does not find itself.
    const PATHS: [&str; 5] =
        [concat!("/", "root/"), concat!("/", "home/"), concat!("/", "Users/"), concat!("/", "work/"), concat!("C:", "\\")];
    for (line, text) in (1..).zip(source.text.lines()) {
        let said = PATHS.iter().find(|path| {
            text.match_indices(**path)
                .any(|(at, _)| at == 0 || !(is_word(text.as_bytes()[at - 1]) || b"}.-~:)".contains(&text.as_bytes()[at - 1])))
        });
        if let Some(path) = said {
            report("machine path", line, format!("`{path}…` is a path of one machine"));
        }
    }
}

/// What an event type needs beside its code: two schemas, a golden example, a line in the README.
pub fn event_findings(kinds: &[(&str, &str)], has_file: &dyn Fn(&str) -> bool, golden: &[String], readme: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut report = |place: String, rule, message: String| found.push(Finding { place, rule, message });
    for (dotted, short) in kinds {
        for half in ["data", "decided"] {
            let path = format!("events/schemas/{dotted}.v1.{half}.json");
            if !has_file(&path) {
                report(path, "schema", format!("`{dotted}` has no schema of its `{half}`"));
            }
        }
        if !golden.iter().any(|file| file.strip_prefix(dotted).is_some_and(|rest| rest.starts_with(".v"))) {
            report(format!("events/golden/{dotted}.*"), "golden", format!("`{dotted}` has no golden example"));
        }
        if !readme
            .lines()
            .any(|line| line.starts_with('|') && line.contains(&format!("`{dotted}`")) && line.contains(&format!("`{short}`")))
        {
            report("README.md".into(), "readme", format!("the event table has no line for `{dotted}` (`{short}`)"));
        }
    }
    found
}
