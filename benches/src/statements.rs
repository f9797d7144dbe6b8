//! The yardstick's statements: those of the service, in the order in which it runs them, without anything around them.
//!
//! `--statements` tells whether they still are the same: PostgreSQL itself compares what both sides ran.

use std::collections::HashMap;

use uuid::Uuid;

use crate::Outcome;
use crate::driver::{Column, Driver, Row, Value};

/// A payout that a settle run is about to make.
pub(crate) struct Payout {
    pub(crate) id: Uuid,
    pub(crate) account_id: String,
    pub(crate) currency_code: String,
    pub(crate) amount: i64,
    pub(crate) billing_details_version_id: Uuid,
    pub(crate) payment_method_version_id: Uuid,
}

/// One entry to post.
pub(crate) struct NewEntry {
    pub(crate) external_id: String,
    pub(crate) account_id: String,
    pub(crate) amount: i64,
    pub(crate) available_day: i32,
}

/// Occurrence of all entries, in microseconds: midday of the last day of January 2026.
pub(crate) const OCCUR_TIME: i64 = 1_769_860_800_000_000;
/// The day of that, counted from 1970.
pub(crate) const OCCUR_DAY: i32 = 20_484;
/// The one currency.
pub(crate) const CURRENCY: &str = "EUR";
const ACTOR: &str = "unauthenticated";
const NOW: i64 = 1_770_000_000_000_000;

/// One chunk of a bulk status update, in one transaction.
pub(crate) async fn update_status(driver: &mut Driver, ids: &[Uuid], target: &str) -> Outcome<()> {
    driver.begin().await?;
    let rows = lock_rows(driver, ids).await?;
    set_status(driver, ids, target).await?;
    let mut revisions = Vec::with_capacity(ids.len());
    let mut from = Vec::with_capacity(ids.len());
    let mut settlements: HashMap<Uuid, i64> = HashMap::new();
    let by_id: HashMap<Uuid, &Row> = rows
        .iter()
        .map(|row| row.uuid(0).map(|id| (id, row)))
        .collect::<Outcome<_>>()?;
    for id in ids {
        let row = by_id.get(id).ok_or("a row is missing")?;
        *settlements.entry(row.uuid(1)?).or_default() += 1;
        from.push(row.text(5)?);
        revisions.push(row.bigint(8)? + 1);
    }
    let moved_from = from.first().cloned().unwrap_or_default();
    insert_status_changes(driver, ids, revisions, from, target).await?;
    for (settlement_id, count) in settlements {
        let mut change = Counts::default();
        *change.of(&moved_from) -= count;
        *change.of(target) += count;
        change.changes = count;
        write_counters(driver, settlement_id, &change).await?;
    }
    driver.commit().await
}

/// Changes of one settlement's counters in one currency.
#[derive(Default)]
struct Counts {
    new: i64,
    in_progress: i64,
    paid: i64,
    changes: i64,
    amount: i64,
}

impl Counts {
    fn of(&mut self, status: &str) -> &mut i64 {
        match status {
            "NEW" => &mut self.new,
            "IN_PROGRESS" => &mut self.in_progress,
            _ => &mut self.paid,
        }
    }
}

async fn lock_rows(driver: &mut Driver, ids: &[Uuid]) -> Outcome<Vec<Row>> {
    let mut values = Vec::new();
    let input = driver.input(vec![("id", Column::Uuid(ids.to_vec()))], &mut values);
    let sql = format!(
        "SELECT s.id, s.settlement_id, s.account_id, s.currency_code, s.amount, s.status, s.provider, \
         (s.provider_final AND NOT (s.status = 'ERROR' AND ( \
            coalesce(s.provider_under_way_time, -9000000000000000000) > coalesce(s.provider_event_time, -9000000000000000000) \
            OR coalesce(s.provider_unmapped_time, -9000000000000000000) > coalesce(s.provider_event_time, -9000000000000000000)))) \
         AS provider_final, s.revision, s.provider_revision, s.delete_time, \
         s.settlement_id IN (SELECT w.id FROM settlements w \
            WHERE w.approval_required AND w.approve_time IS NULL AND w.delete_time IS NULL) AS awaits_approval \
         FROM account_settlements s WHERE s.id IN (SELECT input.id FROM {input}) ORDER BY s.id{}",
        driver.for_update()
    );
    driver.fetch(&sql, values).await
}

