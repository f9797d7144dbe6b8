//! Tables `account_settlements` and `released_accruals`.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use uuid::Uuid;

use super::accruals::{amount, currency};
use super::conditions::Conditions;
use super::rows::Rows;
use super::settlements::awaits_approval;
use super::{Session, Tx, billing_details, payment_method_types, payment_methods, time};
use crate::domain::account_settlements::{AccountSettlement, ProviderPayment, RowState, Status};
use crate::domain::error::{Error, Result};
use crate::domain::ids::AccountId;
use crate::domain::money::Money;
use crate::domain::time::Timestamp;

/// A row to insert.
pub(crate) struct NewAccountSettlement {
    pub(crate) id: Uuid,
    pub(crate) account_id: AccountId,
    pub(crate) money: Money,
    pub(crate) decimals: u32,
    pub(crate) payment_method_version_id: Uuid,
    pub(crate) billing_details_version_id: Uuid,
    pub(crate) provider: Option<&'static str>,
}

/// What `ListAccountSettlements` is asked for.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct AccountSettlementFilter {
    /// Only of this settlement.
    pub settlement_id: Option<Uuid>,
    /// Only of this account.
    pub account_id: Option<AccountId>,
    /// Only in this status.
    pub status: Option<Status>,
    /// Only made from then on.
    pub create_time_from: Option<Timestamp>,
    /// Only made before.
    pub create_time_before: Option<Timestamp>,
    /// Deleted ones too.
    pub show_deleted: bool,
}

/// A change of status, for one row.
pub(crate) struct StatusWrite {
    pub(crate) id: Uuid,
    pub(crate) payment_reference: String,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    settlement_id: Uuid,
    account_id: String,
    currency_code: String,
    amount: i64,
    decimals: i32,
    status: String,
    payment_reference: String,
    paid_time: Option<i64>,
    provider: Option<String>,
    provider_reference: Option<String>,
    provider_raw_status: Option<String>,
    provider_error_code: Option<String>,
    provider_error_message: Option<String>,
    provider_final: bool,
    provider_event_time: Option<i64>,
    provider_unmapped_status: Option<String>,
    provider_unmapped_time: Option<i64>,
    revision: i64,
    provider_revision: i64,
    create_time: i64,
    update_time: i64,
    delete_time: Option<i64>,
    method_version_id: Uuid,
    method_id: Uuid,
    method_type_id: String,
    method_key_id: String,
    method_sealed: Vec<u8>,
    type_fields: String,
    details_version_id: Uuid,
    details_key_id: String,
    details_sealed: Vec<u8>,
}

#[derive(FromQueryResult)]
struct StateRow {
    id: Uuid,
    settlement_id: Uuid,
    account_id: String,
    currency_code: String,
    amount: i64,
    status: String,
    provider: Option<String>,
    provider_final: bool,
    revision: i64,
    provider_revision: i64,
    delete_time: Option<i64>,
    awaits_approval: bool,
}

/// Whether the provider's word is its last and in no doubt: `ProviderRow::is_final`, in SQL.
macro_rules! is_final_by_provider {
    () => {
        "(s.provider_final AND NOT (s.status = 'ERROR' AND ( \
            coalesce(s.provider_under_way_time, -9000000000000000000) > coalesce(s.provider_event_time, -9000000000000000000) \
            OR coalesce(s.provider_unmapped_time, -9000000000000000000) > coalesce(s.provider_event_time, -9000000000000000000))))"
    };
}
pub(super) use is_final_by_provider;

