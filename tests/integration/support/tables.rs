//! Looks into the database beside the service: for what no RPC shows, and to damage it.

use std::collections::BTreeMap;

use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};

/// A connection of the test's own.
pub(crate) struct Tables {
    connection: DatabaseConnection,
}

impl Tables {
    pub(crate) async fn open(url: &str) -> Self {
        let mut options = ConnectOptions::new(url);
        options.max_connections(1).sqlx_logging(false);
        let connection = Database::connect(options).await.unwrap();
        Self { connection }
    }

    pub(crate) async fn close(self) {
        self.connection.close().await.unwrap();
    }

    /// All rows of all tables as text, by table; bytes in hexadecimal.
    pub(crate) async fn dump(&self) -> BTreeMap<String, String> {
        let mut dump = BTreeMap::new();
        for table in self.names().await {
            let rows = self.texts(&self.dump_query(&table).await).await.remove(0);
            dump.insert(table, rows);
        }
        dump
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let done = self.connection.execute_unprepared(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Whether the database takes a statement.
    pub(crate) async fn takes(&self, sql: &str) -> bool {
        self.connection.execute_unprepared(sql).await.is_ok()
    }

    /// The first column, which must be text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        let rows = self.connection.query_all_raw(statement).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    pub(crate) async fn count(&self, table: &str) -> u64 {
        let count = self.texts(&format!("SELECT CAST(count(*) AS text) FROM {table}")).await;
        count[0].parse().unwrap()
    }

    /// The statement that lets this connection break foreign keys.
    pub(crate) fn without_foreign_keys(&self) -> &'static str {
        if self.is_postgres() {
            "SET session_replication_role = replica"
        } else {
            "PRAGMA foreign_keys = OFF"
        }
    }

    fn is_postgres(&self) -> bool {
        self.connection.get_database_backend() == DbBackend::Postgres
    }

    async fn names(&self) -> Vec<String> {
        let names = self.texts(if self.is_postgres() {
            "SELECT CAST(table_name AS text) FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
        } else {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1"
        });
        let names = names.await;
        assert!(names.iter().any(|name| name == "request_ids"), "{names:?}");
        names
    }

    async fn dump_query(&self, table: &str) -> String {
        if self.is_postgres() {
            return format!("SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM \"{table}\" t");
        }
        let columns = self
            .texts(&format!("SELECT name FROM pragma_table_info('{table}')"))
            .await;
        let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        format!(
            "SELECT coalesce(group_concat(line, char(10)), '') FROM (SELECT {} AS line FROM {table} ORDER BY 1)",
            quoted.join(" || ',' || ")
        )
    }
}
