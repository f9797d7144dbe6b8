//! Electronic mail addresses.
//!
//! Owns the reading of a payee's address. The sources are RFC 5321 (lengths)
//! and RFC 5322 (characters), reduced to what mail providers and payment
//! services give out: `local@domain` with a dot-atom before the sign and a host
//! name of at least two labels after it. The domain may be internationalised
//! (RFC 5890); it is kept as written, not turned into its `xn--` form.
//!
//! Refused though the standards know them: display names, comments, quoted
//! local parts, address literals such as `[192.0.2.1]`, hosts without a dot,
//! and local parts outside ASCII (RFC 6531).
//!
//! Not checked here: whether the domain exists and receives mail, whether the
//! mailbox exists, and whose it is.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest address, in bytes (RFC 5321 with its erratum 1690).
const ADDRESS_MAX: usize = 254;
/// Longest local part, in bytes.
const LOCAL_MAX: usize = 64;
/// Longest label of a domain, in bytes.
const LABEL_MAX: usize = 63;

const SPACE: &str = "e-mail address has a space, remove it, also at the beginning and the end";
const SHAPE: &str = "e-mail address must have the form name@domain with a single at sign";
const LENGTH: &str = "e-mail address is too long, at most 254 bytes with 64 before the at sign";
const LOCAL: &str = "e-mail address has a character or dot before the at sign that is not allowed there";
const DOMAIN: &str = "e-mail address has an invalid domain, give a name such as example.com";

/// An e-mail address. The domain is in lower case, the local part as given:
/// only its own server knows whether case matters there. Personal data: its
/// `Debug` output hides the address.
///
/// Deserialising does not check the address. It is meant for values this type
/// has written itself, never for what a client sends: use [`Email::parse`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

impl Email {
    /// Reads an address. White space is refused, also around the address: it
    /// is often a sign of a second address or of a display name.
    ///
    /// # Errors
    ///
    /// Says which part of the address is wrong.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(SPACE);
        }
        let (local, domain) = value.split_once('@').ok_or(SHAPE)?;
        if local.is_empty() || domain.contains('@') {
            return Err(SHAPE);
        }
        // Lower case first: for some letters it is longer, or not a letter.
        let domain = domain.to_lowercase();
        let length = local.len() + 1 + domain.len();
        if local.len() > LOCAL_MAX || length > ADDRESS_MAX {
            return Err(LENGTH);
        }
        if !is_dot_atom(local) {
            return Err(LOCAL);
        }
        if !is_domain(&domain) {
            return Err(DOMAIN);
        }
        Ok(Self(format!("{local}@{domain}")))
    }

    /// The address with its domain in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(redacted)")
    }
}

/// `dot-atom-text` of RFC 5322: atoms with single dots between them.
fn is_dot_atom(local: &str) -> bool {
    let is_atom = |atom: &str| !atom.is_empty() && atom.chars().all(is_atext);
    local.split('.').all(is_atom)
}

fn is_atext(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(character)
}

/// At least two labels, of which the last is a possible top-level domain.
fn is_domain(domain: &str) -> bool {
    let Some((_, top)) = domain.rsplit_once('.') else {
        return false;
    };
    domain.split('.').all(is_label) && is_top_level(top)
}

/// No top-level domain has a single character, and one of digits only would be
/// an Internet address.
fn is_top_level(label: &str) -> bool {
    label.chars().count() > 1 && !label.bytes().all(|byte| byte.is_ascii_digit())
}

