//! Table `payees`: whom providers can pay, by a keyed hash of their id there.
//!
//! The id itself is sealed in the details of the payment methods that refer to the row. A hash is found by any of the keys,
//! and written with the first one.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use uuid::Uuid;

use super::hashing::KeyedHash;
use super::rows::Rows;
use super::{Session, Tx, payment_methods, time};
use crate::domain::error::{Error, Result};
use crate::domain::ids::new_id;
use crate::domain::payment_methods::PaymentMethodDetails;
use crate::domain::sensitive::Sensitive;
use crate::domain::time::Timestamp;

const PURPOSE: &str = "payees";

/// What a payee is found by: the key's id and the hash.
type HashKey = (String, Vec<u8>);

/// A payee as it is compared with news of it.
pub(crate) struct Payee {
    pub(crate) id: Uuid,
    pub(crate) payable: Option<bool>,
    pub(crate) event_time: Option<Timestamp>,
}

/// News of payees.
pub(crate) struct PayeeNews<'a> {
    pub(crate) payable: Option<bool>,
    pub(crate) raw_status: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) event_time: Option<Timestamp>,
}

/// A payee to ask the provider about.
pub(crate) struct DuePayee {
    pub(crate) id: Uuid,
    pub(crate) check_count: i64,
    /// A payment method's details, which have its id there; none when no method has it any more.
    pub(crate) details: Option<PaymentMethodDetails>,
}

/// A payment method that does not refer to its payee.
pub(crate) struct MethodWithoutPayee {
    pub(crate) id: Uuid,
    pub(crate) version_id: Uuid,
    pub(crate) details: PaymentMethodDetails,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    payable: Option<bool>,
    event_time: Option<i64>,
}

#[derive(FromQueryResult)]
struct HashRow {
    id: Uuid,
    hash_key_id: String,
    hash: Vec<u8>,
}

#[derive(FromQueryResult)]
struct DueRow {
    id: Uuid,
    check_count: i64,
}

#[derive(FromQueryResult)]
struct DetailsRow {
    payee_id: Uuid,
    version_id: Uuid,
    key_id: String,
    sealed: Vec<u8>,
}

#[derive(FromQueryResult)]
struct MethodRow {
    id: Uuid,
    version_id: Uuid,
    key_id: String,
    sealed: Vec<u8>,
}

/// The row of a payee, which is made when it is not there. It is asked for at a time, where one is given and it is not known
/// to be payable.
pub(crate) async fn find_or_insert(
    tx: &Tx,
    provider: &str,
    payee_id: &Sensitive,
    now: Timestamp,
    next_time: Option<Timestamp>,
) -> Result<Uuid> {
    let mut ids = find_or_insert_many(tx, provider, &[payee_id], now, next_time).await?;
    ids.pop().ok_or_else(|| Error::internal("a payee was not answered"))
}

/// As [`find_or_insert`], of many payees; the ids in their order. New rows are inserted in the order of their hashes, so that
/// two who make the same ones wait for each other in one order.
pub(crate) async fn find_or_insert_many(
    tx: &Tx,
    provider: &str,
    payee_ids: &[&Sensitive],
    now: Timestamp,
    next_time: Option<Timestamp>,
) -> Result<Vec<Uuid>> {
    let mut hashes = Vec::with_capacity(payee_ids.len());
    for payee_id in payee_ids {
        hashes.push(tx.hashes.keyed_hashes(PURPOSE, payee_id.as_str().as_bytes())?);
    }
    let mut known = find(tx, provider, &hashes).await?;
    let mut missing: BTreeMap<HashKey, Uuid> = BTreeMap::new();
    let mut ids = Vec::with_capacity(payee_ids.len());
    let mut found = Vec::new();
    for hashes in hashes {
        let keys = || hashes.iter().map(hash_key);
        if let Some(id) = keys().find_map(|key| known.get(&key)) {
            ids.push(*id);
            found.push(*id);
            continue;
        }
        // The first key writes.
        let key = keys().next().ok_or_else(|| Error::internal("no hash key"))?;
        let id = new_id();
        known.insert(key.clone(), id);
        missing.insert(key, id);
        ids.push(id);
    }
    insert(tx, provider, missing, now, next_time).await?;
    if let Some(next_time) = next_time {
        ask_at(tx, &found, next_time).await?;
    }
    Ok(ids)
}

