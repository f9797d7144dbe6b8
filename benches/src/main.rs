//! Benchmarks of the service beside its database: `docs/PERFORMANCE.md` has what they say, and how to read it.
//!
//! Each runs the service as a process of its own and its yardstick in turns, and prints the ratio of both. Afterwards the
//! database must be sound to `affiliate-billing verify`.

#![expect(
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark divides, prints, and may end abnormally"
)]

mod cluster;
mod driver;
mod report;
mod seed;
mod service;
mod statements;
mod work;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What everything here answers.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures the service beside its database, in turns, and prints ratios.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
    #[command(flatten)]
    options: Options,
}

/// What all benchmarks have in common.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// Which database.
    #[arg(long, global = true, value_enum, default_value = "postgres")]
    database: world::Kind,
    /// Rounds that count, after one that does not.
    #[arg(long, global = true)]
    rounds: Option<usize>,
    /// Small sizes: whether it works, in seconds. Its figures mean nothing.
    #[arg(long, global = true)]
    quick: bool,
    /// Accounts, where the benchmark has a number of them.
    #[arg(long, global = true)]
    accounts: Option<usize>,
    /// Entries, ids or calls of one turn, where the benchmark has a number of them.
    #[arg(long, global = true)]
    entries: Option<usize>,
    /// Adds the time of each statement by side, as PostgreSQL saw it, which costs both sides some time.
    #[arg(long, global = true)]
    statements: bool,
    /// Settings of PostgreSQL, such as `auto_explain.log_min_duration=0`.
    #[arg(long, global = true)]
    setting: Vec<String>,
}

impl Options {
    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    fn accounts(&self, full: usize, quick: usize) -> usize {
        self.accounts.unwrap_or(if self.quick { quick } else { full })
    }

    fn entries(&self, full: usize, quick: usize) -> usize {
        self.entries.unwrap_or(if self.quick { quick } else { full })
    }
}

#[derive(Subcommand)]
enum Benchmark {
    /// The bulk status stream, against the same statements.
    BulkStatus {
        /// Streams at once, and connections of the yardstick.
        #[arg(long, default_value_t = 1)]
        streams: usize,
    },
    /// `StreamEntries`, against the same statements.
    StreamEntries,
    /// `PostEntries` with one entry a call, against pgbench with one entry a transaction.
    PostSingle {
        /// Callers at once, and clients of pgbench.
        #[arg(long, default_value_t = 64)]
        callers: usize,
    },
    /// An import of new accounts in one stream, against the same rows by SQL.
    Import {
        /// What is imported.
        #[arg(value_enum)]
        kind: work::import::Kind,
    },
    /// A settle run over all accounts, against the same statements.
    Settle,
    /// A settle run over accounts with many entries, against one with an entry a day.
    SettleGrowth {
        /// Entries of an account.
        #[arg(long, default_value_t = 100)]
        entries_each: usize,
        /// Days that they are spread over.
        #[arg(long, default_value_t = 1)]
        days: usize,
    },
    /// `PostEntries` while a run settles, against the same without one.
    PostDuringSettle,
    /// `PostEntries` to one account, against many.
    OneAccount {
        /// Callers at once.
        #[arg(long, default_value_t = 8)]
        callers: usize,
        /// Entries of a call.
        #[arg(long, default_value_t = 100)]
        entries_each: usize,
    },
    /// Processor time of `GetAccountSettlement`, against a bare echo.
    GetCost,
    /// A far page of `ListOpenBalances`, against the first.
    ListPages,
    /// The first page of `ListOpenBalances` where accounts have many entries, against few.
    ListGrowth {
        /// Entries of an account.
        #[arg(long, default_value_t = 100)]
        entries_each: usize,
    },
    /// Resident memory of the service with a slow reader, and while it posts.
    Memory,
    /// The bare server that `get-cost` compares with.
    #[command(hide = true)]
    Echo,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("affiliate-billing-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all targets are met.
async fn run(arguments: Arguments) -> Outcome<bool> {
    let options = arguments.options;
    match arguments.benchmark {
        Benchmark::BulkStatus { streams } => work::bulk_status::run(&options, streams).await,
        Benchmark::StreamEntries => work::stream_entries::run(&options).await,
        Benchmark::PostSingle { callers } => work::post_single::run(&options, callers).await,
        Benchmark::Import { kind } => work::import::run(&options, kind).await,
        Benchmark::Settle => work::settle::run(&options).await,
        Benchmark::SettleGrowth { entries_each, days } => work::settle_growth::run(&options, entries_each, days).await,
        Benchmark::PostDuringSettle => work::post_during_settle::run(&options).await,
        Benchmark::OneAccount { callers, entries_each } => {
            work::one_account::run(&options, callers, entries_each).await
        }
        Benchmark::GetCost => work::get_cost::run(&options).await,
        Benchmark::ListPages => work::list_pages::run(&options).await,
        Benchmark::ListGrowth { entries_each } => work::list_pages::run_growth(&options, entries_each).await,
        Benchmark::Memory => work::memory::run(&options).await,
        Benchmark::Echo => work::get_cost::serve_echo().await,
    }
}
