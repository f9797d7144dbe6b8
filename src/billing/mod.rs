//! What the service does, one function an RPC: it owns the transaction, the locks and the request id.
//!
//! Knows nothing of gRPC. Every write is a `Mutation`: its canonical request, which is hashed for the request id, and what
//! it does in one transaction.
//!
//! Lock order, everywhere: request id, an event's words, billing details by account or payment methods by account and id,
//! payees by id, settlement, account settlements by id, their payouts by id, reversed entries by id, accruals by key, versions
//! of billing details by account, entries by (source, external id), counters by (settlement, currency).
//! `ARCHITECTURE.md` says why no two writers can deadlock.

mod account_settlements;
mod approvals;
mod batching;
mod billing_details;
mod carry_forward;
mod change_control;
mod entries;
mod import_billing_details;
mod import_payment_methods;
mod open_balances;
pub mod page;
mod payees;
mod payment_method_changes;
mod payment_method_types;
mod payment_methods;
mod payout_holds;
mod payouts;
mod posting_queue;
mod provider_events;
mod provider_words;
mod rotate_keys;
mod settle_balances;
mod settlements;
mod status_updates;
mod submit_settlement;
mod sync_settlement;
pub mod verify;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use self::account_settlements::*;
use self::account_settlements::{ReadingQueue, account_settlement_not_found, reading_queue};
pub use self::approvals::*;
pub use self::billing_details::*;
pub use self::change_control::*;
pub use self::entries::*;
pub use self::import_billing_details::*;
pub use self::import_payment_methods::*;
pub use self::open_balances::*;
pub use self::payment_method_changes::*;
pub use self::payment_method_types::*;
pub use self::payment_methods::*;
pub use self::payout_holds::*;
pub use self::payouts::*;
pub use self::provider_events::*;
pub use self::rotate_keys::*;
pub use self::settle_balances::*;
use self::settlements::settlement_not_found;
pub use self::settlements::*;
pub use self::status_updates::*;
pub use self::submit_settlement::*;
pub use self::sync_settlement::*;
use crate::domain::error::{Error, Reason, Result};
use crate::store::request_ids::{self, RequestKey};
use crate::store::{Isolation, Store, Tx};

/// Attempts at one transaction before a call is answered `ABORTED`. Each lost attempt means that somebody else's was
/// committed, so this is how many concurrent writers of the same rows may overtake one call.
const MAX_ATTEMPTS: u32 = 50;
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The service's work. Cheap to clone.
#[derive(Clone)]
pub struct Billing {
    store: Store,
    payouts: Arc<Payouts>,
    posting: Arc<posting_queue::PostingQueue>,
    reading: Arc<ReadingQueue>,
    change_control: ChangeControl,
}

/// Who calls, and with which request id.
#[derive(Debug, Clone)]
pub struct Call {
    /// Identity of the caller, as kept in histories.
    pub caller: String,
    /// The request id that makes the call safe to repeat.
    pub request_id: Option<Uuid>,
    /// Which chunk of the call, where each is remembered apart; otherwise 0.
    pub part: i64,
}

impl Call {
    /// A call by the service itself, at a provider's word.
    fn by_system(provider: &str) -> Self {
        Self {
            caller: provider.to_owned(),
            request_id: None,
            part: 0,
        }
    }

    /// The same call without its request id: for what it does besides, which is not remembered.
    fn unremembered(&self) -> Self {
        Self {
            request_id: None,
            ..self.clone()
        }
    }
}

/// A write: the canonical request and what it does in one transaction.
pub(crate) trait Mutation: Serialize + Send + Sync + 'static {
    /// Name of the RPC, part of the request id's key.
    const METHOD: &'static str;
    /// How much the transaction sees of others.
    const ISOLATION: Isolation = Isolation::ReadCommitted;
    /// What is answered, and answered again to the same request id.
    type Answer: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Does it. May run several times, each in a transaction of its own of which at most one is committed.
    fn run(&self, tx: &Tx, call: &Call) -> impl Future<Output = Result<Self::Answer>> + Send;
}

