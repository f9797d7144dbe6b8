//! The service as a process of its own: the release binary, reached through gRPC alone.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::Outcome;

/// A key that seals nothing but the made-up people of a benchmark.
pub(crate) const KEYS: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Builds the program with cargo, where cargo runs this, so that what is measured is what is in the tree.
pub(crate) fn build() -> Outcome<()> {
    let Some(cargo) = std::env::var_os("CARGO") else {
        return Ok(());
    };
    let mut command = Command::new(cargo);
    // With this package too, so that both are built with the same features and nothing twice.
    command.args(["build", "--quiet", "--locked", "--package", "affiliate-billing"]);
    command.args(["--package", "affiliate-billing-benches", "--bin", "affiliate-billing"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    if command.status()?.success() {
        Ok(())
    } else {
        Err("the service does not build".into())
    }
}

fn binary() -> Outcome<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().ok_or("no folder")?.join("affiliate-billing");
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no {}: cargo build --release", path.display()).into())
    }
}

fn command(name: &str, database_url: &str) -> Outcome<Command> {
    let mut command = Command::new(binary()?);
    command
        .arg(name)
        .env("BILLING_DATABASE_URL", database_url)
        .env("BILLING_ENCRYPTION_KEYS", KEYS)
        .env("BILLING_LISTEN", "127.0.0.1:0")
        .env("BILLING_LOG", "warn")
        .stdin(Stdio::null());
    Ok(command)
}

/// Runs one of its commands to the end, and fails if that fails.
pub(crate) fn run(name: &str, database_url: &str) -> Outcome<()> {
    let output = command(name, database_url)?.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("affiliate-billing {name} failed:\n{}", String::from_utf8_lossy(&said)).into())
}

/// A process that serves gRPC; killed when this is dropped.
pub(crate) struct Service {
    child: Child,
    address: String,
    // A program that prints to nobody would fail.
    _stdout: BufReader<ChildStdout>,
}

impl Service {
    /// Starts the service on a database that is migrated (or that it migrates itself).
    pub(crate) fn start(database_url: &str) -> Outcome<Self> {
        Self::spawn(command("serve", database_url)?)
    }

    /// Starts a program that prints `listening on ADDRESS` when it serves.
    pub(crate) fn spawn(mut command: Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no output")?);
        loop {
            let mut line = String::new();
            if stdout.read_line(&mut line)? == 0 {
                return Err("the server ended before it served".into());
            }
            if let Some(address) = line.trim_end().strip_prefix("listening on ") {
                return Ok(Self {
                    child,
                    address: address.to_owned(),
                    _stdout: stdout,
                });
            }
        }
    }

    /// A new connection to it.
    pub(crate) async fn channel(&self) -> Outcome<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?;
        Ok(endpoint.tcp_nodelay(true).connect().await?)
    }

    /// Processor time that it has used so far.
    pub(crate) fn processor_time(&self) -> Outcome<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name in brackets: user and system time are the 12th and 13th field, in hundredths of a second.
        let (_, fields) = stat.rsplit_once(')').ok_or("unreadable processor time")?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .ok_or("no memory")?;
        let kibibytes: u64 = line.split_whitespace().nth(1).ok_or("no memory")?.parse()?;
        Ok(kibibytes * 1024)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
