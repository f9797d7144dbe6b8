//! Posting while a settle run goes on, against posting without one.

use std::time::{Duration, Instant};

use super::post_single::{Load, Posting};
use super::settle::{settle_everything, unsettle};
use crate::report::{Race, Target, rate, run_race};
use crate::seed::{self, Owed};
use crate::world::World;
use crate::{Options, Outcome};

const CALLERS: usize = 8;

struct PostDuringSettle {
    world: World,
    accounts: usize,
    turn: usize,
    /// How long the last run took, which is how long posting without a run is measured.
    run_time: Duration,
    slowest_share: f64,
}

/// Posts single entries to accounts that are being settled.
pub(crate) async fn run(options: &Options) -> Outcome<bool> {
    let accounts = options.accounts(100_000, 4000);
    let mut world = World::make(options).await?;
    seed::payable_accounts(&mut world.driver, &world.channel, accounts).await?;
    let owed = Owed {
        accounts,
        entries_each: 1,
        days: 1,
    };
    seed::owed(&mut world.driver, owed).await?;
    world.forget_statements().await?;
    let mut race = PostDuringSettle {
        world,
        accounts,
        turn: 0,
        run_time: Duration::ZERO,
        slowest_share: 0.0,
    };
    let met = run_race(&mut race, options.rounds()).await?;
    println!(
        "  the slowest call took {:.2} of the run that it was made in",
        race.slowest_share
    );
    race.world.finish().await?;
    Ok(met && race.slowest_share < 0.5)
}

impl PostDuringSettle {
    fn load(&mut self) -> Load {
        self.turn += 1;
        Load {
            name: format!("turn-{}", self.turn),
            callers: CALLERS,
            accounts: self.accounts,
            entries_each: 1,
        }
    }
}

impl Race for PostDuringSettle {
    fn title(&self) -> String {
        format!(
            "post entries from {CALLERS} callers while a run settles {} accounts",
            self.accounts
        )
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("during a run", "without", "calls/s")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtLeast(0.6))
    }

    async fn reset(&mut self) -> Outcome<()> {
        unsettle_posted(&mut self.world).await
    }

    async fn measured(&mut self) -> Outcome<f64> {
        let load = self.load();
        let posting = Posting::start(&self.world, load).await?;
        let start = Instant::now();
        settle_everything(&self.world.channel).await?;
        self.run_time = start.elapsed();
        let (calls, slowest) = posting.stop().await?;
        let figure = rate(calls, start);
        self.slowest_share = self
            .slowest_share
            .max(slowest.as_secs_f64() / self.run_time.as_secs_f64());
        Ok(figure)
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        let load = self.load();
        let posting = Posting::start(&self.world, load).await?;
        let start = Instant::now();
        tokio::time::sleep(self.run_time.max(Duration::from_secs(1))).await;
        let (calls, _) = posting.stop().await?;
        Ok(rate(calls, start))
    }
}

/// What was posted during a run is in accruals beside those that it claimed: both are merged before the next.
async fn unsettle_posted(world: &mut World) -> Outcome<()> {
    world
        .driver
        .script("DELETE FROM entries WHERE source = ''; DELETE FROM accruals a WHERE NOT EXISTS (SELECT FROM entries e WHERE e.accrual_id = a.id)")
        .await?;
    world
        .driver
        .script("UPDATE accruals SET amount = 1000000, entry_count = 1")
        .await?;
    unsettle(&mut world.driver).await
}
