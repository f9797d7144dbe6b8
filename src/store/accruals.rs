//! Table `accruals`: what is owed, by account, currency and day.

use std::collections::HashMap;

use sea_orm::FromQueryResult;
use uuid::Uuid;

use super::rows::Rows;
use super::{Backend, Tx};
use crate::domain::currency::Currency;
use crate::domain::entries::AccrualKey;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{AccountId, new_id};
use crate::domain::money::Amount;
use crate::domain::time::{Date, Timestamp};

/// What is added to one accrual.
pub(crate) struct Addition {
    pub(crate) key: AccrualKey,
    pub(crate) amount: Amount,
    pub(crate) entry_count: i64,
}

/// What is open on an account in a currency, whatever its day: money owed and money taken back apart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sides {
    pub(crate) credits: Amount,
    pub(crate) debits: Amount,
}

#[derive(FromQueryResult)]
struct KeyRow {
    id: Uuid,
    account_id: String,
    currency_code: String,
    available_day: i32,
    debt: bool,
}

#[derive(FromQueryResult)]
struct SidesRow {
    account_id: String,
    currency_code: String,
    credits: i64,
    debits: i64,
}

/// Adds to accruals that accept entries, opening those that are not there; the ids of all. The rows are locked in key order,
/// which the caller's `additions` must have.
pub(crate) async fn add(tx: &Tx, additions: &[Addition]) -> Result<HashMap<AccrualKey, Uuid>> {
    let mut amounts = Vec::with_capacity(additions.len());
    for addition in additions {
        amounts.push(addition.amount.to_micros()?);
    }
    let rows = Rows::new()
        .uuid("id", additions.iter().map(|_| new_id()))
        .text(
            "account_id",
            additions.iter().map(|addition| addition.key.account_id.as_str()),
        )
        .text(
            "currency_code",
            additions.iter().map(|addition| addition.key.currency.code()),
        )
        .int(
            "available_day",
            additions.iter().map(|addition| addition.key.available_day.as_days()),
        )
        .bool("debt", additions.iter().map(|addition| addition.key.debt))
        .bigint("amount", amounts)
        .bigint("entry_count", additions.iter().map(|addition| addition.entry_count));
    let (source, mut values) = rows.source(tx.backend, 2);
    values.insert(0, Timestamp::now().as_micros().into());
    // `WHERE TRUE` keeps SQLite from reading ON CONFLICT as a join condition. `position`: the order that Rust gave, which is
    // byte by byte; the input's own text has the database's collation.
    let sql = format!(
        "INSERT INTO accruals (id, account_id, currency_code, available_day, debt, accepting, amount, entry_count, create_time) \
         SELECT input.id, input.account_id, input.currency_code, input.available_day, input.debt, TRUE, input.amount, \
             input.entry_count, $1 \
         FROM {source} WHERE TRUE ORDER BY input.position \
         ON CONFLICT (account_id, currency_code, available_day, debt) WHERE accepting \
         DO UPDATE SET amount = accruals.amount + excluded.amount, entry_count = accruals.entry_count + excluded.entry_count \
         RETURNING id, account_id, currency_code, available_day, debt"
    );
    let rows: Vec<KeyRow> = tx.fetch_all(&sql, values).await?;
    rows.into_iter()
        .map(|row| {
            Ok((
                key(row.account_id, &row.currency_code, row.available_day, row.debt)?,
                row.id,
            ))
        })
        .collect()
}

