//! Signatures by the Standard Webhooks spec: keys, what is signed, and how both are written.

use std::fmt;

use annals_events::record::Hash;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a key that we make; the spec wants 24 to 64 for HMAC, and Ed25519 has 32.
const KEY_BYTES: usize = 32;
/// Hexadecimal digits of the source's digest in a webhook's id.
const SOURCE_DIGITS: usize = 16;

/// The word for keys of [`Key::Ed25519`], in rules and in the store.
pub const ED25519: &str = "ed25519";
/// The word for keys of [`Key::Hmac`].
pub const HMAC: &str = "hmac";

/// What a delivery is signed with. It never shows itself in a log.
#[derive(Clone)]
pub enum Key {
    /// `v1a`: the receiver has the public half only.
    Ed25519(Box<SigningKey>),
    /// `v1`: the receiver has the same secret.
    Hmac(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.kind())
    }
}

impl Key {
    /// A new one, from the system's randomness.
    ///
    /// # Errors
    /// If the system gives none, or the kind is not known.
    pub fn generate(kind: &str) -> Result<Self, String> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(|e| format!("the system gives no randomness for a key: {e}"))?;
        Self::from_bytes(kind, &bytes)
    }

    /// The key that was stored.
    ///
    /// # Errors
    /// If it is none: what is stored was damaged.
    pub fn from_bytes(kind: &str, bytes: &[u8]) -> Result<Self, String> {
        match kind {
            ED25519 => {
                let seed = bytes.try_into().map_err(|_| format!("an Ed25519 key has {KEY_BYTES} bytes, the stored one {}", bytes.len()))?;
                Ok(Self::Ed25519(Box::new(SigningKey::from_bytes(seed))))
            }
            HMAC if (24..=64).contains(&bytes.len()) => Ok(Self::Hmac(bytes.to_vec())),
            HMAC => Err(format!("an HMAC key has 24 to 64 bytes, the stored one {}", bytes.len())),
            other => Err(format!("`{other}` is no kind of key")),
        }
    }

    /// What to store.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) => key.as_bytes(),
            Self::Hmac(bytes) => bytes,
        }
    }

    /// `ed25519` or `hmac`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => ED25519,
            Self::Hmac(_) => HMAC,
        }
    }

    /// `whpk_…`: what a receiver verifies with, and anybody may know.
    #[must_use]
    pub fn public(&self) -> Option<String> {
        match self {
            Self::Ed25519(key) => Some(format!("whpk_{}", BASE64.encode(key.verifying_key().as_bytes()))),
            Self::Hmac(_) => None,
        }
    }

    /// `whsec_…`: what a receiver must be told once, and nobody else ever. A private Ed25519 key
    /// (`whsk_…`) is nobody's business but ours, and is never written.
    #[must_use]
    pub fn shared(&self) -> Option<String> {
        match self {
            Self::Ed25519(_) => None,
            Self::Hmac(bytes) => Some(format!("whsec_{}", BASE64.encode(bytes))),
        }
    }

    /// One entry of `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let signed = [format!("{id}.{timestamp_s}.").as_bytes(), body].concat();
        match self {
            Self::Ed25519(key) => format!("v1a,{}", BASE64.encode(key.sign(&signed).to_bytes())),
            Self::Hmac(bytes) => {
                let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(bytes).expect("HMAC takes keys of any length");
                mac.update(&signed);
                format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
            }
        }
    }
}

/// The whole `webhook-signature`: one entry per key that is valid now, the newest first.
#[must_use]
pub fn signatures(keys: &[Key], id: &str, timestamp_s: i64, body: &[u8]) -> String {
    keys.iter().map(|key| key.sign(id, timestamp_s, body)).collect::<Vec<_>>().join(" ")
}

/// The `webhook-id` of an event: its own id, `_`, and 16 hexadecimal digits of its source's SHA-256.
///
/// Ids are unique per source only, and a receiver drops what comes with an id that it knows. The
/// spec allows no `.` in it, since that is what parts id, time and body where they are signed, and an
/// event's id may hold anything: bytes other than `A-Z a-z 0-9 - _` are written as `~` and two digits.
#[must_use]
pub fn webhook_id(source: &str, id: &str) -> String {
    let mut text = String::with_capacity(id.len() + 1 + SOURCE_DIGITS);
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(byte)),
            other => text.push_str(&format!("~{other:02x}")),
        }
    }
    text.push('_');
    text.push_str(&Hash::of(source.as_bytes()).to_string()[..SOURCE_DIGITS]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &str, text: &str) -> Key {
        let bytes = BASE64.decode(text).unwrap();
        // `whsk_` holds the private half, then the public one
        let bytes = if kind == ED25519 { &bytes[..KEY_BYTES] } else { &bytes };
        Key::from_bytes(kind, bytes).unwrap()
    }

    #[test]
    fn the_specs_published_signatures_come_out() {
        // the libraries' own test vectors (JavaScript, Go, Java, C#; Rust)
        let first = key(HMAC, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(first.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let second = key(HMAC, "C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        let mail = br#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(second.sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, mail), "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
        // the `v1a` signature in the spec's example of headers; key and message are those of the server that it comes from
        let third = key(ED25519, "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==");
        let expected = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
        assert_eq!(third.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body), expected);
        assert_eq!(third.public().unwrap(), "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");
        assert_eq!(
            signatures(&[third, first], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            format!("{expected} v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
    }

    #[test]
    fn a_stored_key_is_the_same_key_and_shows_only_what_it_may() {
        for (kind, shown) in [(ED25519, "whpk_"), (HMAC, "whsec_")] {
            let made = Key::generate(kind).unwrap();
            let again = Key::from_bytes(made.kind(), made.bytes()).unwrap();
            assert_eq!(made.sign("a", 1, b"x"), again.sign("a", 1, b"x"));
            assert_ne!(made.sign("a", 1, b"x"), Key::generate(kind).unwrap().sign("a", 1, b"x"));
            let told = made.public().or(made.shared()).unwrap();
            assert!(told.starts_with(shown), "{told}");
            assert_eq!(format!("{made:?}"), format!("Key({kind})"));
        }
        assert!(Key::generate(ED25519).unwrap().shared().is_none() && Key::generate(HMAC).unwrap().public().is_none());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for (kind, bytes) in [(ED25519, 31), (ED25519, 64), (HMAC, 23), (HMAC, 65), ("rsa", 32)] {
            assert!(Key::from_bytes(kind, &vec![1; bytes]).is_err(), "{kind} {bytes}");
        }
    }

    #[test]
    fn an_id_is_unique_per_source_and_can_be_signed() {
        let id = webhook_id("/pipelines/nightly", "019a-7_x");
        assert!(id.starts_with("019a-7_x_") && id.len() == "019a-7_x_".len() + 16, "{id}");
        assert_ne!(id, webhook_id("/cli", "019a-7_x"));
        let odd = webhook_id("/cli", "a.b~c é\n");
        assert!(odd.starts_with("a~2eb~7ec~20~c3~a9~0a_"), "{odd}");
        assert_ne!(webhook_id("/cli", "a.b"), webhook_id("/cli", "a~2eb"));
    }
}
