//! Tables `payment_methods` and `payment_method_versions`.
//!
//! A version holds the currency and the sealed details, and never changes: account settlements refer to the one that they were
//! made with. Which method is the default is not part of it.

use std::collections::HashMap;

use sea_orm::{ActiveModelTrait as _, ConnectionTrait, EntityTrait as _, FromQueryResult, Set};
use uuid::Uuid;

use super::entity::{payment_method_versions, payment_methods};
use super::rotation::{KeyPart, SealedTable};
use super::rows::Rows;
use super::sealing::{Sealed, SealingKeys};
use super::{Reader, Session, Tx, destinations, from_db, payees, time};
use crate::domain::currency::Currency;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{AccountId, new_id};
use crate::domain::payment_method_changes::moves_money;
use crate::domain::payment_methods::{PayeeState, PaymentMethodDetails, PaymentMethodRecord};
use crate::domain::sensitive::Sensitive;
use crate::domain::time::Timestamp;

const VERSIONS: &str = "payment_method_versions";

/// The versions, for the rotation of the encryption keys.
pub(super) const SEALED: SealedTable = SealedTable {
    name: VERSIONS,
    key: &[("id", KeyPart::UUID)],
    row_id: |parts| parts.join("\0"),
};

/// Since when the method `m` pays to where it pays, as the default where it is; where nothing says so for the version that it
/// has, since its last change.
macro_rules! destination_time {
    () => {
        "CASE WHEN m.destination_time_version_id = m.version_id THEN m.destination_time ELSE m.update_time END"
    };
}
pub(super) use destination_time;

const SELECT: &str = concat!(
    "SELECT m.id, m.account_id, m.currency_code, m.type_id, m.is_default, m.version_id, m.revision, ",
    destination_time!(),
    " AS destination_time, m.create_time, m.update_time, v.key_id, v.sealed, p.payable, p.reason, p.event_time \
     FROM payment_methods m JOIN payment_method_versions v ON v.id = m.version_id \
     LEFT JOIN payees p ON p.id = m.payee_id AND m.payee_version_id = m.version_id"
);

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    account_id: String,
    currency_code: String,
    type_id: String,
    is_default: bool,
    version_id: Uuid,
    destination_time: i64,
    revision: i64,
    create_time: i64,
    update_time: i64,
    key_id: String,
    sealed: Vec<u8>,
    payable: Option<bool>,
    reason: Option<String>,
    event_time: Option<i64>,
}

/// What is written of one method.
pub(crate) struct MethodWrite {
    /// As it shall be. The version is the one that it has, where the details stay.
    pub(crate) record: PaymentMethodRecord,
    /// As it was; none where it is new.
    pub(crate) before: Option<PaymentMethodRecord>,
    /// Whether it gets a version: a new method does, and one whose details change.
    pub(crate) has_new_version: bool,
}

impl MethodWrite {
    /// Whether it was the default of its currency and is no longer.
    fn loses_default(&self) -> bool {
        self.before.as_ref().is_some_and(|before| before.is_default) && !self.record.is_default
    }
}

#[derive(FromQueryResult)]
struct IdRow {
    id: Uuid,
}

#[derive(FromQueryResult)]
struct Owner {
    account_id: String,
}

/// One payment method.
pub(crate) async fn find<C: ConnectionTrait>(session: &Session<C>, id: Uuid) -> Result<Option<PaymentMethodRecord>> {
    let sql = format!("{SELECT} WHERE m.id = $1");
    let row: Option<Row> = session.fetch_optional(&sql, vec![id.into()]).await?;
    row.map(|row| open(&session.keys, row)).transpose()
}

/// Opens the newest version, to see whether the keys are those of the database.
pub(crate) async fn check_keys(reader: &Reader) -> Result<()> {
    let newest: Option<Row> = reader
        .fetch_optional(&format!("{SELECT} ORDER BY v.id DESC LIMIT 1"), vec![])
        .await?;
    newest.map(|row| open(&reader.keys, row)).transpose().map(drop)
}

/// Whose a payment method is, which never changes.
pub(crate) async fn owner(tx: &Tx, id: Uuid) -> Result<Option<AccountId>> {
    let sql = "SELECT account_id FROM payment_methods WHERE id = $1";
    let row: Option<Owner> = tx.fetch_optional(sql, vec![id.into()]).await?;
    Ok(row.map(|row| AccountId::from_store(row.account_id)))
}

