//! The invariants of the ledger as queries: each finds the keys of the rows that break one, and counts what it looked at.
//!
//! All run in one snapshot. They group in the database, so that memory does not grow with the ledger.

use sea_orm::FromQueryResult;

use super::Tx;
use super::account_settlements::is_final_by_provider;
use super::settlements::awaits_approval;
use crate::domain::error::Result;

/// One check: what it is, over how many rows, and the keys that break it (the first of them, and how many).
#[derive(Debug, Clone)]
pub struct Check {
    /// Number in the list of invariants.
    pub invariant: u8,
    /// What must hold.
    pub rule: &'static str,
    /// What was counted, such as `entries`.
    pub counted: &'static str,
    /// How many of it there are.
    pub count: i64,
    /// Rows that break the rule.
    pub broken_count: i64,
    /// The first keys of such rows.
    pub broken: Vec<String>,
}

/// A check to run: its statement answers the key of each offending row as `key`.
struct Rule {
    invariant: u8,
    rule: &'static str,
    counted: &'static str,
    offending: &'static str,
}

#[derive(FromQueryResult)]
struct Key {
    key: String,
}

#[derive(FromQueryResult)]
struct Count {
    count: i64,
}

/// Keys of offending rows that are told of each rule.
const MAX_KEYS: usize = 20;

