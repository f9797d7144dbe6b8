//! One throw-away PostgreSQL cluster for a run of the tests, or a running server that the environment names.
//!
//! The cluster lives in a temporary folder, listens on a loopback port, and is stopped and removed however the run
//! ends: a watchdog process holds the other end of a pipe and acts when it closes, which not even `kill -9` prevents.

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Names a folder with `initdb` and `postgres`.
const BIN_VARIABLE: &str = "BILLING_TEST_POSTGRES_BIN";
/// Names a running server, as a user who may create databases.
const URL_VARIABLE: &str = "BILLING_TEST_POSTGRES_URL";

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
const PORT_TRIES: u32 = 5;
/// More than the tests' databases and their write-ahead log come to.
const MEMORY_FREE_KIBIBYTES_MIN: u64 = 6 * 1024 * 1024;
const LOG_TAIL_LINES: usize = 30;
/// A Unix socket's path may have 107 bytes on Linux, and 17 of them are the socket's own name.
const SOCKET_FOLDER_BYTES_MAX: usize = 85;

const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    // Durability against a crash of the machine is not under test. `synchronous_commit` stays on: it also decides when
    // others see a commit, and tests that kill the service rely on it.
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=on",
    "shared_buffers=128MB",
    "max_wal_size=2GB",
    "max_connections=300",
    "deadlock_timeout=200ms",
    "timezone=UTC",
    "log_timezone=UTC",
    "log_line_prefix=%m [%p] %d ",
];

/// Makes the cluster, starts the server, waits until its own input ends, which is when the test process has gone, and
/// then clears up.
const WATCHDOG: &str = r#"
folder=$1
bin=$2
as_user=$3
shift 3
trap '' HUP INT TERM
exec 3<&0 </dev/null >"$folder/log" 2>&1
for locale in C.UTF-8 C; do # the first is not everywhere
    $as_user "$bin/initdb" -D "$folder/data" -A trust -U postgres --no-sync -E UTF8 --locale="$locale" && break
done
$as_user "$bin/postgres" -D "$folder/data" "$@" 3<&- &
server=$!
(
    cat <&3 >/dev/null
    until [ -e "$folder/exited" ]; do # a server that has just been started does not hear it yet
        kill -QUIT "$server"
        sleep 0.1
    done
) &
wait "$server"
: >"$folder/exited"
wait
rm -rf "$folder"
"#;

/// What looking for PostgreSQL led to.
pub(crate) enum Found {
    Started(Postgres),
    /// There is none; says how to add it.
    NotFound(String),
}

/// A PostgreSQL server to make databases on.
pub(crate) struct Postgres {
    /// What stands before and after the database's name in a URL.
    url_before: String,
    url_after: String,
    admin_url: String,
    /// Databases are made and dropped one at a time: a template must have no other user meanwhile.
    admin: Mutex<Option<DatabaseConnection>>,
    /// Stops the cluster when dropped. None when the environment named a running server.
    cluster: Option<Cluster>,
}

impl Postgres {
    /// Takes the server that the environment names, else starts a cluster of its own.
    pub(crate) fn start() -> Result<Found, String> {
        if let Some(url) = variable(URL_VARIABLE) {
            let url = url.into_string().map_err(|_| format!("{URL_VARIABLE} is not UTF-8"))?;
            return Self::at(&url, None).map(Found::Started);
        }
        let Some(bin) = find_bin()? else {
            return Ok(Found::NotFound(format!(
                "install PostgreSQL (Debian: `apt-get install postgresql`; the server need not run), or set\n\
                 {BIN_VARIABLE} to the folder that has `initdb` and `postgres`, or set\n\
                 {URL_VARIABLE} to the URL of a running server, as a user who may create databases"
            )));
        };
        let cluster = Cluster::start(&bin)?;
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", cluster.port);
        Self::at(&url, Some(cluster)).map(Found::Started)
    }

