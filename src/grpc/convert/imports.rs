//! What the imports' messages have in common.

use super::MAX_CHUNK_ID_BYTES;
use crate::billing::Call;
use crate::domain::error::{Result, Violations};
use crate::domain::ids::check_text;
use crate::domain::imports::{ImportItem, ImportOutcome, ImportRejection, MAX_IMPORT_ITEMS};
use crate::domain::permissions::Identity;
use crate::grpc::convert;
use crate::proto;

/// A chunk whose items are checked each for itself, with the keys that they are answered by.
pub(crate) struct Chunk<K, R> {
    pub(crate) chunk_id: String,
    pub(crate) call: Call,
    pub(crate) keys: Vec<K>,
    pub(crate) request: R,
}

/// Checks what makes a chunk invalid as a whole; `field` is that of its items.
pub(crate) fn call_of_chunk(
    caller: &Identity,
    (chunk_id, request_id): (&str, &str),
    field: &str,
    item_count: usize,
) -> Result<Call> {
    let mut violations = Violations::new();
    let call = convert::call(caller, request_id, &mut violations);
    violations.check("chunk_id", check_text(chunk_id, MAX_CHUNK_ID_BYTES));
    if !(1..=MAX_IMPORT_ITEMS).contains(&item_count) {
        violations.push(
            field,
            format!("must be 1 to {MAX_IMPORT_ITEMS} items, not {item_count}"),
        );
    }
    violations.finish(Some(call))
}

/// An item, unless something was found; `root` is the field that paths begin with.
pub(crate) fn item_of<T>(root: &str, item: Option<T>, violations: Violations) -> ImportItem<T> {
    match item {
        Some(item) if violations.is_empty() => Ok(item),
        _ => Err(ImportRejection::invalid(root, violations.into_inner())),
    }
}

/// An outcome as it is answered, with its rejection where it is one.
pub(crate) fn outcome_parts(outcome: ImportOutcome) -> (proto::ImportOutcome, Option<ImportRejection>) {
    match outcome {
        ImportOutcome::Created => (proto::ImportOutcome::Created, None),
        ImportOutcome::Updated => (proto::ImportOutcome::Updated, None),
        ImportOutcome::Unchanged => (proto::ImportOutcome::Unchanged, None),
        ImportOutcome::Rejected(rejection) => (proto::ImportOutcome::Rejected, Some(rejection)),
    }
}
