//! Request ids with the answers that they were given, so that a repeated call is answered again and done once.

use crate::dialect::SchemaMigration;

// part: chunks of one call that answers in a stream are remembered apart.
// content_hash: keyed, of the canonical request. sealed: the answer, which may hold personal data.
pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "m20261101_000004_request_ids",
    schema: r"
CREATE TABLE request_ids (
    caller {text} NOT NULL,
    method {text} NOT NULL,
    request_id {uuid} NOT NULL,
    part {bigint} NOT NULL,
    hash_key_id {text} NOT NULL,
    content_hash {bytes} NOT NULL,
    key_id {text},
    sealed {bytes},
    create_time {bigint} NOT NULL,
    PRIMARY KEY (caller, method, request_id, part)
) {strict};
CREATE INDEX request_ids_by_time ON request_ids (create_time)
",
};