/// All methods of an account by id, locked until the transaction ends: one default a currency is a matter of all of them.
///
/// Locked and read in two statements. In one, PostgreSQL would re-read a row that it waited for but keep the version it had
/// joined before, and so lose a method that got a new version meanwhile. Only what was locked is read: a method that was made
/// between the two is not there yet.
pub(crate) async fn list_for_update(tx: &Tx, account_id: &AccountId) -> Result<Vec<PaymentMethodRecord>> {
    let mut records = list_many_for_update(tx, &[account_id]).await?;
    records.sort_unstable_by_key(|record| record.id);
    Ok(records)
}

/// As [`list_for_update`], of many accounts, which must be in order; in no order. The rows are locked by account and id.
pub(crate) async fn list_many_for_update(tx: &Tx, account_ids: &[&AccountId]) -> Result<Vec<PaymentMethodRecord>> {
    let accounts = Rows::new().text("account_id", account_ids.iter().map(|account_id| account_id.as_str()));
    let (source, values) = accounts.source(tx.backend, 1);
    let methods = tx.backend.join_locked("payment_methods", "methods", "account_id", "id");
    let sql = format!("SELECT methods.id FROM {source} {methods} ORDER BY input.position");
    let locked: Vec<IdRow> = tx.fetch_all(&sql, values).await?;
    if locked.is_empty() {
        return Ok(Vec::new());
    }
    let ids = Rows::new().uuid("id", locked.into_iter().map(|row| row.id));
    let (source, values) = ids.source(tx.backend, 1);
    let sql = format!("{SELECT} WHERE m.id IN (SELECT input.id FROM {source})");
    let rows: Vec<Row> = tx.fetch_all(&sql, values).await?;
    rows.into_iter().map(|row| open(&tx.keys, row)).collect()
}

/// The methods after a key, by account id and id; those of one account where it is given, and those alone that are paid to where
/// another account is paid to as well, where that is asked for.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    account_id: Option<&AccountId>,
    shared_only: bool,
    after: Option<&(AccountId, Uuid)>,
    limit: u64,
) -> Result<Vec<PaymentMethodRecord>> {
    let after_id = after.map_or(Uuid::nil(), |(_, id)| *id);
    let (condition, values) = match account_id {
        Some(account_id) => (
            "m.account_id = $1 AND m.id > $2",
            vec![account_id.as_str().into(), after_id.into()],
        ),
        None => (
            "m.account_id >= $1 AND (m.account_id > $1 OR m.id > $2)",
            vec![
                after.map_or("", |(account_id, _)| account_id.as_str()).into(),
                after_id.into(),
            ],
        ),
    };
    let shared = if shared_only { destinations::IS_SHARED } else { "TRUE" };
    let sql = format!("{SELECT} WHERE {condition} AND {shared} ORDER BY m.account_id, m.id LIMIT {limit}");
    let rows: Vec<Row> = session.fetch_all(&sql, values).await?;
    rows.into_iter().map(|row| open(&session.keys, row)).collect()
}

/// Makes a payment method. The other default of the currency, if there is one, must have been cleared before.
pub(crate) async fn insert(
    tx: &Tx,
    account_id: &AccountId,
    currency: Currency,
    details: &PaymentMethodDetails,
    is_default: bool,
    actor: &str,
    now: Timestamp,
) -> Result<PaymentMethodRecord> {
    let mut record = PaymentMethodRecord {
        id: new_id(),
        account_id: account_id.clone(),
        currency,
        type_id: details.type_id().to_owned(),
        is_default,
        details: details.clone(),
        version_id: Uuid::nil(),
        destination_time: now,
        payee: None,
        revision: 1,
        create_time: now,
        update_time: now,
    };
    record.version_id = insert_version(tx, &record, actor).await?;
    let payee_id = payee_of(tx, &record).await?;
    let row = payment_methods::ActiveModel {
        id: Set(record.id),
        account_id: Set(record.account_id.as_str().to_owned()),
        currency_code: Set(record.currency.code().to_owned()),
        type_id: Set(record.type_id.clone()),
        is_default: Set(record.is_default),
        version_id: Set(record.version_id),
        payee_id: Set(payee_id),
        payee_version_id: Set(payee_id.and(Some(record.version_id))),
        destination_hash: Set(destinations::hash_of(tx, &record.details)?),
        destination_time: Set(Some(record.destination_time.as_micros())),
        destination_hash_version_id: Set(Some(record.version_id)),
        destination_time_version_id: Set(Some(record.version_id)),
        revision: Set(record.revision),
        create_time: Set(now.as_micros()),
        update_time: Set(now.as_micros()),
    };
    row.insert(&tx.connection).await.map_err(from_db)?;
    reread(tx, record).await
}

