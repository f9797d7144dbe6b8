//! Opens and migrates a database.
//!
//! SQLite: one file beside which a lock file is held (one writing process), write-ahead log, `synchronous = FULL`, one writing
//! connection and several reading ones. PostgreSQL: one pool.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use affiliate_billing_migrations::{Migrator, MigratorTrait as _};
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{Connection as _, Error as SqlxError};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbErr};

use super::hashing::HashKeys;
use super::keys::{KeyRing, lacking};
use super::{Backend, Inner, Isolation, Store, billing_details, hashing, payment_methods, rotation};
use crate::domain::error::Error;

/// How to open a database.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// `sqlite://path/to/file.db` or `postgres://...`.
    pub url: String,
    /// The keys of sealed values.
    pub keys: KeyRing,
    /// Connections at most: all of them on PostgreSQL, the reading ones on SQLite.
    pub max_connections: u32,
    /// How long a call waits for a free connection before it is answered `UNAVAILABLE`.
    pub acquire_timeout: Duration,
}

/// Why a database could not be opened.
#[derive(Debug)]
pub enum ConnectError {
    /// The URL is neither `sqlite://` nor `postgres://`.
    UnknownUrl,
    /// Another process has the embedded file.
    InUse(PathBuf),
    /// The schema is not the one that this version needs; the names of the missing migrations.
    NotMigrated(Vec<String>),
    /// Anything else.
    Failed(String),
}

/// Why a database could not be migrated.
pub type MigrateError = ConnectError;

/// Key of the advisory lock that a migrating process holds: any constant that nothing else in the database uses.
const MIGRATION_LOCK: i64 = 0x0061_6666_6269_6c6c;
/// A connection that was not used for so long is tried before it is used.
const TEST_IDLE_AFTER: Duration = Duration::from_secs(1);
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Which database a URL names.
pub(crate) fn backend_of(url: &str) -> Option<Backend> {
    if url.starts_with("sqlite:") {
        return Some(Backend::Sqlite);
    }
    (url.starts_with("postgres://") || url.starts_with("postgresql://")).then_some(Backend::Postgres)
}

/// The file of a SQLite URL.
pub(crate) fn sqlite_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"))?;
    let path = path.split('?').next().unwrap_or(path);
    (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(path))
}

impl Store {
    /// Opens a database to serve from it. An embedded file is created and migrated, and locked against a second process; a
    /// PostgreSQL must be migrated.
    pub async fn open(options: StoreOptions) -> Result<Self, ConnectError> {
        match backend_of(&options.url).ok_or(ConnectError::UnknownUrl)? {
            Backend::Sqlite => {
                let path = sqlite_path(&options.url).ok_or(ConnectError::UnknownUrl)?;
                let lock = lock_file(&path)?;
                let write = connect_sqlite(&path, 1, &options, Access::Write).await?;
                Migrator::up(&write, None).await.map_err(failed)?;
                let read = connect_sqlite(&path, options.max_connections, &options, Access::Read).await?;
                Self::assemble(Backend::Sqlite, write, read, options.keys, Some(lock))
                    .with_keys()
                    .await
            }
            Backend::Postgres => {
                let pool = connect_postgres(&options, options.max_connections).await?;
                check_migrated(&pool).await?;
                Self::assemble(Backend::Postgres, pool.clone(), pool, options.keys, None)
                    .with_keys()
                    .await
            }
        }
    }

    /// Refuses keys that do not open what is stored, before a caller meets that as an internal error; and reads the hash keys,
    /// which are made where there are none.
    async fn with_keys(self) -> Result<Self, ConnectError> {
        let misfit = |error| ConnectError::Failed(format!("the encryption keys do not fit the database: {error}"));
        let in_use = rotation::keys_in_use(&self.reader()).await;
        let in_use = in_use.map_err(|error| misfit(error.to_string()))?;
        if let Some(problem) = lacking(&self.keys(), in_use) {
            return Err(misfit(problem));
        }
        self.read_newest().await.map_err(|error| misfit(error.to_string()))?;
        self.with_hash_keys().await.map_err(|error| misfit(error.to_string()))
    }

