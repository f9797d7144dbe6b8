//! Messages of `TipaltiService`.

use uuid::Uuid;

use super::settlements::status_message;
use crate::billing::page::{Page, PageRequest};
use crate::billing::{
    Call, CheckOutcome, CheckedPayout, EventFilter, SendOutcome, SentPayout, SubmittedChunk, SyncedChunk,
};
use crate::domain::error::{Result, Violations};
use crate::domain::ids::{AccountId, parse_uuid};
use crate::domain::payouts::{ListedEvent, ListedWord, PayoutAlarm, WordOutcome};
use crate::domain::permissions::Identity;
use crate::grpc::convert;
use crate::proto;
use crate::proto::TipaltiEventOutcome as EventOutcome;

pub(crate) fn submit(caller: &Identity, request: &proto::SubmitSettlementRequest) -> Result<(Call, Uuid)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let id = convert::uuid("settlement_id", &request.settlement_id, &mut violations);
    violations.finish(id.map(|id| (call, id)))
}

pub(crate) fn sync(caller: &Identity, request: &proto::SyncSettlementRequest) -> Result<(Call, Uuid)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, "", &mut violations);
    let id = convert::uuid("settlement_id", &request.settlement_id, &mut violations);
    violations.finish(id.map(|id| (call, id)))
}

pub(crate) fn list_events(request: proto::ListTipaltiEventsRequest) -> Result<(EventFilter, PageRequest)> {
    let mut violations = Violations::new();
    let v = &mut violations;
    let filter = EventFilter {
        account_settlement_id: convert::optional(
            "account_settlement_id",
            &request.account_settlement_id,
            parse_uuid,
            v,
        ),
        outcome: event_outcome(request.outcome, v),
    };
    let page = convert::page(request.page_size, request.page_token, v);
    violations.finish(Some((filter, page)))
}

pub(crate) fn list_alarms(request: proto::ListPayoutAlarmsRequest) -> Result<(Option<AccountId>, PageRequest)> {
    let mut violations = Violations::new();
    let account_id = convert::optional("account_id", &request.account_id, AccountId::parse, &mut violations);
    let page = convert::page(request.page_size, request.page_token, &mut violations);
    violations.finish(Some((account_id, page)))
}

fn event_outcome(outcome: i32, violations: &mut Violations) -> Option<WordOutcome> {
    match EventOutcome::try_from(outcome) {
        Ok(EventOutcome::Unspecified) => None,
        Ok(EventOutcome::Stored) => Some(WordOutcome::Stored),
        Ok(EventOutcome::Applied) => Some(WordOutcome::Applied),
        Ok(EventOutcome::Stale) => Some(WordOutcome::Stale),
        Ok(EventOutcome::Unmapped) => Some(WordOutcome::Unmapped),
        Ok(EventOutcome::UnknownRefCode) => Some(WordOutcome::NoRow),
        Ok(EventOutcome::Contradiction) => Some(WordOutcome::Contradiction),
        Err(_) => {
            violations.push("outcome", "must be one of TipaltiEventOutcome");
            None
        }
    }
}

pub(crate) fn submitted(chunk: SubmittedChunk) -> proto::SubmitSettlementResponse {
    let accepted = chunk
        .payouts
        .iter()
        .filter(|payout| payout.outcome == SendOutcome::Accepted)
        .count();
    proto::SubmitSettlementResponse {
        batch_id: chunk.batch_id.map(|id| id.to_string()).unwrap_or_default(),
        accepted_count: number(accepted),
        other_count: number(chunk.payouts.len() - accepted),
        payouts: chunk.payouts.into_iter().map(Into::into).collect(),
    }
}