/// What is open on accounts, by account and currency.
pub(crate) async fn sides(tx: &Tx, pairs: &[(AccountId, Currency)]) -> Result<HashMap<(AccountId, Currency), Sides>> {
    let (source, values) = pair_rows(pairs).source(tx.backend, 1);
    // Summed row by row, which an index does; as a join, PostgreSQL may read all accruals for a batch.
    let open = "FROM accruals a WHERE a.account_id = input.account_id AND a.currency_code = input.currency_code \
        AND a.account_settlement_id IS NULL";
    let sql = format!(
        "SELECT input.account_id, input.currency_code, \
             CAST(coalesce((SELECT sum(a.amount) {open} AND a.amount > 0), 0) AS bigint) AS credits, \
             CAST(coalesce((SELECT sum(a.amount) {open} AND a.amount < 0), 0) AS bigint) AS debits \
         FROM {source}"
    );
    let rows: Vec<SidesRow> = tx.fetch_all(&sql, values).await?;
    let mut sides = HashMap::with_capacity(rows.len());
    for row in rows {
        let found = Sides {
            credits: amount(row.credits)?,
            debits: amount(row.debits)?,
        };
        sides.insert(
            (AccountId::from_store(row.account_id), currency(&row.currency_code)?),
            found,
        );
    }
    Ok(sides)
}

/// Makes writers that are about to bring these balances near their limit wait for each other, until the transaction ends.
/// `pairs` in order, so that two of them can't deadlock. SQLite has one writer anyway.
pub(crate) async fn serialize_near_limit(tx: &Tx, pairs: &[(AccountId, Currency)]) -> Result<()> {
    if tx.backend == Backend::Sqlite {
        return Ok(());
    }
    for (account_id, currency) in pairs {
        let name = format!("balance {account_id} {currency}");
        tx.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            vec![name.into()],
        )
        .await?;
    }
    Ok(())
}

/// An accrual that a run may claim.
#[derive(Debug, Clone)]
pub(crate) struct OpenAccrual {
    pub(crate) id: Uuid,
    pub(crate) amount: Amount,
    pub(crate) available_day: Date,
    pub(crate) debt: bool,
}

/// An accrual that never accepted entries: one side of a carried remainder.
pub(crate) struct ClosedAccrual {
    pub(crate) id: Uuid,
    pub(crate) key: AccrualKey,
    pub(crate) amount: Amount,
    pub(crate) account_settlement_id: Option<Uuid>,
}

#[derive(FromQueryResult)]
struct OpenRow {
    id: Uuid,
    account_id: String,
    currency_code: String,
    available_day: i32,
    debt: bool,
    amount: i64,
}

/// What a run with the cut-off `$1` may claim of the accounts and currencies of `input`.
const CLAIMABLE: &str = "a.account_id = input.account_id AND a.currency_code = input.currency_code \
    AND a.account_settlement_id IS NULL AND NOT a.accepting AND (a.debt OR a.available_day <= $1)";

/// Claims all that a run may claim of accounts and currencies, each for its account settlement; how many accruals that were.
/// What the run has locked and summed in its snapshot is what this sees.
pub(crate) async fn claim_all(tx: &Tx, claims: &[(AccountId, Currency, Uuid)], through: Date) -> Result<u64> {
    let rows = Rows::new()
        .text(
            "account_id",
            claims.iter().map(|(account_id, _, _)| account_id.as_str()),
        )
        .text("currency_code", claims.iter().map(|(_, currency, _)| currency.code()))
        .uuid("account_settlement_id", claims.iter().map(|(_, _, id)| *id));
    let (source, mut values) = rows.source(tx.backend, 2);
    values.insert(0, through.as_days().into());
    let claimable = tx.backend.join_each("accruals", "a", CLAIMABLE);
    let sql = format!(
        "UPDATE accruals SET account_settlement_id = found.account_settlement_id \
         FROM (SELECT a.id, input.account_settlement_id FROM {source} {claimable}) AS found WHERE accruals.id = found.id"
    );
    tx.execute(&sql, values).await
}

