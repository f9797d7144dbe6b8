//! The background work on payouts: asks providers for what is due, and applies what waited.
//!
//! Any number of replicas run it: each takes what nobody has taken.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::billing::Billing;
use crate::domain::error::{Error, Reason};
use crate::payout::{KINDS, ProviderError};

/// How often the database is looked into for what is due, at least and at most.
const FASTEST_ROUND: Duration = Duration::from_millis(50);
const SLOWEST_ROUND: Duration = Duration::from_secs(5);
/// How often what waits is looked at.
const WAITING_INTERVAL: Duration = Duration::from_secs(60);
/// How often payment methods are looked through for those that do not refer to their payee.
const MISSING_INTERVAL: Duration = Duration::from_secs(3600);
/// The pause after a provider did not answer, doubled for each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// When each kind of work is next.
struct Refresh {
    billing: Billing,
    waiting_at: Instant,
    missing_at: Instant,
    /// The provider is left alone until then.
    resume_at: Instant,
    failures: u32,
}

/// Works until shutdown. A round that is under way ends first.
pub async fn run(billing: Billing, shutdown: CancellationToken) {
    let round = (billing.payouts().options.sync_interval / 4).clamp(FASTEST_ROUND, SLOWEST_ROUND);
    let now = Instant::now();
    let mut refresh = Refresh {
        billing,
        waiting_at: now,
        missing_at: now,
        resume_at: now,
        failures: 0,
    };
    loop {
        let has_more = refresh.round().await;
        let pause = if has_more { Duration::ZERO } else { round };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Refresh {
    /// One round; whether there is more to do at once.
    async fn round(&mut self) -> bool {
        self.apply_waiting().await;
        if Instant::now() < self.resume_at {
            return false;
        }
        let names: Vec<&'static str> = self
            .billing
            .payouts()
            .providers
            .iter()
            .map(|client| client.name())
            .collect();
        let mut has_more = false;
        for name in names {
            has_more |= self.refresh(name).await;
        }
        has_more
    }

    async fn apply_waiting(&mut self) {
        let now = Instant::now();
        if now >= self.missing_at {
            self.missing_at = now + MISSING_INTERVAL;
            log_failure("finding payees", self.billing.find_missing_payees().await);
        }
        if now >= self.waiting_at {
            self.waiting_at = now + WAITING_INTERVAL;
            for kind in &KINDS {
                log_failure(
                    "applying events that wait",
                    self.billing.apply_waiting_events(kind).await,
                );
            }
        }
    }

    async fn refresh(&mut self, provider: &str) -> bool {
        let mut has_more = false;
        if let Some(refreshed) = log_failure("refreshing payouts", self.billing.refresh_due_payouts(provider).await) {
            has_more = refreshed.has_more;
            if let Some(error) = refreshed.failure {
                self.pause(provider, &error);
                return false;
            }
            if refreshed.count > 0 {
                self.failures = 0;
            }
        }
        if let Some(Err(error)) = log_failure("refreshing payees", self.billing.refresh_due_payees(provider).await) {
            self.pause(provider, &error);
            return false;
        }
        has_more
    }

    /// Leaves a provider alone that did not answer, at least as long as it asks for.
    fn pause(&mut self, provider: &str, error: &ProviderError) {
        let backoff = FIRST_PAUSE
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_PAUSE);
        let pause = error.retry_after.unwrap_or(backoff).max(backoff);
        self.failures = self.failures.saturating_add(1);
        self.resume_at = Instant::now() + pause;
        tracing::warn!(provider, %error, ?pause, "the provider did not answer");
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
