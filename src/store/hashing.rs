//! Table `hash_keys`, and the keyed hashes that are made with them: HMAC-SHA256.
//!
//! A keyed hash can't be made anew from what is stored: the content of a request is kept nowhere else. So hash keys do not
//! change with the encryption keys, which only seal them. The first one was derived from the encryption key that wrote when the
//! database was first opened, and is with its id what versions before this one hash with. It writes for good, in every process,
//! so that what is equal has equal hashes; the others read what such versions wrote.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sea_orm::{ConnectionTrait, FromQueryResult};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::rotation::{KeyPart, SealedTable};
use super::sealing::{Sealed, Secret};
use super::{Session, Tx};
use crate::domain::error::{Error, Result};
use crate::domain::time::Timestamp;

const TABLE: &str = "hash_keys";

/// The table, for the rotation of the encryption keys.
pub(super) const SEALED: SealedTable = SealedTable {
    name: TABLE,
    key: &[("id", KeyPart::TEXT)],
    row_id: |parts| parts.join("\0"),
};

/// A keyed hash: equal for equal content, and useless without the key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyedHash {
    /// Id of the hash key that made it.
    pub key_id: String,
    /// 32 bytes.
    pub bytes: Vec<u8>,
}

/// The keys that hash. Cheap to clone; shows nothing in `Debug`.
#[derive(Clone)]
pub struct HashKeys {
    keys: Arc<Vec<HashKey>>,
}

struct HashKey {
    id: String,
    secret: Secret,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    key_id: String,
    sealed: Vec<u8>,
}

impl HashKeys {
    /// No keys: for commands that hash nothing.
    pub(super) fn none() -> Self {
        Self {
            keys: Arc::new(Vec::new()),
        }
    }

    /// One key that is no database's.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of_nobody() -> Self {
        let key = HashKey {
            id: "fuzzing".to_owned(),
            secret: Zeroizing::new([7; 32]),
        };
        Self {
            keys: Arc::new(vec![key]),
        }
    }

    /// Keyed hash of a content for one purpose, with the writing key.
    pub fn keyed_hash(&self, purpose: &str, content: &[u8]) -> Result<KeyedHash> {
        let key = self.keys.first().ok_or_else(|| Error::internal("no hash key"))?;
        key.hash(purpose, content)
    }

    /// Keyed hashes of a content for one purpose with each of the keys, the writing one first: to find one that is stored.
    pub fn keyed_hashes(&self, purpose: &str, content: &[u8]) -> Result<Vec<KeyedHash>> {
        self.keys.iter().map(|key| key.hash(purpose, content)).collect()
    }

    /// Whether a stored keyed hash is that of a content.
    pub fn matches(&self, purpose: &str, content: &[u8], hash: &KeyedHash) -> Result<bool> {
        let key = self.keys.iter().find(|key| key.id == hash.key_id);
        let key = key.ok_or_else(|| Error::internal(format!("no hash key with id {}", hash.key_id)))?;
        Ok(constant_time_eq(&key.mac(purpose, content)?, &hash.bytes))
    }

    /// Whether `signature` is the beginning (at least 16 bytes) of the content's keyed hash by any of the keys.
    pub fn signed_by_any(&self, purpose: &str, content: &[u8], signature: &[u8]) -> Result<bool> {
        for key in self.keys.iter() {
            let mac = key.mac(purpose, content)?;
            let beginning = mac.get(..signature.len().max(16)).unwrap_or_default();
            if constant_time_eq(beginning, signature) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl HashKey {
    fn hash(&self, purpose: &str, content: &[u8]) -> Result<KeyedHash> {
        Ok(KeyedHash {
            key_id: self.id.clone(),
            bytes: self.mac(purpose, content)?,
        })
    }

    fn mac(&self, purpose: &str, content: &[u8]) -> Result<Vec<u8>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_ref())
            .map_err(|_| Error::internal("the hash key has a wrong length"))?;
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(content);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

impl fmt::Debug for HashKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|key| key.id.as_str()).collect();
        write!(formatter, "HashKeys({})", ids.join(", "))
    }
}

fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// The hash keys of the database, the writing one first, then those of the encryption keys that a version before this one may
/// hash with now.
pub(super) async fn load<C: ConnectionTrait>(session: &Session<C>) -> Result<HashKeys> {
    let sql = "SELECT id, key_id, sealed FROM hash_keys ORDER BY is_writing DESC, id";
    let rows: Vec<Row> = session.fetch_all(sql, vec![]).await?;
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        let sealed = Sealed {
            key_id: row.key_id,
            bytes: row.sealed,
        };
        let secret: Zeroizing<Vec<u8>> = Zeroizing::new(session.keys.open(TABLE, &row.id, &sealed)?);
        let secret = secret.as_slice().try_into().map(Zeroizing::new);
        keys.push(HashKey {
            id: row.id,
            secret: secret.map_err(|_| Error::internal("a stored hash key has a wrong length"))?,
        });
    }
    for (id, secret) in session.keys.hash_secrets() {
        if !keys.iter().any(|key| key.id == id) {
            keys.push(HashKey {
                id: id.to_owned(),
                secret: secret.clone(),
            });
        }
    }
    Ok(HashKeys { keys: Arc::new(keys) })
}

/// Whether there is none yet: the database was never opened by this version.
pub(super) async fn is_empty<C: ConnectionTrait>(session: &Session<C>) -> Result<bool> {
    #[derive(FromQueryResult)]
    struct Id {
        #[expect(dead_code, reason = "a row must have a column")]
        id: String,
    }
    let row: Option<Id> = session
        .fetch_optional("SELECT id FROM hash_keys LIMIT 1", vec![])
        .await?;
    Ok(row.is_none())
}

/// Keeps the hash keys of the encryption keys that are not kept yet and that something is hashed with; where there is none at
/// all, that of the writing encryption key, to hash with from now on.
pub(super) async fn keep(tx: &Tx) -> Result<()> {
    for (position, (id, secret)) in tx.keys.hash_secrets().enumerate() {
        if position == 0 {
            insert(tx, id, secret, true).await?;
        }
        if is_used(tx, id).await? {
            insert(tx, id, secret, false).await?;
        }
    }
    Ok(())
}

/// Nothing where the key is kept, or, of a writing one, where there is another.
async fn insert(tx: &Tx, id: &str, secret: &Secret, is_writing: bool) -> Result<()> {
    let sealed = tx.keys.seal(TABLE, id, &secret.as_slice())?;
    tx.execute(
        "INSERT INTO hash_keys (id, is_writing, key_id, sealed, create_time) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        vec![
            id.into(),
            is_writing.into(),
            sealed.key_id.into(),
            sealed.bytes.into(),
            Timestamp::now().as_micros().into(),
        ],
    )
    .await?;
    Ok(())
}

async fn is_used(tx: &Tx, id: &str) -> Result<bool> {
    #[derive(FromQueryResult)]
    struct Used {
        used: bool,
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM request_ids WHERE hash_key_id = $1) \
        OR EXISTS (SELECT 1 FROM payees WHERE hash_key_id = $1) AS used";
    let row: Used = tx.fetch_one(sql, vec![id.into()]).await?;
    Ok(row.used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_keys(ids: &[(&str, u8)]) -> HashKeys {
        let key = |(id, byte): &(&str, u8)| HashKey {
            id: (*id).to_owned(),
            secret: Zeroizing::new([*byte; 32]),
        };
        HashKeys {
            keys: Arc::new(ids.iter().map(key).collect()),
        }
    }

    #[test]
    fn hashes_are_of_key_purpose_and_content() {
        let keys = hash_keys(&[("one", 1), ("two", 2)]);
        let hash = keys.keyed_hash("purpose", b"content").unwrap();
        assert_eq!((hash.key_id.as_str(), hash.bytes.len()), ("one", 32));
        assert!(keys.matches("purpose", b"content", &hash).unwrap());
        assert!(!keys.matches("purpose", b"other", &hash).unwrap());
        assert!(!keys.matches("other", b"content", &hash).unwrap());
        assert!(hash_keys(&[("two", 2)]).matches("purpose", b"content", &hash).is_err());
        let all = keys.keyed_hashes("purpose", b"content").unwrap();
        assert!(all.len() == 2 && all[0] == hash && all[1].bytes != hash.bytes);
    }

    #[test]
    fn signatures_of_every_key_count_in_full() {
        let old = hash_keys(&[("one", 1)]);
        let signature = old.keyed_hash("purpose", b"content").unwrap().bytes;
        let keys = hash_keys(&[("two", 2), ("one", 1)]);
        assert!(keys.signed_by_any("purpose", b"content", &signature[..16]).unwrap());
        assert!(!keys.signed_by_any("purpose", b"content", &signature[..15]).unwrap());
        assert!(!keys.signed_by_any("purpose", b"content", b"").unwrap());
        assert_eq!(format!("{keys:?}"), "HashKeys(two, one)");
    }
}