async fn set_status(driver: &mut Driver, ids: &[Uuid], target: &str) -> Outcome<()> {
    let mut values = vec![Value::Text(target.to_owned()), Value::NullBigInt, Value::BigInt(NOW)];
    let references = Column::Text(vec![String::new(); ids.len()]);
    let columns = vec![("id", Column::Uuid(ids.to_vec())), ("payment_reference", references)];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "UPDATE account_settlements SET status = $1, paid_time = $2, update_time = $3, revision = revision + 1, \
             payment_reference = input.payment_reference \
         FROM {input} WHERE account_settlements.id = input.id"
    );
    driver.execute(&sql, values).await?;
    Ok(())
}

async fn insert_status_changes(
    driver: &mut Driver,
    ids: &[Uuid],
    revisions: Vec<i64>,
    from: Vec<String>,
    target: &str,
) -> Outcome<()> {
    let mut values = vec![
        Value::Text(target.to_owned()),
        Value::Bool(false),
        Value::Text(ACTOR.to_owned()),
        Value::Text(String::new()),
        Value::Text(String::new()),
        Value::BigInt(NOW),
    ];
    let columns = vec![
        ("id", Column::Uuid(ids.to_vec())),
        ("revision", Column::BigInt(revisions)),
        ("from_status", Column::Text(from)),
        ("payment_reference", Column::Text(vec![String::new(); ids.len()])),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "INSERT INTO status_changes (account_settlement_id, revision, from_status, to_status, by_system, actor, reason, \
             payment_reference, request_id, change_time) \
         SELECT input.id, input.revision, NULLIF(input.from_status, ''), $1, $2, $3, $4, input.payment_reference, $5, $6 FROM {input}"
    );
    driver.execute(&sql, values).await?;
    Ok(())
}

async fn write_counters(driver: &mut Driver, settlement_id: Uuid, change: &Counts) -> Outcome<()> {
    // Any shard does: their sums count.
    let shard = i32::from(Uuid::new_v4().as_bytes()[0] % 8);
    let mut values = vec![Value::Int(shard)];
    let one = |number: i64| Column::BigInt(vec![number]);
    let columns = vec![
        ("settlement_id", Column::Uuid(vec![settlement_id])),
        ("currency_code", Column::Text(vec![CURRENCY.to_owned()])),
        ("new_count", one(change.new)),
        ("in_progress_count", one(change.in_progress)),
        ("paid_count", one(change.paid)),
        ("error_count", one(0)),
        ("changes", one(change.changes)),
        ("amount_units", one(change.amount / 1_000_000)),
        ("amount_micros", one(change.amount % 1_000_000)),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "INSERT INTO settlement_counters (settlement_id, currency_code, shard, new_count, in_progress_count, paid_count, \
                 error_count, changes, amount_units, amount_micros) \
             SELECT input.settlement_id, input.currency_code, $1, input.new_count, input.in_progress_count, input.paid_count, \
                 input.error_count, input.changes, input.amount_units, input.amount_micros \
             FROM {input} WHERE TRUE ORDER BY input.position \
             ON CONFLICT (settlement_id, currency_code, shard) DO UPDATE SET \
                 new_count = settlement_counters.new_count + excluded.new_count, \
                 in_progress_count = settlement_counters.in_progress_count + excluded.in_progress_count, \
                 paid_count = settlement_counters.paid_count + excluded.paid_count, \
                 error_count = settlement_counters.error_count + excluded.error_count, \
                 changes = settlement_counters.changes + excluded.changes, \
                 amount_units = settlement_counters.amount_units + excluded.amount_units, \
                 amount_micros = settlement_counters.amount_micros + excluded.amount_micros"
    );
    driver.execute(&sql, values).await?;
    Ok(())
}

