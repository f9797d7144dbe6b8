//! Open balances: list and summarise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::page::{Page, PageRequest};
use super::{Billing, detached};
use crate::domain::currency::Currency;
use crate::domain::error::Result;
use crate::domain::ids::AccountId;
use crate::domain::money::{Amount, Money};
use crate::domain::open_balances::{BalanceFilter, OpenBalance, Payable, SettleSkipReason, Terms};
use crate::domain::time::{Date, Timestamp};
use crate::store::Tx;
use crate::store::open_balances::{self as store, Scope};
use crate::store::payment_method_types::types;

const LIST: &str = "ListOpenBalances";
/// Balances read by one statement.
const BATCH: u64 = 1000;

/// A balance with what settling it would pay, or why it would not.
#[derive(Debug, Clone)]
pub struct ShownBalance {
    /// The balance.
    pub balance: OpenBalance,
    /// What would be paid.
    pub payable: std::result::Result<Payable, SettleSkipReason>,
    /// Until when its payment method cools off, where that is why not.
    pub cooling_off_until: Option<Timestamp>,
}

/// What settling would pay and leave out.
#[derive(Debug, Clone, Default)]
pub struct BalanceSummary {
    /// By payment method type and currency.
    pub funds_needed: Vec<(String, Money, i64)>,
    /// By reason and currency.
    pub not_payable: Vec<(SettleSkipReason, Money, i64)>,
}

/// Where a page begins. The cut-off is kept, so that a list that began before midnight ends with the same one.
#[derive(Serialize, Deserialize)]
struct Position {
    through: Date,
    account_id: AccountId,
    currency: Currency,
}

impl Billing {
    /// Lists open balances by account and currency.
    pub async fn list_open_balances(
        &self,
        filter: &BalanceFilter,
        through: Option<Date>,
        page: &PageRequest,
    ) -> Result<Page<ShownBalance>> {
        let bound = (filter, through);
        let position: Option<Position> = self.read_token(LIST, &bound, page)?;
        let through = position
            .as_ref()
            .map_or_else(|| through.unwrap_or_else(Date::today), |position| position.through);
        let mut after = position.map(|position| (position.account_id, position.currency));
        let reader = self.store.reader();
        let terms = self.change_control.terms(types(&reader).await?, Timestamp::now());
        let wanted = usize::try_from(page.limit()).unwrap_or(usize::MAX);
        // Where the filter leaves out some of what a statement finds, fewer and larger statements fill a page.
        let batch_size = if filter.is_narrow() {
            page.limit().max(BATCH)
        } else {
            page.limit()
        };
        let mut shown = Vec::new();
        loop {
            let batch = store::list(
                &reader,
                filter,
                &terms,
                (through, Scope::Open),
                after.as_ref(),
                batch_size,
            )
            .await?;
            let more = batch.len() as u64 == batch_size;
            after = batch
                .last()
                .map(|balance| (balance.account_id.clone(), balance.currency));
            for balance in batch {
                if filter.admits(&balance, &terms)? {
                    shown.push(ShownBalance::of(balance, &terms)?);
                }
            }
            if !more || shown.len() >= wanted {
                break;
            }
        }
        self.page_of(LIST, &bound, page, shown, |shown| Position {
            through,
            account_id: shown.balance.account_id.clone(),
            currency: shown.balance.currency,
        })
    }

    /// Adds up what settling the same filter would pay and leave out, in one snapshot.
    pub async fn summarize_open_balances(
        &self,
        filter: &BalanceFilter,
        through: Option<Date>,
    ) -> Result<BalanceSummary> {
        let through = through.unwrap_or_else(Date::today);
        let (store, filter, change_control) = (self.store.clone(), filter.clone(), self.change_control);
        detached(async move {
            let tx = store.begin_snapshot().await?;
            let terms = change_control.terms(types(&tx).await?, Timestamp::now());
            let summary = summarize(&tx, &filter, through, &terms).await;
            tx.rollback().await?;
            summary
        })
        .await
    }
}

impl ShownBalance {
    fn of(balance: OpenBalance, terms: &Terms) -> Result<Self> {
        let payable = balance.payable(None, terms)?;
        let cooling_off_until = match &payable {
            Err(SettleSkipReason::PaymentMethodCoolingOff) => balance.payee.cooling_off_until(terms),
            Ok(_) | Err(_) => None,
        };
        Ok(Self {
            balance,
            payable,
            cooling_off_until,
        })
    }
}

async fn summarize(tx: &Tx, filter: &BalanceFilter, through: Date, terms: &Terms) -> Result<BalanceSummary> {
    let mut funds: BTreeMap<(String, Currency), (Amount, i64)> = BTreeMap::new();
    let mut left_out: BTreeMap<(SettleSkipReason, Currency), (Amount, i64)> = BTreeMap::new();
    let mut after = None;
    loop {
        let batch = store::list(tx, filter, terms, (through, Scope::Open), after.as_ref(), BATCH).await?;
        let Some(last) = batch.last() else {
            break;
        };
        after = Some((last.account_id.clone(), last.currency));
        for balance in batch {
            if !filter.admits(&balance, terms)? {
                continue;
            }
            match balance.payable(None, terms)? {
                Ok(payable) => add(
                    funds.entry((payable.method.type_id, balance.currency)).or_default(),
                    payable.money.amount,
                )?,
                Err(reason) => add(left_out.entry((reason, balance.currency)).or_default(), balance.open)?,
            }
        }
    }
    Ok(BalanceSummary {
        funds_needed: funds
            .into_iter()
            .map(|((type_id, currency), (sum, count))| (type_id, Money::new(currency, sum), count))
            .collect(),
        not_payable: left_out
            .into_iter()
            .map(|((reason, currency), (sum, count))| (reason, Money::new(currency, sum), count))
            .collect(),
    })
}

fn add(sum: &mut (Amount, i64), amount: Amount) -> Result<()> {
    sum.0 = sum.0.checked_add(amount)?;
    sum.1 += 1;
    Ok(())
}
