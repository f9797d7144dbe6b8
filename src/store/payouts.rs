//! Table `payouts`, and what providers say of account settlements.
//!
//! Locks: account settlements by id, then their payouts by id. Who only takes payouts to ask for them locks nothing else and
//! waits for nobody (`SKIP LOCKED`).

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use uuid::Uuid;

use super::account_settlements::status;
use super::accruals::{amount, currency};
use super::rows::Rows;
use super::settlements::awaits_approval;
use super::{Session, Tx, payment_methods, time};
use crate::domain::account_settlements::Status;
use crate::domain::error::{Error, Result};
use crate::domain::ids::AccountId;
use crate::domain::money::Money;
use crate::domain::payment_methods::PaymentMethodDetails;
use crate::domain::payouts::{Payout, PayoutState, ProviderRow, StandingWord, UnmappedWord};
use crate::domain::time::Timestamp;

/// Stands for "no time" in a parameter, which can't be null.
const NO_TIME: i64 = -9_000_000_000_000_000_000;

/// What a provider is told to pay.
pub(crate) struct Order {
    pub(crate) id: Uuid,
    pub(crate) money: Money,
    pub(crate) decimals: u32,
    pub(crate) details: PaymentMethodDetails,
}

/// A payout that was taken to ask for it.
pub(crate) struct Claimed {
    pub(crate) id: Uuid,
    pub(crate) state: PayoutState,
}

/// What becomes of a row by its provider's words.
pub(crate) struct ProviderWrite<'a> {
    pub(crate) row: &'a ProviderRow,
    /// Its status from now on.
    pub(crate) status: Status,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    settlement_id: Uuid,
    account_id: String,
    currency_code: String,
    amount: i64,
    status: String,
    provider: Option<String>,
    provider_reference: Option<String>,
    provider_raw_status: Option<String>,
    provider_error_code: Option<String>,
    provider_error_message: Option<String>,
    provider_final: bool,
    provider_event_time: Option<i64>,
    provider_rank: Option<i32>,
    provider_unmapped_status: Option<String>,
    provider_unmapped_time: Option<i64>,
    provider_under_way_time: Option<i64>,
    revision: i64,
    delete_time: Option<i64>,
    awaits_approval: bool,
}

#[derive(FromQueryResult)]
struct PayoutRow {
    account_settlement_id: Uuid,
    state: String,
    batch_id: Uuid,
    attempt_count: i64,
    attempt_time: i64,
    check_count: i64,
    next_time: i64,
    claimed_until: i64,
}

#[derive(FromQueryResult)]
struct ClaimedRow {
    account_settlement_id: Uuid,
    state: String,
}

#[derive(FromQueryResult)]
struct OrderRow {
    id: Uuid,
    currency_code: String,
    amount: i64,
    decimals: i32,
    version_id: Uuid,
    key_id: String,
    sealed: Vec<u8>,
}

#[derive(FromQueryResult)]
struct Id {
    id: Uuid,
}

const COLUMNS: &str = concat!(
    "s.id, s.settlement_id, s.account_id, s.currency_code, s.amount, s.status, s.provider, s.provider_reference, \
    s.provider_raw_status, s.provider_error_code, s.provider_error_message, s.provider_final, s.provider_event_time, \
    s.provider_rank, s.provider_unmapped_status, s.provider_unmapped_time, s.provider_under_way_time, \
    s.revision, s.delete_time, ",
    awaits_approval!(),
    " AS awaits_approval"
);
const PAYOUT_COLUMNS: &str = "p.account_settlement_id, p.state, p.batch_id, p.attempt_count, p.attempt_time, p.check_count, \
    p.next_time, p.claimed_until";

