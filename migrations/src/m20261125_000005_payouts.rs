//! Payouts by providers: what was sent, what the provider said of it by itself, whom it can pay, and what contradicts what was
//! done.

use crate::dialect::SchemaMigration;

// account_settlements.provider_*: the provider's word that stands, with what orders it among the others; and beside it the
// newest word whose status is not known, and the time of the newest that said it is under way: one that is newer than a final
// failure puts that in doubt. provider_revision counts changes of these alone; the row's etag has it.
// payouts: one row an account settlement from the first intent to send it on. Its state says what is known at the provider:
// UNSENT surely nothing, UNKNOWN perhaps something (look it up before anything is sent), KNOWN the payment, DONE its end.
// payouts.attempt_count: how often it was sent from here; 0 where the provider spoke of it first.
// payouts.claimed_until: until then somebody else is at it.
// payees: by a keyed hash of the provider's id of the payee, which itself is sealed in the payment methods' details.
// payment_methods.payee_version_id: the version that payee_id is of; a version of the service before this one changes the
// details without it.
// provider_events.sealed: the event's body without names and bank data.
pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "m20261125_000005_payouts",
    schema: r"
ALTER TABLE account_settlements ADD COLUMN provider_event_time {bigint};
ALTER TABLE account_settlements ADD COLUMN provider_rank {int};
ALTER TABLE account_settlements ADD COLUMN provider_revision {bigint} NOT NULL DEFAULT 0;
ALTER TABLE account_settlements ADD COLUMN provider_unmapped_status {text};
ALTER TABLE account_settlements ADD COLUMN provider_unmapped_time {bigint};
ALTER TABLE account_settlements ADD COLUMN provider_under_way_time {bigint};

CREATE TABLE payouts (
    account_settlement_id {uuid} NOT NULL PRIMARY KEY REFERENCES account_settlements (id),
    provider {text} NOT NULL CHECK (provider <> ''),
    state {text} NOT NULL CHECK (state IN ('UNSENT', 'UNKNOWN', 'KNOWN', 'DONE')),
    batch_id {uuid} NOT NULL,
    attempt_count {bigint} NOT NULL CHECK (attempt_count >= 0),
    attempt_time {bigint} NOT NULL,
    check_count {bigint} NOT NULL,
    next_time {bigint} NOT NULL,
    claimed_until {bigint} NOT NULL,
    create_time {bigint} NOT NULL,
    update_time {bigint} NOT NULL,
    CHECK (attempt_count > 0 OR state IN ('KNOWN', 'DONE'))
) {strict};
CREATE INDEX payouts_due ON payouts (provider, next_time, account_settlement_id) WHERE state <> 'DONE';

CREATE TABLE provider_events (
    provider {text} NOT NULL,
    event_id {text} NOT NULL,
    event_type {text} NOT NULL,
    is_test {bool} NOT NULL,
    created_time {bigint},
    receive_time {bigint} NOT NULL,
    key_id {text} NOT NULL,
    sealed {bytes} NOT NULL,
    PRIMARY KEY (provider, event_id)
) {strict};
CREATE INDEX provider_events_by_time ON provider_events (provider, receive_time, event_id);

CREATE TABLE provider_event_words (
    provider {text} NOT NULL,
    event_id {text} NOT NULL,
    position {int} NOT NULL,
    ref_code {text} NOT NULL,
    account_settlement_id {uuid},
    raw_status {text} NOT NULL,
    outcome {text} NOT NULL CHECK (outcome IN ('STORED', 'APPLIED', 'STALE', 'UNMAPPED', 'NO_ROW', 'CONTRADICTION')),
    outcome_time {bigint} NOT NULL,
    PRIMARY KEY (provider, event_id, position),
    FOREIGN KEY (provider, event_id) REFERENCES provider_events (provider, event_id)
) {strict};
CREATE INDEX provider_event_words_waiting ON provider_event_words (provider, outcome, outcome_time, event_id)
    WHERE outcome IN ('STORED', 'UNMAPPED', 'NO_ROW');
CREATE INDEX provider_event_words_contradicting ON provider_event_words (provider, event_id) WHERE outcome = 'CONTRADICTION';
CREATE INDEX provider_event_words_by_row ON provider_event_words (account_settlement_id, event_id)
    WHERE account_settlement_id IS NOT NULL;

CREATE TABLE payees (
    id {uuid} NOT NULL PRIMARY KEY,
    provider {text} NOT NULL CHECK (provider <> ''),
    hash_key_id {text} NOT NULL,
    hash {bytes} NOT NULL,
    payable {bool},
    raw_status {text} NOT NULL,
    reason {text} NOT NULL,
    event_time {bigint},
    check_count {bigint} NOT NULL,
    next_time {bigint},
    create_time {bigint} NOT NULL,
    update_time {bigint} NOT NULL
) {strict};
CREATE UNIQUE INDEX payees_by_hash ON payees (provider, hash_key_id, hash);
CREATE INDEX payees_due ON payees (provider, next_time, id) WHERE next_time IS NOT NULL;

ALTER TABLE payment_methods ADD COLUMN payee_id {uuid} REFERENCES payees (id);
ALTER TABLE payment_methods ADD COLUMN payee_version_id {uuid};
CREATE INDEX payment_methods_by_payee ON payment_methods (payee_id) WHERE payee_id IS NOT NULL;

CREATE TABLE payout_alarms (
    id {uuid} NOT NULL PRIMARY KEY,
    account_settlement_id {uuid} NOT NULL REFERENCES account_settlements (id),
    provider {text} NOT NULL,
    raw_status {text} NOT NULL,
    event_time {bigint} NOT NULL,
    was_deleted {bool} NOT NULL,
    origin {text} NOT NULL,
    create_time {bigint} NOT NULL
) {strict};
CREATE UNIQUE INDEX payout_alarms_one_a_word ON payout_alarms (account_settlement_id, raw_status, event_time)
",
};