/// `hi` and `lo` split a 64-bit amount, so that sums over any number of rows fit: amount = hi * 2^32 + lo.
const RULES: [Rule; 25] = [
    Rule {
        invariant: 1,
        rule: "money is conserved: the entries of an account and currency come to its accruals, open and claimed",
        counted: "entries",
        offending: "SELECT account_id || ' ' || currency_code AS key FROM ( \
            SELECT account_id, currency_code, amount >> 32 AS hi, amount & 4294967295 AS lo FROM entries \
            UNION ALL SELECT account_id, currency_code, -(amount >> 32), -(amount & 4294967295) FROM accruals) both_sides \
            GROUP BY account_id, currency_code HAVING sum(hi) * 4294967296 + sum(lo) <> 0",
    },
    Rule {
        invariant: 2,
        rule: "an accrual's amount and count are those of its entries, which have its account and currency",
        counted: "accruals",
        offending: "SELECT CAST({a.id} AS text) AS key FROM accruals a LEFT JOIN ( \
                SELECT accrual_id, count(*) AS entry_count, sum(amount) AS amount, min(account_id) AS first_account, \
                    max(account_id) AS last_account, min(currency_code) AS first_currency, max(currency_code) AS last_currency \
                FROM entries GROUP BY accrual_id) e ON e.accrual_id = a.id \
            WHERE coalesce(e.entry_count, 0) <> a.entry_count OR coalesce(e.amount, 0) <> a.amount \
                OR e.first_account <> a.account_id OR e.last_account <> a.account_id \
                OR e.first_currency <> a.currency_code OR e.last_currency <> a.currency_code",
    },
    Rule {
        invariant: 2,
        rule: "an accrual becomes available with its entries: debts are taken back, and all else counts from its own day on",
        counted: "entries",
        offending: "SELECT CAST({e.id} AS text) AS key FROM entries e JOIN accruals a ON a.id = e.accrual_id \
            WHERE (a.debt AND e.amount > 0) OR (e.amount > 0 AND a.available_day <> e.available_day)",
    },
    Rule {
        invariant: 2,
        rule: "every entry belongs to an accrual",
        counted: "entries",
        offending: "SELECT CAST({e.id} AS text) AS key FROM entries e LEFT JOIN accruals a ON a.id = e.accrual_id WHERE a.id IS NULL",
    },
    Rule {
        invariant: 2,
        rule: "a claimed accrual is claimed by a live account settlement of its account and currency, and accepts no entries",
        counted: "accruals",
        offending: "SELECT CAST({a.id} AS text) AS key FROM accruals a LEFT JOIN account_settlements s ON s.id = a.account_settlement_id \
            WHERE a.account_settlement_id IS NOT NULL AND (s.id IS NULL OR s.delete_time IS NOT NULL \
                OR s.account_id <> a.account_id OR s.currency_code <> a.currency_code OR a.accepting)",
    },
    Rule {
        invariant: 3,
        rule: "a live account settlement's amount is the sum of its accruals, and positive",
        counted: "account_settlements",
        offending: "SELECT CAST({s.id} AS text) AS key FROM account_settlements s LEFT JOIN ( \
                SELECT account_settlement_id, sum(amount) AS amount FROM accruals \
                WHERE account_settlement_id IS NOT NULL GROUP BY account_settlement_id) a ON a.account_settlement_id = s.id \
            WHERE s.delete_time IS NULL AND (coalesce(a.amount, 0) <> s.amount OR s.amount <= 0)",
    },
    Rule {
        invariant: 3,
        rule: "an account settlement's amount has its stored scale",
        counted: "account_settlements",
        offending: "SELECT CAST({s.id} AS text) AS key FROM account_settlements s \
            WHERE s.amount % (CASE s.decimals WHEN 0 THEN 1000000 WHEN 1 THEN 100000 WHEN 2 THEN 10000 WHEN 3 THEN 1000 \
                WHEN 4 THEN 100 WHEN 5 THEN 10 ELSE 1 END) <> 0",
    },
    Rule {
        invariant: 3,
        rule: "a deleted account settlement holds nothing, and its record says what it held",
        counted: "account_settlements",
        offending: "SELECT CAST({s.id} AS text) AS key FROM account_settlements s LEFT JOIN ( \
                SELECT account_settlement_id, sum(amount) AS amount FROM released_accruals GROUP BY account_settlement_id) r \
                ON r.account_settlement_id = s.id \
            WHERE (s.delete_time IS NOT NULL AND coalesce(r.amount, 0) <> s.amount) OR (s.delete_time IS NULL AND r.amount IS NOT NULL)",
    },
    Rule {
        invariant: 3,
        rule: "what a deleted account settlement held is as it was",
        counted: "released_accruals",
        offending: "SELECT CAST({r.accrual_id} AS text) AS key FROM released_accruals r LEFT JOIN accruals a ON a.id = r.accrual_id \
            WHERE a.id IS NULL OR a.amount <> r.amount OR a.entry_count <> r.entry_count OR a.accepting",
    },
    Rule {
        invariant: 4,
        rule: "a settlement's counters and totals are those of its rows",
        counted: "settlements",
        offending: "SELECT CAST({x.settlement_id} AS text) || ' ' || x.currency_code AS key FROM ( \
                SELECT settlement_id, currency_code, new_count, in_progress_count, paid_count, error_count, \
                    amount_units AS units, amount_micros AS micros FROM settlement_counters \
                UNION ALL SELECT settlement_id, currency_code, -(CASE status WHEN 'NEW' THEN 1 ELSE 0 END), \
                    -(CASE status WHEN 'IN_PROGRESS' THEN 1 ELSE 0 END), -(CASE status WHEN 'PAID' THEN 1 ELSE 0 END), \
                    -(CASE status WHEN 'ERROR' THEN 1 ELSE 0 END), -(amount / 1000000), -(amount % 1000000) \
                FROM account_settlements WHERE delete_time IS NULL) x \
            GROUP BY x.settlement_id, x.currency_code \
            HAVING sum(new_count) <> 0 OR sum(in_progress_count) <> 0 OR sum(paid_count) <> 0 OR sum(error_count) <> 0 \
                OR sum(units) * 1000000 + sum(micros) <> 0",
    },
    Rule {
        invariant: 4,
        rule: "a settlement's skipped count is that of its skipped accounts",
        counted: "skipped_accounts",
        offending: "SELECT CAST({s.id} AS text) AS key FROM settlements s LEFT JOIN ( \
                SELECT settlement_id, count(*) AS skipped_count FROM skipped_accounts GROUP BY settlement_id) k ON k.settlement_id = s.id \
            WHERE coalesce(k.skipped_count, 0) <> s.skipped_count",
    },
    Rule {
        invariant: 4,
        rule: "a deleted settlement has no live rows",
        counted: "settlements",
        offending: "SELECT DISTINCT CAST({s.id} AS text) AS key FROM settlements s JOIN account_settlements r ON r.settlement_id = s.id \
            WHERE s.delete_time IS NOT NULL AND r.delete_time IS NULL",
    },
    Rule {
        invariant: 5,
        rule: "the last status change of a row is its status",
        counted: "account_settlements",
        offending: "SELECT CAST({s.id} AS text) AS key FROM account_settlements s WHERE s.status <> coalesce(( \
            SELECT c.to_status FROM status_changes c WHERE c.account_settlement_id = s.id ORDER BY c.revision DESC LIMIT 1), '')",
    },
    Rule {
        invariant: 5,
        rule: "each status change starts where the one before it ended, the first one with the creation in NEW",
        counted: "status_changes",
        offending: "SELECT CAST({c.account_settlement_id} AS text) || ' ' || CAST(c.revision AS text) AS key FROM ( \
                SELECT account_settlement_id, revision, from_status, to_status, \
                    lag(to_status) OVER (PARTITION BY account_settlement_id ORDER BY revision) AS status_before, \
                    lag(revision) OVER (PARTITION BY account_settlement_id ORDER BY revision) AS revision_before \
                FROM status_changes) c \
            WHERE coalesce(c.from_status, '') <> coalesce(c.status_before, '') OR (c.from_status IS NULL AND c.to_status <> 'NEW') \
                OR c.revision <> coalesce(c.revision_before, 0) + 1",
    },
    Rule {
        invariant: 5,
        rule: "every change of a row is in its history: its status changes, and its deletion",
        counted: "account_settlements",
        offending: "SELECT CAST({s.id} AS text) AS key FROM account_settlements s \
            WHERE s.revision - (CASE WHEN s.delete_time IS NULL THEN 0 ELSE 1 END) <> ( \
                SELECT count(*) FROM status_changes c WHERE c.account_settlement_id = s.id)",
    },
    Rule {
        invariant: 5,
        rule: "rows of a provider were never changed by hand",
        counted: "status_changes",
        offending: "SELECT DISTINCT CAST({c.account_settlement_id} AS text) AS key FROM status_changes c \
            JOIN account_settlements s ON s.id = c.account_settlement_id \
            WHERE s.provider IS NOT NULL AND c.revision > 1 AND NOT c.by_system",
    },
    Rule {
        invariant: 5,
        rule: "a row of a provider leaves NEW only with what is known of it there",
        counted: "account_settlements",
        offending: "SELECT CAST({s.id} AS text) AS key FROM account_settlements s LEFT JOIN payouts p ON p.account_settlement_id = s.id \
            WHERE (s.provider IS NOT NULL AND s.status <> 'NEW' AND p.account_settlement_id IS NULL) \
                OR (p.account_settlement_id IS NOT NULL AND (s.status = 'NEW' OR coalesce(s.provider, '') <> p.provider))",
    },
    Rule {
        invariant: 5,
        rule: "a row of a provider is paid or failed by the provider's word alone",
        counted: "account_settlements",
        offending: "SELECT CAST({s.id} AS text) AS key FROM account_settlements s \
            WHERE s.provider IS NOT NULL AND s.status IN ('PAID', 'ERROR') AND s.provider_raw_status IS NULL",
    },
    Rule {
        invariant: 5,
        rule: "a payout is done when the provider's word is its last, and nothing puts it in doubt",
        counted: "payouts",
        offending: concat!(
            "SELECT CAST({p.account_settlement_id} AS text) AS key FROM payouts p \
             JOIN account_settlements s ON s.id = p.account_settlement_id WHERE (p.state = 'DONE') <> ",
            is_final_by_provider!()
        ),
    },
    Rule {
        invariant: 5,
        rule: "money that may have been sent is let go on the provider's last word alone, that it was not paid",
        counted: "payouts",
        offending: "SELECT CAST({p.account_settlement_id} AS text) AS key FROM payouts p \
            JOIN account_settlements s ON s.id = p.account_settlement_id \
            WHERE s.delete_time IS NOT NULL AND (p.state <> 'DONE' OR s.status <> 'ERROR')",
    },
    Rule {
        invariant: 5,
        rule: "the rows of a settlement that awaits approval are all in NEW",
        counted: "account_settlements",
        offending: concat!(
            "SELECT CAST({s.id} AS text) AS key FROM account_settlements s WHERE s.delete_time IS NULL AND s.status <> 'NEW' AND ",
            awaits_approval!()
        ),
    },
    Rule {
        invariant: 5,
        rule: "a settlement's counters let its rows leave NEW when it needs no approval or has it, by another than who made it",
        counted: "settlements",
        offending: "SELECT DISTINCT CAST({s.id} AS text) AS key FROM settlements s JOIN settlement_counters c ON c.settlement_id = s.id \
            WHERE c.approved <> (NOT s.approval_required OR s.approve_time IS NOT NULL) OR coalesce(s.approver = s.actor, FALSE)",
    },
    Rule {
        invariant: 6,
        rule: "carried remainders come in pairs that sum to zero",
        counted: "entries",
        offending: "SELECT key FROM (SELECT CASE WHEN external_id LIKE '%/out' THEN substr(external_id, 1, length(external_id) - 4) \
                ELSE substr(external_id, 1, length(external_id) - 3) END AS key, amount \
                FROM entries WHERE kind = 'CARRY_FORWARD') pairs GROUP BY key HAVING count(*) <> 2 OR sum(amount) <> 0",
    },
    Rule {
        invariant: 6,
        rule: "the clawbacks of an entry come to at most its amount, and have its account and currency",
        counted: "entries",
        offending: "SELECT CAST({e.id} AS text) AS key FROM entries e JOIN ( \
                SELECT reverses_entry_id, sum(amount) AS amount, min(account_id) AS first_account, max(account_id) AS last_account, \
                    min(currency_code) AS first_currency, max(currency_code) AS last_currency \
                FROM entries WHERE reverses_entry_id IS NOT NULL GROUP BY reverses_entry_id) c ON c.reverses_entry_id = e.id \
            WHERE e.amount + c.amount < 0 OR c.first_account <> e.account_id OR c.last_account <> e.account_id \
                OR c.first_currency <> e.currency_code OR c.last_currency <> e.currency_code",
    },
    Rule {
        invariant: 6,
        rule: "every clawback names an entry that is there",
        counted: "entries",
        offending: "SELECT CAST({c.id} AS text) AS key FROM entries c LEFT JOIN entries e ON e.id = c.reverses_entry_id \
            WHERE c.reverses_entry_id IS NOT NULL AND e.id IS NULL",
    },
];

