//! Text that must not be seen: names, tax ids, bank details.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Text whose `Debug` shows nothing of it. It is serialised as it is, for the sealed store alone.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sensitive(redacted)")
    }
}

/// What a masked answer shows instead of a value: asterisks and its last four characters, or asterisks alone where that
/// would be all of it.
#[must_use]
pub fn mask(value: &str) -> String {
    const SHOWN: usize = 4;
    let length = value.chars().count();
    if length <= SHOWN {
        return MASK.to_owned();
    }
    let tail: String = value.chars().skip(length - SHOWN).collect();
    format!("{MASK}{tail}")
}

/// Whether a value looks like one that was answered masked.
#[must_use]
pub fn is_masked(value: &str) -> bool {
    value.contains(MASK)
}

const MASK: &str = "****";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_shows_the_last_four_of_long_values_only() {
        assert_eq!(mask("DE89370400440532013000"), "****3000");
        assert_eq!(mask("12345678"), "****5678");
        assert_eq!(mask("1234"), "****");
        assert_eq!(mask(""), "****");
        assert!(is_masked(&mask("DE89370400440532013000")));
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Sensitive::new("secret")), "Sensitive(redacted)");
    }
}
