//! Table `payment_method_types`. Lists and amounts are JSON texts: they are read and written as a whole.

use sea_orm::{ActiveModelTrait as _, ConnectionTrait, EntityTrait as _, FromQueryResult, Set};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entity::payment_method_types;
use super::{Session, Tx, from_db, time};
use crate::domain::error::{Error, Result};
use crate::domain::open_balances::Types;
use crate::domain::payment_method_types::{
    BANK_TRANSFER, MAX_PAYMENT_METHOD_TYPES, PaymentMethodField, PaymentMethodType, PaymentMethodTypeSettings,
};
use crate::domain::time::Timestamp;

const SELECT: &str = "SELECT id, built_in, display_name, enabled, currency_codes, minimum_payouts, fields, revision, \
    create_time, update_time FROM payment_method_types";

#[derive(FromQueryResult)]
struct Row {
    id: String,
    built_in: bool,
    display_name: String,
    enabled: bool,
    currency_codes: String,
    minimum_payouts: String,
    fields: String,
    revision: i64,
    create_time: i64,
    update_time: i64,
}

#[derive(FromQueryResult)]
struct Count {
    count: i64,
}

/// One type.
pub(crate) async fn find<C: ConnectionTrait>(session: &Session<C>, id: &str) -> Result<Option<PaymentMethodType>> {
    let sql = format!("{SELECT} WHERE id = $1");
    let row: Option<Row> = session.fetch_optional(&sql, vec![id.into()]).await?;
    row.map(PaymentMethodType::try_from).transpose()
}

/// As [`find`], with the row locked until the transaction ends.
pub(crate) async fn find_for_update(tx: &Tx, id: &str) -> Result<Option<PaymentMethodType>> {
    let sql = format!("{SELECT} WHERE id = $1{}", tx.backend.for_update());
    let row: Option<Row> = tx.fetch_optional(&sql, vec![id.into()]).await?;
    row.map(PaymentMethodType::try_from).transpose()
}

/// The types after an id, in order.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<PaymentMethodType>> {
    let sql = format!("{SELECT} WHERE id > $1 ORDER BY id LIMIT {limit}");
    let rows: Vec<Row> = session.fetch_all(&sql, vec![after.unwrap_or_default().into()]).await?;
    rows.into_iter().map(PaymentMethodType::try_from).collect()
}

/// All types, by id.
pub(crate) async fn list_all<C: ConnectionTrait>(session: &Session<C>) -> Result<Vec<PaymentMethodType>> {
    list(session, None, MAX_PAYMENT_METHOD_TYPES).await
}

/// All types by id.
pub(crate) async fn types<C: ConnectionTrait>(session: &Session<C>) -> Result<Types> {
    let types = list_all(session).await?;
    Ok(types
        .into_iter()
        .map(|method_type| (method_type.id.clone(), method_type))
        .collect())
}

/// How many types there are. No other transaction adds one until this one ends: they take turns at the row of a built-in
/// type, which is always there.
pub(crate) async fn count_for_insert(tx: &Tx) -> Result<u64> {
    find_for_update(tx, BANK_TRANSFER).await?;
    let count: Count = tx
        .fetch_one("SELECT count(*) AS count FROM payment_method_types", Vec::new())
        .await?;
    u64::try_from(count.count).map_err(|_| Error::internal("a count is negative"))
}

/// Adds a type that the program defines.
pub(crate) async fn insert(tx: &Tx, id: &str, settings: &PaymentMethodTypeSettings) -> Result<PaymentMethodType> {
    let now = Timestamp::now();
    let created = with_settings(
        PaymentMethodType {
            id: id.to_owned(),
            built_in: false,
            display_name: String::new(),
            enabled: true,
            currencies: Vec::new(),
            minimum_payouts: Vec::new(),
            fields: Vec::new(),
            revision: 1,
            create_time: now,
            update_time: now,
        },
        settings,
    );
    row(&created)?.insert(&tx.connection).await.map_err(from_db)?;
    Ok(created)
}

/// Gives a type new settings.
pub(crate) async fn update(
    tx: &Tx,
    current: PaymentMethodType,
    settings: &PaymentMethodTypeSettings,
) -> Result<PaymentMethodType> {
    let changed = with_settings(
        PaymentMethodType {
            revision: current.revision + 1,
            update_time: Timestamp::now(),
            ..current
        },
        settings,
    );
    payment_method_types::Entity::update(row(&changed)?)
        .exec(&tx.connection)
        .await
        .map_err(from_db)?;
    Ok(changed)
}

fn with_settings(stored: PaymentMethodType, settings: &PaymentMethodTypeSettings) -> PaymentMethodType {
    PaymentMethodType {
        display_name: settings.display_name.clone(),
        enabled: settings.enabled,
        currencies: settings.currencies.clone(),
        minimum_payouts: settings.minimum_payouts.clone(),
        fields: settings.fields.clone(),
        ..stored
    }
}

fn row(stored: &PaymentMethodType) -> Result<payment_method_types::ActiveModel> {
    Ok(payment_method_types::ActiveModel {
        id: Set(stored.id.clone()),
        built_in: Set(stored.built_in),
        display_name: Set(stored.display_name.clone()),
        enabled: Set(stored.enabled),
        currency_codes: Set(to_json(&stored.currencies)?),
        minimum_payouts: Set(to_json(&stored.minimum_payouts)?),
        fields: Set(to_json(&stored.fields)?),
        revision: Set(stored.revision),
        create_time: Set(stored.create_time.as_micros()),
        update_time: Set(stored.update_time.as_micros()),
    })
}

impl TryFrom<Row> for PaymentMethodType {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            currencies: from_json(&row.currency_codes)?,
            minimum_payouts: from_json(&row.minimum_payouts)?,
            fields: from_json(&row.fields)?,
            id: row.id,
            built_in: row.built_in,
            display_name: row.display_name,
            enabled: row.enabled,
            revision: row.revision,
            create_time: time(row.create_time)?,
            update_time: time(row.update_time)?,
        })
    }
}

/// The fields of a type, as stored.
pub(crate) fn read_fields(text: &str) -> Result<Vec<PaymentMethodField>> {
    from_json(text)
}

fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::internal(format!("settings of a payment method type can't be written: {error}")))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| Error::internal(format!("settings of a payment method type can't be read: {error}")))
}
