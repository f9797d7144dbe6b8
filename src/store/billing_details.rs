//! Tables `billing_details` and `billing_details_versions`.

use std::collections::HashMap;

use sea_orm::{ActiveModelTrait as _, ConnectionTrait, EntityTrait as _, FromQueryResult, Set};
use uuid::Uuid;

use super::entity::{billing_details, billing_details_versions};
use super::rotation::{KeyPart, SealedTable};
use super::rows::Rows;
use super::sealing::{Sealed, SealingKeys};
use super::{Reader, Session, Tx, from_db, time};
use crate::domain::billing_details::{BillingDetails, BillingDetailsRecord};
use crate::domain::error::Result;
use crate::domain::ids::{AccountId, new_id};
use crate::domain::time::Timestamp;

const VERSIONS: &str = "billing_details_versions";

/// How long a version that was superseded is kept at least, for settle runs that began before: an hour. Far longer than a run
/// takes, however many accounts it has.
const KEPT_WHEN_SUPERSEDED_MICROS: i64 = 3_600_000_000;

/// The versions, for the rotation of the encryption keys.
pub(super) const SEALED: SealedTable = SealedTable {
    name: VERSIONS,
    key: &[("id", KeyPart::UUID)],
    row_id: |parts| parts.join("\0"),
};

const SELECT: &str = "SELECT d.account_id, d.version_id, d.create_time, d.update_time, v.key_id, v.sealed \
    FROM billing_details d JOIN billing_details_versions v ON v.id = d.version_id";

#[derive(FromQueryResult)]
struct Row {
    account_id: String,
    version_id: Uuid,
    create_time: i64,
    update_time: i64,
    key_id: String,
    sealed: Vec<u8>,
}

#[derive(FromQueryResult)]
struct LockedRow {
    account_id: String,
}

#[derive(FromQueryResult)]
struct VersionRow {
    id: Uuid,
}

/// The details of one account.
pub(crate) async fn find<C: ConnectionTrait>(
    session: &Session<C>,
    account_id: &AccountId,
) -> Result<Option<BillingDetailsRecord>> {
    let sql = format!("{SELECT} WHERE d.account_id = $1");
    let row: Option<Row> = session.fetch_optional(&sql, vec![account_id.as_str().into()]).await?;
    row.map(|row| open(&session.keys, row)).transpose()
}

/// As [`find`], with the row locked until the transaction ends. First locked, then read: a join that waited for a lock would
/// read the locked row again but keep the other one from before, and lose both where they no longer fit. Only what was
/// locked is read: details that were made between the two are not there yet.
pub(crate) async fn find_for_update(tx: &Tx, account_id: &AccountId) -> Result<Option<BillingDetailsRecord>> {
    let mut records = find_many_for_update(tx, &[account_id]).await?;
    Ok(records.remove(account_id))
}

/// As [`find_for_update`], of many accounts. The rows are locked in the order of their accounts.
pub(crate) async fn find_many_for_update(
    tx: &Tx,
    account_ids: &[&AccountId],
) -> Result<HashMap<AccountId, BillingDetailsRecord>> {
    let (source, values) = accounts(account_ids).source(tx.backend, 1);
    let lock = format!(
        "SELECT account_id FROM billing_details WHERE account_id IN (SELECT input.account_id FROM {source}) \
         ORDER BY account_id{}",
        tx.backend.for_update()
    );
    let locked: Vec<LockedRow> = tx.fetch_all(&lock, values).await?;
    if locked.is_empty() {
        return Ok(HashMap::new());
    }
    let locked = Rows::new().text("account_id", locked.into_iter().map(|row| row.account_id));
    let (source, values) = locked.source(tx.backend, 1);
    let sql = format!("{SELECT} WHERE d.account_id IN (SELECT input.account_id FROM {source})");
    let rows: Vec<Row> = tx.fetch_all(&sql, values).await?;
    rows.into_iter()
        .map(|row| open(&tx.keys, row).map(|record| (record.account_id.clone(), record)))
        .collect()
}

/// The details after an account id, in order.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    after: Option<&AccountId>,
    limit: u64,
) -> Result<Vec<BillingDetailsRecord>> {
    let sql = format!("{SELECT} WHERE d.account_id > $1 ORDER BY d.account_id LIMIT {limit}");
    let after = after.map_or("", AccountId::as_str);
    let rows: Vec<Row> = session.fetch_all(&sql, vec![after.into()]).await?;
    rows.into_iter().map(|row| open(&session.keys, row)).collect()
}

