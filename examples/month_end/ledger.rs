//! What the service holds at one moment: to add it up, and to see what a run has changed.

use crate::client::Billing;
use crate::data::Month;
use crate::failure::Failure;
use crate::money::{Totals, exact, required};
use crate::settling::MONTH_END;
use crate::table::Table;
use affiliate_billing::proto::{AccountSettlement, OpenBalance};
use std::collections::{BTreeMap, BTreeSet};

/// Open balances, settlements and payouts of everybody. For a program of this size: all of it is kept in memory.
pub(crate) struct Ledger {
    balances: Vec<OpenBalance>,
    /// Etag by id. It changes whenever the settlement does.
    settlements: BTreeMap<String, String>,
    payouts: Vec<AccountSettlement>,
}

impl Ledger {
    /// Reads it. Not in one transaction: nobody else is expected to be at work.
    pub(crate) async fn read(billing: &Billing) -> Result<Self, Failure> {
        let settlements = billing.list_settlements().await?;
        Ok(Self {
            balances: billing.list_open_balances(MONTH_END).await?,
            settlements: settlements.into_iter().map(|s| (s.id, s.etag)).collect(),
            payouts: billing.list_account_settlements(None).await?,
        })
    }

    /// Prints the totals of the month's accounts, and fails unless what was posted is open, pending or settled.
    pub(crate) fn check(&self, month: &Month) -> Result<(), Failure> {
        let sums = self.sums(month)?;
        let mut table = Table::new(&["currency", "posted", "open", "pending", "settled", "missing"]);
        let mut short = Vec::new();
        for currency in sums.posted.currencies() {
            let missing = sums.missing(currency)?;
            table.line([
                currency.to_owned(),
                exact(sums.posted.in_currency(currency)),
                exact(sums.open.in_currency(currency)),
                exact(sums.pending.in_currency(currency)),
                exact(sums.settled.in_currency(currency)),
                exact(missing),
            ]);
            if !missing.is_zero() {
                short.push(currency);
            }
        }
        println!("everything added up:");
        table.print();
        if short.is_empty() {
            return Ok(());
        }
        Err(Failure::Unexpected(format!(
            "what was posted is not what is open, pending and settled in {}; do others post to these accounts?",
            short.join(", ")
        )))
    }

    fn sums(&self, month: &Month) -> Result<Sums, Failure> {
        let accounts = month.earning_accounts();
        let mut sums = Sums::default();
        for entry in &month.entries {
            sums.posted.add(required(entry.money.as_ref(), "money")?)?;
        }
        for balance in &self.balances {
            if accounts.contains(balance.account_id.as_str()) {
                sums.open.add(required(balance.open.as_ref(), "open")?)?;
                sums.pending.add(required(balance.pending.as_ref(), "pending")?)?;
            }
        }
        for payout in self.live_payouts() {
            if accounts.contains(payout.account_id.as_str()) {
                sums.settled.add(required(payout.money.as_ref(), "money")?)?;
            }
        }
        Ok(sums)
    }

    /// A deleted payout holds nothing: its money is open again.
    fn live_payouts(&self) -> impl Iterator<Item = &AccountSettlement> {
        self.payouts.iter().filter(|payout| payout.delete_time.is_none())
    }

    /// Says what this run has changed. A repeated request may be answered "done" as the first time, so the answers do not
    /// tell; the ledger before and after does.
    pub(crate) fn say_what_is_new(&self, before: &Self, sent_anew: usize) {
        let settlements = new_or_changed(&before.settlements, &self.settlements);
        let payouts = new_or_changed(&before.payout_etags(), &self.payout_etags());
        let balances = new_or_changed(&before.balance_states(), &self.balance_states());
        if sent_anew + settlements + payouts + balances == 0 {
            println!(
                "nothing new: all of the month was there already, {} settlements, {} payouts and {} open balances are as they were",
                self.settlements.len(),
                self.payouts.len(),
                self.balances.len()
            );
            return;
        }
        println!(
            "new: {sent_anew} types, details, methods and entries; {settlements} settlements, {payouts} payouts and {balances} open balances made or changed"
        );
    }

    /// Balances have no etag; what is shown of them tells them apart as well.
    fn balance_states(&self) -> BTreeMap<String, String> {
        let mut states = BTreeMap::new();
        for balance in &self.balances {
            let open = balance.open.clone().unwrap_or_default();
            let pending = balance.pending.clone().unwrap_or_default();
            states.insert(
                format!("{} {}", balance.account_id, open.currency_code),
                format!("{} {} {}", open.amount, pending.amount, balance.entry_count),
            );
        }
        states
    }

    fn payout_etags(&self) -> BTreeMap<String, String> {
        self.payouts
            .iter()
            .map(|payout| (payout.id.clone(), payout.etag.clone()))
            .collect()
    }
}

/// What the accounts of the month come to.
#[derive(Default)]
struct Sums {
    posted: Totals,
    open: Totals,
    pending: Totals,
    settled: Totals,
}

impl Sums {
    fn missing(&self, currency: &str) -> Result<rust_decimal::Decimal, Failure> {
        let mut missing = self.posted.in_currency(currency);
        for part in [&self.open, &self.pending, &self.settled] {
            missing = missing
                .checked_sub(part.in_currency(currency))
                .ok_or_else(|| Failure::Unexpected("a total is too large".to_owned()))?;
        }
        Ok(missing)
    }
}

fn new_or_changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> usize {
    let ids: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    ids.into_iter().filter(|&id| before.get(id) != after.get(id)).count()
}
