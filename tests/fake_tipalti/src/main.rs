//! The fake Tipalti as a program.

#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use fake_tipalti::FakeTipalti;
use fake_tipalti::state::Options;

use clap::Parser;
use tokio::net::TcpListener;

/// A fake Tipalti to try the service with. Its credentials: fake-client, fake-secret, fake-refresh.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, env = "FAKE_TIPALTI_LISTEN", default_value = "127.0.0.1:8099")]
    listen: String,
    /// Where events are sent, such as http://127.0.0.1:8080/webhooks/tipalti; nowhere when empty.
    #[arg(long, env = "FAKE_TIPALTI_WEBHOOK_URL")]
    webhook_url: Option<String>,
    /// What events are signed with.
    #[arg(long, env = "FAKE_TIPALTI_WEBHOOK_SECRET", default_value = "whsec_test_tipalti")]
    webhook_secret: String,
    /// Milliseconds between two steps of all payments; 0 to move them by /control/advance only.
    #[arg(long, env = "FAKE_TIPALTI_STEP_MS", default_value_t = 0)]
    step_ms: u64,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(&arguments.listen).await?;
    let options = Options {
        webhook_url: arguments.webhook_url,
        webhook_secret: arguments.webhook_secret,
        ..Options::default()
    };
    let fake = FakeTipalti::start_on(listener, options)?;
    println!("fake tipalti on {}, steered under {}/control", fake.url(), fake.url());
    if arguments.step_ms > 0 {
        let steps = fake.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(arguments.step_ms)).await;
                steps.advance();
            }
        });
    }
    tokio::signal::ctrl_c().await?;
    fake.stop();
    Ok(())
}
