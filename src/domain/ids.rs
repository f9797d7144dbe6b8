//! Identifiers: the opaque account id, UUIDs of our own, request ids and opaque texts with limits.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::time::Timestamp;

/// The account as the registering service named it: 1 to 128 bytes of visible characters without white space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(String);

/// Longest account id, in bytes.
pub const MAX_ACCOUNT_ID_BYTES: usize = 128;

impl AccountId {
    /// Checks an account id from outside.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("is required");
        }
        if text.len() > MAX_ACCOUNT_ID_BYTES {
            return Err("must be at most 128 bytes");
        }
        if text
            .chars()
            .any(|character| character.is_control() || character.is_whitespace())
        {
            return Err("must have visible characters only, without white space");
        }
        Ok(Self(text.to_owned()))
    }

    /// One read back from the store.
    #[must_use]
    pub fn from_store(text: String) -> Self {
        Self(text)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A new UUIDv7: ids made later sort later, which keeps indexes dense and lists in the order of creation.
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// The lowest UUIDv7 of a millisecond: ids made before are lower. Lets a search by time find its rows by their ids.
#[must_use]
pub fn lowest_id_at(time: Timestamp) -> Uuid {
    let millis = u64::try_from(time.as_micros().div_euclid(1000)).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

/// Reads a UUID of any version in its hyphenated form.
pub fn parse_uuid(text: &str) -> Result<Uuid, &'static str> {
    if text.is_empty() {
        return Err("is required");
    }
    const HYPHENATED_LENGTH: usize = 36;
    if text.len() != HYPHENATED_LENGTH {
        return Err("must be a UUID such as 0190d5a4-7c3e-7000-8000-3f6b7c1d2e4f");
    }
    Uuid::try_parse(text).map_err(|_| "must be a UUID such as 0190d5a4-7c3e-7000-8000-3f6b7c1d2e4f")
}

/// Checks an optional text of at most so many bytes without control characters (line breaks are allowed).
pub fn check_text(text: &str, max_bytes: usize) -> Result<(), String> {
    if text.len() > max_bytes {
        return Err(format!("must be at most {max_bytes} bytes"));
    }
    if text
        .chars()
        .any(|character| character.is_control() && character != '\n')
    {
        return Err("must not have control characters".to_owned());
    }
    Ok(())
}

/// Checks a required name of 1 to so many characters without control characters, and not white space alone.
pub fn check_name(text: &str, max_characters: usize) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is required".to_owned());
    }
    check_optional_name(text, max_characters)
}

/// As [`check_name`], but may be empty.
pub fn check_optional_name(text: &str, max_characters: usize) -> Result<(), String> {
    if text.chars().count() > max_characters {
        return Err(format!("must be at most {max_characters} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not have control characters".to_owned());
    }
    if text.trim() != text {
        return Err("must not begin or end with white space".to_owned());
    }
    Ok(())
}

/// Checks a text of at most so many bytes of visible ASCII characters, such as an id of another system.
pub fn check_visible_ascii(text: &str, max_bytes: usize) -> Result<(), String> {
    if text.len() > max_bytes {
        return Err(format!("must be at most {max_bytes} bytes"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be visible ASCII characters without spaces".to_owned());
    }
    Ok(())
}
