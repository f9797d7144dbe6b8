//! Tables `settlements` and `settlement_counters`.
//!
//! Counters are kept in shards whose sums count, so that several writers on one settlement do not queue at one row; a
//! transaction uses one shard for all that it changes, in (settlement, currency) order.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{ConnectionTrait, FromQueryResult};
use uuid::Uuid;

use super::accruals::currency;
use super::conditions::Conditions;
use super::rows::Rows;
use super::{Session, Tx, time};
use crate::domain::account_settlements::Status;
use crate::domain::currency::Currency;
use crate::domain::error::{Error, Result};
use crate::domain::money::Amount;
use crate::domain::settlements::{Approval, ApprovalState, Counter, Settlement, StatusCounts};
use crate::domain::time::{Date, Timestamp};

/// Shards of a settlement's counters.
const SHARDS: i32 = 8;

/// What `ListSettlements` is asked for.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct SettlementFilter {
    /// Only made from then on.
    pub create_time_from: Option<Timestamp>,
    /// Only made before.
    pub create_time_before: Option<Timestamp>,
    /// Deleted ones too.
    pub show_deleted: bool,
    /// Only in this state of approval. Left out where it is not set, so that page tokens of before stay good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalState>,
}

/// Whether the settlement of a row `s` awaits approval. The inner statement is of few rows, which an index of these alone has,
/// and the database runs it once for all rows. A row can't be found to need no approval before that is committed: a settlement
/// and its rows are made together, and an approval is never taken back.
macro_rules! awaits_approval {
    () => {
        "s.settlement_id IN (SELECT w.id FROM settlements w \
            WHERE w.approval_required AND w.approve_time IS NULL AND w.delete_time IS NULL)"
    };
}
pub(super) use awaits_approval;

/// Changes of counters, gathered and then written in one statement.
#[derive(Debug, Default)]
pub(crate) struct CounterChanges {
    changes: BTreeMap<(Uuid, Currency), Change>,
}

#[derive(Debug, Default)]
struct Change {
    counts: StatusCounts,
    amount: Amount,
    changes: i64,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    note: String,
    available_through: i32,
    skipped_count: i64,
    actor: String,
    create_time: i64,
    delete_time: Option<i64>,
    approval_required: bool,
    approver: Option<String>,
    approve_time: Option<i64>,
}

#[derive(FromQueryResult)]
struct CounterRow {
    settlement_id: Uuid,
    currency_code: String,
    new_count: i64,
    in_progress_count: i64,
    paid_count: i64,
    error_count: i64,
    changes: i64,
    amount_units: i64,
    amount_micros: i64,
}

const COLUMNS: &str = "id, note, available_through, skipped_count, actor, create_time, delete_time, \
    approval_required, approver, approve_time";

impl CounterChanges {
    pub(crate) fn moved(&mut self, settlement_id: Uuid, currency: Currency, from: Status, to: Status) {
        let change = self.of(settlement_id, currency);
        *of(&mut change.counts, from) -= 1;
        *of(&mut change.counts, to) += 1;
    }

    pub(crate) fn added(&mut self, settlement_id: Uuid, currency: Currency, amount: Amount) -> Result<()> {
        let change = self.of(settlement_id, currency);
        change.counts.new += 1;
        change.amount = change.amount.checked_add(amount)?;
        Ok(())
    }

    pub(crate) fn removed(
        &mut self,
        settlement_id: Uuid,
        currency: Currency,
        status: Status,
        amount: Amount,
    ) -> Result<()> {
        let change = self.of(settlement_id, currency);
        *of(&mut change.counts, status) -= 1;
        change.amount = change.amount.checked_sub(amount)?;
        Ok(())
    }

    fn of(&mut self, settlement_id: Uuid, currency: Currency) -> &mut Change {
        let change = self.changes.entry((settlement_id, currency)).or_default();
        change.changes += 1;
        change
    }

