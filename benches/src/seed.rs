//! Accounts that can be paid, and what they are owed, in any number: written by SQL, since making them is not measured.

use std::time::{SystemTime, UNIX_EPOCH};

use affiliate_billing::proto;
use affiliate_billing::proto::billing_details_service_client::BillingDetailsServiceClient;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use affiliate_billing::store::sealing::{Sealed, SealingKeys};
use tonic::transport::Channel;
use uuid::Uuid;

use crate::Outcome;
use crate::driver::{Column, Driver, Value};
use crate::service::KEYS;
use crate::statements::{CURRENCY, OCCUR_DAY, OCCUR_TIME};

const DETAILS_TABLE: &str = "billing_details_versions";
const METHODS_TABLE: &str = "payment_method_versions";
const CHANGES_TABLE: &str = "payment_method_changes";
/// The account that the service makes itself, and the others are copies of. It never has an entry.
const FIRST_ACCOUNT: &str = "a-first";
const BATCH: usize = 5000;

/// The name of an account.
pub(crate) fn account_id(number: usize) -> String {
    format!("account-{number:07}")
}

/// Makes accounts with billing details and a bank account: one through the service, the others as copies that are sealed for
/// their own rows.
pub(crate) async fn payable_accounts(driver: &mut Driver, channel: &Channel, accounts: usize) -> Outcome<()> {
    first_account(channel).await?;
    let sealer = Sealer::read(driver).await?;
    let numbers: Vec<usize> = (0..accounts).collect();
    for batch in numbers.chunks(BATCH) {
        let accounts: Vec<String> = batch.iter().copied().map(account_id).collect();
        let (details, methods) = (sealer.details(&accounts)?, sealer.methods(&accounts)?);
        driver.begin().await?;
        insert_details(driver, details).await?;
        insert_methods(driver, methods).await?;
        driver.commit().await?;
    }
    Ok(())
}

/// Seals what the first account has for rows of others.
pub(crate) struct Sealer {
    keys: SealingKeys,
    details: serde_json::Value,
    method: serde_json::Value,
    change: serde_json::Value,
}

/// Versions or changes to insert, sealed.
pub(crate) struct SealedRows {
    ids: Vec<Uuid>,
    accounts: Vec<String>,
    sealed: Vec<Vec<u8>>,
}

impl Sealer {
    /// With the values of the first account, which must be there.
    pub(crate) async fn read(driver: &mut Driver) -> Outcome<Self> {
        let keys = SealingKeys::parse(KEYS)?;
        Ok(Self {
            details: sealed_value(driver, &keys, DETAILS_TABLE).await?,
            method: sealed_value(driver, &keys, METHODS_TABLE).await?,
            change: sealed_value(driver, &keys, CHANGES_TABLE).await?,
            keys,
        })
    }

    /// Billing details of accounts.
    pub(crate) fn details(&self, accounts: &[String]) -> Outcome<SealedRows> {
        seal_each(&self.keys, DETAILS_TABLE, &self.details, accounts)
    }

    /// Payment methods of accounts.
    pub(crate) fn methods(&self, accounts: &[String]) -> Outcome<SealedRows> {
        seal_each(&self.keys, METHODS_TABLE, &self.method, accounts)
    }

    /// The history of their creation.
    pub(crate) fn method_changes(&self, accounts: &[String]) -> Outcome<SealedRows> {
        seal_each(&self.keys, CHANGES_TABLE, &self.change, accounts)
    }
}

/// Makes the account that the others are copies of, through the service.
pub(crate) async fn first_account(channel: &Channel) -> Outcome<()> {
    BillingDetailsServiceClient::new(channel.clone())
        .create_billing_details(proto::CreateBillingDetailsRequest {
            billing_details: Some(details(FIRST_ACCOUNT.to_owned())),
            ..Default::default()
        })
        .await?;
    PaymentMethodsServiceClient::new(channel.clone())
        .create_payment_method(proto::CreatePaymentMethodRequest {
            payment_method: Some(method(FIRST_ACCOUNT.to_owned())),
            ..Default::default()
        })
        .await?;
    Ok(())
}