/// Letters, digits and hyphens, with no hyphen at either end.
fn is_label(label: &str) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || c == '-';
    let has_length = (1..=LABEL_MAX).contains(&label.len());
    has_length && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_addresses_are_accepted() {
        for address in [
            "jane@example.com",
            "jane.doe+payouts@mail.example.co.uk",
            "o'neil@example.org",
            "_x-1@ex-ample.travel",
            "{a}=b|c~d!e#f$g%h&i*j/k?l^m`n@example.com",
            "a@1.example",
            "a@123.com",
            "a@xn--mnchen-3ya.de",
            "jörg@example.com".replace('ö', "oe").as_str(),
            "a@münchen.de",
            "a@пример.рф",
            "a@例え.テスト",
        ] {
            assert_eq!(Email::parse(address).unwrap().as_str(), address);
        }
    }

    #[test]
    fn only_the_domain_is_put_in_lower_case() {
        for (value, normal) in [
            ("Jane.Doe@EXAMPLE.Com", "Jane.Doe@example.com"),
            ("a@MÜNCHEN.DE", "a@münchen.de"),
        ] {
            let email = Email::parse(value).unwrap();
            assert_eq!(email.as_str(), normal);
            assert_eq!(Email::parse(email.as_str()).as_ref(), Ok(&email));
        }
    }

    #[test]
    fn white_space_and_control_characters_are_refused() {
        for value in [
            " a@example.com",
            "a@example.com ",
            "a@example.com\n",
            "a b@example.com",
            "a@exam ple.com",
            "a\0@example.com",
            "a@example.com\r\nBcc: b@example.com",
            "a\u{A0}@example.com",
            "Jane Doe <jane@example.com>",
        ] {
            assert_eq!(Email::parse(value), Err(SPACE), "{value:?}");
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        for value in ["", "@", "jane", "example.com", "@example.com", "a@b@example.com"] {
            assert_eq!(Email::parse(value), Err(SHAPE), "{value}");
        }
    }

    #[test]
    fn wrong_local_parts_are_refused() {
        for local in [
            ".a", "a.", "a..b", ".", "\"a\"", "a,b", "a;b", "a:b", "(a)", "<a", "a\\b", "[a]", "jörg",
        ] {
            let value = format!("{local}@example.com");
            assert_eq!(Email::parse(&value), Err(LOCAL), "{value}");
        }
    }

    #[test]
    fn wrong_domains_are_refused() {
        for domain in [
            "",
            "localhost",
            ".com",
            "example.",
            "example.com.",
            "example..com",
            "-a.com",
            "a-.com",
            "a.-com",
            "a_b.com",
            "192.0.2.1",
            "[192.0.2.1]",
            "[IPv6:::1]",
            "example.123",
            "example.c",
            "a,b.com",
            "a.com>",
            "exa/mple.com",
            "ex!.com",
            "a\u{200B}b.com",
            "a。com",
            "\u{130}.com",
        ] {
            let value = format!("a@{domain}");
            assert_eq!(Email::parse(&value), Err(DOMAIN), "{value}");
        }
    }

    #[test]
    fn lengths_are_limited() {
        let local = "a".repeat(64);
        assert!(Email::parse(&format!("{local}@example.com")).is_ok());
        assert_eq!(Email::parse(&format!("{local}a@example.com")), Err(LENGTH));
        let label = "b".repeat(63);
        assert!(Email::parse(&format!("a@{label}.com")).is_ok());
        assert_eq!(Email::parse(&format!("a@{label}b.com")), Err(DOMAIN));
        let rest = 254 - "@".len() - 2 * 64 - ".com".len();
        let longest = format!("{}@{label}.{label}.com", "a".repeat(rest.min(64)));
        assert!(longest.len() <= 254 && Email::parse(&longest).is_ok());
        let domain = format!("{label}.{label}.{}.com", "c".repeat(57));
        let exact = format!("{}@{domain}", "a".repeat(254 - 1 - domain.len()));
        assert_eq!(exact.len(), 254);
        assert!(Email::parse(&exact).is_ok());
        assert_eq!(Email::parse(&format!("a{exact}")), Err(LENGTH));
    }

    #[test]
    fn debug_hides_the_address_and_serde_keeps_it() {
        let email = Email::parse("jane@example.com").unwrap();
        assert_eq!(format!("{email:?}"), "Email(redacted)");
        let json = serde_json::to_string(&email).unwrap();
        assert_eq!(json, "\"jane@example.com\"");
        assert_eq!(serde_json::from_str::<Email>(&json).unwrap(), email);
    }
}
