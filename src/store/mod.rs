//! The only place that knows sea-orm and SQL. Queries take a [`Session`] and answer domain types.
//!
//! One statement text serves PostgreSQL and SQLite; what differs is in [`Backend`] and `rows`. Writes run in a [`Tx`] that
//! `billing` opens and commits; reads that need no transaction run on a [`Reader`].

pub(crate) mod account_settlements;
pub(crate) mod accruals;
pub(crate) mod billing_details;
#[cfg(test)]
mod bound;
pub(crate) mod conditions;
mod connect;
pub(crate) mod destinations;
pub(crate) mod entity;
pub(crate) mod entries;
mod failure;
pub mod hashing;
pub mod keys;
pub(crate) mod open_balances;
pub(crate) mod payees;
pub(crate) mod payment_method_changes;
pub(crate) mod payment_method_types;
pub(crate) mod payment_methods;
pub(crate) mod payout_alarms;
pub(crate) mod payout_holds;
pub(crate) mod payouts;
pub(crate) mod provider_events;
pub(crate) mod request_ids;
pub mod rotation;
pub(crate) mod rows;
pub mod sealing;
pub(crate) mod settlements;
pub(crate) mod skipped_accounts;
pub(crate) mod status_changes;
pub mod verify;

use std::sync::Arc;

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, FromQueryResult, IsolationLevel,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};

pub use self::connect::{ConnectError, MigrateError, StoreOptions, migrate};
pub(crate) use self::connect::{backend_of, sqlite_path, with_suffix};
pub(crate) use self::failure::from_db;
use self::hashing::HashKeys;
use self::keys::KeyRing;
use self::sealing::SealingKeys;
use crate::domain::error::{Error, Result};
use crate::domain::time::Timestamp;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// How much a transaction sees of others. SQLite has one writer at a time, so there both are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it.
    ReadCommitted,
    /// All statements see what was committed before the first, and a write to a row that was changed since fails with contention.
    Snapshot,
}

/// An open database with the keys of its sealed values. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    write: DatabaseConnection,
    read: DatabaseConnection,
    backend: Backend,
    keys: KeyRing,
    hashes: HashKeys,
    /// Held as long as the store is open: one process at a time writes to an embedded file.
    _lock: Option<std::fs::File>,
}

/// A connection or transaction with what queries need beside it.
pub struct Session<C> {
    pub(crate) connection: C,
    pub(crate) backend: Backend,
    pub(crate) keys: SealingKeys,
    pub(crate) hashes: HashKeys,
}

/// A write transaction.
pub type Tx = Session<DatabaseTransaction>;
/// Reads, each statement for itself.
pub type Reader = Session<DatabaseConnection>;

impl Store {
    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.inner.backend
    }

    /// The keys of its sealed values, as they are now.
    #[must_use]
    pub fn keys(&self) -> SealingKeys {
        self.inner.keys.current()
    }

    /// The keys of its keyed hashes, which also sign page tokens.
    #[must_use]
    pub fn hash_keys(&self) -> &HashKeys {
        &self.inner.hashes
    }

    /// For reads outside a transaction.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.session(self.inner.read.clone())
    }

    /// Opens a write transaction. Call it in a task that is never cancelled: a connection dropped while `BEGIN` is under way
    /// would go back to its pool inside a transaction.
    pub async fn begin(&self, isolation: Isolation) -> Result<Tx> {
        let isolation_level = match (self.inner.backend, isolation) {
            // The connections' default: saying so again would be a statement of its own.
            (Backend::Postgres, Isolation::ReadCommitted) | (Backend::Sqlite, _) => None,
            (Backend::Postgres, Isolation::Snapshot) => Some(IsolationLevel::RepeatableRead),
        };
        // IMMEDIATE: a transaction that begins by reading and then writes would otherwise fail with SQLITE_BUSY.
        let sqlite_transaction_mode =
            (self.inner.backend == Backend::Sqlite).then_some(SqliteTransactionMode::Immediate);
        let options = TransactionOptions {
            isolation_level,
            access_mode: None,
            sqlite_transaction_mode,
        };
        let transaction = self.inner.write.begin_with_options(options).await.map_err(from_db)?;
        Ok(self.session(transaction))
    }

    /// Opens a transaction that only reads and sees one moment.
    pub async fn begin_snapshot(&self) -> Result<Tx> {
        let options = match self.inner.backend {
            Backend::Postgres => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                sqlite_transaction_mode: None,
            },
            Backend::Sqlite => TransactionOptions {
                isolation_level: None,
                access_mode: None,
                sqlite_transaction_mode: Some(SqliteTransactionMode::Deferred),
            },
        };
        let transaction = self.inner.read.begin_with_options(options).await.map_err(from_db)?;
        Ok(self.session(transaction))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.inner.read.ping().await.map_err(from_db)
    }

    /// Closes all connections.
    pub async fn close(&self) -> Result<()> {
        self.inner.read.close_by_ref().await.map_err(from_db)?;
        self.inner.write.close_by_ref().await.map_err(from_db)
    }

    fn session<C>(&self, connection: C) -> Session<C> {
        Session {
            connection,
            backend: self.inner.backend,
            keys: self.inner.keys.current(),
            hashes: self.inner.hashes.clone(),
        }
    }
}

