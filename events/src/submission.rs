//! What a proposal looks like on its way to the arbiter: a Kafka message, whatever carried it.

/// Largest value of a proposal, in bytes; larger data goes behind a URI and a digest.
pub const VALUE_BYTES_MAX: usize = 256 * 1024;

/// Key, headers and value of a message on `annals.proposals`, unparsed: it may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// `workspace/model`; absent when the producer gave none.
    pub key: Option<Vec<u8>>,
    /// Headers in their order: `ce_*` in binary mode, `content-type`, others.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The data (binary mode) or a whole CloudEvent (structured mode).
    pub value: Vec<u8>,
}

impl Submission {
    /// The first header of this name, as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        std::str::from_utf8(value).ok()
    }
}
