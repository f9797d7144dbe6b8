//! How a settle run grows with the entries of its accounts.

use std::time::Instant;

use super::settle::{settle_everything, unsettle};
use crate::report::{Race, Target, run_race};
use crate::seed::{self, Owed};
use crate::world::World;
use crate::{Options, Outcome};

struct SettleGrowth {
    title: String,
    many: World,
    few: World,
}

/// Settles accounts with many entries, and as many accounts with few, each in a database of its own.
pub(crate) async fn run(options: &Options, entries_each: usize, days: usize) -> Outcome<bool> {
    let accounts = options.accounts(100_000, 1000);
    let many = Owed {
        accounts,
        entries_each,
        days,
    };
    // One entry for each day: as many accruals, which is what a run costs by.
    let few = Owed {
        entries_each: days,
        ..many
    };
    let mut race = SettleGrowth {
        title: format!(
            "settle growth: {accounts} accounts with {entries_each} entries each over {days} days, against {days} entries each"
        ),
        many: owing(options, many).await?,
        few: owing(options, few).await?,
    };
    let met = run_race(&mut race, options.rounds()).await?;
    race.many.finish().await?;
    race.few.finish().await?;
    Ok(met)
}

async fn owing(options: &Options, owed: Owed) -> Outcome<World> {
    let mut world = World::make(options).await?;
    seed::payable_accounts(&mut world.driver, &world.channel, owed.accounts).await?;
    seed::owed(&mut world.driver, owed).await?;
    world.forget_statements().await?;
    Ok(world)
}

async fn settle_seconds(world: &mut World) -> Outcome<f64> {
    unsettle(&mut world.driver).await?;
    let start = Instant::now();
    settle_everything(&world.channel).await?;
    Ok(start.elapsed().as_secs_f64())
}

impl Race for SettleGrowth {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("many entries", "few entries", "s")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtMost(1.2))
    }

    async fn reset(&mut self) -> Outcome<()> {
        Ok(())
    }

    async fn measured(&mut self) -> Outcome<f64> {
        settle_seconds(&mut self.many).await
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        settle_seconds(&mut self.few).await
    }
}
