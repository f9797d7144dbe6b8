//! Tax identifiers of payees.
//!
//! Owns the reading of VAT identification numbers, and of tax identifiers of
//! other kinds.
//!
//! For regions of the EU VAT area, and for the United Kingdom, a VAT number
//! must have the prefix of its region, and its shape and check digits are
//! checked (see `vat_rules` for the sources and the known limits). The prefix
//! is the country's code, except that Greece uses `EL`, Monaco uses `FR`, the
//! Isle of Man uses `GB`, and the United Kingdom uses `GB`, or `XI` for traders
//! in Northern Ireland. Overseas parts of France (`FR`) and Åland (`FI`) are
//! outside of the VAT area, but their businesses may have such a number.
//!
//! The world has no common rule for other numbers: they are only checked for
//! being plausible.
//!
//! Not checked here: whether a number is registered, and to whom; national
//! check digits outside of the EU and the United Kingdom.

use crate::domain::region::Region;
use crate::domain::text::is_space;
use crate::domain::vat_rules::{EU_PREFIXES, check};
use serde::{Deserialize, Serialize};
use std::fmt;

const VAT_CHARACTERS: &str =
    "VAT number has a character that is not allowed, use letters, digits, spaces, hyphens and dots";
const VAT_NO_PREFIX: &str = "VAT number must begin with the prefix of its region, \
    such as DE, EL for Greece or XI for Northern Ireland, add the prefix";
const VAT_WRONG_PREFIX: &str =
    "VAT number prefix must fit the region, give the number of the region or correct the region";
const VAT_SHAPE: &str = "VAT number has the wrong length or characters for its country, check the number";
const VAT_CHECK_DIGITS: &str = "VAT number check digit does not fit, check the number for typing errors";
const VAT_LENGTH: &str = "VAT number must have 2 to 32 characters";
const VAT_NO_DIGIT: &str = "VAT number has no digit, give the whole number";
const TAX_ID_CHARACTERS: &str = "tax id may only have letters, digits, spaces, hyphens, slashes and dots";
const TAX_ID_LENGTH: &str = "tax id must have 2 to 40 characters";
const TAX_ID_EMPTY: &str = "tax id has no letter or digit, give the whole id";

/// A VAT identification number in its normal form: upper case, without spaces,
/// dots and hyphens, with the prefix if the region uses one. May be that of a
/// person: its `Debug` output hides the number.
///
/// Deserialising does not check the number. It is meant for values this type
/// has written itself, never for what a client sends: use [`VatId::parse`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VatId(String);

/// A tax identifier of any kind, as written but for the spaces around it. May
/// be that of a person: its `Debug` output hides the identifier.
///
/// Deserialising does not check the identifier. It is meant for values this
/// type has written itself, never for what a client sends: use
/// [`TaxId::parse`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaxId(String);

/// Which VAT prefixes belong to a region.
enum Prefixes {
    /// Its numbers have one of these prefixes, always.
    Required(&'static [&'static str]),
    /// Its numbers may have this prefix.
    Possible(&'static str),
    /// Its numbers have no prefix known here.
    None,
}

impl VatId {
    /// Reads a VAT number of a region. Spaces, dots and hyphens are removed,
    /// lower case becomes upper case.
    ///
    /// # Errors
    ///
    /// Says whether the prefix, the shape or the check digit is wrong.
    pub fn parse(value: &str, region: Region) -> Result<Self, &'static str> {
        let number = normal_form(value).ok_or(VAT_CHARACTERS)?;
        match prefixes(region) {
            Prefixes::Required(prefixes) => check_prefixed(&number, prefixes)?,
            Prefixes::Possible(prefix) if number.starts_with(prefix) => {
                check_prefixed(&number, &[prefix])?;
            }
            Prefixes::Possible(_) | Prefixes::None => check_other(&number)?,
        }
        Ok(Self(number))
    }

    /// The normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for VatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VatId(redacted)")
    }
}