/// Makes the details of an account that has none.
pub(crate) async fn insert(
    tx: &Tx,
    account_id: &AccountId,
    details: &BillingDetails,
    actor: &str,
) -> Result<BillingDetailsRecord> {
    let now = Timestamp::now();
    let version_id = insert_version(tx, account_id, details, actor, now).await?;
    let row = billing_details::ActiveModel {
        account_id: Set(account_id.as_str().to_owned()),
        version_id: Set(version_id),
        create_time: Set(now.as_micros()),
        update_time: Set(now.as_micros()),
    };
    row.insert(&tx.connection).await.map_err(from_db)?;
    Ok(record(account_id.clone(), details.clone(), version_id, now, now))
}

/// Gives an account new details; what was made with the old ones keeps them.
pub(crate) async fn update(
    tx: &Tx,
    current: &BillingDetailsRecord,
    details: &BillingDetails,
    actor: &str,
) -> Result<BillingDetailsRecord> {
    let now = Timestamp::now();
    let version_id = insert_version(tx, &current.account_id, details, actor, now).await?;
    let row = billing_details::ActiveModel {
        account_id: Set(current.account_id.as_str().to_owned()),
        version_id: Set(version_id),
        update_time: Set(now.as_micros()),
        ..Default::default()
    };
    row.update(&tx.connection).await.map_err(from_db)?;
    delete_unused_versions(tx, &[&current.account_id], now).await?;
    Ok(record(
        current.account_id.clone(),
        details.clone(),
        version_id,
        current.create_time,
        now,
    ))
}

