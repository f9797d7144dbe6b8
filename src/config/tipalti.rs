//! Settings of Tipalti: how it is reached, how often it is asked, and its webhook.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::Url;

use super::Variables;
use crate::billing::PayoutOptions;
use crate::domain::sensitive::Sensitive;
use crate::payout::tipalti::TipaltiSettings;

const BASE_URL: &str = "BILLING_TIPALTI_BASE_URL";
const TOKEN_URL: &str = "BILLING_TIPALTI_TOKEN_URL";
const CLIENT_ID: &str = "BILLING_TIPALTI_CLIENT_ID";
const CLIENT_SECRET: &str = "BILLING_TIPALTI_CLIENT_SECRET";
const REFRESH_TOKEN: &str = "BILLING_TIPALTI_REFRESH_TOKEN";
const CODE_VERIFIER: &str = "BILLING_TIPALTI_CODE_VERIFIER";
const WEBHOOK_SECRETS: &str = "BILLING_TIPALTI_WEBHOOK_SECRETS";
const BATCH_LIMIT: &str = "BILLING_TIPALTI_BATCH_LIMIT";
const SYNC_INTERVAL: &str = "BILLING_TIPALTI_SYNC_INTERVAL";
const SYNC_BATCH: &str = "BILLING_TIPALTI_SYNC_BATCH";
const REQUEST_TIMEOUT: &str = "BILLING_TIPALTI_REQUEST_TIMEOUT";
const MAX_RETRIES: &str = "BILLING_TIPALTI_MAX_RETRIES";
const DOUBT_PERIOD: &str = "BILLING_TIPALTI_DOUBT_PERIOD";
const WEBHOOK_LISTEN: &str = "BILLING_WEBHOOK_LISTEN";

/// Webhook secrets at most: more than a rotation needs.
const MAX_SECRETS: usize = 4;
const DAY: Duration = Duration::from_secs(86_400);

/// Where webhooks are listened for, and the secrets that they are signed with.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Secrets of Tipalti's webhook, any of which counts.
    pub tipalti_secrets: Vec<Sensitive>,
}

/// All that is about Tipalti.
#[derive(Debug, Clone, Default)]
pub(super) struct TipaltiConfig {
    pub(super) client: Option<TipaltiSettings>,
    pub(super) options: PayoutOptions,
    pub(super) webhook: Option<WebhookConfig>,
}

/// Reads it, and notes every problem.
pub(super) fn load(variables: &Variables<'_>, insecure: bool, problems: &mut Vec<String>) -> TipaltiConfig {
    let client = client(variables, insecure, problems);
    let mut options = PayoutOptions::default();
    if let Some(client) = &client {
        // A look-up is asked again after a failure, and may have several pages: a share of what that takes at most.
        options.claim_time = client.request_timeout.saturating_mul(4);
    }
    options.sync_interval = duration(
        variables,
        SYNC_INTERVAL,
        options.sync_interval,
        Duration::from_millis(100),
        problems,
    );
    options.sync_batch = number(variables, SYNC_BATCH, options.sync_batch, 1, 5000, problems);
    TipaltiConfig {
        client,
        options,
        webhook: webhook(variables, problems),
    }
}