/// Posts entries of distinct accounts or not, in one transaction.
pub(crate) async fn post_entries(driver: &mut Driver, entries: &[NewEntry]) -> Outcome<()> {
    driver.begin().await?;
    find_entries(driver, entries).await?;
    let mut sums: Vec<(&str, i32, i64, i64)> = Vec::new();
    let mut sorted: Vec<&NewEntry> = entries.iter().collect();
    sorted.sort_by(|one, other| (&one.account_id, one.available_day).cmp(&(&other.account_id, other.available_day)));
    for entry in &sorted {
        match sums.last_mut() {
            Some((account_id, day, amount, count))
                if *account_id == entry.account_id && *day == entry.available_day =>
            {
                *amount += entry.amount;
                *count += 1;
            }
            _ => sums.push((&entry.account_id, entry.available_day, entry.amount, 1)),
        }
    }
    read_sides(driver, &sums).await?;
    let accruals = add_to_accruals(driver, &sums).await?;
    insert_entries(driver, entries, &accruals).await?;
    driver.commit().await
}

async fn find_entries(driver: &mut Driver, entries: &[NewEntry]) -> Outcome<()> {
    let mut values = Vec::new();
    let mut keys: Vec<String> = entries.iter().map(|entry| entry.external_id.clone()).collect();
    keys.sort();
    let columns = vec![
        ("source", Column::Text(vec![String::new(); entries.len()])),
        ("external_id", Column::Text(keys)),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "SELECT known.id FROM (SELECT (SELECT e.id FROM entries e WHERE e.source = input.source \
             AND e.external_id = input.external_id) AS id FROM {input}) known WHERE known.id IS NOT NULL"
    );
    driver.fetch(&sql, values).await?;
    Ok(())
}

async fn read_sides(driver: &mut Driver, sums: &[(&str, i32, i64, i64)]) -> Outcome<()> {
    let mut values = Vec::new();
    let mut accounts: Vec<String> = sums.iter().map(|(account_id, ..)| (*account_id).to_owned()).collect();
    accounts.dedup();
    let currencies = vec![CURRENCY.to_owned(); accounts.len()];
    let columns = vec![
        ("account_id", Column::Text(accounts)),
        ("currency_code", Column::Text(currencies)),
    ];
    let input = driver.input(columns, &mut values);
    let open = "FROM accruals a WHERE a.account_id = input.account_id AND a.currency_code = input.currency_code \
        AND a.account_settlement_id IS NULL";
    let sql = format!(
        "SELECT input.account_id, input.currency_code, \
             CAST(coalesce((SELECT sum(a.amount) {open} AND a.amount > 0), 0) AS bigint) AS credits, \
             CAST(coalesce((SELECT sum(a.amount) {open} AND a.amount < 0), 0) AS bigint) AS debits \
         FROM {input}"
    );
    driver.fetch(&sql, values).await?;
    Ok(())
}

async fn add_to_accruals(driver: &mut Driver, sums: &[(&str, i32, i64, i64)]) -> Outcome<HashMap<(String, i32), Uuid>> {
    let mut values = vec![Value::BigInt(NOW)];
    let columns = vec![
        ("id", Column::Uuid(sums.iter().map(|_| Uuid::now_v7()).collect())),
        (
            "account_id",
            Column::Text(sums.iter().map(|(account_id, ..)| (*account_id).to_owned()).collect()),
        ),
        ("currency_code", Column::Text(vec![CURRENCY.to_owned(); sums.len()])),
        (
            "available_day",
            Column::Int(sums.iter().map(|(_, day, ..)| *day).collect()),
        ),
        ("debt", Column::Bool(vec![false; sums.len()])),
        (
            "amount",
            Column::BigInt(sums.iter().map(|(_, _, amount, _)| *amount).collect()),
        ),
        (
            "entry_count",
            Column::BigInt(sums.iter().map(|(_, _, _, count)| *count).collect()),
        ),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "INSERT INTO accruals (id, account_id, currency_code, available_day, debt, accepting, amount, entry_count, create_time) \
         SELECT input.id, input.account_id, input.currency_code, input.available_day, input.debt, TRUE, input.amount, \
             input.entry_count, $1 \
         FROM {input} WHERE TRUE ORDER BY input.position \
         ON CONFLICT (account_id, currency_code, available_day, debt) WHERE accepting \
         DO UPDATE SET amount = accruals.amount + excluded.amount, entry_count = accruals.entry_count + excluded.entry_count \
         RETURNING id, account_id, currency_code, available_day, debt"
    );
    let rows = driver.fetch(&sql, values).await?;
    rows.iter()
        .map(|row| Ok(((row.text(1)?, row.int(3)?), row.uuid(0)?)))
        .collect()
}

