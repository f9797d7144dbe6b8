//! Settling: from open balances to a settlement with its account settlements.
//!
//! A run first closes the accruals that are due to further entries, in short transactions: posters then open new ones and
//! never wait for the run. Then one transaction, in one snapshot, locks the closed accruals, decides, and claims them. A
//! concurrent run or deletion that changes one of them makes the database refuse the snapshot, and the run is decided again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::carry_forward::carry_forward;
use super::{Billing, Call, ChangeControl, Mutation, canonical, detached};
use crate::domain::account_settlements::Status;
use crate::domain::currency::Currency;
use crate::domain::error::{Error, Reason, Result};
use crate::domain::ids::{AccountId, new_id};
use crate::domain::money::{Amount, Money};
use crate::domain::open_balances::{BalanceFilter, OpenBalance, Payable, Payee, SettleSkipReason, Terms};
use crate::domain::settlements::{Approval, Counter, Settlement, SkippedAccount, StatusCounts};
use crate::domain::time::{Date, Timestamp};
use crate::store::account_settlements::NewAccountSettlement;
use crate::store::accruals::OpenAccrual;
use crate::store::open_balances::{self, Scope};
use crate::store::payment_method_types::types;
use crate::store::request_ids::{self, RequestKey};
use crate::store::settlements::CounterChanges;
use crate::store::status_changes::{Change, ChangeOfRow};
use crate::store::{Isolation, Tx, account_settlements, accruals, settlements, skipped_accounts, status_changes};

/// Accounts that a run may name.
pub const MAX_NAMED_ACCOUNTS: usize = 50_000;
/// Skipped accounts in the answer; the rest is listed apart.
pub const MAX_SKIPPED_ANSWERED: usize = 1000;
/// Rows read or written by one statement.
const BATCH: usize = 1000;
/// Accounts whose accruals are closed in one short transaction.
const CLOSE_BATCH: u64 = 1000;

/// Settles balances.
#[derive(Debug, Clone, Serialize)]
pub struct SettleBalances {
    /// Whose.
    pub selection: Selection,
    /// The cut-off as asked for; absent for today, so that the same content tomorrow is the same content.
    pub available_through: Option<Date>,
    /// The cut-off of this call: one day for all that it does, also around midnight.
    #[serde(skip)]
    pub through: Date,
    /// Note to keep.
    pub note: String,
    /// What the caller expects to be paid, by currency; empty for no expectation.
    pub expected_totals: BTreeMap<Currency, Amount>,
}

/// Whose balances are settled.
#[derive(Debug, Clone, Serialize)]
pub enum Selection {
    /// These, in this order.
    Accounts(Vec<NamedAccount>),
    /// What `ListOpenBalances` shows for the filter.
    Filter(BalanceFilter),
}

/// One account to settle.
#[derive(Debug, Clone, Serialize)]
pub struct NamedAccount {
    /// The account.
    pub account_id: AccountId,
    /// How much in which currency; everything in all its currencies when absent.
    pub amount: Option<Money>,
}

/// What a run did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SettleOutcome {
    /// The settlement.
    pub settlement: Settlement,
    /// The first of those that it left out.
    pub skipped: Vec<SkippedAccount>,
}

/// A run: what was asked for, whose canonical form it has, under what the process asks for.
#[derive(Serialize)]
#[serde(transparent)]
struct Run {
    request: SettleBalances,
    #[serde(skip)]
    change_control: ChangeControl,
}

/// What a run will do.
#[derive(Default)]
struct Plan {
    payouts: Vec<Payout>,
    skipped: Vec<SkippedAccount>,
}

pub(super) struct Payout {
    pub(super) id: Uuid,
    pub(super) account_id: AccountId,
    payable: Payable,
    /// What its claimed accruals come to; what is more than the payout is carried forward.
    claimed: Amount,
    claim: Claim,
    /// Day of the last claimed accrual, which a carried remainder keeps.
    pub(super) last_day: Date,
}

