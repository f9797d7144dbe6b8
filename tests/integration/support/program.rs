//! The program itself, run as a process.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use tonic::transport::{Channel, Endpoint};

const VARIABLES: [&str; 34] = [
    "BILLING_DATABASE_CONNECTIONS",
    "BILLING_DATABASE_URL",
    "BILLING_ENCRYPTION_KEYS",
    "BILLING_ENCRYPTION_KEYS_FILE",
    "BILLING_INSECURE",
    "BILLING_JWKS_FILE",
    "BILLING_JWT_AUDIENCE",
    "BILLING_JWT_ISSUER",
    "BILLING_JWT_ROLES_CLAIM",
    "BILLING_LISTEN",
    "BILLING_LOG",
    "BILLING_TIPALTI_BASE_URL",
    "BILLING_TIPALTI_BATCH_LIMIT",
    "BILLING_TIPALTI_CLIENT_ID",
    "BILLING_TIPALTI_CLIENT_ID_FILE",
    "BILLING_TIPALTI_CLIENT_SECRET",
    "BILLING_TIPALTI_CLIENT_SECRET_FILE",
    "BILLING_TIPALTI_CODE_VERIFIER",
    "BILLING_TIPALTI_CODE_VERIFIER_FILE",
    "BILLING_TIPALTI_DOUBT_PERIOD",
    "BILLING_TIPALTI_MAX_RETRIES",
    "BILLING_TIPALTI_REFRESH_TOKEN",
    "BILLING_TIPALTI_REFRESH_TOKEN_FILE",
    "BILLING_TIPALTI_REQUEST_TIMEOUT",
    "BILLING_TIPALTI_SYNC_BATCH",
    "BILLING_TIPALTI_SYNC_INTERVAL",
    "BILLING_TIPALTI_TOKEN_URL",
    "BILLING_TIPALTI_WEBHOOK_SECRETS",
    "BILLING_TIPALTI_WEBHOOK_SECRETS_FILE",
    "BILLING_TLS_CERT_FILE",
    "BILLING_TLS_CLIENT_CA_FILE",
    "BILLING_TLS_KEY_FILE",
    "BILLING_TOKENS_FILE",
    "BILLING_WEBHOOK_LISTEN",
];

/// A command of the program in a folder, with these settings and no others.
pub(crate) fn program(command: &str, folder: &Path, settings: &[(&str, &str)]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_affiliate-billing"));
    program.arg(command).current_dir(folder).stdin(Stdio::null());
    for variable in VARIABLES {
        program.env_remove(variable);
    }
    program.envs(settings.iter().copied());
    program
}

/// Runs it to its end.
pub(crate) fn run(command: &str, folder: &Path, settings: &[(&str, &str)]) -> Output {
    program(command, folder, settings).output().unwrap()
}

/// Runs it, and gives what it says when it fails.
pub(crate) fn failure(command: &str, folder: &Path, settings: &[(&str, &str)]) -> String {
    let output = run(command, folder, settings);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// A server in a process of its own; killed when this is dropped.
pub(crate) struct Serving {
    /// What it printed until it served.
    pub(crate) lines: Vec<String>,
    child: Child,
    // A program that prints to nobody would fail.
    _stdout: BufReader<ChildStdout>,
}

impl Serving {
    /// Starts it on any free port, and reads what it prints up to the line that comes last.
    pub(crate) fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_with(folder, settings, Stdio::null())
    }

    /// The same, and adds its log to a file.
    pub(crate) fn start_with_log(folder: &Path, settings: &[(&str, &str)], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        Self::start_with(folder, settings, file.into())
    }

    /// The same, with its log kept for [`Self::end_with_log`].
    pub(crate) fn start_logged(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_with(folder, settings, Stdio::piped())
    }

    fn start_with(folder: &Path, settings: &[(&str, &str)], log: Stdio) -> Self {
        let mut command = program("serve", folder, &[("BILLING_LISTEN", "127.0.0.1:0")]);
        command.envs(settings.iter().copied());
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.starts_with("try: ")) {
            let mut line = String::new();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it ended after {lines:?}");
            lines.push(line.trim_end().to_owned());
        }
        Self {
            lines,
            child,
            _stdout: stdout,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.told("listening on ").unwrap()
    }

    /// Where it listens for webhooks; nowhere unless that was set.
    pub(crate) fn webhook_address(&self) -> Option<&str> {
        self.told("webhooks on ")
    }

    fn told(&self, what: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(what))
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address())).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Bytes of memory that it holds now.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes * 1024
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(mut self, signal: &str) -> ExitStatus {
        self.send(signal);
        self.child.wait().unwrap()
    }

    /// The same, with what it logged.
    pub(crate) fn end_with_log(mut self, signal: &str) -> (Option<i32>, String) {
        self.send(signal);
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
