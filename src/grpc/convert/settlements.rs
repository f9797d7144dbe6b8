//! Messages of `SettlementsService`.

use uuid::Uuid;

use super::balances::cut;
use super::payment_methods::view;
use super::settle_balances::settlement;
use crate::billing::page::{Page, PageRequest};
use crate::billing::{
    AccountSettlementFilter, ApproveSettlement, BulkItem, BulkOutcome, BulkUpdateStatus, Call, DeleteAccountSettlement,
    DeleteSettlement, SettlementFilter, StatusTarget, UpdateStatus,
};
use crate::domain::account_settlements::{
    AccountSettlement, MAX_BULK_IDS, MAX_PAYMENT_REFERENCE_BYTES, MAX_REASON_BYTES, ProviderPayment, Status,
    StatusChange, StatusSkipReason,
};
use crate::domain::error::{Result, Violations};
use crate::domain::ids::{AccountId, check_text, parse_uuid};
use crate::domain::payment_methods::View;
use crate::domain::permissions::Identity;
use crate::domain::settlements::{ApprovalState, Settlement, SkippedAccount};
use crate::domain::time::Timestamp;
use crate::grpc::convert;
use crate::proto;
use crate::proto::AccountSettlementStatus as Message;

const MAX_ID_BYTES_ANSWERED: usize = 128;

/// A chunk of a bulk update, with the id that it is answered by.
pub(crate) struct BulkChunk {
    pub(crate) chunk_id: String,
    pub(crate) call: Call,
    pub(crate) request: BulkUpdateStatus,
}

/// An update of a whole settlement.
pub(crate) struct SettlementUpdate {
    pub(crate) settlement_id: Uuid,
    pub(crate) call: Call,
    pub(crate) target: StatusTarget,
}

pub(crate) fn get_settlement(request: &proto::GetSettlementRequest) -> Result<Uuid> {
    let mut violations = Violations::new();
    let id = convert::uuid("id", &request.id, &mut violations);
    violations.finish(id)
}

pub(crate) fn list_settlements(request: proto::ListSettlementsRequest) -> Result<(SettlementFilter, PageRequest)> {
    let mut violations = Violations::new();
    let filter = SettlementFilter {
        create_time_from: convert::time("create_time_from", request.create_time_from.as_ref(), &mut violations),
        create_time_before: convert::time(
            "create_time_before",
            request.create_time_before.as_ref(),
            &mut violations,
        ),
        show_deleted: request.show_deleted,
        approval: approval_state(request.approval_state, &mut violations),
    };
    let page = convert::page(request.page_size, request.page_token, &mut violations);
    violations.finish(Some((filter, page)))
}

fn approval_state(state: i32, violations: &mut Violations) -> Option<ApprovalState> {
    match proto::ApprovalState::try_from(state) {
        Ok(proto::ApprovalState::Unspecified) => None,
        Ok(proto::ApprovalState::NotRequired) => Some(ApprovalState::NotRequired),
        Ok(proto::ApprovalState::Pending) => Some(ApprovalState::Pending),
        Ok(proto::ApprovalState::Approved) => Some(ApprovalState::Approved),
        Err(_) => {
            violations.push("approval_state", "must be NOT_REQUIRED, PENDING or APPROVED");
            None
        }
    }
}

pub(crate) fn approve_settlement(
    caller: &Identity,
    request: proto::ApproveSettlementRequest,
) -> Result<(Call, ApproveSettlement)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let id = convert::uuid("id", &request.id, &mut violations);
    violations.finish(id.map(|id| (call, ApproveSettlement { id, etag: request.etag })))
}

pub(crate) fn delete_settlement(
    caller: &Identity,
    request: proto::DeleteSettlementRequest,
) -> Result<(Call, DeleteSettlement)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let id = convert::uuid("id", &request.id, &mut violations);
    violations.finish(id.map(|id| (call, DeleteSettlement { id, etag: request.etag })))
}

pub(crate) fn list_skipped(request: proto::ListSkippedAccountsRequest) -> Result<(Uuid, PageRequest)> {
    let mut violations = Violations::new();
    let id = convert::uuid("settlement_id", &request.settlement_id, &mut violations);
    let page = convert::page(request.page_size, request.page_token, &mut violations);
    violations.finish(id.map(|id| (id, page)))
}

pub(crate) fn get_account_settlement(
    caller: &Identity,
    request: &proto::GetAccountSettlementRequest,
) -> Result<(Uuid, View)> {
    let mut violations = Violations::new();
    let id = convert::uuid("id", &request.id, &mut violations);
    let view = view(caller, request.view, &mut violations)?;
    violations.finish(id.zip(view))
}

