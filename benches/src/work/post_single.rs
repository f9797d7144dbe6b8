//! `PostEntries` with one entry a call, from many callers at once, against pgbench with one entry a transaction.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use affiliate_billing::proto;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use tonic::transport::Channel;

use super::stream_entries::message;
use crate::report::{Race, Target, rate, run_race};
use crate::seed::{self, account_id};
use crate::statements::{CURRENCY, NewEntry, OCCUR_DAY, OCCUR_TIME};
use crate::world::{Kind, World};
use crate::{Options, Outcome};

struct PostSingle {
    world: World,
    callers: usize,
    accounts: usize,
    seconds: u64,
    script: tempfile::NamedTempFile,
    turn: usize,
}

/// Posts for some seconds to a ledger in which every account has an open accrual.
pub(crate) async fn run(options: &Options, callers: usize) -> Outcome<bool> {
    if options.database != Kind::Postgres {
        return Err("the yardstick is pgbench: this needs PostgreSQL".into());
    }
    let mut world = World::make(options).await?;
    let accounts = options.accounts(100_000, 1000);
    let owed = seed::Owed {
        accounts,
        entries_each: 1,
        days: 1,
    };
    seed::owed(&mut world.driver, owed).await?;
    world.forget_statements().await?;
    let mut script = tempfile::NamedTempFile::new()?;
    script.write_all(pgbench_script(accounts).as_bytes())?;
    let mut race = PostSingle {
        world,
        callers,
        accounts,
        seconds: if options.quick { 2 } else { 15 },
        script,
        turn: 0,
    };
    let met = run_race(&mut race, options.rounds()).await?;
    race.world.finish().await?;
    Ok(met)
}

/// What a client with SQL alone would do for one entry: look it up, look at the balance, add to the accrual, insert the entry.
fn pgbench_script(accounts: usize) -> String {
    format!(
        "\\set number random(0, {accounts} - 1)\n\
         BEGIN;\n\
         SELECT e.id, e.source, e.external_id, e.account_id, e.amount FROM entries e WHERE e.source = 'pgbench' \
             AND e.external_id = 'none-' || (:number)::text;\n\
         SELECT sum(CASE WHEN a.amount > 0 THEN a.amount ELSE 0 END) AS credits, \
             sum(CASE WHEN a.amount < 0 THEN a.amount ELSE 0 END) AS debits \
             FROM accruals a WHERE a.account_id = 'account-' || lpad((:number)::text, 7, '0') AND a.currency_code = '{CURRENCY}' \
             AND a.account_settlement_id IS NULL;\n\
         INSERT INTO accruals (id, account_id, currency_code, available_day, debt, accepting, amount, entry_count, create_time) \
             VALUES (gen_random_uuid(), 'account-' || lpad((:number)::text, 7, '0'), '{CURRENCY}', {OCCUR_DAY}, FALSE, TRUE, \
                 1250000, 1, {OCCUR_TIME}) \
             ON CONFLICT (account_id, currency_code, available_day, debt) WHERE accepting \
             DO UPDATE SET amount = accruals.amount + excluded.amount, entry_count = accruals.entry_count + excluded.entry_count \
             RETURNING id AS accrual_id \\gset\n\
         INSERT INTO entries (id, source, external_id, account_id, currency_code, amount, kind, occur_time, available_day, \
                 description, accrual_id, create_time) \
             VALUES (gen_random_uuid(), 'pgbench', gen_random_uuid()::text, 'account-' || lpad((:number)::text, 7, '0'), \
                 '{CURRENCY}', 1250000, 'COMMISSION', {OCCUR_TIME}, {OCCUR_DAY}, '', :accrual_id, {OCCUR_TIME}) \
             ON CONFLICT (source, external_id) DO NOTHING;\n\
         COMMIT;\n"
    )
}

impl Race for PostSingle {
    fn title(&self) -> String {
        format!(
            "post entries: one entry a call over {} accounts, {} callers, {} s a turn",
            self.accounts, self.callers, self.seconds
        )
    }

