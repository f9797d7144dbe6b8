//! The plain driver: a connection to either database, with many rows as one parameter a column as the service has them.

use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _, SqliteConnection};
use uuid::Uuid;

use crate::Outcome;

/// One connection.
pub(crate) enum Driver {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// One bound parameter.
pub(crate) enum Value {
    Uuid(Uuid),
    Text(String),
    BigInt(i64),
    NullBigInt,
    Int(i32),
    Bool(bool),
    Column(Column),
}

/// One value a row.
pub(crate) enum Column {
    Uuid(Vec<Uuid>),
    Text(Vec<String>),
    BigInt(Vec<i64>),
    Int(Vec<i32>),
    Bool(Vec<bool>),
    Bytes(Vec<Vec<u8>>),
}

/// One row of an answer.
pub(crate) enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

impl Driver {
    /// Connects as the service does: SQLite with a write-ahead log and `synchronous = FULL`.
    pub(crate) async fn connect(url: &str) -> Outcome<Self> {
        if url.starts_with("postgres") {
            let options = PgConnectOptions::from_str(url)?.disable_statement_logging();
            return Ok(Self::Postgres(options.connect().await?));
        }
        let options = SqliteConnectOptions::from_str(url)?
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(std::time::Duration::from_secs(30))
            .disable_statement_logging();
        Ok(Self::Sqlite(options.connect().await?))
    }

    /// Whether it is PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// What a `SELECT` ends with to lock its rows.
    pub(crate) fn for_update(&self) -> &'static str {
        if self.is_postgres() { " FOR UPDATE" } else { "" }
    }

    /// Begins a writing transaction.
    pub(crate) async fn begin(&mut self) -> Outcome<()> {
        let begin = if self.is_postgres() { "BEGIN" } else { "BEGIN IMMEDIATE" };
        self.script(begin).await
    }

    /// Commits it.
    pub(crate) async fn commit(&mut self) -> Outcome<()> {
        self.script("COMMIT").await
    }

    /// Runs statements without parameters.
    pub(crate) async fn script(&mut self, sql: &str) -> Outcome<()> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Postgres(connection) => script.execute(connection).await.map(|_| ())?,
            Self::Sqlite(connection) => script.execute(connection).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Runs a statement; how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Outcome<u64> {
        Ok(match self {
            Self::Postgres(connection) => bind_postgres(sql, values).execute(connection).await?.rows_affected(),
            Self::Sqlite(connection) => bind_sqlite(sql, values).execute(connection).await?.rows_affected(),
        })
    }

