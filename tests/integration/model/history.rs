//! Histories: what callers do, in words that fit any state. What a step names that is not there, it names by number:
//! the model takes the remainder by how many there are.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// One call.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Post(Vec<Draft>),
    SettleAccounts {
        items: Vec<Item>,
        cut_off: usize,
    },
    SettleFilter {
        filter: Filter,
        cut_off: usize,
    },
    SetStatus {
        row: usize,
        status: usize,
        with_reason: bool,
    },
    DeleteRow(usize),
    DeleteSettlement(usize),
    SetHold {
        account: usize,
        on_hold: bool,
    },
    GiveDetails(usize),
    EnablePaypal(bool),
}

/// An entry to post.
#[derive(Debug, Clone)]
pub(crate) enum Draft {
    New {
        account: usize,
        currency: usize,
        kind: Kind,
        micros: i128,
        date: usize,
    },
    /// So many thousandths of an entry.
    Clawback { of: usize, permille: i128, date: usize },
    /// The same entry again, or one of the same id with another amount.
    Again { of: usize, changed: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Commission,
    Bonus,
    AdjustmentUp,
    AdjustmentDown,
}

/// An account, with so many thousandths of what is open in a currency, or with everything.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) account: usize,
    pub(crate) part: Option<(usize, i128)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Filter {
    /// Left out of the accounts that are named.
    pub(crate) without: Option<usize>,
    pub(crate) currency: Option<usize>,
    pub(crate) minimum: Option<(usize, i128)>,
    pub(crate) type_id: Option<usize>,
    pub(crate) payable_only: bool,
}

pub(crate) const ACCOUNTS: usize = 4;
pub(crate) const CURRENCIES: usize = 3;
pub(crate) const DATES: usize = 5;
pub(crate) const CUT_OFFS: usize = 3;

pub(crate) fn histories(steps: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), steps)
}

fn step() -> impl Strategy<Value = Step> {
    let cut_off = || prop_oneof![2 => Just(0), 1 => 1..CUT_OFFS];
    let any_number = || 0..1000_usize;
    prop_oneof![
        10 => vec(draft(), 1..6).prop_map(Step::Post),
        6 => (vec(item(), 1..4), cut_off()).prop_map(|(items, cut_off)| Step::SettleAccounts { items, cut_off }),
        4 => (filter(), cut_off()).prop_map(|(filter, cut_off)| Step::SettleFilter { filter, cut_off }),
        4 => (any_number(), 0..3_usize, any::<bool>())
            .prop_map(|(row, status, with_reason)| Step::SetStatus { row, status, with_reason }),
        5 => any_number().prop_map(Step::DeleteRow),
        3 => any_number().prop_map(Step::DeleteSettlement),
        1 => (0..ACCOUNTS, any::<bool>()).prop_map(|(account, on_hold)| Step::SetHold { account, on_hold }),
        1 => (0..ACCOUNTS).prop_map(Step::GiveDetails),
        1 => any::<bool>().prop_map(Step::EnablePaypal),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let kind = prop_oneof![
        5 => Just(Kind::Commission),
        1 => Just(Kind::Bonus),
        1 => Just(Kind::AdjustmentUp),
        2 => Just(Kind::AdjustmentDown),
    ];
    // Whole units, whole cents, and fractions of a cent.
    let micros = prop_oneof![
        (1..100_i128).prop_map(|units| units * 1_000_000),
        (1..10_000_i128).prop_map(|cents| cents * 10_000),
        1..100_000_000_i128,
    ];
    let new =
        (0..ACCOUNTS, 0..CURRENCIES, kind, micros, 0..DATES).prop_map(|(account, currency, kind, micros, date)| {
            Draft::New {
                account,
                currency,
                kind,
                micros,
                date,
            }
        });
    let permille = prop_oneof![Just(1000_i128), 1..1300_i128];
    let clawback =
        (0..1000_usize, permille, 0..DATES).prop_map(|(of, permille, date)| Draft::Clawback { of, permille, date });
    let again = (0..1000_usize, any::<bool>()).prop_map(|(of, changed)| Draft::Again { of, changed });
    prop_oneof![8 => new, 3 => clawback, 1 => again]
}

fn item() -> impl Strategy<Value = Item> {
    let part = option::weighted(0.6, (0..CURRENCIES, 1..1100_i128));
    (0..ACCOUNTS, part).prop_map(|(account, part)| Item { account, part })
}

fn filter() -> impl Strategy<Value = Filter> {
    let minimum = option::weighted(0.2, (0..CURRENCIES, -1_000_000..60_000_000_i128));
    (
        option::weighted(0.3, 0..ACCOUNTS),
        option::weighted(0.3, 0..CURRENCIES),
        minimum,
        option::weighted(0.2, 0..3_usize),
        any::<bool>(),
    )
        .prop_map(|(without, currency, minimum, type_id, payable_only)| Filter {
            without,
            currency,
            minimum,
            type_id,
            payable_only,
        })
}
