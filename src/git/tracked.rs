//! A model's file in a repository's history: which bytes it is at a commit, and which commits changed it. A pointer of Git LFS
//! stands for the bytes that it names.

use std::path::Path;

use annals_events::record::Hash;
use git2::{Commit, ErrorCode, ObjectType, Oid, Repository};

/// Largest pointer, in bytes, by its specification.
const POINTER_BYTES_MAX: usize = 1024;
/// What pointers begin with; the second is how their first writers did.
const POINTER_BEGINS: [&str; 2] = ["version https://git-lfs.github.com/spec/", "version https://hawser.github.com/spec/"];

/// The bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// `sha256:` and their digest.
    pub digest: String,
    /// How many they are.
    pub size: u64,
    /// Whether Git LFS keeps them, and the repository only a pointer.
    pub lfs: bool,
}

/// What a pointer of Git LFS says; none if it is no pointer.
///
/// # Errors
/// If it begins like one and is broken.
pub fn pointer(bytes: &[u8]) -> Option<Result<Artifact, String>> {
    let begins = POINTER_BEGINS.iter().any(|begin| bytes.starts_with(begin.as_bytes()));
    if !begins || bytes.len() > POINTER_BYTES_MAX {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let hex = |digest: &&str| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let digest = line("oid").and_then(|oid| oid.strip_prefix("sha256:")).filter(hex);
    let size = line("size").and_then(|size| size.parse().ok());
    Some(match (digest, size) {
        (Some(digest), Some(size)) => Ok(Artifact { digest: format!("sha256:{digest}"), size, lfs: true }),
        _ => Err("it begins like a pointer of Git LFS, and has no `oid sha256:…` and `size …`".into()),
    })
}

/// The file's blob at a commit, if it is there.
///
/// # Errors
/// [`git2::Error`].
pub fn blob(commit: &Commit<'_>, path: &Path) -> Result<Option<Oid>, git2::Error> {
    match commit.tree()?.get_path(path) {
        Ok(entry) => Ok(Some(entry.id()).filter(|_| entry.kind() == Some(ObjectType::Blob))),
        Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The bytes that a blob stands for.
///
/// # Errors
/// In words.
pub fn artifact(repository: &Repository, blob: Oid) -> Result<Artifact, String> {
    let blob = repository.find_blob(blob).map_err(|e| e.message().to_owned())?;
    let bytes = blob.content();
    pointer(bytes).unwrap_or_else(|| Ok(Artifact { digest: format!("sha256:{}", Hash::of(bytes)), size: bytes.len() as u64, lfs: false }))
}

/// Whether a commit made the file what it is there: none of its parents had it so.
///
/// # Errors
/// [`git2::Error`]; in a repository whose history is cut off the commit at the edge has no parents.
pub fn changed(commit: &Commit<'_>, path: &Path) -> Result<Option<Oid>, git2::Error> {
    let Some(now) = blob(commit, path)? else { return Ok(None) };
    for parent in commit.parents() {
        if blob(&parent, path)? == Some(now) {
            return Ok(None);
        }
    }
    Ok(Some(now))
}

/// The commit that made the file what it is at another one: back along whichever parent has it so, too.
///
/// # Errors
/// [`git2::Error`].
pub fn origin<'r>(commit: &Commit<'r>, path: &Path) -> Result<Option<(Commit<'r>, Oid)>, git2::Error> {
    let Some(now) = blob(commit, path)? else { return Ok(None) };
    let mut at = commit.clone();
    'back: loop {
        for parent in at.parents() {
            if blob(&parent, path)? == Some(now) {
                at = parent;
                continue 'back;
            }
        }
        return Ok(Some((at, now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_says_what_it_stands_for_or_is_broken() {
        let digest = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 12345\n");
        let read = pointer(text.as_bytes()).unwrap().unwrap();
        assert_eq!(read, Artifact { digest: format!("sha256:{digest}"), size: 12345, lfs: true });
        for broken in
            [text.replace("size 12345", "size"), text.replace(digest, "4d7a"), "version https://git-lfs.github.com/spec/v1\n".into()]
        {
            assert!(pointer(broken.as_bytes()).unwrap().is_err(), "{broken}");
        }
        assert_eq!(pointer(b"\x80\x04pickle"), None);
        assert_eq!(pointer(&[text.as_bytes(), &[b'x'; POINTER_BYTES_MAX]].concat()), None, "a file that begins so is a file");
    }
}
