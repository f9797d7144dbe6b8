//! Request ids with the answers that they were given, so that a repeated call is answered again and done once.

use sea_orm_migration::prelude::*;

use crate::dialect;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261101_000004_request_ids"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::execute(manager, SCHEMA).await
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration(
            "migrations are never undone: restore a backup".to_owned(),
        ))
    }
}

// part: chunks of one call that answers in a stream are remembered apart.
// content_hash: keyed, of the canonical request. sealed: the answer, which may hold personal data.
const SCHEMA: &str = r"
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
";
