//! Many rows as one bound parameter a column, so that one statement text serves any number of rows on both databases.
//!
//! PostgreSQL gets arrays and `unnest`, SQLite one JSON text and `json_each`; what stands around it in the statement is the
//! same. Values are never null here (the driver's arrays can't hold nulls): a statement writes `NULLIF(input.x, '')` where a
//! column is optional.

use sea_orm::Value;
use sea_orm::sea_query::ArrayType;
use uuid::Uuid;

use crate::store::Backend;

/// Columns of equal length, to be read in a statement as the table `input` with the extra column `position` (in order, from
/// the database's own start: only its order means something).
pub(crate) struct Rows {
    columns: Vec<(&'static str, Column)>,
}

enum Column {
    Uuid(Vec<Uuid>),
    Text(Vec<String>),
    BigInt(Vec<i64>),
    Int(Vec<i32>),
    Bool(Vec<bool>),
    Bytes(Vec<Vec<u8>>),
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self { columns: Vec::new() }
    }

    pub(crate) fn uuid(self, name: &'static str, values: impl IntoIterator<Item = Uuid>) -> Self {
        self.with(name, Column::Uuid(values.into_iter().collect()))
    }

    pub(crate) fn text<T: Into<String>>(self, name: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        self.with(name, Column::Text(values.into_iter().map(Into::into).collect()))
    }

    pub(crate) fn bigint(self, name: &'static str, values: impl IntoIterator<Item = i64>) -> Self {
        self.with(name, Column::BigInt(values.into_iter().collect()))
    }

    pub(crate) fn int(self, name: &'static str, values: impl IntoIterator<Item = i32>) -> Self {
        self.with(name, Column::Int(values.into_iter().collect()))
    }

    pub(crate) fn bool(self, name: &'static str, values: impl IntoIterator<Item = bool>) -> Self {
        self.with(name, Column::Bool(values.into_iter().collect()))
    }

    pub(crate) fn bytes(self, name: &'static str, values: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.with(name, Column::Bytes(values.into_iter().collect()))
    }

    fn with(mut self, name: &'static str, column: Column) -> Self {
        self.columns.push((name, column));
        self
    }

    /// The `FROM` item and its parameters, the first of which is `$first`.
    pub(crate) fn source(self, backend: Backend, first: usize) -> (String, Vec<Value>) {
        match backend {
            Backend::Postgres => self.unnest(first),
            Backend::Sqlite => self.json_each(first),
        }
    }

    fn unnest(self, first: usize) -> (String, Vec<Value>) {
        let mut names = Vec::new();
        let mut parameters = Vec::new();
        let mut values = Vec::new();
        for (offset, (name, column)) in self.columns.into_iter().enumerate() {
            let (sql_type, value) = column.into_array();
            names.push(name);
            parameters.push(format!("${}::{sql_type}[]", first + offset));
            values.push(value);
        }
        let source = format!(
            "unnest({}) WITH ORDINALITY AS input({}, position)",
            parameters.join(", "),
            names.join(", ")
        );
        (source, values)
    }

    fn json_each(self, first: usize) -> (String, Vec<Value>) {
        let columns: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, (name, column))| {
                let value = format!("value ->> {index}");
                match column {
                    Column::Uuid(_) | Column::Bytes(_) => format!("unhex({value}) AS {name}"),
                    Column::Text(_) | Column::BigInt(_) | Column::Int(_) | Column::Bool(_) => {
                        format!("{value} AS {name}")
                    }
                }
            })
            .collect();
        let source = format!(
            "(SELECT key AS position, {} FROM json_each(${first})) AS input",
            columns.join(", ")
        );
        let length = self.columns.first().map_or(0, |(_, column)| column.len());
        let rows: Vec<serde_json::Value> = (0..length)
            .map(|row| self.columns.iter().map(|(_, column)| column.json(row)).collect())
            .collect();
        (source, vec![serde_json::Value::Array(rows).to_string().into()])
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

    fn json(&self, row: usize) -> serde_json::Value {
        match self {
            Self::Uuid(values) => values.get(row).map(|id| id.simple().to_string()).into(),
            Self::Text(values) => values.get(row).cloned().into(),
            Self::BigInt(values) => values.get(row).copied().into(),
            Self::Int(values) => values.get(row).copied().into(),
            Self::Bool(values) => values.get(row).copied().into(),
            Self::Bytes(values) => values.get(row).map(|bytes| hexadecimal(bytes)).into(),
        }
    }

    fn into_array(self) -> (&'static str, Value) {
        match self {
            Self::Uuid(values) => ("uuid", array(ArrayType::Uuid, values)),
            Self::Text(values) => ("text", array(ArrayType::String, values)),
            Self::BigInt(values) => ("bigint", array(ArrayType::BigInt, values)),
            Self::Int(values) => ("integer", array(ArrayType::Int, values)),
            Self::Bool(values) => ("boolean", array(ArrayType::Bool, values)),
            Self::Bytes(values) => ("bytea", array(ArrayType::Bytes, values)),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text
}

fn array<T: Into<Value>>(array_type: ArrayType, values: Vec<T>) -> Value {
    Value::Array(array_type, Some(Box::new(values.into_iter().map(Into::into).collect())))
}
