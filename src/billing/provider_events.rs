//! What providers say by themselves: kept first, then applied, once an event id.
//!
//! What can't be applied yet (its row is not there, its status is not known) stays, and is applied when it can be.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::page::{Page, PageRequest};
use super::payees::hear_of_payee;
use super::payouts::tell_alarms;
use super::provider_words::{Heard, Origin, Word, hear};
use super::{Billing, Call, Mutation};
use crate::domain::error::{Error, Result};
use crate::domain::ids::parse_uuid;
use crate::domain::payouts::{ListedEvent, MAX_REF_CODE_BYTES, WordOutcome};
use crate::domain::time::Timestamp;
use crate::payout::{ProviderEvent, ProviderKind};
use crate::store::Tx;
pub use crate::store::provider_events::EventFilter;
use crate::store::provider_events::{self as store, NewEvent, NewWord};

const LIST: &str = "ListTipaltiEvents";
/// Words of one event that are applied in one transaction.
const CHUNK: usize = 500;
/// An event that was kept so long ago and not applied was cut off.
const CUT_OFF_AFTER: Duration = Duration::from_secs(10);
/// Events that are looked at again in one round.
const WAITING_LIMIT: usize = 200;

/// What became of an event that was received.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Whether it came for the first time.
    pub is_new: bool,
    /// What became of each of its words, as far as they were applied now.
    pub outcomes: Vec<WordOutcome>,
}

/// Keeps an event.
#[derive(Serialize)]
struct KeepEvent {
    provider: &'static str,
    #[serde(skip)]
    event: ProviderEvent,
    #[serde(skip)]
    body: String,
}

/// Applies the next words of a kept event that wait for something.
#[derive(Serialize)]
struct ApplyEvent {
    #[serde(skip)]
    kind: &'static ProviderKind,
    event_id: String,
    after: i32,
    interval: Duration,
}

/// Lets others come before an event that can't be applied.
#[derive(Serialize)]
struct PostponeEvent {
    provider: &'static str,
    event_id: String,
}

impl Mutation for PostponeEvent {
    const METHOD: &'static str = "PostponeEvent";
    type Answer = ();

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<()> {
        store::postpone(tx, self.provider, &self.event_id, Timestamp::now()).await
    }
}

#[derive(Serialize, Deserialize)]
struct AppliedEvent {
    heard: Vec<Heard>,
    /// The last word that was looked at; none when there was none left.
    last: Option<i32>,
}

impl Mutation for KeepEvent {
    const METHOD: &'static str = "KeepEvent";
    type Answer = bool;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<bool> {
        let event = NewEvent {
            provider: self.provider,
            id: &self.event.id,
            event_type: &self.event.event_type,
            is_test: self.event.is_test,
            created_time: self.event.created_time,
            body: &self.body,
            words: words_to_keep(&self.event),
        };
        store::insert(tx, &event, Timestamp::now()).await
    }
}

fn words_to_keep(event: &ProviderEvent) -> Vec<NewWord> {
    if let Some(payee) = &event.payee {
        return vec![NewWord {
            ref_code: String::new(),
            account_settlement_id: None,
            raw_status: payee.raw_status.clone(),
        }];
    }
    let of_payment = |payment: &crate::payout::PaymentReport| NewWord {
        ref_code: plain(&payment.ref_code),
        account_settlement_id: parse_uuid(&payment.ref_code).ok(),
        raw_status: payment.raw_status.clone(),
    };
    event.payments.iter().map(of_payment).collect()
}

/// A ref code that is plain enough to be one; those of others may hold anything.
fn plain(ref_code: &str) -> String {
    let is_plain = ref_code.len() <= MAX_REF_CODE_BYTES
        && ref_code
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if is_plain { ref_code.to_owned() } else { String::new() }
}

impl Mutation for ApplyEvent {
    const METHOD: &'static str = "ApplyEvent";
    type Answer = AppliedEvent;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<AppliedEvent> {
        let positions = store::lock_waiting(tx, self.kind.name, &self.event_id, self.after, CHUNK).await?;
        let Some(last) = positions.last().copied() else {
            return Ok(AppliedEvent {
                heard: Vec::new(),
                last: None,
            });
        };
        let body = store::body(tx, self.kind.name, &self.event_id)
            .await?
            .ok_or_else(|| Error::internal("an event with words has no body"))?;
        let event = (self.kind.webhook.read)(body.as_bytes())
            .map_err(|problem| Error::internal(format!("a kept event can't be read: {problem}")))?;
        let (heard, outcomes) = match &event.payee {
            Some(payee) => {
                hear_of_payee(tx, self.kind.name, payee).await?;
                let outcomes = positions
                    .iter()
                    .map(|position| (*position, WordOutcome::Applied))
                    .collect();
                (Vec::new(), outcomes)
            }
            None => self.hear_payments(tx, &event, &positions).await?,
        };
        store::set_outcomes(tx, self.kind.name, &self.event_id, &outcomes, Timestamp::now()).await?;
        Ok(AppliedEvent {
            heard,
            last: Some(last),
        })
    }
}

