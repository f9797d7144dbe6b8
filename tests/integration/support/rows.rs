//! Rows of settlements to work on, and short calls on them.

use std::fmt::Debug;

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use futures_util::StreamExt as _;
use tokio_stream::iter;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::app::App;
use super::fixtures::{entry, request_id, tipalti_method};

/// The statuses that a row is given by hand.
pub(crate) const MANUAL: [RowStatus; 3] = [RowStatus::New, RowStatus::InProgress, RowStatus::Paid];

pub(crate) type BulkChunk = proto::BulkUpdateAccountSettlementStatusRequest;
pub(crate) type BulkAnswer = proto::BulkUpdateAccountSettlementStatusResponse;
type Update = proto::UpdateAccountSettlementStatusRequest;

/// Checks the code and the reason of a refusal.
pub(crate) fn assert_refused<T: Debug>(outcome: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).as_str()), (code, reason), "{status}");
    status
}

pub(crate) fn reason_of(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

/// The fields that a refusal names, in its order.
pub(crate) fn violated_fields(status: &Status) -> Vec<String> {
    let request = status.get_details_bad_request().unwrap();
    request
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

/// A status update of one row with a reason.
pub(crate) fn update(id: &str, status: RowStatus) -> Update {
    Update {
        id: id.to_owned(),
        status: status.into(),
        reason: "test".to_owned(),
        ..Default::default()
    }
}

/// A chunk of a bulk update without a reason.
pub(crate) fn chunk(ids: &[&str], target: RowStatus) -> BulkChunk {
    BulkChunk {
        account_settlement_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        target_status: target.into(),
        ..Default::default()
    }
}

/// All messages of a stream, and what ended it when that was an error.
pub(crate) async fn drained<T>(stream: tonic::Streaming<T>) -> (Vec<T>, Option<Status>) {
    let mut stream = stream;
    let mut messages = Vec::new();
    while let Some(message) = stream.next().await {
        match message {
            Ok(message) => messages.push(message),
            Err(status) => return (messages, Some(status)),
        }
    }
    (messages, None)
}

impl App {
    /// Settles 10 EUR of each of these new accounts in one settlement; the rows in their order.
    pub(crate) async fn settled(&self, account_ids: &[&str]) -> Vec<proto::AccountSettlement> {
        for account_id in account_ids {
            self.payable_account(account_id, &["EUR"]).await;
        }
        self.settled_again(account_ids).await
    }

    /// The same for accounts that are there.
    pub(crate) async fn settled_again(&self, account_ids: &[&str]) -> Vec<proto::AccountSettlement> {
        let entries = account_ids
            .iter()
            .map(|account_id| entry(&request_id(), account_id, "10", "EUR"))
            .collect();
        self.post(entries).await;
        let settlement = self.settle(account_ids).await.settlement.unwrap();
        let rows = self.rows_of(&settlement.id).await;
        account_ids
            .iter()
            .map(|account_id| rows.iter().find(|row| row.account_id == *account_id).unwrap().clone())
            .collect()
    }

    /// A row that Tipalti pays.
    pub(crate) async fn tipalti_account(&self, account_id: &str) {
        self.with_billing_details(account_id).await;
        self.with_method(tipalti_method(account_id, "EUR")).await;
    }

    pub(crate) async fn update(&self, request: Update) -> Result<proto::AccountSettlement, Status> {
        let response = self.settlements().update_account_settlement_status(request).await?;
        Ok(response.into_inner().account_settlement.unwrap())
    }

    /// Sets a status with a reason.
    pub(crate) async fn set(&self, id: &str, status: RowStatus) -> proto::AccountSettlement {
        self.update(update(id, status)).await.unwrap()
    }

    pub(crate) async fn row(&self, id: &str) -> proto::AccountSettlement {
        let request = proto::GetAccountSettlementRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let response = self.settlements().get_account_settlement(request).await.unwrap();
        response.into_inner().account_settlement.unwrap()
    }

    pub(crate) async fn history(&self, id: &str) -> Vec<proto::StatusChange> {
        let request = proto::ListStatusChangesRequest {
            account_settlement_id: id.to_owned(),
            page_size: 1000,
            ..Default::default()
        };
        let response = self.settlements().list_status_changes(request).await.unwrap();
        response.into_inner().status_changes
    }

    /// Live rows in `NEW`, `IN_PROGRESS` and `PAID`; none must be in `ERROR`.
    pub(crate) async fn counts(&self, settlement_id: &str) -> [i64; 3] {
        let settlement = self.settlement(settlement_id).await;
        let counts = settlement.status_counts.unwrap();
        assert_eq!(counts.error, 0);
        let sum = counts.new + counts.in_progress + counts.paid;
        assert_eq!(settlement.account_settlement_count, sum);
        [counts.new, counts.in_progress, counts.paid]
    }

    /// Sends chunks, and takes all that is answered.
    pub(crate) async fn bulk(&self, chunks: Vec<BulkChunk>) -> (Vec<BulkAnswer>, Option<Status>) {
        let mut settlements = self.settlements();
        let answers = settlements.bulk_update_account_settlement_status(iter(chunks)).await;
        drained(answers.unwrap().into_inner()).await
    }

    /// Sends one chunk that must be answered.
    pub(crate) async fn bulk_one(&self, chunk: BulkChunk) -> BulkAnswer {
        let (mut answers, end) = self.bulk(vec![chunk]).await;
        assert!(end.is_none(), "{end:?}");
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    pub(crate) async fn delete_row(&self, id: &str) -> Result<proto::AccountSettlement, Status> {
        let request = proto::DeleteAccountSettlementRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let response = self.settlements().delete_account_settlement(request).await;
        response
            .map(Response::into_inner)
            .map(|response| response.account_settlement.unwrap())
    }

    pub(crate) async fn delete_settlement(&self, id: &str) -> Result<proto::Settlement, Status> {
        let request = proto::DeleteSettlementRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let response = self.settlements().delete_settlement(request).await;
        response
            .map(Response::into_inner)
            .map(|response| response.settlement.unwrap())
    }
}
