//! The rules of the ledger, as plainly as they can be written: lists, loops, and millionths as integers.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{ACCOUNTS, CURRENCIES, Draft, Filter, Kind};
use crate::support::fixtures::FUTURE;

pub(crate) const CODES: [&str; CURRENCIES] = ["EUR", "JPY", "KWD"];
/// Millionths in the smallest unit of each currency.
const MINOR: [i128; CURRENCIES] = [10_000, 1_000_000, 1_000];
/// `available_date` as sent; the first one is filled in from the entry's time.
pub(crate) const SENT_DATES: [&str; 5] = ["", "2026-01-10", "2026-02-10", "2026-03-10", FUTURE];
const FILLED_IN: &str = "2026-01-31";
/// `available_through` as sent; the first one is today.
pub(crate) const CUT_OFFS: [&str; 3] = ["", "2026-01-20", "2026-02-20"];
/// Any day that has passed by now, and after all others that have.
const TODAY: &str = "2026-04-01";
pub(crate) const TYPES: [&str; 3] = ["bank_transfer", "paypal", "tipalti"];
pub(crate) const BANK_MINIMUM_EUR: &str = "5";
const BANK_MINIMUM_MICROS: i128 = 5_000_000;
pub(crate) const STATUSES: [&str; 3] = ["NEW", "IN_PROGRESS", "PAID"];

const BANK: Option<usize> = Some(0);
const PAYPAL: Option<usize> = Some(1);
const TIPALTI: Option<usize> = Some(2);
/// Type of each account's default method, by currency.
pub(crate) const METHODS: [[Option<usize>; CURRENCIES]; ACCOUNTS] = [
    [BANK, BANK, BANK],
    [PAYPAL, BANK, None],
    [TIPALTI, BANK, BANK],
    [BANK, None, BANK],
];
/// The account that begins without billing details.
pub(crate) const WITHOUT_DETAILS: usize = 3;

/// Money of an account in a currency, on a day.
#[derive(Debug, Clone)]
struct Lot {
    account: usize,
    currency: usize,
    day: &'static str,
    debt: bool,
    accepting: bool,
    micros: i128,
    entries: i64,
    row: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) account: usize,
    pub(crate) currency: usize,
    /// `None` for a clawback.
    pub(crate) kind: Option<Kind>,
    pub(crate) micros: i128,
    pub(crate) date: usize,
    /// The entry that a clawback takes back.
    pub(crate) of: Option<usize>,
    taken_back: i128,
    pending: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) settlement: usize,
    pub(crate) account: usize,
    pub(crate) currency: usize,
    pub(crate) micros: i128,
    pub(crate) status: usize,
    pub(crate) deleted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) account: usize,
    pub(crate) currency: usize,
    pub(crate) open: i128,
    pub(crate) pending: i128,
    pub(crate) entries: i64,
    pub(crate) payable: Result<i128, &'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) account: usize,
    pub(crate) currency: Option<usize>,
    pub(crate) reason: &'static str,
    pub(crate) micros: Option<i128>,
}

/// What a run does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// Account, currency, payout.
    pub(crate) payouts: Vec<(usize, usize, i128)>,
    /// Whether each of them is for the whole balance.
    whole: Vec<bool>,
    pub(crate) skipped: Vec<Skipped>,
}

#[derive(Debug)]
pub(crate) struct Model {
    lots: Vec<Lot>,
    pub(crate) posted: Vec<Posted>,
    pub(crate) rows: Vec<Row>,
    /// Whether each settlement is deleted.
    pub(crate) settlements: Vec<bool>,
    pub(crate) details: [bool; ACCOUNTS],
    pub(crate) on_hold: [bool; ACCOUNTS],
    pub(crate) paypal_enabled: bool,
}

/// Whose balances, as the service is asked: each account with an amount or all of it, or a filter.
pub(crate) enum Selection<'a> {
    Accounts(&'a [(usize, Option<(usize, i128)>)]),
    Filter(&'a Filter),
}

fn day_of(cut_off: usize) -> &'static str {
    if cut_off == 0 { TODAY } else { CUT_OFFS[cut_off] }
}

impl Model {
    pub(crate) fn new() -> Self {
        let mut details = [true; ACCOUNTS];
        details[WITHOUT_DETAILS] = false;
        Self {
            lots: Vec::new(),
            posted: Vec::new(),
            rows: Vec::new(),
            settlements: Vec::new(),
            details,
            on_hold: [false; ACCOUNTS],
            paypal_enabled: true,
        }
    }

