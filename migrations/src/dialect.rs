//! One text of the schema for both databases: types are written as `{placeholders}`.
//!
//! Text is compared byte by byte on both (`COLLATE "C"` on PostgreSQL), so that lists have one order everywhere. SQLite's tables
//! are `STRICT`: a value of a wrong type is refused. Times are microseconds since 1970 and dates days since 1970, as integers:
//! exact, ordered and the same on both.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// A migration that is one schema text: statements separated by `;`.
#[derive(Debug)]
pub(crate) struct SchemaMigration {
    /// Its name, that of its file: what the database remembers.
    pub(crate) name: &'static str,
    /// The statements.
    pub(crate) schema: &'static str,
}

impl MigrationName for SchemaMigration {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for SchemaMigration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let postgres = connection.get_database_backend() == DbBackend::Postgres;
        for statement in translate(self.schema, postgres).split(';').map(str::trim) {
            if !statement.is_empty() {
                connection.execute_unprepared(statement).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration(
            "migrations are never undone: restore a backup".to_owned(),
        ))
    }
}

fn translate(schema: &str, postgres: bool) -> String {
    let types: [(&str, &str, &str); 8] = [
        ("{uuid}", "uuid", "BLOB"),
        ("{text}", "text COLLATE \"C\"", "TEXT"),
        ("{bytes}", "bytea", "BLOB"),
        ("{bigint}", "bigint", "INTEGER"),
        ("{int}", "integer", "INTEGER"),
        ("{bool}", "boolean", "INTEGER"),
        ("{true}", "true", "1"),
        ("{false}", "false", "0"),
    ];
    let mut text = schema.to_owned();
    for (placeholder, on_postgres, on_sqlite) in types {
        text = text.replace(placeholder, if postgres { on_postgres } else { on_sqlite });
    }
    text.replace("{strict}", if postgres { "" } else { "STRICT" })
}
