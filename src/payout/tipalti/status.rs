//! Tipalti's payment statuses and what they mean here: the one table.

use crate::domain::account_settlements::Status;
use crate::payout::MappedStatus;

/// Raw status, ours, whether Tipalti calls it final, and its rank among words of the same time.
///
/// From Tipalti's "Payment statuses": the names are those of its API, the finality is its own. Payments begin as `ANALYZING`.
pub const STATUSES: [(&str, Status, bool, u8); 11] = [
    ("ANALYZING", Status::InProgress, false, 0),
    ("SUBMITTED", Status::InProgress, false, 10),
    ("SCHEDULED", Status::InProgress, false, 20),
    ("PENDING_PAYER_FUNDS", Status::InProgress, false, 30),
    ("FRAUD_REVIEW", Status::InProgress, false, 40),
    ("PAID", Status::Paid, false, 50),
    ("DEFERRED_INTERNAL", Status::Error, true, 60),
    ("DEFERRED", Status::Error, true, 61),
    ("CANCELED", Status::Error, true, 62),
    ("REJECTED", Status::Error, true, 63),
    ("CLEARED", Status::Paid, true, 70),
];

/// Other names of the same, from Tipalti's pages for people.
pub const ALIASES: [(&str, &str); 3] = [
    ("PENDING_FUNDS", "PENDING_PAYER_FUNDS"),
    ("RISK_REVIEW", "FRAUD_REVIEW"),
    ("CANCELLED", "CANCELED"),
];

/// What a status means; `None` for one that is not in the table. Case, spaces and punctuation don't matter, so
/// `Deferred (Internal)` and `PendingPayerFunds` are found.
#[must_use]
pub fn map(raw_status: &str) -> Option<MappedStatus> {
    let asked = normalized(raw_status);
    let alias = ALIASES.iter().find(|(alias, _)| normalized(alias) == asked);
    let name = alias.map_or(asked, |(_, name)| normalized(name));
    let row = STATUSES.iter().find(|(raw, ..)| normalized(raw) == name);
    row.map(|&(_, status, is_final, rank)| MappedStatus { status, is_final, rank })
}

/// Letters and digits, in upper case.
pub(super) fn normalized(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|character| character.to_ascii_uppercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_domain() {
        let told = |raw: &str| map(raw).map(|mapped| (mapped.status, mapped.is_final));
        for raw in [
            "Analyzing",
            "Submitted",
            "Scheduled",
            "PENDING_PAYER_FUNDS",
            "FRAUD_REVIEW",
        ] {
            assert_eq!(told(raw), Some((Status::InProgress, false)), "{raw}");
        }
        for raw in [
            "Pending funds",
            "PendingPayerFunds",
            "Risk review",
            "FraudReview",
            " submitted ",
        ] {
            assert_eq!(told(raw), Some((Status::InProgress, false)), "{raw}");
        }
        assert_eq!(told("PAID"), Some((Status::Paid, false)));
        assert_eq!(told("Cleared"), Some((Status::Paid, true)));
        for raw in [
            "REJECTED",
            "Canceled",
            "Cancelled",
            "DEFERRED",
            "Deferred (Internal)",
            "DEFERRED_INTERNAL",
        ] {
            assert_eq!(told(raw), Some((Status::Error, true)), "{raw}");
        }
        for raw in ["", "INTERNAL_VALUE", "PAID2", "UNPAID"] {
            assert_eq!(told(raw), None, "{raw}");
        }
    }

    #[test]
    fn each_status_has_a_rank_of_its_own() {
        for (index, row) in STATUSES.iter().enumerate() {
            assert!(
                STATUSES.iter().skip(index + 1).all(|other| other.3 != row.3),
                "{}",
                row.0
            );
        }
    }
}