impl ApplyEvent {
    async fn hear_payments(
        &self,
        tx: &Tx,
        event: &ProviderEvent,
        positions: &[i32],
    ) -> Result<(Vec<Heard>, Vec<(i32, WordOutcome)>)> {
        let payment = |position: &i32| {
            usize::try_from(*position)
                .ok()
                .and_then(|place| event.payments.get(place))
        };
        let words: Vec<Word> = positions
            .iter()
            .filter_map(payment)
            .map(|report| Word::Said(report.clone()))
            .collect();
        if words.len() != positions.len() {
            return Err(Error::internal("a kept event has fewer words than it had"));
        }
        let origin = Origin::Event(self.event_id.clone());
        let heard = hear(tx, self.kind, &words, &origin, self.interval).await?;
        let outcomes = positions
            .iter()
            .zip(&heard)
            .map(|(position, heard)| (*position, heard.outcome))
            .collect();
        Ok((heard, outcomes))
    }
}

impl Billing {
    /// Keeps an event whose signature was checked, and applies it. Once it is kept this succeeds: what could not be applied
    /// now is applied later. `body` is what is kept of it.
    pub async fn receive_event(
        &self,
        kind: &'static ProviderKind,
        event: ProviderEvent,
        body: String,
    ) -> Result<Receipt> {
        let event_id = event.id.clone();
        let keep = KeepEvent {
            provider: kind.name,
            event,
            body,
        };
        let is_new = self.mutate(&Call::by_system(kind.name), keep).await?;
        // Also when it came before: it may have been cut off between being kept and being applied.
        let outcomes = match self.apply_event(kind, &event_id).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::error!(provider = kind.name, %event_id, %error, "an event was kept and could not be applied yet");
                Vec::new()
            }
        };
        Ok(Receipt { is_new, outcomes })
    }

    /// Applies what was kept and waits no longer; how many events were looked at.
    pub async fn apply_waiting_events(&self, kind: &'static ProviderKind) -> Result<usize> {
        let reader = self.store.reader();
        let unmapped = store::unmapped_statuses(&reader, kind.name).await?;
        let now_known: Vec<String> = unmapped
            .into_iter()
            .filter(|raw| (kind.map_status)(raw).is_some())
            .collect();
        let cut_off_before = Timestamp::now().minus(CUT_OFF_AFTER);
        let events = store::waiting(&reader, kind.name, cut_off_before, &now_known, WAITING_LIMIT).await?;
        for event_id in &events {
            match self.apply_event(kind, event_id).await {
                Ok(outcomes) => {
                    tracing::info!(provider = kind.name, %event_id, words = outcomes.len(), "applied an event that waited");
                }
                Err(error) => {
                    tracing::error!(provider = kind.name, %event_id, %error, "an event that waits can't be applied");
                    let postpone = PostponeEvent {
                        provider: kind.name,
                        event_id: event_id.clone(),
                    };
                    self.mutate(&Call::by_system(kind.name), postpone).await?;
                }
            }
        }
        Ok(events.len())
    }

    /// Lists events, newest first.
    pub async fn list_provider_events(
        &self,
        provider: &str,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<ListedEvent>> {
        let before: Option<(i64, String)> = self.read_token(LIST, &(provider, filter), page)?;
        let events = store::list(&self.store.reader(), provider, filter, before.as_ref(), page.limit()).await?;
        self.page_of(LIST, &(provider, filter), page, events, |event| {
            (event.receive_time.as_micros(), event.id.clone())
        })
    }

    async fn apply_event(&self, kind: &'static ProviderKind, event_id: &str) -> Result<Vec<WordOutcome>> {
        let mut outcomes = Vec::new();
        let mut after = -1;
        loop {
            let apply = ApplyEvent {
                kind,
                event_id: event_id.to_owned(),
                after,
                interval: self.payouts.options.sync_interval,
            };
            let applied = self.mutate(&Call::by_system(kind.name), apply).await?;
            tell_alarms(kind.name, &applied.heard);
            outcomes.extend(applied.heard.iter().map(|heard| heard.outcome));
            match applied.last {
                Some(last) => after = last,
                None => return Ok(outcomes),
            }
        }
    }
}

/// Whether a ref code is one of ours, for the log: others may hold anything.
#[must_use]
pub fn own_id(ref_code: &str) -> Option<Uuid> {
    parse_uuid(ref_code).ok()
}
