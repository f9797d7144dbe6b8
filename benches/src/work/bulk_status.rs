//! The bulk status stream: each id answered, the history written.

use std::time::Instant;

use affiliate_billing::proto;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use tonic::transport::Channel;
use uuid::Uuid;

use super::settle::settle_everything;
use crate::driver::{Driver, Value};
use crate::report::{Race, Target, rate, run_race};
use crate::seed::{self, Owed};
use crate::world::World;
use crate::{Options, Outcome, statements};

const CHUNK: usize = 1000;

struct BulkStatus {
    world: World,
    channels: Vec<Channel>,
    connections: Vec<Driver>,
    ids: Vec<Uuid>,
}

/// Settles accounts, and moves their payouts to and fro between two statuses.
pub(crate) async fn run(options: &Options, streams: usize) -> Outcome<bool> {
    let accounts = options.entries(200_000, 4000);
    let mut world = World::make(options).await?;
    seed::payable_accounts(&mut world.driver, &world.channel, accounts).await?;
    let owed = Owed {
        accounts,
        entries_each: 1,
        days: 1,
    };
    seed::owed(&mut world.driver, owed).await?;
    settle_everything(&world.channel).await?;
    let sql = "SELECT id FROM account_settlements ORDER BY id";
    let rows = world.driver.fetch(sql, Vec::<Value>::new()).await?;
    let ids = rows.iter().map(|row| row.uuid(0)).collect::<Outcome<Vec<Uuid>>>()?;
    world.forget_statements().await?;
    let mut race = BulkStatus {
        channels: Vec::new(),
        connections: Vec::new(),
        ids,
        world,
    };
    for _ in 0..streams {
        race.channels.push(race.world.service.channel().await?);
        race.connections.push(race.world.yardstick().await?);
    }
    let met = run_race(&mut race, options.rounds()).await?;
    race.world.finish().await?;
    Ok(met)
}

impl BulkStatus {
    /// The status that the rows do not have now.
    async fn next_status(&mut self) -> Outcome<proto::AccountSettlementStatus> {
        let sql = "SELECT count(*) FROM account_settlements WHERE status = 'NEW'";
        Ok(if self.world.driver.number(sql).await? > 0 {
            proto::AccountSettlementStatus::InProgress
        } else {
            proto::AccountSettlementStatus::New
        })
    }
}

impl Race for BulkStatus {
    fn title(&self) -> String {
        format!(
            "bulk status: {} ids, {} streams, chunks of {CHUNK}",
            self.ids.len(),
            self.channels.len()
        )
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("service", "statements", "ids/s")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtLeast(0.8))
    }

    async fn reset(&mut self) -> Outcome<()> {
        seed::tidy(&mut self.world.driver).await
    }

    async fn measured(&mut self) -> Outcome<f64> {
        let status = self.next_status().await?;
        let share = self.ids.len().div_ceil(self.channels.len());
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for (channel, ids) in self.channels.iter().zip(self.ids.chunks(share)) {
            tasks.spawn(stream(channel.clone(), ids.to_vec(), status));
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(rate(self.ids.len(), start))
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        let status = self.next_status().await?;
        let target = if status == proto::AccountSettlementStatus::New {
            "NEW"
        } else {
            "IN_PROGRESS"
        };
        let share = self.ids.len().div_ceil(self.connections.len());
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for (mut connection, ids) in self.connections.drain(..).zip(self.ids.chunks(share)) {
            let ids = ids.to_vec();
            tasks.spawn(async move {
                for chunk in ids.chunks(CHUNK) {
                    statements::update_status(&mut connection, chunk, target).await?;
                }
                Outcome::Ok(connection)
            });
        }
        while let Some(done) = tasks.join_next().await {
            self.connections.push(done??);
        }
        Ok(rate(self.ids.len(), start))
    }
}

async fn stream(channel: Channel, ids: Vec<Uuid>, status: proto::AccountSettlementStatus) -> Outcome<()> {
    let chunks: Vec<proto::BulkUpdateAccountSettlementStatusRequest> = ids
        .chunks(CHUNK)
        .enumerate()
        .map(|(number, ids)| proto::BulkUpdateAccountSettlementStatusRequest {
            chunk_id: number.to_string(),
            target_status: status.into(),
            account_settlement_ids: ids.iter().map(Uuid::to_string).collect(),
            ..Default::default()
        })
        .collect();
    let mut answers = SettlementsServiceClient::new(channel)
        .bulk_update_account_settlement_status(tokio_stream::iter(chunks))
        .await?
        .into_inner();
    let mut updated = 0;
    while let Some(answer) = answers.message().await? {
        updated += answer.updated_ids.len();
    }
    if updated == ids.len() {
        Ok(())
    } else {
        Err(format!("{updated} of {} ids were updated", ids.len()).into())
    }
}