enum Claim {
    /// All accruals up to the cut-off, so many.
    All(i64),
    /// These.
    Some(Vec<Uuid>),
}

impl Mutation for Run {
    const METHOD: &'static str = "SettleBalances";
    const ISOLATION: Isolation = Isolation::Snapshot;
    type Answer = SettleOutcome;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<SettleOutcome> {
        // As early as the run can: what it does not see, such as a hold, was recorded later.
        let (request, now) = (&self.request, Timestamp::now());
        let through = request.through;
        open_balances::lock(tx, &request.selection.as_filter(), through).await?;
        let mut plan = self.plan(tx, Scope::Closed, now).await?;
        plan.choose_parts(tx, through).await?;
        let outcome = self.outcome(&plan, call, new_id(), now)?;
        request.check_totals(&outcome.settlement)?;
        plan.write(tx, call, &outcome.settlement).await?;
        Ok(outcome)
    }
}

impl Billing {
    /// Settles balances: all or nothing.
    pub async fn settle_balances(&self, call: &Call, request: SettleBalances) -> Result<SettleOutcome> {
        let run = Run {
            request,
            change_control: self.change_control,
        };
        let request = &run.request;
        if !self.is_remembered(call, request).await? {
            if !request.expected_totals.is_empty() {
                // Refused before anything is closed, where it can be: an error then leaves nothing behind. The run checks again.
                self.validate_settle_balances(call, request.clone()).await?;
            }
            self.close_due(call, request).await?;
        }
        self.mutate(call, run).await
    }

    /// What settling would do now. Changes nothing and is not remembered.
    pub async fn validate_settle_balances(&self, call: &Call, request: SettleBalances) -> Result<SettleOutcome> {
        let (store, call) = (self.store.clone(), call.clone());
        let run = Run {
            request,
            change_control: self.change_control,
        };
        detached(async move {
            let tx = store.begin_snapshot().await?;
            let outcome = run.validate(&tx, &call).await;
            tx.rollback().await?;
            outcome
        })
        .await
    }

