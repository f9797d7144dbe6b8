//! `StreamEntries`: many entries over many accounts, in one stream.

use std::time::Instant;

use affiliate_billing::proto;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use tonic::transport::Channel;

use crate::driver::Driver;
use crate::report::{Race, Target, rate, run_race};
use crate::seed;
use crate::statements::{self, CURRENCY, NewEntry, OCCUR_DAY, OCCUR_TIME};
use crate::world::World;
use crate::{Options, Outcome};

const CHUNK: usize = 1000;

struct StreamEntries {
    world: World,
    connection: Driver,
    accounts: usize,
    entries: usize,
}

/// Posts the same entries to an empty ledger, once through the service, once by its statements.
pub(crate) async fn run(options: &Options) -> Outcome<bool> {
    let mut world = World::make(options).await?;
    world.forget_statements().await?;
    let mut race = StreamEntries {
        connection: world.yardstick().await?,
        world,
        accounts: options.accounts(100_000, 2000),
        entries: options.entries(1_000_000, 10_000),
    };
    let met = run_race(&mut race, options.rounds()).await?;
    race.world.finish().await?;
    Ok(met)
}

/// The entries of one chunk: each on another account, as far as there are so many. Accounts follow each other in no order.
pub(crate) fn chunk_of(number: usize, entries: usize, accounts: usize) -> Vec<NewEntry> {
    let first = number * CHUNK;
    (first..entries.min(first + CHUNK))
        .map(|entry| NewEntry {
            external_id: format!("order-{entry:09}"),
            // A stride that has no divisor with the number of accounts in common visits them all.
            account_id: seed::account_id(entry * 7919 % accounts),
            amount: 1_250_000,
            available_day: OCCUR_DAY,
        })
        .collect()
}

/// An entry as the wire has it.
pub(crate) fn message(entry: &NewEntry) -> proto::Entry {
    proto::Entry {
        external_id: entry.external_id.clone(),
        account_id: entry.account_id.clone(),
        money: Some(proto::Money {
            currency_code: CURRENCY.to_owned(),
            amount: format!("{}.{:06}", entry.amount / 1_000_000, entry.amount % 1_000_000),
        }),
        kind: proto::EntryKind::Commission.into(),
        occur_time: Some(prost_types::Timestamp {
            seconds: OCCUR_TIME / 1_000_000,
            nanos: 0,
        }),
        ..Default::default()
    }
}

/// Streams entries and counts the answers.
pub(crate) async fn stream(channel: Channel, entries: usize, accounts: usize) -> Outcome<()> {
    let chunks = (0..entries.div_ceil(CHUNK)).map(move |number| proto::StreamEntriesRequest {
        chunk_id: number.to_string(),
        entries: chunk_of(number, entries, accounts).iter().map(message).collect(),
    });
    let mut answers = BalancesServiceClient::new(channel)
        .stream_entries(tokio_stream::iter(chunks))
        .await?
        .into_inner();
    let mut posted = 0;
    while let Some(answer) = answers.message().await? {
        posted += usize::try_from(answer.posted_count)?;
    }
    if posted == entries {
        Ok(())
    } else {
        Err(format!("{posted} of {entries} entries were posted").into())
    }
}

impl Race for StreamEntries {
    fn title(&self) -> String {
        format!(
            "stream entries: {} entries over {} accounts, chunks of {CHUNK}",
            self.entries, self.accounts
        )
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("service", "statements", "entries/s")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtLeast(0.8))
    }

    async fn reset(&mut self) -> Outcome<()> {
        seed::empty_ledger(&mut self.world.driver).await
    }

    async fn measured(&mut self) -> Outcome<f64> {
        let start = Instant::now();
        stream(self.world.channel.clone(), self.entries, self.accounts).await?;
        Ok(rate(self.entries, start))
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        let start = Instant::now();
        for number in 0..self.entries.div_ceil(CHUNK) {
            let chunk = chunk_of(number, self.entries, self.accounts);
            statements::post_entries(&mut self.connection, &chunk).await?;
        }
        Ok(rate(self.entries, start))
    }
}