/// Changes a payment method; what was made with the old version keeps it. The other default of the currency, if there is
/// one, must have been cleared before.
pub(crate) async fn update(
    tx: &Tx,
    current: &PaymentMethodRecord,
    currency: Currency,
    details: &PaymentMethodDetails,
    is_default: bool,
    actor: &str,
    now: Timestamp,
) -> Result<PaymentMethodRecord> {
    let mut record = PaymentMethodRecord {
        currency,
        details: details.clone(),
        is_default,
        revision: current.revision + 1,
        update_time: now,
        ..current.clone()
    };
    if moves_money(Some(current), &record) {
        record.destination_time = now;
    }
    if record.currency != current.currency || record.details != current.details {
        record.version_id = insert_version(tx, &record, actor).await?;
    }
    let payee_id = payee_of(tx, &record).await?;
    let row = payment_methods::ActiveModel {
        id: Set(record.id),
        currency_code: Set(record.currency.code().to_owned()),
        is_default: Set(record.is_default),
        version_id: Set(record.version_id),
        payee_id: Set(payee_id),
        payee_version_id: Set(payee_id.and(Some(record.version_id))),
        destination_hash: Set(destinations::hash_of(tx, &record.details)?),
        destination_time: Set(Some(record.destination_time.as_micros())),
        destination_hash_version_id: Set(Some(record.version_id)),
        destination_time_version_id: Set(Some(record.version_id)),
        revision: Set(record.revision),
        update_time: Set(record.update_time.as_micros()),
        ..Default::default()
    };
    row.update(&tx.connection).await.map_err(from_db)?;
    reread(tx, record).await
}

/// Makes and changes methods of accounts whose methods are locked; what was made with old versions keeps them.
pub(crate) async fn write_many(tx: &Tx, mut writes: Vec<MethodWrite>, actor: &str, now: Timestamp) -> Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    // In the order of the unique keys, the default last: so that two who make the same ones wait for each other in one order.
    writes.sort_by(|one, other| unique_key(&one.record).cmp(&unique_key(&other.record)));
    let payees = payees_of(tx, &writes, now).await?;
    insert_versions(tx, &mut writes, actor, now).await?;
    // Before others become it: the unique index allows one default at any moment.
    let losing = writes.iter().filter(|write| write.loses_default());
    clear_defaults(tx, losing.map(|write| write.record.id).collect()).await?;
    let (inserted, updated): (Vec<MethodWrite>, Vec<MethodWrite>) =
        writes.into_iter().partition(|write| write.before.is_none());
    insert_many(tx, &inserted, &payees, now).await?;
    update_many(tx, &updated, &payees, now).await
}

fn unique_key(record: &PaymentMethodRecord) -> (&AccountId, &str, bool, &str) {
    (
        &record.account_id,
        record.currency.code(),
        record.is_default,
        &record.type_id,
    )
}

/// The payees of methods that a provider pays, by method.
async fn payees_of(tx: &Tx, writes: &[MethodWrite], now: Timestamp) -> Result<HashMap<Uuid, Uuid>> {
    let mut paid_by: HashMap<&'static str, Vec<(Uuid, &Sensitive)>> = HashMap::new();
    for write in writes {
        if let Some((provider, payee_id)) = write.record.details.payee() {
            paid_by.entry(provider).or_default().push((write.record.id, payee_id));
        }
    }
    let mut payees = HashMap::new();
    for (provider, methods) in paid_by {
        let payee_ids: Vec<&Sensitive> = methods.iter().map(|(_, payee_id)| *payee_id).collect();
        let ids = payees::find_or_insert_many(tx, provider, &payee_ids, now, Some(now)).await?;
        payees.extend(methods.iter().map(|(id, _)| *id).zip(ids));
    }
    Ok(payees)
}

