//! One month's end of an affiliate program, played through the API as an internal service would.
//!
//! ```text
//! cargo run -- serve &
//! cargo run --example month_end
//! ```
//!
//! It reads the invented month in `examples/data` (see the README there), tells the service who the affiliates are and
//! what they earned, settles what is open, marks the payouts paid, and corrects one of them: sets it back, deletes it and
//! settles that account again. At the end it adds everything up: what was posted is open, pending or settled.
//!
//! It may be killed at any moment and started again, and a second run changes nothing and says so. Three habits make
//! that so, and they are the ones to copy:
//!
//! - What has a business key (a type, an account's details, an entry) is simply sent again: "it is there already" is an
//!   answer, not a failure.
//! - What has none (settling, status changes, deleting) carries a request id that is derived from the data, so that the
//!   same step has the same id in every run, and the service answers it again instead of doing it twice.
//! - What a request says must then depend on the data alone too. Where it can't (totals that were asked for a moment ago),
//!   look first whether the step was done.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program talks to its terminal"
)]

mod affiliates;
mod client;
mod correction;
mod data;
mod entries;
mod failure;
mod ledger;
mod money;
mod payouts;
mod request_id;
mod settling;
mod streams;
mod table;

use crate::client::Billing;
use crate::data::Month;
use crate::failure::Failure;
use crate::ledger::Ledger;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Plays one month's end against a running server.
#[derive(Parser)]
struct Options {
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:50051")]
    server: String,
    /// Folder with the month's CSV files.
    #[arg(long, default_value = "examples/data")]
    data: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    let month = Month::read(&options.data)?;
    let billing = Billing::connect(&options.server).await?;
    let before = Ledger::read(&billing).await?;

    let types = affiliates::offer_types(&billing, &month).await?;
    let people = affiliates::register(&billing, &month).await?;
    let posted = entries::post(&billing, &month).await?;
    settling::show_open(&billing).await?;
    let settlement = settling::settle_month(&billing, &month).await?;
    let payouts = payouts::mark_paid(&billing, &settlement).await?;
    correction::correct_one(&billing, &payouts).await?;
    settling::show_settlement(&billing, &settlement.id).await?;

    let after = Ledger::read(&billing).await?;
    after.check(&month)?;
    let sent_anew = types + people + posted;
    after.say_what_is_new(&before, sent_anew);
    Ok(())
}
