//! The program: arguments and wiring.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its terminal"
)]

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use affiliate_billing::authentication::NewToken;
use affiliate_billing::billing::{Billing, Payouts, RotationProgress};
use affiliate_billing::config::{Config, KeyFile, Missing, Purpose};
use affiliate_billing::payout::{Providers, tipalti};
use affiliate_billing::store::{self, Store};
use affiliate_billing::webhook::{self, WebhookSource};
use affiliate_billing::{refresh, server};
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

/// How often it is said again that something keeps nobody out.
const WARNING_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Keeps what affiliates are owed, settles it, and follows each payout until it is paid.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve gRPC (the default). An embedded SQLite file is created and migrated; a PostgreSQL must be migrated.
    Serve,
    /// Bring the database's schema up to this version.
    Migrate,
    /// Seal with the first encryption key what is under another one, also while `serve` runs. Can be interrupted and started
    /// again. Exits 1 when something is left under another key.
    RotateKeys {
        /// Only count what is sealed with which key.
        #[arg(long)]
        check: bool,
    },
    /// Check the invariants of the ledger in one snapshot, also while `serve` runs. Exits 1 when one is broken.
    Verify,
    /// Make a bearer token, and the line of its hash for the file that BILLING_TOKENS_FILE names.
    Token,
}

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging();
    let outcome = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve().await,
        Command::Migrate => migrate().await,
        Command::RotateKeys { check } => rotate_keys(check).await,
        Command::Verify => verify().await,
        Command::Token => token(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("affiliate-billing: {error}");
        ExitCode::FAILURE
    })
}

/// To stderr, so that stdout is what the command has to say.
fn start_logging() {
    let filter = EnvFilter::try_from_env("BILLING_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,sea_orm_migration=warn,sqlx=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn load(purpose: Purpose) -> Result<Config, Box<dyn std::error::Error>> {
    Ok(Config::load(purpose, |name| std::env::var(name).ok())?)
}

async fn serve() -> Outcome {
    let config = load(Purpose::Serve)?;
    match &config.key_file {
        KeyFile::Created(path) => println!(
            "made the key file {}: back it up, what it sealed can't be read without it",
            path.display()
        ),
        KeyFile::Found(path) => println!("keys from {}", path.display()),
        KeyFile::Unused => {}
    }
    let providers =
        Providers::connect(config.providers.clone()).map_err(|error| format!("BILLING_TIPALTI: {error}"))?;
    let store = Store::open(config.store.clone()).await?;
    let billing = Billing::new(store.clone())
        .with_payouts(Payouts {
            providers,
            options: config.payouts,
        })
        .with_change_control(config.change_control);
    let listener = listen(config.listen).await?;
    let address = listener.local_addr()?;
    // Before anybody is told that it serves: a signal that comes at once must end it in order too.
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    println!("database {}", config.database_shown());
    println!("listening on {address}");
    let background = TaskTracker::new();
    if !config.missing.is_empty() {
        background.spawn(warn_of_missing(config.missing, address, shutdown.clone()));
    }
    if let Some(webhook) = config.webhook {
        let listener = listen(webhook.listen).await?;
        println!("webhooks on {}", listener.local_addr()?);
        let sources = vec![WebhookSource {
            kind: &tipalti::KIND,
            secrets: webhook.tipalti_secrets,
        }];
        background.spawn(webhook::run(listener, billing.clone(), sources, shutdown.clone()));
    }
    background.spawn(refresh::run(billing.clone(), shutdown.clone()));
    let (keys_of, stop_watching) = (store.clone(), shutdown.clone());
    background.spawn(async move { keys_of.watch_keys(stop_watching).await });
    let options = match (&config.access.transport, config.access.authentication.is_on()) {
        (None, false) => "-plaintext",
        (None, true) => "-plaintext -H 'authorization: Bearer TOKEN'",
        (Some(_), _) => "-cacert CA.pem -H 'authorization: Bearer TOKEN'",
    };
    println!("try: grpcurl {options} {address} affiliate.billing.v1.BalancesService/ListOpenBalances");
    let outcome = server::run(listener, billing, config.access, shutdown.clone()).await;
    shutdown.cancel();
    background.close();
    if tokio::time::timeout(server::DRAIN_TIME, background.wait())
        .await
        .is_err()
    {
        tracing::warn!("background work was still running at the end of the drain time");
    }
    outcome?;
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// Says it as long as it is so, not only in lines that are long gone.
async fn warn_of_missing(missing: Vec<Missing>, address: SocketAddr, shutdown: CancellationToken) {
    let advice: Vec<String> = missing.into_iter().map(Missing::advice).collect();
    let advice = advice.join(", and ");
    loop {
        tracing::warn!(%address, "whoever reaches this address can use it: {advice}");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(WARNING_INTERVAL) => {}
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("can't listen on {address}: {error}"))
}

fn stop_on_signal(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        shutdown.cancel();
    });
    Ok(())
}

