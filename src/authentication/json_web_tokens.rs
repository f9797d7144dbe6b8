//! JSON web tokens (RFC 7519), checked against a file of public keys (a JWKS, RFC 7517).
//!
//! Which algorithm is right is decided by the key, never by the token: symmetric ones and `none` are right for no key. Nothing is
//! fetched: keys that a token carries or points at are not looked at.

use std::path::PathBuf;
use std::str::FromStr as _;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use super::signatures;
use crate::domain::permissions::{Identity, MAY_UNMASK, Permissions, Role};

/// How far the clocks of who makes tokens and of the service may be apart.
pub const LEEWAY_SECONDS: u64 = 30;
/// Bytes of a token at most.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

const RSA_ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// How JSON web tokens are checked.
#[derive(Debug, Clone)]
pub struct JsonWebTokenSettings {
    /// The file of keys.
    pub keys_file: PathBuf,
    /// What must be in the tokens.
    pub rules: Rules,
}

/// What must be in the tokens.
#[derive(Debug, Clone)]
pub struct Rules {
    /// One of the token's audiences (`aud`).
    pub audience: String,
    /// Its issuer (`iss`), where that is checked.
    pub issuer: Option<String>,
    /// The claim that lists roles.
    pub roles_claim: String,
}

/// The keys of one state of the file, with the rules.
pub(crate) struct JsonWebTokens {
    rules: Rules,
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

impl JsonWebTokens {
    /// Reads the file of keys. Keys for encryption, and of kinds that are not known here, are left out.
    pub(crate) fn parse(rules: Rules, contents: &[Vec<u8>]) -> Result<Self, String> {
        signatures::install();
        let bytes = contents.first().map(Vec::as_slice).unwrap_or_default();
        let file: Value = serde_json::from_slice(bytes).map_err(|_| "it is no JSON".to_owned())?;
        let listed = file.get("keys").and_then(Value::as_array);
        let listed = listed.ok_or("it is no JWKS: it must have a list `keys`")?;
        let mut keys: Vec<Key> = Vec::new();
        for (number, value) in (1..).zip(listed) {
            let key = read_key(value, &rules).map_err(|problem| format!("key {number} {problem}"))?;
            let Some(key) = key else {
                continue;
            };
            if keys.iter().any(|other| other.id == key.id) {
                return Err(format!("key {number} has the `kid` of another, or both have none"));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err("it has no public key to check signatures with (RSA, P-256, P-384 or Ed25519)".to_owned());
        }
        Ok(Self { rules, keys })
    }

    /// Whose token it is, if it is good now. Problems hold nothing of it.
    pub(crate) fn check(&self, token: &str) -> Result<Identity, String> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(format!("the JSON web token is larger than {MAX_TOKEN_BYTES} bytes"));
        }
        let header = decode_header(token).map_err(|error| told(error.kind()))?;
        if header.crit.is_some() {
            return Err("the JSON web token needs extensions that are not known here".to_owned());
        }
        let key = self.key(header.kid.as_deref())?;
        let claims = decode::<Value>(token, &key.key, &key.validation).map_err(|error| told(error.kind()))?;
        self.identity(&claims.claims)
    }

    /// A token without `kid` is checked with the only key there is.
    fn key(&self, id: Option<&str>) -> Result<&Key, String> {
        match (id, self.keys.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => Err("the JSON web token has no `kid`, and there are several keys".to_owned()),
            (Some(id), keys) => {
                let found = keys.iter().find(|key| key.id.as_deref() == Some(id));
                found.ok_or_else(|| "the JSON web token's `kid` is that of no key".to_owned())
            }
        }
    }

    fn identity(&self, claims: &Value) -> Result<Identity, String> {
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        let mut permissions = Permissions::default();
        let listed = claims.get(&self.rules.roles_claim).and_then(Value::as_array);
        // Words that are not known here are other services' roles.
        for word in listed.into_iter().flatten().filter_map(Value::as_str) {
            if word == MAY_UNMASK {
                permissions.may_unmask = true;
            }
            permissions.roles.extend(Role::parse(word));
        }
        Identity::new(subject, permissions)
            .map_err(|problem| format!("the JSON web token's `sub` can't be used: {problem}"))
    }
}