pub(crate) fn list_account_settlements(
    caller: &Identity,
    request: proto::ListAccountSettlementsRequest,
) -> Result<(AccountSettlementFilter, View, PageRequest)> {
    let mut violations = Violations::new();
    let v = &mut violations;
    let filter = AccountSettlementFilter {
        settlement_id: convert::optional("settlement_id", &request.settlement_id, parse_uuid, v),
        account_id: convert::optional("account_id", &request.account_id, AccountId::parse, v),
        status: optional_status("status", request.status, v),
        create_time_from: convert::time("create_time_from", request.create_time_from.as_ref(), v),
        create_time_before: convert::time("create_time_before", request.create_time_before.as_ref(), v),
        show_deleted: request.show_deleted,
    };
    let view = view(caller, request.view, v)?;
    let page = convert::page(request.page_size, request.page_token, v);
    violations.finish(view.map(|view| (filter, view, page)))
}

pub(crate) fn update_status(
    caller: &Identity,
    request: proto::UpdateAccountSettlementStatusRequest,
) -> Result<(Call, UpdateStatus)> {
    let mut violations = Violations::new();
    let v = &mut violations;
    let call = convert::call(caller, &request.request_id, v);
    let id = convert::uuid("id", &request.id, v);
    let expected = optional_status("expected_status", request.expected_status, v);
    let target = target(
        "status",
        request.status,
        expected,
        request.reason,
        request.paid_time.as_ref(),
        v,
    );
    payment_reference("payment_reference", &request.payment_reference, target.as_ref(), v);
    let update = id.zip(target).map(|(id, target)| UpdateStatus {
        id,
        target,
        payment_reference: request.payment_reference,
        etag: request.etag,
    });
    violations.finish(update.map(|update| (call, update)))
}

pub(crate) fn bulk_update(
    caller: &Identity,
    request: proto::BulkUpdateAccountSettlementStatusRequest,
) -> Result<BulkChunk> {
    let mut violations = Violations::new();
    let v = &mut violations;
    let call = convert::call(caller, &request.request_id, v);
    v.check("chunk_id", check_text(&request.chunk_id, convert::MAX_CHUNK_ID_BYTES));
    let expected = optional_status("expected_status", request.expected_status, v);
    let target = target(
        "target_status",
        request.target_status,
        expected,
        request.reason,
        request.paid_time.as_ref(),
        v,
    );
    let items = bulk_items(request.account_settlement_ids, request.items, target.as_ref(), v);
    let request_of = |target| BulkUpdateStatus { items, target };
    let chunk_id = request.chunk_id;
    let chunk = target.map(|target| BulkChunk {
        chunk_id,
        call,
        request: request_of(target),
    });
    violations.finish(chunk)
}

fn bulk_items(
    ids: Vec<String>,
    items: Vec<proto::StatusUpdateItem>,
    target: Option<&StatusTarget>,
    violations: &mut Violations,
) -> Vec<BulkItem> {
    if !ids.is_empty() && !items.is_empty() {
        violations.push("items", "can't stand beside account_settlement_ids: use one of them");
        return Vec::new();
    }
    let field = if items.is_empty() {
        "account_settlement_ids"
    } else {
        "items"
    };
    let count = ids.len() + items.len();
    if !(1..=MAX_BULK_IDS).contains(&count) {
        violations.push(field, format!("must be 1 to {MAX_BULK_IDS}, not {count}"));
        return Vec::new();
    }
    for (index, item) in items.iter().enumerate() {
        payment_reference(
            &format!("items[{index}].payment_reference"),
            &item.payment_reference,
            target,
            violations,
        );
    }
    let ids = ids.into_iter().map(|id| BulkItem {
        id,
        payment_reference: String::new(),
    });
    let items = items.into_iter().map(|item| BulkItem {
        id: item.id,
        payment_reference: item.payment_reference,
    });
    ids.chain(items).collect()
}

pub(crate) fn update_settlement(
    caller: &Identity,
    request: proto::BulkUpdateSettlementStatusRequest,
) -> Result<SettlementUpdate> {
    let mut violations = Violations::new();
    let v = &mut violations;
    let call = convert::call(caller, &request.request_id, v);
    let settlement_id = convert::uuid("settlement_id", &request.settlement_id, v);
    let expected = optional_status("expected_status", request.expected_status, v);
    if request.expected_status == 0 {
        v.push("expected_status", "is required: the rows in this status are updated");
    }
    let target = target(
        "target_status",
        request.target_status,
        expected,
        request.reason,
        request.paid_time.as_ref(),
        v,
    );
    let update = settlement_id
        .zip(target)
        .map(|(settlement_id, target)| SettlementUpdate {
            settlement_id,
            call,
            target,
        });
    violations.finish(update)
}