    /// Adds the changes to one shard of the counters.
    pub(crate) async fn write(self, tx: &Tx) -> Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let shard = shard()?;
        let mut amounts = Vec::with_capacity(self.changes.len());
        for change in self.changes.values() {
            amounts.push(change.amount.to_units_and_micros()?);
        }
        let counts: Vec<StatusCounts> = self.changes.values().map(|change| change.counts).collect();
        let rows = Rows::new()
            .uuid("settlement_id", self.changes.keys().map(|(id, _)| *id))
            .text(
                "currency_code",
                self.changes.keys().map(|(_, currency)| currency.code()),
            )
            .bigint("new_count", counts.iter().map(|counts| counts.new))
            .bigint("in_progress_count", counts.iter().map(|counts| counts.in_progress))
            .bigint("paid_count", counts.iter().map(|counts| counts.paid))
            .bigint("error_count", counts.iter().map(|counts| counts.error))
            .bigint("changes", self.changes.values().map(|change| change.changes))
            .bigint("amount_units", amounts.iter().map(|(units, _)| *units))
            .bigint("amount_micros", amounts.iter().map(|(_, micros)| *micros));
        let (source, mut values) = rows.source(tx.backend, 2);
        values.insert(0, shard.into());
        let sql = format!(
            "INSERT INTO settlement_counters (settlement_id, currency_code, shard, new_count, in_progress_count, paid_count, \
                 error_count, changes, amount_units, amount_micros) \
             SELECT input.settlement_id, input.currency_code, $1, input.new_count, input.in_progress_count, input.paid_count, \
                 input.error_count, input.changes, input.amount_units, input.amount_micros \
             FROM {source} WHERE TRUE ORDER BY input.position \
             ON CONFLICT (settlement_id, currency_code, shard) DO UPDATE SET \
                 new_count = settlement_counters.new_count + excluded.new_count, \
                 in_progress_count = settlement_counters.in_progress_count + excluded.in_progress_count, \
                 paid_count = settlement_counters.paid_count + excluded.paid_count, \
                 error_count = settlement_counters.error_count + excluded.error_count, \
                 changes = settlement_counters.changes + excluded.changes, \
                 amount_units = settlement_counters.amount_units + excluded.amount_units, \
                 amount_micros = settlement_counters.amount_micros + excluded.amount_micros"
        );
        tx.execute(&sql, values).await?;
        Ok(())
    }
}

fn of(counts: &mut StatusCounts, status: Status) -> &mut i64 {
    match status {
        Status::New => &mut counts.new,
        Status::InProgress => &mut counts.in_progress,
        Status::Paid => &mut counts.paid,
        Status::Error => &mut counts.error,
    }
}

fn shard() -> Result<i32> {
    let mut random = [0_u8; 1];
    getrandom::fill(&mut random).map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
    Ok(i32::from(random[0]) % SHARDS)
}

/// Inserts a settlement without counters.
pub(crate) async fn insert(tx: &Tx, settlement: &Settlement) -> Result<()> {
    tx.execute(
        "INSERT INTO settlements (id, note, available_through, skipped_count, actor, create_time, approval_required) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        vec![
            settlement.id.into(),
            settlement.note.clone().into(),
            settlement.available_through.as_days().into(),
            settlement.skipped_count.into(),
            settlement.actor.clone().into(),
            settlement.create_time.as_micros().into(),
            (settlement.approval != Approval::NotRequired).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Makes all shards of the counters of a settlement that awaits approval. In them the database refuses that a row leaves `NEW`.
pub(crate) async fn insert_unapproved_counters(tx: &Tx, settlement: &Settlement) -> Result<()> {
    let shards = settlement
        .counters
        .iter()
        .flat_map(|counter| (0..SHARDS).map(|shard| (counter.currency, shard)));
    let shards: Vec<(Currency, i32)> = shards.collect();
    if shards.is_empty() {
        return Ok(());
    }
    let rows = Rows::new()
        .text("currency_code", shards.iter().map(|(currency, _)| currency.code()))
        .int("shard", shards.iter().map(|(_, shard)| *shard));
    let (source, mut values) = rows.source(tx.backend, 2);
    values.insert(0, settlement.id.into());
    let sql = format!(
        "INSERT INTO settlement_counters (settlement_id, currency_code, shard, new_count, in_progress_count, paid_count, \
             error_count, changes, amount_units, amount_micros, approved) \
         SELECT $1, input.currency_code, input.shard, 0, 0, 0, 0, 0, 0, 0, FALSE FROM {source}"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// Locks the counters of a settlement in their order, so that none of its rows changes until the transaction ends.
pub(crate) async fn lock_counters(tx: &Tx, id: Uuid) -> Result<()> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT shard FROM settlement_counters WHERE settlement_id = $1 \
         ORDER BY settlement_id, currency_code, shard{}) locked",
        tx.backend.for_update()
    );
    tx.execute(&sql, vec![id.into()]).await?;
    Ok(())
}

/// Approves a settlement whose counters are locked.
pub(crate) async fn approve(tx: &Tx, id: Uuid, approver: &str, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE settlement_counters SET approved = TRUE WHERE settlement_id = $1",
        vec![id.into()],
    )
    .await?;
    tx.execute(
        "UPDATE settlements SET approver = $1, approve_time = $2 WHERE id = $3",
        vec![approver.into(), now.as_micros().into(), id.into()],
    )
    .await?;
    Ok(())
}

