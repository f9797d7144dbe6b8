//! Settings, from `BILLING_*` environment variables. Every wrong one is reported at once, and no secret is ever shown.

mod access;
mod change_control;
mod tipalti;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use self::access::Missing;
pub use self::tipalti::WebhookConfig;
use crate::authentication::Access;
use crate::billing::{ChangeControl, PayoutOptions};
use crate::domain::sensitive::Sensitive;
use crate::payout::ProviderSettings;
use crate::store::keys::KeyRing;
use crate::store::sealing::SealingKeys;
use crate::store::{Backend, StoreOptions, backend_of, sqlite_path, with_suffix};

const LISTEN: &str = "BILLING_LISTEN";
const DATABASE_URL: &str = "BILLING_DATABASE_URL";
const ENCRYPTION_KEYS: &str = "BILLING_ENCRYPTION_KEYS";
const ENCRYPTION_KEYS_FILE: &str = "BILLING_ENCRYPTION_KEYS_FILE";
const INSECURE: &str = "BILLING_INSECURE";
const DATABASE_CONNECTIONS: &str = "BILLING_DATABASE_CONNECTIONS";

const DEFAULT_LISTEN: &str = "127.0.0.1:50051";
const DEFAULT_DATABASE_URL: &str = "sqlite://data/billing.db";
const DEFAULT_CONNECTIONS: u32 = 16;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// The settings of a process.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// What keeps strangers out.
    pub access: Access,
    /// What of it is missing.
    pub missing: Vec<Missing>,
    /// The database, with its keys.
    pub store: StoreOptions,
    /// The file of the keys, where they come from one.
    pub key_file: KeyFile,
    /// How to reach payout providers.
    pub providers: ProviderSettings,
    /// How payouts are refreshed.
    pub payouts: PayoutOptions,
    /// What is asked for before money goes to somewhere new, or leaves at all.
    pub change_control: ChangeControl,
    /// Where webhooks are listened for; nowhere by default.
    pub webhook: Option<WebhookConfig>,
}

/// The environment, or what stands for it.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// A variable that is set and not empty.
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// Whether a secret, or the file that it is in, is named.
    fn is_secret_set(&self, name: &str) -> bool {
        self.get(name).is_some() || self.get(&format!("{name}_FILE")).is_some()
    }

    /// A secret: the variable itself, or the first line of the file that the variable with `_FILE` behind its name names.
    fn secret(&self, name: &str, problems: &mut Vec<String>) -> Option<Sensitive> {
        let file_variable = format!("{name}_FILE");
        match (self.get(name), self.get(&file_variable)) {
            (Some(_), Some(_)) => {
                problems.push(format!("{name} and {file_variable} are both set: set one of them"));
                None
            }
            (Some(text), None) => Some(Sensitive::new(text)),
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) => Some(Sensitive::new(text.lines().next().unwrap_or_default().trim())),
                Err(error) => {
                    problems.push(format!("{file_variable}: can't read {path}: {error}"));
                    None
                }
            },
            (None, None) => None,
        }
    }
}

/// Where the keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFile {
    /// From the environment.
    Unused,
    /// From a file that was there, and is read again while the service runs.
    Found(std::path::PathBuf),
    /// From a file that was made now.
    Created(std::path::PathBuf),
}

/// Settings that are wrong, all of them.
#[derive(Debug)]
pub struct ConfigError {
    /// One line each: the variable and what to do.
    pub problems: Vec<String>,
}

/// What a command needs of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To listen and to write: everything, and a key file may be made.
    Serve,
    /// To seal the database anew: no address is needed, and nothing is made.
    Keys,
    /// To migrate or check the database: neither an address nor keys are needed, and nothing is made.
    Database,
}

