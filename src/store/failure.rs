//! Sorts what the database says into what can be done about it.

use sea_orm::sqlx::Error as SqlxError;
use sea_orm::{DbErr, RuntimeErr};

use crate::domain::error::{Error, StoreFailure};

/// PostgreSQL's codes (Appendix A) after which the same transaction may succeed: serialization_failure,
/// deadlock_detected, and a foreign key or unique key that a concurrent transaction changed meanwhile.
const POSTGRES_CONTENTION: [&str; 5] = ["40001", "40P01", "23505", "23503", "55P03"];
/// Codes after which the database itself is out of reach: admin_shutdown, crash_shutdown, cannot_connect_now,
/// too_many_connections, idle_in_transaction_session_timeout; and those of a new connection that is refused: the database
/// accepts none (object_not_in_prerequisite_state), is gone (invalid_catalog_name), or no longer takes this user
/// (invalid_authorization_specification, invalid_password).
const POSTGRES_UNAVAILABLE: [&str; 9] = [
    "57P01", "57P02", "57P03", "53300", "25P03", "55000", "3D000", "28000", "28P01",
];
/// SQLite's primary result codes for busy and locked, and the extended ones for broken unique, primary and foreign keys.
const SQLITE_CONTENTION: [&str; 9] = ["5", "6", "261", "262", "517", "773", "787", "1555", "2067"];

/// The failure for a database error. Its text goes to the log alone: no statement here carries a value in its text, and
/// PostgreSQL's `DETAIL`, which may quote values, is not taken over.
pub(crate) fn from_db(error: DbErr) -> Error {
    Error::Store(classify(&error))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other errors of the library are faults of the service"
)]
fn classify(error: &DbErr) -> StoreFailure {
    match error {
        DbErr::ConnectionAcquire(cause) => StoreFailure::Unavailable(format!("no free database connection: {cause}")),
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => classify_sqlx(cause),
        DbErr::RecordNotFound(_) | DbErr::RecordNotUpdated => {
            StoreFailure::Internal("a row that was there is gone".to_owned())
        }
        other => StoreFailure::Internal(other.to_string()),
    }
}

fn classify_sqlx(cause: &SqlxError) -> StoreFailure {
    if let Some(database) = cause.as_database_error() {
        let code = database.code().unwrap_or_default();
        let text = format!("{} ({code})", database.message());
        let code = code.as_ref();
        if POSTGRES_CONTENTION.contains(&code) || SQLITE_CONTENTION.contains(&code) {
            return StoreFailure::Contention(text);
        }
        if POSTGRES_UNAVAILABLE.contains(&code) || code.starts_with("08") {
            return StoreFailure::Unavailable(text);
        }
        return StoreFailure::Internal(text);
    }
    if matches!(
        cause,
        SqlxError::Io(_)
            | SqlxError::PoolTimedOut
            | SqlxError::PoolClosed
            | SqlxError::WorkerCrashed
            | SqlxError::Tls(_)
    ) {
        return StoreFailure::Unavailable(cause.to_string());
    }
    StoreFailure::Internal(cause.to_string())
}
