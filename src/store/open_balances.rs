//! Open balances: summed from the accruals, with what decides whether they can be paid. The number of entries does not
//! matter to any of these statements.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use uuid::Uuid;

use super::accruals::{amount, currency};
use super::conditions::Conditions;
use super::payment_methods::destination_time;
use super::rows::Rows;
use super::{Session, Tx, time};
use crate::domain::currency::Currency;
use crate::domain::error::Result;
use crate::domain::ids::AccountId;
use crate::domain::open_balances::{BalanceFilter, DefaultMethod, OpenBalance, Payee, Terms};
use crate::domain::time::Date;

/// Which accruals count as available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All open ones.
    Open,
    /// Those that no longer accept entries: what a settlement run may claim while posting goes on.
    Closed,
}

/// The condition of accruals that a run with a cut-off claims; `$through` is its parameter. Debts count in every run.
pub(crate) fn due(through: &str) -> String {
    format!("(a.debt OR a.available_day <= {through})")
}

#[derive(FromQueryResult)]
struct Row {
    account_id: String,
    currency_code: String,
    open_amount: i64,
    pending_amount: i64,
    entry_count: i64,
    open_accrual_count: i64,
    last_open_day: Option<i32>,
    on_hold: bool,
    billing_details_version_id: Option<Uuid>,
    method_version_id: Option<Uuid>,
    method_type_id: Option<String>,
    payee_payable: Option<bool>,
    destination_time: Option<i64>,
}

#[derive(FromQueryResult)]
struct PayeeRow {
    account_id: String,
    currency_code: String,
    on_hold: bool,
    billing_details_version_id: Option<Uuid>,
    method_version_id: Option<Uuid>,
    method_type_id: Option<String>,
    payee_payable: Option<bool>,
    destination_time: Option<i64>,
}

const DEFAULT_METHOD: &str =
    "FROM payment_methods m WHERE m.account_id = b.account_id AND m.currency_code = b.currency_code AND m.is_default";

/// What decides about each row of `b`: looked up row by row, which indexes do. As joins, PostgreSQL read the tables of all
/// accounts for every page.
fn payee_columns(with_destination_time: bool) -> String {
    // Read where it decides alone: a look-up more for each row.
    let destination_time = if with_destination_time {
        format!("(SELECT {} {DEFAULT_METHOD})", destination_time!())
    } else {
        "CAST(NULL AS bigint)".to_owned()
    };
    format!(
        "(SELECT h.id FROM payout_holds h WHERE h.account_id = b.account_id AND h.release_time IS NULL) IS NOT NULL AS on_hold, \
         (SELECT d.version_id FROM billing_details d WHERE d.account_id = b.account_id) AS billing_details_version_id, \
         (SELECT m.version_id {DEFAULT_METHOD}) AS method_version_id, (SELECT m.type_id {DEFAULT_METHOD}) AS method_type_id, \
         (SELECT p.payable FROM payees p WHERE p.id = (SELECT m.payee_id {DEFAULT_METHOD} AND m.payee_version_id = m.version_id)) \
             AS payee_payable, {destination_time} AS destination_time"
    )
}

