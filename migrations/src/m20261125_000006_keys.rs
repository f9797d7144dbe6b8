//! What the life of the encryption keys needs, and what finds payment methods that are paid to the same place.

use crate::dialect::SchemaMigration;

// Indexes by key_id: which keys are in use, and the next rows under an old one. The columns behind it are those that rows are
// taken by.
// hash_keys: what keyed hashes are made with, sealed; is_writing says with which, for all processes alike, so that what is
// equal has equal hashes whatever the encryption keys are by then.
// payment_methods.destination_hash: keyed hash of where the method is paid to; null where it has none that can be compared.
// payment_methods.destination_hash_version_id: the version that the hash is of; a version of the service before this one changes
// the details without it. What it has not been made for is found by the partial index.
pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "m20261125_000006_keys",
    schema: r"
CREATE INDEX billing_details_versions_by_key ON billing_details_versions (key_id, id);
CREATE INDEX payment_method_versions_by_key ON payment_method_versions (key_id, id);
CREATE INDEX request_ids_by_key ON request_ids (key_id, request_id);
CREATE INDEX provider_events_by_key ON provider_events (key_id, event_id);

CREATE TABLE hash_keys (
    id {text} NOT NULL PRIMARY KEY,
    is_writing {bool} NOT NULL,
    key_id {text} NOT NULL,
    sealed {bytes} NOT NULL,
    create_time {bigint} NOT NULL
) {strict};
CREATE UNIQUE INDEX hash_keys_one_writing ON hash_keys (is_writing) WHERE is_writing;

ALTER TABLE payment_methods ADD COLUMN destination_hash {bytes};
ALTER TABLE payment_methods ADD COLUMN destination_hash_version_id {uuid};
CREATE INDEX payment_methods_by_destination ON payment_methods (destination_hash, account_id)
    WHERE destination_hash IS NOT NULL;
CREATE INDEX payment_methods_without_destination ON payment_methods (id)
    WHERE destination_hash_version_id IS NULL OR destination_hash_version_id <> version_id
",
};