/// A key that can check signatures; `None` for one that is for something else.
fn read_key(value: &Value, rules: &Rules) -> Result<Option<Key>, String> {
    if value.get("d").is_some() || value.get("k").is_some() {
        return Err("is a secret or has its private part: the file must have public keys alone".to_owned());
    }
    let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|_| "is no JSON web key".to_owned())?;
    let is_for_signatures = !matches!(
        jwk.common.public_key_use,
        Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_))
    );
    let may_verify = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
    if !is_for_signatures || !jwk.common.key_operations.as_ref().is_none_or(may_verify) {
        return Ok(None);
    }
    let mut algorithms = algorithms_of(&jwk.algorithm);
    if let Some(named) = jwk.common.key_algorithm {
        let named = Algorithm::from_str(&named.to_string()).ok();
        algorithms.retain(|algorithm| Some(*algorithm) == named);
    }
    let Some(first) = algorithms.first() else {
        return Ok(None);
    };
    let mut validation = Validation::new(*first);
    validation.algorithms = algorithms;
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.set_audience(&[&rules.audience]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    if let Some(issuer) = &rules.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "can't be read".to_owned())?;
    Ok(Some(Key {
        id: jwk.common.key_id,
        key,
        validation,
    }))
}

/// The algorithms that a key is right for: asymmetric ones of its kind and curve, and none for other keys.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "kinds of keys that come later are not known here"
)]
fn algorithms_of(parameters: &AlgorithmParameters) -> Vec<Algorithm> {
    match parameters {
        AlgorithmParameters::RSA(_) => RSA_ALGORITHMS.to_vec(),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => vec![Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => vec![Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
        _ => Vec::new(),
    }
}

/// What the log tells: the crate's own texts may hold parts of a token.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are malformed tokens")]
fn told(kind: &ErrorKind) -> String {
    let told = match kind {
        ErrorKind::InvalidSignature => "has a wrong signature",
        ErrorKind::InvalidAlgorithm => "has an algorithm that its key is not for",
        ErrorKind::ExpiredSignature => "has expired",
        ErrorKind::ImmatureSignature => "is not valid yet",
        ErrorKind::InvalidAudience => "is for another audience",
        ErrorKind::InvalidIssuer => "is of another issuer",
        ErrorKind::MissingRequiredClaim(_) => "lacks a claim: exp, aud, sub and where it is checked iss are required",
        _ => "is malformed",
    };
    format!("the JSON web token {told}")
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    fn encoded(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn now() -> u64 {
        jsonwebtoken::get_current_timestamp()
    }

    /// Signs with Ed25519, as who gives out tokens would.
    struct Issuer {
        keys: Ed25519KeyPair,
    }

    impl Issuer {
        fn new(seed: u8) -> Self {
            Self {
                keys: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(),
            }
        }

        fn public(&self, id: &str) -> Value {
            let x = encoded(self.keys.public_key().as_ref());
            json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": x})
        }

        fn token(&self, header: &Value, claims: &Value) -> String {
            let message = message(header, claims);
            let signature = encoded(self.keys.sign(message.as_bytes()));
            format!("{message}.{signature}")
        }
    }

    fn message(header: &Value, claims: &Value) -> String {
        format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()))
    }

    fn rules() -> Rules {
        Rules {
            audience: "billing".to_owned(),
            issuer: Some("https://issuer.example".to_owned()),
            roles_claim: "roles".to_owned(),
        }
    }

    fn claims() -> Value {
        json!({"sub": "shop", "aud": "billing", "iss": "https://issuer.example", "exp": now() + 300,
            "roles": ["poster", "something-else", "may_unmask"]})
    }

    fn header() -> Value {
        json!({"alg": "EdDSA", "typ": "JWT", "kid": "one"})
    }

    fn known(keys: &[Value]) -> JsonWebTokens {
        let file = json!({"keys": keys}).to_string();
        JsonWebTokens::parse(rules(), &[file.into_bytes()]).unwrap()
    }

    fn with(mut value: Value, name: &str, other: Value) -> Value {
        value[name] = other;
        value
    }

    fn without(mut value: Value, name: &str) -> Value {
        value.as_object_mut().unwrap().remove(name);
        value
    }

    #[test]
    fn a_good_token_says_who_calls_and_with_which_roles() {
        let issuer = Issuer::new(1);
        let identity = known(&[issuer.public("one")])
            .check(&issuer.token(&header(), &claims()))
            .unwrap();
        let permissions = Permissions {
            roles: vec![Role::Poster],
            may_unmask: true,
        };
        assert_eq!(identity, Identity::new("shop", permissions).unwrap());
        let several = with(claims(), "aud", json!(["other", "billing"]));
        assert!(
            known(&[issuer.public("one")])
                .check(&issuer.token(&header(), &several))
                .is_ok()
        );
        let without_id = without(header(), "kid");
        assert!(
            known(&[issuer.public("one")])
                .check(&issuer.token(&without_id, &claims()))
                .is_ok()
        );
    }

    #[test]
    fn a_token_is_refused_for_every_claim_that_is_wrong() {
        let issuer = Issuer::new(1);
        let tokens = known(&[issuer.public("one")]);
        for (claims, problem) in [
            (with(claims(), "exp", json!(now() - LEEWAY_SECONDS - 5)), "has expired"),
            (without(claims(), "exp"), "lacks a claim"),
            (with(claims(), "exp", json!("never")), "lacks a claim"),
            (
                with(claims(), "nbf", json!(now() + LEEWAY_SECONDS + 60)),
                "is not valid yet",
            ),
            (with(claims(), "nbf", json!("soon")), "is malformed"),
            (with(claims(), "aud", json!("other")), "is for another audience"),
            (with(claims(), "aud", json!([])), "is for another audience"),
            (without(claims(), "aud"), "lacks a claim"),
            (
                with(claims(), "iss", json!("https://other.example")),
                "is of another issuer",
            ),
            (without(claims(), "iss"), "lacks a claim"),
            (without(claims(), "sub"), "lacks a claim"),
            (with(claims(), "sub", json!("")), "`sub` can't be used"),
            (with(claims(), "sub", json!("unauthenticated")), "`sub` can't be used"),
            (with(claims(), "sub", json!(7)), "lacks a claim"),
        ] {
            let found = tokens.check(&issuer.token(&header(), &claims)).unwrap_err();
            assert!(found.contains(problem), "{claims}: {found}");
        }
        for (name, seconds) in [
            ("exp", now() - LEEWAY_SECONDS + 10),
            ("nbf", now() + LEEWAY_SECONDS - 10),
        ] {
            let claims = with(claims(), name, json!(seconds));
            assert!(
                tokens.check(&issuer.token(&header(), &claims)).is_ok(),
                "{name} within the leeway"
            );
        }
        let no_list = issuer.token(&header(), &with(claims(), "roles", json!("admin")));
        assert!(
            tokens
                .check(&no_list)
                .unwrap()
                .check(crate::domain::permissions::Rpc::PostEntries)
                .is_err()
        );
    }

    #[test]
    fn the_algorithm_is_the_keys_and_not_the_tokens() {
        let issuer = Issuer::new(1);
        let tokens = known(&[issuer.public("one")]);
        let none = with(header(), "alg", json!("none"));
        for signature in ["", "AAAA"] {
            let token = format!("{}.{signature}", message(&none, &claims()));
            assert!(tokens.check(&token).is_err());
        }
        // The public key, which everybody knows, as the secret of a symmetric algorithm: as it is, encoded and as JSON.
        let public = issuer.keys.public_key().as_ref().to_vec();
        for secret in [
            public.clone(),
            encoded(&public).into_bytes(),
            issuer.public("one").to_string().into_bytes(),
        ] {
            let message = message(&with(header(), "alg", json!("HS256")), &claims());
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&secret).unwrap();
            mac.update(message.as_bytes());
            let token = format!("{message}.{}", encoded(mac.finalize().into_bytes()));
            assert!(
                tokens
                    .check(&token)
                    .unwrap_err()
                    .contains("algorithm that its key is not for")
            );
        }
        for algorithm in ["RS256", "ES256", "ES384", "PS512"] {
            let token = issuer.token(&with(header(), "alg", json!(algorithm)), &claims());
            assert!(
                tokens
                    .check(&token)
                    .unwrap_err()
                    .contains("algorithm that its key is not for")
            );
        }
        // A key that says which algorithm it is for is for no other.
        let other = with(issuer.public("one"), "alg", json!("ES256"));
        let file = json!({"keys": [other]}).to_string();
        assert!(JsonWebTokens::parse(rules(), &[file.into_bytes()]).is_err());
    }

    #[test]
    fn keys_are_found_by_their_id_and_the_signature_is_theirs() {
        let (first, second, stranger) = (Issuer::new(1), Issuer::new(2), Issuer::new(3));
        let tokens = known(&[first.public("one"), second.public("two")]);
        let of = |issuer: &Issuer, id: &str| issuer.token(&with(header(), "kid", json!(id)), &claims());
        assert!(tokens.check(&of(&first, "one")).is_ok());
        assert!(tokens.check(&of(&second, "two")).is_ok());
        for (token, problem) in [
            (of(&first, "two"), "wrong signature"),
            (of(&stranger, "one"), "wrong signature"),
            (of(&stranger, "three"), "no key"),
            (first.token(&without(header(), "kid"), &claims()), "several keys"),
            // A key that the token brings along is not looked at.
            (
                stranger.token(&with(header(), "jwk", stranger.public("one")), &claims()),
                "wrong signature",
            ),
            (
                first.token(&with(header(), "crit", json!(["exp"])), &claims()),
                "extensions",
            ),
            ("a.b.c".to_owned(), "malformed"),
            ("a".repeat(MAX_TOKEN_BYTES + 1), "larger"),
        ] {
            let found = tokens.check(&token).unwrap_err();
            assert!(found.contains(problem), "{found}");
        }
        let token = of(&first, "one");
        let (head, signature) = token.rsplit_once('.').unwrap();
        let (_, body) = head.split_once('.').unwrap();
        let forged = body.replace(body, &encoded(with(claims(), "sub", json!("admin")).to_string()));
        let (header, _) = head.split_once('.').unwrap();
        assert!(
            tokens
                .check(&format!("{header}.{forged}.{signature}"))
                .unwrap_err()
                .contains("wrong signature")
        );
    }

    #[test]
    fn elliptic_curves_are_checked_too() {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap();
        let point = key.public_key().as_ref();
        let public =
            json!({"kty": "EC", "crv": "P-256", "kid": "one", "x": encoded(&point[1..33]), "y": encoded(&point[33..])});
        let message = message(&with(header(), "alg", json!("ES256")), &claims());
        let signature = encoded(key.sign(&random, message.as_bytes()).unwrap().as_ref());
        assert!(known(&[public]).check(&format!("{message}.{signature}")).is_ok());
    }

    #[test]
    fn a_file_of_keys_that_is_wrong_is_refused_without_what_it_holds() {
        let public = Issuer::new(1).public("one");
        for (file, problem) in [
            ("zqsecret".to_owned(), "no JSON"),
            (json!({"zqsecret": 1}).to_string(), "`keys`"),
            (json!({"keys": []}).to_string(), "no public key"),
            (json!({"keys": [{"kty": "oct", "k": "zqsecret"}]}).to_string(), "secret"),
            (
                json!({"keys": [with(public.clone(), "d", json!("zqsecret"))]}).to_string(),
                "private",
            ),
            (
                json!({"keys": [with(public.clone(), "use", json!("enc"))]}).to_string(),
                "no public key",
            ),
            (json!({"keys": [public, public]}).to_string(), "`kid` of another"),
        ] {
            let found = JsonWebTokens::parse(rules(), &[file.into_bytes()]).err().unwrap();
            assert!(found.contains(problem) && !found.contains("zqsecret"), "{found}");
        }
    }
}
