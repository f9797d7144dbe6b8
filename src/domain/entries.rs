//! Entries: signed amounts owed to an account or taken back from it, and the accruals they add up to.
//!
//! The rules are those of the ledger: an entry is known by its source and external id, never changes, and is compared in
//! canonical form when it is posted again.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::currency::Currency;
use crate::domain::ids::AccountId;
use crate::domain::money::{Amount, MAX_ENTRY_UNITS, Money};
use crate::domain::time::{Date, Timestamp};

/// Entries of one call or chunk at most.
pub const MAX_ENTRIES: usize = 1000;
/// The source of entries that the service makes itself; refused from outside.
pub const OWN_SOURCE: &str = "affiliate-billing";

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// Earned by a conversion; positive.
    Commission,
    /// Granted on top; positive.
    Bonus,
    /// A correction; either sign.
    Adjustment,
    /// Takes back all or part of another entry; negative.
    Clawback,
    /// Moves a remainder between sets; made by the service alone.
    CarryForward,
}

/// How an entry is known: the posting system and its own id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryKey {
    /// The posting system; may be empty.
    pub source: String,
    /// Its id of the entry.
    pub external_id: String,
}

/// An entry in canonical form: what is compared when it is posted again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEntry {
    /// How it is known.
    pub key: EntryKey,
    /// Whose it is.
    pub account_id: AccountId,
    /// Amount with its sign; not zero.
    pub money: Money,
    /// What it is.
    pub kind: EntryKind,
    /// When it was earned or taken back.
    pub occur_time: Timestamp,
    /// Date from which it can be settled.
    pub available_date: Date,
    /// Free text.
    pub description: String,
    /// The entry that a clawback takes back.
    pub reverses: Option<EntryKey>,
}

/// An entry as stored.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its id.
    pub id: Uuid,
    /// Its content.
    pub content: NewEntry,
    /// When it was posted.
    pub create_time: Timestamp,
    /// The accrual that it is part of.
    pub accrual: AccrualKey,
    /// The live account settlement that pays it.
    pub account_settlement_id: Option<Uuid>,
}

/// Which accrual an entry belongs to. The order is the order in which accruals are locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccrualKey {
    /// The account.
    pub account_id: AccountId,
    /// The currency.
    pub currency: Currency,
    /// The day on which it becomes available.
    pub available_day: Date,
    /// Money taken back, which counts whatever the cut-off.
    pub debt: bool,
}

/// Why an entry was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectReason {
    /// A field is malformed.
    InvalidEntry,
    /// Posted before with other content.
    ExternalIdConflict,
    /// The entry that a clawback names is not there.
    ReversedEntryNotFound,
    /// The entry that a clawback names is of another account or currency, or can't be taken back.
    ReversedEntryMismatch,
    /// All clawbacks of the entry together would be more than it.
    ClawbackExceedsEntry,
    /// The account's balance would leave its range.
    BalanceLimitExceeded,
}

/// Why an entry was not posted, and which field is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Why.
    pub reason: RejectReason,
    /// The field.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// What became of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryOutcome {
    /// It was posted now.
    Posted,
    /// It was there already, with the same content.
    AlreadyPosted,
    /// It was not posted.
    Rejected(Rejection),
}

impl EntryKind {
    /// Name as stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Commission => "COMMISSION",
            Self::Bonus => "BONUS",
            Self::Adjustment => "ADJUSTMENT",
            Self::Clawback => "CLAWBACK",
            Self::CarryForward => "CARRY_FORWARD",
        }
    }

    /// The kind of a stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Commission,
            Self::Bonus,
            Self::Adjustment,
            Self::Clawback,
            Self::CarryForward,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }

    /// Checks the sign and size of an amount posted as this kind.
    pub fn check_amount(self, amount: Amount) -> Result<(), &'static str> {
        let positive = amount.is_positive();
        match self {
            _ if amount.is_zero() => Err("must not be zero"),
            _ if amount.magnitude() > Amount::from_units(MAX_ENTRY_UNITS) => {
                Err("must be at most 10000000000 units either way")
            }
            Self::Commission | Self::Bonus if !positive => Err("must be more than 0 for this kind"),
            Self::Clawback if positive => Err("must be less than 0 for this kind"),
            Self::CarryForward => Err("can't be posted"),
            Self::Commission | Self::Bonus | Self::Adjustment | Self::Clawback => Ok(()),
        }
    }

    /// Whether an entry of this kind can be taken back by a clawback.
    #[must_use]
    pub fn can_be_reversed(self) -> bool {
        matches!(self, Self::Commission | Self::Bonus | Self::Adjustment)
    }
}

impl RejectReason {
    /// Name as answered.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidEntry => "INVALID_ENTRY",
            Self::ExternalIdConflict => "EXTERNAL_ID_CONFLICT",
            Self::ReversedEntryNotFound => "REVERSED_ENTRY_NOT_FOUND",
            Self::ReversedEntryMismatch => "REVERSED_ENTRY_MISMATCH",
            Self::ClawbackExceedsEntry => "CLAWBACK_EXCEEDS_ENTRY",
            Self::BalanceLimitExceeded => "BALANCE_LIMIT_EXCEEDED",
        }
    }
}

impl Rejection {
    /// A rejection for a field.
    #[must_use]
    pub fn new(reason: RejectReason, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason,
            field: field.into(),
            message: message.into(),
        }
    }
}

impl NewEntry {
    /// The accrual that it belongs to. `reversed` is the accrual of the entry that a clawback takes back.
    ///
    /// Money taken back counts at once, whatever the cut-off of a run; but the clawback of an entry that is still pending
    /// becomes available with it, as if both had never been.
    #[must_use]
    pub fn accrual_key(&self, reversed: Option<&AccrualKey>, today: Date) -> AccrualKey {
        let pending = reversed.filter(|accrual| !accrual.debt && accrual.available_day > today);
        let (available_day, debt) = match pending {
            Some(accrual) => (accrual.available_day, false),
            None if self.money.amount.is_negative() => (self.available_date.min(today), true),
            None => (self.available_date, false),
        };
        AccrualKey {
            account_id: self.account_id.clone(),
            currency: self.money.currency,
            available_day,
            debt,
        }
    }
}
