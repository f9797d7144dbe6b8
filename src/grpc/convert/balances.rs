//! Messages of `BalancesService`, but for settling.

use crate::billing::page::{Page, PageRequest};
use crate::billing::{
    BalanceSummary, Call, EntryFilter, HoldPayouts, PayoutHoldFilter, PostEntries, ReleasePayouts, ShownBalance,
};
use crate::domain::currency::Currency;
use crate::domain::entries::{
    Entry, EntryKey, EntryKind, EntryOutcome, MAX_ENTRIES, NewEntry, OWN_SOURCE, RejectReason, Rejection,
};
use crate::domain::error::{Result, Violations};
use crate::domain::ids::{AccountId, check_text, check_visible_ascii, parse_uuid};
use crate::domain::open_balances::{BalanceFilter, MAX_FILTER_ACCOUNTS, SettleSkipReason};
use crate::domain::payment_method_types::check_type_id;
use crate::domain::payout_holds::{MAX_HOLD_REASON_BYTES, PayoutHold};
use crate::domain::permissions::Identity;
use crate::domain::time::Date;
use crate::grpc::convert;
use crate::proto;

const MAX_SOURCE_BYTES: usize = 64;
const MAX_EXTERNAL_ID_BYTES: usize = 128;
const MAX_DESCRIPTION_BYTES: usize = 500;

/// The entries of a call or chunk, with the ids that they are answered by.
pub(crate) struct Posted {
    pub(crate) call: Call,
    pub(crate) external_ids: Vec<String>,
    pub(crate) request: PostEntries,
}

pub(crate) fn post_entries(caller: &Identity, request: proto::PostEntriesRequest) -> Result<Posted> {
    posted(caller, &request.request_id, request.entries, Violations::new())
}

pub(crate) fn stream_entries(caller: &Identity, request: proto::StreamEntriesRequest) -> Result<(String, Posted)> {
    let mut violations = Violations::new();
    violations.check("chunk_id", check_text(&request.chunk_id, convert::MAX_CHUNK_ID_BYTES));
    Ok((request.chunk_id, posted(caller, "", request.entries, violations)?))
}

fn posted(
    caller: &Identity,
    request_id: &str,
    entries: Vec<proto::Entry>,
    mut violations: Violations,
) -> Result<Posted> {
    let call = convert::call(caller, request_id, &mut violations);
    if !(1..=MAX_ENTRIES).contains(&entries.len()) {
        violations.push(
            "entries",
            format!("must be 1 to {MAX_ENTRIES} entries, not {}", entries.len()),
        );
        return Err(violations.into_error());
    }
    let external_ids = entries
        .iter()
        .map(|entry| cut(&entry.external_id, MAX_EXTERNAL_ID_BYTES))
        .collect();
    let request = PostEntries {
        entries: entries.into_iter().map(entry).collect(),
    };
    violations.finish(Some(Posted {
        call,
        external_ids,
        request,
    }))
}

