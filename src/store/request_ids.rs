//! Table `request_ids`: what was answered to which request id.

use sea_orm::FromQueryResult;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::hashing::KeyedHash;
use super::rotation::{KeyPart, SealedTable};
use super::sealing::Sealed;
use super::{Reader, Session, Tx};
use crate::domain::error::{Error, Reason, Result};
use crate::domain::time::Timestamp;

const TABLE: &str = "request_ids";

/// The table, for the rotation of the encryption keys.
pub(super) const SEALED: SealedTable = SealedTable {
    name: TABLE,
    key: &[
        ("request_id", KeyPart::UUID),
        ("caller", KeyPart::TEXT),
        ("method", KeyPart::TEXT),
        ("part", KeyPart::BIGINT),
    ],
    row_id: |parts| match parts {
        [request_id, caller, method, part] => row_id(caller, method, request_id, part),
        _ => String::new(),
    },
};

/// One call, or one chunk of it, as it is remembered.
#[derive(Debug, Clone)]
pub(crate) struct RequestKey {
    pub(crate) caller: String,
    pub(crate) method: &'static str,
    pub(crate) request_id: Uuid,
    pub(crate) part: i64,
}

#[derive(FromQueryResult)]
struct Row {
    hash_key_id: String,
    content_hash: Vec<u8>,
    key_id: Option<String>,
    sealed: Option<Vec<u8>>,
}

impl RequestKey {
    fn row_id(&self) -> String {
        row_id(
            &self.caller,
            self.method,
            &self.request_id.to_string(),
            &self.part.to_string(),
        )
    }
}

fn row_id(caller: &str, method: &str, request_id: &str, part: &str) -> String {
    format!("{caller}\0{method}\0{request_id}\0{part}")
}

/// Takes the request id for this transaction, or answers what it was answered before. A concurrent call with the same id
/// waits here until the first one has ended.
pub(crate) async fn claim<T: DeserializeOwned>(tx: &Tx, key: &RequestKey, content: &[u8]) -> Result<Option<T>> {
    let hash = tx.hashes.keyed_hash(TABLE, content)?;
    let claimed = tx
        .execute(
            "INSERT INTO request_ids (caller, method, request_id, part, hash_key_id, content_hash, key_id, create_time) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (caller, method, request_id, part) DO NOTHING",
            vec![
                key.caller.clone().into(),
                key.method.into(),
                key.request_id.into(),
                key.part.into(),
                hash.key_id.into(),
                hash.bytes.into(),
                // That of the answer to come: so that this update changes no column that an index has.
                tx.keys.writing_id().into(),
                Timestamp::now().as_micros().into(),
            ],
        )
        .await?;
    if claimed == 1 {
        return Ok(None);
    }
    find(tx, key, content).await?.map_or_else(
        || Err(Error::internal("a request id is taken without an answer")),
        |answer| Ok(Some(answer)),
    )
}

/// What a request id was answered before, without taking it.
pub(crate) async fn peek<T: DeserializeOwned>(reader: &Reader, key: &RequestKey, content: &[u8]) -> Result<Option<T>> {
    find(reader, key, content).await
}

async fn find<C: sea_orm::ConnectionTrait, T: DeserializeOwned>(
    session: &Session<C>,
    key: &RequestKey,
    content: &[u8],
) -> Result<Option<T>> {
    let row: Option<Row> = session
        .fetch_optional(
            "SELECT hash_key_id, content_hash, key_id, sealed FROM request_ids \
             WHERE caller = $1 AND method = $2 AND request_id = $3 AND part = $4",
            vec![
                key.caller.clone().into(),
                key.method.into(),
                key.request_id.into(),
                key.part.into(),
            ],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let hash = KeyedHash {
        key_id: row.hash_key_id,
        bytes: row.content_hash,
    };
    if !session.hashes.matches(TABLE, content, &hash)? {
        return Err(Error::refused_field(
            Reason::RequestIdReused,
            "request_id",
            "this request id was used before with other content: make a new one for a new request",
        ));
    }
    let (Some(key_id), Some(bytes)) = (row.key_id, row.sealed) else {
        return Ok(None);
    };
    session
        .keys
        .open(TABLE, &key.row_id(), &Sealed { key_id, bytes })
        .map(Some)
}

/// Keeps the answer, in the transaction that it is about.
pub(crate) async fn remember<T: Serialize>(tx: &Tx, key: &RequestKey, answer: &T) -> Result<()> {
    let sealed = tx.keys.seal(TABLE, &key.row_id(), answer)?;
    let updated = tx
        .execute(
            "UPDATE request_ids SET key_id = $1, sealed = $2 WHERE caller = $3 AND method = $4 AND request_id = $5 AND part = $6",
            vec![
                sealed.key_id.into(),
                sealed.bytes.into(),
                key.caller.clone().into(),
                key.method.into(),
                key.request_id.into(),
                key.part.into(),
            ],
        )
        .await?;
    if updated == 1 {
        Ok(())
    } else {
        Err(Error::internal("a request id that was taken is gone"))
    }
}
