//! Calls that post at the same time are written together: one transaction carries many, so that its commit is paid for once.
//!
//! A call never waits for others to come: while nothing is under way it is written at once, and what arrives meanwhile is the
//! next group. Entries of a group are decided one after the other, as if each call were alone, so none sees another's
//! rejections. Whatever goes wrong with a group as a whole is nobody's: then each of its calls is written alone.
//!
//! Only calls without a request id: an entry is known by its own id, which makes them safe to repeat as well, while the answer
//! of a request id has to be kept with its own effect.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{Billing, Call, PostEntries};
use crate::domain::entries::EntryOutcome;
use crate::domain::error::{Error, Result};

/// Groups that are written at once: one fills while another waits for its commit.
const GROUPS: usize = 2;
/// Entries of a group at most, as of one call.
const MAX_GROUP_ENTRIES: usize = 1000;
/// A call with more entries is written alone: its commit is paid for by them already.
const MAX_SHARED_ENTRIES: usize = 100;

/// Calls that wait to be written.
#[derive(Default)]
pub(super) struct Posting {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Tasks that write groups.
    writers: usize,
}

struct Waiting {
    call: Call,
    request: PostEntries,
    answer: oneshot::Sender<Result<Vec<EntryOutcome>>>,
}

impl Posting {
    /// Whether a call may share a transaction.
    pub(super) fn shares(call: &Call, request: &PostEntries) -> bool {
        call.request_id.is_none() && request.entries.len() <= MAX_SHARED_ENTRIES
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call; whether a writer has to be started for it.
    fn add(&self, waiting: Waiting) -> bool {
        let mut state = self.lock();
        state.waiting.push_back(waiting);
        let is_writer_missing = state.writers < GROUPS;
        if is_writer_missing {
            state.writers += 1;
        }
        is_writer_missing
    }

    /// The next calls to write together; none when the writer has nothing left to do, and ends.
    fn next_group(&self) -> Option<Vec<Waiting>> {
        let mut state = self.lock();
        let mut entries = 0;
        let mut group = Vec::new();
        while let Some(next) = state.waiting.front() {
            entries += next.request.entries.len();
            if entries > MAX_GROUP_ENTRIES && !group.is_empty() {
                break;
            }
            group.extend(state.waiting.pop_front());
        }
        if group.is_empty() {
            state.writers -= 1;
            return None;
        }
        Some(group)
    }
}

impl Billing {
    /// Posts the entries of a call together with those of others that wait.
    pub(super) async fn post_together(&self, call: &Call, request: PostEntries) -> Result<Vec<EntryOutcome>> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            call: call.clone(),
            request,
            answer,
        };
        if self.posting.add(waiting) {
            tokio::spawn(write_groups(self.clone()));
        }
        answered
            .await
            .map_err(|_| Error::internal("a group of postings ended abnormally"))?
    }

    async fn write_group(self, group: Vec<Waiting>) {
        let together = PostEntries {
            entries: group
                .iter()
                .flat_map(|waiting| waiting.request.entries.clone())
                .collect(),
        };
        match group.first().map(|first| first.call.unremembered()) {
            Some(call) if group.len() > 1 => match self.mutate(&call, together).await {
                Ok(outcomes) => answer_each(group, outcomes),
                Err(error) => {
                    tracing::debug!(calls = group.len(), %error, "a group of postings failed: each is written alone");
                    self.write_alone(group).await;
                }
            },
            Some(_) | None => self.write_alone(group).await,
        }
    }

    async fn write_alone(&self, group: Vec<Waiting>) {
        let alone = group.into_iter().map(|waiting| async move {
            let outcome = self.mutate(&waiting.call, waiting.request).await;
            // Whoever left is not told.
            let _ = waiting.answer.send(outcome);
        });
        join_all(alone).await;
    }
}

/// Writes what waits until nothing does. Each group in a task of its own: one that ends abnormally must not hold up the rest.
async fn write_groups(billing: Billing) {
    while let Some(group) = billing.posting.next_group() {
        if let Err(error) = tokio::spawn(billing.clone().write_group(group)).await {
            tracing::error!(%error, "a group of postings ended abnormally");
        }
    }
}

fn answer_each(group: Vec<Waiting>, outcomes: Vec<EntryOutcome>) {
    let mut outcomes = outcomes.into_iter();
    for waiting in group {
        let own = outcomes.by_ref().take(waiting.request.entries.len()).collect();
        // Whoever left is not told.
        let _ = waiting.answer.send(Ok(own));
    }
}