fn token() -> Outcome {
    let made = NewToken::make()?;
    println!("the token, for the caller alone; it is shown once and kept nowhere:");
    println!("{}", made.token.as_str());
    println!("for its [[identity]] in the file of BILLING_TOKENS_FILE:");
    println!("tokens_sha256 = [\"{}\"]", made.sha256);
    Ok(ExitCode::SUCCESS)
}

async fn migrate() -> Outcome {
    let config = load(Purpose::Database)?;
    let applied = store::migrate(&config.store).await?;
    println!("database {}: {applied} migrations applied", config.database_shown());
    Ok(ExitCode::SUCCESS)
}

async fn verify() -> Outcome {
    let config = load(Purpose::Database)?;
    let store = Store::open_read_only(config.store.clone()).await?;
    println!("database {}", config.database_shown());
    let report = Billing::new(store).verify().await?;
    print!("{report}");
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn rotate_keys(only_check: bool) -> Outcome {
    let config = load(Purpose::Keys)?;
    let store = Store::open_beside(config.store.clone()).await?;
    let billing = Billing::new(store.clone());
    println!("database {}", config.database_shown());
    if only_check {
        let usage = billing.key_usage().await?;
        print!("{usage}");
        return Ok(exit_code(usage.is_rotated()));
    }
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let mut shown = RotationShown::new();
    let rotation = billing.rotate_keys(&shutdown, |progress| shown.show(progress)).await?;
    shown.end();
    store.close().await?;
    print!("{}", rotation.usage);
    for row in &rotation.damaged {
        println!("does not open with its key, and was left as it is: {row}");
    }
    if rotation.was_interrupted {
        println!("interrupted: start it again to go on");
    } else if rotation.usage.old_count() > 0 && rotation.damaged.is_empty() {
        println!(
            "rows are still being sealed with an old key: let every process write with the new one, then start it again"
        );
    }
    Ok(exit_code(rotation.usage.is_rotated()))
}

fn exit_code(is_success: bool) -> ExitCode {
    if is_success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Shows how far a rotation is: in one line that changes on a terminal, else in lines, one a table and one every few seconds.
struct RotationShown {
    is_terminal: bool,
    last: Option<(RotationProgress, Instant)>,
}

impl RotationShown {
    const INTERVAL: Duration = Duration::from_secs(5);

    fn new() -> Self {
        Self {
            is_terminal: std::io::stdout().is_terminal(),
            last: None,
        }
    }

    fn show(&mut self, progress: RotationProgress) {
        let is_same_table = |(last, _): &(RotationProgress, Instant)| last.table == progress.table;
        let is_due = |(_, time): &(RotationProgress, Instant)| time.elapsed() >= Self::INTERVAL;
        let is_complete = progress.done == progress.total;
        let goes_on = self.last.as_ref().is_some_and(is_same_table);
        if self.is_terminal {
            if !goes_on {
                self.end();
            }
            print!("\r{}", line(progress));
            // A terminal that is gone must not end the rotation.
            let _ = std::io::stdout().flush();
        } else if !goes_on || is_complete || self.last.as_ref().is_some_and(is_due) {
            println!("{}", line(progress));
        } else {
            return;
        }
        self.last = Some((progress, Instant::now()));
    }

    /// Ends the line that changes.
    fn end(&self) {
        if self.is_terminal && self.last.is_some() {
            println!();
        }
    }
}

fn line(progress: RotationProgress) -> String {
    format!("{}: {} of {} rows", progress.table, progress.done, progress.total)
}