    /// Closes what the run will claim, a thousand accounts a transaction.
    async fn close_due(&self, call: &Call, request: &SettleBalances) -> Result<()> {
        let filter = Arc::new(request.selection.as_filter());
        let unremembered = call.unremembered();
        let mut after = None;
        loop {
            let close = CloseDueAccruals {
                filter: filter.clone(),
                through: request.through,
                after,
            };
            after = self.mutate(&unremembered, close).await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Whether the request id was answered before. Then nothing is closed for it again.
    async fn is_remembered(&self, call: &Call, request: &SettleBalances) -> Result<bool> {
        let Some(request_id) = call.request_id else {
            return Ok(false);
        };
        let key = RequestKey {
            caller: call.caller.clone(),
            method: Run::METHOD,
            request_id,
            part: call.part,
        };
        let remembered: Option<SettleOutcome> =
            request_ids::peek(&self.store.reader(), &key, &canonical(request)?).await?;
        Ok(remembered.is_some())
    }
}

impl Run {
    async fn validate(&self, tx: &Tx, call: &Call) -> Result<SettleOutcome> {
        let now = Timestamp::now();
        let plan = self.plan(tx, Scope::Open, now).await?;
        let outcome = self.outcome(&plan, call, Uuid::nil(), now)?;
        self.request.check_totals(&outcome.settlement)?;
        Ok(outcome)
    }

    async fn plan(&self, tx: &Tx, scope: Scope, now: Timestamp) -> Result<Plan> {
        let terms = self.change_control.terms(types(tx).await?, now);
        Plan::make(tx, &self.request.selection, (self.request.through, scope), &terms).await
    }

    fn outcome(&self, plan: &Plan, call: &Call, id: Uuid, now: Timestamp) -> Result<SettleOutcome> {
        let settlement = Settlement {
            id,
            note: self.request.note.clone(),
            available_through: self.request.through,
            counters: plan.counters()?,
            skipped_count: i64::try_from(plan.skipped.len())
                .map_err(|_| Error::internal("too many skipped accounts"))?,
            actor: call.caller.clone(),
            create_time: now,
            delete_time: None,
            approval: self.change_control.of_new_settlement(),
        };
        Ok(SettleOutcome {
            settlement,
            skipped: plan.skipped.iter().take(MAX_SKIPPED_ANSWERED).cloned().collect(),
        })
    }
}

/// Closes the due accruals of some accounts to further entries; the last of these accounts, none when all are closed.
#[derive(Serialize)]
struct CloseDueAccruals {
    filter: Arc<BalanceFilter>,
    through: Date,
    after: Option<AccountId>,
}

impl Mutation for CloseDueAccruals {
    const METHOD: &'static str = "CloseDueAccruals";
    type Answer = Option<AccountId>;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<Option<AccountId>> {
        open_balances::close_some(tx, &self.filter, self.through, self.after.as_ref(), CLOSE_BATCH).await
    }
}

impl SettleBalances {
    fn check_totals(&self, settlement: &Settlement) -> Result<()> {
        if self.expected_totals.is_empty() {
            return Ok(());
        }
        let totals = settlement.totals();
        let found: BTreeMap<Currency, Amount> = totals.iter().map(|money| (money.currency, money.amount)).collect();
        let expected: BTreeMap<Currency, Amount> = self
            .expected_totals
            .iter()
            .filter(|(_, amount)| !amount.is_zero())
            .map(|(currency, amount)| (*currency, *amount))
            .collect();
        if found == expected {
            return Ok(());
        }
        let shown: Vec<String> = totals
            .iter()
            .map(|money| format!("{} {}", money.amount_text(), money.currency))
            .collect();
        let shown = if shown.is_empty() {
            "nothing".to_owned()
        } else {
            shown.join(", ")
        };
        Err(Error::refused_field(
            Reason::ExpectedTotalsMismatch,
            "expected_totals",
            format!("what would be paid is not what is expected, but {shown}: list the open balances again"),
        ))
    }
}

impl Selection {
    /// The part of it that says which accruals are touched.
    fn as_filter(&self) -> BalanceFilter {
        match self {
            Self::Filter(filter) => filter.clone(),
            Self::Accounts(items) => BalanceFilter {
                account_ids: named(items),
                ..BalanceFilter::default()
            },
        }
    }
}

fn named(items: &[NamedAccount]) -> Vec<AccountId> {
    let ids: HashSet<&AccountId> = items.iter().map(|item| &item.account_id).collect();
    ids.into_iter().cloned().collect()
}

impl Plan {
    async fn make(tx: &Tx, selection: &Selection, range: (Date, Scope), terms: &Terms) -> Result<Self> {
        let mut plan = Self::default();
        match selection {
            Selection::Filter(filter) => plan.add_filtered(tx, filter, range, terms).await?,
            Selection::Accounts(items) => plan.add_named(tx, items, range, terms).await?,
        }
        // Inserting payouts locks the versions that they are made with: by account, as who deletes unused ones does.
        plan.payouts.sort_by(|one, other| one.account_id.cmp(&other.account_id));
        Ok(plan)
    }

    async fn add_filtered(
        &mut self,
        tx: &Tx,
        filter: &BalanceFilter,
        range: (Date, Scope),
        terms: &Terms,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let batch = open_balances::list(tx, filter, terms, range, after.as_ref(), BATCH as u64).await?;
            let Some(last) = batch.last() else {
                return Ok(());
            };
            after = Some((last.account_id.clone(), last.currency));
            for balance in batch {
                if filter.admits(&balance, terms)? {
                    self.add(&balance, None, range.0, terms)?;
                }
            }
        }
    }

    async fn add_named(&mut self, tx: &Tx, items: &[NamedAccount], range: (Date, Scope), terms: &Terms) -> Result<()> {
        let balances = balances_of(tx, items, range, terms).await?;
        let payees = payees_without_balance(tx, items, &balances).await?;
        let mut seen = HashSet::new();
        for item in items {
            let of_account = balances.get(&item.account_id);
            let currencies: Vec<Option<Currency>> = match (item.amount, of_account) {
                (Some(money), _) => vec![Some(money.currency)],
                (None, Some(of_account)) => of_account.keys().copied().map(Some).collect(),
                (None, None) => vec![None],
            };
            for currency in currencies {
                let balance = currency.and_then(|currency| of_account.and_then(|of_account| of_account.get(&currency)));
                if !seen.insert((&item.account_id, currency)) {
                    let amount = item
                        .amount
                        .map(|money| money.amount)
                        .or(balance.map(|balance| balance.open));
                    self.skip(SkippedAccount {
                        account_id: item.account_id.clone(),
                        currency,
                        reason: SettleSkipReason::DuplicateAccount,
                        amount,
                        cooling_off_until: None,
                    });
                    continue;
                }
                match balance {
                    Some(balance) => self.add(balance, item.amount.map(|money| money.amount), range.0, terms)?,
                    None => {
                        let payee = payees
                            .get(&(item.account_id.clone(), currency))
                            .cloned()
                            .unwrap_or_default();
                        let reason = payee.reason_without_balance(currency, terms);
                        self.skip(SkippedAccount {
                            account_id: item.account_id.clone(),
                            currency,
                            reason,
                            amount: Some(Amount::ZERO),
                            cooling_off_until: cooling_off_until(reason, &payee, terms),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, balance: &OpenBalance, requested: Option<Amount>, through: Date, terms: &Terms) -> Result<()> {
        match balance.payable(requested, terms)? {
            Ok(payable) => {
                let part = requested.is_some_and(|requested| requested < balance.open);
                self.payouts.push(Payout {
                    id: new_id(),
                    account_id: balance.account_id.clone(),
                    payable,
                    claimed: balance.open,
                    claim: if part {
                        Claim::Some(Vec::new())
                    } else {
                        Claim::All(balance.open_accrual_count)
                    },
                    last_day: balance.last_open_day.unwrap_or(through),
                });
            }
            Err(reason) => {
                let above = reason == SettleSkipReason::AmountAboveOpenBalance;
                let amount = if above { requested } else { Some(balance.open) };
                self.skip(SkippedAccount {
                    account_id: balance.account_id.clone(),
                    currency: Some(balance.currency),
                    reason,
                    amount,
                    cooling_off_until: cooling_off_until(reason, &balance.payee, terms),
                });
            }
        }
        Ok(())
    }

    fn skip(&mut self, mut account: SkippedAccount) {
        account.amount = account.currency.and(account.amount);
        self.skipped.push(account);
    }

    /// Chooses the accruals of payouts of a part of the balance: debts first, then the oldest, until the amount is reached.
    async fn choose_parts(&mut self, tx: &Tx, through: Date) -> Result<()> {
        let mut parts: Vec<&mut Payout> = self
            .payouts
            .iter_mut()
            .filter(|payout| matches!(payout.claim, Claim::Some(_)))
            .collect();
        for batch in parts.chunks_mut(BATCH) {
            let pairs: Vec<(AccountId, Currency)> = batch
                .iter()
                .map(|payout| (payout.account_id.clone(), payout.currency()))
                .collect();
            let mut claimable = accruals::claimable(tx, &pairs, through).await?;
            for payout in batch {
                let accruals = claimable
                    .remove(&(payout.account_id.clone(), payout.currency()))
                    .unwrap_or_default();
                payout.choose(accruals)?;
            }
        }
        Ok(())
    }

    fn counters(&self) -> Result<Vec<Counter>> {
        let mut counters: BTreeMap<Currency, Counter> = BTreeMap::new();
        for payout in &self.payouts {
            let currency = payout.currency();
            let counter = counters.entry(currency).or_insert(Counter {
                currency,
                counts: StatusCounts::default(),
                total: Amount::ZERO,
                changes: 0,
            });
            counter.counts.new += 1;
            counter.changes += 1;
            counter.total = counter.total.checked_add(payout.payable.money.amount)?;
        }
        Ok(counters.into_values().collect())
    }

    async fn write(&self, tx: &Tx, call: &Call, settlement: &Settlement) -> Result<()> {
        let (id, now) = (settlement.id, settlement.create_time);
        settlements::insert(tx, settlement).await?;
        if settlement.approval == Approval::Pending {
            settlements::insert_unapproved_counters(tx, settlement).await?;
        }
        let mut counters = CounterChanges::default();
        for batch in self.payouts.chunks(BATCH) {
            insert_rows(tx, call, id, batch, now).await?;
            claim(tx, batch, settlement.available_through).await?;
            carry_forward(tx, batch, now).await?;
            for payout in batch {
                counters.added(id, payout.currency(), payout.payable.money.amount)?;
            }
        }
        counters.write(tx).await?;
        let mut position = 1;
        for batch in self.skipped.chunks(BATCH) {
            skipped_accounts::insert(tx, id, position, batch).await?;
            position += i64::try_from(batch.len()).map_err(|_| Error::internal("too many skipped accounts"))?;
        }
        Ok(())
    }
}

impl Payout {
    pub(super) fn currency(&self) -> Currency {
        self.payable.money.currency
    }

    pub(super) fn carried(&self) -> Result<Amount> {
        self.claimed.checked_sub(self.payable.money.amount)
    }

    fn choose(&mut self, accruals: Vec<OpenAccrual>) -> Result<()> {
        let (debts, others): (Vec<OpenAccrual>, Vec<OpenAccrual>) =
            accruals.into_iter().partition(|accrual| accrual.debt);
        let mut ids = Vec::new();
        let mut claimed = Amount::ZERO;
        for debt in debts {
            claimed = claimed.checked_add(debt.amount)?;
            ids.push(debt.id);
        }
        for accrual in others {
            if claimed >= self.payable.money.amount {
                break;
            }
            claimed = claimed.checked_add(accrual.amount)?;
            self.last_day = accrual.available_day;
            ids.push(accrual.id);
        }
        if claimed < self.payable.money.amount {
            return Err(Error::internal("the accruals of a balance come to less than it"));
        }
        self.claimed = claimed;
        self.claim = Claim::Some(ids);
        Ok(())
    }
}

/// Until when a payment method cools off, where that is why an account is left out.
fn cooling_off_until(reason: SettleSkipReason, payee: &Payee, terms: &Terms) -> Option<Timestamp> {
    if reason == SettleSkipReason::PaymentMethodCoolingOff {
        payee.cooling_off_until(terms)
    } else {
        None
    }
}

/// The balances of named accounts, by account and currency.
async fn balances_of(
    tx: &Tx,
    items: &[NamedAccount],
    range: (Date, Scope),
    terms: &Terms,
) -> Result<HashMap<AccountId, BTreeMap<Currency, OpenBalance>>> {
    let mut found: HashMap<AccountId, BTreeMap<Currency, OpenBalance>> = HashMap::new();
    let mut accounts = named(items);
    accounts.sort_unstable();
    for batch in accounts.chunks(BATCH) {
        let filter = BalanceFilter {
            account_ids: batch.to_vec(),
            ..BalanceFilter::default()
        };
        let mut after = None;
        loop {
            let balances = open_balances::list(tx, &filter, terms, range, after.as_ref(), BATCH as u64).await?;
            let Some(last) = balances.last() else {
                break;
            };
            after = Some((last.account_id.clone(), last.currency));
            let more = balances.len() == BATCH;
            for balance in balances {
                found
                    .entry(balance.account_id.clone())
                    .or_default()
                    .insert(balance.currency, balance);
            }
            if !more {
                break;
            }
        }
    }
    Ok(found)
}

/// What decides about named accounts that never had entries in the currency asked for, or in any.
async fn payees_without_balance(
    tx: &Tx,
    items: &[NamedAccount],
    balances: &HashMap<AccountId, BTreeMap<Currency, OpenBalance>>,
) -> Result<HashMap<(AccountId, Option<Currency>), Payee>> {
    let mut missing = HashSet::new();
    for item in items {
        let of_account = balances.get(&item.account_id);
        match item.amount {
            Some(money) if !of_account.is_some_and(|of_account| of_account.contains_key(&money.currency)) => {
                missing.insert((item.account_id.clone(), Some(money.currency)));
            }
            None if of_account.is_none() => {
                missing.insert((item.account_id.clone(), None));
            }
            _ => {}
        }
    }
    let missing: Vec<(AccountId, Option<Currency>)> = missing.into_iter().collect();
    let mut payees = HashMap::new();
    for batch in missing.chunks(BATCH) {
        for (account_id, currency, payee) in open_balances::payees(tx, batch).await? {
            payees.insert((account_id, currency), payee);
        }
    }
    Ok(payees)
}

async fn insert_rows(tx: &Tx, call: &Call, settlement_id: Uuid, payouts: &[Payout], now: Timestamp) -> Result<()> {
    let rows: Vec<NewAccountSettlement> = payouts
        .iter()
        .map(|payout| NewAccountSettlement {
            id: payout.id,
            account_id: payout.account_id.clone(),
            money: payout.payable.money,
            decimals: payout.payable.decimals,
            payment_method_version_id: payout.payable.method.version_id,
            billing_details_version_id: payout.payable.billing_details_version_id,
            provider: payout.payable.provider,
        })
        .collect();
    account_settlements::insert(tx, settlement_id, &rows, now).await?;
    let request_id = call.request_id.map(|id| id.to_string()).unwrap_or_default();
    let change = Change {
        to: Status::New,
        by_system: false,
        actor: &call.caller,
        reason: "",
        request_id: &request_id,
        time: now,
    };
    let history: Vec<ChangeOfRow<'_>> = payouts
        .iter()
        .map(|payout| ChangeOfRow {
            id: payout.id,
            revision: 1,
            from: None,
            payment_reference: "",
        })
        .collect();
    status_changes::insert(tx, &change, &history).await
}

async fn claim(tx: &Tx, payouts: &[Payout], through: Date) -> Result<()> {
    let mut whole = Vec::new();
    let mut whole_count = 0;
    let mut parts = Vec::new();
    for payout in payouts {
        match &payout.claim {
            Claim::All(count) => {
                whole_count += count;
                whole.push((payout.account_id.clone(), payout.currency(), payout.id));
            }
            Claim::Some(ids) => parts.extend(ids.iter().map(|id| (*id, payout.id))),
        }
    }
    // What was claimed must be what was summed: anything else would pay an amount that its entries do not come to.
    if !whole.is_empty() && i64::try_from(accruals::claim_all(tx, &whole, through).await?).ok() != Some(whole_count) {
        return Err(Error::internal("a run claimed other accruals than it summed"));
    }
    for batch in parts.chunks(BATCH) {
        if accruals::claim(tx, batch).await? != batch.len() as u64 {
            return Err(Error::internal("a run could not claim accruals that it had locked"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Request ids are kept for good with a hash of this: it must never change for what can be asked for today.
    #[test]
    fn the_canonical_form_is_that_of_the_request_alone() {
        let request = SettleBalances {
            selection: Selection::Filter(BalanceFilter::default()),
            available_through: None,
            through: Date::today(),
            note: "July".to_owned(),
            expected_totals: BTreeMap::new(),
        };
        let run = Run {
            request,
            change_control: ChangeControl {
                cool_off_hours: 24,
                require_approval: true,
            },
        };
        assert_eq!(
            String::from_utf8(canonical(&run).unwrap()).unwrap(),
            "{\"selection\":{\"Filter\":{\"account_ids\":[],\"currency\":null,\"payment_method_type_id\":null,\
             \"minimum\":null,\"payable_only\":false}},\"available_through\":null,\"note\":\"July\",\"expected_totals\":{}}"
        );
    }
}
