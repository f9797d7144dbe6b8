//! The first page of `ListOpenBalances` against a far one, and many entries against few.

use std::time::Instant;

use affiliate_billing::proto;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;

use crate::report::{Race, Target, run_race};
use crate::seed::{self, Owed};
use crate::world::World;
use crate::{Options, Outcome};

const PAGE_SIZE: i32 = 100;

struct Pages {
    world: World,
    accounts: usize,
    far_page: usize,
    far_token: String,
    calls: usize,
}

/// Reads pages of a ledger with ten entries an account.
pub(crate) async fn run(options: &Options) -> Outcome<bool> {
    let accounts = options.accounts(100_000, 2000);
    let world = owing(options, accounts, 10).await?;
    let mut race = Pages {
        accounts,
        far_page: accounts / PAGE_SIZE as usize,
        far_token: String::new(),
        calls: options.entries(500, 20),
        world,
    };
    race.far_token = race.token_of(race.far_page).await?;
    let met = run_race(&mut race, options.rounds()).await?;
    race.world.finish().await?;
    Ok(met)
}

async fn owing(options: &Options, accounts: usize, entries_each: usize) -> Outcome<World> {
    let mut world = World::make(options).await?;
    seed::payable_accounts(&mut world.driver, &world.channel, accounts).await?;
    let owed = Owed {
        accounts,
        entries_each,
        days: 1,
    };
    seed::owed(&mut world.driver, owed).await?;
    world.forget_statements().await?;
    Ok(world)
}

async fn page(world: &World, page_token: String) -> Outcome<proto::ListOpenBalancesResponse> {
    let request = proto::ListOpenBalancesRequest {
        page_size: PAGE_SIZE,
        page_token,
        ..Default::default()
    };
    let response = BalancesServiceClient::new(world.channel.clone())
        .list_open_balances(request)
        .await?
        .into_inner();
    if response.open_balances.len() == PAGE_SIZE as usize {
        Ok(response)
    } else {
        Err("a page is not full".into())
    }
}

/// Milliseconds of a page.
async fn milliseconds(world: &World, page_token: &str, calls: usize) -> Outcome<f64> {
    let start = Instant::now();
    for _ in 0..calls {
        page(world, page_token.to_owned()).await?;
    }
    Ok(start.elapsed().as_secs_f64() * 1000.0 / calls as f64)
}

impl Pages {
    async fn token_of(&self, number: usize) -> Outcome<String> {
        let mut token = String::new();
        for _ in 1..number {
            token = page(&self.world, token).await?.next_page_token;
        }
        Ok(token)
    }
}

impl Race for Pages {
    fn title(&self) -> String {
        format!(
            "ListOpenBalances: page {} of {} accounts against page 1, {PAGE_SIZE} a page",
            self.far_page, self.accounts
        )
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("far page", "first page", "ms a page")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtMost(1.3))
    }

    async fn reset(&mut self) -> Outcome<()> {
        Ok(())
    }

    async fn measured(&mut self) -> Outcome<f64> {
        milliseconds(&self.world, &self.far_token, self.calls).await
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        milliseconds(&self.world, "", self.calls).await
    }
}

struct Growth {
    many: World,
    few: World,
    accounts: usize,
    entries_each: usize,
    calls: usize,
}

/// Reads the first page where accounts have many entries, and where they have one.
pub(crate) async fn run_growth(options: &Options, entries_each: usize) -> Outcome<bool> {
    let accounts = options.accounts(100_000, 2000);
    let mut race = Growth {
        many: owing(options, accounts, entries_each).await?,
        few: owing(options, accounts, 1).await?,
        accounts,
        entries_each,
        calls: options.entries(500, 20),
    };
    let met = run_race(&mut race, options.rounds()).await?;
    race.many.finish().await?;
    race.few.finish().await?;
    Ok(met)
}

impl Race for Growth {
    fn title(&self) -> String {
        format!(
            "ListOpenBalances: {} accounts with {} entries each against 1 each, {PAGE_SIZE} a page",
            self.accounts, self.entries_each
        )
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("many entries", "few entries", "ms a page")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtMost(1.3))
    }

    async fn reset(&mut self) -> Outcome<()> {
        Ok(())
    }

    async fn measured(&mut self) -> Outcome<f64> {
        milliseconds(&self.many, "", self.calls).await
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        milliseconds(&self.few, "", self.calls).await
    }
}
