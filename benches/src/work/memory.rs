//! Resident memory of the service while one client sends much and reads its answers slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use affiliate_billing::proto;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use uuid::Uuid;

use super::stream_entries;
use crate::driver::Driver;
use crate::service::Service;
use crate::world::World;
use crate::{Options, Outcome};

const CHUNK: usize = 1000;
const MOST_GROWTH_MEBIBYTES: f64 = 64.0;

/// Streams ids that are not there, answered slowly, and then entries; whether memory stays within its bound.
pub(crate) async fn run(options: &Options) -> Outcome<bool> {
    let count = options.entries(1_000_000, 20_000);
    let mut world = World::make(options).await?;
    // One chunk of each kind first: what a process takes once is no growth.
    slow_ids(&world, CHUNK, Duration::ZERO).await?;
    stream_entries::stream(world.channel.clone(), CHUNK, CHUNK).await?;
    let idle = world.service.resident_bytes()?;
    println!(
        "\nmemory: {count} ids and {count} entries; idle {:.1} MiB",
        mebibytes(idle)
    );
    let pause = Duration::from_millis(if options.quick { 5 } else { 30 });
    let watch = Watch::start();
    let slow = watch.during(&world.service, slow_ids(&world, count, pause)).await?;
    println!("  a slow reader of {count} ids: {:+.1} MiB at most", growth(slow, idle));
    let transactions = open_transactions(&mut world.driver).await?;
    crate::seed::empty_ledger(&mut world.driver).await?;
    let watch = Watch::start();
    let posting = stream_entries::stream(world.channel.clone(), count, 100_000.min(count));
    let posted = watch.during(&world.service, posting).await?;
    println!("  posting {count} entries: {:+.1} MiB at most", growth(posted, idle));
    let most = growth(slow.max(posted), idle);
    let met = most <= MOST_GROWTH_MEBIBYTES && transactions == 0;
    println!(
        "  GROWTH {most:.1} MiB; target at most {MOST_GROWTH_MEBIBYTES}: {}",
        if met { "met" } else { "MISSED" }
    );
    world.finish().await?;
    Ok(met)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

fn growth(bytes: u64, idle: u64) -> f64 {
    mebibytes(bytes) - mebibytes(idle)
}

async fn open_transactions(driver: &mut Driver) -> Outcome<i64> {
    if !driver.is_postgres() {
        return Ok(0);
    }
    driver
        .number("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
        .await
}

/// Looks at a process's memory while something goes on.
struct Watch {
    most: Arc<AtomicU64>,
}

impl Watch {
    fn start() -> Self {
        Self {
            most: Arc::new(AtomicU64::new(0)),
        }
    }

    async fn during(&self, service: &Service, work: impl Future<Output = Outcome<()>>) -> Outcome<u64> {
        let look = async {
            loop {
                if let Ok(bytes) = service.resident_bytes() {
                    self.most.fetch_max(bytes, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = look => {}
            done = work => done?,
        }
        Ok(self.most.load(Ordering::Relaxed))
    }
}

/// Sends ids as fast as it may, and pauses after each answer.
async fn slow_ids(world: &World, count: usize, pause: Duration) -> Outcome<()> {
    let chunks = (0..count / CHUNK).map(|number| proto::BulkUpdateAccountSettlementStatusRequest {
        chunk_id: number.to_string(),
        target_status: proto::AccountSettlementStatus::InProgress.into(),
        account_settlement_ids: (0..CHUNK).map(|_| Uuid::new_v4().to_string()).collect(),
        ..Default::default()
    });
    let mut answers = SettlementsServiceClient::new(world.service.channel().await?)
        .bulk_update_account_settlement_status(tokio_stream::iter(chunks.collect::<Vec<_>>()))
        .await?
        .into_inner();
    let start = Instant::now();
    let mut answered = 0;
    while let Some(answer) = answers.message().await? {
        answered += answer.skipped.len();
        tokio::time::sleep(pause).await;
    }
    if answered == count {
        println!("  {answered} ids answered in {:.1} s", start.elapsed().as_secs_f64());
        Ok(())
    } else {
        Err(format!("{answered} of {count} ids were answered").into())
    }
}