impl Billing {
    /// Works on an open store, and reaches no payout provider.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            payouts: Arc::default(),
            posting: posting_queue::queue(),
            reading: reading_queue(),
            change_control: ChangeControl::default(),
        }
    }

    /// The store it works on.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Runs a mutation in one transaction that ends in a commit or changes nothing, once a request id.
    async fn mutate<M: Mutation>(&self, call: &Call, mutation: M) -> Result<M::Answer> {
        let store = self.store.clone();
        let call = call.clone();
        detached(async move { attempt_until_done(&store, &call, &mutation).await }).await
    }
}

/// Runs work with transactions in a task of its own, and waits for it.
///
/// When a caller goes away its handler is dropped, at any await. A write that has begun must not stop half way, and a
/// connection that is dropped while `BEGIN` is under way would go back to its pool inside a transaction.
async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let task = tokio::spawn(work);
    task.await
        .map_err(|error| Error::internal(format!("a task ended abnormally: {error}")))?
}

async fn attempt_until_done<M: Mutation>(store: &Store, call: &Call, mutation: &M) -> Result<M::Answer> {
    let key = call.request_id.map(|request_id| RequestKey {
        caller: call.caller.clone(),
        method: M::METHOD,
        request_id,
        part: call.part,
    });
    let content = if key.is_some() {
        canonical(mutation)?
    } else {
        Vec::new()
    };
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=MAX_ATTEMPTS {
        match attempt_once(store, call, mutation, key.as_ref(), &content).await {
            Err(error) if error.is_contention() => {
                tracing::debug!(method = M::METHOD, attempt, %error, "transaction lost a race");
            }
            outcome => return outcome,
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Err(conflict())
}

async fn attempt_once<M: Mutation>(
    store: &Store,
    call: &Call,
    mutation: &M,
    key: Option<&RequestKey>,
    content: &[u8],
) -> Result<M::Answer> {
    let tx = store.begin(M::ISOLATION).await?;
    match answer_in(&tx, call, mutation, key, content).await {
        Ok(Answer::Made(answer)) => {
            tx.commit().await?;
            Ok(answer)
        }
        Ok(Answer::Replayed(answer)) => {
            tx.rollback().await?;
            Ok(answer)
        }
        Err(error) => {
            // The error that is answered is the first one; a transaction that can't be rolled back ends with its connection.
            if let Err(rollback) = tx.rollback().await {
                tracing::warn!(method = M::METHOD, error = %rollback, "rollback failed");
            }
            Err(error)
        }
    }
}

enum Answer<T> {
    Made(T),
    Replayed(T),
}

async fn answer_in<M: Mutation>(
    tx: &Tx,
    call: &Call,
    mutation: &M,
    key: Option<&RequestKey>,
    content: &[u8],
) -> Result<Answer<M::Answer>> {
    let Some(key) = key else {
        return mutation.run(tx, call).await.map(Answer::Made);
    };
    if let Some(answer) = request_ids::claim(tx, key, content).await? {
        return Ok(Answer::Replayed(answer));
    }
    let answer = mutation.run(tx, call).await?;
    request_ids::remember(tx, key, &answer).await?;
    Ok(Answer::Made(answer))
}

/// The bytes that stand for a request's content: the JSON of its checked and normalised form.
fn canonical<T: Serialize>(request: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(request).map_err(|error| Error::internal(format!("request can't be hashed: {error}")))
}

fn conflict() -> Error {
    Error::refused(Reason::Conflict, "concurrent changes won every try: call again")
}

/// Between half and all of a pause, so that those who failed together do not come back together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut random = [0_u8; 1];
    // Without random numbers the full pause does.
    let share = getrandom::fill(&mut random).map_or(255, |()| u32::from(random[0]));
    pause / 2 + pause * share / 512
}

/// Refuses a change that was made on an older state of a resource (AIP-154). An empty etag asks for no check.
fn check_etag(expected: &str, current: &str) -> Result<()> {
    if expected.is_empty() || expected == current {
        return Ok(());
    }
    Err(Error::refused_field(
        Reason::EtagMismatch,
        "etag",
        "it was changed since this etag was read: read it again and repeat the change",
    ))
}