/// Runs every check in the snapshot of a transaction.
pub(crate) async fn check_all(tx: &Tx) -> Result<Vec<Check>> {
    let mut checks = Vec::with_capacity(RULES.len());
    for rule in &RULES {
        checks.push(check(tx, rule).await?);
    }
    Ok(checks)
}

async fn check(tx: &Tx, rule: &Rule) -> Result<Check> {
    let count: Count = tx
        .fetch_one(&format!("SELECT count(*) AS count FROM {}", rule.counted), vec![])
        .await?;
    let offending = readable_ids(tx, rule.offending);
    let broken: Count = tx
        .fetch_one(
            &format!("SELECT count(*) AS count FROM ({offending}) offending"),
            vec![],
        )
        .await?;
    let broken_keys: Vec<Key> = if broken.count == 0 {
        Vec::new()
    } else {
        tx.fetch_all(
            &format!("SELECT key FROM ({offending}) offending ORDER BY key LIMIT {MAX_KEYS}"),
            vec![],
        )
        .await?
    };
    Ok(Check {
        invariant: rule.invariant,
        rule: rule.rule,
        counted: rule.counted,
        count: count.count,
        broken_count: broken.count,
        broken: broken_keys.into_iter().map(|row| row.key).collect(),
    })
}

/// Writes `{id}` columns as text: SQLite keeps UUIDs as bytes.
fn readable_ids(tx: &Tx, sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let (column, following) = after.split_once('}').unwrap_or((after, ""));
        match tx.backend {
            super::Backend::Postgres => text.push_str(column),
            super::Backend::Sqlite => text.push_str(&uuid_text(column)),
        }
        rest = following;
    }
    text.push_str(rest);
    text
}

/// A UUID that is kept as bytes, in its hyphenated form.
fn uuid_text(column: &str) -> String {
    let parts = [(1, 8), (9, 4), (13, 4), (17, 4), (21, 12)];
    let parts: Vec<String> = parts
        .iter()
        .map(|(start, length)| format!("substr(lower(hex({column})), {start}, {length})"))
        .collect();
    format!("({})", parts.join(" || '-' || "))
}
