//! Change control: what the operator asks for before money goes to where it did not go before, or leaves at all.
//!
//! These are the settings of one process. What other settings left in the database, such as a settlement that awaits approval,
//! counts whatever they are.

use super::Billing;
use crate::domain::open_balances::{Terms, Types};
use crate::domain::settlements::Approval;
use crate::domain::time::Timestamp;

/// What is asked for. Nothing, by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeControl {
    /// How many hours a payment method is kept out of settling after it was made, became the default or pays to somewhere else.
    pub cool_off_hours: u32,
    /// Whether settlements that are made need approval by somebody else. Makes sense only where callers are authenticated.
    pub require_approval: bool,
}

impl ChangeControl {
    /// What decides beside what is known of an account, with these types.
    pub(super) fn terms(self, types: Types, now: Timestamp) -> Terms {
        Terms {
            types,
            cool_off_hours: self.cool_off_hours,
            now,
        }
    }

    /// The approval of a settlement that is made now.
    pub(super) fn of_new_settlement(self) -> Approval {
        if self.require_approval {
            Approval::Pending
        } else {
            Approval::NotRequired
        }
    }
}

impl Billing {
    /// With what is asked for.
    #[must_use]
    pub fn with_change_control(mut self, change_control: ChangeControl) -> Self {
        self.change_control = change_control;
        self
    }
}