/// At most so many bytes of a text, whole characters.
pub(crate) fn cut(text: &str, max_bytes: usize) -> String {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

fn entry(message: proto::Entry) -> std::result::Result<NewEntry, Rejection> {
    let mut violations = Violations::new();
    let checked = checked_entry(message, &mut violations);
    let first = violations.into_inner().into_iter().next();
    match (checked, first) {
        (Some(entry), None) => Ok(entry),
        (_, Some(violation)) => Err(Rejection::new(
            RejectReason::InvalidEntry,
            violation.field,
            violation.description,
        )),
        (None, None) => Err(Rejection::new(RejectReason::InvalidEntry, "", "is malformed")),
    }
}

fn checked_entry(message: proto::Entry, violations: &mut Violations) -> Option<NewEntry> {
    let key = entry_key(message.source, message.external_id, "source", "external_id", violations);
    if key.source == OWN_SOURCE {
        violations.push("source", "is the service's own: use another name");
    }
    let account_id = convert::account_id("account_id", &message.account_id, violations);
    let money = convert::money("money", message.money.as_ref(), violations);
    let kind = entry_kind(message.kind, violations);
    if let Some((money, kind)) = money.zip(kind) {
        violations.check("money.amount", kind.check_amount(money.amount));
    }
    let occur_time = convert::time("occur_time", message.occur_time.as_ref(), violations);
    if message.occur_time.is_none() {
        violations.push("occur_time", "is required");
    }
    let available_date = convert::date("available_date", &message.available_date, violations);
    violations.check("description", check_text(&message.description, MAX_DESCRIPTION_BYTES));
    let reverses = reverses(
        kind,
        &key.source,
        message.reverses_source,
        message.reverses_external_id,
        violations,
    );
    Some(NewEntry {
        key,
        account_id: account_id?,
        money: money?,
        kind: kind?,
        occur_time: occur_time?,
        available_date: available_date
            .unwrap_or_else(|| occur_time.map_or_else(Date::today, crate::domain::time::Timestamp::date)),
        description: message.description,
        reverses,
    })
}

fn entry_key(
    source: String,
    external_id: String,
    source_field: &str,
    id_field: &str,
    violations: &mut Violations,
) -> EntryKey {
    violations.check(source_field, check_visible_ascii(&source, MAX_SOURCE_BYTES));
    if external_id.is_empty() {
        violations.push(id_field, "is required");
    }
    violations.check(id_field, check_visible_ascii(&external_id, MAX_EXTERNAL_ID_BYTES));
    EntryKey { source, external_id }
}

fn entry_kind(kind: i32, violations: &mut Violations) -> Option<EntryKind> {
    match proto::EntryKind::try_from(kind) {
        Ok(proto::EntryKind::Commission) => Some(EntryKind::Commission),
        Ok(proto::EntryKind::Bonus) => Some(EntryKind::Bonus),
        Ok(proto::EntryKind::Adjustment) => Some(EntryKind::Adjustment),
        Ok(proto::EntryKind::Clawback) => Some(EntryKind::Clawback),
        Ok(proto::EntryKind::CarryForward) => {
            violations.push("kind", "CARRY_FORWARD is made by the service alone");
            None
        }
        Ok(proto::EntryKind::Unspecified) | Err(_) => {
            violations.push("kind", "must be COMMISSION, BONUS, ADJUSTMENT or CLAWBACK");
            None
        }
    }
}

fn reverses(
    kind: Option<EntryKind>,
    own_source: &str,
    source: String,
    external_id: String,
    violations: &mut Violations,
) -> Option<EntryKey> {
    if kind != Some(EntryKind::Clawback) {
        if !source.is_empty() || !external_id.is_empty() {
            violations.push("reverses_external_id", "is for clawbacks only");
        }
        return None;
    }
    let source = if source.is_empty() {
        own_source.to_owned()
    } else {
        source
    };
    Some(entry_key(
        source,
        external_id,
        "reverses_source",
        "reverses_external_id",
        violations,
    ))
}

pub(crate) fn post_response(external_ids: Vec<String>, outcomes: Vec<EntryOutcome>) -> proto::PostEntriesResponse {
    let results = external_ids
        .into_iter()
        .zip(outcomes)
        .map(|(external_id, outcome)| {
            let kind = match &outcome {
                EntryOutcome::Posted => proto::EntryOutcome::Posted,
                EntryOutcome::AlreadyPosted => proto::EntryOutcome::AlreadyPosted,
                EntryOutcome::Rejected(_) => proto::EntryOutcome::Rejected,
            };
            let mut result = proto::EntryResult {
                external_id,
                outcome: kind.into(),
                ..Default::default()
            };
            if let EntryOutcome::Rejected(rejection) = outcome {
                result.reason = rejection.reason.name().to_owned();
                result.field = rejection.field;
                result.message = rejection.message;
            }
            result
        })
        .collect();
    proto::PostEntriesResponse { results }
}

pub(crate) fn stream_response(
    chunk_id: String,
    external_ids: Vec<String>,
    outcomes: Vec<EntryOutcome>,
) -> proto::StreamEntriesResponse {
    let mut response = proto::StreamEntriesResponse {
        chunk_id,
        ..Default::default()
    };
    for ((external_id, outcome), index) in external_ids.into_iter().zip(outcomes).zip(0..) {
        match outcome {
            EntryOutcome::Posted => response.posted_count += 1,
            EntryOutcome::AlreadyPosted => response.already_posted_count += 1,
            EntryOutcome::Rejected(rejection) => response.rejected.push(proto::RejectedEntry {
                index,
                external_id,
                reason: rejection.reason.name().to_owned(),
                field: rejection.field,
                message: rejection.message,
            }),
        }
    }
    response
}

pub(crate) fn list_entries(request: proto::ListEntriesRequest) -> Result<(EntryFilter, PageRequest)> {
    let mut violations = Violations::new();
    let v = &mut violations;
    let filter = EntryFilter {
        account_id: convert::optional("account_id", &request.account_id, AccountId::parse, v),
        account_settlement_id: convert::optional(
            "account_settlement_id",
            &request.account_settlement_id,
            parse_uuid,
            v,
        ),
        currency: convert::optional("currency_code", &request.currency_code, Currency::parse, v),
        create_time_from: convert::time("create_time_from", request.create_time_from.as_ref(), v),
        create_time_before: convert::time("create_time_before", request.create_time_before.as_ref(), v),
        occur_time_from: convert::time("occur_time_from", request.occur_time_from.as_ref(), v),
        occur_time_before: convert::time("occur_time_before", request.occur_time_before.as_ref(), v),
    };
    let of_some = !request.account_id.is_empty() || !request.account_settlement_id.is_empty();
    for (field, time) in [
        ("occur_time_from", request.occur_time_from),
        ("occur_time_before", request.occur_time_before),
    ] {
        if time.is_some() && !of_some {
            v.push(field, "needs account_id or account_settlement_id");
        }
    }
    let page = convert::page(request.page_size, request.page_token, v);
    violations.finish(Some((filter, page)))
}

/// An optional filter of balances.
pub(crate) fn balance_filter(filter: Option<proto::BalanceFilter>, violations: &mut Violations) -> BalanceFilter {
    let Some(filter) = filter else {
        return BalanceFilter::default();
    };
    if filter.account_ids.len() > MAX_FILTER_ACCOUNTS {
        violations.push(
            "filter.account_ids",
            format!("must be at most {MAX_FILTER_ACCOUNTS} accounts"),
        );
    }
    let account_ids = filter
        .account_ids
        .iter()
        .take(MAX_FILTER_ACCOUNTS)
        .enumerate()
        .filter_map(|(index, id)| convert::account_id(&format!("filter.account_ids[{index}]"), id, violations))
        .collect();
    let minimum = filter
        .minimum
        .as_ref()
        .and_then(|money| convert::money("filter.minimum", Some(money), violations));
    let type_id = convert::optional(
        "filter.payment_method_type_id",
        &filter.payment_method_type_id,
        |id| check_type_id(id).map(|()| id.to_owned()),
        violations,
    );
    BalanceFilter {
        account_ids,
        currency: convert::optional(
            "filter.currency_code",
            &filter.currency_code,
            Currency::parse,
            violations,
        ),
        payment_method_type_id: type_id,
        minimum,
        payable_only: filter.payable_only,
    }
}

/// An optional cut-off, today at most.
pub(crate) fn available_through(text: &str, violations: &mut Violations) -> Option<Date> {
    let date = convert::date("available_through", text, violations)?;
    if date > Date::today() {
        violations.push("available_through", "must not be after today (UTC)");
    }
    Some(date)
}

pub(crate) fn list_open_balances(
    request: proto::ListOpenBalancesRequest,
) -> Result<(BalanceFilter, Option<Date>, PageRequest)> {
    let mut violations = Violations::new();
    let filter = balance_filter(request.filter, &mut violations);
    let through = available_through(&request.available_through, &mut violations);
    let page = convert::page(request.page_size, request.page_token, &mut violations);
    violations.finish(Some((filter, through, page)))
}

pub(crate) fn summarize_open_balances(
    request: proto::SummarizeOpenBalancesRequest,
) -> Result<(BalanceFilter, Option<Date>)> {
    let mut violations = Violations::new();
    let filter = balance_filter(request.filter, &mut violations);
    let through = available_through(&request.available_through, &mut violations);
    violations.finish(Some((filter, through)))
}

pub(crate) fn hold_payouts(caller: &Identity, request: proto::HoldPayoutsRequest) -> Result<(Call, HoldPayouts)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let account_id = convert::account_id("account_id", &request.account_id, &mut violations);
    if request.reason.trim().is_empty() {
        violations.push("reason", "is required: say why the account is held");
    }
    violations.check("reason", check_text(&request.reason, MAX_HOLD_REASON_BYTES));
    violations.finish(account_id.map(|account_id| {
        (
            call,
            HoldPayouts {
                account_id,
                reason: request.reason,
            },
        )
    }))
}

