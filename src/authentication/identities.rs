//! The identities file: who is known, by which tokens, with which roles.
//!
//! Tokens are made here, from 32 random bytes: their plain SHA-256 is as good as they are, and a token that people chose has not
//! the form and is never looked for.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::domain::permissions::{Identity, Permissions, Role};
use crate::domain::sensitive::Sensitive;

/// How every token of this service begins, so that it is known where it should not be.
pub const TOKEN_PREFIX: &str = "abt_";
const TOKEN_BYTES: usize = 32;
const HASH_BYTES: usize = 32;
/// Tokens of one identity at most: more than a change of tokens needs.
const MAX_TOKENS: usize = 4;

/// A token with its hash.
#[derive(Debug)]
pub struct NewToken {
    /// What the caller gets. It is kept nowhere.
    pub token: Sensitive,
    /// SHA-256 of it in hexadecimal: what the identities file gets.
    pub sha256: String,
}

impl NewToken {
    /// Makes one.
    pub fn make() -> Result<Self, String> {
        let mut random = [0_u8; TOKEN_BYTES];
        getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
        let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let sha256 = hash(&token).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            token: Sensitive::new(token),
            sha256,
        })
    }
}

/// The identities of one state of the file.
pub(crate) struct Identities {
    by_name: HashMap<String, Identity>,
    tokens: Vec<([u8; HASH_BYTES], Identity)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    identity: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    tokens_sha256: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    may_unmask: bool,
}

impl Identities {
    /// Whose token it is. Compares with every hash, and each to its end: how long it takes says nothing of them.
    pub(super) fn by_token(&self, token: &str) -> Option<Identity> {
        let random = URL_SAFE_NO_PAD.decode(token.strip_prefix(TOKEN_PREFIX)?).ok()?;
        if random.len() != TOKEN_BYTES {
            return None;
        }
        let hash = hash(token);
        let mut found = Choice::from(0);
        let mut place = u64::MAX;
        for (number, (known, _)) in (0_u64..).zip(&self.tokens) {
            let is_same = known.ct_eq(&hash);
            place.conditional_assign(&number, is_same);
            found |= is_same;
        }
        if !bool::from(found) {
            return None;
        }
        let (_, identity) = self.tokens.get(usize::try_from(place).ok()?)?;
        Some(identity.clone())
    }

    /// The identity of a name.
    pub(super) fn by_name(&self, name: &str) -> Option<Identity> {
        self.by_name.get(name).cloned()
    }
}

/// Reads the file. Problems name places and names, never hashes.
pub(crate) fn parse(contents: &[Vec<u8>]) -> Result<Identities, String> {
    let bytes = contents.first().map(Vec::as_slice).unwrap_or_default();
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8 text".to_owned())?;
    // The parser's own message has the line that is wrong, and a line may have a token that was put there by mistake.
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(1, |before| before.matches('\n').count() + 1);
        format!("line {line} is not as it must be: tables [[identity]] with name, tokens_sha256, roles and may_unmask")
    })?;
    let mut identities = Identities {
        by_name: HashMap::new(),
        tokens: Vec::new(),
    };
    let mut problems = Vec::new();
    for (number, entry) in (1..).zip(file.identity) {
        if let Err(problem) = identities.add(entry) {
            problems.push(format!("identity {number}: {problem}"));
        }
    }
    if problems.is_empty() {
        Ok(identities)
    } else {
        Err(problems.join("; "))
    }
}

impl Identities {
    fn add(&mut self, entry: Entry) -> Result<(), String> {
        let mut roles = Vec::new();
        for name in &entry.roles {
            let known = || Role::ALL.map(Role::name).join(", ");
            roles.push(Role::parse(name).ok_or_else(|| format!("roles must be some of {}", known()))?);
        }
        let permissions = Permissions {
            roles,
            may_unmask: entry.may_unmask,
        };
        let identity = Identity::new(&entry.name, permissions)?;
        if entry.tokens_sha256.len() > MAX_TOKENS {
            return Err(format!("at most {MAX_TOKENS} tokens"));
        }
        for text in &entry.tokens_sha256 {
            let hash = parse_hash(text).ok_or(
                "tokens_sha256 must be hashes of 64 hexadecimal digits, as `affiliate-billing token` prints them",
            )?;
            if self.tokens.iter().any(|(known, _)| *known == hash) {
                return Err("its token is in the file twice".to_owned());
            }
            self.tokens.push((hash, identity.clone()));
        }
        if self.by_name.insert(entry.name, identity).is_some() {
            return Err("its name is in the file twice".to_owned());
        }
        Ok(())
    }
}

