//! Table `payout_alarms`: what providers said that contradicts what was done. Append-only, one row a word.

use sea_orm::{ConnectionTrait, FromQueryResult};
use uuid::Uuid;

use super::conditions::Conditions;
use super::{Session, Tx, time};
use crate::domain::error::Result;
use crate::domain::ids::AccountId;
use crate::domain::payouts::PayoutAlarm;
use crate::domain::time::Timestamp;

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    account_settlement_id: Uuid,
    account_id: String,
    provider: String,
    raw_status: String,
    event_time: i64,
    was_deleted: bool,
    origin: String,
    create_time: i64,
}

/// Stands for a word without a time, so that its key is unique too.
const NO_TIME: i64 = 0;

/// Keeps an alarm; whether it is a new one.
pub(crate) async fn insert(tx: &Tx, alarm: &PayoutAlarm) -> Result<bool> {
    let inserted = tx
        .execute(
            "INSERT INTO payout_alarms (id, account_settlement_id, provider, raw_status, event_time, was_deleted, origin, create_time) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account_settlement_id, raw_status, event_time) DO NOTHING",
            vec![
                alarm.id.into(),
                alarm.account_settlement_id.into(),
                alarm.provider.clone().into(),
                alarm.raw_status.clone().into(),
                alarm.event_time.map_or(NO_TIME, Timestamp::as_micros).into(),
                alarm.was_deleted.into(),
                alarm.origin.clone().into(),
                alarm.create_time.as_micros().into(),
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// Alarms before a key, newest first.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    account_id: Option<&AccountId>,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<PayoutAlarm>> {
    let mut conditions = Conditions::new();
    conditions.and_some("a.id < ?", before);
    conditions.and_some("s.account_id = ?", account_id.map(AccountId::as_str));
    let sql = format!(
        "SELECT a.id, a.account_settlement_id, s.account_id, a.provider, a.raw_status, a.event_time, a.was_deleted, a.origin, \
             a.create_time \
         FROM payout_alarms a JOIN account_settlements s ON s.id = a.account_settlement_id \
         WHERE {} ORDER BY a.id DESC LIMIT {limit}",
        conditions.sql()
    );
    let rows: Vec<Row> = session.fetch_all(&sql, conditions.into_values()).await?;
    rows.into_iter().map(alarm).collect()
}

fn alarm(row: Row) -> Result<PayoutAlarm> {
    Ok(PayoutAlarm {
        id: row.id,
        account_settlement_id: row.account_settlement_id,
        account_id: AccountId::from_store(row.account_id),
        provider: row.provider,
        raw_status: row.raw_status,
        event_time: (row.event_time != NO_TIME).then(|| time(row.event_time)).transpose()?,
        was_deleted: row.was_deleted,
        origin: row.origin,
        create_time: time(row.create_time)?,
    })
}
