//! Settings of who may call: TLS, identities with their tokens, JSON web tokens. And what is missing of them.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{INSECURE, LISTEN, Variables};
use crate::authentication::transport::{Transport, TransportSettings};
use crate::authentication::{Access, Authentication, AuthenticationSettings, JsonWebTokenSettings, Rules};

const TOKENS_FILE: &str = "BILLING_TOKENS_FILE";
const JWKS_FILE: &str = "BILLING_JWKS_FILE";
const JWT_AUDIENCE: &str = "BILLING_JWT_AUDIENCE";
const JWT_ISSUER: &str = "BILLING_JWT_ISSUER";
const JWT_ROLES_CLAIM: &str = "BILLING_JWT_ROLES_CLAIM";
const TLS_CERT_FILE: &str = "BILLING_TLS_CERT_FILE";
const TLS_KEY_FILE: &str = "BILLING_TLS_KEY_FILE";
const TLS_CLIENT_CA_FILE: &str = "BILLING_TLS_CLIENT_CA_FILE";

const DEFAULT_ROLES_CLAIM: &str = "roles";

/// What keeps strangers out, and is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Everybody who reaches the address may do everything.
    Authentication,
    /// Whoever is on the way reads and changes what is sent, tokens too.
    Encryption,
}

impl Missing {
    /// What it means, and what to set.
    #[must_use]
    pub fn advice(self) -> String {
        match self {
            Self::Authentication => format!("callers are not authenticated (set {TOKENS_FILE} or {JWKS_FILE})"),
            Self::Encryption => {
                format!("connections are not encrypted (set {TLS_CERT_FILE} and {TLS_KEY_FILE})")
            }
        }
    }
}

/// Reads it, and notes every problem.
pub(super) fn load(variables: &Variables<'_>, problems: &mut Vec<String>) -> Access {
    let json_web_tokens = json_web_tokens(variables, problems);
    let settings = AuthenticationSettings {
        identities_file: variables.get(TOKENS_FILE).map(PathBuf::from),
        json_web_tokens,
    };
    let authentication = Authentication::open(&settings).unwrap_or_else(|found| {
        problems.extend(found);
        Authentication::default()
    });
    let transport = transport(variables, problems).and_then(|settings| {
        Transport::open(&settings)
            .map_err(|problem| problems.push(problem))
            .ok()
    });
    let has_authentication = settings.identities_file.is_some() || variables.get(JWKS_FILE).is_some();
    if variables.get(TLS_CLIENT_CA_FILE).is_some() && !has_authentication {
        problems.push(format!(
            "{TLS_CLIENT_CA_FILE} needs {TOKENS_FILE} too: it says which roles the name in a client certificate has"
        ));
    }
    Access {
        authentication,
        transport,
    }
}

/// What is missing for an address. On loopback encryption is not: what is sent does not leave the machine.
pub(super) fn missing(access: &Access, listen: SocketAddr) -> Vec<Missing> {
    let mut missing = Vec::new();
    if !access.authentication.is_on() {
        missing.push(Missing::Authentication);
    }
    if access.transport.is_none() && !listen.ip().is_loopback() {
        missing.push(Missing::Encryption);
    }
    missing
}

/// Refuses an address that others can reach where something is missing.
pub(super) fn check(access: &Access, listen: SocketAddr, insecure: bool, problems: &mut Vec<String>) {
    let missing = missing(access, listen);
    if missing.is_empty() || listen.ip().is_loopback() || insecure {
        return;
    }
    let advice: Vec<String> = missing.into_iter().map(Missing::advice).collect();
    problems.push(format!(
        "{LISTEN} is {listen}, which others can reach, but {}: listen on loopback, or set {INSECURE}=1 to allow it",
        advice.join(", and ")
    ));
}

fn json_web_tokens(variables: &Variables<'_>, problems: &mut Vec<String>) -> Option<JsonWebTokenSettings> {
    let keys_file = variables.get(JWKS_FILE);
    let audience = variables.get(JWT_AUDIENCE);
    let issuer = variables.get(JWT_ISSUER);
    let roles_claim = variables.get(JWT_ROLES_CLAIM);
    let Some(keys_file) = keys_file else {
        for (name, value) in [
            (JWT_AUDIENCE, &audience),
            (JWT_ISSUER, &issuer),
            (JWT_ROLES_CLAIM, &roles_claim),
        ] {
            if value.is_some() {
                problems.push(format!("{name} is nothing without {JWKS_FILE}: set both or neither"));
            }
        }
        return None;
    };
    let Some(audience) = audience else {
        problems.push(format!(
            "{JWT_AUDIENCE} is required with {JWKS_FILE}: without it a token for any other service would count here"
        ));
        return None;
    };
    Some(JsonWebTokenSettings {
        keys_file: PathBuf::from(keys_file),
        rules: Rules {
            audience,
            issuer,
            roles_claim: roles_claim.unwrap_or_else(|| DEFAULT_ROLES_CLAIM.to_owned()),
        },
    })
}

