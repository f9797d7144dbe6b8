//! The access token: fetched with the refresh token, kept until shortly before it ends, fetched by one caller at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

use super::TipaltiSettings;
use super::client::{Answer, receive, transport_error};
use super::wire;
use crate::domain::sensitive::Sensitive;
use crate::payout::{ProviderError, ProviderErrorKind};

/// Used where a token's answer does not say how long it lives.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// So long before its end, at most, a token is replaced.
const MARGIN: Duration = Duration::from_secs(60);

/// Keeps the token. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    url: reqwest::Url,
    settings: TipaltiSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<AccessToken>,
    /// A newer refresh token than the configured one.
    rotated: Option<Sensitive>,
    generation: u64,
}

/// A token, ready to be sent.
#[derive(Clone)]
pub(super) struct AccessToken {
    pub(super) header: HeaderValue,
    /// Tells it from the ones before it.
    pub(super) generation: u64,
    good_until: Instant,
}

impl Tokens {
    pub(super) fn new(http: reqwest::Client, url: reqwest::Url, settings: TipaltiSettings) -> Self {
        let state = Mutex::new(State::default());
        Self {
            inner: Arc::new(Inner {
                http,
                url,
                settings,
                state,
            }),
        }
    }

    /// A token that is good now.
    pub(super) async fn get(&self) -> Result<AccessToken, ProviderError> {
        if let Some(token) = self.inner.state.lock().await.good_token() {
            return Ok(token);
        }
        // In a task of its own: were the caller dropped half-way, a new refresh token in the answer would be lost.
        let inner = Arc::clone(&self.inner);
        let fetching = tokio::spawn(async move { inner.fetch_unless_good().await });
        fetching
            .await
            .map_err(|_| ProviderError::new(ProviderErrorKind::Failed, "fetching an access token was interrupted"))?
    }

    /// Forgets a token that was not taken, unless it has been replaced meanwhile.
    pub(super) async fn forget(&self, token: &AccessToken) {
        let mut state = self.inner.state.lock().await;
        if state.generation == token.generation {
            state.held = None;
        }
    }
}

impl State {
    fn good_token(&self) -> Option<AccessToken> {
        self.held.clone().filter(|token| Instant::now() < token.good_until)
    }
}

impl Inner {
    /// Whoever waited for another's fetching finds its token.
    async fn fetch_unless_good(&self) -> Result<AccessToken, ProviderError> {
        let mut state = self.state.lock().await;
        if let Some(token) = state.good_token() {
            return Ok(token);
        }
        let began = Instant::now();
        let answer = match state.rotated.clone() {
            Some(rotated) => match self.ask(&rotated).await {
                Err(error) if error.kind == ProviderErrorKind::Credentials => {
                    state.rotated = None;
                    self.ask(&self.settings.refresh_token).await?
                }
                other => other?,
            },
            None => self.ask(&self.settings.refresh_token).await?,
        };
        let lifetime = answer.lifetime.unwrap_or(DEFAULT_LIFETIME);
        let mut header = HeaderValue::from_str(&format!("Bearer {}", answer.access_token.as_str()))
            .map_err(|_| unreadable("the access token can't be sent in a header"))?;
        header.set_sensitive(true);
        if answer.refresh_token.is_some() {
            state.rotated = answer.refresh_token;
        }
        state.generation += 1;
        let token = AccessToken {
            header,
            generation: state.generation,
            good_until: began + lifetime.saturating_sub(MARGIN.min(lifetime / 4)),
        };
        state.held = Some(token.clone());
        Ok(token)
    }

    async fn ask(&self, refresh_token: &Sensitive) -> Result<wire::TokenAnswer, ProviderError> {
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("client_id", self.settings.client_id.as_str()),
            ("client_secret", self.settings.client_secret.as_str()),
            ("refresh_token", refresh_token.as_str()),
        ];
        if let Some(verifier) = &self.settings.code_verifier {
            form.push(("code_verifier", verifier.as_str()));
        }
        let sent = self.http.post(self.url.clone()).form(&form).send().await;
        let answer = receive(sent.map_err(transport_error)?).await?;
        tracing::debug!(status = answer.status, "asked tipalti for an access token");
        read_answer(&answer)
    }
}

fn read_answer(answer: &Answer) -> Result<wire::TokenAnswer, ProviderError> {
    match answer.status {
        200..=299 => wire::token_answer(&answer.body).ok_or_else(|| unreadable("the token's answer can't be read")),
        400 | 401 | 403 => Err(ProviderError {
            kind: ProviderErrorKind::Credentials,
            text: "the credentials were refused".to_owned(),
            ..answer.error()
        }),
        _ => Err(answer.error()),
    }
}

fn unreadable(text: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Unreadable, text)
}