impl Tx {
    /// Commits. An error leaves open whether it was done.
    pub async fn commit(self) -> Result<()> {
        self.connection.commit().await.map_err(from_db)
    }

    /// Undoes everything.
    pub async fn rollback(self) -> Result<()> {
        self.connection.rollback().await.map_err(from_db)
    }
}

impl Backend {
    fn for_sea_orm(self) -> DbBackend {
        match self {
            Self::Postgres => DbBackend::Postgres,
            Self::Sqlite => DbBackend::Sqlite,
        }
    }

    /// Locks the rows of a `SELECT`; SQLite's transaction holds the only write lock already.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::Postgres => " FOR UPDATE",
            Self::Sqlite => "",
        }
    }

    /// As [`Backend::for_update`], but leaves out the rows that somebody else has locked: for work that is shared.
    pub(crate) fn for_update_skip_locked(self) -> &'static str {
        match self {
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
            Self::Sqlite => "",
        }
    }

    /// Joins the rows of a table to those of `input` with the same key, each row of `input` in turn by an index and in order:
    /// PostgreSQL locks them so, and reads no whole table where it does not know yet that a key has few rows.
    pub(crate) fn join_locked(self, table: &str, alias: &str, key: &str, order: &str) -> String {
        match self {
            Self::Postgres => format!(
                "CROSS JOIN LATERAL (SELECT {order} FROM {table} WHERE {key} = input.{key} ORDER BY {order} FOR UPDATE) AS {alias}"
            ),
            Self::Sqlite => format!("JOIN {table} AS {alias} ON {alias}.{key} = input.{key}"),
        }
    }

    /// Joins the rows of a table to those of `input` by a condition, each row of `input` in turn by an index: PostgreSQL has no
    /// other choice, so that it compares no row with all of `input` where it does not know how many rows there are.
    pub(crate) fn join_each(self, table: &str, alias: &str, condition: &str) -> String {
        match self {
            Self::Postgres => format!(
                "CROSS JOIN LATERAL (SELECT {alias}.id FROM {table} {alias} WHERE {condition} OFFSET 0) AS {alias}"
            ),
            Self::Sqlite => format!("JOIN {table} AS {alias} ON {condition}"),
        }
    }

    /// A UUID of its text without hyphens; null of null.
    pub(crate) fn uuid_of_text(self, expression: &str) -> String {
        match self {
            Self::Postgres => format!("CAST({expression} AS uuid)"),
            Self::Sqlite => format!("unhex({expression})"),
        }
    }

    /// As [`Backend::for_update`], but lets others insert rows that refer to the locked ones: for a row whose children are
    /// written by transactions that hold locks which this one asks for later.
    pub(crate) fn for_no_key_update(self) -> &'static str {
        match self {
            Self::Postgres => " FOR NO KEY UPDATE",
            Self::Sqlite => "",
        }
    }
}

impl<C: ConnectionTrait> Session<C> {
    pub(crate) fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        Statement::from_sql_and_values(self.backend.for_sea_orm(), sql, values)
    }

    /// Runs a statement; the number of rows it changed.
    pub(crate) async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64> {
        let result = self
            .connection
            .execute_raw(self.statement(sql, values))
            .await
            .map_err(from_db)?;
        Ok(result.rows_affected())
    }

    /// All rows of a query.
    pub(crate) async fn fetch_all<T: FromQueryResult>(&self, sql: &str, values: Vec<Value>) -> Result<Vec<T>> {
        let rows = self
            .connection
            .query_all_raw(self.statement(sql, values))
            .await
            .map_err(from_db)?;
        rows.iter()
            .map(|row| T::from_query_result(row, "").map_err(from_db))
            .collect()
    }

    /// The first row of a query.
    pub(crate) async fn fetch_optional<T: FromQueryResult>(&self, sql: &str, values: Vec<Value>) -> Result<Option<T>> {
        let row = self
            .connection
            .query_one_raw(self.statement(sql, values))
            .await
            .map_err(from_db)?;
        row.map(|row| T::from_query_result(&row, "").map_err(from_db))
            .transpose()
    }

    /// The only row of a query.
    pub(crate) async fn fetch_one<T: FromQueryResult>(&self, sql: &str, values: Vec<Value>) -> Result<T> {
        self.fetch_optional(sql, values)
            .await?
            .ok_or_else(|| Error::internal("a query that always has a row had none"))
    }
}

/// A point in time as stored.
pub(crate) fn time(micros: i64) -> Result<Timestamp> {
    Timestamp::from_micros(micros).ok_or_else(|| Error::internal("a stored time is out of range"))
}
