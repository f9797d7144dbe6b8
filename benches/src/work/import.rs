//! `ImportBillingDetails` and `ImportPaymentMethods` of new accounts, against the same rows by SQL, sealed before.

use std::time::Instant;

use affiliate_billing::proto;
use affiliate_billing::proto::ImportOutcome;
use affiliate_billing::proto::billing_details_service_client::BillingDetailsServiceClient;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use clap::ValueEnum;
use tonic::transport::Channel;

use crate::driver::Driver;
use crate::report::{Race, Target, rate, run_race};
use crate::seed::{self, SealedRows, Sealer};
use crate::world::World;
use crate::{Options, Outcome};

const CHUNK: usize = 1000;

/// What is imported.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// `ImportBillingDetails`.
    BillingDetails,
    /// `ImportPaymentMethods`.
    PaymentMethods,
}

struct Import {
    world: World,
    connection: Driver,
    sealer: Sealer,
    kind: Kind,
    accounts: usize,
}

/// Imports accounts into empty tables, once through the service, once by the statements that insert them.
pub(crate) async fn run(options: &Options, kind: Kind) -> Outcome<bool> {
    let mut world = World::make(options).await?;
    seed::first_account(&world.channel).await?;
    let sealer = Sealer::read(&mut world.driver).await?;
    world.forget_statements().await?;
    let mut race = Import {
        connection: world.yardstick().await?,
        world,
        sealer,
        kind,
        accounts: options.accounts(100_000, 2000),
    };
    let met = run_race(&mut race, options.rounds()).await?;
    race.world.finish().await?;
    Ok(met)
}

/// The accounts of a chunk, in no order, as another system's list has them.
fn accounts_of(number: usize, accounts: usize) -> Vec<String> {
    let first = number * CHUNK;
    let numbers = first..accounts.min(first + CHUNK);
    numbers
        .map(|account| seed::account_id(account * 7919 % accounts))
        .collect()
}

async fn import_details(channel: Channel, accounts: usize) -> Outcome<usize> {
    let chunks = (0..accounts.div_ceil(CHUNK)).map(move |number| proto::ImportBillingDetailsRequest {
        chunk_id: number.to_string(),
        billing_details: accounts_of(number, accounts).into_iter().map(seed::details).collect(),
        ..Default::default()
    });
    let mut answers = BillingDetailsServiceClient::new(channel)
        .import_billing_details(tokio_stream::iter(chunks))
        .await?
        .into_inner();
    let mut created = 0;
    while let Some(answer) = answers.message().await? {
        let outcomes = answer.results.iter().map(|result| result.outcome());
        created += outcomes.filter(|outcome| *outcome == ImportOutcome::Created).count();
    }
    Ok(created)
}

async fn import_methods(channel: Channel, accounts: usize) -> Outcome<usize> {
    let chunks = (0..accounts.div_ceil(CHUNK)).map(move |number| proto::ImportPaymentMethodsRequest {
        chunk_id: number.to_string(),
        payment_methods: accounts_of(number, accounts).into_iter().map(seed::method).collect(),
        ..Default::default()
    });
    let mut answers = PaymentMethodsServiceClient::new(channel)
        .import_payment_methods(tokio_stream::iter(chunks))
        .await?
        .into_inner();
    let mut created = 0;
    while let Some(answer) = answers.message().await? {
        let outcomes = answer.results.iter().map(|result| result.outcome());
        created += outcomes.filter(|outcome| *outcome == ImportOutcome::Created).count();
    }
    Ok(created)
}

impl Race for Import {
    fn title(&self) -> String {
        let kind = match self.kind {
            Kind::BillingDetails => "billing details",
            Kind::PaymentMethods => "payment methods",
        };
        format!("import {kind}: {} accounts, chunks of {CHUNK}", self.accounts)
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("service", "statements", "accounts/s")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtLeast(0.5))
    }

    async fn reset(&mut self) -> Outcome<()> {
        seed::empty_accounts(&mut self.world.driver).await
    }

    async fn measured(&mut self) -> Outcome<f64> {
        let channel = self.world.channel.clone();
        let start = Instant::now();
        let created = match self.kind {
            Kind::BillingDetails => import_details(channel, self.accounts).await?,
            Kind::PaymentMethods => import_methods(channel, self.accounts).await?,
        };
        let rate = rate(self.accounts, start);
        if created == self.accounts {
            Ok(rate)
        } else {
            Err(format!("{created} of {} accounts were imported", self.accounts).into())
        }
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        let mut chunks: Vec<(SealedRows, Option<SealedRows>)> = Vec::new();
        for number in 0..self.accounts.div_ceil(CHUNK) {
            let accounts = accounts_of(number, self.accounts);
            chunks.push(match self.kind {
                Kind::BillingDetails => (self.sealer.details(&accounts)?, None),
                Kind::PaymentMethods => (
                    self.sealer.methods(&accounts)?,
                    Some(self.sealer.method_changes(&accounts)?),
                ),
            });
        }
        let start = Instant::now();
        for (chunk, changes) in chunks {
            self.connection.begin().await?;
            match changes {
                None => seed::insert_details(&mut self.connection, chunk).await?,
                Some(changes) => {
                    seed::insert_methods(&mut self.connection, chunk).await?;
                    seed::insert_method_changes(&mut self.connection, changes).await?;
                }
            }
            self.connection.commit().await?;
        }
        Ok(rate(self.accounts, start))
    }
}