impl Config {
    /// Reads the settings through `variable`, usually [`std::env::var`].
    pub fn load(purpose: Purpose, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let variables = Variables(&variable);
        let variable = |name: &str| variables.get(name);
        let mut problems = Vec::new();
        let insecure = switch(INSECURE, variable(INSECURE), &mut problems);
        let listen = listen_address(variable(LISTEN), &mut problems);
        let access = match purpose {
            Purpose::Serve => access::load(&variables, &mut problems),
            Purpose::Keys | Purpose::Database => Access::default(),
        };
        if let (Purpose::Serve, Some(listen)) = (purpose, listen) {
            access::check(&access, listen, insecure, &mut problems);
        }
        let change_control = match purpose {
            Purpose::Serve => change_control::load(&variables, &access, &mut problems),
            Purpose::Keys | Purpose::Database => ChangeControl::default(),
        };
        let url = variable(DATABASE_URL).unwrap_or_else(|| DEFAULT_DATABASE_URL.to_owned());
        if backend_of(&url).is_none() || (url.starts_with("sqlite") && sqlite_path(&url).is_none()) {
            problems.push(format!(
                "{DATABASE_URL} must be sqlite://path/to/file.db or postgres://user@host/database"
            ));
        }
        let max_connections = connections(variable(DATABASE_CONNECTIONS), &mut problems);
        let tipalti = match purpose {
            Purpose::Serve => tipalti::load(&variables, insecure, &mut problems),
            Purpose::Keys | Purpose::Database => tipalti::TipaltiConfig::default(),
        };
        // Keys last: a key file is made only when all else is right.
        let keys = encryption_keys(&variables, &url, purpose, &mut problems);
        match (listen, keys) {
            (Some(listen), Some((keys, key_file))) if problems.is_empty() => {
                let store = StoreOptions {
                    url,
                    keys,
                    max_connections,
                    acquire_timeout: ACQUIRE_TIMEOUT,
                };
                Ok(Self {
                    listen,
                    missing: access::missing(&access, listen),
                    access,
                    store,
                    key_file,
                    providers: ProviderSettings {
                        tipalti: tipalti.client,
                    },
                    payouts: tipalti.options,
                    change_control,
                    webhook: tipalti.webhook,
                })
            }
            _ => Err(ConfigError { problems }),
        }
    }

    /// The database's URL without user, password and parameters.
    #[must_use]
    pub fn database_shown(&self) -> String {
        shown(&self.store.url)
    }
}

fn shown(url: &str) -> String {
    let without_parameters = url.split('?').next().unwrap_or(url);
    match without_parameters.split_once("://") {
        Some((scheme, rest)) => {
            let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}://{rest}")
        }
        None => without_parameters.to_owned(),
    }
}

/// A setting that is on or off, and off by default.
fn switch(name: &str, text: Option<String>, problems: &mut Vec<String>) -> bool {
    match text.as_deref() {
        None | Some("0" | "false") => false,
        Some("1" | "true") => true,
        Some(_) => {
            problems.push(format!("{name} must be 1 or 0"));
            false
        }
    }
}

fn listen_address(listen: Option<String>, problems: &mut Vec<String>) -> Option<SocketAddr> {
    let text = listen.unwrap_or_else(|| DEFAULT_LISTEN.to_owned());
    let address = text.parse().ok();
    if address.is_none() {
        problems.push(format!(
            "{LISTEN} must be an IP address and a port, such as {DEFAULT_LISTEN}"
        ));
    }
    address
}

fn connections(text: Option<String>, problems: &mut Vec<String>) -> u32 {
    let Some(text) = text else {
        return DEFAULT_CONNECTIONS;
    };
    match text.parse::<u32>() {
        Ok(number) if (1..=1000).contains(&number) => number,
        _ => {
            problems.push(format!("{DATABASE_CONNECTIONS} must be a number from 1 to 1000"));
            DEFAULT_CONNECTIONS
        }
    }
}

fn encryption_keys(
    variables: &Variables<'_>,
    url: &str,
    purpose: Purpose,
    problems: &mut Vec<String>,
) -> Option<(KeyRing, KeyFile)> {
    let found = match (variables.get(ENCRYPTION_KEYS), variables.get(ENCRYPTION_KEYS_FILE)) {
        (Some(_), Some(_)) => Err(format!(
            "{ENCRYPTION_KEYS} and {ENCRYPTION_KEYS_FILE} are both set: set one of them"
        )),
        (Some(text), None) => SealingKeys::parse(&text)
            .map(|keys| (KeyRing::fixed(keys), KeyFile::Unused))
            .map_err(|problem| format!("{ENCRYPTION_KEYS}: {problem}")),
        (None, Some(path)) => KeyRing::file(Path::new(&path))
            .map(|keys| (keys, KeyFile::Found(path.into())))
            .map_err(|problem| format!("{ENCRYPTION_KEYS_FILE}: {problem}")),
        (None, None) if purpose == Purpose::Database => Ok((KeyRing::fixed(SealingKeys::none()), KeyFile::Unused)),
        (None, None) => match (backend_of(url), sqlite_path(url)) {
            (Some(Backend::Sqlite), Some(path)) if problems.is_empty() => {
                let may_make = purpose == Purpose::Serve && !path.exists();
                keys_from_file(&with_suffix(&path, ".keys"), may_make)
            }
            (Some(Backend::Sqlite), _) | (None, _) => return None,
            (Some(Backend::Postgres), _) => Err(format!(
                "{ENCRYPTION_KEYS} is required with PostgreSQL, or {ENCRYPTION_KEYS_FILE}: id:base64 of 32 random bytes, such as k1:$(head -c 32 /dev/urandom | base64)"
            )),
        },
    };
    found.map_err(|problem| problems.push(problem)).ok()
}

