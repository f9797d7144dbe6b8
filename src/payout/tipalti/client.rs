//! HTTP to Tipalti: one pooled client, time limits, tokens, and retries of reads.
//!
//! Reads are asked again after a pause, within a budget that all reads share. A post goes out once: neither this, nor
//! reqwest's own retries, nor a redirect may repeat it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, Request, Response, Url, redirect, retry};
use rustls::{ClientConfig, RootCertStore};

use super::token::{AccessToken, Tokens};
use super::{SettingsError, TipaltiSettings, wire};
use crate::domain::time::Timestamp;
use crate::payout::{ProviderError, ProviderErrorKind};

const USER_AGENT: &str = concat!("affiliate-billing/", env!("CARGO_PKG_VERSION"));
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 8;
/// Tenths of a retry that a success earns, that a retry costs, and that can be saved up: in the long run at most one
/// request in five is a retry, so that retries don't keep a provider down that is down.
const RETRY_EARNED: u32 = 2;
const RETRY_COST: u32 = 10;
const RETRY_SAVED: u32 = 200;
/// Asked to wait for longer, it is asked again all the same: a date in a wrong century must not stop payouts.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The client.
pub(super) struct TipaltiClient {
    http: Client,
    api: Url,
    tokens: Tokens,
    settings: TipaltiSettings,
    budget: AtomicU32,
}

/// An answer that arrived completely.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// When the answer was made by the provider's clock, or asked for by ours where it does not say.
    pub(super) said_at: Timestamp,
    pub(super) body: Vec<u8>,
}

/// Why a post has no answer.
pub(super) enum PostFailure {
    /// It was not sent.
    Before(ProviderError),
    /// It was sent, or may have been.
    After(ProviderError),
}

impl TipaltiClient {
    pub(super) fn new(settings: TipaltiSettings) -> Result<Self, SettingsError> {
        let base = parse_url("base_url", &settings.base_url)?;
        let api = with_path(&base, wire::API_PATH);
        let token_url = match &settings.token_url {
            Some(url) => parse_url("token_url", url)?,
            None => parse_url("token_url", &default_token_url(&base))?,
        };
        let http = Client::builder()
            .tls_backend_preconfigured(tls()?)
            .http1_only()
            .user_agent(USER_AGENT)
            .no_proxy()
            .referer(false)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.request_timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build()
            .map_err(|_| SettingsError("the HTTP client can't be made of these settings".to_owned()))?;
        let tokens = Tokens::new(http.clone(), token_url, settings.clone());
        Ok(Self {
            http,
            api,
            tokens,
            settings,
            budget: AtomicU32::new(RETRY_SAVED),
        })
    }

    /// The address of a resource. Each segment is escaped.
    pub(super) fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.api.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sees to a token that is good now.
    pub(super) async fn prepare(&self) -> Result<(), ProviderError> {
        self.tokens.get().await.map(drop)
    }