pub(crate) fn synced(chunk: SyncedChunk) -> proto::SyncSettlementResponse {
    let count = |wanted: CheckOutcome| chunk.payouts.iter().filter(|payout| payout.outcome == wanted).count();
    let (changed, unchanged) = (count(CheckOutcome::Changed), count(CheckOutcome::Unchanged));
    let unmapped = count(CheckOutcome::Unmapped);
    proto::SyncSettlementResponse {
        changed_count: number(changed),
        unchanged_count: number(unchanged),
        unmapped_count: number(unmapped),
        other_count: number(chunk.payouts.len() - changed - unchanged - unmapped),
        payouts: chunk.payouts.into_iter().map(Into::into).collect(),
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl From<SentPayout> for proto::SubmittedPayout {
    fn from(payout: SentPayout) -> Self {
        Self {
            id: payout.id.to_string(),
            outcome: proto::SubmitOutcome::from(payout.outcome).into(),
            status: status_message(Some(payout.status)).into(),
            raw_status: payout.raw_status,
            error_code: payout.error_code,
            error_message: payout.error_text,
        }
    }
}

impl From<SendOutcome> for proto::SubmitOutcome {
    fn from(outcome: SendOutcome) -> Self {
        match outcome {
            SendOutcome::Accepted => Self::Accepted,
            SendOutcome::Refused => Self::Refused,
            SendOutcome::Unknown => Self::Unknown,
            SendOutcome::NotSent => Self::NotSent,
            SendOutcome::OnHold => Self::OnHold,
        }
    }
}

impl From<CheckedPayout> for proto::SyncedPayout {
    fn from(payout: CheckedPayout) -> Self {
        Self {
            id: payout.id.to_string(),
            outcome: proto::SyncOutcome::from(payout.outcome).into(),
            from_status: status_message(payout.from).into(),
            status: status_message(payout.status).into(),
            raw_status: payout.raw_status,
        }
    }
}

impl From<CheckOutcome> for proto::SyncOutcome {
    fn from(outcome: CheckOutcome) -> Self {
        match outcome {
            CheckOutcome::Changed => Self::Changed,
            CheckOutcome::Unchanged => Self::Unchanged,
            CheckOutcome::Unmapped => Self::Unmapped,
            CheckOutcome::NotKnown => Self::NotKnown,
            CheckOutcome::SentAgain => Self::SentAgain,
            CheckOutcome::NotSent => Self::NotSent,
            CheckOutcome::Busy => Self::Busy,
        }
    }
}

impl From<WordOutcome> for EventOutcome {
    fn from(outcome: WordOutcome) -> Self {
        match outcome {
            WordOutcome::Stored => Self::Stored,
            WordOutcome::Applied => Self::Applied,
            WordOutcome::Stale => Self::Stale,
            WordOutcome::Unmapped => Self::Unmapped,
            WordOutcome::NoRow => Self::UnknownRefCode,
            WordOutcome::Contradiction => Self::Contradiction,
        }
    }
}

impl From<ListedWord> for proto::TipaltiEventPayment {
    fn from(word: ListedWord) -> Self {
        Self {
            ref_code: word.ref_code,
            raw_status: word.raw_status,
            outcome: EventOutcome::from(word.outcome).into(),
        }
    }
}

impl From<ListedEvent> for proto::TipaltiEvent {
    fn from(event: ListedEvent) -> Self {
        Self {
            id: event.id,
            r#type: event.event_type,
            is_test: event.is_test,
            event_time: event.created_time.map(Into::into),
            receive_time: Some(event.receive_time.into()),
            payment_count: event.word_count,
            payments: event.words.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Page<ListedEvent>> for proto::ListTipaltiEventsResponse {
    fn from(page: Page<ListedEvent>) -> Self {
        let page = page.map(proto::TipaltiEvent::from);
        Self {
            tipalti_events: page.items,
            next_page_token: page.next_token,
        }
    }
}

impl From<PayoutAlarm> for proto::PayoutAlarm {
    fn from(alarm: PayoutAlarm) -> Self {
        Self {
            id: alarm.id.to_string(),
            account_settlement_id: alarm.account_settlement_id.to_string(),
            account_id: alarm.account_id.to_string(),
            provider: alarm.provider,
            raw_status: alarm.raw_status,
            event_time: alarm.event_time.map(Into::into),
            was_deleted: alarm.was_deleted,
            origin: alarm.origin,
            create_time: Some(alarm.create_time.into()),
        }
    }
}

impl From<Page<PayoutAlarm>> for proto::ListPayoutAlarmsResponse {
    fn from(page: Page<PayoutAlarm>) -> Self {
        let page = page.map(proto::PayoutAlarm::from);
        Self {
            payout_alarms: page.items,
            next_page_token: page.next_token,
        }
    }
}