/// The key file beside an embedded database: read, or made where there is neither it nor the database.
fn keys_from_file(path: &Path, may_make: bool) -> Result<(KeyRing, KeyFile), String> {
    if may_make && !path.exists() {
        let text = SealingKeys::generate("file-1")?;
        write_private(path, &text).map_err(|error| format!("can't write {}: {error}", path.display()))?;
        return Ok((KeyRing::file(path)?, KeyFile::Created(path.to_owned())));
    }
    if path.exists() {
        return Ok((KeyRing::file(path)?, KeyFile::Found(path.to_owned())));
    }
    Err(format!(
        "can't read the key file {}: personal data in the database beside it can't be read without; restore it, or set {ENCRYPTION_KEYS}",
        path.display()
    ))
}

/// Writes a new file that its owner alone can read, durably: what is sealed with a lost key is lost.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(Purpose::Serve, |name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    const KEYS: (&str, &str) = (ENCRYPTION_KEYS, "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");

    #[test]
    fn all_problems_are_told_at_once_without_secrets() {
        let error = load(&[
            (LISTEN, "nowhere"),
            (DATABASE_URL, "mysql://u:secret@h/d"),
            (DATABASE_CONNECTIONS, "0"),
            (INSECURE, "yes"),
        ])
        .unwrap_err();
        assert_eq!(error.problems.len(), 4, "{error}");
        assert!(!error.to_string().contains("secret"));
        let error = load(&[(LISTEN, "nowhere"), (ENCRYPTION_KEYS, "secret")]).unwrap_err();
        assert_eq!(error.problems.len(), 2, "{error}");
        assert!(!error.to_string().contains("secret"));
        let error = load(&[(LISTEN, "nowhere"), (DATABASE_URL, "postgres://h/d")]).unwrap_err();
        assert_eq!(error.problems.len(), 2, "{error}");
    }

    #[test]
    fn listening_for_others_needs_consent() {
        assert!(load(&[KEYS, (LISTEN, "0.0.0.0:50051")]).is_err());
        assert!(load(&[KEYS, (LISTEN, "0.0.0.0:50051"), (INSECURE, "1")]).is_ok());
        assert!(load(&[KEYS, (LISTEN, "[::1]:50051")]).is_ok());
    }

    #[test]
    fn keys_come_from_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let url = (DATABASE_URL, "postgres://h/d");
        let file = (ENCRYPTION_KEYS_FILE, path.to_str().unwrap());
        let refused = |variables: &[(&str, &str)]| load(variables).unwrap_err().to_string();
        assert!(refused(&[url, file]).contains(ENCRYPTION_KEYS_FILE), "it is not there");
        std::fs::write(&path, "zqkey").unwrap();
        let problem = refused(&[url, file]);
        assert!(
            problem.contains(ENCRYPTION_KEYS_FILE) && !problem.contains("zqkey"),
            "{problem}"
        );
        std::fs::write(&path, format!("{}\n", KEYS.1)).unwrap();
        assert_eq!(load(&[url, file]).unwrap().key_file, KeyFile::Found(path.clone()));
        assert!(refused(&[url, file, KEYS]).contains("both set"));
    }

    #[test]
    fn postgres_needs_keys() {
        let error = load(&[(DATABASE_URL, "postgres://u:secret@h/d")]).unwrap_err();
        assert!(error.to_string().contains(ENCRYPTION_KEYS));
        let config = load(&[KEYS, (DATABASE_URL, "postgres://u:secret@h/d?password=x")]).unwrap();
        assert_eq!(config.database_shown(), "postgres://h/d");
        assert!(!format!("{:?}", config.store.keys).contains("AAAA"));
    }
}
