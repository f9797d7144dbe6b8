//! Table `entries`: insert-only.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, FromQueryResult};
use uuid::Uuid;

use super::accruals::{amount, currency, key};
use super::conditions::Conditions;
use super::rows::Rows;
use super::{Session, Tx, time};
use crate::domain::entries::{Entry, EntryKey, EntryKind, NewEntry};
use crate::domain::error::{Error, Result};
use crate::domain::ids::AccountId;
use crate::domain::money::{Amount, Money};
use crate::domain::time::{Date, Timestamp};

/// An entry to insert, with its id and its accrual's.
pub(crate) struct EntryRow<'a> {
    pub(crate) id: Uuid,
    pub(crate) accrual_id: Uuid,
    pub(crate) entry: &'a NewEntry,
    pub(crate) reverses_entry_id: Option<Uuid>,
}

/// What `ListEntries` is asked for.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct EntryFilter {
    /// Only of this account.
    pub account_id: Option<AccountId>,
    /// Only of this account settlement.
    pub account_settlement_id: Option<Uuid>,
    /// Only in this currency.
    pub currency: Option<crate::domain::currency::Currency>,
    /// Only posted from then on.
    pub create_time_from: Option<Timestamp>,
    /// Only posted before.
    pub create_time_before: Option<Timestamp>,
    /// Only earned from then on.
    pub occur_time_from: Option<Timestamp>,
    /// Only earned before.
    pub occur_time_before: Option<Timestamp>,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    source: String,
    external_id: String,
    account_id: String,
    currency_code: String,
    amount: i64,
    kind: String,
    occur_time: i64,
    available_day: i32,
    description: String,
    create_time: i64,
    reverses_source: Option<String>,
    reverses_external_id: Option<String>,
    accrual_day: i32,
    accrual_debt: bool,
    account_settlement_id: Option<Uuid>,
}

#[derive(FromQueryResult)]
struct IdRow {
    id: Uuid,
}

#[derive(FromQueryResult)]
struct ReversedRow {
    id: Uuid,
    amount: i64,
}

const COLUMNS: &str = "e.id, e.source, e.external_id, e.account_id, e.currency_code, e.amount, e.kind, e.occur_time, e.available_day, \
    e.description, e.create_time, r.source AS reverses_source, r.external_id AS reverses_external_id, \
    a.available_day AS accrual_day, a.debt AS accrual_debt, a.account_settlement_id";
const JOINS: &str = "JOIN accruals a ON a.id = e.accrual_id LEFT JOIN entries r ON r.id = e.reverses_entry_id";

/// The entries of these keys that are there.
pub(crate) async fn find(tx: &Tx, keys: &[&EntryKey]) -> Result<HashMap<EntryKey, Entry>> {
    let rows = Rows::new()
        .text("source", keys.iter().map(|key| key.source.as_str()))
        .text("external_id", keys.iter().map(|key| key.external_id.as_str()));
    let (source, values) = rows.source(tx.backend, 1);
    // Mostly none is there. Looked up row by row, which an index does; as a join, PostgreSQL may read all entries for a batch.
    let sql = format!(
        "SELECT known.id FROM (SELECT (SELECT e.id FROM entries e WHERE e.source = input.source \
             AND e.external_id = input.external_id) AS id FROM {source}) known WHERE known.id IS NOT NULL"
    );
    let known: Vec<IdRow> = tx.fetch_all(&sql, values).await?;
    if known.is_empty() {
        return Ok(HashMap::new());
    }
    let (source, values) = Rows::new()
        .uuid("id", known.into_iter().map(|row| row.id))
        .source(tx.backend, 1);
    let sql = format!("SELECT {COLUMNS} FROM {source} JOIN entries e ON e.id = input.id {JOINS}");
    let rows: Vec<Row> = tx.fetch_all(&sql, values).await?;
    rows.into_iter()
        .map(|row| entry(row).map(|entry| (entry.content.key.clone(), entry)))
        .collect()
}

/// Locks entries that are about to be taken back, by id, so that their clawbacks are added up one after the other.
pub(crate) async fn lock(tx: &Tx, ids: &[Uuid]) -> Result<()> {
    let (source, values) = Rows::new().uuid("id", ids.iter().copied()).source(tx.backend, 1);
    let for_update = tx.backend.for_update();
    let sql =
        format!("SELECT e.id FROM entries e WHERE e.id IN (SELECT input.id FROM {source}) ORDER BY e.id{for_update}");
    tx.execute(&sql, values).await?;
    Ok(())
}