impl TaxId {
    /// Reads a tax identifier: 2 to 40 letters, digits, spaces, hyphens,
    /// slashes and dots. Spaces around it are removed, those inside are kept
    /// as plain spaces.
    ///
    /// # Errors
    ///
    /// Says whether a character or the length is wrong.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let plain = |c: char| if is_space(c) { ' ' } else { c };
        let id: String = value.trim_matches(is_space).chars().map(plain).collect();
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '/' | '.');
        if !id.chars().all(is_allowed) {
            return Err(TAX_ID_CHARACTERS);
        }
        if !(2..=40).contains(&id.len()) {
            return Err(TAX_ID_LENGTH);
        }
        if !id.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
            return Err(TAX_ID_EMPTY);
        }
        Ok(Self(id))
    }

    /// The identifier without spaces around it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TaxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaxId(redacted)")
    }
}

/// Removes spaces, dots and hyphens and turns letters into upper case. `+` and
/// `*` occur in Irish numbers only; the other checks refuse them.
fn normal_form(value: &str) -> Option<String> {
    let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '+' | '*');
    value
        .chars()
        .filter(|c| !is_space(*c) && !matches!(c, '.' | '-'))
        .map(|c| kept(c).then(|| c.to_ascii_uppercase()))
        .collect()
}

fn prefixes(region: Region) -> Prefixes {
    match region.code() {
        "GB" => Prefixes::Required(&["GB", "XI"]),
        "IM" => Prefixes::Required(&["GB"]),
        "GR" => Prefixes::Required(&["EL"]),
        "MC" => Prefixes::Required(&["FR"]),
        "AX" => Prefixes::Possible("FI"),
        "BL" | "GF" | "GP" | "MF" | "MQ" | "NC" | "PF" | "PM" | "RE" | "TF" | "WF" | "YT" => Prefixes::Possible("FR"),
        code => EU_PREFIXES
            .iter()
            .find(|prefix| **prefix == code)
            .map_or(Prefixes::None, |prefix| {
                Prefixes::Required(std::slice::from_ref(prefix))
            }),
    }
}

/// Checks a number that must have one of some prefixes.
fn check_prefixed(number: &str, prefixes: &[&str]) -> Result<(), &'static str> {
    let split = |prefix| Some((prefix, number.strip_prefix(prefix)?));
    match prefixes.iter().copied().find_map(split) {
        Some((prefix, rest)) => match check(prefix, rest) {
            Some(true) => Ok(()),
            Some(false) => Err(VAT_CHECK_DIGITS),
            None => Err(VAT_SHAPE),
        },
        None if has_known_prefix(number) => Err(VAT_WRONG_PREFIX),
        None => Err(VAT_NO_PREFIX),
    }
}

/// Whether a number begins with a VAT prefix, or with what is taken for one.
fn has_known_prefix(number: &str) -> bool {
    let others = ["GB", "GR", "MC"].iter();
    let mut known = EU_PREFIXES.iter().chain(others);
    known.any(|prefix| number.starts_with(prefix))
}

/// Checks a number of a region without rules of its own.
fn check_other(number: &str) -> Result<(), &'static str> {
    if number.contains(['+', '*']) {
        return Err(VAT_CHARACTERS);
    }
    if !(2..=32).contains(&number.len()) {
        return Err(VAT_LENGTH);
    }
    if !number.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(VAT_NO_DIGIT);
    }
    if is_eu_number(number) {
        return Err(VAT_WRONG_PREFIX);
    }
    Ok(())
}