fn client(variables: &Variables<'_>, insecure: bool, problems: &mut Vec<String>) -> Option<TipaltiSettings> {
    let base_url = variables.get(BASE_URL);
    let token_url = variables.get(TOKEN_URL);
    let client_id = variables.secret(CLIENT_ID, problems);
    let client_secret = variables.secret(CLIENT_SECRET, problems);
    let refresh_token = variables.secret(REFRESH_TOKEN, problems);
    let is_any_set = base_url.is_some() || client_id.is_some() || client_secret.is_some() || refresh_token.is_some();
    if !is_any_set {
        return None;
    }
    let mut require = |name: &str, is_set: bool| {
        if !is_set {
            problems.push(format!("{name} is required where Tipalti is used"));
        }
    };
    require(BASE_URL, base_url.is_some());
    // One that is set and could not be read is told already.
    require(CLIENT_ID, variables.is_secret_set(CLIENT_ID));
    require(CLIENT_SECRET, variables.is_secret_set(CLIENT_SECRET));
    require(REFRESH_TOKEN, variables.is_secret_set(REFRESH_TOKEN));
    for (name, url) in [(BASE_URL, &base_url), (TOKEN_URL, &token_url)] {
        if let Some(url) = url {
            check_url(name, url, insecure, problems);
        }
    }
    let mut settings = TipaltiSettings::new(base_url?, client_id?, client_secret?, refresh_token?);
    settings.token_url = token_url;
    settings.code_verifier = variables.secret(CODE_VERIFIER, problems);
    settings.batch_limit = number(variables, BATCH_LIMIT, settings.batch_limit, 1, 1000, problems);
    settings.request_timeout = duration(
        variables,
        REQUEST_TIMEOUT,
        settings.request_timeout,
        Duration::from_millis(50),
        problems,
    );
    let least_doubt = settings.request_timeout * 2;
    settings.doubt_period = duration(
        variables,
        DOUBT_PERIOD,
        settings.doubt_period.max(least_doubt),
        least_doubt,
        problems,
    );
    let retries = number(variables, MAX_RETRIES, 4, 0, 10, problems);
    settings.max_retries = u32::try_from(retries).unwrap_or_default();
    Some(settings)
}

/// Credentials go there: in clear on this machine only.
fn check_url(name: &str, text: &str, insecure: bool, problems: &mut Vec<String>) {
    let Ok(url) = Url::parse(text) else {
        problems.push(format!("{name} must be a URL, such as https://api-p.tipalti.com"));
        return;
    };
    let host = url.host_str().unwrap_or_default();
    let is_here = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if url.scheme() != "https" && !is_here && !insecure {
        problems.push(format!(
            "{name} must begin with https://, for credentials go there; http:// is for this machine alone"
        ));
    }
}

fn webhook(variables: &Variables<'_>, problems: &mut Vec<String>) -> Option<WebhookConfig> {
    let secrets = variables.secret(WEBHOOK_SECRETS, problems);
    let listen = variables.get(WEBHOOK_LISTEN)?;
    let Ok(address) = listen.parse::<SocketAddr>() else {
        problems.push(format!(
            "{WEBHOOK_LISTEN} must be an IP address and a port, such as 127.0.0.1:8080"
        ));
        return None;
    };
    let Some(secrets) = secrets else {
        problems.push(format!(
            "{WEBHOOK_SECRETS} is required with {WEBHOOK_LISTEN}: without it anybody could say that a payment was made"
        ));
        return None;
    };
    let secrets: Vec<Sensitive> = secrets.as_str().split(',').map(str::trim).map(Sensitive::new).collect();
    if secrets.len() > MAX_SECRETS || secrets.iter().any(|secret| secret.as_str().is_empty()) {
        problems.push(format!(
            "{WEBHOOK_SECRETS} must be 1 to {MAX_SECRETS} secrets with commas between them"
        ));
        return None;
    }
    Some(WebhookConfig {
        listen: address,
        tipalti_secrets: secrets,
    })
}

fn number(
    variables: &Variables<'_>,
    name: &str,
    default: usize,
    least: usize,
    most: usize,
    problems: &mut Vec<String>,
) -> usize {
    let Some(text) = variables.get(name) else {
        return default;
    };
    match text.parse::<usize>() {
        Ok(number) if (least..=most).contains(&number) => number,
        _ => {
            problems.push(format!("{name} must be a number from {least} to {most}"));
            default
        }
    }
}

