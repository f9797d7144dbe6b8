//! Account settlements: one account's payout in one currency, its status, and which changes of it are allowed.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::billing_details::BillingDetails;
use crate::domain::ids::AccountId;
use crate::domain::money::Money;
use crate::domain::payment_method_types::PaymentMethodField;
use crate::domain::payment_methods::PaymentMethodDetails;
use crate::domain::time::Timestamp;

/// Bytes of a payment reference at most.
pub const MAX_PAYMENT_REFERENCE_BYTES: usize = 140;
/// Bytes of a reason at most.
pub const MAX_REASON_BYTES: usize = 500;
/// Ids of one bulk chunk at most.
pub const MAX_BULK_IDS: usize = 1000;

/// Status of an account settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Created.
    New,
    /// The payout is under way.
    InProgress,
    /// Done.
    Paid,
    /// Failed or needs correction; set by the system alone.
    Error,
}

/// Why a bulk status update skipped a row: the first that applies, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatusSkipReason {
    /// The id is no UUID.
    MalformedId,
    /// The id stands earlier in the same chunk.
    DuplicateId,
    /// There is no such row.
    NotFound,
    /// It is deleted.
    Deleted,
    /// A provider manages its status.
    ProviderManaged,
    /// It is not in the expected status.
    UnexpectedStatus,
    /// It is in the target status already.
    AlreadyInStatus,
    /// It is paid, and leaving that needs a reason.
    ReasonRequired,
    /// Its settlement awaits approval.
    AwaitingApproval,
}

/// One account's payout in one currency inside a settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSettlement {
    /// Its id.
    pub id: Uuid,
    /// The settlement.
    pub settlement_id: Uuid,
    /// The account.
    pub account_id: AccountId,
    /// What is paid.
    pub money: Money,
    /// Decimals that the payout was rounded down to.
    pub decimals: u32,
    /// Its status.
    pub status: Status,
    /// Type of the payment method that it was made with.
    pub payment_method_type_id: String,
    /// Details of the payment method that it was made with.
    pub payment_method: PaymentMethodDetails,
    /// Fields of its type, where the program defines them: which ones are secret.
    pub payment_method_fields: Vec<PaymentMethodField>,
    /// Id of the payment method that it was made with; it may have changed since or be gone.
    pub payment_method_id: Uuid,
    /// Billing details that it was made with.
    pub billing_details: BillingDetails,
    /// Reference of the payment; empty unless it is paid.
    pub payment_reference: String,
    /// When it was paid.
    pub paid_time: Option<Timestamp>,
    /// What the provider says of it, where one pays it.
    pub provider: Option<ProviderPayment>,
    /// Counts its changes of status, and its deletion.
    pub revision: i64,
    /// Counts changes of what its provider says.
    #[serde(default)]
    pub provider_revision: i64,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// When it was deleted.
    pub delete_time: Option<Timestamp>,
}

/// What a provider says of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderPayment {
    /// The provider.
    pub name: String,
    /// Its reference.
    pub reference: String,
    /// Its own status, as it said it last.
    pub raw_status: String,
    /// Its error code.
    pub error_code: String,
    /// Its error text.
    pub error_message: String,
    /// Whether its status is not known here, and so changed nothing.
    #[serde(default)]
    pub is_unmapped: bool,
    /// Whether it said its last word.
    #[serde(default)]
    pub is_final: bool,
    /// When that became so by its clock.
    #[serde(default)]
    pub event_time: Option<Timestamp>,
}

/// What decides whether a row's status may change by hand, and whether it can be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowState {
    /// Its id.
    pub id: Uuid,
    /// The settlement.
    pub settlement_id: Uuid,
    /// What is paid.
    pub money: Money,
    /// Its account.
    pub account_id: AccountId,
    /// Its status.
    pub status: Status,
    /// Whether a provider manages its status.
    pub provider_managed: bool,
    /// Whether the provider said its last word, and nothing after it that puts that in doubt.
    pub provider_final: bool,
    /// Counts its changes of status, and its deletion.
    pub revision: i64,
    /// Counts changes of what its provider says.
    pub provider_revision: i64,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Whether its settlement awaits approval: until then it stays in `NEW`.
    pub awaits_approval: bool,
}

/// One row of the append-only history of an account settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChange {
    /// Number of the change; the first is 1.
    pub revision: i64,
    /// Status before; none in the first one.
    pub from: Option<Status>,
    /// Status after.
    pub to: Status,
    /// When.
    pub change_time: Timestamp,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Payment reference that came with it.
    pub payment_reference: String,
    /// Request id of the call that made it.
    pub request_id: String,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::New, Self::InProgress, Self::Paid, Self::Error];

    /// Name as stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::InProgress => "IN_PROGRESS",
            Self::Paid => "PAID",
            Self::Error => "ERROR",
        }
    }

    /// The status of a stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Checks that a status can be asked for by hand.
    pub fn check_manual_target(self) -> Result<Self, &'static str> {
        match self {
            Self::New | Self::InProgress | Self::Paid => Ok(self),
            Self::Error => Err("ERROR is set by the system alone: use NEW, IN_PROGRESS or PAID"),
        }
    }
}

