//! Keyed hashes of where payment methods are paid to, and who else is paid there.
//!
//! A hash is in the method's row beside the version that it is of, and counts for that one alone: a version of the service before
//! this one changes the details without it.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, FromQueryResult};
use uuid::Uuid;

use super::rows::Rows;
use super::{Backend, Session, Tx, payment_methods};
use crate::domain::destinations::{MAX_SHARED_COUNTED, MAX_SHARED_NAMED, destination};
use crate::domain::error::{Error, Result};
use crate::domain::ids::AccountId;
use crate::domain::payment_methods::{PaymentMethodDetails, PaymentMethodRecord, SharedWith};

const PURPOSE: &str = "payment_destination";

/// Whether a method `m` has a place that another account is paid to as well.
pub(super) const IS_SHARED: &str = "m.destination_hash IS NOT NULL AND m.destination_hash_version_id = m.version_id \
    AND EXISTS (SELECT 1 FROM payment_methods o WHERE o.destination_hash = m.destination_hash \
        AND o.destination_hash_version_id = o.version_id AND o.account_id <> m.account_id)";

#[derive(FromQueryResult)]
struct Accounts {
    account_ids: String,
}

#[derive(FromQueryResult)]
struct MethodRow {
    id: Uuid,
    version_id: Uuid,
    key_id: String,
    sealed: Vec<u8>,
}

/// The hash of where details are paid to; none where that can't be compared.
pub(super) fn hash_of<C>(session: &Session<C>, details: &PaymentMethodDetails) -> Result<Option<Vec<u8>>> {
    let Some(destination) = destination(details) else {
        return Ok(None);
    };
    let hash = session.hashes.keyed_hash(PURPOSE, destination.as_str().as_bytes())?;
    Ok(Some(hash.bytes))
}

/// Which other accounts are paid to the same places as methods, by method; nothing for one whose place no other account has.
pub(crate) async fn shared_with<C: ConnectionTrait>(
    session: &Session<C>,
    records: &[PaymentMethodRecord],
) -> Result<HashMap<Uuid, SharedWith>> {
    let mut hashes: Vec<Vec<u8>> = Vec::with_capacity(records.len());
    let mut hashed: Vec<(&PaymentMethodRecord, Vec<u8>)> = Vec::with_capacity(records.len());
    for record in records {
        if let Some(hash) = hash_of(session, &record.details)? {
            hashes.push(hash.clone());
            hashed.push((record, hash));
        }
    }
    hashes.sort_unstable();
    hashes.dedup();
    let accounts = accounts_by_hash(session, hashes).await?;
    let mut shared = HashMap::new();
    for (record, hash) in hashed {
        let mut others = accounts.get(&hash).cloned().unwrap_or_default();
        others.retain(|account_id| account_id != record.account_id.as_str());
        if others.is_empty() {
            continue;
        }
        let count = others.len().min(MAX_SHARED_COUNTED);
        others.truncate(MAX_SHARED_NAMED);
        let shared_with = SharedWith {
            account_ids: others.into_iter().map(AccountId::from_store).collect(),
            count: i32::try_from(count).map_err(|_| Error::internal("a bounded count is out of range"))?,
        };
        shared.insert(record.id, shared_with);
    }
    Ok(shared)
}

/// The accounts that are paid to places, in order, one more than are counted at most.
async fn accounts_by_hash<C: ConnectionTrait>(
    session: &Session<C>,
    hashes: Vec<Vec<u8>>,
) -> Result<HashMap<Vec<u8>, Vec<String>>> {
    if hashes.is_empty() {
        return Ok(HashMap::new());
    }
    let (source, values) = Rows::new()
        .bytes("hash", hashes.iter().cloned())
        .source(session.backend, 1);
    let accounts = session.backend.json_list(
        "o.account_id",
        &format!(
            "payment_methods o WHERE o.destination_hash = input.hash AND o.destination_hash_version_id = o.version_id \
             ORDER BY o.account_id LIMIT {}",
            MAX_SHARED_COUNTED + 1
        ),
    );
    let sql = format!("SELECT {accounts} AS account_ids FROM {source} ORDER BY input.position");
    let rows: Vec<Accounts> = session.fetch_all(&sql, values).await?;
    let mut accounts = HashMap::with_capacity(rows.len());
    for (hash, row) in hashes.into_iter().zip(rows) {
        let account_ids = serde_json::from_str(&row.account_ids);
        accounts.insert(hash, account_ids.map_err(|_| Error::internal("a list can't be read"))?);
    }
    Ok(accounts)
}

impl Backend {
    /// The distinct values of a column of a query as one JSON text.
    fn json_list(self, column: &str, query: &str) -> String {
        match self {
            Self::Postgres => format!("CAST(to_json(ARRAY(SELECT DISTINCT {column} FROM {query})) AS text)"),
            Self::Sqlite => {
                format!("(SELECT json_group_array(value) FROM (SELECT DISTINCT {column} AS value FROM {query}))")
            }
        }
    }
}

/// Hashes the places of the next methods, of those after an id, that have no hash of their version; the last one's id, where
/// there may be more. It takes what nobody else has locked, and waits for nobody.
pub(crate) async fn hash_missing(tx: &Tx, after: Option<Uuid>, limit: usize) -> Result<Option<Uuid>> {
    let lock = match tx.backend {
        Backend::Postgres => " FOR NO KEY UPDATE OF m SKIP LOCKED",
        Backend::Sqlite => "",
    };
    let sql = format!(
        "SELECT m.id, v.id AS version_id, v.key_id, v.sealed FROM payment_methods m \
         JOIN payment_method_versions v ON v.id = m.version_id \
         WHERE (m.destination_hash_version_id IS NULL OR m.destination_hash_version_id <> m.version_id) AND m.id > $1 \
         ORDER BY m.id LIMIT {limit}{lock}"
    );
    let rows: Vec<MethodRow> = tx.fetch_all(&sql, vec![after.unwrap_or_default().into()]).await?;
    let last = rows.last().map(|row| row.id);
    let (mut ids, mut version_ids, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match payment_methods::open_version(&tx.keys, row.version_id, row.key_id, row.sealed) {
            Ok(details) => {
                ids.push(row.id);
                version_ids.push(row.version_id);
                hashes.push(hash_of(tx, &details)?.unwrap_or_default());
            }
            // The others must not wait for it.
            Err(error) => tracing::error!(payment_method = %row.id, %error, "can't be compared with others"),
        }
    }
    if !ids.is_empty() {
        let rows = Rows::new()
            .uuid("id", ids)
            .uuid("version_id", version_ids)
            .bytes("hash", hashes);
        let (source, values) = rows.source(tx.backend, 1);
        let sql = format!(
            "UPDATE payment_methods SET destination_hash = {}, destination_hash_version_id = input.version_id FROM {source} \
             WHERE payment_methods.id = input.id AND payment_methods.version_id = input.version_id",
            none_if_empty("input.hash")
        );
        tx.execute(&sql, values).await?;
    }
    Ok(last)
}

/// The hash of a row of input, where an empty one stands for none.
pub(super) fn none_if_empty(hash: &str) -> String {
    format!("CASE WHEN length({hash}) > 0 THEN {hash} END")
}

/// Hashes of records in their order, empty for none.
pub(super) fn hashes_of<'a, C>(
    session: &Session<C>,
    records: impl Iterator<Item = &'a PaymentMethodRecord>,
) -> Result<Vec<Vec<u8>>> {
    records
        .map(|record| Ok(hash_of(session, &record.details)?.unwrap_or_default()))
        .collect()
}
