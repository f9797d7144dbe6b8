//! A throw-away PostgreSQL with its own folder, in which everything is durable as in production.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Outcome;

const BIN_VARIABLE: &str = "BILLING_TEST_POSTGRES_BIN";
const START_LIMIT: Duration = Duration::from_secs(60);

/// Starts the server and stops it when its own input ends, which is when the benchmark has gone, however that ended.
const WATCHDOG: &str = r#"
folder=$1
shift
trap '' HUP INT TERM
exec 3<&0 </dev/null >"$folder/log" 2>&1
"$@" 3<&- &
server=$!
cat <&3 >/dev/null
kill -INT "$server"
wait "$server"
rm -rf "$folder"
"#;

/// A running server; stopped and removed when this is dropped.
pub(crate) struct Cluster {
    bin: PathBuf,
    port: u16,
    watchdog: Child,
    folder: TempDir,
}

impl Cluster {
    /// Makes a cluster with PostgreSQL's defaults but for `shared_buffers`, `max_wal_size` and what `settings` adds.
    pub(crate) fn start(settings: &[String]) -> Outcome<Self> {
        let bin = find_bin()?;
        let folder = tempfile::Builder::new().prefix("billing-bench-").tempdir()?;
        let as_user = server_user(folder.path())?;
        let data = folder.path().join("data");
        let mut initdb = words(&as_user);
        initdb.push(bin.join("initdb").display().to_string());
        initdb.extend(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D"].map(str::to_owned));
        initdb.push(data.display().to_string());
        run(&initdb)?;
        let port = free_port()?;
        let mut server = words(&as_user);
        server.push(bin.join("postgres").display().to_string());
        server.extend([
            "-D".to_owned(),
            data.display().to_string(),
            "-p".to_owned(),
            port.to_string(),
        ]);
        let fixed = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", folder.path().display()),
            "shared_buffers=1GB".to_owned(),
            "max_wal_size=8GB".to_owned(),
            "synchronous_commit=on".to_owned(),
        ];
        for setting in fixed.iter().chain(settings) {
            server.extend(["-c".to_owned(), setting.clone()]);
        }
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "sh"])
            .arg(folder.path())
            .args(&server)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let cluster = Self {
            bin,
            port,
            watchdog,
            folder,
        };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// The URL of its one database.
    pub(crate) fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// A program of this PostgreSQL, such as `pgbench`, told where the server is.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres");
        command
    }

    fn wait_until_ready(&self) -> Outcome<()> {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            let ready = self.program("pg_isready").stdout(Stdio::null()).status();
            if ready.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        Err(format!("PostgreSQL did not start:\n{log}").into())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // The folder is removed either way; nothing is left to be said about a server that does not end.
        let _ = self.watchdog.wait();
    }
}

fn find_bin() -> Outcome<PathBuf> {
    if let Some(folder) = std::env::var_os(BIN_VARIABLE) {
        return Ok(PathBuf::from(folder));
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|folder| Some((folder.file_name().to_str()?.parse().ok()?, folder.path().join("bin"))))
        .collect();
    versions.sort();
    if let Some((_, bin)) = versions.pop() {
        return Ok(bin);
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&on_path)
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .ok_or_else(|| {
            format!("install PostgreSQL, or set {BIN_VARIABLE} to the folder with initdb and postgres").into()
        })
}

/// What to put before a command so that PostgreSQL, which refuses root, runs it; the folder is handed to that user.
fn server_user(folder: &Path) -> Outcome<String> {
    if fs::metadata(folder)?.uid() != 0 {
        return Ok(String::new());
    }
    let id = |flag: &str| -> Outcome<u32> {
        let output = Command::new("id").args([flag, "postgres"]).output()?;
        let number = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        number
            .parse()
            .map_err(|_| "run this as another user than root, or add a user postgres".into())
    };
    let (user, group) = (id("-u")?, id("-g")?);
    chown(folder, Some(user), Some(group))?;
    Ok(format!("setpriv --reuid={user} --regid={group} --clear-groups"))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn run(command: &[String]) -> Outcome<()> {
    let (program, arguments) = command.split_first().ok_or("an empty command")?;
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr)).into())
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
