//! A settle run over everybody.

use std::time::Instant;

use affiliate_billing::proto;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use affiliate_billing::proto::settle_balances_request::Selection;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::driver::Driver;
use crate::report::{Race, Target, rate, run_race};
use crate::seed::{self, Owed};
use crate::world::World;
use crate::{Options, Outcome, statements};

struct Settle {
    world: World,
    connection: Driver,
    accounts: usize,
}

/// Settles all accounts by an empty filter.
pub(crate) async fn run(options: &Options) -> Outcome<bool> {
    let accounts = options.accounts(100_000, 2000);
    let mut world = World::make(options).await?;
    seed::payable_accounts(&mut world.driver, &world.channel, accounts).await?;
    let owed = Owed {
        accounts,
        entries_each: 10,
        days: 1,
    };
    seed::owed(&mut world.driver, owed).await?;
    world.forget_statements().await?;
    let mut race = Settle {
        connection: world.yardstick().await?,
        world,
        accounts,
    };
    let met = run_race(&mut race, options.rounds()).await?;
    race.world.finish().await?;
    Ok(met)
}

/// Settles everybody; how many payouts that made.
pub(crate) async fn settle_everything(channel: &Channel) -> Outcome<usize> {
    let request = proto::SettleBalancesRequest {
        request_id: Uuid::new_v4().to_string(),
        selection: Some(Selection::Filter(proto::BalanceFilter::default())),
        all_accounts: true,
        ..Default::default()
    };
    let response = BalancesServiceClient::new(channel.clone())
        .settle_balances(request)
        .await?
        .into_inner();
    if response.skipped_count > 0 {
        return Err(format!("{} accounts were skipped", response.skipped_count).into());
    }
    let settlement = response.settlement.ok_or("no settlement")?;
    Ok(usize::try_from(settlement.account_settlement_count)?)
}

/// Opens what runs claimed, as if there had been none.
pub(crate) async fn unsettle(driver: &mut Driver) -> Outcome<()> {
    driver
        .script("UPDATE accruals SET account_settlement_id = NULL, accepting = TRUE")
        .await?;
    seed::empty(driver, &seed::OF_SETTLEMENTS).await?;
    if driver.is_postgres() {
        // Rows of their own again, so that every run finds the table as the first did.
        driver.script("VACUUM FULL accruals").await?;
    }
    seed::tidy(driver).await
}

impl Race for Settle {
    fn title(&self) -> String {
        format!("settle: {} accounts by filter", self.accounts)
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("service", "statements", "accounts/s")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtLeast(0.8))
    }

    async fn reset(&mut self) -> Outcome<()> {
        unsettle(&mut self.world.driver).await
    }

    async fn measured(&mut self) -> Outcome<f64> {
        let start = Instant::now();
        let settled = settle_everything(&self.world.channel).await?;
        check(settled, self.accounts)?;
        Ok(rate(self.accounts, start))
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        let through = seed::today()?;
        let start = Instant::now();
        let settled = statements::settle_all(&mut self.connection, through).await?;
        check(settled, self.accounts)?;
        Ok(rate(self.accounts, start))
    }
}

fn check(settled: usize, accounts: usize) -> Outcome<()> {
    if settled == accounts {
        Ok(())
    } else {
        Err(format!("{settled} of {accounts} accounts were settled").into())
    }
}
