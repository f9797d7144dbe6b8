//! Payout holds: marks on accounts that keep them out of settling.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::ids::AccountId;
use crate::domain::time::Timestamp;

/// Bytes of a hold's reason at most.
pub const MAX_HOLD_REASON_BYTES: usize = 500;

/// A mark on an account that keeps it out of settling until it is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutHold {
    /// Its id.
    pub id: Uuid,
    /// The account.
    pub account_id: AccountId,
    /// Why.
    pub reason: String,
    /// Who put it there.
    pub actor: String,
    /// Since when.
    pub create_time: Timestamp,
    /// When it was released.
    pub release_time: Option<Timestamp>,
    /// Who released it.
    pub release_actor: Option<String>,
}