/// Makes the details of accounts that have none, in the order given, which must be that of the accounts: so that two who make
/// the same ones wait for each other in one order.
pub(crate) async fn insert_many(tx: &Tx, details: &[(&AccountId, &BillingDetails)], actor: &str) -> Result<()> {
    let now = Timestamp::now();
    let versions = insert_versions(tx, details, actor, now).await?;
    let (source, mut values) = versions.source(tx.backend, 2);
    values.insert(0, now.as_micros().into());
    let sql = format!(
        "INSERT INTO billing_details (account_id, version_id, create_time, update_time) \
         SELECT input.account_id, input.version_id, $1, $1 FROM {source} ORDER BY input.position"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// Gives accounts new details, whose rows must be locked; what was made with the old ones keeps them.
pub(crate) async fn update_many(tx: &Tx, details: &[(&AccountId, &BillingDetails)], actor: &str) -> Result<()> {
    let now = Timestamp::now();
    let versions = insert_versions(tx, details, actor, now).await?;
    let (source, mut values) = versions.source(tx.backend, 2);
    values.insert(0, now.as_micros().into());
    let sql = format!(
        "UPDATE billing_details SET version_id = input.version_id, update_time = $1 FROM {source} \
         WHERE billing_details.account_id = input.account_id"
    );
    tx.execute(&sql, values).await?;
    let account_ids: Vec<&AccountId> = details.iter().map(|(account_id, _)| *account_id).collect();
    delete_unused_versions(tx, &account_ids, now).await
}

/// Deletes the details, and at once every version that no account settlement was made with.
pub(crate) async fn delete(tx: &Tx, account_id: &AccountId) -> Result<()> {
    billing_details::Entity::delete_by_id(account_id.as_str())
        .exec(&tx.connection)
        .await
        .map_err(from_db)?;
    delete_unused_versions(tx, &[account_id], Timestamp::now()).await
}

/// The details of a version, for the account settlements that were made with it.
pub(crate) fn open_version(
    keys: &SealingKeys,
    version_id: Uuid,
    key_id: String,
    bytes: Vec<u8>,
) -> Result<BillingDetails> {
    keys.open(VERSIONS, &version_id.to_string(), &Sealed { key_id, bytes })
}

/// Opens the newest version, to see whether the keys are those of the database.
pub(crate) async fn check_keys(reader: &Reader) -> Result<()> {
    let newest: Option<Row> = reader
        .fetch_optional(&format!("{SELECT} ORDER BY v.id DESC LIMIT 1"), vec![])
        .await?;
    newest.map(|row| open(&reader.keys, row)).transpose().map(drop)
}

async fn insert_version(
    tx: &Tx,
    account_id: &AccountId,
    details: &BillingDetails,
    actor: &str,
    now: Timestamp,
) -> Result<Uuid> {
    let id = new_id();
    let sealed = tx.keys.seal(VERSIONS, &id.to_string(), details)?;
    let row = billing_details_versions::ActiveModel {
        id: Set(id),
        account_id: Set(account_id.as_str().to_owned()),
        key_id: Set(sealed.key_id),
        sealed: Set(sealed.bytes),
        actor: Set(actor.to_owned()),
        create_time: Set(now.as_micros()),
    };
    row.insert(&tx.connection).await.map_err(from_db)?;
    Ok(id)
}

/// Inserts a version of the details of each account; accounts and versions, in the same order.
async fn insert_versions(
    tx: &Tx,
    details: &[(&AccountId, &BillingDetails)],
    actor: &str,
    now: Timestamp,
) -> Result<Rows> {
    let mut ids = Vec::with_capacity(details.len());
    let mut key_ids = Vec::with_capacity(details.len());
    let mut sealed = Vec::with_capacity(details.len());
    for (_, details) in details {
        let id = new_id();
        let version = tx.keys.seal(VERSIONS, &id.to_string(), details)?;
        ids.push(id);
        key_ids.push(version.key_id);
        sealed.push(version.bytes);
    }
    let account_ids: Vec<&AccountId> = details.iter().map(|(account_id, _)| *account_id).collect();
    let rows = accounts(&account_ids)
        .uuid("id", ids.iter().copied())
        .text("key_id", key_ids)
        .bytes("sealed", sealed);
    let (source, mut values) = rows.source(tx.backend, 3);
    values.insert(0, actor.into());
    values.insert(1, now.as_micros().into());
    let sql = format!(
        "INSERT INTO billing_details_versions (id, account_id, key_id, sealed, actor, create_time) \
         SELECT input.id, input.account_id, input.key_id, input.sealed, $1, $2 FROM {source}"
    );
    tx.execute(&sql, values).await?;
    Ok(accounts(&account_ids).uuid("version_id", ids))
}

/// Deletes versions that no account settlement was made with: all of an account without details, otherwise those that were
/// superseded a while ago. A settle run may still be about to use a newer one, and would have to begin anew without it; if
/// that went on while payees change all the time, no run over many accounts would ever come to its end.
///
/// Locks them first, in the order in which a run asks for those that it uses, and looks again before it deletes them: what
/// a run that was waited for has used is kept.
async fn delete_unused_versions(tx: &Tx, account_ids: &[&AccountId], now: Timestamp) -> Result<()> {
    const UNUSED: &str = "NOT EXISTS (SELECT 1 FROM account_settlements s \
        WHERE s.account_id = v.account_id AND s.billing_details_version_id = v.id)";
    let (source, mut values) = accounts(account_ids).source(tx.backend, 2);
    let superseded_until = now.as_micros() - KEPT_WHEN_SUPERSEDED_MICROS;
    values.insert(0, superseded_until.into());
    let lock = format!(
        "SELECT v.id FROM billing_details_versions v WHERE v.account_id IN (SELECT input.account_id FROM {source}) \
         AND NOT EXISTS (SELECT 1 FROM billing_details d WHERE d.account_id = v.account_id AND (d.version_id = v.id \
             OR NOT EXISTS (SELECT 1 FROM billing_details_versions n WHERE n.account_id = v.account_id \
                 AND n.create_time > v.create_time AND n.create_time <= $1))) \
         AND {UNUSED} ORDER BY v.account_id, v.id{}",
        tx.backend.for_update()
    );
    let unused: Vec<VersionRow> = tx.fetch_all(&lock, values).await?;
    if unused.is_empty() {
        return Ok(());
    }
    let ids = Rows::new().uuid("id", unused.into_iter().map(|row| row.id));
    let (source, values) = ids.source(tx.backend, 1);
    let sql =
        format!("DELETE FROM billing_details_versions AS v WHERE v.id IN (SELECT input.id FROM {source}) AND {UNUSED}");
    tx.execute(&sql, values).await?;
    Ok(())
}

fn accounts(account_ids: &[&AccountId]) -> Rows {
    Rows::new().text("account_id", account_ids.iter().map(|account_id| account_id.as_str()))
}

fn open(keys: &SealingKeys, row: Row) -> Result<BillingDetailsRecord> {
    let details = open_version(keys, row.version_id, row.key_id, row.sealed)?;
    Ok(record(
        AccountId::from_store(row.account_id),
        details,
        row.version_id,
        time(row.create_time)?,
        time(row.update_time)?,
    ))
}

fn record(
    account_id: AccountId,
    details: BillingDetails,
    version_id: Uuid,
    create_time: Timestamp,
    update_time: Timestamp,
) -> BillingDetailsRecord {
    BillingDetailsRecord {
        account_id,
        details,
        etag: version_id.simple().to_string(),
        create_time,
        update_time,
    }
}