/// What a run may claim of accounts and currencies, oldest first; of one day, what was taken out of it comes first.
pub(crate) async fn claimable(
    tx: &Tx,
    pairs: &[(AccountId, Currency)],
    through: Date,
) -> Result<HashMap<(AccountId, Currency), Vec<OpenAccrual>>> {
    let (source, mut values) = pair_rows(pairs).source(tx.backend, 2);
    values.insert(0, through.as_days().into());
    let sql = format!(
        "SELECT a.id, a.account_id, a.currency_code, a.available_day, a.debt, a.amount \
         FROM {source} JOIN accruals a ON {CLAIMABLE} \
         ORDER BY a.account_id, a.currency_code, a.available_day, CASE WHEN a.amount < 0 THEN 0 ELSE 1 END, a.id"
    );
    let rows: Vec<OpenRow> = tx.fetch_all(&sql, values).await?;
    let mut claimable: HashMap<(AccountId, Currency), Vec<OpenAccrual>> = HashMap::new();
    for row in rows {
        let pair = (AccountId::from_store(row.account_id), currency(&row.currency_code)?);
        let accrual = OpenAccrual {
            id: row.id,
            amount: amount(row.amount)?,
            available_day: Date::from_days(row.available_day),
            debt: row.debt,
        };
        claimable.entry(pair).or_default().push(accrual);
    }
    Ok(claimable)
}

/// Claims accruals by id, each for its account settlement; how many that were.
pub(crate) async fn claim(tx: &Tx, claims: &[(Uuid, Uuid)]) -> Result<u64> {
    let rows = Rows::new()
        .uuid("id", claims.iter().map(|(id, _)| *id))
        .uuid("account_settlement_id", claims.iter().map(|(_, id)| *id));
    let (source, values) = rows.source(tx.backend, 1);
    let sql = format!(
        "UPDATE accruals SET account_settlement_id = input.account_settlement_id FROM {source} \
         WHERE accruals.id = input.id AND accruals.account_settlement_id IS NULL AND NOT accruals.accepting"
    );
    tx.execute(&sql, values).await
}

/// Inserts accruals of one entry each that accept no more.
pub(crate) async fn insert_closed(tx: &Tx, accruals: &[ClosedAccrual], now: Timestamp) -> Result<()> {
    let mut amounts = Vec::with_capacity(accruals.len());
    for accrual in accruals {
        amounts.push(accrual.amount.to_micros()?);
    }
    let rows = Rows::new()
        .uuid("id", accruals.iter().map(|accrual| accrual.id))
        .text(
            "account_id",
            accruals.iter().map(|accrual| accrual.key.account_id.as_str()),
        )
        .text(
            "currency_code",
            accruals.iter().map(|accrual| accrual.key.currency.code()),
        )
        .int(
            "available_day",
            accruals.iter().map(|accrual| accrual.key.available_day.as_days()),
        )
        .bool("debt", accruals.iter().map(|accrual| accrual.key.debt))
        .bigint("amount", amounts)
        .uuid(
            "account_settlement_id",
            accruals
                .iter()
                .map(|accrual| accrual.account_settlement_id.unwrap_or_default()),
        );
    let (source, mut values) = rows.source(tx.backend, 3);
    values.insert(0, now.as_micros().into());
    values.insert(1, Uuid::nil().into());
    let sql = format!(
        "INSERT INTO accruals (id, account_id, currency_code, available_day, debt, accepting, amount, entry_count, \
             account_settlement_id, create_time) \
         SELECT input.id, input.account_id, input.currency_code, input.available_day, input.debt, FALSE, input.amount, 1, \
             NULLIF(input.account_settlement_id, $2), $1 FROM {source}"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

pub(crate) fn pair_rows(pairs: &[(AccountId, Currency)]) -> Rows {
    Rows::new()
        .text("account_id", pairs.iter().map(|(account_id, _)| account_id.as_str()))
        .text("currency_code", pairs.iter().map(|(_, currency)| currency.code()))
}

pub(crate) fn key(account_id: String, currency_code: &str, available_day: i32, debt: bool) -> Result<AccrualKey> {
    Ok(AccrualKey {
        account_id: AccountId::from_store(account_id),
        currency: currency(currency_code)?,
        available_day: Date::from_days(available_day),
        debt,
    })
}

pub(crate) fn currency(code: &str) -> Result<Currency> {
    Currency::parse(code).map_err(|_| Error::internal("a stored currency is unknown"))
}

pub(crate) fn amount(micros: i64) -> Result<Amount> {
    Amount::from_micros(i128::from(micros))
}