/// Lets payees be asked for at a time, or before, unless they are known to be payable.
async fn ask_at(tx: &Tx, ids: &[Uuid], next_time: Timestamp) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    // In their order first: an update of many rows has none of its own.
    lock(tx, ids).await?;
    let (source, mut values) = Rows::new().uuid("id", ids.iter().copied()).source(tx.backend, 2);
    values.insert(0, next_time.as_micros().into());
    let sql = format!(
        "UPDATE payees SET next_time = $1 WHERE id IN (SELECT input.id FROM {source}) AND payable IS NOT TRUE \
             AND (next_time IS NULL OR next_time > $1)"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// The payees that are there, by any of their hashes.
async fn find(tx: &Tx, provider: &str, hashes: &[Vec<KeyedHash>]) -> Result<HashMap<HashKey, Uuid>> {
    let hashes = || hashes.iter().flatten();
    let rows = Rows::new()
        .text("hash_key_id", hashes().map(|hash| hash.key_id.as_str()))
        .bytes("hash", hashes().map(|hash| hash.bytes.clone()));
    let (source, mut values) = rows.source(tx.backend, 2);
    values.insert(0, provider.into());
    let sql = format!(
        "SELECT p.id, p.hash_key_id, p.hash FROM {source} \
         JOIN payees p ON p.provider = $1 AND p.hash_key_id = input.hash_key_id AND p.hash = input.hash"
    );
    let rows: Vec<HashRow> = tx.fetch_all(&sql, values).await?;
    Ok(rows
        .into_iter()
        .map(|row| ((row.hash_key_id, row.hash), row.id))
        .collect())
}

async fn insert(
    tx: &Tx,
    provider: &str,
    payees: BTreeMap<HashKey, Uuid>,
    now: Timestamp,
    next_time: Option<Timestamp>,
) -> Result<()> {
    if payees.is_empty() {
        return Ok(());
    }
    let rows = Rows::new()
        .uuid("id", payees.values().copied())
        .text("hash_key_id", payees.keys().map(|(key_id, _)| key_id.as_str()))
        .bytes("hash", payees.keys().map(|(_, hash)| hash.clone()));
    let (source, mut values) = rows.source(tx.backend, 4);
    let fixed: [Value; 3] = [
        provider.into(),
        next_time.map(Timestamp::as_micros).into(),
        now.as_micros().into(),
    ];
    values.splice(0..0, fixed);
    let sql = format!(
        "INSERT INTO payees (id, provider, hash_key_id, hash, raw_status, reason, check_count, next_time, create_time, update_time) \
         SELECT input.id, $1, input.hash_key_id, input.hash, '', '', 0, $2, $3, $3 FROM {source} ORDER BY input.position"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

fn hash_key(hash: &KeyedHash) -> HashKey {
    (hash.key_id.clone(), hash.bytes.clone())
}

/// Locks payees by id. Payment methods that refer to them can be written meanwhile.
pub(crate) async fn lock(tx: &Tx, ids: &[Uuid]) -> Result<Vec<Payee>> {
    let (source, values) = Rows::new().uuid("id", ids.iter().copied()).source(tx.backend, 1);
    let sql = format!(
        "SELECT id, payable, event_time FROM payees WHERE id IN (SELECT input.id FROM {source}) ORDER BY id{}",
        tx.backend.for_no_key_update()
    );
    let rows: Vec<Row> = tx.fetch_all(&sql, values).await?;
    let mut payees = Vec::with_capacity(rows.len());
    for row in rows {
        payees.push(Payee {
            id: row.id,
            payable: row.payable,
            event_time: row.event_time.map(time).transpose()?,
        });
    }
    Ok(payees)
}

/// Keeps news of a locked payee. It is asked for again at a time, where there is one.
pub(crate) async fn update(
    tx: &Tx,
    id: Uuid,
    news: &PayeeNews<'_>,
    now: Timestamp,
    next_time: Option<Timestamp>,
) -> Result<()> {
    tx.execute(
        "UPDATE payees SET payable = $1, raw_status = $2, reason = $3, event_time = $4, next_time = $5, check_count = 0, \
             update_time = $6 WHERE id = $7",
        vec![
            news.payable.into(),
            news.raw_status.into(),
            news.reason.into(),
            news.event_time.map(Timestamp::as_micros).into(),
            next_time.map(Timestamp::as_micros).into(),
            now.as_micros().into(),
            id.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Says when payees are asked for next, having been asked for in vain.
pub(crate) async fn postpone(tx: &Tx, ids: &[Uuid], next_time: Option<Timestamp>) -> Result<()> {
    let (source, mut values) = Rows::new().uuid("id", ids.iter().copied()).source(tx.backend, 2);
    values.insert(0, next_time.map(Timestamp::as_micros).into());
    let sql = format!(
        "UPDATE payees SET next_time = $1, check_count = check_count + 1 WHERE id IN (SELECT input.id FROM {source})"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// Takes payees that are due: they are the taker's until a time.
pub(crate) async fn claim_due(
    tx: &Tx,
    provider: &str,
    limit: usize,
    now: Timestamp,
    until: Timestamp,
) -> Result<Vec<DuePayee>> {
    let sql = format!(
        "SELECT id, check_count FROM payees WHERE provider = $1 AND next_time <= $2 ORDER BY next_time, id LIMIT {limit}{}",
        tx.backend.for_update_skip_locked()
    );
    let rows: Vec<DueRow> = tx
        .fetch_all(&sql, vec![provider.into(), now.as_micros().into()])
        .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let source = || Rows::new().uuid("id", rows.iter().map(|row| row.id));
    let (input, mut values) = source().source(tx.backend, 2);
    values.insert(0, until.as_micros().into());
    let sql = format!("UPDATE payees SET next_time = $1 WHERE id IN (SELECT input.id FROM {input})");
    tx.execute(&sql, values).await?;
    let (input, values) = source().source(tx.backend, 1);
    let sql = format!(
        "SELECT m.payee_id, v.id AS version_id, v.key_id, v.sealed FROM {input} \
         JOIN payment_methods m ON m.payee_id = input.id JOIN payment_method_versions v ON v.id = m.version_id"
    );
    let details: Vec<DetailsRow> = tx.fetch_all(&sql, values).await?;
    let mut due: Vec<DuePayee> = rows
        .iter()
        .map(|row| DuePayee {
            id: row.id,
            check_count: row.check_count,
            details: None,
        })
        .collect();
    for row in details {
        if let Some(payee) = due
            .iter_mut()
            .find(|payee| payee.id == row.payee_id && payee.details.is_none())
        {
            let details = payment_methods::open_version(&tx.keys, row.version_id, row.key_id, row.sealed)?;
            payee.details = Some(details);
        }
    }
    Ok(due)
}

/// Payment methods of a type that do not refer to their payee: those that a version before this one wrote.
pub(crate) async fn methods_without_payee<C: ConnectionTrait>(
    session: &Session<C>,
    type_id: &str,
    limit: usize,
) -> Result<Vec<MethodWithoutPayee>> {
    let sql = format!(
        "SELECT m.id, v.id AS version_id, v.key_id, v.sealed FROM payment_methods m \
         JOIN payment_method_versions v ON v.id = m.version_id \
         WHERE m.type_id = $1 AND (m.payee_version_id IS NULL OR m.payee_version_id <> m.version_id) ORDER BY m.id LIMIT {limit}"
    );
    let rows: Vec<MethodRow> = session.fetch_all(&sql, vec![type_id.into()]).await?;
    let mut methods = Vec::with_capacity(rows.len());
    for row in rows {
        methods.push(MethodWithoutPayee {
            id: row.id,
            version_id: row.version_id,
            details: payment_methods::open_version(&session.keys, row.version_id, row.key_id, row.sealed)?,
        });
    }
    Ok(methods)
}

/// Lets a version of a payment method refer to its payee.
pub(crate) async fn set_payee(tx: &Tx, method: &MethodWithoutPayee, payee_id: Uuid) -> Result<()> {
    tx.execute(
        "UPDATE payment_methods SET payee_id = $1, payee_version_id = $2 WHERE id = $3 AND version_id = $2",
        vec![payee_id.into(), method.version_id.into(), method.id.into()],
    )
    .await?;
    Ok(())
}
