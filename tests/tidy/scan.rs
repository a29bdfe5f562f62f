//! Reads Rust text just well enough for the rules: what is comment, literal, test, function.

/// A file of the tree.
pub struct Source {
    /// From the root, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// With comments blanked; every line keeps its place.
    pub spoken: String,
    /// With comments and the insides of literals blanked.
    pub code: String,
    /// For every line, whether only tests contain it.
    pub test: Vec<bool>,
}

/// A function with a body.
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line that says `fn`, from 1.
    pub line: usize,
    /// How many lines it has, from `fn` to the last brace.
    pub lines: usize,
}

impl Source {
    /// Reads a file's text; only Rust is looked into.
    pub fn new(path: &str, text: &str) -> Self {
        let (spoken, code) = if path.ends_with(".rs") { blank(text) } else { (text.to_owned(), text.to_owned()) };
        let mut test =
            vec![
                path.starts_with("tests/") || path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs");
                text.lines().count()
            ];
        for (first, last) in test_regions(&code) {
            test.iter_mut().take(last).skip(first - 1).for_each(|line| *line = true);
        }
        Self { path: path.into(), text: text.into(), spoken, code, test }
    }

    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The lines (from 1) of `text` outside tests, with their numbers.
    pub fn outside_tests<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        (1..).zip(text.lines()).filter(|(number, _)| !self.test.get(number - 1).copied().unwrap_or(false))
    }

    /// Its functions that have a body.
    pub fn functions(&self) -> Vec<Function> {
        let bytes = self.code.as_bytes();
        let starts = self.code.match_indices("fn ").filter(|(at, _)| *at == 0 || !is_word(bytes[at - 1]));
        starts.filter_map(|(at, _)| self.function(at)).collect()
    }

    fn function(&self, at: usize) -> Option<Function> {
        let name: String = self.code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let open = body_after(&self.code, at)?;
        let close = closing(&self.code, open)?;
        let lines = self.code[at..=close].matches('\n').count() + 1;
        (!name.is_empty()).then(|| Function { name, line: line_of(&self.code, at), lines })
    }

    /// Files (from the root) of modules that exist for tests only: those under `#[cfg(test)]`, and all
    /// that a file of tests declares.
    pub fn test_children(&self) -> Vec<String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "lib.rs" | "main.rs" | "mod.rs")) => folder.to_owned(),
            _ => self.path.trim_end_matches(".rs").to_owned(),
        };
        let is_test = |line: usize| self.test.get(line - 1).copied().unwrap_or(false);
        let marked = test_items(&self.code).filter(|item| item.end.is_none()).map(|item| item.start);
        let inside = self.code.match_indices("mod ").map(|(at, _)| at).filter(|at| is_test(line_of(&self.code, *at)));
        let declared = |at: usize| {
            let name = self.code[at..].split_once("mod ")?.1.split([';', '{']).next()?.trim();
            name.bytes().all(is_word).then(|| format!("{folder}/{name}.rs"))
        };
        marked.chain(inside).filter_map(declared).collect()
    }
}

/// Whether a byte can be part of a word.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The line of a place, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

struct TestItem {
    start: usize,
    /// The closing brace; none for `mod name;`.
    end: Option<usize>,
}

fn test_items(code: &str) -> impl Iterator<Item = TestItem> {
    let is_test = |attribute: &str| attribute.split(|c: char| !c.is_alphanumeric()).any(|w| w == "test") && !attribute.contains("not(");
    code.match_indices("#[cfg(").filter_map(move |(at, _)| {
        let behind = at + code[at..].find(']')? + 1;
        is_test(&code[at..behind]).then(|| TestItem { start: at, end: body_after(code, behind).and_then(|open| closing(code, open)) })
    })
}

fn test_regions(code: &str) -> Vec<(usize, usize)> {
    test_items(code).filter_map(|item| Some((line_of(code, item.start), line_of(code, item.end?)))).collect()
}

/// Where the body `{` of the item that begins here opens; none if a `;` ends the item first.
fn body_after(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        depth += match byte {
            b'{' => 1,
            b'}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The text without comments, and the text without comments and without the insides of literals.
/// Blanked bytes become spaces, so that every line and column keeps its place.
fn blank(text: &str) -> (String, String) {
    let (mut spoken, mut code) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut rest = text;
    let mut before = b' ';
    while let Some(first) = rest.chars().next() {
        let (length, is_comment) = piece(rest, before);
        let (part, behind) = rest.split_at(length.max(first.len_utf8()));
        if length == 0 {
            spoken.push(first);
            code.push(if first.is_ascii() { first } else { ' ' });
        } else {
            spoken.extend(part.chars().map(|c| if is_comment && c != '\n' { ' ' } else { c }));
            code.extend(part.chars().map(|c| if c == '\n' { c } else { ' ' }));
        }
        before = part.bytes().last().unwrap_or(b' ');
        rest = behind;
    }
    (spoken, code)
}

/// How many bytes a comment or literal at the start of `rest` has (0: there is none), and whether it is a comment.
fn piece(rest: &str, before: u8) -> (usize, bool) {
    let to = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return (to(rest.find('\n')), true);
    }
    if rest.starts_with("/*") {
        return (to(rest.find("*/").map(|at| at + 2)), true);
    }
    if rest.starts_with('"') {
        return (string(rest), false);
    }
    if rest.starts_with('r') && (!is_word(before) || before == b'b') {
        let hashes = rest[1..].bytes().take_while(|b| *b == b'#').count();
        if rest[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = 2 + hashes;
            return (to(rest[from..].find(&end).map(|at| from + at + end.len())), false);
        }
    }
    if rest.starts_with('\'') {
        return (character(rest), false);
    }
    (0, false)
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal's length; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut inside = rest[1..].chars();
    match inside.next() {
        Some('\\') => rest[2..].find('\'').map_or(0, |at| if rest[2..].starts_with('\'') { at + 4 } else { at + 3 }),
        Some(c) if inside.next() == Some('\'') => c.len_utf8() + 2,
        _ => 0,
    }
}