    fn sides(&self) -> (&'static str, &'static str, &'static str) {
        ("service", "pgbench", "entries/s")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::AtLeast(1.5))
    }

    async fn reset(&mut self) -> Outcome<()> {
        seed::tidy(&mut self.world.driver).await
    }

    async fn measured(&mut self) -> Outcome<f64> {
        self.turn += 1;
        let load = Load {
            name: format!("turn-{}", self.turn),
            callers: self.callers,
            accounts: self.accounts,
            entries_each: 1,
        };
        let start = Instant::now();
        let posting = Posting::start(&self.world, load).await?;
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let (calls, _) = posting.stop().await?;
        Ok(rate(calls, start))
    }

    async fn yardstick(&mut self) -> Outcome<f64> {
        let cluster = self.world.cluster.as_ref().ok_or("no PostgreSQL")?;
        let output = cluster
            .program("pgbench")
            .args(["-n", "-M", "prepared", "-j", "2", "-c", &self.callers.to_string()])
            .args(["-T", &self.seconds.to_string(), "-f"])
            .arg(self.script.path())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said
            .lines()
            .find(|line| line.starts_with("tps = "))
            .ok_or_else(|| format!("pgbench failed: {said}{}", String::from_utf8_lossy(&output.stderr)))?;
        Ok(line.split_whitespace().nth(2).ok_or("no rate")?.parse()?)
    }
}

/// What callers post until they are stopped.
#[derive(Clone)]
pub(crate) struct Load {
    /// Makes the external ids of this load its own.
    pub(crate) name: String,
    pub(crate) callers: usize,
    /// Accounts that the entries go to.
    pub(crate) accounts: usize,
    pub(crate) entries_each: usize,
}

/// Callers that post.
pub(crate) struct Posting {
    stopped: Arc<AtomicUsize>,
    tasks: tokio::task::JoinSet<Outcome<(usize, Duration)>>,
}

impl Posting {
    /// Starts them, eight to a connection.
    pub(crate) async fn start(world: &World, load: Load) -> Outcome<Self> {
        let stopped = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        let mut channel = world.channel.clone();
        for caller in 0..load.callers {
            if caller % 8 == 0 {
                channel = world.service.channel().await?;
            }
            tasks.spawn(post_until_stopped(
                channel.clone(),
                load.clone(),
                caller,
                stopped.clone(),
            ));
        }
        Ok(Self { stopped, tasks })
    }

    /// Stops them; how many calls were answered, and how long the slowest took.
    pub(crate) async fn stop(mut self) -> Outcome<(usize, Duration)> {
        self.stopped.store(1, Ordering::Relaxed);
        let mut calls = 0;
        let mut slowest = Duration::ZERO;
        while let Some(done) = self.tasks.join_next().await {
            let (count, longest) = done??;
            calls += count;
            slowest = slowest.max(longest);
        }
        Ok((calls, slowest))
    }
}

async fn post_until_stopped(
    channel: Channel,
    load: Load,
    caller: usize,
    stopped: Arc<AtomicUsize>,
) -> Outcome<(usize, Duration)> {
    let mut client = BalancesServiceClient::new(channel);
    let mut calls = 0;
    let mut slowest = Duration::ZERO;
    while stopped.load(Ordering::Relaxed) == 0 {
        let entries = (0..load.entries_each)
            .map(|position| {
                let number = (calls * load.entries_each + position) * load.callers + caller;
                message(&NewEntry {
                    external_id: format!("{}/{number}", load.name),
                    account_id: account_id(number * 7919 % load.accounts),
                    amount: 1_250_000,
                    available_day: OCCUR_DAY,
                })
            })
            .collect();
        let request = proto::PostEntriesRequest {
            entries,
            ..Default::default()
        };
        let start = Instant::now();
        let response = client.post_entries(request).await?.into_inner();
        slowest = slowest.max(start.elapsed());
        if response
            .results
            .iter()
            .any(|result| result.outcome() != proto::EntryOutcome::Posted)
        {
            return Err("an entry was not posted".into());
        }
        calls += 1;
    }
    Ok((calls, slowest))
}
