//! Settlements, account settlements, their histories, and what a run left out.

use crate::dialect::SchemaMigration;

// settlement_counters.changes: how many changes of rows were counted; the settlement's etag is made of it.
// settlement_counters: several rows (shards) a settlement and currency, whose sums count, so that bulk streams on one
// settlement do not queue at one row. Sums over accounts may exceed 64 bits of millionths: units and millionths apart.
pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "m20261101_000003_settlements",
    schema: r"
CREATE TABLE settlements (
    id {uuid} NOT NULL PRIMARY KEY,
    note {text} NOT NULL,
    available_through {int} NOT NULL,
    skipped_count {bigint} NOT NULL,
    actor {text} NOT NULL,
    create_time {bigint} NOT NULL,
    delete_time {bigint},
    delete_actor {text}
) {strict};

CREATE TABLE account_settlements (
    id {uuid} NOT NULL PRIMARY KEY,
    settlement_id {uuid} NOT NULL REFERENCES settlements (id),
    account_id {text} NOT NULL,
    currency_code {text} NOT NULL,
    amount {bigint} NOT NULL CHECK (amount > 0),
    decimals {int} NOT NULL CHECK (decimals BETWEEN 0 AND 6),
    status {text} NOT NULL CHECK (status IN ('NEW', 'IN_PROGRESS', 'PAID', 'ERROR')),
    payment_method_version_id {uuid} NOT NULL,
    billing_details_version_id {uuid} NOT NULL,
    payment_reference {text} NOT NULL,
    paid_time {bigint},
    provider {text} CHECK (provider <> ''),
    provider_reference {text},
    provider_raw_status {text},
    provider_error_code {text},
    provider_error_message {text},
    provider_final {bool} NOT NULL DEFAULT {false},
    revision {bigint} NOT NULL,
    create_time {bigint} NOT NULL,
    update_time {bigint} NOT NULL,
    delete_time {bigint},
    delete_actor {text},
    CHECK (status = 'PAID' OR (paid_time IS NULL AND payment_reference = '')),
    CHECK (status <> 'ERROR' OR provider IS NOT NULL),
    FOREIGN KEY (account_id, payment_method_version_id) REFERENCES payment_method_versions (account_id, id),
    FOREIGN KEY (account_id, billing_details_version_id) REFERENCES billing_details_versions (account_id, id)
) {strict};
CREATE INDEX account_settlements_by_settlement ON account_settlements (settlement_id, id);
CREATE INDEX account_settlements_by_status ON account_settlements (status, settlement_id, id) WHERE delete_time IS NULL;
CREATE INDEX account_settlements_by_account ON account_settlements (account_id, id);

CREATE TABLE settlement_counters (
    settlement_id {uuid} NOT NULL REFERENCES settlements (id),
    currency_code {text} NOT NULL,
    shard {int} NOT NULL,
    new_count {bigint} NOT NULL,
    in_progress_count {bigint} NOT NULL,
    paid_count {bigint} NOT NULL,
    error_count {bigint} NOT NULL,
    changes {bigint} NOT NULL,
    amount_units {bigint} NOT NULL,
    amount_micros {bigint} NOT NULL,
    PRIMARY KEY (settlement_id, currency_code, shard)
) {strict};

CREATE TABLE status_changes (
    account_settlement_id {uuid} NOT NULL REFERENCES account_settlements (id),
    revision {bigint} NOT NULL,
    from_status {text} CHECK (from_status IN ('NEW', 'IN_PROGRESS', 'PAID', 'ERROR')),
    to_status {text} NOT NULL CHECK (to_status IN ('NEW', 'IN_PROGRESS', 'PAID', 'ERROR')),
    by_system {bool} NOT NULL,
    actor {text} NOT NULL,
    reason {text} NOT NULL,
    payment_reference {text} NOT NULL,
    request_id {text} NOT NULL,
    change_time {bigint} NOT NULL,
    PRIMARY KEY (account_settlement_id, revision)
) {strict};

CREATE TABLE released_accruals (
    account_settlement_id {uuid} NOT NULL REFERENCES account_settlements (id),
    accrual_id {uuid} NOT NULL REFERENCES accruals (id),
    amount {bigint} NOT NULL,
    entry_count {bigint} NOT NULL,
    release_time {bigint} NOT NULL,
    PRIMARY KEY (account_settlement_id, accrual_id)
) {strict};

CREATE TABLE skipped_accounts (
    settlement_id {uuid} NOT NULL REFERENCES settlements (id),
    position {bigint} NOT NULL,
    account_id {text} NOT NULL,
    currency_code {text} NOT NULL,
    reason {text} NOT NULL,
    amount {bigint},
    PRIMARY KEY (settlement_id, position)
) {strict}
",
};
