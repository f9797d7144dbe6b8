//! Tables `billing_details` and `billing_details_versions`.

use sea_orm::{ActiveModelTrait as _, ConnectionTrait, EntityTrait as _, FromQueryResult, Set};
use uuid::Uuid;

use super::entity::{billing_details, billing_details_versions};
use super::sealing::{Sealed, SealingKeys};
use super::{Reader, Session, Tx, from_db, time};
use crate::domain::billing_details::{BillingDetails, BillingDetailsRecord};
use crate::domain::error::Result;
use crate::domain::ids::{AccountId, new_id};
use crate::domain::time::Timestamp;

const VERSIONS: &str = "billing_details_versions";

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
/// read the locked row again but keep the other one from before, and lose both where they no longer fit.
pub(crate) async fn find_for_update(tx: &Tx, account_id: &AccountId) -> Result<Option<BillingDetailsRecord>> {
    let sql = format!(
        "SELECT account_id FROM billing_details WHERE account_id = $1{}",
        tx.backend.for_update()
    );
    tx.execute(&sql, vec![account_id.as_str().into()]).await?;
    find(tx, account_id).await
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
    delete_unused_versions(tx, &current.account_id).await?;
    Ok(record(
        current.account_id.clone(),
        details.clone(),
        version_id,
        current.create_time,
        now,
    ))
}

/// Deletes the details, and every version that no account settlement was made with.
pub(crate) async fn delete(tx: &Tx, account_id: &AccountId) -> Result<()> {
    billing_details::Entity::delete_by_id(account_id.as_str())
        .exec(&tx.connection)
        .await
        .map_err(from_db)?;
    delete_unused_versions(tx, account_id).await
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

async fn delete_unused_versions(tx: &Tx, account_id: &AccountId) -> Result<()> {
    tx.execute(
        "DELETE FROM billing_details_versions WHERE account_id = $1 \
         AND NOT EXISTS (SELECT 1 FROM billing_details d WHERE d.version_id = billing_details_versions.id AND d.account_id = $1) \
         AND NOT EXISTS (SELECT 1 FROM account_settlements s \
             WHERE s.account_id = $1 AND s.billing_details_version_id = billing_details_versions.id)",
        vec![account_id.as_str().into()],
    )
    .await?;
    Ok(())
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
