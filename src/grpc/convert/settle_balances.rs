//! Messages of `SettleBalances`.

use std::collections::BTreeMap;

use super::balances::{available_through, balance_filter};
use crate::billing::{Call, MAX_NAMED_ACCOUNTS, NamedAccount, Selection, SettleBalances, SettleOutcome};
use crate::domain::currency::Currency;
use crate::domain::error::{Result, Violations};
use crate::domain::ids::check_text;
use crate::domain::money::{Amount, Money};
use crate::domain::permissions::Identity;
use crate::domain::settlements::{Approval, ApprovalState, MAX_NOTE_BYTES, Settlement, SkippedAccount};
use crate::domain::time::Date;
use crate::grpc::convert;
use crate::proto;
use crate::proto::settle_balances_request::Selection as Message;

/// ISO 4217 has fewer currencies than this.
const MAX_EXPECTED_TOTALS: usize = 300;

pub(crate) fn settle(caller: &Identity, request: proto::SettleBalancesRequest) -> Result<(Call, SettleBalances)> {
    let mut violations = Violations::new();
    if request.request_id.is_empty() {
        violations.push(
            "request_id",
            "is required: make a UUID, and send the same one again with a retry",
        );
    }
    let call = convert::call(caller, &request.request_id, &mut violations);
    let selection = selection(request.selection, request.all_accounts, &mut violations);
    let available_through = available_through(&request.available_through, &mut violations);
    violations.check("note", check_text(&request.note, MAX_NOTE_BYTES));
    let expected_totals = expected_totals(&request.expected_totals, &mut violations);
    let settle = selection.map(|selection| SettleBalances {
        selection,
        available_through,
        through: available_through.unwrap_or_else(Date::today),
        note: request.note,
        expected_totals,
    });
    violations.finish(settle.map(|settle| (call, settle)))
}

fn selection(selection: Option<Message>, all_accounts: bool, violations: &mut Violations) -> Option<Selection> {
    match selection {
        Some(Message::Accounts(accounts)) => {
            if all_accounts {
                violations.push(
                    "all_accounts",
                    "can't stand beside accounts: name accounts, or settle everybody",
                );
            }
            named_accounts(&accounts, violations)
        }
        Some(Message::Filter(filter)) => {
            let filter = balance_filter(Some(filter), violations);
            match (filter.means_everybody(), all_accounts) {
                (true, false) if violations.is_empty() => {
                    violations.push(
                        "all_accounts",
                        "must be true for a filter that leaves out nobody who would be paid",
                    );
                }
                (false, true) => violations.push("all_accounts", "can't stand beside a filter with a condition"),
                _ => {}
            }
            Some(Selection::Filter(filter))
        }
        None if all_accounts => Some(Selection::Filter(balance_filter(None, violations))),
        None => {
            violations.push("selection", "set accounts or filter, or all_accounts for everybody");
            None
        }
    }
}

fn named_accounts(accounts: &proto::AccountSelection, violations: &mut Violations) -> Option<Selection> {
    if !(1..=MAX_NAMED_ACCOUNTS).contains(&accounts.items.len()) {
        violations.push(
            "accounts.items",
            format!(
                "must be 1 to {MAX_NAMED_ACCOUNTS} accounts, not {}",
                accounts.items.len()
            ),
        );
        return None;
    }
    let mut named = Vec::with_capacity(accounts.items.len());
    for (index, item) in accounts.items.iter().enumerate() {
        let account_id = convert::account_id(
            &format!("accounts.items[{index}].account_id"),
            &item.account_id,
            violations,
        );
        let amount = item.amount.as_ref().and_then(|money| {
            convert::payable_money(&format!("accounts.items[{index}].amount"), Some(money), violations)
        });
        named.extend(account_id.map(|account_id| NamedAccount { account_id, amount }));
    }
    Some(Selection::Accounts(named))
}

fn expected_totals(totals: &[proto::Money], violations: &mut Violations) -> BTreeMap<Currency, Amount> {
    if totals.len() > MAX_EXPECTED_TOTALS {
        violations.push("expected_totals", "must be at most one a currency");
        return BTreeMap::new();
    }
    let mut expected = BTreeMap::new();
    for (index, message) in totals.iter().enumerate() {
        let field = format!("expected_totals[{index}]");
        let Some(money) = convert::money(&field, Some(message), violations) else {
            continue;
        };
        if money.amount.is_negative() || !money.amount.fits_decimals(money.currency.minor_units()) {
            violations.push(
                format!("{field}.amount"),
                "must be 0 or more, at the currency's own decimals",
            );
        }
        if expected.insert(money.currency, money.amount).is_some() {
            violations.push(
                format!("{field}.currency_code"),
                "stands twice: give one total a currency",
            );
        }
    }
    expected
}

pub(crate) fn settle_response(outcome: SettleOutcome, validate_only: bool) -> Result<proto::SettleBalancesResponse> {
    let skipped_count = outcome.settlement.skipped_count;
    let mut settlement = settlement(&outcome.settlement)?;
    if validate_only {
        settlement.id = String::new();
        settlement.etag = String::new();
        settlement.create_time = None;
    }
    Ok(proto::SettleBalancesResponse {
        settlement: Some(settlement),
        skipped_count,
        skipped: outcome.skipped.iter().map(proto::SkippedAccount::from).collect(),
    })
}

pub(crate) fn settlement(settlement: &Settlement) -> Result<proto::Settlement> {
    let counts = settlement.status_counts();
    let (approver, approve_time) = match &settlement.approval {
        Approval::NotRequired | Approval::Pending => (String::new(), None),
        Approval::Approved { approver, approve_time } => (approver.clone(), Some((*approve_time).into())),
    };
    Ok(proto::Settlement {
        id: settlement.id.to_string(),
        note: settlement.note.clone(),
        create_time: Some(settlement.create_time.into()),
        available_through: settlement.available_through.to_string(),
        account_settlement_count: counts.total(),
        status_counts: Some(proto::StatusCounts {
            new: counts.new,
            in_progress: counts.in_progress,
            paid: counts.paid,
            error: counts.error,
        }),
        totals: settlement.totals().iter().map(proto::Money::from).collect(),
        skipped_count: settlement.skipped_count,
        etag: settlement.etag()?,
        delete_time: settlement.delete_time.map(Into::into),
        actor: settlement.actor.clone(),
        approval_state: proto::ApprovalState::from(settlement.approval.state()).into(),
        approver,
        approve_time,
    })
}

impl From<ApprovalState> for proto::ApprovalState {
    fn from(state: ApprovalState) -> Self {
        match state {
            ApprovalState::NotRequired => Self::NotRequired,
            ApprovalState::Pending => Self::Pending,
            ApprovalState::Approved => Self::Approved,
        }
    }
}

impl From<&SkippedAccount> for proto::SkippedAccount {
    fn from(skipped: &SkippedAccount) -> Self {
        let money = skipped
            .currency
            .zip(skipped.amount)
            .map(|(currency, amount)| Money::new(currency, amount));
        Self {
            account_id: skipped.account_id.to_string(),
            currency_code: skipped
                .currency
                .map(|currency| currency.code().to_owned())
                .unwrap_or_default(),
            reason: proto::SettleSkipReason::from(skipped.reason).into(),
            money: money.as_ref().map(Into::into),
            cooling_off_until: skipped.cooling_off_until.map(Into::into),
        }
    }
}