/// How much of each entry was taken back so far, as negative amounts. One that is not in the answer is whole.
pub(crate) async fn taken_back(tx: &Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Amount>> {
    let (source, values) = Rows::new().uuid("id", ids.iter().copied()).source(tx.backend, 1);
    let sql = format!(
        "SELECT e.reverses_entry_id AS id, CAST(sum(e.amount) AS bigint) AS amount \
         FROM {source} JOIN entries e ON e.reverses_entry_id = input.id GROUP BY e.reverses_entry_id"
    );
    let rows: Vec<ReversedRow> = tx.fetch_all(&sql, values).await?;
    rows.into_iter()
        .map(|row| amount(row.amount).map(|amount| (row.id, amount)))
        .collect()
}

/// Inserts entries whose keys are free, in the order given, which must be that of their keys; how many were inserted.
pub(crate) async fn insert(tx: &Tx, entries: &[EntryRow<'_>], now: Timestamp) -> Result<u64> {
    let mut amounts = Vec::with_capacity(entries.len());
    for row in entries {
        amounts.push(row.entry.money.amount.to_micros()?);
    }
    let rows = Rows::new()
        .uuid("id", entries.iter().map(|row| row.id))
        .text("source", entries.iter().map(|row| row.entry.key.source.as_str()))
        .text(
            "external_id",
            entries.iter().map(|row| row.entry.key.external_id.as_str()),
        )
        .text("account_id", entries.iter().map(|row| row.entry.account_id.as_str()))
        .text(
            "currency_code",
            entries.iter().map(|row| row.entry.money.currency.code()),
        )
        .bigint("amount", amounts)
        .text("kind", entries.iter().map(|row| row.entry.kind.name()))
        .bigint("occur_time", entries.iter().map(|row| row.entry.occur_time.as_micros()))
        .int(
            "available_day",
            entries.iter().map(|row| row.entry.available_date.as_days()),
        )
        .text("description", entries.iter().map(|row| row.entry.description.as_str()))
        .uuid(
            "reverses_entry_id",
            entries.iter().map(|row| row.reverses_entry_id.unwrap_or_default()),
        )
        .uuid("accrual_id", entries.iter().map(|row| row.accrual_id));
    let (source, mut values) = rows.source(tx.backend, 3);
    values.insert(0, now.as_micros().into());
    values.insert(1, Uuid::nil().into());
    let sql = format!(
        "INSERT INTO entries (id, source, external_id, account_id, currency_code, amount, kind, occur_time, available_day, \
             description, reverses_entry_id, accrual_id, create_time) \
         SELECT input.id, input.source, input.external_id, input.account_id, input.currency_code, input.amount, input.kind, \
             input.occur_time, input.available_day, input.description, NULLIF(input.reverses_entry_id, $2), input.accrual_id, $1 \
         FROM {source} WHERE TRUE ORDER BY input.position ON CONFLICT (source, external_id) DO NOTHING"
    );
    tx.execute(&sql, values).await
}

/// Entries in the order in which they were posted.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    filter: &EntryFilter,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<Entry>> {
    let mut conditions = Conditions::new();
    conditions.and_some("e.id > ?", after);
    conditions.and_some("e.account_id = ?", filter.account_id.as_ref().map(AccountId::as_str));
    conditions.and_some(
        "e.currency_code = ?",
        filter.currency.map(crate::domain::currency::Currency::code),
    );
    conditions.and_created(
        "e.id",
        "e.create_time",
        filter.create_time_from,
        filter.create_time_before,
    );
    conditions.and_some("e.occur_time >= ?", filter.occur_time_from.map(Timestamp::as_micros));
    conditions.and_some("e.occur_time < ?", filter.occur_time_before.map(Timestamp::as_micros));
    if let Some(id) = filter.account_settlement_id {
        let parameter = conditions.bind(id);
        conditions.and_plain(format!(
            "e.accrual_id IN (SELECT id FROM accruals WHERE account_settlement_id = {parameter} \
             UNION SELECT accrual_id FROM released_accruals WHERE account_settlement_id = {parameter})"
        ));
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM entries e {JOINS} WHERE {} ORDER BY e.id LIMIT {limit}",
        conditions.sql()
    );
    let rows: Vec<Row> = session.fetch_all(&sql, conditions.into_values()).await?;
    rows.into_iter().map(entry).collect()
}

fn entry(row: Row) -> Result<Entry> {
    let reverses = row
        .reverses_source
        .zip(row.reverses_external_id)
        .map(|(source, external_id)| EntryKey { source, external_id });
    let currency = currency(&row.currency_code)?;
    let accrual = key(
        row.account_id.clone(),
        &row.currency_code,
        row.accrual_day,
        row.accrual_debt,
    )?;
    let content = NewEntry {
        key: EntryKey {
            source: row.source,
            external_id: row.external_id,
        },
        account_id: AccountId::from_store(row.account_id),
        money: Money::new(currency, amount(row.amount)?),
        kind: EntryKind::from_name(&row.kind).ok_or_else(|| Error::internal("a stored entry kind is unknown"))?,
        occur_time: time(row.occur_time)?,
        available_date: Date::from_days(row.available_day),
        description: row.description,
        reverses,
    };
    Ok(Entry {
        id: row.id,
        content,
        create_time: time(row.create_time)?,
        accrual,
        account_settlement_id: row.account_settlement_id,
    })
}
