//! One text of the schema for both databases: types are written as `{placeholders}`.
//!
//! Text is compared byte by byte on both (`COLLATE "C"` on PostgreSQL), so that lists have one order everywhere. SQLite's tables
//! are `STRICT`: a value of a wrong type is refused. Times are microseconds since 1970 and dates days since 1970, as integers:
//! exact, ordered and the same on both.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// Runs the statements of a schema text, which are separated by `;`.
pub(crate) async fn execute(manager: &SchemaManager<'_>, schema: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let postgres = connection.get_database_backend() == DbBackend::Postgres;
    for statement in translate(schema, postgres).split(';').map(str::trim) {
        if !statement.is_empty() {
            connection.execute_unprepared(statement).await?;
        }
    }
    Ok(())
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
