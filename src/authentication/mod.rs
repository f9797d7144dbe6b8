//! Finds out who calls: by a bearer token, a JSON web token or a client certificate.
//!
//! Knows neither gRPC nor the store. What it reads is in files, which are read again while the service runs (`src/reload.rs`).
//! No token, hash or key is ever in an error or a log.

pub(crate) mod identities;
pub(crate) mod json_web_tokens;
mod signatures;
pub mod transport;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::identities::Identities;
pub use self::identities::{NewToken, TOKEN_PREFIX};
use self::json_web_tokens::JsonWebTokens;
pub use self::json_web_tokens::{JsonWebTokenSettings, LEEWAY_SECONDS, Rules};
use self::transport::Transport;
use crate::domain::permissions::{Identity, Permissions};
use crate::reload::{self, Reloaded};

/// What keeps strangers out: by default nothing.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Tells who calls.
    pub authentication: Authentication,
    /// Encrypts connections.
    pub transport: Option<Transport>,
}

impl Access {
    /// Reads the files of both again as they change, until `shutdown`.
    pub async fn watch(self, shutdown: CancellationToken) {
        let transport = async {
            if let Some(transport) = self.transport {
                transport.watch(shutdown.clone()).await;
            }
        };
        tokio::join!(self.authentication.watch(shutdown.clone()), transport);
    }
}

/// Where callers are known from.
#[derive(Debug, Clone, Default)]
pub struct AuthenticationSettings {
    /// The file of identities, with their tokens and roles.
    pub identities_file: Option<PathBuf>,
    /// How JSON web tokens are checked.
    pub json_web_tokens: Option<JsonWebTokenSettings>,
}

/// Tells who calls. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    sources: Option<Arc<Sources>>,
}

#[derive(Debug)]
struct Sources {
    identities: Option<Reloaded<Identities>>,
    json_web_tokens: Option<Reloaded<JsonWebTokens>>,
}

/// Why a caller is not known: for the log, without anything that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown(pub String);

impl Authentication {
    /// Reads the files. Answers every problem.
    pub fn open(settings: &AuthenticationSettings) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let identities = settings
            .identities_file
            .as_ref()
            .map(|path| Reloaded::open("identities", vec![path.clone()], identities::parse));
        let json_web_tokens = settings.json_web_tokens.as_ref().map(|settings| {
            let rules = settings.rules.clone();
            Reloaded::open("JSON web keys", vec![settings.keys_file.clone()], move |contents| {
                JsonWebTokens::parse(rules.clone(), contents)
            })
        });
        let mut sources = Sources {
            identities: None,
            json_web_tokens: None,
        };
        match identities.transpose() {
            Ok(identities) => sources.identities = identities,
            Err(problem) => problems.push(problem),
        }
        match json_web_tokens.transpose() {
            Ok(json_web_tokens) => sources.json_web_tokens = json_web_tokens,
            Err(problem) => problems.push(problem),
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let is_on = sources.identities.is_some() || sources.json_web_tokens.is_some();
        Ok(Self {
            sources: is_on.then(|| Arc::new(sources)),
        })
    }

    /// Whether callers are authenticated at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.sources.is_some()
    }

    /// Reads the files again as they change, until `shutdown`.
    pub async fn watch(self, shutdown: CancellationToken) {
        let Some(sources) = self.sources else {
            return;
        };
        tokio::join!(
            reload::watch(sources.identities.as_ref(), &shutdown),
            reload::watch(sources.json_web_tokens.as_ref(), &shutdown),
        );
    }

    /// Who calls, with this token (what stands behind `Bearer `) and over a connection with this certificate's name. A token
    /// counts before a certificate: it is of the call, and one that is not good is not made good by the connection.
    pub fn identify(&self, token: Option<&str>, certificate_name: Option<&str>) -> Result<Identity, Unknown> {
        let Some(sources) = &self.sources else {
            return Ok(Identity::unauthenticated());
        };
        match (token, certificate_name) {
            (Some(token), _) if token.starts_with(TOKEN_PREFIX) => sources.by_token(token),
            (Some(token), _) => sources.by_json_web_token(token),
            (None, Some(name)) => sources.by_certificate(name),
            (None, None) => Err(Unknown(
                "there is neither a token nor a certificate with a name".to_owned(),
            )),
        }
    }
}

impl Sources {
    fn by_token(&self, token: &str) -> Result<Identity, Unknown> {
        let identities = self.identities.as_ref().map(Reloaded::current);
        let found = identities.and_then(|identities| identities.by_token(token));
        found.ok_or_else(|| Unknown("the token is not one of the identities file".to_owned()))
    }

    fn by_json_web_token(&self, token: &str) -> Result<Identity, Unknown> {
        let Some(json_web_tokens) = &self.json_web_tokens else {
            return Err(Unknown("the token is not one that the service made".to_owned()));
        };
        let identity = json_web_tokens.current().check(token).map_err(Unknown)?;
        let identities = self.identities.as_ref().map(Reloaded::current);
        // Otherwise whoever gives out subjects could give out the operator's own names, with what was answered to them.
        if identities.is_some_and(|identities| identities.by_name(identity.name()).is_some()) {
            return Err(Unknown(format!(
                "the subject {} of a JSON web token is the name of an identity in the identities file",
                identity.name()
            )));
        }
        Ok(identity)
    }

    /// A name that the file does not have is a known caller without permissions: its certificate was checked.
    fn by_certificate(&self, name: &str) -> Result<Identity, Unknown> {
        let identities = self.identities.as_ref().map(Reloaded::current);
        if let Some(identity) = identities.and_then(|identities| identities.by_name(name)) {
            return Ok(identity);
        }
        Identity::new(name, Permissions::default())
            .map_err(|problem| Unknown(format!("the certificate's name can't be used: {problem}")))
    }
}
