//! `WHERE` clauses of lists: conditions that are there or not, with their bound values.

use sea_orm::Value;

/// Conditions that all must hold. Values are always bound, never written into the text.
pub(crate) struct Conditions {
    clauses: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    pub(crate) fn new() -> Self {
        Self {
            clauses: vec!["TRUE".to_owned()],
            values: Vec::new(),
        }
    }

    /// A condition with its value at `?`.
    pub(crate) fn and(&mut self, clause: &str, value: impl Into<Value>) {
        let parameter = self.bind(value);
        self.clauses.push(clause.replace('?', &parameter));
    }

    /// A condition with its value, where there is one.
    pub(crate) fn and_some(&mut self, clause: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.and(clause, value);
        }
    }

    /// A condition without a value.
    pub(crate) fn and_plain(&mut self, clause: impl Into<String>) {
        self.clauses.push(clause.into());
    }

    /// Binds a value for use elsewhere in the statement; its parameter.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// Number of the parameter that the next value gets.
    pub(crate) fn next(&self) -> usize {
        self.values.len() + 1
    }

    /// Adds values that were bound by number, beginning with [`Conditions::next`].
    pub(crate) fn extend(&mut self, values: Vec<Value>) {
        self.values.extend(values);
    }

    pub(crate) fn sql(&self) -> String {
        self.clauses.join(" AND ")
    }

    pub(crate) fn into_values(self) -> Vec<Value> {
        self.values
    }
}