pub(crate) fn delete_account_settlement(
    caller: &Identity,
    request: proto::DeleteAccountSettlementRequest,
) -> Result<(Call, DeleteAccountSettlement)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let id = convert::uuid("id", &request.id, &mut violations);
    violations.finish(id.map(|id| (call, DeleteAccountSettlement { id, etag: request.etag })))
}

pub(crate) fn list_status_changes(request: proto::ListStatusChangesRequest) -> Result<(Uuid, PageRequest)> {
    let mut violations = Violations::new();
    let id = convert::uuid("account_settlement_id", &request.account_settlement_id, &mut violations);
    let page = convert::page(request.page_size, request.page_token, &mut violations);
    violations.finish(id.map(|id| (id, page)))
}

fn optional_status(field: &str, status: i32, violations: &mut Violations) -> Option<Status> {
    match Message::try_from(status) {
        Ok(Message::Unspecified) => None,
        Ok(Message::New) => Some(Status::New),
        Ok(Message::InProgress) => Some(Status::InProgress),
        Ok(Message::Paid) => Some(Status::Paid),
        Ok(Message::Error) => Some(Status::Error),
        Err(_) => {
            violations.push(field, "must be NEW, IN_PROGRESS, PAID or ERROR");
            None
        }
    }
}

fn target(
    field: &str,
    status: i32,
    expected: Option<Status>,
    reason: String,
    paid_time: Option<&prost_types::Timestamp>,
    violations: &mut Violations,
) -> Option<StatusTarget> {
    if status == 0 {
        violations.push(field, "is required: NEW, IN_PROGRESS or PAID");
    }
    let status = optional_status(field, status, violations)
        .and_then(|status| violations.check(field, status.check_manual_target()));
    violations.check("reason", check_text(&reason, MAX_REASON_BYTES));
    let paid_at = convert::time("paid_time", paid_time, violations);
    if paid_time.is_some() && status.is_some_and(|status| status != Status::Paid) {
        violations.push("paid_time", "is for PAID only");
    }
    // Clocks differ, and a bank's value date may be tomorrow.
    if paid_at.is_some_and(|time| time > Timestamp::now().plus_days(1)) {
        violations.push("paid_time", "must not be more than a day ahead");
    }
    let reason = reason.trim().to_owned();
    status.map(|status| StatusTarget {
        status,
        expected,
        reason,
        paid_time: paid_at,
    })
}

fn payment_reference(field: &str, reference: &str, target: Option<&StatusTarget>, violations: &mut Violations) {
    violations.check(field, check_text(reference, MAX_PAYMENT_REFERENCE_BYTES));
    if !reference.is_empty() && target.is_some_and(|target| target.status != Status::Paid) {
        violations.push(field, "is for PAID only");
    }
}

pub(crate) fn settlements_response(page: Page<Settlement>) -> Result<proto::ListSettlementsResponse> {
    let settlements = page.items.iter().map(settlement).collect::<Result<Vec<_>>>()?;
    Ok(proto::ListSettlementsResponse {
        settlements,
        next_page_token: page.next_token,
    })
}

pub(crate) fn account_settlement(row: AccountSettlement, view: View) -> proto::AccountSettlement {
    let mut billing_details = proto::BillingDetails::from(&row.billing_details);
    billing_details.account_id = row.account_id.to_string();
    let mut payment_method = super::payment_methods::snapshot(
        &row.account_id,
        row.money.currency,
        &row.payment_method_type_id,
        &row.payment_method,
        &row.payment_method_fields,
        view,
    );
    payment_method.id = row.payment_method_id.to_string();
    let etag = row.etag();
    proto::AccountSettlement {
        id: row.id.to_string(),
        settlement_id: row.settlement_id.to_string(),
        account_id: row.account_id.to_string(),
        money: Some((&row.money).into()),
        status: status_message(Some(row.status)).into(),
        payment_method: Some(payment_method),
        billing_details: Some(billing_details),
        payment_reference: row.payment_reference,
        paid_time: row.paid_time.map(Into::into),
        provider: row.provider.map(Into::into),
        etag,
        create_time: Some(row.create_time.into()),
        update_time: Some(row.update_time.into()),
        delete_time: row.delete_time.map(Into::into),
    }
}