/// `90s`, `5m`, `1h 30m`, `250ms`, or a plain number of seconds; at most a day.
fn duration(
    variables: &Variables<'_>,
    name: &str,
    default: Duration,
    least: Duration,
    problems: &mut Vec<String>,
) -> Duration {
    let Some(text) = variables.get(name) else {
        return default;
    };
    let parsed = match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(u64::from(seconds))),
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok()),
    };
    match parsed {
        Some(duration) if (least..=DAY).contains(&duration) => duration,
        _ => {
            problems.push(format!(
                "{name} must be a time from {} ms to a day, such as 30s, 5m, 1h or a number of seconds",
                least.as_millis()
            ));
            default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_all(set: &[(&str, &str)]) -> (TipaltiConfig, Vec<String>) {
        let find = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut problems = Vec::new();
        let config = load(&Variables(&find), false, &mut problems);
        (config, problems)
    }

    const ALL: [(&str, &str); 4] = [
        (BASE_URL, "https://api-p.tipalti.com"),
        (CLIENT_ID, "id"),
        (CLIENT_SECRET, "zqsecret"),
        (REFRESH_TOKEN, "zqtoken"),
    ];

    #[test]
    fn nothing_set_is_no_tipalti() {
        let (config, problems) = load_all(&[]);
        assert!(config.client.is_none() && config.webhook.is_none() && problems.is_empty());
    }

    #[test]
    fn one_without_the_others_is_told() {
        for left_out in 0..ALL.len() {
            let mut some = ALL.to_vec();
            let (name, _) = some.remove(left_out);
            let (config, problems) = load_all(&some);
            assert!(config.client.is_none());
            assert!(problems.len() == 1 && problems[0].contains(name), "{problems:?}");
            assert!(!problems[0].contains("zq"));
        }
        assert!(load_all(&ALL).1.is_empty());
    }

    #[test]
    fn credentials_go_over_plain_http_to_this_machine_alone() {
        for (url, is_fine) in [
            ("http://127.0.0.1:8099", true),
            ("http://localhost:8099", true),
            ("http://[::1]:8099", true),
            ("http://10.0.0.1", false),
            ("http://api-p.tipalti.com", false),
            ("https://api-p.tipalti.com", true),
            ("nonsense", false),
        ] {
            let mut all = ALL.to_vec();
            all[0].1 = url;
            assert_eq!(load_all(&all).1.is_empty(), is_fine, "{url}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, expected) in [
            ("5m", Some(300_000)),
            ("1h 30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("7", Some(7000)),
            ("0", None),
            ("-5s", None),
            ("2d", None),
            ("soon", None),
        ] {
            let (config, problems) = load_all(&[(SYNC_INTERVAL, text)]);
            let millis = u64::try_from(config.options.sync_interval.as_millis()).unwrap();
            assert_eq!(problems.is_empty().then_some(millis), expected, "{text}");
        }
    }

    #[test]
    fn a_webhook_needs_secrets_and_shows_none() {
        let listen = (WEBHOOK_LISTEN, "127.0.0.1:0");
        assert!(load_all(&[listen]).1[0].contains(WEBHOOK_SECRETS));
        let (config, problems) = load_all(&[listen, (WEBHOOK_SECRETS, "zqone, zqtwo")]);
        assert!(problems.is_empty());
        assert!(!format!("{config:?}").contains("zq"));
        assert_eq!(
            config.webhook.unwrap().tipalti_secrets,
            [Sensitive::new("zqone"), Sensitive::new("zqtwo")]
        );
        assert_eq!(load_all(&[listen, (WEBHOOK_SECRETS, "a,,b")]).1.len(), 1);
        assert_eq!(
            load_all(&[(WEBHOOK_LISTEN, "nowhere"), (WEBHOOK_SECRETS, "a")]).1.len(),
            1
        );
    }

    #[test]
    fn a_secret_can_be_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "zqsecret\n").unwrap();
        let path = path.display().to_string();
        let mut all = ALL.to_vec();
        all[2] = ("BILLING_TIPALTI_CLIENT_SECRET_FILE", &path);
        let (config, problems) = load_all(&all);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(config.client.unwrap().client_secret, Sensitive::new("zqsecret"));
        all.push((CLIENT_SECRET, "other"));
        assert_eq!(load_all(&all).1.len(), 1);
        all.pop();
        all[2].1 = "/nowhere/at/all";
        assert!(!load_all(&all).1.is_empty());
    }
}
