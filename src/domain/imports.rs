//! Imports: what becomes of each item of a chunk that is created or updated.

use serde::{Deserialize, Serialize, Serializer};

use crate::domain::error::{Error, Reason, Result, Violation};

/// Items of one chunk at most.
pub const MAX_IMPORT_ITEMS: usize = 1000;

/// An item that is well formed, or why it is not.
pub type ImportItem<T> = std::result::Result<T, ImportRejection>;

/// Why an item was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImportRejectReason {
    /// A field is malformed, or not what the payment method type takes.
    InvalidRequest,
    /// No payment method type has the id that it names.
    PaymentMethodTypeNotFound,
    /// Its payment method type is disabled.
    PaymentMethodTypeDisabled,
    /// An item before it in the chunk has the same key.
    DuplicateKey,
}

/// Why nothing of an item was written, and which field is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRejection {
    /// Why.
    pub reason: ImportRejectReason,
    /// The field, by its path in the item; empty where it is not about one.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImportOutcome {
    /// It was not there.
    Created,
    /// It was there with other content.
    Updated,
    /// It was there with the same content.
    Unchanged,
    /// Nothing of it was written.
    Rejected(ImportRejection),
}

impl ImportRejectReason {
    /// Name as answered: that of the error which the call for one item gives, where there is one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::PaymentMethodTypeNotFound => "PAYMENT_METHOD_TYPE_NOT_FOUND",
            Self::PaymentMethodTypeDisabled => "PAYMENT_METHOD_TYPE_DISABLED",
            Self::DuplicateKey => "DUPLICATE_KEY",
        }
    }

    /// That of a refusal of the call for one item; none where the refusal is not about the item.
    fn of(reason: Reason) -> Option<Self> {
        if reason == Reason::PaymentMethodTypeNotFound {
            Some(Self::PaymentMethodTypeNotFound)
        } else if reason == Reason::PaymentMethodTypeDisabled {
            Some(Self::PaymentMethodTypeDisabled)
        } else {
            None
        }
    }
}

impl ImportRejection {
    /// A malformed item, by the first of its violations. `root` is the field of the message that paths begin with.
    #[must_use]
    pub fn invalid(root: &str, violations: Vec<Violation>) -> Self {
        let (path, message) = match violations.into_iter().next() {
            Some(first) => (first.field, first.description),
            None => (String::new(), "is malformed".to_owned()),
        };
        let within = path.strip_prefix(root).and_then(|rest| rest.strip_prefix('.'));
        Self {
            reason: ImportRejectReason::InvalidRequest,
            field: within.unwrap_or(&path).to_owned(),
            message,
        }
    }

    /// What refuses the call for one item rejects the item; any other error stays the whole chunk's.
    pub fn from_error(root: &str, error: Error) -> Result<Self> {
        match error {
            Error::Invalid(violations) => Ok(Self::invalid(root, violations)),
            Error::Refused(refusal) => match ImportRejectReason::of(refusal.reason) {
                Some(reason) => Ok(Self {
                    reason,
                    field: refusal.field.unwrap_or_default().to_owned(),
                    message: refusal.message,
                }),
                None => Err(Error::Refused(refusal)),
            },
            Error::Store(failure) => Err(Error::Store(failure)),
        }
    }

    /// An item whose key an item before it has.
    pub fn duplicate(message: &str) -> Self {
        Self {
            reason: ImportRejectReason::DuplicateKey,
            field: String::new(),
            message: message.to_owned(),
        }
    }
}

/// The items as they are hashed for a request id: of a malformed one why and where, but not in which words, which another
/// version may choose otherwise.
pub fn canonical_items<T: Serialize, S: Serializer>(
    items: &[ImportItem<T>],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    let canonical = items
        .iter()
        .map(|item| item.as_ref().map_err(|rejection| (rejection.reason, &rejection.field)));
    serializer.collect_seq(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::StoreFailure;

    fn violations(fields: &[&str]) -> Vec<Violation> {
        let violation = |field: &&str| Violation {
            field: (*field).to_owned(),
            description: format!("about {field}"),
        };
        fields.iter().map(violation).collect()
    }

    #[test]
    fn the_first_violation_is_told_by_its_path_in_the_item() {
        for (fields, path) in [
            (
                &["billing_details.address.region_code", "billing_details.tax_id"][..],
                "address.region_code",
            ),
            (&["billing_details_of_another.x"], "billing_details_of_another.x"),
            (&["request_id"], "request_id"),
            (&[], ""),
        ] {
            let rejection = ImportRejection::invalid("billing_details", violations(fields));
            assert_eq!(
                (rejection.field.as_str(), rejection.reason.name()),
                (path, "INVALID_REQUEST")
            );
            assert!(!rejection.message.is_empty());
        }
    }

    #[test]
    fn refusals_of_an_item_are_told_and_other_errors_are_not_hidden() {
        let rejection = |error| ImportRejection::from_error("payment_method", error);
        let disabled = rejection(Error::refused(Reason::PaymentMethodTypeDisabled, "enable it")).unwrap();
        assert_eq!(
            (disabled.reason.name(), disabled.message.as_str()),
            ("PAYMENT_METHOD_TYPE_DISABLED", "enable it")
        );
        assert!(rejection(Error::refused(Reason::RequestIdReused, "make a new one")).is_err());
        assert!(rejection(Error::Store(StoreFailure::Contention("lost".to_owned()))).is_err());
    }
}