    fn at(admin_url: &str, cluster: Option<Cluster>) -> Result<Self, String> {
        let malformed = || format!("{URL_VARIABLE} must look like postgres://user:password@host:port/database");
        let (scheme, rest) = admin_url.split_once("://").ok_or_else(malformed)?;
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(malformed());
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, format!("?{query}")),
            None => (rest, String::new()),
        };
        let authority = rest.split_once('/').map_or(rest, |(authority, _database)| authority);
        Ok(Self {
            url_before: format!("{scheme}://{authority}/"),
            url_after: query,
            admin_url: admin_url.to_owned(),
            admin: Mutex::new(None),
            cluster,
        })
    }

    /// Whether the server goes away with this run, and with it all that is on it.
    pub(crate) fn is_throw_away(&self) -> bool {
        self.cluster.is_some()
    }

    /// The URL of a database on this server.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("{}{database}{}", self.url_before, self.url_after)
    }

    /// Makes a database, empty or as a copy of another that nobody is connected to, and gives its URL.
    pub(crate) async fn create_database(&self, name: &str, template: Option<&str>) -> Result<String, String> {
        let template = template.map_or(String::new(), |template| format!(" TEMPLATE {}", quoted(template)));
        self.execute(&format!("CREATE DATABASE {}{template}", quoted(name)))
            .await?;
        Ok(self.url(name))
    }

    /// Keeps everybody from connecting to a database, so that it can be copied at any time.
    pub(crate) async fn close_database(&self, name: &str) -> Result<(), String> {
        self.execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", quoted(name)))
            .await
    }

    /// Drops a database, whoever is still connected to it.
    pub(crate) async fn drop_database(&self, name: &str) -> Result<(), String> {
        self.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name)))
            .await
    }

    /// Connects, so that a server that is not there fails the run and not each of its tests.
    pub(crate) async fn connect(&self) -> Result<(), String> {
        self.execute("SELECT 1").await
    }

    async fn execute(&self, statement: &str) -> Result<(), String> {
        let mut admin = self.admin.lock().await;
        let connection = match admin.take() {
            Some(connection) => connection,
            None => connect(&self.admin_url).await?,
        };
        let done = connection.execute_unprepared(statement).await;
        *admin = Some(connection);
        match done {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{statement}: {error}")),
        }
    }

    /// Closes the connection; the cluster stops when this is dropped.
    pub(crate) async fn disconnect(&self) {
        if let Some(connection) = self.admin.lock().await.take() {
            // Nothing is lost with a connection that fails to close.
            let _ = connection.close().await;
        }
    }
}

async fn connect(url: &str) -> Result<DatabaseConnection, String> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(1)
        .sqlx_logging(false)
        .acquire_timeout(CONNECT_LIMIT);
    Database::connect(options)
        .await
        .map_err(|error| format!("cannot connect to PostgreSQL: {error}"))
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Finds the folder with PostgreSQL's programs. One that the environment names must be right.
fn find_bin() -> Result<Option<PathBuf>, String> {
    if let Some(folder) = variable(BIN_VARIABLE) {
        let folder = PathBuf::from(folder);
        return match works(&folder) {
            Ok(()) => Ok(Some(folder)),
            Err(error) => Err(format!("{BIN_VARIABLE}: {error}")),
        };
    }
    let on_path = variable("PATH").map_or(Vec::new(), |path| std::env::split_paths(&path).collect());
    Ok(packaged_bins()
        .into_iter()
        .chain(on_path)
        .find(|folder| works(folder).is_ok()))
}

/// Where Debian puts the versions that are installed side by side, newest first.
fn packaged_bins() -> Vec<PathBuf> {
    let mut versions = Vec::new();
    for folder in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        if let Some(version) = folder.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) {
            versions.push((version, folder.path().join("bin")));
        }
    }
    versions.sort();
    versions.into_iter().rev().map(|(_version, bin)| bin).collect()
}

/// Runs the programs, as a file of that name may be a wrapper for something that is not installed.
fn works(folder: &Path) -> Result<(), String> {
    for program in ["initdb", "postgres"] {
        let program = folder.join(program);
        if !program.is_file() {
            return Err(format!("there is no {}", program.display()));
        }
        run(Command::new(&program).arg("--version"))?;
    }
    Ok(())
}

/// A running cluster with its watchdog.
struct Cluster {
    port: u16,
    watchdog: Child,
    /// Removed by the watchdog; this removes what is left if the watchdog could not.
    folder: TempDir,
}

impl Cluster {
    fn start(bin: &Path) -> Result<Self, String> {
        let mut tries = 0;
        loop {
            tries += 1;
            // A port that was free a moment ago can be taken by now; then the next one is tried.
            match Self::start_on(bin, free_port()?) {
                Err(error) if error.contains("Address already in use") && tries < PORT_TRIES => {}
                outcome => return outcome,
            }
        }
    }

