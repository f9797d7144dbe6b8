//! Payouts by a provider: what is known of each at the provider, when it is asked again, and what it said.
//!
//! What a word of the provider means, and which of two counts, is decided in `payout/`; here is what is kept of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::account_settlements::Status;
use crate::domain::ids::AccountId;
use crate::domain::money::Money;
use crate::domain::time::Timestamp;

/// Bytes of a ref code that is kept of an event.
pub const MAX_REF_CODE_BYTES: usize = 64;
/// An outcome that is unknown is asked for after so long, then after pauses that double up to the interval.
const FIRST_CHECK: Duration = Duration::from_secs(2);
/// The longer a payment stays as it is, the rarer it is asked for: after this share of that time,
const UNCHANGED_SHARE: u32 = 20;
/// but at least so often while it is under way,
const LONGEST_UNDER_WAY: Duration = Duration::from_secs(3600);
/// and so often once it was said to be paid, which then is seldom taken back.
const LONGEST_PAID: Duration = Duration::from_secs(6 * 3600);

/// What is known of a payout at its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayoutState {
    /// Surely nothing is there: it can be sent.
    Unsent,
    /// It was sent, or may have been: look it up before anything else.
    Unknown,
    /// The provider has it.
    Known,
    /// The provider said its last word.
    Done,
}

/// The provider's word that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingWord {
    /// The provider's own status.
    pub raw_status: String,
    /// The provider's id of the payment; may be empty.
    pub reference: String,
    /// The provider's error code; may be empty.
    pub error_code: String,
    /// The provider's error text; may be empty.
    pub error_text: String,
    /// When it became so by the provider's clock.
    pub event_time: Option<Timestamp>,
    /// What it means.
    pub status: Status,
    /// Whether it is the provider's last word.
    pub is_final: bool,
    /// Orders words of the same time.
    pub rank: u8,
}

/// A word whose status is not known here; it changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmappedWord {
    /// The provider's own status.
    pub raw_status: String,
    /// When it became so by the provider's clock.
    pub event_time: Option<Timestamp>,
}

/// An account settlement as its provider's words find it.
#[derive(Debug, Clone)]
pub struct ProviderRow {
    /// Its id.
    pub id: Uuid,
    /// The settlement.
    pub settlement_id: Uuid,
    /// Its account.
    pub account_id: AccountId,
    /// What is paid.
    pub money: Money,
    /// Its status.
    pub status: Status,
    /// The provider that manages it.
    pub provider: Option<String>,
    /// Counts its changes of status, and its deletion.
    pub revision: i64,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Whether its settlement awaits approval: until then nothing is sent, and nothing that is said is believed.
    pub awaits_approval: bool,
    /// The word that stands, where anything was said.
    pub standing: Option<StandingWord>,
    /// The newest word that is not known.
    pub unmapped: Option<UnmappedWord>,
    /// When it was last said to be under way, by the provider's clock.
    pub under_way_time: Option<Timestamp>,
    /// What is known of it at the provider, from the first intent to send it on.
    pub payout: Option<Payout>,
}

/// The status of a payment that the provider had and no longer knows, in an alarm.
pub const NO_LONGER_KNOWN: &str = "(no longer known)";

/// What is known of an account settlement at its provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    /// What is known.
    pub state: PayoutState,
    /// The batch that it was last sent with; nil where it never was.
    pub batch_id: Uuid,
    /// How often it was sent from here.
    pub attempt_count: i64,
    /// When it was last sent, or what came of that was seen.
    pub attempt_time: Timestamp,
    /// How often it was asked for in vain since.
    pub check_count: i64,
    /// When it is asked for next.
    pub next_time: Timestamp,
    /// Until then somebody is at it.
    pub claimed_until: Timestamp,
}

/// What became of one word of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WordOutcome {
    /// It is kept and was not looked at yet.
    Stored,
    /// It stands, or stood when it came.
    Applied,
    /// It was late or said before.
    Stale,
    /// Its status is not known here. It is looked at again by later versions.
    Unmapped,
    /// There is no such account settlement, or its settlement awaits approval. It is looked at again when that has changed.
    NoRow,
    /// It contradicts what was done.
    Contradiction,
}

/// A contradiction between what a provider says and what was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayoutAlarm {
    /// Its id.
    pub id: Uuid,
    /// The account settlement.
    pub account_settlement_id: Uuid,
    /// Its account.
    pub account_id: AccountId,
    /// The provider.
    pub provider: String,
    /// What it said.
    pub raw_status: String,
    /// When that became so by its clock.
    pub event_time: Option<Timestamp>,
    /// Whether the account settlement was deleted, so that its money was open again.
    pub was_deleted: bool,
    /// How it was heard: `event <id>` or `look-up`.
    pub origin: String,
    /// When it was noticed.
    pub create_time: Timestamp,
}

/// An event of a provider as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEvent {
    /// The provider's id of it.
    pub id: String,
    /// What it is about, by the provider's own name.
    pub event_type: String,
    /// Whether it is a test's.
    pub is_test: bool,
    /// When the provider made it.
    pub created_time: Option<Timestamp>,
    /// When it came.
    pub receive_time: Timestamp,
    /// How many payments it is about.
    pub word_count: i64,
    /// The first of them, and what became of each word.
    pub words: Vec<ListedWord>,
}