async fn insert_entries(
    driver: &mut Driver,
    entries: &[NewEntry],
    accruals: &HashMap<(String, i32), Uuid>,
) -> Outcome<()> {
    let mut values = vec![Value::BigInt(NOW), Value::Uuid(Uuid::nil())];
    let mut rows: Vec<&NewEntry> = entries.iter().collect();
    rows.sort_by(|one, other| one.external_id.cmp(&other.external_id));
    let mut accrual_ids = Vec::with_capacity(rows.len());
    for row in &rows {
        let key = (row.account_id.clone(), row.available_day);
        accrual_ids.push(*accruals.get(&key).ok_or("an accrual is missing")?);
    }
    let count = rows.len();
    let texts = |text: &str| Column::Text(vec![text.to_owned(); count]);
    let columns = vec![
        ("id", Column::Uuid(rows.iter().map(|_| Uuid::now_v7()).collect())),
        ("source", texts("")),
        (
            "external_id",
            Column::Text(rows.iter().map(|row| row.external_id.clone()).collect()),
        ),
        (
            "account_id",
            Column::Text(rows.iter().map(|row| row.account_id.clone()).collect()),
        ),
        ("currency_code", texts(CURRENCY)),
        ("amount", Column::BigInt(rows.iter().map(|row| row.amount).collect())),
        ("kind", texts("COMMISSION")),
        ("occur_time", Column::BigInt(vec![OCCUR_TIME; count])),
        (
            "available_day",
            Column::Int(rows.iter().map(|row| row.available_day).collect()),
        ),
        ("description", texts("")),
        ("reverses_entry_id", Column::Uuid(vec![Uuid::nil(); count])),
        ("accrual_id", Column::Uuid(accrual_ids)),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "INSERT INTO entries (id, source, external_id, account_id, currency_code, amount, kind, occur_time, available_day, \
             description, reverses_entry_id, accrual_id, create_time) \
         SELECT input.id, input.source, input.external_id, input.account_id, input.currency_code, input.amount, input.kind, \
             input.occur_time, input.available_day, input.description, NULLIF(input.reverses_entry_id, $2), input.accrual_id, $1 \
         FROM {input} WHERE TRUE ORDER BY input.position ON CONFLICT (source, external_id) DO NOTHING"
    );
    driver.execute(&sql, values).await?;
    Ok(())
}