    fn start_on(bin: &Path, port: u16) -> Result<Self, String> {
        let folder = make_folder().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let mut command = Command::new("sh");
        command.args(["-c", WATCHDOG, "sh"]).arg(folder.path()).arg(bin);
        command.arg(server_user(folder.path())?);
        command.args(["-p", &port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args([
            "-c",
            &format!("unix_socket_directories={}", socket_folder(folder.path())),
        ]);
        // Of its own process group, so that an interrupt from the terminal ends the tests and not the watchdog. It must
        // not hold the tests' output open either, or whoever reads that waits for it.
        let watchdog = command
            .process_group(0)
            .current_dir(folder.path())
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot run sh: {error}"))?;
        let cluster = Self { port, watchdog, folder };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// Waits until the server says in its pid file that it accepts connections, and it does.
    fn wait_until_ready(&self) -> Result<(), String> {
        let pid_file = self.folder.path().join("data").join("postmaster.pid");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if self.folder.path().join("exited").exists() {
                return Err(format!("PostgreSQL did not start:\n{}", self.log_tail()));
            }
            let content = fs::read_to_string(&pid_file).unwrap_or_default();
            let is_ready = content.lines().nth(7).is_some_and(|status| status.trim() == "ready");
            if is_ready && TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(format!(
            "PostgreSQL was not ready within {} s:\n{}",
            START_LIMIT.as_secs(),
            self.log_tail()
        ))
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines
            .get(lines.len().saturating_sub(LOG_TAIL_LINES)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The end of its input tells the watchdog to stop the server.
        drop(self.watchdog.stdin.take());
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            match self.watchdog.try_wait() {
                Ok(None) => thread::sleep(POLL),
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }
}

/// Makes the cluster's folder: in memory, where there is plenty of it and nobody has said where temporary files go, as
/// making and dropping databases is several times faster there.
fn make_folder() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("billing-postgres-");
    let memory = Path::new("/dev/shm");
    if variable("TMPDIR").is_none() && free_kibibytes(memory).is_some_and(|free| free >= MEMORY_FREE_KIBIBYTES_MIN) {
        return builder.tempdir_in(memory).or_else(|_| builder.tempdir());
    }
    builder.tempdir()
}

fn free_kibibytes(folder: &Path) -> Option<u64> {
    let output = run(Command::new("df").arg("-Pk").arg(folder)).ok()?;
    let table = String::from_utf8_lossy(&output.stdout);
    table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

/// The command to run PostgreSQL with, as it refuses root; none when this process is another user, which the owner of a
/// folder that it made tells. Else the folder is handed to the server's user.
fn server_user(folder: &Path) -> Result<String, String> {
    let described = |error: io::Error| format!("{}: {error}", folder.display());
    if fs::metadata(folder).map_err(described)?.uid() != 0 {
        return Ok(String::new());
    }
    let (uid, gid) = ids_of("postgres").or_else(|_| ids_of("nobody"))?;
    chown(folder, Some(uid), Some(gid)).map_err(described)?;
    Ok(format!("setpriv --reuid={uid} --regid={gid} --clear-groups"))
}

fn ids_of(user: &str) -> Result<(u32, u32), String> {
    let id = |flag: &str| -> Result<u32, String> {
        let output = run(Command::new("id").args([flag, user]))?;
        let number = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        number.parse().map_err(|_| format!("id {flag} {user}: {number}"))
    };
    Ok((id("-u")?, id("-g")?))
}

/// A random port that nobody listens on, below those that the system hands out for connections.
fn free_port() -> Result<u16, String> {
    for _ in 0..100 {
        let [low, high, ..] = RandomState::new().hash_one(std::process::id()).to_le_bytes();
        let port = 20_000 + u16::from_le_bytes([low, high]) % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err("found no free port for PostgreSQL".to_owned())
}

fn socket_folder(folder: &Path) -> String {
    // None at all is better than no start: the tests connect over TCP.
    let folder = folder.display().to_string();
    if folder.len() > SOCKET_FOLDER_BYTES_MAX {
        String::new()
    } else {
        folder
    }
}

/// Runs a program to its end, quietly; its words are in the error when it fails.
fn run(command: &mut Command) -> Result<Output, String> {
    let name = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", name.display()))?;
    if output.status.success() {
        return Ok(output);
    }
    let words = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    Err(format!(
        "{} failed ({}):\n{}",
        name.display(),
        output.status,
        String::from_utf8_lossy(&words).trim_end()
    ))
}
