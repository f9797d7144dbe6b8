//! Small `PostEntries` calls that wait together are written together: one transaction for all of them.
//!
//! Nobody waits for others to come: a call that finds a free writer is written at once, and what comes while all writers are
//! busy is taken by the first that is done. Entries are decided one after the other as in one call, so each call gets the
//! answer that it would have got alone. Should the transaction of several calls fail, each is written alone, and only that is
//! answered: nobody sees another's failure.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::entries::PostEntries;
use super::{Call, attempt_until_done, detached};
use crate::domain::entries::EntryOutcome;
use crate::domain::error::{Error, Result};
use crate::store::Store;

/// Transactions of waiting calls at once. More of them would be smaller, and cost more in all.
const WRITERS: usize = 2;
/// Entries written together at most.
const MAX_TOGETHER: usize = 1000;
/// Entries of a call that is worth writing with others; a larger one is a transaction of its own.
const MAX_SMALL: usize = 10;

type Answer = Result<Vec<EntryOutcome>>;

/// The calls that wait for a writer.
#[derive(Default)]
pub(super) struct PostingQueue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    writers: usize,
}

struct Waiting {
    call: Call,
    request: PostEntries,
    answer: oneshot::Sender<Answer>,
}

/// Whether a call may be written with others: one with a request id is remembered in a transaction of its own.
pub(super) fn may_share(call: &Call, request: &PostEntries) -> bool {
    call.request_id.is_none() && request.entries.len() <= MAX_SMALL
}

/// Writes a call, alone or with others, and waits for its answer. Once it is being written it goes on when the caller leaves;
/// before that it is forgotten.
pub(super) async fn post(queue: &Arc<PostingQueue>, store: &Store, call: &Call, request: PostEntries) -> Answer {
    let (answer, answered) = oneshot::channel();
    let waiting = Waiting {
        call: call.clone(),
        request,
        answer,
    };
    if queue.add(waiting) {
        tokio::spawn(write_until_empty(queue.clone(), store.clone()));
    }
    answered
        .await
        .unwrap_or_else(|_| Err(Error::internal("a call was not answered by its writer")))
}

impl PostingQueue {
    /// Whether a writer must be started for it.
    fn add(&self, waiting: Waiting) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push_back(waiting);
        let start = state.writers < WRITERS;
        state.writers += usize::from(start);
        start
    }

    /// The calls to write next. None: the writer has ended.
    fn take(&self) -> Vec<Waiting> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut together = Vec::new();
        let mut entries = 0;
        while let Some(next) = state.waiting.front() {
            entries += next.request.entries.len();
            if !together.is_empty() && entries > MAX_TOGETHER {
                break;
            }
            together.extend(state.waiting.pop_front().filter(|waiting| !waiting.answer.is_closed()));
        }
        if together.is_empty() {
            state.writers -= 1;
        }
        together
    }
}

async fn write_until_empty(queue: Arc<PostingQueue>, store: Store) {
    loop {
        let together = queue.take();
        if together.is_empty() {
            return;
        }
        write(&store, together).await;
    }
}

async fn write(store: &Store, mut together: Vec<Waiting>) {
    let Some(first) = together.first() else {
        return;
    };
    let call = first.call.clone();
    if together.len() == 1 {
        return write_each(store, together).await;
    }
    let entries = together
        .iter()
        .flat_map(|waiting| waiting.request.entries.clone())
        .collect();
    match write_one(store, call, PostEntries { entries }).await {
        Ok(outcomes) => {
            let mut outcomes = outcomes.into_iter();
            for waiting in together.drain(..) {
                let own = outcomes.by_ref().take(waiting.request.entries.len()).collect();
                // Whoever does not wait any more needs no answer.
                drop(waiting.answer.send(Ok(own)));
            }
        }
        Err(error) => {
            tracing::debug!(calls = together.len(), %error, "calls are written alone after they failed together");
            write_each(store, together).await;
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
                let outcome = write_one(&store, waiting.call, waiting.request).await;
                drop(waiting.answer.send(outcome));
            })
        })
        .collect();
    for task in tasks {
        // A task that ended abnormally has dropped its sender, which its caller is told.
        drop(task.await);
    }
}

/// In a task of its own, so that no writer is lost to a panic.
async fn write_one(store: &Store, call: Call, request: PostEntries) -> Answer {
    let store = store.clone();
    detached(async move { attempt_until_done(&store, &call, &request).await }).await
}