    async fn read_newest(&self) -> Result<(), Error> {
        let reader = self.reader();
        billing_details::check_keys(&reader).await?;
        payment_methods::check_keys(&reader).await
    }

    async fn with_hash_keys(mut self) -> Result<Self, Error> {
        if hashing::is_empty(&self.reader()).await? {
            self.keep_hash_keys().await?;
        }
        let hashes = hashing::load(&self.reader()).await?;
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.hashes = hashes;
        }
        Ok(self)
    }

    /// Keeps those hash keys that are in use and not kept yet.
    pub(crate) async fn keep_hash_keys(&self) -> Result<(), Error> {
        let tx = self.begin(Isolation::ReadCommitted).await?;
        match hashing::keep(&tx).await {
            Ok(()) => tx.commit().await,
            Err(error) => {
                tx.rollback().await?;
                Err(error)
            }
        }
    }

    /// Opens a database to seal it anew beside a process that serves from it. Nothing is created or migrated, and an embedded
    /// file is not locked: SQLite itself lets one transaction write at a time.
    pub async fn open_beside(options: StoreOptions) -> Result<Self, ConnectError> {
        let store = match backend_of(&options.url).ok_or(ConnectError::UnknownUrl)? {
            Backend::Sqlite => {
                let path = existing_sqlite(&options.url)?;
                let write = connect_sqlite(&path, 1, &options, Access::Write).await?;
                let read = connect_sqlite(&path, 1, &options, Access::Read).await?;
                Self::assemble(Backend::Sqlite, write, read, options.keys, None)
            }
            Backend::Postgres => {
                let pool = connect_postgres(&options, 2).await?;
                Self::assemble(Backend::Postgres, pool.clone(), pool, options.keys, None)
            }
        };
        check_migrated(&store.inner.read).await?;
        Ok(store)
    }

    /// Opens a database to read it beside a process that serves from it. Nothing is created, migrated or locked.
    pub async fn open_read_only(options: StoreOptions) -> Result<Self, ConnectError> {
        let backend = backend_of(&options.url).ok_or(ConnectError::UnknownUrl)?;
        let pool = match backend {
            Backend::Sqlite => {
                let path = existing_sqlite(&options.url)?;
                connect_sqlite(&path, 2, &options, Access::Read).await?
            }
            Backend::Postgres => connect_postgres(&options, 2).await?,
        };
        check_migrated(&pool).await?;
        Ok(Self::assemble(backend, pool.clone(), pool, options.keys, None))
    }

    fn assemble(
        backend: Backend,
        write: DatabaseConnection,
        read: DatabaseConnection,
        keys: KeyRing,
        lock: Option<File>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                write,
                read,
                backend,
                keys,
                hashes: HashKeys::none(),
                _lock: lock,
            }),
        }
    }
}

fn existing_sqlite(url: &str) -> Result<PathBuf, ConnectError> {
    let path = sqlite_path(url).ok_or(ConnectError::UnknownUrl)?;
    if path.exists() {
        return Ok(path);
    }
    Err(ConnectError::Failed(format!("there is no file {}", path.display())))
}

/// Brings a database's schema up to this version, under a lock that one process at a time can hold: a second one waits and
/// then finds nothing to do. The number of migrations applied.
pub async fn migrate(options: &StoreOptions) -> Result<usize, MigrateError> {
    match backend_of(&options.url).ok_or(ConnectError::UnknownUrl)? {
        Backend::Sqlite => {
            let path = sqlite_path(&options.url).ok_or(ConnectError::UnknownUrl)?;
            let _lock = lock_file(&path)?;
            let connection = connect_sqlite(&path, 1, options, Access::Write).await?;
            let applied = apply(&connection).await;
            connection.close().await.map_err(failed)?;
            applied
        }
        Backend::Postgres => {
            // One connection, so that the session that holds the lock is the one that migrates.
            let connection = connect_postgres(options, 1).await?;
            let lock = format!("SELECT pg_advisory_lock({MIGRATION_LOCK})");
            connection.execute_unprepared(&lock).await.map_err(failed)?;
            let applied = apply(&connection).await;
            // Closing the session releases the lock, also after a failure.
            connection.close().await.map_err(failed)?;
            applied
        }
    }
}