    /// The entry that a draft means, and which posted one it repeats.
    pub(crate) fn drafted(&self, draft: &Draft) -> (Posted, Option<usize>) {
        let plain = |account, currency, kind, micros, date| Posted {
            account,
            currency,
            kind: Some(kind),
            micros,
            date,
            of: None,
            taken_back: 0,
            pending: false,
        };
        match draft {
            Draft::New {
                account,
                currency,
                kind,
                micros,
                date,
            } => {
                let sign = if *kind == Kind::AdjustmentDown { -1 } else { 1 };
                (plain(*account, *currency, *kind, sign * micros, *date), None)
            }
            _ if self.posted.is_empty() => (plain(0, 0, Kind::Bonus, 7_005_000, 0), None),
            Draft::Clawback { of, permille, date } => {
                let of = of % self.posted.len();
                let taken = &self.posted[of];
                let entry = Posted {
                    kind: None,
                    micros: -(taken.micros.abs() * permille / 1000).max(1),
                    date: *date,
                    of: Some(of),
                    taken_back: 0,
                    pending: false,
                    ..taken.clone()
                };
                (entry, None)
            }
            Draft::Again { of, changed } => {
                let of = of % self.posted.len();
                let mut entry = self.posted[of].clone();
                if *changed {
                    entry.micros *= 2;
                }
                (entry, Some(of))
            }
        }
    }