pub(crate) fn release_payouts(
    caller: &Identity,
    request: proto::ReleasePayoutsRequest,
) -> Result<(Call, ReleasePayouts)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let account_id = convert::account_id("account_id", &request.account_id, &mut violations);
    violations.finish(account_id.map(|account_id| (call, ReleasePayouts { account_id })))
}

pub(crate) fn list_payout_holds(request: proto::ListPayoutHoldsRequest) -> Result<(PayoutHoldFilter, PageRequest)> {
    let mut violations = Violations::new();
    let account_id = convert::optional("account_id", &request.account_id, AccountId::parse, &mut violations);
    let page = convert::page(request.page_size, request.page_token, &mut violations);
    violations.finish(Some((
        PayoutHoldFilter {
            account_id,
            show_released: request.show_released,
        },
        page,
    )))
}

impl From<Entry> for proto::Entry {
    fn from(entry: Entry) -> Self {
        let content = entry.content;
        let kind = match content.kind {
            EntryKind::Commission => proto::EntryKind::Commission,
            EntryKind::Bonus => proto::EntryKind::Bonus,
            EntryKind::Adjustment => proto::EntryKind::Adjustment,
            EntryKind::Clawback => proto::EntryKind::Clawback,
            EntryKind::CarryForward => proto::EntryKind::CarryForward,
        };
        let (reverses_source, reverses_external_id) = content
            .reverses
            .map(|key| (key.source, key.external_id))
            .unwrap_or_default();
        Self {
            source: content.key.source,
            external_id: content.key.external_id,
            account_id: content.account_id.to_string(),
            money: Some((&content.money).into()),
            kind: kind.into(),
            occur_time: Some(content.occur_time.into()),
            available_date: content.available_date.to_string(),
            description: content.description,
            reverses_external_id,
            reverses_source,
            id: entry.id.to_string(),
            create_time: Some(entry.create_time.into()),
            account_settlement_id: entry.account_settlement_id.map(|id| id.to_string()).unwrap_or_default(),
            effective_date: entry.accrual.available_day.to_string(),
        }
    }
}