/// Whether a number is a correct one of the EU VAT area. The check digit has to
/// fit: some countries' own numbers begin with two letters that are a prefix
/// elsewhere, followed by as many digits.
fn is_eu_number(number: &str) -> bool {
    let is_of = |prefix: &&str| {
        let rest = number.strip_prefix(*prefix);
        rest.and_then(|rest| check(prefix, rest)) == Some(true)
    };
    EU_PREFIXES.iter().any(is_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vat(value: &str, region: &str) -> Result<String, &'static str> {
        VatId::parse(value, Region::parse(region).unwrap()).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn numbers_of_every_member_state_are_accepted_for_their_region_only() {
        let numbers = [
            ("AT", "ATU13585627"),
            ("BE", "BE0403019261"),
            ("BG", "BG175074752"),
            ("CY", "CY10259033P"),
            ("CZ", "CZ25123891"),
            ("DE", "DE136695976"),
            ("DK", "DK13585628"),
            ("EE", "EE100931558"),
            ("GR", "EL094259216"),
            ("ES", "ESB58378431"),
            ("FI", "FI20774740"),
            ("FR", "FR40303265045"),
            ("HR", "HR33392005961"),
            ("HU", "HU12892312"),
            ("IE", "IE6433435OA"),
            ("IT", "IT00743110157"),
            ("LT", "LT119511515"),
            ("LU", "LU15027442"),
            ("LV", "LV40003521600"),
            ("MT", "MT11679112"),
            ("NL", "NL004495445B01"),
            ("PL", "PL8567346215"),
            ("PT", "PT501964843"),
            ("RO", "RO18547290"),
            ("SE", "SE123456789701"),
            ("SI", "SI50223054"),
            ("SK", "SK2022749619"),
        ];
        for (region, number) in numbers {
            assert_eq!(vat(number, region).as_deref(), Ok(number));
            assert_eq!(vat(&number[2..], region), Err(VAT_NO_PREFIX), "{number}");
            for (other, _) in numbers.iter().filter(|(other, _)| *other != region) {
                assert_eq!(vat(number, other), Err(VAT_WRONG_PREFIX), "{number} {other}");
            }
            for other in ["US", "CH", "NO", "GB", "TR", "IM", "XK"] {
                assert_eq!(vat(number, other), Err(VAT_WRONG_PREFIX), "{number} {other}");
            }
        }
    }

    #[test]
    fn separators_and_lower_case_are_normalised() {
        for value in ["de 136 695 976", " DE-136.695.976 ", "DE\u{A0}136695976"] {
            assert_eq!(vat(value, "DE").as_deref(), Ok("DE136695976"));
        }
        assert_eq!(vat("be 0403.019.261", "BE").as_deref(), Ok("BE0403019261"));
        assert_eq!(vat("IE 8*10503K", "IE").as_deref(), Ok("IE8*10503K"));
    }

    #[test]
    fn greece_monaco_and_the_united_kingdom_have_prefixes_of_their_own() {
        assert_eq!(vat("GR094259216", "GR"), Err(VAT_WRONG_PREFIX));
        assert!(vat("FR53000004605", "MC").is_ok());
        assert_eq!(vat("MC53000004605", "MC"), Err(VAT_WRONG_PREFIX));
        for prefix in ["GB", "XI"] {
            assert!(vat(&format!("{prefix}980780684"), "GB").is_ok());
            assert_eq!(vat(&format!("{prefix}980780685"), "GB"), Err(VAT_CHECK_DIGITS));
            assert_eq!(vat(&format!("{prefix}98078068"), "GB"), Err(VAT_SHAPE));
        }
        assert!(vat("GB980780684", "IM").is_ok());
        assert_eq!(vat("XI980780684", "IM"), Err(VAT_WRONG_PREFIX));
        assert_eq!(vat("XI980780684", "IE"), Err(VAT_WRONG_PREFIX));
        assert_eq!(vat("GB980780684", "IE"), Err(VAT_WRONG_PREFIX));
    }

    #[test]
    fn wrong_shapes_and_check_digits_are_told_apart() {
        assert_eq!(vat("DE136695977", "DE"), Err(VAT_CHECK_DIGITS));
        assert_eq!(vat("DE13669597", "DE"), Err(VAT_SHAPE));
        assert_eq!(vat("DE", "DE"), Err(VAT_SHAPE));
        assert_eq!(vat("DE/136695976", "DE"), Err(VAT_SHAPE));
        assert_eq!(vat("DEDE136695976", "DE"), Err(VAT_SHAPE));
        assert_eq!(vat("", "DE"), Err(VAT_NO_PREFIX));
        for value in [
            "DE136695976\n",
            "DE136695976,",
            "DÉ136695976",
            "DE_136695976",
            "DE１36695976",
        ] {
            assert_eq!(vat(value, "DE"), Err(VAT_CHARACTERS), "{value:?}");
        }
    }

    #[test]
    fn overseas_businesses_may_have_the_number_of_the_mainland() {
        assert!(vat("FR40303265045", "RE").is_ok());
        assert_eq!(vat("FR41303265045", "RE"), Err(VAT_CHECK_DIGITS));
        assert!(vat("123456", "RE").is_ok());
        assert!(vat("FI20774740", "AX").is_ok());
        assert_eq!(vat("SE123456789701", "AX"), Err(VAT_WRONG_PREFIX));
    }

    #[test]
    fn numbers_of_other_regions_are_accepted() {
        for (value, region, normal) in [
            ("NO123456789MVA", "NO", "NO123456789MVA"),
            ("NO 123 456 789 MVA", "NO", "NO123456789MVA"),
            ("CHE-123.456.789 MWST", "CH", "CHE123456789MWST"),
            ("12-3456789", "US", "123456789"),
            ("51 824 753 556", "AU", "51824753556"),
            ("22AAAAA0000A1Z5", "IN", "22AAAAA0000A1Z5"),
            ("12.345.678/0001-95", "BR", "12345678/000195"),
            ("SE123456789", "MY", "SE123456789"),
            ("A1", "JP", "A1"),
        ] {
            assert_eq!(vat(value, region).as_deref(), Ok(normal));
        }
        assert!(vat(&"1".repeat(32), "US").is_ok());
    }

    #[test]
    fn implausible_numbers_of_other_regions_are_refused() {
        for value in ["", "1", "- .", &"1".repeat(33)] {
            assert_eq!(vat(value, "US"), Err(VAT_LENGTH), "{value}");
        }
        assert_eq!(vat("none", "US"), Err(VAT_NO_DIGIT));
        for value in ["12+34", "12*34", "12_34", "12\n34", "é1234", "=1+2", "12,34"] {
            assert_eq!(vat(value, "US"), Err(VAT_CHARACTERS), "{value}");
        }
    }

    #[test]
    fn every_region_of_the_vat_area_needs_a_prefix() {
        let needing = Region::all().filter(|r| matches!(prefixes(*r), Prefixes::Required(_)));
        // 27 member states, the United Kingdom, the Isle of Man and Monaco.
        assert_eq!(needing.count(), 30);
    }

    #[test]
    fn tax_ids() {
        let tax_id = |value: &str| TaxId::parse(value).map(|id| id.as_str().to_owned());
        for (value, normal) in [
            ("12-3456789", "12-3456789"),
            ("  123 45 6789 ", "123 45 6789"),
            ("\u{A0}12\u{A0}34", "12 34"),
            ("abc/12.3", "abc/12.3"),
            ("1A", "1A"),
        ] {
            assert_eq!(tax_id(value).as_deref(), Ok(normal));
        }
        assert!(tax_id(&"1".repeat(40)).is_ok());
        for value in ["", " ", "1", " 1 ", &"1".repeat(41)] {
            assert_eq!(tax_id(value), Err(TAX_ID_LENGTH), "{value}");
        }
        for value in ["12_34", "12\t34", "12\n", "=12", "é12", "12;34", "<b>"] {
            assert_eq!(tax_id(value), Err(TAX_ID_CHARACTERS), "{value}");
        }
        assert_eq!(tax_id("- / ."), Err(TAX_ID_EMPTY));
    }

    #[test]
    fn debug_hides_the_numbers_and_serde_keeps_them() {
        let vat = VatId::parse("DE136695976", Region::parse("DE").unwrap()).unwrap();
        let tax = TaxId::parse("12-3456789").unwrap();
        assert_eq!(format!("{vat:?} {tax:?}"), "VatId(redacted) TaxId(redacted)");
        let json = serde_json::to_string(&(&vat, &tax)).unwrap();
        assert_eq!(json, "[\"DE136695976\",\"12-3456789\"]");
        assert_eq!(serde_json::from_str::<(VatId, TaxId)>(&json).unwrap(), (vat, tax));
    }
}
