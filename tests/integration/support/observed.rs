//! What PostgreSQL tells of the connections to a test's database. Of SQLite there is nothing to tell.

use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use tokio::time::timeout;

use super::app::App;

/// Far more than any write takes.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// A connection of its own to a test's database.
pub(crate) struct Observer {
    connection: Option<DatabaseConnection>,
}

impl Observer {
    pub(crate) async fn connect(app: &App) -> Self {
        if !app.is_postgres() {
            return Self { connection: None };
        }
        let mut options = ConnectOptions::new(&app.database_url);
        options.max_connections(1).sqlx_logging(false);
        let connection = Some(Database::connect(options).await.unwrap());
        Self { connection }
    }

    /// How many deadlocks PostgreSQL had to end.
    pub(crate) async fn deadlocks(&self) -> i64 {
        self.number("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            .await
    }

    /// Waits until no other connection is at work or inside a transaction.
    pub(crate) async fn wait_until_idle(&self) {
        const SQL: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'";
        let idle = async {
            while self.number(SQL).await > 0 {
                tokio::task::yield_now().await;
            }
        };
        assert!(
            timeout(WRITE_LIMIT, idle).await.is_ok(),
            "a connection stays inside a transaction"
        );
    }

    async fn number(&self, sql: &str) -> i64 {
        let Some(connection) = &self.connection else {
            return 0;
        };
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        let row = connection.query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index(0).unwrap()
    }
}
