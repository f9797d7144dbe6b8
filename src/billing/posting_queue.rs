//! Small `PostEntries` calls that wait together are written together: one transaction for all of them.
//!
//! Entries are decided one after the other as in one call, so each call gets the answer that it would have got alone. Should
//! the transaction of several calls fail, each is written alone, and only that is answered: nobody sees another's failure.

use std::sync::Arc;

use super::batching::{self, Batching};
use super::entries::PostEntries;
use super::{Call, attempt_until_done};
use crate::domain::entries::EntryOutcome;
use crate::store::Store;

/// Transactions of waiting calls at once.
const WRITERS: usize = 2;
/// Entries written together at most.
const MAX_TOGETHER: usize = 1000;
/// Entries of a call that is worth writing with others; a larger one is a transaction of its own.
const MAX_SMALL: usize = 10;

/// The calls that wait for a writer.
pub(super) type PostingQueue = Batching<(Call, PostEntries), Vec<EntryOutcome>>;
type Waiting = batching::Waiting<(Call, PostEntries), Vec<EntryOutcome>>;

pub(super) fn queue() -> Arc<PostingQueue> {
    Arc::new(Batching::new(WRITERS, MAX_TOGETHER))
}

/// Whether a call may be written with others: one with a request id is remembered in a transaction of its own.
pub(super) fn may_share(call: &Call, request: &PostEntries) -> bool {
    call.request_id.is_none() && request.entries.len() <= MAX_SMALL
}

/// Writes calls in one transaction.
pub(super) async fn write(store: Store, mut together: Vec<Waiting>) {
    if let [_alone] = together.as_slice() {
        return write_each(&store, together).await;
    }
    let Some((call, _)) = together.first().map(|waiting| &waiting.item) else {
        return;
    };
    let call = call.clone();
    let entries = together
        .iter()
        .flat_map(|waiting| waiting.item.1.entries.clone())
        .collect();
    match attempt_until_done(&store, &call, &PostEntries { entries }).await {
        Ok(outcomes) => {
            let mut outcomes = outcomes.into_iter();
            for waiting in together.drain(..) {
                let own = outcomes.by_ref().take(waiting.item.1.entries.len()).collect();
                waiting.answer(Ok(own));
            }
        }
        Err(error) => {
            tracing::debug!(calls = together.len(), %error, "calls are written alone after they failed together");
            write_each(&store, together).await;
        }
    }
}

/// Writes calls apart from each other, at once.
async fn write_each(store: &Store, calls: Vec<Waiting>) {
    let tasks: Vec<_> = calls
        .into_iter()
        .map(|waiting| {
            let store = store.clone();
            tokio::spawn(async move {
                let (call, request) = &waiting.item;
                let outcome = attempt_until_done(&store, call, request).await;
                waiting.answer(outcome);
            })
        })
        .collect();
    for task in tasks {
        // A task that ended abnormally has dropped its sender, which its caller is told.
        drop(task.await);
    }
}
