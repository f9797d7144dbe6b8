//! What is sealed in all tables, by key, and sealing it anew in batches.
//!
//! A batch takes rows that nobody else has locked, and waits for nobody while it holds them: it can neither deadlock nor hold
//! anybody up for longer than it takes to write it. It changes no key column, so that rows which refer to these are inserted
//! meanwhile.

use std::fmt;

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Value};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rows::Rows;
use super::sealing::Sealed;
use super::{
    Backend, Session, Tx, billing_details, from_db, hashing, payment_method_changes, payment_methods, provider_events,
    request_ids,
};
use crate::domain::error::{Error, Result};

/// Every table with sealed values, the oldest first. It must have the columns `key_id` and `sealed`, and an index by `key_id`
/// and the first column of its key.
const TABLES: [SealedTable; 6] = [
    billing_details::SEALED,
    payment_methods::SEALED,
    payment_method_changes::SEALED,
    request_ids::SEALED,
    provider_events::SEALED,
    hashing::SEALED,
];

/// A table with one sealed value a row.
#[derive(Debug, Clone, Copy)]
pub struct SealedTable {
    pub(super) name: &'static str,
    /// The columns of its primary key, in the order in which rows are taken, each with any value of its type.
    pub(super) key: &'static [(&'static str, KeyPart)],
    /// What its values are bound to, of the texts of the key's columns.
    pub(super) row_id: fn(&[String]) -> String,
}

/// A value of a column of a primary key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KeyPart {
    Uuid(Uuid),
    Text(String),
    BigInt(i64),
}

/// A row's primary key, after which the next batch begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowKey(Vec<KeyPart>);

/// A key that something is sealed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInUse {
    /// Its id.
    pub key_id: String,
    /// A table with such rows.
    pub table: &'static str,
}

/// Rows of a table that are sealed with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCount {
    /// Id of the key.
    pub key_id: String,
    /// How many rows.
    pub row_count: i64,
}

/// What became of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// Rows that are sealed anew.
    pub(crate) resealed_count: u64,
    /// Rows whose values do not open with their key; they are left as they are.
    pub(crate) damaged: Vec<String>,
    /// The last row that was looked at; none when there is none left after where it began.
    pub(crate) last: Option<RowKey>,
}

#[derive(FromQueryResult)]
struct KeyId {
    key_id: String,
}

#[derive(FromQueryResult)]
struct CountRow {
    key_id: String,
    row_count: i64,
}

struct SealedRow {
    key: Vec<KeyPart>,
    bytes: Vec<u8>,
}

impl KeyPart {
    pub(super) const UUID: Self = Self::Uuid(Uuid::nil());
    pub(super) const TEXT: Self = Self::Text(String::new());
    pub(super) const BIGINT: Self = Self::BigInt(0);

    /// The value of a column of the same type.
    fn read(&self, row: &QueryResult, column: &str) -> Result<Self> {
        let read = match self {
            Self::Uuid(_) => row.try_get("", column).map(Self::Uuid),
            Self::Text(_) => row.try_get("", column).map(Self::Text),
            Self::BigInt(_) => row.try_get("", column).map(Self::BigInt),
        };
        read.map_err(from_db)
    }
}

impl From<KeyPart> for Value {
    fn from(part: KeyPart) -> Self {
        match part {
            KeyPart::Uuid(value) => value.into(),
            KeyPart::Text(value) => value.into(),
            KeyPart::BigInt(value) => value.into(),
        }
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(value) => value.fmt(formatter),
            Self::Text(value) => formatter.write_str(value),
            Self::BigInt(value) => value.fmt(formatter),
        }
    }
}

