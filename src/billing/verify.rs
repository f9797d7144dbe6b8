//! Checks the invariants of the ledger in one snapshot of a live database.

use std::fmt;

use super::Billing;
use crate::domain::error::Result;
pub use crate::store::verify::Check;
use crate::store::verify::check_all;

/// What was checked and counted.
#[derive(Debug, Clone)]
pub struct VerifyReport {
    /// One a rule.
    pub checks: Vec<Check>,
}

impl Billing {
    /// Checks every invariant in one snapshot. Writers go on meanwhile.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let tx = self.store.begin_snapshot().await?;
        let checks = check_all(&tx).await;
        tx.rollback().await?;
        Ok(VerifyReport { checks: checks? })
    }
}

impl VerifyReport {
    /// Whether every invariant holds.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.checks.iter().all(|check| check.broken_count == 0)
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let verdict = if check.broken_count == 0 { "ok    " } else { "BROKEN" };
            writeln!(
                formatter,
                "{verdict} {}. {} ({} {})",
                check.invariant, check.rule, check.count, check.counted
            )?;
            for key in &check.broken {
                writeln!(formatter, "         {key}")?;
            }
            let told = i64::try_from(check.broken.len()).unwrap_or(i64::MAX);
            if check.broken_count > told {
                writeln!(formatter, "         and {} more", check.broken_count - told)?;
            }
        }
        let broken = self.checks.iter().filter(|check| check.broken_count > 0).count();
        if broken == 0 {
            writeln!(formatter, "all {} checks hold", self.checks.len())
        } else {
            writeln!(formatter, "{broken} of {} checks are broken", self.checks.len())
        }
    }
}
