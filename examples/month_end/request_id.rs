//! Request ids that are the same in every run.

use sha2::{Digest, Sha256};

/// A UUID made from what the step is and what it is done to: the same parts always give the same id.
pub(crate) fn derive(parts: &[&str]) -> String {
    let mut fingerprint = Fingerprint::default();
    for part in parts {
        fingerprint.add(part.as_bytes());
    }
    fingerprint.finish()
}

/// A digest of things in their order, as a UUID. That is the idea of UUID version 5, with SHA-256 instead of SHA-1;
/// version 8 is the one for a method of one's own.
#[derive(Default)]
pub(crate) struct Fingerprint(Sha256);

impl Fingerprint {
    /// Takes in one thing.
    pub(crate) fn add(&mut self, thing: &[u8]) {
        // With its length before it, so that "ab", "c" and "a", "bc" differ.
        self.0.update(thing.len().to_be_bytes());
        self.0.update(thing);
    }

    /// The UUID of all of them.
    pub(crate) fn finish(self) -> String {
        let mut bytes = [0; 16];
        for (byte, digested) in bytes.iter_mut().zip(self.0.finalize()) {
            *byte = digested;
        }
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
    }
}