const SELECT: &str = concat!(
    "SELECT s.id, s.settlement_id, s.account_id, s.currency_code, s.amount, s.decimals, s.status, s.payment_reference, \
     s.paid_time, s.provider, s.provider_reference, s.provider_raw_status, s.provider_error_code, s.provider_error_message, ",
    is_final_by_provider!(),
    " AS provider_final, s.provider_event_time, s.provider_unmapped_status, s.provider_unmapped_time, s.revision, s.provider_revision, \
     s.create_time, s.update_time, s.delete_time, \
     m.id AS method_version_id, m.payment_method_id AS method_id, m.type_id AS method_type_id, m.key_id AS method_key_id, \
     m.sealed AS method_sealed, t.fields AS type_fields, d.id AS details_version_id, d.key_id AS details_key_id, \
     d.sealed AS details_sealed \
     FROM account_settlements s \
     JOIN payment_method_versions m ON m.id = s.payment_method_version_id \
     JOIN payment_method_types t ON t.id = m.type_id \
     JOIN billing_details_versions d ON d.id = s.billing_details_version_id"
);
const STATE_COLUMNS: &str = concat!(
    "s.id, s.settlement_id, s.account_id, s.currency_code, s.amount, s.status, s.provider, ",
    is_final_by_provider!(),
    " AS provider_final, s.revision, s.provider_revision, s.delete_time, ",
    awaits_approval!(),
    " AS awaits_approval"
);