/// Balances after a key, by account and currency, with what the terms ask for. Accounts named in the filter are shown in every currency that they ever had
/// entries in; of others only what is open.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    filter: &BalanceFilter,
    terms: &Terms,
    (through, scope): (Date, Scope),
    after: Option<&(AccountId, Currency)>,
    limit: u64,
) -> Result<Vec<OpenBalance>> {
    let mut conditions = Conditions::new();
    let due = due(&conditions.bind(through.as_days()));
    if let Some((account_id, currency)) = after {
        let account = conditions.bind(account_id.as_str());
        let currency = conditions.bind(currency.code());
        conditions.and_plain(format!("(a.account_id, a.currency_code) > ({account}, {currency})"));
    }
    conditions.and_some(
        "a.currency_code = ?",
        filter
            .currency
            .or(filter.minimum.map(|money| money.currency))
            .map(Currency::code),
    );
    let open = "a.account_settlement_id IS NULL";
    let claimable = match scope {
        Scope::Open => open.to_owned(),
        Scope::Closed => format!("{open} AND NOT a.accepting"),
    };
    if filter.account_ids.is_empty() {
        conditions.and_plain(open);
    } else {
        let rows = Rows::new().text("account_id", filter.account_ids.iter().map(AccountId::as_str));
        let (source, values) = rows.source(session.backend, conditions.next());
        conditions.and_plain(format!("a.account_id IN (SELECT input.account_id FROM {source})"));
        conditions.extend(values);
    }
    let sql = format!(
        "SELECT b.*, {} FROM ( \
            SELECT a.account_id, a.currency_code, \
                CAST(coalesce(sum(CASE WHEN {claimable} AND {due} THEN a.amount END), 0) AS bigint) AS open_amount, \
                CAST(coalesce(sum(CASE WHEN {open} AND NOT {due} THEN a.amount END), 0) AS bigint) AS pending_amount, \
                CAST(coalesce(sum(CASE WHEN {open} THEN a.entry_count END), 0) AS bigint) AS entry_count, \
                CAST(count(CASE WHEN {claimable} AND {due} THEN 1 END) AS bigint) AS open_accrual_count, \
                max(CASE WHEN {claimable} AND {due} AND NOT a.debt THEN a.available_day END) AS last_open_day \
            FROM accruals a WHERE {} \
            GROUP BY a.account_id, a.currency_code ORDER BY a.account_id, a.currency_code LIMIT {limit} \
         ) b ORDER BY b.account_id, b.currency_code",
        payee_columns(terms.cool_off_hours > 0),
        conditions.sql()
    );
    let rows: Vec<Row> = session.fetch_all(&sql, conditions.into_values()).await?;
    rows.into_iter().map(balance).collect()
}

/// What decides whether accounts can be paid, for pairs that have no entries. Without a currency the account's oldest payment
/// method in any stands for it.
pub(crate) async fn payees<C: ConnectionTrait>(
    session: &Session<C>,
    pairs: &[(AccountId, Option<Currency>)],
) -> Result<Vec<(AccountId, Option<Currency>, Payee)>> {
    let rows = Rows::new()
        .text("account_id", pairs.iter().map(|(account_id, _)| account_id.as_str()))
        .text(
            "currency_code",
            pairs.iter().map(|(_, currency)| currency.map_or("", Currency::code)),
        );
    let (source, values) = rows.source(session.backend, 1);
    let sql = format!(
        "SELECT b.account_id, b.currency_code, (h.id IS NOT NULL) AS on_hold, d.version_id AS billing_details_version_id, \
             m.version_id AS method_version_id, m.type_id AS method_type_id, p.payable AS payee_payable, \
             {} AS destination_time \
         FROM (SELECT input.account_id, input.currency_code FROM {source}) b \
         LEFT JOIN payout_holds h ON h.account_id = b.account_id AND h.release_time IS NULL \
         LEFT JOIN billing_details d ON d.account_id = b.account_id \
         LEFT JOIN payment_methods m ON m.id = (SELECT o.id FROM payment_methods o WHERE o.account_id = b.account_id \
             AND ((b.currency_code = '' AND o.is_default) OR (o.currency_code = b.currency_code AND o.is_default)) \
             ORDER BY o.id LIMIT 1) \
         LEFT JOIN payees p ON p.id = m.payee_id AND m.payee_version_id = m.version_id",
        destination_time!()
    );
    let rows: Vec<PayeeRow> = session.fetch_all(&sql, values).await?;
    let mut payees = Vec::with_capacity(rows.len());
    for row in rows {
        let currency = if row.currency_code.is_empty() {
            None
        } else {
            Some(currency(&row.currency_code)?)
        };
        let payee = payee(
            row.on_hold,
            row.billing_details_version_id,
            row.method_version_id,
            row.method_type_id,
            row.payee_payable,
            row.destination_time,
        )?;
        payees.push((AccountId::from_store(row.account_id), currency, payee));
    }
    Ok(payees)
}

/// Locks what a run claims, in key order, so that no other run and no deletion changes it.
pub(crate) async fn lock(tx: &Tx, filter: &BalanceFilter, through: Date) -> Result<()> {
    let for_update = tx.backend.for_update();
    if for_update.is_empty() {
        return Ok(());
    }
    let mut conditions = Conditions::new();
    let due = due(&conditions.bind(through.as_days()));
    conditions.and_plain("a.account_settlement_id IS NULL AND NOT a.accepting");
    conditions.and_plain(due);
    narrow(tx, filter, &mut conditions);
    let sql = format!(
        "SELECT count(*) FROM (SELECT a.id FROM accruals a WHERE {} \
         ORDER BY a.account_id, a.currency_code, a.available_day, a.debt, a.id{for_update}) locked",
        conditions.sql()
    );
    tx.execute(&sql, conditions.into_values()).await?;
    Ok(())
}