/// Settles all that is open and due: the statements of a settle run without a filter.
pub(crate) async fn settle_all(driver: &mut Driver, through: i32) -> Outcome<usize> {
    close_all(driver, through).await?;
    if driver.is_postgres() {
        driver
            .script("BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            .await?;
        driver
            .fetch(
                "SELECT count(*) FROM (SELECT a.id FROM accruals a WHERE TRUE AND a.account_settlement_id IS NULL AND NOT a.accepting \
                 AND (a.debt OR a.available_day <= $1) \
                 ORDER BY a.account_id, a.currency_code, a.available_day, a.debt, a.id FOR UPDATE) locked",
                vec![Value::Int(through)],
            )
            .await?;
    } else {
        driver.begin().await?;
    }
    let payouts = list_balances(driver, through).await?;
    let settlement_id = Uuid::now_v7();
    driver
        .execute(
            "INSERT INTO settlements (id, note, available_through, skipped_count, actor, create_time, approval_required) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
            vec![
                Value::Uuid(settlement_id),
                Value::Text(String::new()),
                Value::Int(through),
                Value::BigInt(0),
                Value::Text(ACTOR.to_owned()),
                Value::BigInt(NOW),
                Value::Bool(false),
            ],
        )
        .await?;
    for batch in payouts.chunks(1000) {
        insert_payouts(driver, settlement_id, batch).await?;
        let ids: Vec<Uuid> = batch.iter().map(|payout| payout.id).collect();
        let (revisions, from) = (vec![1; ids.len()], vec![String::new(); ids.len()]);
        insert_status_changes(driver, &ids, revisions, from, "NEW").await?;
        claim(driver, batch, through).await?;
    }
    let count = i64::try_from(payouts.len())?;
    let change = Counts {
        new: count,
        changes: count,
        amount: payouts.iter().map(|payout| payout.amount).sum(),
        ..Counts::default()
    };
    write_counters(driver, settlement_id, &change).await?;
    driver.commit().await?;
    Ok(payouts.len())
}

async fn close_all(driver: &mut Driver, through: i32) -> Outcome<()> {
    let mut after: Option<String> = None;
    loop {
        driver.begin().await?;
        let (condition, mut values) = match &after {
            None => (String::new(), vec![Value::Int(through)]),
            Some(after) => (
                " AND a.account_id > $2".to_owned(),
                vec![Value::Int(through), Value::Text(after.clone())],
            ),
        };
        let sql = format!(
            "SELECT max(account_id) AS account_id FROM (SELECT DISTINCT a.account_id FROM accruals a WHERE TRUE AND a.accepting \
             AND (a.debt OR a.available_day <= $1){condition} ORDER BY a.account_id LIMIT 1000) some_accounts"
        );
        let rows = driver.fetch(&sql, values).await?;
        let Some(last) = rows.first().ok_or("no row")?.maybe_text(0)? else {
            return driver.commit().await;
        };
        values = vec![Value::Int(through)];
        values.extend(after.map(Value::Text));
        values.push(Value::Text(last.clone()));
        let sql = format!(
            "UPDATE accruals SET accepting = FALSE WHERE id IN (SELECT a.id FROM accruals a WHERE TRUE AND a.accepting \
             AND (a.debt OR a.available_day <= $1){condition} AND a.account_id <= ${} \
             ORDER BY a.account_id, a.currency_code, a.available_day, a.debt, a.id{})",
            values.len(),
            driver.for_update()
        );
        driver.execute(&sql, values).await?;
        driver.commit().await?;
        after = Some(last);
    }
}

async fn list_balances(driver: &mut Driver, through: i32) -> Outcome<Vec<Payout>> {
    let mut payouts: Vec<Payout> = Vec::new();
    loop {
        let mut values = vec![Value::Int(through)];
        let mut condition = String::new();
        if let Some(last) = payouts.last() {
            values.push(Value::Text(last.account_id.clone()));
            values.push(Value::Text(last.currency_code.clone()));
            condition.push_str(" AND (a.account_id, a.currency_code) > ($2, $3)");
        }
        let open = "a.account_settlement_id IS NULL";
        let claimable = "a.account_settlement_id IS NULL AND NOT a.accepting";
        let due = "(a.debt OR a.available_day <= $1)";
        let method = "FROM payment_methods m WHERE m.account_id = b.account_id AND m.currency_code = b.currency_code AND m.is_default";
        let sql = format!(
            "SELECT b.*, (SELECT h.id FROM payout_holds h WHERE h.account_id = b.account_id AND h.release_time IS NULL) IS NOT NULL AS on_hold, \
         (SELECT d.version_id FROM billing_details d WHERE d.account_id = b.account_id) AS billing_details_version_id, \
         (SELECT m.version_id {method}) AS method_version_id, (SELECT m.type_id {method}) AS method_type_id, \
         (SELECT p.payable FROM payees p WHERE p.id = (SELECT m.payee_id {method} AND m.payee_version_id = m.version_id)) \
             AS payee_payable, CAST(NULL AS bigint) AS destination_time FROM ( \
            SELECT a.account_id, a.currency_code, \
                CAST(coalesce(sum(CASE WHEN {claimable} AND {due} THEN a.amount END), 0) AS bigint) AS open_amount, \
                CAST(coalesce(sum(CASE WHEN {open} AND NOT {due} THEN a.amount END), 0) AS bigint) AS pending_amount, \
                CAST(coalesce(sum(CASE WHEN {open} THEN a.entry_count END), 0) AS bigint) AS entry_count, \
                CAST(count(CASE WHEN {claimable} AND {due} THEN 1 END) AS bigint) AS open_accrual_count, \
                max(CASE WHEN {claimable} AND {due} AND NOT a.debt THEN a.available_day END) AS last_open_day \
            FROM accruals a WHERE TRUE{condition} AND {open} \
            GROUP BY a.account_id, a.currency_code ORDER BY a.account_id, a.currency_code LIMIT 1000 \
         ) b ORDER BY b.account_id, b.currency_code"
        );
        let rows = driver.fetch(&sql, values).await?;
        if rows.is_empty() {
            return Ok(payouts);
        }
        for row in rows {
            payouts.push(Payout {
                id: Uuid::now_v7(),
                account_id: row.text(0)?,
                currency_code: row.text(1)?,
                amount: row.bigint(2)?,
                billing_details_version_id: row.uuid(8)?,
                payment_method_version_id: row.uuid(9)?,
            });
        }
    }
}

async fn insert_payouts(driver: &mut Driver, settlement_id: Uuid, payouts: &[Payout]) -> Outcome<()> {
    let mut values = vec![
        Value::Uuid(settlement_id),
        Value::BigInt(NOW),
        Value::Text("NEW".to_owned()),
    ];
    let uuids = |of: fn(&Payout) -> Uuid| Column::Uuid(payouts.iter().map(of).collect());
    let columns = vec![
        ("id", uuids(|payout| payout.id)),
        (
            "account_id",
            Column::Text(payouts.iter().map(|payout| payout.account_id.clone()).collect()),
        ),
        ("currency_code", Column::Text(vec![CURRENCY.to_owned(); payouts.len()])),
        (
            "amount",
            Column::BigInt(payouts.iter().map(|payout| payout.amount).collect()),
        ),
        ("decimals", Column::Int(vec![2; payouts.len()])),
        (
            "payment_method_version_id",
            uuids(|payout| payout.payment_method_version_id),
        ),
        (
            "billing_details_version_id",
            uuids(|payout| payout.billing_details_version_id),
        ),
        ("provider", Column::Text(vec![String::new(); payouts.len()])),
    ];
    let input = driver.input(columns, &mut values);
    let sql = format!(
        "INSERT INTO account_settlements (id, settlement_id, account_id, currency_code, amount, decimals, status, \
             payment_method_version_id, billing_details_version_id, payment_reference, provider, revision, create_time, update_time) \
         SELECT input.id, $1, input.account_id, input.currency_code, input.amount, input.decimals, $3, \
             input.payment_method_version_id, input.billing_details_version_id, '', NULLIF(input.provider, ''), 1, $2, $2 \
         FROM {input}"
    );
    driver.execute(&sql, values).await?;
    Ok(())
}

async fn claim(driver: &mut Driver, payouts: &[Payout], through: i32) -> Outcome<()> {
    let mut values = vec![Value::Int(through)];
    let columns = vec![
        (
            "account_id",
            Column::Text(payouts.iter().map(|payout| payout.account_id.clone()).collect()),
        ),
        ("currency_code", Column::Text(vec![CURRENCY.to_owned(); payouts.len()])),
        (
            "account_settlement_id",
            Column::Uuid(payouts.iter().map(|payout| payout.id).collect()),
        ),
    ];
    let input = driver.input(columns, &mut values);
    let condition = "a.account_id = input.account_id AND a.currency_code = input.currency_code \
    AND a.account_settlement_id IS NULL AND NOT a.accepting AND (a.debt OR a.available_day <= $1)";
    let claimable = if driver.is_postgres() {
        format!("CROSS JOIN LATERAL (SELECT a.id FROM accruals a WHERE {condition} OFFSET 0) AS a")
    } else {
        format!("JOIN accruals AS a ON {condition}")
    };
    let sql = format!(
        "UPDATE accruals SET account_settlement_id = found.account_settlement_id \
         FROM (SELECT a.id, input.account_settlement_id FROM {input} {claimable}) AS found WHERE accruals.id = found.id"
    );
    driver.execute(&sql, values).await?;
    Ok(())
}
