//! Posting everything to one account, against posting spread evenly.

use std::time::{Duration, Instant};

use super::post_single::{Load, Posting};
use crate::report::{Race, Target, rate, run_race};
use crate::seed;
use crate::world::World;
use crate::{Options, Outcome};

struct OneAccount {
    world: World,
    callers: usize,
    entries_each: usize,
    accounts: usize,
    seconds: u64,
    turn: usize,
}

/// Posts for some seconds.
pub(crate) async fn run(options: &Options, callers: usize, entries_each: usize) -> Outcome<bool> {
    let mut world = World::make(options).await?;
    world.forget_statements().await?;
    let mut race = OneAccount {
        world,
        callers,
        entries_each,
        accounts: options.accounts(100_000, 1000),
        seconds: if options.quick { 2 } else { 15 },
        turn: 0,
    };
    let met = run_race(&mut race, options.rounds()).await?;
    race.world.finish().await?;
    Ok(met)
}

impl OneAccount {
    async fn entries_per_second(&mut self, accounts: usize) -> Outcome<f64> {
        self.turn += 1;
        let load = Load {
            name: format!("turn-{}", self.turn),
            callers: self.callers,
            accounts,
            entries_each: self.entries_each,
        };
        let start = Instant::now();
        let posting = Posting::start(&self.world, load).await?;
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let (calls, _) = posting.stop().await?;
        Ok(rate(calls * self.entries_each, start))
    }
}

impl Race for OneAccount {
    fn title(&self) -> String {
        format!(
            "one account: {} callers with {} entries a call, against {} accounts",
            self.callers, self.entries_each, self.accounts
        )
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("one account", "spread evenly", "entries/s")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtLeast(0.7))
    }

    async fn reset(&mut self) -> Outcome<()> {
        seed::empty_ledger(&mut self.world.driver).await
    }

    async fn measured(&mut self) -> Outcome<f64> {
        self.entries_per_second(1).await
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        self.entries_per_second(self.accounts).await
    }
}