impl AccountSettlement {
    /// What makes two states of it different to its callers.
    #[must_use]
    pub fn etag(&self) -> String {
        etag(self.revision, self.provider_revision)
    }
}

fn etag(revision: i64, provider_revision: i64) -> String {
    if provider_revision == 0 {
        revision.to_string()
    } else {
        format!("{revision}-{provider_revision}")
    }
}

impl RowState {
    /// What makes two states of it different to its callers.
    #[must_use]
    pub fn etag(&self) -> String {
        etag(self.revision, self.provider_revision)
    }

    /// Whether its status may be set by hand, or the first reason why not.
    pub fn check_manual_change(
        &self,
        target: Status,
        expected: Option<Status>,
        has_reason: bool,
    ) -> Result<(), StatusSkipReason> {
        if self.deleted {
            return Err(StatusSkipReason::Deleted);
        }
        if self.provider_managed {
            return Err(StatusSkipReason::ProviderManaged);
        }
        if expected.is_some_and(|expected| expected != self.status) {
            return Err(StatusSkipReason::UnexpectedStatus);
        }
        if self.status == target {
            return Err(StatusSkipReason::AlreadyInStatus);
        }
        if self.status == Status::Paid && !has_reason {
            return Err(StatusSkipReason::ReasonRequired);
        }
        if self.awaits_approval {
            return Err(StatusSkipReason::AwaitingApproval);
        }
        Ok(())
    }

    /// Whether its money may be released: nothing was paid, and nothing may still be.
    #[must_use]
    pub fn can_be_deleted(&self) -> bool {
        match self.status {
            // Before it was sent from here; that its provider speaks of it means that somebody else sent it.
            Status::New => self.provider_revision == 0,
            Status::Error => self.provider_final,
            Status::InProgress | Status::Paid => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::currency::Currency;
    use crate::domain::money::Amount;

    fn row(status: Status) -> RowState {
        RowState {
            id: Uuid::nil(),
            settlement_id: Uuid::nil(),
            money: Money::new(Currency::parse("EUR").unwrap(), Amount::from_units(1)),
            account_id: AccountId::parse("a").unwrap(),
            status,
            provider_managed: false,
            provider_final: false,
            revision: 1,
            provider_revision: 0,
            deleted: false,
            awaits_approval: false,
        }
    }

    #[test]
    fn every_manual_change_but_leaving_paid_needs_no_reason() {
        let manual = [Status::New, Status::InProgress, Status::Paid];
        for from in manual {
            for to in manual {
                let expected = match (from, to) {
                    _ if from == to => Err(StatusSkipReason::AlreadyInStatus),
                    (Status::Paid, _) => Err(StatusSkipReason::ReasonRequired),
                    _ => Ok(()),
                };
                assert_eq!(
                    row(from).check_manual_change(to, None, false),
                    expected,
                    "{from:?} to {to:?}"
                );
            }
        }
        assert_eq!(row(Status::Paid).check_manual_change(Status::New, None, true), Ok(()));
    }

    #[test]
    fn the_first_reason_that_applies_is_told() {
        let mut all = RowState {
            provider_managed: true,
            deleted: true,
            ..row(Status::Paid)
        };
        let check = |row: &RowState, target| row.check_manual_change(target, Some(Status::New), false);
        assert_eq!(check(&all, Status::Paid), Err(StatusSkipReason::Deleted));
        all.deleted = false;
        assert_eq!(check(&all, Status::Paid), Err(StatusSkipReason::ProviderManaged));
        all.provider_managed = false;
        assert_eq!(check(&all, Status::Paid), Err(StatusSkipReason::UnexpectedStatus));
    }

    #[test]
    fn what_awaits_approval_stays_in_new_and_can_be_deleted() {
        let row = RowState {
            awaits_approval: true,
            ..row(Status::New)
        };
        for target in [Status::InProgress, Status::Paid] {
            let refused = row.check_manual_change(target, None, true);
            assert_eq!(refused, Err(StatusSkipReason::AwaitingApproval));
        }
        let unchanged = row.check_manual_change(Status::New, None, true);
        assert_eq!(unchanged, Err(StatusSkipReason::AlreadyInStatus));
        assert!(row.can_be_deleted());
    }

    #[test]
    fn only_new_and_finally_refused_rows_can_be_deleted() {
        assert!(row(Status::New).can_be_deleted());
        assert!(!row(Status::InProgress).can_be_deleted());
        assert!(!row(Status::Paid).can_be_deleted());
        assert!(!row(Status::Error).can_be_deleted());
        assert!(
            RowState {
                provider_final: true,
                ..row(Status::Error)
            }
            .can_be_deleted()
        );
    }
}
