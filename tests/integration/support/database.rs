//! A database of its own for each test, copied from a template that is migrated once a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, Statement};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::postgres::Postgres;

/// Brings the empty database at a URL to the current schema, and leaves no connection to it.
pub(crate) type Migrate = for<'a> fn(&'a str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// A migrated database that belongs to one test.
pub(crate) enum TestDatabase {
    Sqlite {
        /// Holds the database's file, and goes when this is dropped.
        folder: TempDir,
        url: String,
    },
    /// Dropped by the harness after the test.
    Postgres { url: String, name: String },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// Makes the databases of a run.
pub(crate) struct Databases {
    migrate: Migrate,
    postgres: Option<Postgres>,
    /// Begins the names of this run's databases, as a server may be shared with other runs.
    prefix: String,
    made: AtomicU32,
    sqlite_template: OnceCell<Result<TempDir, String>>,
    postgres_template: OnceCell<Result<String, String>>,
}

impl Databases {
    pub(crate) fn new(migrate: Migrate, postgres: Option<Postgres>) -> Self {
        Self {
            migrate,
            postgres,
            prefix: format!("billing_test_{}", Uuid::new_v4().simple()),
            made: AtomicU32::new(0),
            sqlite_template: OnceCell::new(),
            postgres_template: OnceCell::new(),
        }
    }

    pub(crate) async fn create(&self, engine: Engine) -> Result<TestDatabase, String> {
        match engine {
            Engine::Sqlite => self.create_sqlite().await,
            Engine::Postgres => self.create_postgres().await,
        }
    }

    /// Drops a PostgreSQL database; it may be gone already.
    pub(crate) async fn drop_postgres(&self, name: &str) -> Result<(), String> {
        self.postgres()?.drop_database(name).await
    }

    /// Leaves nothing behind on a server that outlives the run.
    pub(crate) async fn finish(&self) -> Result<(), String> {
        let Some(postgres) = &self.postgres else {
            return Ok(());
        };
        let mut dropped = Ok(());
        if let (Some(Ok(template)), false) = (self.postgres_template.get(), postgres.is_throw_away()) {
            dropped = postgres.drop_database(template).await;
        }
        postgres.disconnect().await;
        dropped
    }

    async fn create_sqlite(&self) -> Result<TestDatabase, String> {
        let template = self.sqlite_template.get_or_init(|| migrated_sqlite(self.migrate)).await;
        let template = template.as_ref().map_err(Clone::clone)?;
        let folder = temporary_folder()?;
        let file = sqlite_file(folder.path());
        fs::copy(sqlite_file(template.path()), &file)
            .map_err(|error| format!("cannot copy the migrated database: {error}"))?;
        Ok(TestDatabase::Sqlite {
            url: sqlite_url(&file),
            folder,
        })
    }

    async fn create_postgres(&self) -> Result<TestDatabase, String> {
        let postgres = self.postgres()?;
        let template = self
            .postgres_template
            .get_or_init(|| self.migrated_postgres(postgres))
            .await;
        let template = template.as_ref().map_err(Clone::clone)?;
        let name = format!("{}_{}", self.prefix, self.made.fetch_add(1, Ordering::Relaxed));
        let url = postgres.create_database(&name, Some(template)).await?;
        Ok(TestDatabase::Postgres { url, name })
    }

    async fn migrated_postgres(&self, postgres: &Postgres) -> Result<String, String> {
        let name = format!("{}_template", self.prefix);
        let url = postgres.create_database(&name, None).await?;
        (self.migrate)(&url).await?;
        postgres.close_database(&name).await?;
        Ok(name)
    }

    fn postgres(&self) -> Result<&Postgres, String> {
        self.postgres
            .as_ref()
            .ok_or_else(|| "PostgreSQL was not found".to_owned())
    }
}

async fn migrated_sqlite(migrate: Migrate) -> Result<TempDir, String> {
    let folder = temporary_folder()?;
    let file = sqlite_file(folder.path());
    // An empty file is an empty database, so that it does not matter whether migrating makes one.
    fs::write(&file, []).map_err(|error| format!("{}: {error}", file.display()))?;
    let url = sqlite_url(&file);
    migrate(&url).await?;
    settle(&url).await?;
    Ok(folder)
}

/// Moves all that is still in the write-ahead log into the file, so that the file alone can be copied.
async fn settle(url: &str) -> Result<(), String> {
    let described = |error: sea_orm::DbErr| format!("{url}: {error}");
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    let connection = Database::connect(options).await.map_err(described)?;
    let checkpoint = Statement::from_string(connection.get_database_backend(), "PRAGMA wal_checkpoint(TRUNCATE)");
    let row = connection.query_one_raw(checkpoint).await.map_err(described)?;
    let is_busy: i32 = match row {
        Some(row) => row.try_get_by_index(0).map_err(described)?,
        None => 0,
    };
    connection.close().await.map_err(described)?;
    if is_busy != 0 {
        return Err(format!("{url}: migrating left a connection open"));
    }
    Ok(())
}

fn temporary_folder() -> Result<TempDir, String> {
    let folder = tempfile::Builder::new().prefix("billing-sqlite-").tempdir();
    folder.map_err(|error| format!("cannot make a temporary folder: {error}"))
}

fn sqlite_file(folder: &Path) -> PathBuf {
    folder.join("billing.db")
}

fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}