/// Inserts rows in `NEW`.
pub(crate) async fn insert(tx: &Tx, settlement_id: Uuid, rows: &[NewAccountSettlement], now: Timestamp) -> Result<()> {
    let mut amounts = Vec::with_capacity(rows.len());
    let mut decimals = Vec::with_capacity(rows.len());
    for row in rows {
        amounts.push(row.money.amount.to_micros()?);
        decimals.push(i32::try_from(row.decimals).map_err(|_| Error::internal("a currency has too many decimals"))?);
    }
    let input = Rows::new()
        .uuid("id", rows.iter().map(|row| row.id))
        .text("account_id", rows.iter().map(|row| row.account_id.as_str()))
        .text("currency_code", rows.iter().map(|row| row.money.currency.code()))
        .bigint("amount", amounts)
        .int("decimals", decimals)
        .uuid(
            "payment_method_version_id",
            rows.iter().map(|row| row.payment_method_version_id),
        )
        .uuid(
            "billing_details_version_id",
            rows.iter().map(|row| row.billing_details_version_id),
        )
        .text("provider", rows.iter().map(|row| row.provider.unwrap_or_default()));
    let (source, mut values) = input.source(tx.backend, 4);
    let fixed: [Value; 3] = [settlement_id.into(), now.as_micros().into(), Status::New.name().into()];
    values.splice(0..0, fixed);
    let sql = format!(
        "INSERT INTO account_settlements (id, settlement_id, account_id, currency_code, amount, decimals, status, \
             payment_method_version_id, billing_details_version_id, payment_reference, provider, revision, create_time, update_time) \
         SELECT input.id, $1, input.account_id, input.currency_code, input.amount, input.decimals, $3, \
             input.payment_method_version_id, input.billing_details_version_id, '', NULLIF(input.provider, ''), 1, $2, $2 \
         FROM {source}"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// One row, deleted or not.
pub(crate) async fn find<C: ConnectionTrait>(session: &Session<C>, id: Uuid) -> Result<Option<AccountSettlement>> {
    let sql = format!("{SELECT} WHERE s.id = $1");
    let row: Option<Row> = session.fetch_optional(&sql, vec![id.into()]).await?;
    row.map(|row| account_settlement(session, row)).transpose()
}

/// As [`find`], of many ids; in no order.
pub(crate) async fn find_many<C: ConnectionTrait>(
    session: &Session<C>,
    ids: &[Uuid],
) -> Result<Vec<AccountSettlement>> {
    let (source, values) = Rows::new().uuid("id", ids.iter().copied()).source(session.backend, 1);
    let sql = format!("{SELECT} WHERE s.id IN (SELECT input.id FROM {source})");
    let rows: Vec<Row> = session.fetch_all(&sql, values).await?;
    rows.into_iter().map(|row| account_settlement(session, row)).collect()
}

/// Rows after a key, in the order in which they were made.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    filter: &AccountSettlementFilter,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<AccountSettlement>> {
    let mut conditions = Conditions::new();
    conditions.and_some("s.id > ?", after);
    conditions.and_some("s.settlement_id = ?", filter.settlement_id);
    conditions.and_some("s.account_id = ?", filter.account_id.as_ref().map(AccountId::as_str));
    conditions.and_some("s.status = ?", filter.status.map(Status::name));
    conditions.and_created(
        "s.id",
        "s.create_time",
        filter.create_time_from,
        filter.create_time_before,
    );
    if !filter.show_deleted {
        conditions.and_plain("s.delete_time IS NULL");
    }
    let sql = format!("{SELECT} WHERE {} ORDER BY s.id LIMIT {limit}", conditions.sql());
    let rows: Vec<Row> = session.fetch_all(&sql, conditions.into_values()).await?;
    rows.into_iter().map(|row| account_settlement(session, row)).collect()
}

/// Locks rows by id, and answers what decides about them. Ids that are not there are not in the answer.
pub(crate) async fn lock(tx: &Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, RowState>> {
    let (source, values) = Rows::new().uuid("id", ids.iter().copied()).source(tx.backend, 1);
    let for_update = tx.backend.for_update();
    let sql = format!(
        "SELECT {STATE_COLUMNS} FROM account_settlements s WHERE s.id IN (SELECT input.id FROM {source}) ORDER BY s.id{for_update}"
    );
    let rows: Vec<StateRow> = tx.fetch_all(&sql, values).await?;
    rows.into_iter()
        .map(|row| state(row).map(|state| (state.id, state)))
        .collect()
}

/// Locks all live rows of a settlement by id.
pub(crate) async fn lock_all(tx: &Tx, settlement_id: Uuid) -> Result<Vec<RowState>> {
    let for_update = tx.backend.for_update();
    let sql = format!(
        "SELECT {STATE_COLUMNS} FROM account_settlements s WHERE s.settlement_id = $1 AND s.delete_time IS NULL ORDER BY s.id{for_update}"
    );
    let rows: Vec<StateRow> = tx.fetch_all(&sql, vec![settlement_id.into()]).await?;
    rows.into_iter().map(state).collect()
}

/// Ids of live rows of a settlement in one status, after an id.
pub(crate) async fn ids_in_status<C: ConnectionTrait>(
    session: &Session<C>,
    settlement_id: Uuid,
    status: Status,
    after: Uuid,
    limit: u64,
) -> Result<Vec<Uuid>> {
    #[derive(FromQueryResult)]
    struct Id {
        id: Uuid,
    }
    let sql = format!(
        "SELECT id FROM account_settlements WHERE settlement_id = $1 AND status = $2 AND delete_time IS NULL AND id > $3 \
         ORDER BY id LIMIT {limit}"
    );
    let rows: Vec<Id> = session
        .fetch_all(&sql, vec![settlement_id.into(), status.name().into(), after.into()])
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Sets the status of locked rows.
pub(crate) async fn set_status(
    tx: &Tx,
    rows: &[StatusWrite],
    status: Status,
    paid_time: Option<Timestamp>,
    now: Timestamp,
) -> Result<()> {
    let input = Rows::new().uuid("id", rows.iter().map(|row| row.id)).text(
        "payment_reference",
        rows.iter().map(|row| row.payment_reference.as_str()),
    );
    let (source, mut values) = input.source(tx.backend, 4);
    let fixed: [Value; 3] = [
        status.name().into(),
        paid_time.map(Timestamp::as_micros).into(),
        now.as_micros().into(),
    ];
    values.splice(0..0, fixed);
    let sql = format!(
        "UPDATE account_settlements SET status = $1, paid_time = $2, update_time = $3, revision = revision + 1, \
             payment_reference = input.payment_reference \
         FROM {source} WHERE account_settlements.id = input.id"
    );
    let updated = tx.execute(&sql, values).await?;
    if updated == rows.len() as u64 {
        Ok(())
    } else {
        Err(Error::internal("locked rows were not all updated"))
    }
}

/// Opens the accruals of locked rows again, keeps what they held, and marks them deleted.
pub(crate) async fn delete(tx: &Tx, ids: &[Uuid], actor: &str, now: Timestamp) -> Result<()> {
    let (source, mut values) = Rows::new().uuid("id", ids.iter().copied()).source(tx.backend, 2);
    values.insert(0, now.as_micros().into());
    let keep = format!(
        "INSERT INTO released_accruals (account_settlement_id, accrual_id, amount, entry_count, release_time) \
         SELECT a.account_settlement_id, a.id, a.amount, a.entry_count, $1 \
         FROM {source} JOIN accruals a ON a.account_settlement_id = input.id"
    );
    let kept = tx.execute(&keep, values).await?;
    let (source, values) = Rows::new().uuid("id", ids.iter().copied()).source(tx.backend, 1);
    let release = format!(
        "UPDATE accruals SET account_settlement_id = NULL WHERE account_settlement_id IN (SELECT input.id FROM {source})"
    );
    let released = tx.execute(&release, values).await?;
    if kept != released {
        return Err(Error::internal("not all accruals of a deleted row were kept"));
    }
    let (source, mut values) = Rows::new().uuid("id", ids.iter().copied()).source(tx.backend, 3);
    let fixed: [Value; 2] = [now.as_micros().into(), actor.into()];
    values.splice(0..0, fixed);
    let mark = format!(
        "UPDATE account_settlements SET delete_time = $1, delete_actor = $2, update_time = $1, revision = revision + 1 \
         WHERE id IN (SELECT input.id FROM {source})"
    );
    tx.execute(&mark, values).await?;
    Ok(())
}

fn account_settlement<C>(session: &Session<C>, mut row: Row) -> Result<AccountSettlement> {
    let currency = currency(&row.currency_code)?;
    let provider = provider_payment(&mut row)?;
    Ok(AccountSettlement {
        id: row.id,
        settlement_id: row.settlement_id,
        account_id: AccountId::from_store(row.account_id),
        money: Money::new(currency, amount(row.amount)?),
        decimals: u32::try_from(row.decimals).map_err(|_| Error::internal("a stored scale is negative"))?,
        status: status(&row.status)?,
        payment_method_type_id: row.method_type_id,
        payment_method: payment_methods::open_version(
            &session.keys,
            row.method_version_id,
            row.method_key_id,
            row.method_sealed,
        )?,
        payment_method_fields: payment_method_types::read_fields(&row.type_fields)?,
        payment_method_id: row.method_id,
        billing_details: billing_details::open_version(
            &session.keys,
            row.details_version_id,
            row.details_key_id,
            row.details_sealed,
        )?,
        payment_reference: row.payment_reference,
        paid_time: row.paid_time.map(time).transpose()?,
        provider,
        revision: row.revision,
        provider_revision: row.provider_revision,
        create_time: time(row.create_time)?,
        update_time: time(row.update_time)?,
        delete_time: row.delete_time.map(time).transpose()?,
    })
}

/// What the provider says now: a newer word whose status is not known is shown in place of the one that stands.
fn provider_payment(row: &mut Row) -> Result<Option<ProviderPayment>> {
    let Some(name) = row.provider.take() else {
        return Ok(None);
    };
    let is_unmapped = row.provider_unmapped_status.is_some()
        && (row.provider_raw_status.is_none() || row.provider_unmapped_time > row.provider_event_time);
    let (raw_status, event_time) = if is_unmapped {
        (row.provider_unmapped_status.take(), row.provider_unmapped_time)
    } else {
        (row.provider_raw_status.take(), row.provider_event_time)
    };
    Ok(Some(ProviderPayment {
        name,
        reference: row.provider_reference.take().unwrap_or_default(),
        raw_status: raw_status.unwrap_or_default(),
        error_code: row.provider_error_code.take().unwrap_or_default(),
        error_message: row.provider_error_message.take().unwrap_or_default(),
        is_unmapped,
        is_final: row.provider_final,
        event_time: event_time.map(time).transpose()?,
    }))
}

fn state(row: StateRow) -> Result<RowState> {
    Ok(RowState {
        id: row.id,
        settlement_id: row.settlement_id,
        money: Money::new(currency(&row.currency_code)?, amount(row.amount)?),
        account_id: AccountId::from_store(row.account_id),
        status: status(&row.status)?,
        provider_managed: row.provider.is_some(),
        provider_final: row.provider_final,
        revision: row.revision,
        provider_revision: row.provider_revision,
        deleted: row.delete_time.is_some(),
        awaits_approval: row.awaits_approval,
    })
}

pub(crate) fn status(name: &str) -> Result<Status> {
    Status::from_name(name).ok_or_else(|| Error::internal("a stored status is unknown"))
}
