//! Shows what is open and settles it.

use crate::client::Billing;
use crate::data::Month;
use crate::failure::Failure;
use crate::money::{Totals, amount, exact, required};
use crate::request_id;
use crate::table::Table;
use affiliate_billing::proto::settle_balances_request::Selection;
use affiliate_billing::proto::{
    BalanceFilter, GetSettlementRequest, OpenBalance, SettleBalancesRequest, SettleSkipReason, Settlement,
    StatusCounts, SummarizeOpenBalancesRequest,
};
use std::collections::BTreeMap;

/// The cut-off, named in every request: "today" would be another day in tomorrow's run.
pub(crate) const MONTH_END: &str = "2026-10-31";
/// Note of the settlement, and how a later run finds it.
const NOTE: &str = "month end 2026-10";

/// Lists what is open at the month's end, and what paying it takes.
pub(crate) async fn show_open(billing: &Billing) -> Result<(), Failure> {
    let balances = billing.list_open_balances(MONTH_END).await?;
    println!("\nopen at {MONTH_END}, {} balances:", balances.len());
    open_table(&balances)?.print();
    show_summary(billing).await
}

fn open_table(balances: &[OpenBalance]) -> Result<Table, Failure> {
    let mut open = Totals::default();
    let mut pending = Totals::default();
    let mut payable = Totals::default();
    for balance in balances {
        open.add(required(balance.open.as_ref(), "open")?)?;
        pending.add(required(balance.pending.as_ref(), "pending")?)?;
        if let Some(money) = &balance.payable_money {
            payable.add(money)?;
        }
    }
    let mut table = Table::new(&["currency", "open", "pending", "payable"]);
    for currency in open.currencies() {
        table.line([
            currency.to_owned(),
            exact(open.in_currency(currency)),
            exact(pending.in_currency(currency)),
            exact(payable.in_currency(currency)),
        ]);
    }
    Ok(table)
}

async fn show_summary(billing: &Billing) -> Result<(), Failure> {
    let summary = billing
        .balances
        .clone()
        .summarize_open_balances(SummarizeOpenBalancesRequest {
            filter: None,
            available_through: MONTH_END.to_owned(),
        })
        .await
        .map_err(Failure::call("summarize open balances"))?
        .into_inner();

    println!("funds needed:");
    let mut table = Table::new(&["paid by", "currency", "amount", "balances"]);
    for funds in &summary.funds_needed {
        let money = required(funds.money.as_ref(), "money")?;
        table.line([
            funds.payment_method_type_id.clone(),
            money.currency_code.clone(),
            money.amount.clone(),
            funds.account_count.to_string(),
        ]);
    }
    table.print();

    println!("not payable:");
    let mut table = Table::new(&["because", "currency", "amount", "balances"]);
    for left in &summary.not_payable {
        let money = required(left.money.as_ref(), "money")?;
        table.line([
            skip_reason(left.reason()),
            money.currency_code.clone(),
            exact(amount(money)?),
            left.account_count.to_string(),
        ]);
    }
    table.print();
    Ok(())
}

/// Settles everything that is open at the month's end, unless an earlier run did.
pub(crate) async fn settle_month(billing: &Billing, month: &Month) -> Result<Settlement, Failure> {
    // The totals that a settlement expects are part of its request. A second run would find other ones, almost nothing being
    // open any more, and the same request id with other content is refused. So the note is looked up first.
    let settlements = billing.list_settlements().await?;
    if let Some(settlement) = settlements.into_iter().find(|s| s.note == NOTE) {
        println!("`{NOTE}` was settled already: {}", settlement.id);
        return Ok(settlement);
    }

    let request = SettleBalancesRequest {
        request_id: request_id::derive(&["settle", NOTE, &month.fingerprint]),
        // A filter without any condition means everybody, and that has to be said twice: a condition that got lost on its
        // way must not pay the whole program.
        selection: Some(Selection::Filter(BalanceFilter::default())),
        all_accounts: true,
        available_through: MONTH_END.to_owned(),
        note: NOTE.to_owned(),
        ..SettleBalancesRequest::default()
    };
    let preview = settle(
        billing,
        SettleBalancesRequest {
            validate_only: true,
            ..request.clone()
        },
    )
    .await?;
    println!("settling would pay {}", Totals::of(&preview.totals)?.in_words());

    // Here somebody would look at the totals and approve them. Should they change in between, nothing is settled.
    let settlement = settle(
        billing,
        SettleBalancesRequest {
            expected_totals: preview.totals,
            ..request
        },
    )
    .await?;
    println!("settled `{NOTE}`: {}", settlement.id);
    Ok(settlement)
}

/// Makes one settlement.
pub(crate) async fn settle(billing: &Billing, request: SettleBalancesRequest) -> Result<Settlement, Failure> {
    billing
        .balances
        .clone()
        .settle_balances(request)
        .await
        .map_err(Failure::call("settle balances"))?
        .into_inner()
        .settlement
        .ok_or_else(|| Failure::missing("settlement"))
}

/// Shows a settlement as it is now, and whom it left out.
pub(crate) async fn show_settlement(billing: &Billing, id: &str) -> Result<(), Failure> {
    let settlement = billing
        .settlements
        .clone()
        .get_settlement(GetSettlementRequest { id: id.to_owned() })
        .await
        .map_err(Failure::call("read the settlement"))?
        .into_inner()
        .settlement
        .ok_or_else(|| Failure::missing("settlement"))?;
    println!(
        "\nsettlement `{}` ({}): {} payouts, {}; {}",
        settlement.note,
        settlement.id,
        settlement.account_settlement_count,
        Totals::of(&settlement.totals)?.in_words(),
        status_counts(&settlement.status_counts.unwrap_or_default()),
    );
    println!("left out, {} balances:", settlement.skipped_count);
    skipped_table(billing, id).await?.print();
    Ok(())
}

async fn skipped_table(billing: &Billing, settlement_id: &str) -> Result<Table, Failure> {
    let mut balances: BTreeMap<SettleSkipReason, usize> = BTreeMap::new();
    let mut amounts: BTreeMap<SettleSkipReason, Totals> = BTreeMap::new();
    for skipped in billing.list_skipped(settlement_id).await? {
        *balances.entry(skipped.reason()).or_default() += 1;
        if let Some(money) = &skipped.money {
            amounts.entry(skipped.reason()).or_default().add(money)?;
        }
    }
    let mut table = Table::new(&["because", "balances", "open then"]);
    for (reason, count) in balances {
        let open = amounts.entry(reason).or_default().in_words();
        table.line([skip_reason(reason), count.to_string(), open]);
    }
    Ok(table)
}

fn skip_reason(reason: SettleSkipReason) -> String {
    let name = reason.as_str_name();
    name.strip_prefix("SETTLE_SKIP_REASON_").unwrap_or(name).to_owned()
}

fn status_counts(counts: &StatusCounts) -> String {
    format!(
        "{} new, {} in progress, {} paid, {} in error",
        counts.new, counts.in_progress, counts.paid, counts.error
    )
}