/// Keys of up to `limit` balances whose due accruals still accept entries, after a key.
pub(crate) async fn close_some(
    tx: &Tx,
    filter: &BalanceFilter,
    through: Date,
    after: Option<&AccountId>,
    limit: u64,
) -> Result<Option<AccountId>> {
    #[derive(FromQueryResult)]
    struct Last {
        account_id: Option<String>,
    }
    let mut conditions = Conditions::new();
    let due_condition = due(&conditions.bind(through.as_days()));
    conditions.and_plain("a.accepting");
    conditions.and_plain(due_condition);
    conditions.and_some("a.account_id > ?", after.map(AccountId::as_str));
    narrow(tx, filter, &mut conditions);
    // All due accruals of an account are closed in one transaction: a run sees an account at one moment.
    let sql = format!(
        "SELECT max(account_id) AS account_id FROM (SELECT DISTINCT a.account_id FROM accruals a WHERE {} \
         ORDER BY a.account_id LIMIT {limit}) some_accounts",
        conditions.sql()
    );
    let last: Last = tx.fetch_one(&sql, conditions.into_values()).await?;
    let Some(last) = last.account_id.map(AccountId::from_store) else {
        return Ok(None);
    };
    close_range(tx, filter, through, after, &last).await?;
    Ok(Some(last))
}

async fn close_range(
    tx: &Tx,
    filter: &BalanceFilter,
    through: Date,
    after: Option<&AccountId>,
    last: &AccountId,
) -> Result<()> {
    let mut conditions = Conditions::new();
    let due_condition = due(&conditions.bind(through.as_days()));
    conditions.and_plain("a.accepting");
    conditions.and_plain(due_condition);
    conditions.and_some("a.account_id > ?", after.map(AccountId::as_str));
    conditions.and("a.account_id <= ?", last.as_str());
    narrow(tx, filter, &mut conditions);
    let for_update = tx.backend.for_update();
    // Locked in key order by the inner statement; posters lock in the same order.
    let sql = format!(
        "UPDATE accruals SET accepting = FALSE WHERE id IN (SELECT a.id FROM accruals a WHERE {} \
         ORDER BY a.account_id, a.currency_code, a.available_day, a.debt, a.id{for_update})",
        conditions.sql()
    );
    tx.execute(&sql, conditions.into_values()).await?;
    Ok(())
}

/// The conditions of a filter that accruals alone can tell.
fn narrow<C>(session: &Session<C>, filter: &BalanceFilter, conditions: &mut Conditions) {
    conditions.and_some(
        "a.currency_code = ?",
        filter
            .currency
            .or(filter.minimum.map(|money| money.currency))
            .map(Currency::code),
    );
    if !filter.account_ids.is_empty() {
        let rows = Rows::new().text("account_id", filter.account_ids.iter().map(AccountId::as_str));
        let (source, values): (String, Vec<Value>) = rows.source(session.backend, conditions.next());
        conditions.and_plain(format!("a.account_id IN (SELECT input.account_id FROM {source})"));
        conditions.extend(values);
    }
}

fn balance(row: Row) -> Result<OpenBalance> {
    Ok(OpenBalance {
        account_id: AccountId::from_store(row.account_id),
        currency: currency(&row.currency_code)?,
        open: amount(row.open_amount)?,
        pending: amount(row.pending_amount)?,
        entry_count: row.entry_count,
        open_accrual_count: row.open_accrual_count,
        last_open_day: row.last_open_day.map(Date::from_days),
        payee: payee(
            row.on_hold,
            row.billing_details_version_id,
            row.method_version_id,
            row.method_type_id,
            row.payee_payable,
            row.destination_time,
        )?,
    })
}

fn payee(
    on_hold: bool,
    billing_details_version_id: Option<Uuid>,
    version_id: Option<Uuid>,
    type_id: Option<String>,
    payee_payable: Option<bool>,
    destination_time: Option<i64>,
) -> Result<Payee> {
    let destination_time = destination_time.map(time).transpose()?;
    let method = version_id.zip(type_id).map(|(version_id, type_id)| DefaultMethod {
        version_id,
        type_id,
        payee_payable,
        destination_time,
    });
    Ok(Payee {
        on_hold,
        billing_details_version_id,
        method,
    })
}