/// Billing details as the wire has them.
pub(crate) fn details(account_id: String) -> proto::BillingDetails {
    proto::BillingDetails {
        account_id,
        party: Some(proto::billing_details::Party::Individual(proto::Individual {
            given_name: "Ada".to_owned(),
            family_name: "Byron".to_owned(),
        })),
        tax_id: "12345678".to_owned(),
        address: Some(proto::Address {
            region_code: "DE".to_owned(),
            postal_code: "10115".to_owned(),
            locality: "Berlin".to_owned(),
            address_lines: vec!["Invalidenstr. 1".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A payment method as the wire has it.
pub(crate) fn method(account_id: String) -> proto::PaymentMethod {
    proto::PaymentMethod {
        account_id,
        currency_code: CURRENCY.to_owned(),
        details: Some(proto::payment_method::Details::BankTransfer(proto::BankTransfer {
            account_holder_name: "Ada Byron".to_owned(),
            iban: "DE89370400440532013000".to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

async fn sealed_value(driver: &mut Driver, keys: &SealingKeys, table: &str) -> Outcome<serde_json::Value> {
    let sql = format!("SELECT id, key_id, sealed FROM {table} WHERE account_id = $1");
    let rows = driver.fetch(&sql, vec![Value::Text(FIRST_ACCOUNT.to_owned())]).await?;
    let row = rows.first().ok_or("the first account is not there")?;
    let sealed = Sealed {
        key_id: row.text(1)?,
        bytes: row.bytes(2)?,
    };
    Ok(keys.open(table, &row.uuid(0)?.to_string(), &sealed)?)
}

fn seal_each(keys: &SealingKeys, table: &str, value: &serde_json::Value, accounts: &[String]) -> Outcome<SealedRows> {
    let mut rows = SealedRows {
        ids: Vec::with_capacity(accounts.len()),
        accounts: accounts.to_vec(),
        sealed: Vec::with_capacity(accounts.len()),
    };
    for _ in accounts {
        let id = Uuid::now_v7();
        rows.sealed.push(keys.seal(table, &id.to_string(), value)?.bytes);
        rows.ids.push(id);
    }
    Ok(rows)
}

/// Inserts billing details.
pub(crate) async fn insert_details(driver: &mut Driver, rows: SealedRows) -> Outcome<()> {
    let mut values = Vec::new();
    let columns = vec![
        ("id", Column::Uuid(rows.ids.clone())),
        ("account_id", Column::Text(rows.accounts.clone())),
        ("sealed", Column::Bytes(rows.sealed)),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "INSERT INTO billing_details_versions (id, account_id, key_id, sealed, actor, create_time) \
         SELECT input.id, input.account_id, 'k1', input.sealed, 'seed', {OCCUR_TIME} FROM {input}"
    );
    driver.execute(&sql, values).await?;
    let mut values = Vec::new();
    let columns = vec![
        ("id", Column::Uuid(rows.ids)),
        ("account_id", Column::Text(rows.accounts)),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "INSERT INTO billing_details (account_id, version_id, create_time, update_time) \
         SELECT input.account_id, input.id, {OCCUR_TIME}, {OCCUR_TIME} FROM {input}"
    );
    driver.execute(&sql, values).await?;
    Ok(())
}

/// Inserts payment methods.
pub(crate) async fn insert_methods(driver: &mut Driver, rows: SealedRows) -> Outcome<()> {
    let method_ids: Vec<Uuid> = rows.ids.iter().map(|_| Uuid::now_v7()).collect();
    // As long as a keyed hash, and as different.
    let hash = |id: &Uuid| [*id, Uuid::new_v4()].iter().flat_map(|half| *half.as_bytes()).collect();
    let hashes: Vec<Vec<u8>> = rows.ids.iter().map(hash).collect();
    let mut values = Vec::new();
    let columns = vec![
        ("id", Column::Uuid(rows.ids.clone())),
        ("method_id", Column::Uuid(method_ids.clone())),
        ("account_id", Column::Text(rows.accounts.clone())),
        ("sealed", Column::Bytes(rows.sealed)),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "INSERT INTO payment_method_versions (id, payment_method_id, account_id, currency_code, type_id, key_id, sealed, actor, create_time) \
         SELECT input.id, input.method_id, input.account_id, '{CURRENCY}', 'bank_transfer', 'k1', input.sealed, 'seed', {OCCUR_TIME} FROM {input}"
    );
    driver.execute(&sql, values).await?;
    let mut values = Vec::new();
    let columns = vec![
        ("id", Column::Uuid(rows.ids)),
        ("method_id", Column::Uuid(method_ids)),
        ("account_id", Column::Text(rows.accounts)),
        ("hash", Column::Bytes(hashes)),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "INSERT INTO payment_methods (id, account_id, currency_code, type_id, is_default, version_id, destination_hash, \
             destination_hash_version_id, destination_time, destination_time_version_id, revision, create_time, update_time) \
         SELECT input.method_id, input.account_id, '{CURRENCY}', 'bank_transfer', TRUE, input.id, input.hash, \
             input.id, {OCCUR_TIME}, input.id, 1, {OCCUR_TIME}, {OCCUR_TIME} FROM {input}"
    );
    driver.execute(&sql, values).await?;
    Ok(())
}

/// Inserts the history of the creation of payment methods.
pub(crate) async fn insert_method_changes(driver: &mut Driver, rows: SealedRows) -> Outcome<()> {
    let mut values = Vec::new();
    let columns = vec![
        ("id", Column::Uuid(rows.ids.clone())),
        ("account_id", Column::Text(rows.accounts)),
        // Whose it is does not matter here.
        ("payment_method_id", Column::Uuid(rows.ids)),
        ("sealed", Column::Bytes(rows.sealed)),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "INSERT INTO payment_method_changes (id, account_id, payment_method_id, kind, currency_code, type_id, actor, rpc, \
             request_id, key_id, sealed, change_time) \
         SELECT input.id, input.account_id, input.payment_method_id, 'CREATED', '{CURRENCY}', 'bank_transfer', 'seed', \
             'ImportPaymentMethods', '', 'k1', input.sealed, {OCCUR_TIME} FROM {input}"
    );
    driver.execute(&sql, values).await?;
    Ok(())
}

/// Removes all accounts and their settlements.
pub(crate) async fn empty_accounts(driver: &mut Driver) -> Outcome<()> {
    let accounts = [
        "payment_methods",
        "payment_method_versions",
        "payment_method_changes",
        "billing_details",
        "billing_details_versions",
    ];
    let tables = [&OF_SETTLEMENTS[..], &["entries", "accruals"], &accounts].concat();
    empty(driver, &tables).await?;
    if driver.is_postgres() {
        return driver.script("CHECKPOINT").await;
    }
    tidy(driver).await
}

/// How many entries an account has, and over how many days they are spread.
#[derive(Clone, Copy)]
pub(crate) struct Owed {
    pub(crate) accounts: usize,
    pub(crate) entries_each: usize,
    pub(crate) days: usize,
}

/// The tables of settlements and what refers to them, those that refer first.
pub(crate) const OF_SETTLEMENTS: [&str; 9] = [
    "request_ids",
    "payout_alarms",
    "payouts",
    "skipped_accounts",
    "released_accruals",
    "status_changes",
    "settlement_counters",
    "account_settlements",
    "settlements",
];

/// Empties the ledger and its settlements; accounts and how they are paid stay.
pub(crate) async fn empty_ledger(driver: &mut Driver) -> Outcome<()> {
    // Entries refer to accruals, and these to settlements.
    let tables = [&OF_SETTLEMENTS[..5], &["entries", "accruals"], &OF_SETTLEMENTS[5..]].concat();
    empty(driver, &tables).await?;
    if driver.is_postgres() {
        // Not vacuumed: a table that PostgreSQL knows to be empty is planned otherwise than a new one.
        return driver.script("CHECKPOINT").await;
    }
    tidy(driver).await
}

/// Removes all rows of tables that nothing else refers to, those that refer first.
pub(crate) async fn empty(driver: &mut Driver, tables: &[&str]) -> Outcome<()> {
    if driver.is_postgres() {
        return driver.script(&format!("TRUNCATE {}", tables.join(", "))).await;
    }
    for table in tables {
        driver.script(&format!("DELETE FROM {table}")).await?;
    }
    Ok(())
}

/// Brings a database to rest, so that no turn pays for what another left.
pub(crate) async fn tidy(driver: &mut Driver) -> Outcome<()> {
    if driver.is_postgres() {
        driver.script("VACUUM (ANALYZE)").await?;
        return driver.script("CHECKPOINT").await;
    }
    driver.script("PRAGMA wal_checkpoint(TRUNCATE)").await
}

/// Writes accruals with their entries of one cent more each, from the last day of January 2026 on backwards.
pub(crate) async fn owed(driver: &mut Driver, owed: Owed) -> Outcome<()> {
    empty_ledger(driver).await?;
    if driver.is_postgres() {
        owed_on_postgres(driver, owed).await?;
    } else {
        owed_on_sqlite(driver, owed).await?;
    }
    tidy(driver).await
}

/// Indexes of entries are made after the rows, which is several times faster for millions of them.
async fn owed_on_postgres(driver: &mut Driver, owed: Owed) -> Outcome<()> {
    let Owed {
        accounts,
        entries_each,
        days,
    } = owed;
    driver
        .script(&format!(
            "SET session_replication_role = replica; \
             CREATE TEMPORARY TABLE kept AS SELECT indexdef FROM pg_indexes \
                 WHERE tablename = 'entries' AND indexname <> 'entries_pkey'; \
             DO $$ DECLARE name text; BEGIN \
                 FOR name IN SELECT indexname FROM pg_indexes WHERE tablename = 'entries' AND indexname <> 'entries_pkey' \
                 LOOP EXECUTE 'DROP INDEX ' || name; END LOOP; END $$; \
             INSERT INTO accruals (id, account_id, currency_code, available_day, debt, accepting, amount, entry_count, create_time) \
             SELECT gen_random_uuid(), 'account-' || lpad(account::text, 7, '0'), '{CURRENCY}', {OCCUR_DAY} - day, FALSE, TRUE, \
                 count(*) * 1000000, count(*), {OCCUR_TIME} \
             FROM generate_series(0, {accounts} - 1) account, generate_series(0, {days} - 1) day, \
                 generate_series(0, {entries_each} - 1) entry WHERE entry % {days} = day GROUP BY account, day ORDER BY account, day; \
             INSERT INTO entries (id, source, external_id, account_id, currency_code, amount, kind, occur_time, available_day, \
                 description, accrual_id, create_time) \
             SELECT gen_random_uuid(), 'seed', a.account_id || '/' || a.available_day || '/' || number, a.account_id, '{CURRENCY}', \
                 1000000, 'COMMISSION', {OCCUR_TIME}, a.available_day, '', a.id, {OCCUR_TIME} \
             FROM accruals a, LATERAL generate_series(1, a.entry_count) number; \
             DO $$ DECLARE definition text; BEGIN \
                 FOR definition IN SELECT indexdef FROM kept LOOP EXECUTE definition; END LOOP; END $$; \
             DROP TABLE kept; \
             SET session_replication_role = DEFAULT"
        ))
        .await
}

async fn owed_on_sqlite(driver: &mut Driver, owed: Owed) -> Outcome<()> {
    let numbers: Vec<usize> = (0..owed.accounts).collect();
    let each = owed.entries_each;
    for batch in numbers.chunks(BATCH) {
        let ids: Vec<Uuid> = batch.iter().map(|_| Uuid::now_v7()).collect();
        driver.begin().await?;
        let mut values = Vec::new();
        let input = driver.input(
            vec![
                ("id", Column::Uuid(ids)),
                (
                    "account_id",
                    Column::Text(batch.iter().copied().map(account_id).collect()),
                ),
            ],
            &mut values,
        );
        let sql = format!(
            "INSERT INTO accruals (id, account_id, currency_code, available_day, debt, accepting, amount, entry_count, create_time) \
             SELECT input.id, input.account_id, '{CURRENCY}', {OCCUR_DAY}, FALSE, TRUE, {each} * 1000000, {each}, {OCCUR_TIME} FROM {input}"
        );
        driver.execute(&sql, values).await?;
        driver.commit().await?;
    }
    driver
        .script(&format!(
            "INSERT INTO entries (id, source, external_id, account_id, currency_code, amount, kind, occur_time, available_day, \
                 description, accrual_id, create_time) \
             WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {each}) \
             SELECT randomblob(16), 'seed', a.account_id || '/' || number, a.account_id, '{CURRENCY}', 1000000, 'COMMISSION', \
                 {OCCUR_TIME}, a.available_day, '', a.id, {OCCUR_TIME} FROM accruals a, numbers"
        ))
        .await
}

/// Today as the service counts it.
pub(crate) fn today() -> Outcome<i32> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(i32::try_from(seconds / 86_400)?)
}