pub(crate) fn account_settlements_response(
    page: Page<AccountSettlement>,
    view: View,
) -> proto::ListAccountSettlementsResponse {
    let page = page.map(|row| account_settlement(row, view));
    proto::ListAccountSettlementsResponse {
        account_settlements: page.items,
        next_page_token: page.next_token,
    }
}

pub(crate) fn bulk_response(
    chunk_id: String,
    outcome: BulkOutcome,
) -> proto::BulkUpdateAccountSettlementStatusResponse {
    let (updated_count, updated_ids, skipped) = bulk_parts(outcome);
    proto::BulkUpdateAccountSettlementStatusResponse {
        chunk_id,
        updated_count,
        updated_ids,
        skipped,
    }
}

pub(crate) fn settlement_chunk_response(
    number: i64,
    outcome: BulkOutcome,
) -> proto::BulkUpdateSettlementStatusResponse {
    let (updated_count, updated_ids, skipped) = bulk_parts(outcome);
    proto::BulkUpdateSettlementStatusResponse {
        chunk_id: (number + 1).to_string(),
        updated_count,
        updated_ids,
        skipped,
    }
}

fn bulk_parts(outcome: BulkOutcome) -> (i32, Vec<String>, Vec<proto::SkippedStatusUpdate>) {
    let updated_ids: Vec<String> = outcome.updated.iter().map(Uuid::to_string).collect();
    let skipped = outcome
        .skipped
        .into_iter()
        .map(|skipped| proto::SkippedStatusUpdate {
            id: cut(&skipped.id, MAX_ID_BYTES_ANSWERED),
            reason: proto::StatusSkipReason::from(skipped.reason).into(),
            current_status: status_message(skipped.current).into(),
        })
        .collect();
    (
        i32::try_from(updated_ids.len()).unwrap_or(i32::MAX),
        updated_ids,
        skipped,
    )
}

pub(crate) fn status_message(status: Option<Status>) -> Message {
    match status {
        None => Message::Unspecified,
        Some(Status::New) => Message::New,
        Some(Status::InProgress) => Message::InProgress,
        Some(Status::Paid) => Message::Paid,
        Some(Status::Error) => Message::Error,
    }
}

impl From<ProviderPayment> for proto::ProviderPayment {
    fn from(provider: ProviderPayment) -> Self {
        Self {
            name: provider.name,
            reference: provider.reference,
            raw_status: provider.raw_status,
            error_code: provider.error_code,
            error_message: provider.error_message,
            unmapped: provider.is_unmapped,
            is_final: provider.is_final,
            event_time: provider.event_time.map(Into::into),
        }
    }
}

impl From<StatusSkipReason> for proto::StatusSkipReason {
    fn from(reason: StatusSkipReason) -> Self {
        match reason {
            StatusSkipReason::MalformedId => Self::MalformedId,
            StatusSkipReason::DuplicateId => Self::DuplicateId,
            StatusSkipReason::NotFound => Self::NotFound,
            StatusSkipReason::Deleted => Self::Deleted,
            StatusSkipReason::ProviderManaged => Self::ProviderManaged,
            StatusSkipReason::UnexpectedStatus => Self::UnexpectedStatus,
            StatusSkipReason::AlreadyInStatus => Self::AlreadyInStatus,
            StatusSkipReason::ReasonRequired => Self::ReasonRequired,
            StatusSkipReason::AwaitingApproval => Self::AwaitingApproval,
        }
    }
}

impl From<StatusChange> for proto::StatusChange {
    fn from(change: StatusChange) -> Self {
        Self {
            from_status: status_message(change.from).into(),
            to_status: status_message(Some(change.to)).into(),
            change_time: Some(change.change_time.into()),
            actor: change.actor,
            reason: change.reason,
            payment_reference: change.payment_reference,
            request_id: change.request_id,
        }
    }
}

impl From<Page<StatusChange>> for proto::ListStatusChangesResponse {
    fn from(page: Page<StatusChange>) -> Self {
        let page = page.map(proto::StatusChange::from);
        Self {
            status_changes: page.items,
            next_page_token: page.next_token,
        }
    }
}

impl From<Page<SkippedAccount>> for proto::ListSkippedAccountsResponse {
    fn from(page: Page<SkippedAccount>) -> Self {
        let page = page.map(|skipped| proto::SkippedAccount::from(&skipped));
        Self {
            skipped: page.items,
            next_page_token: page.next_token,
        }
    }
}