/// Locks rows with their payouts. Ids that are not there are not in the answer.
pub(crate) async fn lock(tx: &Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, ProviderRow>> {
    let rows = fetch(tx, ids, tx.backend.for_update()).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Rows with their payouts, by id.
pub(crate) async fn read<C: ConnectionTrait>(session: &Session<C>, ids: &[Uuid]) -> Result<Vec<ProviderRow>> {
    fetch(session, ids, "").await
}

/// In two statements: locked in one, a row that was waited for is read again, and what it was joined with is not.
async fn fetch<C: ConnectionTrait>(session: &Session<C>, ids: &[Uuid], locking: &str) -> Result<Vec<ProviderRow>> {
    let source = || Rows::new().uuid("id", ids.iter().copied()).source(session.backend, 1);
    let (input, values) = source();
    let sql = format!(
        "SELECT {COLUMNS} FROM account_settlements s WHERE s.id IN (SELECT input.id FROM {input}) ORDER BY s.id{locking}"
    );
    let rows: Vec<Row> = session.fetch_all(&sql, values).await?;
    let (input, values) = source();
    let sql = format!(
        "SELECT {PAYOUT_COLUMNS} FROM payouts p WHERE p.account_settlement_id IN (SELECT input.id FROM {input}) \
         ORDER BY p.account_settlement_id{locking}"
    );
    let mut payouts = HashMap::new();
    for row in session.fetch_all::<PayoutRow>(&sql, values).await? {
        payouts.insert(row.account_settlement_id, payout(&row)?);
    }
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let payout = payouts.remove(&row.id);
        found.push(ProviderRow {
            payout,
            ..provider_row(row)?
        });
    }
    Ok(found)
}

/// Rows of a settlement, after an id, that a provider has not got yet: in `NEW`, or surely not sent.
pub(crate) async fn to_send<C: ConnectionTrait>(
    session: &Session<C>,
    provider: &str,
    settlement_id: Uuid,
    after: Uuid,
    limit: usize,
) -> Result<Vec<Uuid>> {
    let sql = format!(
        "SELECT s.id FROM account_settlements s LEFT JOIN payouts p ON p.account_settlement_id = s.id \
         WHERE s.settlement_id = $1 AND s.id > $2 AND s.provider = $3 AND s.delete_time IS NULL \
             AND (s.status = 'NEW' OR p.state = 'UNSENT') ORDER BY s.id LIMIT {limit}"
    );
    ids(session, &sql, vec![settlement_id.into(), after.into(), provider.into()]).await
}

/// Rows of a settlement, after an id, of which the provider has not said its last word.
pub(crate) async fn unfinished<C: ConnectionTrait>(
    session: &Session<C>,
    provider: &str,
    settlement_id: Uuid,
    after: Uuid,
    limit: usize,
) -> Result<Vec<Uuid>> {
    let sql = format!(
        "SELECT s.id FROM account_settlements s JOIN payouts p ON p.account_settlement_id = s.id \
         WHERE s.settlement_id = $1 AND s.id > $2 AND p.provider = $3 AND p.state <> 'DONE' ORDER BY s.id LIMIT {limit}"
    );
    ids(session, &sql, vec![settlement_id.into(), after.into(), provider.into()]).await
}

/// Takes these payouts, or those that are due, where nobody is at them: they are the taker's until a time.
pub(crate) async fn claim(
    tx: &Tx,
    provider: &str,
    only: Option<&[Uuid]>,
    limit: usize,
    now: Timestamp,
    until: Timestamp,
) -> Result<Vec<Claimed>> {
    let skip_locked = tx.backend.for_update_skip_locked();
    let (condition, mut values) = match only {
        Some(only) => {
            let (source, values) = Rows::new().uuid("id", only.iter().copied()).source(tx.backend, 3);
            (
                format!("p.account_settlement_id IN (SELECT input.id FROM {source})"),
                values,
            )
        }
        None => ("p.next_time <= $1".to_owned(), Vec::new()),
    };
    let fixed: [Value; 2] = [now.as_micros().into(), provider.into()];
    values.splice(0..0, fixed);
    let sql = format!(
        "SELECT p.account_settlement_id, p.state FROM payouts p WHERE p.provider = $2 AND p.state <> 'DONE' \
             AND p.claimed_until <= $1 AND {condition} ORDER BY p.next_time, p.account_settlement_id LIMIT {limit}{skip_locked}"
    );
    let rows: Vec<ClaimedRow> = tx.fetch_all(&sql, values).await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in rows {
        claimed.push(Claimed {
            id: row.account_settlement_id,
            state: state(&row.state)?,
        });
    }
    if claimed.is_empty() {
        return Ok(claimed);
    }
    let (source, mut values) = Rows::new()
        .uuid("id", claimed.iter().map(|claimed| claimed.id))
        .source(tx.backend, 2);
    values.insert(0, until.as_micros().into());
    let sql =
        format!("UPDATE payouts SET claimed_until = $1 WHERE account_settlement_id IN (SELECT input.id FROM {source})");
    tx.execute(&sql, values).await?;
    Ok(claimed)
}

/// Lets go of payouts that were taken until a time in vain, and that are still the taker's: they are due again at another.
pub(crate) async fn release(
    tx: &Tx,
    claimed_ids: &[Uuid],
    until: Timestamp,
    now: Timestamp,
    next_time: Timestamp,
) -> Result<()> {
    let mut sorted = claimed_ids.to_vec();
    sorted.sort_unstable();
    // Locked in their order first: an update of many rows has none of its own.
    let (source, values) = Rows::new().uuid("id", sorted.iter().copied()).source(tx.backend, 1);
    let lock = format!(
        "SELECT p.account_settlement_id AS id FROM payouts p WHERE p.account_settlement_id IN (SELECT input.id FROM {source}) \
         ORDER BY p.account_settlement_id{}",
        tx.backend.for_update()
    );
    ids(tx, &lock, values).await?;
    let (source, mut values) = Rows::new().uuid("id", sorted).source(tx.backend, 4);
    let fixed: [Value; 3] = [
        now.as_micros().into(),
        next_time.as_micros().into(),
        until.as_micros().into(),
    ];
    values.splice(0..0, fixed);
    let sql = format!(
        "UPDATE payouts SET claimed_until = $1, next_time = $2 WHERE state <> 'DONE' AND claimed_until = $3 \
             AND account_settlement_id IN (SELECT input.id FROM {source})"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// What a provider is told to pay, by id.
pub(crate) async fn orders<C: ConnectionTrait>(session: &Session<C>, order_ids: &[Uuid]) -> Result<Vec<Order>> {
    let (source, values) = Rows::new()
        .uuid("id", order_ids.iter().copied())
        .source(session.backend, 1);
    let sql = format!(
        "SELECT s.id, s.currency_code, s.amount, s.decimals, m.id AS version_id, m.key_id, m.sealed \
         FROM {source} JOIN account_settlements s ON s.id = input.id \
         JOIN payment_method_versions m ON m.id = s.payment_method_version_id ORDER BY s.id"
    );
    let rows: Vec<OrderRow> = session.fetch_all(&sql, values).await?;
    let mut orders = Vec::with_capacity(rows.len());
    for row in rows {
        orders.push(Order {
            id: row.id,
            money: Money::new(currency(&row.currency_code)?, amount(row.amount)?),
            decimals: u32::try_from(row.decimals).map_err(|_| Error::internal("a stored scale is negative"))?,
            details: payment_methods::open_version(&session.keys, row.version_id, row.key_id, row.sealed)?,
        });
    }
    Ok(orders)
}

/// Writes the payouts of locked rows.
pub(crate) async fn write(tx: &Tx, provider: &str, rows: &[&ProviderRow], now: Timestamp) -> Result<()> {
    let mut payouts: Vec<(Uuid, &Payout)> = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(payout) = &row.payout {
            payouts.push((row.id, payout));
        }
    }
    if payouts.is_empty() {
        return Ok(());
    }
    payouts.sort_unstable_by_key(|(id, _)| *id);
    let input = Rows::new()
        .uuid("id", payouts.iter().map(|(id, _)| *id))
        .text("state", payouts.iter().map(|(_, payout)| payout.state.name()))
        .uuid("batch_id", payouts.iter().map(|(_, payout)| payout.batch_id))
        .bigint("attempt_count", payouts.iter().map(|(_, payout)| payout.attempt_count))
        .bigint(
            "attempt_time",
            payouts.iter().map(|(_, payout)| payout.attempt_time.as_micros()),
        )
        .bigint("check_count", payouts.iter().map(|(_, payout)| payout.check_count))
        .bigint(
            "next_time",
            payouts.iter().map(|(_, payout)| payout.next_time.as_micros()),
        )
        .bigint(
            "claimed_until",
            payouts.iter().map(|(_, payout)| payout.claimed_until.as_micros()),
        );
    let (source, mut values) = input.source(tx.backend, 3);
    let fixed: [Value; 2] = [provider.into(), now.as_micros().into()];
    values.splice(0..0, fixed);
    let sql = format!(
        "INSERT INTO payouts (account_settlement_id, provider, state, batch_id, attempt_count, attempt_time, check_count, \
             next_time, claimed_until, create_time, update_time) \
         SELECT input.id, $1, input.state, input.batch_id, input.attempt_count, input.attempt_time, input.check_count, \
             input.next_time, input.claimed_until, $2, $2 FROM {source} WHERE TRUE ORDER BY input.position \
         ON CONFLICT (account_settlement_id) DO UPDATE SET state = excluded.state, batch_id = excluded.batch_id, \
             attempt_count = excluded.attempt_count, attempt_time = excluded.attempt_time, check_count = excluded.check_count, \
             next_time = excluded.next_time, claimed_until = excluded.claimed_until, update_time = excluded.update_time"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// Writes what the provider says of locked rows, and the status that follows.
pub(crate) async fn write_words(tx: &Tx, writes: &[ProviderWrite<'_>], now: Timestamp) -> Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    let standing = |write: &ProviderWrite<'_>, text: fn(&StandingWord) -> &str| {
        write.row.standing.as_ref().map_or("", text).to_owned()
    };
    let micros = |time: Option<Timestamp>| time.map_or(NO_TIME, Timestamp::as_micros);
    let unmapped = |write: &ProviderWrite<'_>| write.row.unmapped.clone();
    let input = Rows::new()
        .uuid("id", writes.iter().map(|write| write.row.id))
        .text("status", writes.iter().map(|write| write.status.name()))
        .bigint(
            "moved",
            writes.iter().map(|write| i64::from(write.status != write.row.status)),
        )
        .text(
            "raw_status",
            writes.iter().map(|write| standing(write, |word| &word.raw_status)),
        )
        .text(
            "reference",
            writes.iter().map(|write| standing(write, |word| &word.reference)),
        )
        .text(
            "error_code",
            writes.iter().map(|write| standing(write, |word| &word.error_code)),
        )
        .text(
            "error_text",
            writes.iter().map(|write| standing(write, |word| &word.error_text)),
        )
        .bool(
            "is_final",
            writes
                .iter()
                .map(|write| write.row.standing.as_ref().is_some_and(|word| word.is_final)),
        )
        .bigint(
            "event_time",
            writes
                .iter()
                .map(|write| micros(write.row.standing.as_ref().and_then(|word| word.event_time))),
        )
        .int(
            "rank",
            writes
                .iter()
                .map(|write| write.row.standing.as_ref().map_or(-1, |word| i32::from(word.rank))),
        )
        .text(
            "unmapped_status",
            writes
                .iter()
                .map(|write| unmapped(write).map(|word| word.raw_status).unwrap_or_default()),
        )
        .bigint(
            "unmapped_time",
            writes
                .iter()
                .map(|write| micros(unmapped(write).and_then(|word| word.event_time))),
        )
        .bigint(
            "under_way_time",
            writes.iter().map(|write| micros(write.row.under_way_time)),
        );
    let (source, mut values) = input.source(tx.backend, 2);
    values.insert(0, now.as_micros().into());
    let sql = format!(
        "UPDATE account_settlements SET status = input.status, revision = revision + input.moved, \
             provider_revision = provider_revision + 1, update_time = $1, paid_time = CASE WHEN input.status <> 'PAID' THEN NULL \
                 WHEN input.event_time <> {NO_TIME} THEN input.event_time ELSE coalesce(paid_time, $1) END, \
             provider_raw_status = NULLIF(input.raw_status, ''), provider_reference = NULLIF(input.reference, ''), \
             provider_error_code = NULLIF(input.error_code, ''), provider_error_message = NULLIF(input.error_text, ''), \
             provider_final = input.is_final, provider_event_time = NULLIF(input.event_time, {NO_TIME}), \
             provider_rank = NULLIF(input.rank, -1), provider_unmapped_status = NULLIF(input.unmapped_status, ''), \
             provider_unmapped_time = NULLIF(input.unmapped_time, {NO_TIME}), \
             provider_under_way_time = NULLIF(input.under_way_time, {NO_TIME}) \
         FROM {source} WHERE account_settlements.id = input.id"
    );
    let updated = tx.execute(&sql, values).await?;
    if updated == writes.len() as u64 {
        Ok(())
    } else {
        Err(Error::internal("locked rows were not all updated"))
    }
}

async fn ids<C: ConnectionTrait>(session: &Session<C>, sql: &str, values: Vec<Value>) -> Result<Vec<Uuid>> {
    let rows: Vec<Id> = session.fetch_all(sql, values).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

fn provider_row(row: Row) -> Result<ProviderRow> {
    let text = Option::unwrap_or_default;
    let standing = match row.provider_raw_status {
        None => None,
        Some(raw_status) => Some(StandingWord {
            raw_status,
            reference: text(row.provider_reference),
            error_code: text(row.provider_error_code),
            error_text: text(row.provider_error_message),
            event_time: row.provider_event_time.map(time).transpose()?,
            status: status(&row.status)?,
            is_final: row.provider_final,
            rank: row.provider_rank.and_then(|rank| u8::try_from(rank).ok()).unwrap_or(0),
        }),
    };
    let unmapped = match row.provider_unmapped_status {
        None => None,
        Some(raw_status) => Some(UnmappedWord {
            raw_status,
            event_time: row.provider_unmapped_time.map(time).transpose()?,
        }),
    };
    Ok(ProviderRow {
        id: row.id,
        settlement_id: row.settlement_id,
        account_id: AccountId::from_store(row.account_id),
        money: Money::new(currency(&row.currency_code)?, amount(row.amount)?),
        status: status(&row.status)?,
        provider: row.provider,
        revision: row.revision,
        deleted: row.delete_time.is_some(),
        awaits_approval: row.awaits_approval,
        standing,
        unmapped,
        under_way_time: row.provider_under_way_time.map(time).transpose()?,
        payout: None,
    })
}

fn payout(row: &PayoutRow) -> Result<Payout> {
    Ok(Payout {
        state: state(&row.state)?,
        batch_id: row.batch_id,
        attempt_count: row.attempt_count,
        attempt_time: time(row.attempt_time)?,
        check_count: row.check_count,
        next_time: time(row.next_time)?,
        claimed_until: time(row.claimed_until)?,
    })
}

fn state(name: &str) -> Result<PayoutState> {
    PayoutState::from_name(name).ok_or_else(|| Error::internal("a stored state of a payout is unknown"))
}