impl From<Page<Entry>> for proto::ListEntriesResponse {
    fn from(page: Page<Entry>) -> Self {
        let page = page.map(proto::Entry::from);
        Self {
            entries: page.items,
            next_page_token: page.next_token,
        }
    }
}

impl From<SettleSkipReason> for proto::SettleSkipReason {
    fn from(reason: SettleSkipReason) -> Self {
        match reason {
            SettleSkipReason::DuplicateAccount => Self::DuplicateAccount,
            SettleSkipReason::AccountOnHold => Self::AccountOnHold,
            SettleSkipReason::NoBillingDetails => Self::NoBillingDetails,
            SettleSkipReason::NoPaymentMethod => Self::NoPaymentMethod,
            SettleSkipReason::PaymentMethodDisabled => Self::PaymentMethodDisabled,
            SettleSkipReason::NegativeBalance => Self::NegativeBalance,
            SettleSkipReason::NothingOpen => Self::NothingOpen,
            SettleSkipReason::AmountAboveOpenBalance => Self::AmountAboveOpenBalance,
            SettleSkipReason::BelowMinimum => Self::BelowMinimum,
            SettleSkipReason::PayeeNotPayable => Self::PayeeNotPayable,
            SettleSkipReason::PaymentMethodCoolingOff => Self::PaymentMethodCoolingOff,
        }
    }
}

impl From<ShownBalance> for proto::OpenBalance {
    fn from(shown: ShownBalance) -> Self {
        use crate::domain::money::Money;
        let balance = shown.balance;
        let (reason, payable_money) = match &shown.payable {
            Ok(payable) => (proto::SettleSkipReason::Unspecified, Some((&payable.money).into())),
            Err(reason) => (proto::SettleSkipReason::from(*reason), None),
        };
        Self {
            account_id: balance.account_id.to_string(),
            open: Some((&Money::new(balance.currency, balance.open)).into()),
            pending: Some((&Money::new(balance.currency, balance.pending)).into()),
            entry_count: balance.entry_count,
            payable: shown.payable.is_ok(),
            not_payable_reason: reason.into(),
            payable_money,
            payment_method_type_id: balance.payee.method.map(|method| method.type_id).unwrap_or_default(),
            cooling_off_until: shown.cooling_off_until.map(Into::into),
        }
    }
}

impl From<Page<ShownBalance>> for proto::ListOpenBalancesResponse {
    fn from(page: Page<ShownBalance>) -> Self {
        let page = page.map(proto::OpenBalance::from);
        Self {
            open_balances: page.items,
            next_page_token: page.next_token,
        }
    }
}

impl From<BalanceSummary> for proto::SummarizeOpenBalancesResponse {
    fn from(summary: BalanceSummary) -> Self {
        Self {
            funds_needed: summary
                .funds_needed
                .iter()
                .map(|(type_id, money, count)| proto::FundsNeeded {
                    payment_method_type_id: type_id.clone(),
                    money: Some(money.into()),
                    account_count: *count,
                })
                .collect(),
            not_payable: summary
                .not_payable
                .iter()
                .map(|(reason, money, count)| proto::NotPayable {
                    reason: proto::SettleSkipReason::from(*reason).into(),
                    money: Some(money.into()),
                    account_count: *count,
                })
                .collect(),
        }
    }
}

impl From<PayoutHold> for proto::PayoutHold {
    fn from(hold: PayoutHold) -> Self {
        Self {
            id: hold.id.to_string(),
            account_id: hold.account_id.to_string(),
            reason: hold.reason,
            actor: hold.actor,
            create_time: Some(hold.create_time.into()),
            release_time: hold.release_time.map(Into::into),
            release_actor: hold.release_actor.unwrap_or_default(),
        }
    }
}

impl From<Page<PayoutHold>> for proto::ListPayoutHoldsResponse {
    fn from(page: Page<PayoutHold>) -> Self {
        let page = page.map(proto::PayoutHold::from);
        Self {
            payout_holds: page.items,
            next_page_token: page.next_token,
        }
    }
}
