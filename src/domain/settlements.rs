//! Settlements: runs over many accounts, with counters by status and totals by currency.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::domain::currency::Currency;
use crate::domain::error::Result;
use crate::domain::ids::AccountId;
use crate::domain::money::{Amount, Money};
use crate::domain::open_balances::SettleSkipReason;
use crate::domain::time::{Date, Timestamp};

/// Bytes of a settlement's note at most.
pub const MAX_NOTE_BYTES: usize = 1000;

/// One settlement run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Its id; nil in the answer of a validation.
    pub id: Uuid,
    /// The caller's note.
    pub note: String,
    /// Its cut-off.
    pub available_through: Date,
    /// Live account settlements and what they come to, by currency.
    pub counters: Vec<Counter>,
    /// Accounts and currencies that it left out.
    pub skipped_count: i64,
    /// Who made it.
    pub actor: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was deleted.
    pub delete_time: Option<Timestamp>,
    /// Whether it needs approval, and has it.
    #[serde(default)]
    pub approval: Approval,
}

/// Whether a settlement needs somebody else's approval before its rows can leave `NEW`. It never goes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Approval {
    /// It needs none.
    #[default]
    NotRequired,
    /// It awaits it.
    Pending,
    /// It has it.
    Approved {
        /// Who gave it: never who made the settlement.
        approver: String,
        /// When.
        approve_time: Timestamp,
    },
}

/// The states of approval, to choose settlements by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named like those of Approval")]
pub enum ApprovalState {
    NotRequired,
    Pending,
    Approved,
}

/// Live account settlements of a settlement in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The currency.
    pub currency: Currency,
    /// How many are in each status.
    pub counts: StatusCounts,
    /// What they come to.
    pub total: Amount,
    /// How many changes of them were counted.
    pub changes: i64,
}

/// Numbers of account settlements by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named like the statuses")]
pub struct StatusCounts {
    pub new: i64,
    pub in_progress: i64,
    pub paid: i64,
    pub error: i64,
}

/// An account and currency that a run left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedAccount {
    /// The account.
    pub account_id: AccountId,
    /// The currency; none when the account has nothing in any.
    pub currency: Option<Currency>,
    /// Why.
    pub reason: SettleSkipReason,
    /// What was open, or the amount asked for where that is the reason.
    pub amount: Option<Amount>,
    /// Until when its payment method cools off, where that is the reason.
    #[serde(default)]
    pub cooling_off_until: Option<Timestamp>,
}

impl StatusCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.new + self.in_progress + self.paid + self.error
    }
}

impl Approval {
    /// Which state it is.
    #[must_use]
    pub fn state(&self) -> ApprovalState {
        match self {
            Self::NotRequired => ApprovalState::NotRequired,
            Self::Pending => ApprovalState::Pending,
            Self::Approved { .. } => ApprovalState::Approved,
        }
    }
}

impl Settlement {
    /// The counters of all currencies together.
    #[must_use]
    pub fn status_counts(&self) -> StatusCounts {
        let mut sum = StatusCounts::default();
        for counter in &self.counters {
            sum.new += counter.counts.new;
            sum.in_progress += counter.counts.in_progress;
            sum.paid += counter.counts.paid;
            sum.error += counter.counts.error;
        }
        sum
    }

    /// What the live account settlements come to, one a currency.
    #[must_use]
    pub fn totals(&self) -> Vec<Money> {
        self.counters
            .iter()
            .filter(|counter| counter.counts.total() > 0)
            .map(|counter| Money::new(counter.currency, counter.total))
            .collect()
    }

    /// Changes with the settlement and with each of its rows: also when one goes back to where it was.
    pub fn etag(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.id.as_bytes());
        hash.update(self.delete_time.map_or(0, Timestamp::as_micros).to_be_bytes());
        if let Approval::Approved { approve_time, .. } = &self.approval {
            hash.update(b"approved");
            hash.update(approve_time.as_micros().to_be_bytes());
        }
        for counter in &self.counters {
            let counts = counter.counts;
            hash.update(counter.currency.code());
            for count in [
                counts.new,
                counts.in_progress,
                counts.paid,
                counts.error,
                counter.changes,
            ] {
                hash.update(count.to_be_bytes());
            }
            hash.update(counter.total.to_text(0));
        }
        Ok(hash
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}