    /// Posts once. A token that is not taken is forgotten, so that the next call has a new one.
    pub(super) async fn post_once(&self, url: Url, correlation_id: &str, body: Vec<u8>) -> Result<Answer, PostFailure> {
        // Bounded: callers of a token wait for each other, and what is sent much later than it was intended may by then have
        // been looked up and sent by somebody else.
        let token = tokio::time::timeout(self.settings.request_timeout, self.tokens.get()).await;
        let token = token
            .map_err(|_| ProviderError::new(ProviderErrorKind::TimedOut, "no access token in time"))
            .and_then(|token| token)
            .map_err(PostFailure::Before)?;
        let request = self
            .http
            .request(Method::POST, url)
            .header(AUTHORIZATION, token.header.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(wire::CORRELATION_HEADER, correlation_id)
            .body(body)
            .build()
            .map_err(|error| PostFailure::Before(transport_error(error)))?;
        let response = match self.http.execute(request).await {
            Ok(response) => response,
            // Without a connection not one byte was sent. A time limit while connecting counts among these.
            Err(error) if error.is_connect() => return Err(PostFailure::Before(transport_error(error))),
            Err(error) => return Err(PostFailure::After(transport_error(error))),
        };
        let answer = receive(response).await.map_err(PostFailure::After)?;
        tracing::debug!(status = answer.status, "posted to tipalti");
        if answer.status == 401 {
            self.tokens.forget(&token).await;
        }
        Ok(answer)
    }

    /// Reads, and reads again where that may help: a new token once, and after a pause what failed for the moment.
    pub(super) async fn read(&self, url: &Url) -> Result<Answer, ProviderError> {
        let mut retries = 0;
        let mut has_new_token = false;
        loop {
            let error = match self.read_once(url).await {
                Ok(answer) => {
                    self.earn();
                    return Ok(answer);
                }
                Err((error, token)) if error.kind == ProviderErrorKind::Unauthorized && !has_new_token => {
                    if let Some(token) = token {
                        self.tokens.forget(&token).await;
                    }
                    has_new_token = true;
                    continue;
                }
                Err((error, _)) => error,
            };
            let Some(pause) = self.pause_before_retry(&error, retries) else {
                return Err(error);
            };
            tracing::debug!(kind = ?error.kind, code = %error.code, ?pause, "asking tipalti again");
            tokio::time::sleep(pause).await;
            retries += 1;
        }
    }

    async fn read_once(&self, url: &Url) -> Result<Answer, (ProviderError, Option<AccessToken>)> {
        let token = self.tokens.get().await.map_err(|error| (error, None))?;
        let mut request = Request::new(Method::GET, url.clone());
        request.headers_mut().insert(AUTHORIZATION, token.header.clone());
        let answer = match self.http.execute(request).await {
            Ok(response) => receive(response).await,
            Err(error) => Err(transport_error(error)),
        };
        let answer = answer.map_err(|error| (error, None))?;
        tracing::debug!(status = answer.status, "read from tipalti");
        if (200..300).contains(&answer.status) {
            Ok(answer)
        } else {
            Err((answer.error(), Some(token)))
        }
    }

    /// How long to wait before asking again; `None` to give up. A provider that asks for more time than we wait is left
    /// alone: the caller is told for how long.
    fn pause_before_retry(&self, error: &ProviderError, retries: u32) -> Option<Duration> {
        if !error.kind.is_transient() || retries >= self.settings.max_retries {
            return None;
        }
        let backoff = jittered(self.settings.retry_pause.saturating_mul(1 << retries.min(16)));
        let pause = match error.retry_after {
            Some(asked) if asked > self.settings.max_retry_pause => return None,
            Some(asked) => asked.saturating_add(jittered(self.settings.retry_pause)),
            None => backoff.min(self.settings.max_retry_pause),
        };
        self.spend().then_some(pause)
    }

    fn earn(&self) {
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
                Some(saved.saturating_add(RETRY_EARNED).min(RETRY_SAVED))
            })
            .ok();
    }

    fn spend(&self) -> bool {
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
                saved.checked_sub(RETRY_COST)
            })
            .is_ok()
    }
}

impl Answer {
    /// The error that a status which is no success stands for.
    pub(super) fn error(&self) -> ProviderError {
        let (code, text) = wire::error_of(&self.body);
        let kind = match self.status {
            401 => ProviderErrorKind::Unauthorized,
            408 => ProviderErrorKind::TimedOut,
            429 => ProviderErrorKind::Throttled,
            500..=599 => ProviderErrorKind::Failed,
            400 | 422 => ProviderErrorKind::Content,
            400..=499 => ProviderErrorKind::Refused,
            _ => ProviderErrorKind::Unreadable,
        };
        let code = if code.is_empty() {
            format!("HTTP {}", self.status)
        } else {
            format!("HTTP {} {code}", self.status)
        };
        let text = if text.is_empty() {
            format!("tipalti answered {}", self.status)
        } else {
            text
        };
        ProviderError {
            kind,
            code,
            text,
            retry_after: self.retry_after,
        }
    }
}

