//! Business identifier codes (BIC, also known as SWIFT codes).
//!
//! Owns the reading of a BIC: its normal form, its parts and its country. The
//! source is ISO 9362:2022: a business party prefix of four characters, a
//! country code, a party suffix of two characters and an optional branch
//! identifier of three.
//!
//! Since its 2014 edition the standard allows letters and digits in the
//! prefix, and the ISO 20022 messages follow it. Codes issued so far have
//! letters only, but a code with digits is accepted here, so that the first
//! bank to get one can be paid.
//!
//! A BIC has no check digit. Not checked here: whether the code is assigned,
//! whether it names a live or a test participant, whether the bank can be
//! reached, and whether it goes with an account number.

use crate::domain::region::Region;
use crate::domain::text::{compact, is_space};
use serde::{Deserialize, Serialize};
use std::fmt;

const CHARACTERS: &str = "BIC may only have letters, digits and spaces, remove anything else";
const LENGTH: &str = "BIC has the wrong length, give 8 or 11 characters";
const COUNTRY: &str = "BIC does not have a country code at its fifth and sixth place, check the code";

/// A business identifier code of 8 or 11 characters, upper case, without
/// spaces. Part of a payee's bank details: its `Debug` output hides the code.
///
/// The branch identifier is kept as given, so the two spellings of a head
/// office, with and without `XXX`, are different values.
///
/// Deserialising does not check the code. It is meant for values this type has
/// written itself, never for what a client sends: use [`Bic::parse`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bic(String);

impl Bic {
    /// Reads a BIC; spaces of any kind and lower case are normalised.
    ///
    /// # Errors
    ///
    /// Says which part of the code is wrong.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let code = compact(value, is_space).ok_or(CHARACTERS)?;
        if !matches!(code.len(), 8 | 11) {
            return Err(LENGTH);
        }
        let country = code.get(4..6).ok_or(COUNTRY)?;
        Region::parse(country).map_err(|_| COUNTRY)?;
        Ok(Self(code))
    }

    /// The normal form: upper case, without spaces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The country of the business party: the fifth and sixth letter. Kosovo
    /// is `XK`.
    #[must_use]
    pub fn region_code(&self) -> &str {
        self.0.get(4..6).unwrap_or_default()
    }
}

impl fmt::Debug for Bic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bic(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_codes_are_accepted() {
        for (code, country) in [
            ("DEUTDEFF", "DE"),
            ("DEUTDEFF500", "DE"),
            ("NEDSZAJJXXX", "ZA"),
            ("CHASUS33", "US"),
            ("BSMLTRISXXX", "TR"),
            ("PCBKXKPR", "XK"),
            ("E097AEXX", "AE"),
        ] {
            let bic = Bic::parse(code).unwrap();
            assert_eq!((bic.as_str(), bic.region_code()), (code, country));
        }
    }

    #[test]
    fn spaces_and_lower_case_are_normalised() {
        for value in [" deutdeff500 ", "DEUT DE FF 500", "deut\u{A0}DE\u{202F}ff500"] {
            assert_eq!(Bic::parse(value).unwrap().as_str(), "DEUTDEFF500");
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        for value in ["", "DEUTDEF", "DEUTDEFF5", "DEUTDEFF50", "DEUTDEFF5000"] {
            assert_eq!(Bic::parse(value), Err(LENGTH), "{value}");
        }
    }

    #[test]
    fn wrong_countries_are_refused() {
        for value in ["DEUTUKFF", "DEUTXXFF", "DEUT1EFF", "DEUTD1FF", "DEUTELFF", "12345678"] {
            assert_eq!(Bic::parse(value), Err(COUNTRY), "{value}");
        }
    }

    #[test]
    fn other_characters_are_refused() {
        for value in ["DEUTDEF-", "DEUT-DE-FF", "DEUTDEFÖ", "DEUTDEFF\n", "DEUTDEF\u{212A}"] {
            assert_eq!(Bic::parse(value), Err(CHARACTERS), "{value:?}");
        }
    }

    #[test]
    fn debug_hides_the_code_and_serde_keeps_it() {
        let bic = Bic::parse("DEUTDEFF").unwrap();
        assert_eq!(format!("{bic:?}"), "Bic(redacted)");
        assert_eq!(serde_json::to_string(&bic).unwrap(), "\"DEUTDEFF\"");
        assert_eq!(serde_json::from_str::<Bic>("\"DEUTDEFF\"").unwrap(), bic);
    }
}