fn hash(token: &str) -> [u8; HASH_BYTES] {
    Sha256::digest(token.as_bytes()).into()
}

fn parse_hash(text: &str) -> Option<[u8; HASH_BYTES]> {
    if text.len() != 2 * HASH_BYTES || !text.is_ascii() {
        return None;
    }
    let mut hash = [0_u8; HASH_BYTES];
    for (number, byte) in hash.iter_mut().enumerate() {
        let digits = text.get(2 * number..2 * number + 2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Identities, String> {
        parse(&[text.as_bytes().to_vec()])
    }

    fn refused(text: &str) -> String {
        read(text).err().unwrap_or_else(|| panic!("{text} is taken"))
    }

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let (first, second) = (NewToken::make().unwrap(), NewToken::make().unwrap());
        let text = format!(
            "[[identity]]\nname = \"shop\"\ntokens_sha256 = [\"{}\", \"{}\"]\nroles = [\"poster\", \"reader\"]\n\
             [[identity]]\nname = \"spiffe://example.org/payer\"\nroles = [\"payer\"]\nmay_unmask = true\n",
            first.sha256, second.sha256
        );
        assert!(!text.contains(first.token.as_str()));
        let identities = read(&text).unwrap();
        for token in [&first, &second] {
            assert_eq!(identities.by_token(token.token.as_str()).unwrap().name(), "shop");
        }
        assert!(identities.by_name("spiffe://example.org/payer").is_some());
        assert!(identities.by_name("payer").is_none());
    }

    /// Every byte of the hash counts: a comparison that stops early would take a token that begins like a known one.
    #[test]
    fn a_token_that_is_almost_right_is_refused() {
        let token = NewToken::make().unwrap();
        let known = token.token.as_str();
        for place in 0..64 {
            let mut digits: Vec<char> = token.sha256.chars().collect();
            digits[place] = if digits[place] == '0' { '1' } else { '0' };
            let other: String = digits.into_iter().collect();
            let identities = read(&format!(
                "[[identity]]\nname = \"shop\"\ntokens_sha256 = [\"{other}\"]\n"
            ))
            .unwrap();
            assert!(identities.by_token(known).is_none(), "digit {place} does not count");
        }
        let text = format!(
            "[[identity]]\nname = \"shop\"\ntokens_sha256 = [\"{}\"]\n",
            token.sha256
        );
        let identities = read(&text).unwrap();
        assert!(identities.by_token(known).is_some());
        for other in [
            &known[..known.len() - 1],
            &known[4..],
            "abt_",
            "",
            &format!("{known}A"),
            &token.sha256,
        ] {
            assert!(identities.by_token(other).is_none());
        }
    }

    /// A password is no token, even if somebody put its hash into the file.
    #[test]
    fn what_people_choose_is_no_token() {
        for chosen in ["hunter2", "abt_hunter2"] {
            let sha256: String = hash(chosen).iter().map(|byte| format!("{byte:02x}")).collect();
            let text = format!("[[identity]]\nname = \"shop\"\ntokens_sha256 = [\"{sha256}\"]\n");
            assert!(read(&text).unwrap().by_token(chosen).is_none());
        }
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_without_what_it_holds() {
        let secret = "abt_zqsecretzqsecretzqsecretzqsecretzqsecret";
        for text in [
            format!("token = \"{secret}\""),
            format!("[[identity]]\nname = \"shop\"\ntoken = \"{secret}\""),
            format!("[[identity]]\nname = \"shop\"\ntokens_sha256 = \"{secret}\""),
            format!("[[identity]]\nname = \"shop\"\ntokens_sha256 = [\"{secret}\"]"),
            format!("[[identity]]\nname = \"shop\"\nroles = [\"{secret}\"]"),
            format!("[[identity]]\nname = \"{secret}\nroles"),
            "[[identity]]\nroles = [\"reader\"]".to_owned(),
            "[[identity]]\nname = \"unauthenticated\"".to_owned(),
            "[[identity]]\nname = \"a\"\n[[identity]]\nname = \"a\"".to_owned(),
        ] {
            let problem = refused(&text);
            assert!(!problem.contains("zqsecret"), "{problem}");
        }
        let token = NewToken::make().unwrap();
        let twice = format!("tokens_sha256 = [\"{0}\", \"{0}\"]", token.sha256);
        assert!(refused(&format!("[[identity]]\nname = \"a\"\n{twice}")).contains("twice"));
        assert!(read("").is_ok(), "nobody is known, and nobody may do anything");
    }
}