async fn insert_versions(tx: &Tx, writes: &mut [MethodWrite], actor: &str, now: Timestamp) -> Result<()> {
    let mut records = Vec::with_capacity(writes.len());
    let mut key_ids = Vec::with_capacity(writes.len());
    let mut sealed = Vec::with_capacity(writes.len());
    for write in writes.iter_mut().filter(|write| write.has_new_version) {
        write.record.version_id = new_id();
        let version = tx
            .keys
            .seal(VERSIONS, &write.record.version_id.to_string(), &write.record.details)?;
        key_ids.push(version.key_id);
        sealed.push(version.bytes);
        records.push(&write.record);
    }
    if records.is_empty() {
        return Ok(());
    }
    let rows = Rows::new()
        .uuid("id", records.iter().map(|record| record.version_id))
        .uuid("payment_method_id", records.iter().map(|record| record.id))
        .text("account_id", records.iter().map(|record| record.account_id.as_str()))
        .text("currency_code", records.iter().map(|record| record.currency.code()))
        .text("type_id", records.iter().map(|record| record.type_id.as_str()))
        .text("key_id", key_ids)
        .bytes("sealed", sealed);
    let (source, mut values) = rows.source(tx.backend, 3);
    values.insert(0, actor.into());
    values.insert(1, now.as_micros().into());
    let sql = format!(
        "INSERT INTO payment_method_versions (id, payment_method_id, account_id, currency_code, type_id, key_id, sealed, \
             actor, create_time) \
         SELECT input.id, input.payment_method_id, input.account_id, input.currency_code, input.type_id, input.key_id, \
             input.sealed, $1, $2 FROM {source}"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

async fn clear_defaults(tx: &Tx, ids: Vec<Uuid>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let (source, values) = Rows::new().uuid("id", ids).source(tx.backend, 1);
    let sql = format!("UPDATE payment_methods SET is_default = FALSE WHERE id IN (SELECT input.id FROM {source})");
    tx.execute(&sql, values).await?;
    Ok(())
}

async fn insert_many(tx: &Tx, writes: &[MethodWrite], payees: &HashMap<Uuid, Uuid>, now: Timestamp) -> Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    let records = || writes.iter().map(|write| &write.record);
    let rows = changing(tx, writes, payees)?
        .text("account_id", records().map(|record| record.account_id.as_str()))
        .text("currency_code", records().map(|record| record.currency.code()))
        .text("type_id", records().map(|record| record.type_id.as_str()));
    let (source, mut values) = rows.source(tx.backend, 3);
    values.insert(0, now.as_micros().into());
    values.insert(1, Uuid::nil().into());
    let sql = format!(
        "INSERT INTO payment_methods (id, account_id, currency_code, type_id, is_default, version_id, payee_id, \
             payee_version_id, destination_hash, destination_hash_version_id, destination_time, destination_time_version_id, \
             revision, create_time, update_time) \
         SELECT input.id, input.account_id, input.currency_code, input.type_id, input.is_default, input.version_id, \
             NULLIF(input.payee_id, $2), CASE WHEN input.payee_id <> $2 THEN input.version_id END, {}, input.version_id, \
             input.destination_time, input.version_id, input.revision, $1, $1 \
         FROM {source} ORDER BY input.position",
        destinations::none_if_empty("input.destination_hash")
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

async fn update_many(tx: &Tx, writes: &[MethodWrite], payees: &HashMap<Uuid, Uuid>, now: Timestamp) -> Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    let (source, mut values) = changing(tx, writes, payees)?.source(tx.backend, 3);
    values.insert(0, now.as_micros().into());
    values.insert(1, Uuid::nil().into());
    let sql = format!(
        "UPDATE payment_methods SET is_default = input.is_default, version_id = input.version_id, \
             payee_id = NULLIF(input.payee_id, $2), \
             payee_version_id = CASE WHEN input.payee_id <> $2 THEN input.version_id END, \
             destination_hash = {}, destination_hash_version_id = input.version_id, \
             destination_time = input.destination_time, destination_time_version_id = input.version_id, \
             revision = input.revision, update_time = $1 \
         FROM {source} WHERE payment_methods.id = input.id",
        destinations::none_if_empty("input.destination_hash")
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// What of methods can change; a payee of zeros and an empty hash stand for none.
fn changing(tx: &Tx, writes: &[MethodWrite], payees: &HashMap<Uuid, Uuid>) -> Result<Rows> {
    let records = || writes.iter().map(|write| &write.record);
    let rows = Rows::new()
        .uuid("id", records().map(|record| record.id))
        .bool("is_default", records().map(|record| record.is_default))
        .uuid("version_id", records().map(|record| record.version_id))
        .uuid(
            "payee_id",
            records().map(|record| payees.get(&record.id).copied().unwrap_or_default()),
        )
        .bytes("destination_hash", destinations::hashes_of(tx, records())?)
        .bigint(
            "destination_time",
            records().map(|record| record.destination_time.as_micros()),
        )
        .bigint("revision", records().map(|record| record.revision));
    Ok(rows)
}

/// The payee that a method is paid to, where a provider pays it. A new one is asked for at once.
async fn payee_of(tx: &Tx, record: &PaymentMethodRecord) -> Result<Option<Uuid>> {
    match record.details.payee() {
        None => Ok(None),
        Some((provider, payee_id)) => {
            let now = record.update_time;
            payees::find_or_insert(tx, provider, payee_id, now, Some(now))
                .await
                .map(Some)
        }
    }
}

/// The record with what is known of its payee.
async fn reread(tx: &Tx, record: PaymentMethodRecord) -> Result<PaymentMethodRecord> {
    if record.details.payee().is_none() {
        return Ok(record);
    }
    let found = find(tx, record.id).await?;
    found.ok_or_else(|| Error::internal("a payment method that was just written is gone"))
}

/// Makes a locked method the default of its currency, or no longer the default.
pub(crate) async fn set_default(
    tx: &Tx,
    current: &PaymentMethodRecord,
    is_default: bool,
    now: Timestamp,
) -> Result<()> {
    let since = if is_default { now } else { current.destination_time };
    tx.execute(
        "UPDATE payment_methods SET is_default = $1, revision = revision + 1, update_time = $2, destination_time = $3, \
             destination_time_version_id = version_id WHERE id = $4",
        vec![
            is_default.into(),
            now.as_micros().into(),
            since.as_micros().into(),
            current.id.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Deletes a payment method, and every version of it that no account settlement was made with.
pub(crate) async fn delete(tx: &Tx, record: &PaymentMethodRecord) -> Result<()> {
    payment_methods::Entity::delete_by_id(record.id)
        .exec(&tx.connection)
        .await
        .map_err(from_db)?;
    tx.execute(
        "DELETE FROM payment_method_versions WHERE payment_method_id = $1 \
         AND NOT EXISTS (SELECT 1 FROM account_settlements s \
             WHERE s.account_id = $2 AND s.payment_method_version_id = payment_method_versions.id)",
        vec![record.id.into(), record.account_id.as_str().into()],
    )
    .await?;
    Ok(())
}

/// The details of a version, for the account settlements that were made with it.
pub(crate) fn open_version(
    keys: &SealingKeys,
    version_id: Uuid,
    key_id: String,
    bytes: Vec<u8>,
) -> Result<PaymentMethodDetails> {
    keys.open(VERSIONS, &version_id.to_string(), &Sealed { key_id, bytes })
}

async fn insert_version(tx: &Tx, record: &PaymentMethodRecord, actor: &str) -> Result<Uuid> {
    let id = new_id();
    let sealed = tx.keys.seal(VERSIONS, &id.to_string(), &record.details)?;
    let row = payment_method_versions::ActiveModel {
        id: Set(id),
        payment_method_id: Set(record.id),
        account_id: Set(record.account_id.as_str().to_owned()),
        currency_code: Set(record.currency.code().to_owned()),
        type_id: Set(record.type_id.clone()),
        key_id: Set(sealed.key_id),
        sealed: Set(sealed.bytes),
        actor: Set(actor.to_owned()),
        create_time: Set(record.update_time.as_micros()),
    };
    row.insert(&tx.connection).await.map_err(from_db)?;
    Ok(id)
}

fn open(keys: &SealingKeys, row: Row) -> Result<PaymentMethodRecord> {
    let details = open_version(keys, row.version_id, row.key_id, row.sealed)?;
    let event_time = row.event_time.map(time).transpose()?;
    Ok(PaymentMethodRecord {
        id: row.id,
        account_id: AccountId::from_store(row.account_id),
        currency: Currency::parse(&row.currency_code)
            .map_err(|problem| Error::internal(format!("a stored currency code can't be read: {problem}")))?,
        type_id: row.type_id,
        is_default: row.is_default,
        payee: details.payee().map(|_| PayeeState {
            payable: row.payable,
            reason: row.reason.unwrap_or_default(),
            event_time,
        }),
        details,
        version_id: row.version_id,
        destination_time: time(row.destination_time)?,
        revision: row.revision,
        create_time: time(row.create_time)?,
        update_time: time(row.update_time)?,
    })
}
