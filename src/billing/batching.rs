//! Calls that wait together are handled together: one transaction or one statement for all of them.
//!
//! Nobody waits for others to come: a call that finds a free worker is handled at once, and what comes while all workers are
//! busy is taken by the first that is done.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::domain::error::{Error, Result};

/// The calls that wait for a worker, each with an item and for an answer.
pub(super) struct Batching<T, A> {
    state: Mutex<State<T, A>>,
    /// Batches at once. More of them would be smaller, and cost more in all.
    workers: usize,
    /// What the items of a batch weigh at most together; a heavier one is a batch of its own.
    max_weight: usize,
}

struct State<T, A> {
    waiting: VecDeque<Waiting<T, A>>,
    workers: usize,
}

/// A call that waits for its answer.
pub(super) struct Waiting<T, A> {
    pub(super) item: T,
    weight: usize,
    answer: oneshot::Sender<Result<A>>,
}

impl<T, A> Waiting<T, A> {
    /// Answers the call. Whoever does not wait any more needs no answer.
    pub(super) fn answer(self, answer: Result<A>) {
        drop(self.answer.send(answer));
    }
}

impl<T: Send + 'static, A: Send + 'static> Batching<T, A> {
    pub(super) fn new(workers: usize, max_weight: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            workers: 0,
        };
        Self {
            state: Mutex::new(state),
            workers,
            max_weight,
        }
    }

    /// Has an item handled by `work`, alone or with others, and waits for its answer. Once it is being handled that goes on when
    /// the caller leaves; before that it is forgotten.
    pub(super) async fn handle<W, F>(self: &Arc<Self>, item: T, weight: usize, work: W) -> Result<A>
    where
        W: Fn(Vec<Waiting<T, A>>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        if self.add(Waiting { item, weight, answer }) {
            tokio::spawn(self.clone().work_until_empty(work));
        }
        answered
            .await
            .unwrap_or_else(|_| Err(Error::internal("a call was not answered by its worker")))
    }

    async fn work_until_empty<W, F>(self: Arc<Self>, work: W)
    where
        W: Fn(Vec<Waiting<T, A>>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let batch = self.take();
            if batch.is_empty() {
                return;
            }
            // In a task of its own, so that no worker is lost to a panic. Its callers are told by what it drops.
            drop(tokio::spawn(work(batch)).await);
        }
    }

    /// Whether a worker must be started for it.
    fn add(&self, waiting: Waiting<T, A>) -> bool {
        let mut state = self.state();
        state.waiting.push_back(waiting);
        let start = state.workers < self.workers;
        state.workers += usize::from(start);
        start
    }

    /// The calls to handle next. None: the worker has ended.
    fn take(&self) -> Vec<Waiting<T, A>> {
        let mut state = self.state();
        let mut batch = Vec::new();
        let mut weight = 0;
        while let Some(next) = state.waiting.front() {
            weight += next.weight;
            if !batch.is_empty() && weight > self.max_weight {
                break;
            }
            batch.extend(state.waiting.pop_front().filter(|waiting| !waiting.answer.is_closed()));
        }
        if batch.is_empty() {
            state.workers -= 1;
        }
        batch
    }

    fn state(&self) -> MutexGuard<'_, State<T, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Answers each number with its double, and counts the batches.
    async fn doubled(batching: &Arc<Batching<u32, u32>>, number: u32, batches: &'static AtomicUsize) -> Result<u32> {
        let double = move |batch: Vec<Waiting<u32, u32>>| async move {
            batches.fetch_add(1, Ordering::Relaxed);
            assert!(batch.iter().all(|waiting| waiting.item != 13), "a batch that fails");
            tokio::task::yield_now().await;
            for waiting in batch {
                let answer = waiting.item * 2;
                waiting.answer(Ok(answer));
            }
        };
        batching.handle(number, 1, double).await
    }

    #[tokio::test]
    async fn each_call_gets_its_own_answer_and_batches_are_bounded() {
        static BATCHES: AtomicUsize = AtomicUsize::new(0);
        let batching = Arc::new(Batching::new(1, 10));
        let calls = (0..100).map(|number| doubled(&batching, number + 100, &BATCHES));
        let answers = futures_util::future::join_all(calls).await;
        for (number, answer) in (100..).zip(answers) {
            assert_eq!(answer.unwrap(), number * 2);
        }
        assert_eq!(BATCHES.load(Ordering::Relaxed), 10);
    }

    #[tokio::test]
    async fn a_batch_that_panics_is_answered_and_takes_no_worker_with_it() {
        static BATCHES: AtomicUsize = AtomicUsize::new(0);
        let batching = Arc::new(Batching::new(1, 1));
        for _ in 0..3 {
            assert!(doubled(&batching, 13, &BATCHES).await.is_err());
        }
        assert_eq!(doubled(&batching, 21, &BATCHES).await.unwrap(), 42);
    }

    #[tokio::test]
    async fn a_call_that_was_left_before_it_was_taken_is_forgotten() {
        static BATCHES: AtomicUsize = AtomicUsize::new(0);
        let batching = Arc::new(Batching::new(1, 1));
        let mut left = Box::pin(doubled(&batching, 1, &BATCHES));
        assert!(futures_util::poll!(&mut left).is_pending());
        drop(left);
        tokio::task::yield_now().await;
        assert_eq!(BATCHES.load(Ordering::Relaxed), 0);
        assert_eq!(doubled(&batching, 2, &BATCHES).await.unwrap(), 4);
        assert_eq!(BATCHES.load(Ordering::Relaxed), 1);
    }
}
