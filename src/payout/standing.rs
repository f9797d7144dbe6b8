//! In which order a provider's words count, whatever order they arrive in.
//!
//! All words about one payment are totally ordered, and the greatest one stands. So what stands depends on the set of words
//! only: not on their order, nor on how often each was said. The order is, first to last:
//!
//! 1. the stage: under way; then paid or failed; then paid for good. A word that the money is under way never takes back
//!    that it was paid or failed, and none takes back that it was paid for good, whatever its time: money that may have been
//!    paid is not let go.
//! 2. the provider's own time. So "paid" may become "rejected", and the other way round where the provider says so later.
//! 3. the rank, for words of the same time.
//!
//! The one who keeps the rows stores the words that stand (raw status, time), and asks [`judge`] about each new one.

use std::cmp::Ordering;

use crate::domain::account_settlements::Status;
use crate::payout::{MappedStatus, PaymentReport};

/// The word that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What the provider said.
    pub report: PaymentReport,
    /// What it means.
    pub mapped: MappedStatus,
}

/// What a new word does to the one that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its status is not known: it changes nothing, and is to be shown.
    Unmapped,
    /// It is late or was said before: it changes nothing.
    Stale,
    /// It stands from now on. Its status may be the one that the row has already.
    Moves(MappedStatus),
    /// It contradicts a last word: paid after it had finally failed (then it stands from now on, so that nothing more is
    /// let go), under way again after that, by the provider's own time, or failed after it was paid for good (then it changes
    /// nothing). Either needs somebody's eyes.
    Contradicts {
        /// What it means.
        mapped: MappedStatus,
        /// Whether it stands from now on.
        moves: bool,
    },
}

/// What a new word does to the one that stands. `held` is `None` for a payment of which nothing was said yet.
#[must_use]
pub fn judge(held: Option<&Standing>, report: &PaymentReport, map: impl Fn(&str) -> Option<MappedStatus>) -> Verdict {
    let Some(mapped) = map(&report.raw_status) else {
        return Verdict::Unmapped;
    };
    let Some(held) = held else {
        return Verdict::Moves(mapped);
    };
    let moves = compare((report, mapped), (&held.report, held.mapped)) == Ordering::Greater;
    let was_let_go = held.mapped.is_final && held.mapped.status == Status::Error;
    let was_paid_for_good = held.mapped.is_final && held.mapped.status == Status::Paid;
    let is_taken_up_again =
        was_let_go && mapped.status == Status::InProgress && report.event_time > held.report.event_time;
    if (was_let_go && moves && mapped.status == Status::Paid)
        || is_taken_up_again
        || (was_paid_for_good && mapped.is_final && mapped.status == Status::Error)
    {
        return Verdict::Contradicts { mapped, moves };
    }
    if moves { Verdict::Moves(mapped) } else { Verdict::Stale }
}

/// The word that stands of all that were said; `None` when none of them has a known status.
pub fn fold<'a>(
    reports: impl IntoIterator<Item = &'a PaymentReport>,
    map: impl Fn(&str) -> Option<MappedStatus>,
) -> Option<Standing> {
    let mut standing: Option<Standing> = None;
    for report in reports {
        let Some(mapped) = map(&report.raw_status) else {
            continue;
        };
        let stands = standing
            .as_ref()
            .is_none_or(|held| compare((report, mapped), (&held.report, held.mapped)) == Ordering::Greater);
        if stands {
            standing = Some(Standing {
                report: report.clone(),
                mapped,
            });
        }
    }
    standing
}

/// A total order. Words of the same stage, time and rank say the same; the rest only makes the choice among them certain.
fn compare(left: (&PaymentReport, MappedStatus), right: (&PaymentReport, MappedStatus)) -> Ordering {
    let key = |(report, mapped): (&PaymentReport, MappedStatus)| (stage(mapped), report.event_time, mapped.rank);
    let details = |report: &'_ PaymentReport| {
        [
            report.error_code.clone(),
            report.error_text.clone(),
            report.provider_reference.clone(),
            report.raw_status.clone(),
        ]
    };
    key(left)
        .cmp(&key(right))
        .then_with(|| details(left.0).cmp(&details(right.0)))
}

