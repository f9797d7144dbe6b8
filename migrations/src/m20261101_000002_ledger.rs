//! The ledger: entries, which never change, and accruals, which are what a settlement claims.

use crate::dialect::SchemaMigration;

// accruals.amount and entries.amount are millionths of the currency unit.
// accruals.debt: money taken back, which counts whatever the cut-off.
// accruals.accepting: whether entries may still be added; a settlement claims only those that no longer accept any.
pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "m20261101_000002_ledger",
    schema: r"
CREATE TABLE accruals (
    id {uuid} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL,
    currency_code {text} NOT NULL,
    available_day {int} NOT NULL,
    debt {bool} NOT NULL,
    accepting {bool} NOT NULL,
    amount {bigint} NOT NULL,
    entry_count {bigint} NOT NULL CHECK (entry_count >= 0),
    account_settlement_id {uuid},
    create_time {bigint} NOT NULL,
    CHECK (account_settlement_id IS NULL OR NOT accepting),
    CHECK (NOT debt OR amount <= 0)
) {strict};
CREATE UNIQUE INDEX accruals_one_accepting ON accruals (account_id, currency_code, available_day, debt) WHERE accepting;
CREATE INDEX accruals_open ON accruals (account_id, currency_code, available_day, debt, id) WHERE account_settlement_id IS NULL;
CREATE INDEX accruals_by_account ON accruals (account_id, currency_code);
CREATE INDEX accruals_by_account_settlement ON accruals (account_settlement_id) WHERE account_settlement_id IS NOT NULL;

CREATE TABLE entries (
    id {uuid} NOT NULL PRIMARY KEY,
    source {text} NOT NULL,
    external_id {text} NOT NULL,
    account_id {text} NOT NULL,
    currency_code {text} NOT NULL,
    amount {bigint} NOT NULL CHECK (amount <> 0),
    kind {text} NOT NULL CHECK (kind IN ('COMMISSION', 'BONUS', 'ADJUSTMENT', 'CLAWBACK', 'CARRY_FORWARD')),
    occur_time {bigint} NOT NULL,
    available_day {int} NOT NULL,
    description {text} NOT NULL,
    reverses_entry_id {uuid},
    accrual_id {uuid} NOT NULL REFERENCES accruals (id),
    create_time {bigint} NOT NULL,
    CHECK (kind NOT IN ('COMMISSION', 'BONUS') OR amount > 0),
    CHECK (kind <> 'CLAWBACK' OR amount < 0),
    CHECK ((kind = 'CLAWBACK') = (reverses_entry_id IS NOT NULL))
) {strict};
CREATE UNIQUE INDEX entries_by_external_id ON entries (source, external_id);
CREATE INDEX entries_by_account ON entries (account_id, id);
CREATE INDEX entries_by_accrual ON entries (accrual_id, id);
CREATE INDEX entries_by_reversed_entry ON entries (reverses_entry_id) WHERE reverses_entry_id IS NOT NULL
",
};