    /// Posts one entry: what the service must answer.
    pub(crate) fn post(&mut self, mut entry: Posted, repeats: Option<usize>) -> &'static str {
        if let Some(of) = repeats {
            return if self.posted[of].micros == entry.micros {
                "ALREADY_POSTED"
            } else {
                "EXTERNAL_ID_CONFLICT external_id"
            };
        }
        let mut waits = false;
        if let Some(of) = entry.of {
            let taken = &mut self.posted[of];
            if taken.kind.is_none() || taken.micros < 0 {
                return "REVERSED_ENTRY_MISMATCH reverses_external_id";
            }
            if taken.taken_back - entry.micros > taken.micros {
                return "CLAWBACK_EXCEEDS_ENTRY money.amount";
            }
            taken.taken_back -= entry.micros;
            waits = taken.pending;
        }
        let sent = if entry.date == 0 {
            FILLED_IN
        } else {
            SENT_DATES[entry.date]
        };
        let debt = entry.micros < 0 && !waits;
        let day = match (waits, debt) {
            (true, _) => FUTURE,
            (false, true) => sent.min(TODAY),
            (false, false) => sent,
        };
        entry.pending = !debt && day == FUTURE;
        self.add(&entry, day, debt);
        self.posted.push(entry);
        "POSTED"
    }

    fn add(&mut self, entry: &Posted, day: &'static str, debt: bool) {
        let same = |lot: &&mut Lot| {
            lot.accepting
                && (lot.account, lot.currency, lot.day, lot.debt) == (entry.account, entry.currency, day, debt)
        };
        if let Some(lot) = self.lots.iter_mut().find(same) {
            lot.micros += entry.micros;
            lot.entries += 1;
            return;
        }
        self.lots.push(Lot {
            account: entry.account,
            currency: entry.currency,
            day,
            debt,
            accepting: true,
            micros: entry.micros,
            entries: 1,
            row: None,
        });
    }

    fn of_pair(&self, account: usize, currency: usize) -> impl Iterator<Item = &Lot> {
        let of_pair = move |lot: &&Lot| (lot.account, lot.currency) == (account, currency);
        self.lots.iter().filter(of_pair)
    }

    /// The balance of an account that ever had entries in a currency.
    pub(crate) fn balance(&self, account: usize, currency: usize, cut_off: usize) -> Option<Balance> {
        self.of_pair(account, currency).next()?;
        let (mut open, mut pending, mut entries) = (0, 0, 0);
        for lot in self.of_pair(account, currency).filter(|lot| lot.row.is_none()) {
            entries += lot.entries;
            if lot.debt || lot.day <= day_of(cut_off) {
                open += lot.micros;
            } else {
                pending += lot.micros;
            }
        }
        Some(Balance {
            account,
            currency,
            open,
            pending,
            entries,
            payable: self.payable(account, currency, open, None),
        })
    }

    /// What of a filter over named accounts is shown.
    pub(crate) fn shown(&self, filter: &Filter, cut_off: usize) -> Vec<Balance> {
        let mut shown = Vec::new();
        for account in (0..ACCOUNTS).filter(|account| filter.without != Some(*account)) {
            for currency in 0..CURRENCIES {
                let balance = self.balance(account, currency, cut_off);
                shown.extend(balance.filter(|balance| admits(filter, balance)));
            }
        }
        shown
    }

    fn obstacle(&self, account: usize, currency: usize) -> Option<&'static str> {
        let method = METHODS[account][currency];
        match method {
            _ if self.on_hold[account] => Some("ACCOUNT_ON_HOLD"),
            _ if !self.details[account] => Some("NO_BILLING_DETAILS"),
            None => Some("NO_PAYMENT_METHOD"),
            PAYPAL if !self.paypal_enabled => Some("PAYMENT_METHOD_DISABLED"),
            Some(_) => None,
        }
    }

    fn payable(
        &self,
        account: usize,
        currency: usize,
        open: i128,
        requested: Option<i128>,
    ) -> Result<i128, &'static str> {
        if let Some(reason) = self.obstacle(account, currency) {
            return Err(reason);
        }
        if open < 0 {
            return Err("NEGATIVE_BALANCE");
        }
        if open == 0 {
            return Err("NOTHING_OPEN");
        }
        if requested.is_some_and(|requested| requested > open) {
            return Err("AMOUNT_ABOVE_OPEN_BALANCE");
        }
        let payout = requested.unwrap_or(open) / MINOR[currency] * MINOR[currency];
        let has_minimum = METHODS[account][currency] == BANK && CODES[currency] == "EUR";
        let minimum = if has_minimum { BANK_MINIMUM_MICROS } else { 1 };
        if payout < minimum {
            Err("BELOW_MINIMUM")
        } else {
            Ok(payout)
        }
    }

    /// So many thousandths of what is open, at the currency's scale and more than nothing.
    pub(crate) fn part(&self, account: usize, currency: usize, permille: i128) -> i128 {
        let open = self.balance(account, currency, 0).map_or(0, |balance| balance.open);
        let part = open.max(0) * permille / 1000 / MINOR[currency];
        part.max(1) * MINOR[currency]
    }

    /// What a run would do.
    pub(crate) fn plan(&self, selection: &Selection<'_>, cut_off: usize) -> Run {
        let mut run = Run::default();
        match selection {
            Selection::Filter(filter) => {
                for balance in self.shown(filter, cut_off) {
                    self.decide(&mut run, balance.account, balance.currency, None, cut_off);
                }
            }
            Selection::Accounts(items) => self.plan_named(&mut run, items, cut_off),
        }
        run
    }

    fn plan_named(&self, run: &mut Run, items: &[(usize, Option<(usize, i128)>)], cut_off: usize) {
        let mut seen = BTreeSet::new();
        for &(account, part) in items {
            let had: Vec<Option<usize>> = (0..CURRENCIES)
                .filter(|currency| self.of_pair(account, *currency).next().is_some())
                .map(Some)
                .collect();
            let currencies = match part {
                Some((currency, _)) => vec![Some(currency)],
                None if had.is_empty() => vec![None],
                None => had,
            };
            let requested = part.map(|(_, micros)| micros);
            for currency in currencies {
                if !seen.insert((account, currency)) {
                    let open = currency.and_then(|currency| self.balance(account, currency, cut_off));
                    run.skipped.push(Skipped {
                        account,
                        currency,
                        reason: "DUPLICATE_ACCOUNT",
                        micros: requested.or(open.map(|balance| balance.open)),
                    });
                } else if let Some(currency) = currency {
                    self.decide(run, account, currency, requested, cut_off);
                } else {
                    run.skipped.push(self.without_entries(account));
                }
            }
        }
    }

    /// Each account has a method in some currency.
    fn without_entries(&self, account: usize) -> Skipped {
        let reason = match (self.on_hold[account], self.details[account]) {
            (true, _) => "ACCOUNT_ON_HOLD",
            (false, false) => "NO_BILLING_DETAILS",
            (false, true) => "NOTHING_OPEN",
        };
        Skipped {
            account,
            currency: None,
            reason,
            micros: None,
        }
    }

    fn decide(&self, run: &mut Run, account: usize, currency: usize, requested: Option<i128>, cut_off: usize) {
        let balance = self.balance(account, currency, cut_off);
        let open = balance.as_ref().map_or(0, |balance| balance.open);
        match self.payable(account, currency, open, requested) {
            Ok(payout) => {
                run.payouts.push((account, currency, payout));
                run.whole.push(requested.is_none_or(|requested| requested == open));
            }
            Err(reason) => {
                let above = reason == "AMOUNT_ABOVE_OPEN_BALANCE";
                run.skipped.push(Skipped {
                    account,
                    currency: Some(currency),
                    reason,
                    micros: if above { requested } else { Some(open) },
                });
            }
        }
    }

    /// Does what a run does: closes what is due, claims, and carries what is too much.
    pub(crate) fn settle(&mut self, selection: &Selection<'_>, cut_off: usize) -> Run {
        let run = self.plan(selection, cut_off);
        self.close(selection, cut_off);
        let settlement = self.settlements.len();
        self.settlements.push(false);
        for (&(account, currency, micros), &whole) in run.payouts.iter().zip(&run.whole) {
            let row = self.rows.len();
            self.rows.push(Row {
                settlement,
                account,
                currency,
                micros,
                status: 0,
                deleted: false,
            });
            self.claim(row, whole, day_of(cut_off));
        }
        run
    }

    fn close(&mut self, selection: &Selection<'_>, cut_off: usize) {
        for lot in &mut self.lots {
            let selected = match selection {
                Selection::Accounts(items) => items.iter().any(|(account, _)| *account == lot.account),
                Selection::Filter(filter) => {
                    let currency = filter.currency.or(filter.minimum.map(|(currency, _)| currency));
                    filter.without != Some(lot.account) && currency.is_none_or(|currency| currency == lot.currency)
                }
            };
            if selected && (lot.debt || lot.day <= day_of(cut_off)) {
                lot.accepting = false;
            }
        }
    }

    /// Debts, then the oldest, of a day what was taken out of it first, until the payout is reached; all for the whole.
    fn claim(&mut self, row: usize, whole: bool, cut_off: &str) {
        let Row {
            account,
            currency,
            micros,
            ..
        } = self.rows[row];
        let mut due: Vec<&mut Lot> = self
            .lots
            .iter_mut()
            .filter(|lot| (lot.account, lot.currency, lot.row) == (account, currency, None))
            .filter(|lot| lot.debt || lot.day <= cut_off)
            .collect();
        due.sort_by_key(|lot| (!lot.debt, lot.day, lot.micros >= 0));
        let mut claimed = 0;
        let mut last_day = "";
        for lot in due {
            if !lot.debt && claimed >= micros && !whole {
                break;
            }
            lot.row = Some(row);
            claimed += lot.micros;
            if !lot.debt {
                last_day = lot.day;
            }
        }
        self.carry(row, last_day, claimed - micros);
    }

    fn carry(&mut self, row: usize, day: &'static str, micros: i128) {
        assert!(micros >= 0, "the claimed lots come to less than the payout");
        if micros == 0 {
            return;
        }
        let Row { account, currency, .. } = self.rows[row];
        for (micros, row) in [(-micros, Some(row)), (micros, None)] {
            self.lots.push(Lot {
                account,
                currency,
                day,
                debt: false,
                accepting: false,
                micros,
                entries: 1,
                row,
            });
        }
    }

    /// Sets a status by hand, if that is allowed.
    pub(crate) fn set_status(&mut self, row: usize, status: usize, with_reason: bool) -> bool {
        let row = &mut self.rows[row];
        let by_provider = METHODS[row.account][row.currency] == TIPALTI;
        let needs_reason = STATUSES[row.status] == "PAID" && status != row.status;
        if row.deleted || by_provider || (needs_reason && !with_reason) {
            return false;
        }
        row.status = status;
        true
    }

    pub(crate) fn delete_row(&mut self, row: usize) -> bool {
        if self.rows[row].deleted || self.rows[row].status != 0 {
            return false;
        }
        self.rows[row].deleted = true;
        for lot in self.lots.iter_mut().filter(|lot| lot.row == Some(row)) {
            lot.row = None;
        }
        true
    }

    pub(crate) fn delete_settlement(&mut self, settlement: usize) -> bool {
        let live: Vec<usize> = (0..self.rows.len())
            .filter(|&row| self.rows[row].settlement == settlement && !self.rows[row].deleted)
            .collect();
        if self.settlements[settlement] || live.iter().any(|&row| self.rows[row].status != 0) {
            return false;
        }
        self.settlements[settlement] = true;
        for row in live {
            self.delete_row(row);
        }
        true
    }

    /// What the live rows of a settlement come to, by currency.
    pub(crate) fn totals(&self, settlement: usize) -> BTreeMap<usize, i128> {
        let mut totals = BTreeMap::new();
        let live = self
            .rows
            .iter()
            .filter(|row| row.settlement == settlement && !row.deleted);
        for row in live {
            *totals.entry(row.currency).or_default() += row.micros;
        }
        totals
    }
}

fn admits(filter: &Filter, balance: &Balance) -> bool {
    let method = METHODS[balance.account][balance.currency];
    filter.currency.is_none_or(|currency| currency == balance.currency)
        && filter
            .minimum
            .is_none_or(|(currency, micros)| currency == balance.currency && balance.open >= micros)
        && (filter.type_id.is_none() || filter.type_id == method)
        && (!filter.payable_only || balance.payable.is_ok())
}
