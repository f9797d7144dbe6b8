//! Table `skipped_accounts`: what a run left out, in the order in which it was found.

use sea_orm::{ConnectionTrait, FromQueryResult};
use uuid::Uuid;

use super::accruals::{amount, currency};
use super::rows::Rows;
use super::{Session, Tx, time};
use crate::domain::error::{Error, Result};
use crate::domain::ids::AccountId;
use crate::domain::open_balances::SettleSkipReason;
use crate::domain::settlements::SkippedAccount;
use crate::domain::time::Timestamp;

/// Stands for an absent amount or time in the bound rows, which can't hold nulls; none is as small.
const NONE: i64 = i64::MIN;

#[derive(FromQueryResult)]
struct Row {
    position: i64,
    account_id: String,
    currency_code: String,
    reason: String,
    amount: Option<i64>,
    cooling_off_until: Option<i64>,
}

/// Adds skipped accounts, the first at `first_position`.
pub(crate) async fn insert(
    tx: &Tx,
    settlement_id: Uuid,
    first_position: i64,
    skipped: &[SkippedAccount],
) -> Result<()> {
    let mut amounts = Vec::with_capacity(skipped.len());
    for account in skipped {
        amounts.push(account.amount.map_or(Ok(NONE), |amount| amount.to_micros())?);
    }
    let rows = Rows::new()
        .bigint("number", (first_position..).take(skipped.len()))
        .text("account_id", skipped.iter().map(|account| account.account_id.as_str()))
        .text(
            "currency_code",
            skipped
                .iter()
                .map(|account| account.currency.map_or("", |currency| currency.code())),
        )
        .text("reason", skipped.iter().map(|account| account.reason.name()))
        .bigint("amount", amounts)
        .bigint(
            "cooling_off_until",
            skipped
                .iter()
                .map(|account| account.cooling_off_until.map_or(NONE, Timestamp::as_micros)),
        );
    let (source, mut values) = rows.source(tx.backend, 3);
    values.insert(0, settlement_id.into());
    values.insert(1, NONE.into());
    let sql = format!(
        "INSERT INTO skipped_accounts (settlement_id, position, account_id, currency_code, reason, amount, \
             cooling_off_until) \
         SELECT $1, input.number, input.account_id, input.currency_code, input.reason, NULLIF(input.amount, $2), \
             NULLIF(input.cooling_off_until, $2) FROM {source}"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// Skipped accounts after a position, each with its own.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    settlement_id: Uuid,
    after: i64,
    limit: u64,
) -> Result<Vec<(i64, SkippedAccount)>> {
    let sql = format!(
        "SELECT position, account_id, currency_code, reason, amount, cooling_off_until FROM skipped_accounts \
         WHERE settlement_id = $1 AND position > $2 ORDER BY position LIMIT {limit}"
    );
    let rows: Vec<Row> = session
        .fetch_all(&sql, vec![settlement_id.into(), after.into()])
        .await?;
    rows.into_iter().map(skipped).collect()
}

fn skipped(row: Row) -> Result<(i64, SkippedAccount)> {
    let account = SkippedAccount {
        account_id: AccountId::from_store(row.account_id),
        currency: if row.currency_code.is_empty() {
            None
        } else {
            Some(currency(&row.currency_code)?)
        },
        reason: SettleSkipReason::from_name(&row.reason)
            .ok_or_else(|| Error::internal("a stored skip reason is unknown"))?,
        amount: row.amount.map(amount).transpose()?,
        cooling_off_until: row.cooling_off_until.map(time).transpose()?,
    };
    Ok((row.position, account))
}