/// One settlement, deleted or not.
pub(crate) async fn find<C: ConnectionTrait>(session: &Session<C>, id: Uuid) -> Result<Option<Settlement>> {
    let sql = format!("SELECT {COLUMNS} FROM settlements WHERE id = $1");
    let row: Option<Row> = session.fetch_optional(&sql, vec![id.into()]).await?;
    Ok(with_counters(session, row.into_iter().collect()).await?.pop())
}

/// Locks a settlement against a second deletion. Not with `FOR UPDATE`: a status update that holds account settlements and
/// opens a new shard of the counters, which refers to the settlement, would wait for this transaction, and it for those rows.
pub(crate) async fn find_for_update(tx: &Tx, id: Uuid) -> Result<Option<Settlement>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM settlements WHERE id = $1{}",
        tx.backend.for_no_key_update()
    );
    let row: Option<Row> = tx.fetch_optional(&sql, vec![id.into()]).await?;
    Ok(with_counters(tx, row.into_iter().collect()).await?.pop())
}

/// Settlements before a key, newest first.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    filter: &SettlementFilter,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<Settlement>> {
    let mut conditions = Conditions::new();
    conditions.and_some("id < ?", before);
    conditions.and_created("id", "create_time", filter.create_time_from, filter.create_time_before);
    if !filter.show_deleted {
        conditions.and_plain("delete_time IS NULL");
    }
    match filter.approval {
        None => {}
        Some(ApprovalState::NotRequired) => conditions.and_plain("NOT approval_required"),
        Some(ApprovalState::Pending) => conditions.and_plain("approval_required AND approve_time IS NULL"),
        Some(ApprovalState::Approved) => conditions.and_plain("approve_time IS NOT NULL"),
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM settlements WHERE {} ORDER BY id DESC LIMIT {limit}",
        conditions.sql()
    );
    let rows: Vec<Row> = session.fetch_all(&sql, conditions.into_values()).await?;
    with_counters(session, rows).await
}

/// Marks a settlement deleted; its rows must be deleted already.
pub(crate) async fn mark_deleted(tx: &Tx, id: Uuid, actor: &str, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE settlements SET delete_time = $1, delete_actor = $2 WHERE id = $3",
        vec![now.as_micros().into(), actor.into(), id.into()],
    )
    .await?;
    Ok(())
}

async fn with_counters<C: ConnectionTrait>(session: &Session<C>, rows: Vec<Row>) -> Result<Vec<Settlement>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let (source, values) = Rows::new()
        .uuid("id", rows.iter().map(|row| row.id))
        .source(session.backend, 1);
    let sql = format!(
        "SELECT c.settlement_id, c.currency_code, CAST(sum(c.new_count) AS bigint) AS new_count, \
             CAST(sum(c.in_progress_count) AS bigint) AS in_progress_count, CAST(sum(c.paid_count) AS bigint) AS paid_count, \
             CAST(sum(c.error_count) AS bigint) AS error_count, CAST(sum(c.changes) AS bigint) AS changes, \
             CAST(sum(c.amount_units) AS bigint) AS amount_units, \
             CAST(sum(c.amount_micros) AS bigint) AS amount_micros \
         FROM {source} JOIN settlement_counters c ON c.settlement_id = input.id \
         GROUP BY c.settlement_id, c.currency_code ORDER BY c.settlement_id, c.currency_code"
    );
    let counter_rows: Vec<CounterRow> = session.fetch_all(&sql, values).await?;
    let mut counters: HashMap<Uuid, Vec<Counter>> = HashMap::new();
    for row in counter_rows {
        counters.entry(row.settlement_id).or_default().push(counter(&row)?);
    }
    rows.into_iter()
        .map(|row| {
            let counters = counters.remove(&row.id).unwrap_or_default();
            settlement(row, counters)
        })
        .collect()
}

fn counter(row: &CounterRow) -> Result<Counter> {
    let micros = i128::from(row.amount_units) * 1_000_000 + i128::from(row.amount_micros);
    Ok(Counter {
        currency: currency(&row.currency_code)?,
        counts: StatusCounts {
            new: row.new_count,
            in_progress: row.in_progress_count,
            paid: row.paid_count,
            error: row.error_count,
        },
        total: Amount::from_micros(micros)?,
        changes: row.changes,
    })
}

fn settlement(row: Row, counters: Vec<Counter>) -> Result<Settlement> {
    Ok(Settlement {
        id: row.id,
        note: row.note,
        available_through: Date::from_days(row.available_through),
        counters,
        skipped_count: row.skipped_count,
        actor: row.actor,
        create_time: time(row.create_time)?,
        delete_time: row.delete_time.map(time).transpose()?,
        approval: match (row.approver, row.approve_time) {
            (Some(approver), Some(approve_time)) => Approval::Approved {
                approver,
                approve_time: time(approve_time)?,
            },
            _ if row.approval_required => Approval::Pending,
            _ => Approval::NotRequired,
        },
    })
}
