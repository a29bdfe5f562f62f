//! Users and tokens for repositories behind URLs, from a file as git's own `store` helper writes it: a line for each,
//! `https://USER:TOKEN@HOST[/PATH]`. It is read each time, so that a token can be changed while the engine runs.

use std::path::Path;

use url::Url;

/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 1024 * 1024;

/// A user and a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user; many hosts take any.
    pub user: String,
    /// The token or password.
    pub token: String,
}

/// Finds the line for a repository: the first that has its scheme, host and port, and a path that it lies below, if it has one.
///
/// # Errors
/// If the file cannot be read.
pub fn find(file: &Path, repository: &Url) -> Result<Option<Login>, String> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    read.map_err(|e| format!("the credentials in {} cannot be read: {e}", file.display()))?;
    Ok(text.lines().find_map(|line| login(line.trim(), repository)))
}

fn login(line: &str, repository: &Url) -> Option<Login> {
    let known = Url::parse(line).ok()?;
    let same = known.scheme() == repository.scheme()
        && known.host_str() == repository.host_str()
        && known.port_or_known_default() == repository.port_or_known_default();
    let below = known.path().trim_end_matches('/');
    let fits = repository.path().strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (same && fits).then(|| Login { user: decode(known.username()), token: decode(known.password().unwrap_or_default()) })
}

/// Bytes behind `%`, as URLs have them.
fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match hex.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_is_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "# tokens\nhttps://bot:a%40b@git.example/ml\nhttps://other:c@git.example\nhttp://plain:d@git.example:8080\n";
        std::fs::write(file.path(), text).unwrap();
        let found = |url: &str| find(file.path(), &Url::parse(url).unwrap()).unwrap().map(|l| format!("{} {}", l.user, l.token));
        assert_eq!(found("https://git.example/ml/x.git").as_deref(), Some("bot a@b"));
        assert_eq!(found("https://git.example/mlx.git").as_deref(), Some("other c"));
        assert_eq!(found("http://git.example:8080/x").as_deref(), Some("plain d"));
        assert_eq!(found("http://git.example/ml/x.git"), None, "a token for https goes over nothing else");
        assert!(find(Path::new("/no/such/file"), &Url::parse("https://h/").unwrap()).is_err_and(|e| e.contains("/no/such/file")));
    }
}
