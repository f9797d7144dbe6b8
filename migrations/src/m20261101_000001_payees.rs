//! Who accounts are and how they are paid: billing details, payment method types, payment methods.
//!
//! Details are sealed, and kept as versions that never change: an account settlement refers to the versions that it was made
//! with, so that making one copies nothing.

use crate::dialect::SchemaMigration;

// Versions are referred to by (account_id, id): the deletion of one then looks for what refers to it in the rows of its
// account alone, which an index finds, and not in the whole history of payouts.
pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "m20261101_000001_payees",
    schema: r"
CREATE TABLE billing_details_versions (
    id {uuid} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL,
    key_id {text} NOT NULL,
    sealed {bytes} NOT NULL,
    actor {text} NOT NULL,
    create_time {bigint} NOT NULL
) {strict};
CREATE UNIQUE INDEX billing_details_versions_by_account ON billing_details_versions (account_id, id);

CREATE TABLE billing_details (
    account_id {text} NOT NULL PRIMARY KEY,
    version_id {uuid} NOT NULL,
    create_time {bigint} NOT NULL,
    update_time {bigint} NOT NULL,
    FOREIGN KEY (account_id, version_id) REFERENCES billing_details_versions (account_id, id)
) {strict};

CREATE TABLE payment_method_types (
    id {text} NOT NULL PRIMARY KEY,
    built_in {bool} NOT NULL,
    display_name {text} NOT NULL,
    enabled {bool} NOT NULL,
    currency_codes {text} NOT NULL,
    minimum_payouts {text} NOT NULL,
    fields {text} NOT NULL,
    revision {bigint} NOT NULL,
    create_time {bigint} NOT NULL,
    update_time {bigint} NOT NULL
) {strict};
INSERT INTO payment_method_types
    (id, built_in, display_name, enabled, currency_codes, minimum_payouts, fields, revision, create_time, update_time)
VALUES
    ('bank_transfer', {true}, 'Bank transfer', {true}, '[]', '[]', '[]', 1, 1793491200000000, 1793491200000000),
    ('paypal', {true}, 'PayPal', {true}, '[]', '[]', '[]', 1, 1793491200000000, 1793491200000000),
    ('tipalti', {true}, 'Tipalti', {true}, '[]', '[]', '[]', 1, 1793491200000000, 1793491200000000);

CREATE TABLE payment_method_versions (
    id {uuid} NOT NULL PRIMARY KEY,
    payment_method_id {uuid} NOT NULL,
    account_id {text} NOT NULL,
    currency_code {text} NOT NULL,
    type_id {text} NOT NULL REFERENCES payment_method_types (id),
    key_id {text} NOT NULL,
    sealed {bytes} NOT NULL,
    actor {text} NOT NULL,
    create_time {bigint} NOT NULL
) {strict};
CREATE UNIQUE INDEX payment_method_versions_by_account ON payment_method_versions (account_id, id);
CREATE INDEX payment_method_versions_by_method ON payment_method_versions (payment_method_id, id);

CREATE TABLE payment_methods (
    id {uuid} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL,
    currency_code {text} NOT NULL,
    type_id {text} NOT NULL REFERENCES payment_method_types (id),
    is_default {bool} NOT NULL,
    version_id {uuid} NOT NULL,
    revision {bigint} NOT NULL,
    create_time {bigint} NOT NULL,
    update_time {bigint} NOT NULL,
    FOREIGN KEY (account_id, version_id) REFERENCES payment_method_versions (account_id, id)
) {strict};
CREATE UNIQUE INDEX payment_methods_one_a_type_and_currency ON payment_methods (account_id, currency_code, type_id);
CREATE UNIQUE INDEX payment_methods_one_default_a_currency ON payment_methods (account_id, currency_code) WHERE is_default;

CREATE TABLE payout_holds (
    id {uuid} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL,
    reason {text} NOT NULL,
    actor {text} NOT NULL,
    create_time {bigint} NOT NULL,
    release_time {bigint},
    release_actor {text}
) {strict};
CREATE UNIQUE INDEX payout_holds_one_an_account ON payout_holds (account_id) WHERE release_time IS NULL;
CREATE INDEX payout_holds_by_account ON payout_holds (account_id, id)
",
};