fn transport(variables: &Variables<'_>, problems: &mut Vec<String>) -> Option<TransportSettings> {
    let certificate = variables.get(TLS_CERT_FILE);
    let key = variables.get(TLS_KEY_FILE);
    let authorities = variables.get(TLS_CLIENT_CA_FILE);
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(TransportSettings {
            certificate_file: PathBuf::from(certificate),
            key_file: PathBuf::from(key),
            client_authorities_file: authorities.map(PathBuf::from),
        }),
        (None, None) => {
            if authorities.is_some() {
                problems.push(format!(
                    "{TLS_CLIENT_CA_FILE} needs {TLS_CERT_FILE} and {TLS_KEY_FILE} too"
                ));
            }
            None
        }
        (Some(_), None) | (None, Some(_)) => {
            problems.push(format!(
                "{TLS_CERT_FILE} and {TLS_KEY_FILE} belong together: set both or neither"
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::authentication::NewToken;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::default().self_signed(&key).unwrap();
            let token = NewToken::make().unwrap();
            let files = Self { folder };
            files.write("cert.pem", &certificate.pem());
            files.write("key.pem", &key.serialize_pem());
            let identities = format!("[[identity]]\nname = \"a\"\ntokens_sha256 = [\"{}\"]\n", token.sha256);
            files.write("tokens.toml", &identities);
            let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
            let keys =
                format!("{{\"keys\": [{{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"kid\": \"a\", \"x\": \"{x}\"}}]}}");
            files.write("keys.json", &keys);
            files
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.folder.path().join(name), text).unwrap();
        }

        /// The problems with these settings, whose values are files here where there is such a file, for an address.
        fn problems(&self, listen: &str, insecure: bool, set: &[(&str, &str)]) -> (Vec<String>, Vec<Missing>) {
            let find = |name: &str| {
                let (_, value) = set.iter().find(|(key, _)| *key == name)?;
                let path = self.folder.path().join(value);
                Some(if name.ends_with("_FILE") {
                    path.display().to_string()
                } else {
                    (*value).to_owned()
                })
            };
            let mut problems = Vec::new();
            let access = load(&Variables(&find), &mut problems);
            let listen = listen.parse().unwrap();
            check(&access, listen, insecure, &mut problems);
            (problems, missing(&access, listen))
        }
    }

    const HERE: &str = "127.0.0.1:1";
    const EVERYWHERE: &str = "0.0.0.0:1";
    const CERTIFICATE: (&str, &str) = (TLS_CERT_FILE, "cert.pem");
    const KEY: (&str, &str) = (TLS_KEY_FILE, "key.pem");
    const TOKENS: (&str, &str) = (TOKENS_FILE, "tokens.toml");
    const KEYS: (&str, &str) = (JWKS_FILE, "keys.json");
    const AUDIENCE: (&str, &str) = (JWT_AUDIENCE, "billing");

    #[test]
    fn others_are_listened_to_with_encryption_and_authentication_or_with_consent() {
        let files = Files::new();
        for (set, lacking) in [
            (vec![], vec![Missing::Authentication, Missing::Encryption]),
            (vec![CERTIFICATE, KEY], vec![Missing::Authentication]),
            (vec![TOKENS], vec![Missing::Encryption]),
            (vec![KEYS, AUDIENCE], vec![Missing::Encryption]),
            (vec![TOKENS, CERTIFICATE, KEY], vec![]),
            (vec![KEYS, AUDIENCE, CERTIFICATE, KEY], vec![]),
        ] {
            let (problems, missing) = files.problems(EVERYWHERE, false, &set);
            assert_eq!(missing, lacking, "{set:?}");
            if lacking.is_empty() {
                assert!(problems.is_empty(), "{problems:?}");
            } else {
                assert_eq!(problems.len(), 1, "{problems:?}");
                let told = |missing: Missing| problems[0].contains(&missing.advice());
                assert_eq!(
                    told(Missing::Authentication),
                    lacking.contains(&Missing::Authentication)
                );
                assert_eq!(told(Missing::Encryption), lacking.contains(&Missing::Encryption));
            }
            assert!(files.problems(EVERYWHERE, true, &set).0.is_empty());
            assert!(files.problems(HERE, false, &set).0.is_empty());
        }
    }

    #[test]
    fn settings_that_make_no_sense_without_others_are_told() {
        let files = Files::new();
        let authorities = (TLS_CLIENT_CA_FILE, "cert.pem");
        for (set, told) in [
            (vec![CERTIFICATE], TLS_KEY_FILE),
            (vec![KEY], TLS_CERT_FILE),
            (vec![authorities, TOKENS], TLS_CERT_FILE),
            (vec![authorities, CERTIFICATE, KEY], TOKENS_FILE),
            (vec![KEYS], JWT_AUDIENCE),
            (vec![AUDIENCE], JWKS_FILE),
            (vec![(JWT_ISSUER, "x")], JWKS_FILE),
            (vec![(JWT_ROLES_CLAIM, "x")], JWKS_FILE),
            (vec![(TOKENS_FILE, "nowhere")], "nowhere"),
            (vec![(TOKENS_FILE, "keys.json")], "keys.json"),
            (vec![(JWKS_FILE, "cert.pem"), AUDIENCE], "cert.pem"),
            (vec![CERTIFICATE, (TLS_KEY_FILE, "tokens.toml")], "tokens.toml"),
        ] {
            let (problems, _) = files.problems(HERE, false, &set);
            assert!(
                problems.len() == 1 && problems[0].contains(told),
                "{set:?}: {problems:?}"
            );
        }
        let all = [authorities, TOKENS, KEYS, AUDIENCE, CERTIFICATE, KEY];
        assert!(files.problems(EVERYWHERE, false, &all).0.is_empty());
    }
}