    /// All rows of a query.
    pub(crate) async fn fetch(&mut self, sql: &str, values: Vec<Value>) -> Outcome<Vec<Row>> {
        Ok(match self {
            Self::Postgres(connection) => {
                let rows = bind_postgres(sql, values).fetch_all(connection).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
            Self::Sqlite(connection) => {
                let rows = bind_sqlite(sql, values).fetch_all(connection).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
        })
    }

    /// A number that a query answers.
    pub(crate) async fn number(&mut self, sql: &str) -> Outcome<i64> {
        let rows = self.fetch(sql, Vec::new()).await?;
        rows.first().ok_or("no row")?.bigint(0)
    }

    /// Columns as the table `input` with a `position`; `values` gets their parameters.
    pub(crate) fn input(&self, columns: Vec<(&str, Column)>, values: &mut Vec<Value>) -> String {
        if self.is_postgres() {
            let mut names = Vec::new();
            let mut parameters = Vec::new();
            for (name, column) in columns {
                values.push(Value::Column(column));
                let Some(Value::Column(column)) = values.last() else {
                    continue;
                };
                parameters.push(format!("${}::{}[]", values.len(), column.sql_type()));
                names.push(name.to_owned());
            }
            return format!(
                "unnest({}) WITH ORDINALITY AS input({}, position)",
                parameters.join(", "),
                names.join(", ")
            );
        }
        let length = columns.first().map_or(0, |(_, column)| column.len());
        let rows: Vec<serde_json::Value> = (0..length)
            .map(|row| columns.iter().map(|(_, column)| column.json(row)).collect())
            .collect();
        values.push(Value::Text(serde_json::Value::Array(rows).to_string()));
        let selected: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(index, (name, column))| match column {
                Column::Uuid(_) | Column::Bytes(_) => format!("unhex(value ->> {index}) AS {name}"),
                Column::Text(_) | Column::BigInt(_) | Column::Int(_) | Column::Bool(_) => {
                    format!("value ->> {index} AS {name}")
                }
            })
            .collect();
        format!(
            "(SELECT key AS position, {} FROM json_each(${})) AS input",
            selected.join(", "),
            values.len()
        )
    }
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Uuid(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::BigInt(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    fn sql_type(&self) -> &'static str {
        match self {
            Self::Uuid(_) => "uuid",
            Self::Text(_) => "text",
            Self::BigInt(_) => "bigint",
            Self::Int(_) => "integer",
            Self::Bool(_) => "boolean",
            Self::Bytes(_) => "bytea",
        }
    }

    fn json(&self, row: usize) -> serde_json::Value {
        match self {
            Self::Uuid(values) => values[row].simple().to_string().into(),
            Self::Text(values) => values[row].clone().into(),
            Self::BigInt(values) => values[row].into(),
            Self::Int(values) => values[row].into(),
            Self::Bool(values) => values[row].into(),
            Self::Bytes(values) => hexadecimal(&values[row]).into(),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

impl Row {
    pub(crate) fn uuid(&self, index: usize) -> Outcome<Uuid> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(index)?,
            Self::Sqlite(row) => row.try_get(index)?,
        })
    }

    pub(crate) fn text(&self, index: usize) -> Outcome<String> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(index)?,
            Self::Sqlite(row) => row.try_get(index)?,
        })
    }

    pub(crate) fn maybe_text(&self, index: usize) -> Outcome<Option<String>> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(index)?,
            Self::Sqlite(row) => row.try_get(index)?,
        })
    }

    pub(crate) fn bigint(&self, index: usize) -> Outcome<i64> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(index)?,
            Self::Sqlite(row) => row.try_get(index)?,
        })
    }

    pub(crate) fn int(&self, index: usize) -> Outcome<i32> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(index)?,
            Self::Sqlite(row) => row.try_get(index)?,
        })
    }

    pub(crate) fn bytes(&self, index: usize) -> Outcome<Vec<u8>> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(index)?,
            Self::Sqlite(row) => row.try_get(index)?,
        })
    }
}

type PostgresQuery<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;
type SqliteQuery<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn bind_postgres(sql: &str, values: Vec<Value>) -> PostgresQuery<'static> {
    let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
    for value in values {
        query = match value {
            Value::Uuid(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::BigInt(value) => query.bind(value),
            Value::NullBigInt => query.bind(None::<i64>),
            Value::Int(value) => query.bind(value),
            Value::Bool(value) => query.bind(value),
            Value::Column(Column::Uuid(values)) => query.bind(values),
            Value::Column(Column::Text(values)) => query.bind(values),
            Value::Column(Column::BigInt(values)) => query.bind(values),
            Value::Column(Column::Int(values)) => query.bind(values),
            Value::Column(Column::Bool(values)) => query.bind(values),
            Value::Column(Column::Bytes(values)) => query.bind(values),
        };
    }
    query
}

fn bind_sqlite(sql: &str, values: Vec<Value>) -> SqliteQuery<'static> {
    let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
    for value in values {
        query = match value {
            Value::Uuid(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::BigInt(value) => query.bind(value),
            Value::NullBigInt => query.bind(None::<i64>),
            Value::Int(value) => query.bind(value),
            Value::Bool(value) => query.bind(value),
            // `Driver::input` has made one text of them.
            Value::Column(_) => query,
        };
    }
    query
}