/// Takes an answer in, whole.
pub(super) async fn receive(mut response: Response) -> Result<Answer, ProviderError> {
    let said_at = said_at(response.headers()).unwrap_or_else(Timestamp::now);
    let mut answer = Answer {
        status: response.status().as_u16(),
        retry_after: retry_after(response.headers(), said_at),
        said_at,
        body: Vec::new(),
    };
    while let Some(chunk) = response.chunk().await.map_err(transport_error)? {
        if answer.body.len() + chunk.len() > wire::MAX_ANSWER_BYTES {
            return Err(ProviderError::new(
                ProviderErrorKind::Unreadable,
                "the answer is too long",
            ));
        }
        answer.body.extend_from_slice(&chunk);
    }
    Ok(answer)
}

/// What went wrong on the way. The address is left out: it may hold a payee's id.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub(super) fn transport_error(error: reqwest::Error) -> ProviderError {
    let (kind, text) = if error.is_connect() {
        (ProviderErrorKind::Unreachable, "no connection to tipalti")
    } else if error.is_timeout() {
        (ProviderErrorKind::TimedOut, "tipalti did not answer in time")
    } else if error.is_builder() {
        (ProviderErrorKind::Refused, "the request can't be made")
    } else {
        (ProviderErrorKind::Cut, "the connection to tipalti broke")
    };
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let is_own_text = cause.downcast_ref::<reqwest::Error>().is_some();
    ProviderError::new(
        kind,
        if is_own_text {
            text.to_owned()
        } else {
            format!("{text}: {cause}")
        },
    )
}

fn said_at(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

fn http_date(text: &str) -> Option<Timestamp> {
    let instant = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Timestamp::from_micros(instant.as_microsecond())
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)).min(LONGEST_RETRY_AFTER));
    }
    let micros = http_date(text)?.as_micros().saturating_sub(now.as_micros());
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)).min(LONGEST_RETRY_AFTER))
}

/// Between half of it and all of it, so that replicas which failed together don't come back together.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
    let random = getrandom::u64().unwrap_or(0);
    half.saturating_add(Duration::from_micros(random % micros.saturating_add(1)))
}

/// TLS by rustls over ring, which needs a C compiler and nothing else, trusting the roots that come with the program, as
/// the database's connections do. Made here, so that nothing in the process has to be set before.
fn tls() -> Result<ClientConfig, SettingsError> {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError(format!("TLS can't be set up: {error}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn parse_url(name: &str, text: &str) -> Result<Url, SettingsError> {
    let url = Url::parse(text).map_err(|_| SettingsError(format!("{name} must be a URL, such as https://host")))?;
    let is_plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || !is_plain {
        return Err(SettingsError(format!(
            "{name} must be http:// or https:// with a host, without user, password and parameters"
        )));
    }
    Ok(url)
}

/// A path behind a base, which may end in that path already.
fn with_path(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let before = base.path().trim_end_matches('/');
    let whole = if before.ends_with(path) {
        before.to_owned()
    } else {
        format!("{before}/{path}")
    };
    url.set_path(&whole);
    url
}

fn default_token_url(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    let known = wire::TOKEN_URLS.iter().find(|(api_host, _)| *api_host == host);
    known.map_or_else(
        || {
            let mut url = base.clone();
            url.set_path(&format!("/{}", wire::TOKEN_PATH));
            url.to_string()
        },
        |(_, url)| (*url).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_derived_of_the_base() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert_eq!(
            default_token_url(&url("https://api-p.tipalti.com/api/v1")),
            "https://sso.tipalti.com/connect/token"
        );
        assert_eq!(
            default_token_url(&url("https://api-sb.tipalti.com")),
            "https://sso.sandbox.tipalti.com/connect/token"
        );
        assert_eq!(
            default_token_url(&url("http://127.0.0.1:9")),
            "http://127.0.0.1:9/connect/token"
        );
        for base in ["https://h", "https://h/", "https://h/api/v1", "https://h/api/v1/"] {
            assert_eq!(
                with_path(&url(base), wire::API_PATH).as_str(),
                "https://h/api/v1",
                "{base}"
            );
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_seconds_nanos(1_767_225_600, 0).unwrap();
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Thu, 01 Jan 2026 00:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Wed, 01 Jan 2025 00:01:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("4294967295"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(read("Thu, 01 Jan 2099 00:01:00 GMT"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn a_pause_is_jittered_downwards() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_millis(100));
            assert!(pause >= Duration::from_millis(50) && pause <= Duration::from_millis(100));
        }
    }
}
