//! Table `status_changes`: the append-only history of account settlements.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use uuid::Uuid;

use super::account_settlements::status;
use super::rows::Rows;
use super::{Session, Tx, time};
use crate::domain::account_settlements::{Status, StatusChange};
use crate::domain::error::Result;
use crate::domain::time::Timestamp;

/// What the changes of one statement have in common.
pub(crate) struct Change<'a> {
    pub(crate) to: Status,
    pub(crate) by_system: bool,
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) time: Timestamp,
}

/// What they have each.
pub(crate) struct ChangeOfRow<'a> {
    pub(crate) id: Uuid,
    pub(crate) revision: i64,
    pub(crate) from: Option<Status>,
    pub(crate) payment_reference: &'a str,
}

#[derive(FromQueryResult)]
struct Row {
    revision: i64,
    from_status: Option<String>,
    to_status: String,
    change_time: i64,
    actor: String,
    reason: String,
    payment_reference: String,
    request_id: String,
}

/// Adds a change to the history of each row.
pub(crate) async fn insert(tx: &Tx, change: &Change<'_>, rows: &[ChangeOfRow<'_>]) -> Result<()> {
    let input = Rows::new()
        .uuid("id", rows.iter().map(|row| row.id))
        .bigint("revision", rows.iter().map(|row| row.revision))
        .text("from_status", rows.iter().map(|row| row.from.map_or("", Status::name)))
        .text("payment_reference", rows.iter().map(|row| row.payment_reference));
    let (source, mut values) = input.source(tx.backend, 7);
    let fixed: [Value; 6] = [
        change.to.name().into(),
        change.by_system.into(),
        change.actor.into(),
        change.reason.into(),
        change.request_id.into(),
        change.time.as_micros().into(),
    ];
    values.splice(0..0, fixed);
    let sql = format!(
        "INSERT INTO status_changes (account_settlement_id, revision, from_status, to_status, by_system, actor, reason, \
             payment_reference, request_id, change_time) \
         SELECT input.id, input.revision, NULLIF(input.from_status, ''), $1, $2, $3, $4, input.payment_reference, $5, $6 FROM {source}"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// The changes of one row after a revision, oldest first.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    account_settlement_id: Uuid,
    after: i64,
    limit: u64,
) -> Result<Vec<StatusChange>> {
    let sql = format!(
        "SELECT revision, from_status, to_status, change_time, actor, reason, payment_reference, request_id FROM status_changes \
         WHERE account_settlement_id = $1 AND revision > $2 ORDER BY revision LIMIT {limit}"
    );
    let rows: Vec<Row> = session
        .fetch_all(&sql, vec![account_settlement_id.into(), after.into()])
        .await?;
    rows.into_iter().map(status_change).collect()
}

fn status_change(row: Row) -> Result<StatusChange> {
    Ok(StatusChange {
        revision: row.revision,
        from: row.from_status.as_deref().map(status).transpose()?,
        to: status(&row.to_status)?,
        change_time: time(row.change_time)?,
        actor: row.actor,
        reason: row.reason,
        payment_reference: row.payment_reference,
        request_id: row.request_id,
    })
}