impl SealedTable {
    /// All of them, the oldest first.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &TABLES
    }

    /// Its name in the database.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.key.iter().map(|(column, _)| *column)
    }

    /// How many rows are sealed with which key.
    pub(crate) async fn counts<C: ConnectionTrait>(&self, session: &Session<C>) -> Result<Vec<KeyCount>> {
        let sql = format!(
            "SELECT key_id, count(*) AS row_count FROM {} WHERE key_id IS NOT NULL GROUP BY key_id ORDER BY key_id",
            self.name
        );
        let rows: Vec<CountRow> = session.fetch_all(&sql, vec![]).await?;
        let count = |row: CountRow| KeyCount {
            key_id: row.key_id,
            row_count: row.row_count,
        };
        Ok(rows.into_iter().map(count).collect())
    }

    /// Seals the next rows that are under an old key with the one that writes, of those after a row.
    pub(crate) async fn reseal(&self, tx: &Tx, old: &str, after: Option<&RowKey>, limit: usize) -> Result<Batch> {
        let rows = self.lock(tx, old, after, limit).await?;
        let last = rows.last().map(|row| RowKey(row.key.clone()));
        let (mut keys, mut sealed, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let parts: Vec<String> = row.key.iter().map(ToString::to_string).collect();
            let row_id = (self.row_id)(&parts);
            let before = Sealed {
                key_id: old.to_owned(),
                bytes: row.bytes,
            };
            match tx.keys.reseal(self.name, &row_id, &before) {
                Ok(anew) => {
                    keys.push(row.key);
                    sealed.push(anew);
                }
                Err(_) => damaged.push(parts.join(" ")),
            }
        }
        let resealed_count = self.write(tx, keys, sealed).await?;
        Ok(Batch {
            resealed_count,
            damaged,
            last,
        })
    }

    async fn lock(&self, tx: &Tx, old: &str, after: Option<&RowKey>, limit: usize) -> Result<Vec<SealedRow>> {
        let columns: Vec<&str> = self.columns().collect();
        let columns = columns.join(", ");
        let mut values: Vec<Value> = vec![old.into()];
        let mut condition = String::new();
        if let Some(RowKey(after)) = after {
            let parameters: Vec<String> = (2..2 + after.len()).map(|number| format!("${number}")).collect();
            condition = format!(" AND ({columns}) > ({})", parameters.join(", "));
            values.extend(after.iter().cloned().map(Value::from));
        }
        let sql = format!(
            "SELECT {columns}, sealed FROM {} WHERE key_id = $1 AND sealed IS NOT NULL{condition} ORDER BY {columns} \
             LIMIT {limit}{}",
            self.name,
            tx.backend.for_no_key_update_skip_locked()
        );
        let rows = tx.connection.query_all_raw(tx.statement(&sql, values)).await;
        let mut read = Vec::new();
        for row in rows.map_err(from_db)? {
            let mut key = Vec::with_capacity(self.key.len());
            for (column, kind) in self.key {
                key.push(kind.read(&row, column)?);
            }
            let bytes = row.try_get("", "sealed").map_err(from_db)?;
            read.push(SealedRow { key, bytes });
        }
        Ok(read)
    }

    async fn write(&self, tx: &Tx, keys: Vec<Vec<KeyPart>>, sealed: Vec<Sealed>) -> Result<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        let count = keys.len();
        let mut rows = Rows::new()
            .text("new_key_id", sealed.iter().map(|sealed| sealed.key_id.as_str()))
            .bytes("new_sealed", sealed.iter().map(|sealed| sealed.bytes.clone()));
        let mut same_key = Vec::with_capacity(self.key.len());
        for (place, (column, kind)) in self.key.iter().enumerate() {
            let parts = keys.iter().filter_map(|key| key.get(place));
            rows = match kind {
                KeyPart::Uuid(_) => rows.uuid(column, parts.filter_map(KeyPart::as_uuid)),
                KeyPart::Text(_) => rows.text(column, parts.map(ToString::to_string)),
                KeyPart::BigInt(_) => rows.bigint(column, parts.filter_map(KeyPart::as_bigint)),
            };
            same_key.push(format!("{0}.{column} = input.{column}", self.name));
        }
        let (source, values) = rows.source(tx.backend, 1);
        // The rows are locked: which key they are under is not asked again, so that they are found by their primary key.
        let sql = format!(
            "UPDATE {} SET key_id = input.new_key_id, sealed = input.new_sealed FROM {source} WHERE {}",
            self.name,
            same_key.join(" AND ")
        );
        let written = tx.execute(&sql, values).await?;
        if usize::try_from(written) != Ok(count) {
            return Err(Error::internal("rows that were locked could not be sealed anew"));
        }
        Ok(written)
    }
}

impl KeyPart {
    fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Uuid(value) => Some(*value),
            Self::Text(_) | Self::BigInt(_) => None,
        }
    }

    fn as_bigint(&self) -> Option<i64> {
        match self {
            Self::BigInt(value) => Some(*value),
            Self::Text(_) | Self::Uuid(_) => None,
        }
    }
}

impl Backend {
    /// Locks the rows of a `SELECT` that nobody else has locked, and lets others insert rows that refer to them.
    fn for_no_key_update_skip_locked(self) -> &'static str {
        match self {
            Self::Postgres => " FOR NO KEY UPDATE SKIP LOCKED",
            Self::Sqlite => "",
        }
    }
}

/// Every key that something is sealed with; by the index, however many rows there are.
pub(super) async fn keys_in_use<C: ConnectionTrait>(session: &Session<C>) -> Result<Vec<KeyInUse>> {
    let mut in_use: Vec<KeyInUse> = Vec::new();
    for table in TABLES {
        let sql = format!(
            "SELECT key_id FROM {} WHERE key_id > $1 ORDER BY key_id LIMIT 1",
            table.name
        );
        let mut after = String::new();
        while let Some(KeyId { key_id }) = session.fetch_optional(&sql, vec![after.into()]).await? {
            if !in_use.iter().any(|known| known.key_id == key_id) {
                in_use.push(KeyInUse {
                    key_id: key_id.clone(),
                    table: table.name,
                });
            }
            after = key_id;
        }
    }
    Ok(in_use)
}