fn stage(mapped: MappedStatus) -> u8 {
    match mapped.status {
        Status::New | Status::InProgress => 0,
        Status::Error => 1,
        Status::Paid if mapped.is_final => 2,
        Status::Paid => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::time::Timestamp;
    use crate::payout::tipalti::status::map;

    fn said(raw_status: &str, micros: i64) -> PaymentReport {
        PaymentReport {
            ref_code: "r".to_owned(),
            raw_status: raw_status.to_owned(),
            provider_reference: String::new(),
            error_code: String::new(),
            error_text: String::new(),
            event_time: Timestamp::from_micros(micros),
        }
    }

    fn held(raw_status: &str, micros: i64) -> Standing {
        Standing {
            report: said(raw_status, micros),
            mapped: map(raw_status).unwrap(),
        }
    }

    fn stands(words: &[(&str, i64)]) -> String {
        let reports: Vec<_> = words.iter().map(|(raw, time)| said(raw, *time)).collect();
        fold(&reports, map).unwrap().report.raw_status
    }

    #[test]
    fn the_provider_s_time_counts_and_not_the_arrival() {
        assert_eq!(stands(&[("PAID", 3), ("SUBMITTED", 1)]), "PAID");
        assert_eq!(stands(&[("REJECTED", 4), ("PAID", 3)]), "REJECTED");
        assert_eq!(stands(&[("FRAUD_REVIEW", 2), ("SCHEDULED", 3)]), "SCHEDULED");
    }

    #[test]
    fn under_way_never_takes_back_paid_or_failed() {
        assert_eq!(stands(&[("PAID", 1), ("SUBMITTED", 9)]), "PAID");
        assert_eq!(stands(&[("DEFERRED", 1), ("ANALYZING", 9)]), "DEFERRED");
    }

    #[test]
    fn nothing_takes_back_paid_for_good() {
        assert_eq!(stands(&[("CLEARED", 1), ("REJECTED", 9)]), "CLEARED");
    }

    #[test]
    fn a_contradiction_is_told() {
        let rejected = held("REJECTED", 5);
        assert!(matches!(
            judge(Some(&rejected), &said("PAID", 6), map),
            Verdict::Contradicts { moves: true, .. }
        ));
        assert_eq!(judge(Some(&rejected), &said("PAID", 4), map), Verdict::Stale);
        assert_eq!(judge(Some(&rejected), &said("SUBMITTED", 5), map), Verdict::Stale);
        assert!(matches!(
            judge(Some(&rejected), &said("SUBMITTED", 6), map),
            Verdict::Contradicts { moves: false, .. }
        ));
        assert!(matches!(
            judge(Some(&held("CLEARED", 5)), &said("CANCELED", 6), map),
            Verdict::Contradicts { moves: false, .. }
        ));
    }

    #[test]
    fn a_repeated_or_unknown_word_changes_nothing() {
        let paid = held("PAID", 5);
        assert_eq!(judge(Some(&paid), &said("PAID", 5), map), Verdict::Stale);
        assert_eq!(judge(Some(&paid), &said("SOMETHING_NEW", 9), map), Verdict::Unmapped);
        assert!(matches!(judge(None, &said("PAID", 5), map), Verdict::Moves(_)));
    }

    fn word() -> impl Strategy<Value = PaymentReport> {
        let raw = prop::sample::select(vec![
            "Analyzing",
            "SUBMITTED",
            "Scheduled",
            "PENDING_PAYER_FUNDS",
            "FRAUD_REVIEW",
            "PAID",
            "CLEARED",
            "REJECTED",
            "CANCELED",
            "DEFERRED",
            "DEFERRED_INTERNAL",
            "INTERNAL_VALUE",
        ]);
        (raw, 0i64..6, prop::bool::ANY).prop_map(|(raw, time, has_time)| PaymentReport {
            event_time: if has_time { Timestamp::from_micros(time) } else { None },
            ..said(raw, time)
        })
    }

    proptest! {
        #[test]
        fn what_stands_depends_on_the_words_only(
            (words, shuffled) in prop::collection::vec(word(), 1..12).prop_flat_map(|words| {
                let mut twice = words.clone();
                twice.extend(words.clone());
                (Just(words), Just(twice).prop_shuffle())
            })
        ) {
            prop_assert_eq!(fold(&words, map), fold(&shuffled, map));
        }

        #[test]
        fn judging_one_by_one_ends_where_folding_does(words in prop::collection::vec(word(), 1..12)) {
            let mut standing: Option<Standing> = None;
            for report in &words {
                let stands = match judge(standing.as_ref(), report, map) {
                    Verdict::Moves(mapped) | Verdict::Contradicts { mapped, moves: true } => Some(mapped),
                    Verdict::Unmapped | Verdict::Stale | Verdict::Contradicts { moves: false, .. } => None,
                };
                if let Some(mapped) = stands {
                    standing = Some(Standing { report: report.clone(), mapped });
                }
            }
            prop_assert_eq!(standing, fold(&words, map));
        }
    }
}
