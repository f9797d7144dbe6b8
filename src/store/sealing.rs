//! Seals personal data before it is stored.
//!
//! XChaCha20-Poly1305 with a random 192-bit nonce a value. The associated data is the table, the row's id and the key's id, so
//! a value that is copied to another row does not open. Keys come as `id:base64 of 32 bytes`, with commas or line breaks between
//! them; the first one writes, all of them read.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::error::{Error, Result};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const MAX_KEY_ID_BYTES: usize = 32;

/// The keys that seal and sign. Cheap to clone; shows nothing in `Debug`.
#[derive(Clone)]
pub struct SealingKeys {
    keys: Arc<Vec<Key>>,
}

struct Key {
    id: String,
    cipher: XChaCha20Poly1305,
    hash_secret: Secret,
}

/// The bytes of a key; wiped when dropped.
pub(super) type Secret = Zeroizing<[u8; KEY_BYTES]>;

/// A sealed value, as stored.
#[derive(Clone)]
pub struct Sealed {
    /// Id of the key that sealed it.
    pub key_id: String,
    /// Nonce and ciphertext.
    pub bytes: Vec<u8>,
}

impl SealingKeys {
    /// Reads `id:base64,id:base64,...`, also in several lines. The message of an error never holds a key.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut keys: Vec<Key> = Vec::new();
        let lines = text.trim().lines().filter(|line| !line.trim().is_empty());
        for (position, part) in lines.flat_map(|line| line.split(',')).map(str::trim).enumerate() {
            let key = Key::parse(part).map_err(|problem| format!("key {}: {problem}", position + 1))?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(format!("key {}: its id stands twice", position + 1));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err("there is no key: write an id, a colon and base64 of 32 bytes".to_owned());
        }
        Ok(Self { keys: Arc::new(keys) })
    }

    /// No keys: for commands that neither seal nor open anything.
    #[must_use]
    pub fn none() -> Self {
        Self {
            keys: Arc::new(Vec::new()),
        }
    }

    /// A new random key in the form that [`SealingKeys::parse`] reads.
    pub fn generate(id: &str) -> std::result::Result<Zeroizing<String>, String> {
        let mut secret = Zeroizing::new([0_u8; KEY_BYTES]);
        getrandom::fill(secret.as_mut()).map_err(|error| format!("no random numbers: {error}"))?;
        Ok(Zeroizing::new(format!("{id}:{}", BASE64.encode(secret.as_ref()))))
    }

    /// Seals the JSON form of a value for one row of one table.
    pub fn seal<T: Serialize>(&self, table: &str, row_id: &str, value: &T) -> Result<Sealed> {
        let plain =
            Zeroizing::new(serde_json::to_vec(value).map_err(|error| Error::internal(format!("seal: {error}")))?);
        self.seal_bytes(table, row_id, &plain)
    }

    fn seal_bytes(&self, table: &str, row_id: &str, plain: &[u8]) -> Result<Sealed> {
        let key = self.first()?;
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
        let associated = associated_data(table, row_id, &key.id);
        let payload = Payload {
            msg: plain,
            aad: &associated,
        };
        let cipher_text = key
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| Error::internal("sealing failed"))?;
        let mut bytes = nonce.to_vec();
        bytes.extend(cipher_text);
        Ok(Sealed {
            key_id: key.id.clone(),
            bytes,
        })
    }

    /// Opens what [`SealingKeys::seal`] made for the same row. Fails when the key is missing or the value is another row's.
    pub fn open<T: DeserializeOwned>(&self, table: &str, row_id: &str, sealed: &Sealed) -> Result<T> {
        let plain = self.open_bytes(table, row_id, sealed)?;
        serde_json::from_slice(&plain).map_err(|_| Error::internal(format!("a sealed value of {table} can't be read")))
    }

    fn open_bytes(&self, table: &str, row_id: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.by_id(&sealed.key_id)?;
        let (nonce, cipher_text) = sealed
            .bytes
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(|| Error::internal("a sealed value is too short"))?;
        let associated = associated_data(table, row_id, &key.id);
        let payload = Payload {
            msg: cipher_text,
            aad: &associated,
        };
        key.cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| Error::internal(format!("a sealed value of {table} does not open with key {}", key.id)))
    }

    /// Seals with the writing key what another key sealed for the same row.
    pub(super) fn reseal(&self, table: &str, row_id: &str, sealed: &Sealed) -> Result<Sealed> {
        let plain: Zeroizing<Vec<u8>> = self.open_bytes(table, row_id, sealed)?;
        self.seal_bytes(table, row_id, &plain)
    }

    /// Id of the key that writes; none where there is no key.
    #[must_use]
    pub fn writing_id(&self) -> Option<&str> {
        self.keys.first().map(|key| key.id.as_str())
    }

    /// Ids of all keys, the writing one first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// Whether there is a key of this id.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.ids().any(|known| known == id)
    }

    /// The id of a key that is another one in `other`.
    #[must_use]
    pub fn contradiction(&self, other: &Self) -> Option<&str> {
        let differs = |key: &&Key| {
            let same_id = other.keys.iter().find(|known| known.id == key.id);
            // Of one secret both are derived, so that one tells for both.
            same_id.is_some_and(|known| known.hash_secret != key.hash_secret)
        };
        self.keys.iter().find(differs).map(|key| key.id.as_str())
    }

    /// The secrets that keyed hashes were made with before hash keys were kept, by the keys' ids.
    pub(super) fn hash_secrets(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.keys.iter().map(|key| (key.id.as_str(), &key.hash_secret))
    }

    fn first(&self) -> Result<&Key> {
        self.keys.first().ok_or_else(|| Error::internal("no encryption key"))
    }

    fn by_id(&self, id: &str) -> Result<&Key> {
        self.keys
            .iter()
            .find(|key| key.id == id)
            .ok_or_else(|| Error::internal(format!("no encryption key with id {id}: the encryption keys lack it")))
    }
}