async fn apply(connection: &DatabaseConnection) -> Result<usize, MigrateError> {
    let pending = Migrator::get_pending_migrations(connection)
        .await
        .map_err(failed)?
        .len();
    Migrator::up(connection, None).await.map_err(failed)?;
    Ok(pending)
}

async fn check_migrated(connection: &DatabaseConnection) -> Result<(), ConnectError> {
    let pending = Migrator::get_pending_migrations_read_only(connection)
        .await
        .map_err(failed)?;
    if pending.is_empty() {
        return Ok(());
    }
    let names = pending.iter().map(|migration| migration.name().to_owned()).collect();
    Err(ConnectError::NotMigrated(names))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    Read,
}

async fn connect_sqlite(
    path: &Path,
    max_connections: u32,
    options: &StoreOptions,
    access: Access,
) -> Result<DatabaseConnection, ConnectError> {
    let mut connect = connect_options(&format!("sqlite://{}", path.display()), max_connections, options);
    connect.map_sqlx_sqlite_opts(move |sqlite| {
        let sqlite = sqlite.busy_timeout(SQLITE_BUSY_TIMEOUT).foreign_keys(true);
        match access {
            Access::Write => sqlite
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full),
            Access::Read => sqlite.pragma("query_only", "ON"),
        }
    });
    connect.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| Box::pin(is_outside_transactions(connection)))
    });
    Database::connect(connect).await.map_err(failed)
}

/// Whether a connection may go back to its pool. After a commit that failed, as on a full disk, SQLite may have ended the
/// transaction by itself or not, and the library loses count: its next transaction would be a savepoint in one that nobody ever
/// commits, and what was acknowledged would be gone.
async fn is_outside_transactions(connection: &mut SqliteConnection) -> Result<bool, SqlxError> {
    if connection.is_in_transaction() {
        // A rollback that is still under way ends before this does.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

async fn connect_postgres(options: &StoreOptions, max_connections: u32) -> Result<DatabaseConnection, ConnectError> {
    // Checked here, because the library's own message would show the URL with its password.
    if PgConnectOptions::from_str(&options.url).is_err() {
        return Err(ConnectError::UnknownUrl);
    }
    let mut connect = connect_options(&options.url, max_connections, options);
    connect.set_application_name("affiliate-billing");
    // What `Store::begin` relies on, whatever the database's own default is.
    connect.map_sqlx_postgres_opts(|postgres| postgres.options([("default_transaction_isolation", "read committed")]));
    Database::connect(connect).await.map_err(failed)
}

fn connect_options(url: &str, max_connections: u32, options: &StoreOptions) -> ConnectOptions {
    let mut connect = ConnectOptions::new(url);
    connect
        .max_connections(max_connections)
        .min_connections(1)
        .acquire_timeout(options.acquire_timeout)
        // Not at every use: that would be a round trip more for each call.
        .test_before_acquire_if_idle_for(TEST_IDLE_AFTER)
        // Calls are logged once, at the boundary; statements never with their values.
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    connect
}

fn lock_file(database: &Path) -> Result<File, ConnectError> {
    if let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|error| ConnectError::Failed(format!("can't create {}: {error}", folder.display())))?;
    }
    let path = with_suffix(database, ".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| ConnectError::Failed(format!("can't open {}: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ConnectError::InUse(database.to_owned())),
        Err(TryLockError::Error(error)) => Err(ConnectError::Failed(format!("can't lock {}: {error}", path.display()))),
    }
}

/// A path with something appended to its file name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn failed(error: DbErr) -> ConnectError {
    ConnectError::Failed(error.to_string())
}

impl fmt::Display for ConnectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUrl => formatter
                .write_str("BILLING_DATABASE_URL must be sqlite://path/to/file.db or postgres://user@host/database"),
            Self::InUse(path) => write!(
                formatter,
                "{} is in use by another affiliate-billing process: stop that one, or use another file",
                path.display()
            ),
            Self::NotMigrated(names) => write!(
                formatter,
                "the database lacks {} migrations ({}): run `affiliate-billing migrate`",
                names.len(),
                names.join(", ")
            ),
            Self::Failed(cause) => formatter.write_str(cause),
        }
    }
}

impl std::error::Error for ConnectError {}
