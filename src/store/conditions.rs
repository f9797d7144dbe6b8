//! `WHERE` clauses of lists: conditions that are there or not, with their bound values.

use sea_orm::Value;

use crate::domain::ids::lowest_id_at;
use crate::domain::time::Timestamp;

/// Much more than a transaction takes between making an id and its row's time, and than clocks of replicas differ.
const ID_MARGIN_HOURS: i64 = 1;

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

    /// Only rows made from a time on and before another, by their `create_time` and, so that an index finds them, their ids:
    /// an id is made shortly before its row's time. `id` and `create_time` are the columns.
    pub(crate) fn and_created(
        &mut self,
        id: &str,
        create_time: &str,
        from: Option<Timestamp>,
        before: Option<Timestamp>,
    ) {
        if let Some(from) = from {
            self.and(&format!("{create_time} >= ?"), from.as_micros());
            self.and(&format!("{id} >= ?"), lowest_id_at(from.minus_hours(ID_MARGIN_HOURS)));
        }
        if let Some(before) = before {
            self.and(&format!("{create_time} < ?"), before.as_micros());
            self.and(&format!("{id} < ?"), lowest_id_at(before.minus_hours(-ID_MARGIN_HOURS)));
        }
    }

    pub(crate) fn sql(&self) -> String {
        self.clauses.join(" AND ")
    }

    pub(crate) fn into_values(self) -> Vec<Value> {
        self.values
    }
}