impl Key {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let (id, encoded) = text
            .split_once(':')
            .ok_or("must be an id, a colon and base64 of 32 bytes")?;
        let visible = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if id.is_empty() || id.len() > MAX_KEY_ID_BYTES || !id.bytes().all(visible) {
            return Err("its id must be 1 to 32 letters, digits, - or _".to_owned());
        }
        let decoded = Zeroizing::new(BASE64.decode(encoded).map_err(|_| "is not base64")?);
        let secret: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(
            decoded
                .as_slice()
                .try_into()
                .map_err(|_| "must be base64 of exactly 32 bytes")?,
        );
        // Two secrets from one, so that a hash never says anything about the cipher's key.
        let cipher_secret = derive(&secret, "seal").ok_or("can't be used")?;
        let hash_secret = derive(&secret, "mac").ok_or("can't be used")?;
        Ok(Self {
            id: id.to_owned(),
            cipher: XChaCha20Poly1305::new((&*cipher_secret).into()),
            hash_secret,
        })
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|key| key.id.as_str()).collect();
        write!(formatter, "SealingKeys({})", ids.join(", "))
    }
}

fn derive(secret: &[u8; KEY_BYTES], purpose: &str) -> Option<Secret> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(b"affiliate-billing ");
    mac.update(purpose.as_bytes());
    Some(Zeroizing::new(mac.finalize().into_bytes().into()))
}

fn associated_data(table: &str, row_id: &str, key_id: &str) -> Vec<u8> {
    format!("{table}\0{row_id}\0{key_id}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> SealingKeys {
        SealingKeys::parse(text).unwrap()
    }

    const ONE: &str = "one:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const TWO: &str = "two:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    #[test]
    fn a_sealed_value_opens_in_its_own_row_alone() {
        let keys = keys(ONE);
        let sealed = keys
            .seal("payment_methods", "row-1", &"DE89370400440532013000")
            .unwrap();
        assert_eq!(
            keys.open::<String>("payment_methods", "row-1", &sealed).unwrap(),
            "DE89370400440532013000"
        );
        assert!(keys.open::<String>("payment_methods", "row-2", &sealed).is_err());
        assert!(keys.open::<String>("billing_details", "row-1", &sealed).is_err());
    }

    #[test]
    fn the_first_key_writes_and_all_read() {
        let old = keys(ONE).seal("t", "r", &1).unwrap();
        let both = keys(&format!("{TWO},{ONE}"));
        assert_eq!(both.open::<i32>("t", "r", &old).unwrap(), 1);
        assert_eq!(both.seal("t", "r", &1).unwrap().key_id, "two");
        assert!(keys(TWO).open::<i32>("t", "r", &old).is_err());
    }

    #[test]
    fn keys_may_stand_in_lines() {
        for text in [
            format!("{TWO}\n{ONE}\n"),
            format!("\n{TWO}\r\n\n {ONE} \n"),
            format!("{TWO},{ONE}"),
        ] {
            assert_eq!(format!("{:?}", keys(&text)), "SealingKeys(two, one)");
        }
    }

    #[test]
    fn another_key_of_the_same_id_contradicts() {
        let both = keys(&format!("{TWO},{ONE}"));
        assert_eq!(both.contradiction(&keys(ONE)), None);
        assert_eq!(both.contradiction(&keys(&TWO.replace("two", "one"))), Some("one"));
    }

    #[test]
    fn malformed_keys_are_refused_without_showing_them() {
        for text in [
            "",
            "one",
            "one:",
            ":AAAA",
            "one:AAAA",
            "o ne:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            &format!("{ONE},{ONE}"),
            &format!("{ONE},"),
            &format!("{ONE}\n{ONE}"),
            "\n\n",
        ] {
            let problem = SealingKeys::parse(text).unwrap_err();
            assert!(!problem.contains("AAAA"), "{problem}");
        }
        assert_eq!(format!("{:?}", keys(ONE)), "SealingKeys(one)");
        assert!(SealingKeys::parse(&SealingKeys::generate("file").unwrap()).is_ok());
    }
}