/// One payment of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedWord {
    /// What the provider knows the payment by.
    pub ref_code: String,
    /// The provider's own status.
    pub raw_status: String,
    /// What became of it.
    pub outcome: WordOutcome,
}

impl PayoutState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unsent, Self::Unknown, Self::Known, Self::Done];

    /// Name as stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsent => "UNSENT",
            Self::Unknown => "UNKNOWN",
            Self::Known => "KNOWN",
            Self::Done => "DONE",
        }
    }

    /// The state of a stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl WordOutcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Stored,
        Self::Applied,
        Self::Stale,
        Self::Unmapped,
        Self::NoRow,
        Self::Contradiction,
    ];

    /// Name as stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "STORED",
            Self::Applied => "APPLIED",
            Self::Stale => "STALE",
            Self::Unmapped => "UNMAPPED",
            Self::NoRow => "NO_ROW",
            Self::Contradiction => "CONTRADICTION",
        }
    }

    /// The outcome of a stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

impl ProviderRow {
    /// Whether the provider said its last word, and nothing after it that puts a failure in doubt: that it is under way again,
    /// or something that is not known here.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let Some(standing) = self.standing.as_ref().filter(|standing| standing.is_final) else {
            return false;
        };
        let unmapped_time = self.unmapped.as_ref().and_then(|word| word.event_time);
        let newest = self.under_way_time.max(unmapped_time);
        standing.status != Status::Error || newest <= standing.event_time
    }
}

impl Payout {
    /// One that is about to be sent, or to be sent again: from then on its money is let go by the provider's last word alone.
    /// Until `claimed_until` nobody else asks for it.
    #[must_use]
    pub fn sending(before: Option<&Self>, batch_id: Uuid, now: Timestamp, claimed_until: Timestamp) -> Self {
        Self {
            state: PayoutState::Unknown,
            batch_id,
            attempt_count: before.map_or(0, |before| before.attempt_count) + 1,
            attempt_time: now,
            check_count: 0,
            next_time: claimed_until,
            claimed_until,
        }
    }

    /// One that the provider speaks of.
    #[must_use]
    pub fn known(before: Option<&Self>, is_final: bool, now: Timestamp, next_time: Timestamp) -> Self {
        let state = if is_final {
            PayoutState::Done
        } else {
            PayoutState::Known
        };
        Self {
            state,
            batch_id: before.map_or(Uuid::nil(), |before| before.batch_id),
            attempt_count: before.map_or(0, |before| before.attempt_count),
            attempt_time: before.map_or(now, |before| before.attempt_time),
            check_count: 0,
            next_time,
            claimed_until: now,
        }
    }

    /// Whether "not known" can be believed of it.
    #[must_use]
    pub fn is_beyond_doubt(&self, doubt_period: Duration, now: Timestamp) -> bool {
        now >= self.attempt_time.plus(doubt_period)
    }

    /// The pause before it is asked for again, after it was in vain.
    #[must_use]
    pub fn pause_in_doubt(&self, interval: Duration) -> Duration {
        let doublings = u32::try_from(self.check_count.clamp(0, 16)).unwrap_or(16);
        FIRST_CHECK.saturating_mul(1 << doublings).min(interval)
    }
}

/// The pause before a payment that the provider has is asked for again.
#[must_use]
pub fn pause_until_refresh(status: Status, unchanged_since: Timestamp, now: Timestamp, interval: Duration) -> Duration {
    let micros = now.as_micros().saturating_sub(unchanged_since.as_micros());
    let unchanged = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    let longest = match status {
        Status::Paid => LONGEST_PAID,
        Status::New | Status::InProgress | Status::Error => LONGEST_UNDER_WAY,
    };
    interval.max((unchanged / UNCHANGED_SHARE).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds_nanos(seconds, 0).unwrap()
    }

    #[test]
    fn the_longer_it_stays_the_rarer_it_is_asked_for() {
        let pause = |status, seconds| pause_until_refresh(status, at(0), at(seconds), INTERVAL);
        assert_eq!(pause(Status::InProgress, 0), INTERVAL);
        assert_eq!(pause(Status::InProgress, 20 * 600), Duration::from_secs(600));
        assert_eq!(pause(Status::InProgress, 1_000_000), LONGEST_UNDER_WAY);
        assert_eq!(pause(Status::Paid, 1_000_000), LONGEST_PAID);
        assert_eq!(pause(Status::Paid, -5), INTERVAL);
    }

    #[test]
    fn doubt_ends_after_its_period_and_is_looked_into_ever_rarer() {
        let mut payout = Payout::sending(None, Uuid::nil(), at(100), at(160));
        assert!(!payout.is_beyond_doubt(Duration::from_secs(10), at(109)));
        assert!(payout.is_beyond_doubt(Duration::from_secs(10), at(110)));
        assert_eq!(payout.pause_in_doubt(INTERVAL), FIRST_CHECK);
        payout.check_count = 3;
        assert_eq!(payout.pause_in_doubt(INTERVAL), FIRST_CHECK * 8);
        payout.check_count = i64::MAX;
        assert_eq!(payout.pause_in_doubt(INTERVAL), INTERVAL);
    }

    #[test]
    fn sending_again_counts_and_is_unknown() {
        let first = Payout::sending(None, Uuid::nil(), at(1), at(2));
        let again = Payout::sending(Some(&first), Uuid::max(), at(3), at(4));
        assert_eq!((again.attempt_count, again.state), (2, PayoutState::Unknown));
    }
}
