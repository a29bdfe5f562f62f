//! The keys of a subscription: made here, kept in the operational store alone, several valid while they change.

use annals_events::time::Timestamp;
use annals_projections::ops::{Ops, Secret};
use serde::Serialize;

use super::sign::Key;

/// How long the old key goes on signing beside a new one, in seconds, unless told otherwise.
pub const OVERLAP_S: u64 = 24 * 3600;
/// Longest overlap, in seconds.
pub const OVERLAP_MAX_S: u64 = 30 * 24 * 3600;

/// A key as people get to see it: never the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Shown {
    /// Its id.
    pub id: String,
    /// `ed25519` or `hmac`.
    pub kind: String,
    /// `whpk_…`: what a receiver verifies with; only of Ed25519.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
    /// When it was made.
    pub created: String,
    /// When it ends to sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// Whose keys they are, in the store.
#[must_use]
pub fn owner(workspace: &str, subscription: &str) -> String {
    format!("subscription/{workspace}/{subscription}")
}

fn is_valid(secret: &Secret, now: Timestamp) -> bool {
    secret.expires.is_none_or(|at| at > now)
}

fn key(secret: &Secret) -> Result<Key, String> {
    Key::from_bytes(&secret.kind, &secret.bytes).map_err(|e| format!("the key {} cannot be used: {e}", secret.id))
}

/// The keys that sign now, the newest first.
///
/// # Errors
/// In words, if the store does not answer or holds what is no key.
pub async fn valid(ops: &Ops, owner: &str, now: Timestamp) -> Result<Vec<Key>, String> {
    let secrets = ops.secrets(owner).await.map_err(|e| e.to_string())?;
    secrets.iter().filter(|secret| is_valid(secret, now)).map(key).collect()
}

/// The keys that sign now, without what is secret of them.
///
/// # Errors
/// [`annals_projections::Error`].
pub async fn shown(ops: &Ops, owner: &str, now: Timestamp) -> Result<Vec<Shown>, annals_projections::Error> {
    let shown = |secret: &Secret| Shown {
        id: secret.id.clone(),
        kind: secret.kind.clone(),
        public: key(secret).ok().and_then(|key| key.public()),
        created: secret.created.to_string(),
        expires: secret.expires.map(|at| at.to_string()),
    };
    Ok(ops.secrets(owner).await?.iter().filter(|secret| is_valid(secret, now)).map(shown).collect())
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// The store.
    #[error(transparent)]
    Store(#[from] annals_projections::Error),
    /// The system's randomness.
    #[error("{0}")]
    Made(String),
}

/// What the receiver must be told of a new key now or never: an HMAC secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The key's id.
    pub id: String,
    /// `whsec_…`.
    pub secret: String,
}

/// Makes a key if there is none of this kind that signs, and returns what must be told of it. Keys of another kind go on
/// for [`OVERLAP_S`].
///
/// # Errors
/// [`NoKey`].
pub async fn ensure(ops: &Ops, owner: &str, kind: &str, now: Timestamp) -> Result<Option<Told>, NoKey> {
    let secrets = ops.secrets(owner).await?;
    // one that ends one day is being replaced: it does not count
    if secrets.iter().any(|secret| secret.kind == kind && secret.expires.is_none()) {
        return Ok(None);
    }
    rotate(ops, owner, kind, now, OVERLAP_S).await
}

/// Makes a key; those before it sign on for `overlap_s` seconds. Returns as [`ensure`] does.
///
/// # Errors
/// [`NoKey`].
pub async fn rotate(ops: &Ops, owner: &str, kind: &str, now: Timestamp, overlap_s: u64) -> Result<Option<Told>, NoKey> {
    let key = Key::generate(kind).map_err(NoKey::Made)?;
    let id = uuid::Uuid::now_v7().simple().to_string();
    let secret = Secret { id, kind: kind.to_owned(), bytes: key.bytes().to_vec(), created: now, expires: None };
    let until = Timestamp(now.0.saturating_add(i64::try_from(overlap_s.min(OVERLAP_MAX_S)).unwrap_or(0) * 1000));
    ops.rotate_secret(owner, &secret, until).await?;
    Ok(key.shared().map(|shared| Told { id: secret.id, secret: shared }))
}
