//! Table `payment_method_changes`: the append-only history of payment methods. It refers to nothing, so that it outlives
//! methods and their versions.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use uuid::Uuid;

use super::accruals::currency;
use super::conditions::Conditions;
use super::rotation::{KeyPart, SealedTable};
use super::rows::Rows;
use super::sealing::{Sealed, SealingKeys};
use super::{Session, Tx, time};
use crate::domain::error::{Error, Result};
use crate::domain::ids::AccountId;
use crate::domain::payment_method_changes::{ChangeKind, PaymentMethodChange};
use crate::domain::time::Timestamp;

const TABLE: &str = "payment_method_changes";

/// The changes, for the rotation of the encryption keys.
pub(super) const SEALED: SealedTable = SealedTable {
    name: TABLE,
    key: &[("id", KeyPart::UUID)],
    row_id: |parts| parts.join("\0"),
};

/// What `ListPaymentMethodChanges` is asked for.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct PaymentMethodChangeFilter {
    /// Only of this account.
    pub account_id: Option<AccountId>,
    /// Only of this method.
    pub payment_method_id: Option<Uuid>,
    /// Only from then on.
    pub change_time_from: Option<Timestamp>,
    /// Only before.
    pub change_time_before: Option<Timestamp>,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    account_id: String,
    payment_method_id: Uuid,
    kind: String,
    currency_code: String,
    type_id: String,
    actor: String,
    rpc: String,
    request_id: String,
    key_id: String,
    sealed: Vec<u8>,
    change_time: i64,
}

/// Adds changes, which one call made.
pub(crate) async fn insert(tx: &Tx, changes: &[PaymentMethodChange]) -> Result<()> {
    let Some(first) = changes.first() else {
        return Ok(());
    };
    let mut key_ids = Vec::with_capacity(changes.len());
    let mut sealed = Vec::with_capacity(changes.len());
    for change in changes {
        let fields = tx.keys.seal(TABLE, &change.id.to_string(), &change.fields)?;
        key_ids.push(fields.key_id);
        sealed.push(fields.bytes);
    }
    let rows = Rows::new()
        .uuid("id", changes.iter().map(|change| change.id))
        .text("account_id", changes.iter().map(|change| change.account_id.as_str()))
        .uuid(
            "payment_method_id",
            changes.iter().map(|change| change.payment_method_id),
        )
        .text("kind", changes.iter().map(|change| change.kind.name()))
        .text("currency_code", changes.iter().map(|change| change.currency.code()))
        .text("type_id", changes.iter().map(|change| change.type_id.as_str()))
        .text("key_id", key_ids)
        .bytes("sealed", sealed);
    let (source, mut values) = rows.source(tx.backend, 5);
    let of_the_call: [Value; 4] = [
        first.actor.as_str().into(),
        first.rpc.as_str().into(),
        first.request_id.as_str().into(),
        first.change_time.as_micros().into(),
    ];
    values.splice(0..0, of_the_call);
    let sql = format!(
        "INSERT INTO payment_method_changes (id, account_id, payment_method_id, kind, currency_code, type_id, actor, rpc, \
             request_id, key_id, sealed, change_time) \
         SELECT input.id, input.account_id, input.payment_method_id, input.kind, input.currency_code, input.type_id, $1, $2, $3, \
             input.key_id, input.sealed, $4 FROM {source}"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// Changes before a key, newest first.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    filter: &PaymentMethodChangeFilter,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<PaymentMethodChange>> {
    let mut conditions = Conditions::new();
    conditions.and_some("id < ?", before);
    conditions.and_some("account_id = ?", filter.account_id.as_ref().map(AccountId::as_str));
    conditions.and_some("payment_method_id = ?", filter.payment_method_id);
    conditions.and_created("id", "change_time", filter.change_time_from, filter.change_time_before);
    let sql = format!(
        "SELECT id, account_id, payment_method_id, kind, currency_code, type_id, actor, rpc, request_id, key_id, sealed, change_time \
         FROM payment_method_changes WHERE {} ORDER BY id DESC LIMIT {limit}",
        conditions.sql()
    );
    let rows: Vec<Row> = session.fetch_all(&sql, conditions.into_values()).await?;
    rows.into_iter().map(|row| open(&session.keys, row)).collect()
}

fn open(keys: &SealingKeys, row: Row) -> Result<PaymentMethodChange> {
    let sealed = Sealed {
        key_id: row.key_id,
        bytes: row.sealed,
    };
    Ok(PaymentMethodChange {
        id: row.id,
        account_id: AccountId::from_store(row.account_id),
        payment_method_id: row.payment_method_id,
        type_id: row.type_id,
        currency: currency(&row.currency_code)?,
        kind: ChangeKind::from_name(&row.kind).ok_or_else(|| Error::internal("a stored kind of change is unknown"))?,
        fields: keys.open(TABLE, &row.id.to_string(), &sealed)?,
        actor: row.actor,
        rpc: row.rpc,
        request_id: row.request_id,
        change_time: time(row.change_time)?,
    })
}
