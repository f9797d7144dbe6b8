//! The background work: asks providers for what is due, applies what waited, and completes what an older version wrote.
//!
//! Any number of replicas run it: each takes what nobody has taken. Each provider is asked in a loop of its own, so that one
//! that does not answer holds up no other.

use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::billing::{Billing, jittered};
use crate::domain::error::{Error, Reason};
use crate::payout::{KINDS, ProviderError};

/// How often the database is looked into for what is due, at least and at most.
const FASTEST_ROUND: Duration = Duration::from_millis(50);
const SLOWEST_ROUND: Duration = Duration::from_secs(5);
/// How often what waits is looked at.
const WAITING_INTERVAL: Duration = Duration::from_secs(60);
/// How often payment methods are looked through for those that do not refer to their payee, or whose place is not hashed.
const MISSING_INTERVAL: Duration = Duration::from_secs(3600);
/// The pause after a provider did not answer, doubled for each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Works until shutdown. A round that is under way ends first.
pub async fn run(billing: Billing, shutdown: CancellationToken) {
    let names: Vec<&'static str> = billing.payouts().providers.iter().map(|client| client.name()).collect();
    let asking = names.iter().flat_map(|name| {
        [Subject::Payouts, Subject::Payees].map(|subject| Refresh::new(&billing, name, subject).run(&shutdown))
    });
    let local = join3(
        apply_waiting(&billing, &shutdown),
        find_payees(&billing, &shutdown),
        hash_destinations(&billing, &shutdown),
    );
    join(local, join_all(asking)).await;
}

/// Events that wait.
async fn apply_waiting(billing: &Billing, shutdown: &CancellationToken) {
    loop {
        for kind in &KINDS {
            log_failure("applying events that wait", billing.apply_waiting_events(kind).await);
        }
        if is_shutdown_after(WAITING_INTERVAL, shutdown).await {
            return;
        }
    }
}

/// Payment methods of older versions.
async fn find_payees(billing: &Billing, shutdown: &CancellationToken) {
    loop {
        let has_more = log_failure("finding payees", billing.find_missing_payees().await).unwrap_or(false);
        let pause = if has_more { FASTEST_ROUND } else { MISSING_INTERVAL };
        if is_shutdown_after(pause, shutdown).await {
            return;
        }
    }
}

/// Payment methods of older versions.
async fn hash_destinations(billing: &Billing, shutdown: &CancellationToken) {
    let mut after = None;
    loop {
        let hashed = billing.hash_missing_destinations(after).await;
        after = log_failure("comparing payment methods", hashed).flatten();
        let pause = if after.is_some() {
            FASTEST_ROUND
        } else {
            MISSING_INTERVAL
        };
        if is_shutdown_after(pause, shutdown).await {
            return;
        }
    }
}

async fn is_shutdown_after(pause: Duration, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => true,
        () = tokio::time::sleep(pause) => false,
    }
}

/// What a provider is asked for.
#[derive(Clone, Copy)]
enum Subject {
    Payouts,
    Payees,
}

/// Asks one provider for one subject. Each has a loop of its own, so that one never waits for the other.
struct Refresh<'a> {
    billing: &'a Billing,
    provider: &'static str,
    subject: Subject,
    /// It is left alone until then.
    resume_at: Instant,
    failures: u32,
}

impl<'a> Refresh<'a> {
    fn new(billing: &'a Billing, provider: &'static str, subject: Subject) -> Self {
        Self {
            billing,
            provider,
            subject,
            resume_at: Instant::now(),
            failures: 0,
        }
    }

    async fn run(mut self, shutdown: &CancellationToken) {
        let pause = (self.billing.payouts().options.sync_interval / 4).clamp(FASTEST_ROUND, SLOWEST_ROUND);
        loop {
            let has_more = Instant::now() >= self.resume_at && self.round().await;
            let pause = if has_more { Duration::ZERO } else { pause };
            if is_shutdown_after(pause, shutdown).await {
                return;
            }
        }
    }

    /// One round; whether there is more to do at once.
    async fn round(&mut self) -> bool {
        let refreshed = match self.subject {
            Subject::Payouts => self.billing.refresh_due_payouts(self.provider).await,
            Subject::Payees => self.billing.refresh_due_payees(self.provider).await,
        };
        let Some(refreshed) = log_failure("refreshing", refreshed) else {
            return false;
        };
        if let Some(error) = refreshed.failure {
            self.leave_alone(&error);
            return false;
        }
        if refreshed.count > 0 {
            self.failures = 0;
        }
        refreshed.has_more
    }

    /// After it did not answer, at least as long as it asks for.
    fn leave_alone(&mut self, error: &ProviderError) {
        let backoff = FIRST_PAUSE
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_PAUSE);
        let backoff = jittered(backoff);
        let pause = error.retry_after.unwrap_or(backoff).max(backoff);
        self.failures = self.failures.saturating_add(1);
        self.resume_at = Instant::now() + pause;
        tracing::warn!(provider = self.provider, %error, ?pause, "the provider did not answer");
    }
}

/// The outcome, or nothing with a line in the log: the next round tries again.
fn log_failure<T>(work: &str, outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(Error::Refused(refusal)) if refusal.reason == Reason::Conflict => {
            tracing::debug!(work, "others were faster");
            None
        }
        Err(error) => {
            tracing::error!(work, %error, "background work failed");
            None
        }
    }
}
