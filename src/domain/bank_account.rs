//! National bank account details, for accounts without an IBAN.
//!
//! Owns the reading of the United States' routing and account numbers, of the
//! United Kingdom's sort codes and account numbers, and of account numbers of
//! the rest of the world, which go with a bank identifier code.
//!
//! Sources: the routing number policy of the American Bankers Association
//! (ranges and the 3-7-1 check digit) and the Nacha file format (17 places for
//! an account number); the United Kingdom's Pay.UK sort code and account
//! number rules; the 34 characters SWIFT and ISO 20022 messages leave for an
//! account number of another kind.
//!
//! Not checked here: whether a bank or an account exists, whose account it is,
//! and the modulus check the United Kingdom's banks publish for pairs of sort
//! code and account number, which needs their quarterly table.

use crate::domain::text::{compact, is_all_zeros, is_space};
use serde::{Deserialize, Serialize};
use std::fmt;

const ROUTING_DIGITS: &str = "routing number must have exactly 9 digits";
const ROUTING_RANGE: &str = "routing number does not begin with a range in use, check the first two digits";
const ROUTING_CHECK: &str = "routing number check digit does not fit, check the number for typing errors";
const US_ACCOUNT_DIGITS: &str = "US account number must have 1 to 17 digits, only spaces and hyphens may separate them";
const SORT_CODE_DIGITS: &str = "sort code must have exactly 6 digits, written 123456, 12-34-56 or 12 34 56";
const UK_ACCOUNT_DIGITS: &str = "UK account number must have exactly 8 digits, \
    ask the bank for the 8-digit form if it is shorter";
const ACCOUNT_CHARACTERS: &str = "account number may only have letters, digits, spaces, hyphens, slashes and dots";
const ACCOUNT_LENGTH: &str = "account number must have 1 to 34 letters and digits";
const ACCOUNT_NO_DIGIT: &str = "account number has no digit, give the number of the account";
const ALL_ZEROS: &str = "number has only zeros, give the real number";

/// Most digits of an account number in the United States.
const US_ACCOUNT_MAX: usize = 17;
/// Most characters of an account number elsewhere.
const ACCOUNT_MAX: usize = 34;

/// Access to the normal form, and debug output that hides it: bank details are
/// personal data.
macro_rules! sealed_text {
    ($name:ident) => {
        impl $name {
            /// The normal form, without separators.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    };
}

/// A bank's routing number in the United States: 9 digits.
///
/// Deserialising does not check the number. It is meant for values this type
/// has written itself, never for what a client sends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoutingNumber(String);

/// An account number in the United States: 1 to 17 digits, leading zeros kept.
///
/// Deserialising does not check the number. It is meant for values this type
/// has written itself, never for what a client sends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UsAccountNumber(String);

/// A bank branch's sort code in the United Kingdom: 6 digits.
///
/// Deserialising does not check the code. It is meant for values this type has
/// written itself, never for what a client sends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SortCode(String);

/// An account number in the United Kingdom: 8 digits.
///
/// Deserialising does not check the number. It is meant for values this type
/// has written itself, never for what a client sends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UkAccountNumber(String);

/// An account number of any other country, to go with a bank identifier code:
/// 1 to 34 letters and digits, upper case.
///
/// Deserialising does not check the number. It is meant for values this type
/// has written itself, never for what a client sends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountNumber(String);

sealed_text!(RoutingNumber);
sealed_text!(UsAccountNumber);
sealed_text!(SortCode);
sealed_text!(UkAccountNumber);
sealed_text!(AccountNumber);

impl RoutingNumber {
    /// Reads a routing number; spaces and hyphens are removed. Numbers of the
    /// United States government (beginning with 00) are accepted.
    ///
    /// # Errors
    ///
    /// Says whether the digits, their range or the check digit are wrong.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let number = digits(value, is_space_or_hyphen).ok_or(ROUTING_DIGITS)?;
        if number.len() != 9 {
            return Err(ROUTING_DIGITS);
        }
        if is_all_zeros(&number) {
            return Err(ALL_ZEROS);
        }
        if !is_routing_range(number.get(..2).unwrap_or_default()) {
            return Err(ROUTING_RANGE);
        }
        if !routing_sum(&number).is_multiple_of(10) {
            return Err(ROUTING_CHECK);
        }
        Ok(Self(number))
    }
}

impl UsAccountNumber {
    /// Reads an account number; spaces and hyphens are removed, since banks
    /// print them but payment files must not have them.
    ///
    /// # Errors
    ///
    /// Says that the digits are wrong in number or kind, or all zeros.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let number = digits(value, is_space_or_hyphen).ok_or(US_ACCOUNT_DIGITS)?;
        if number.is_empty() || number.len() > US_ACCOUNT_MAX {
            return Err(US_ACCOUNT_DIGITS);
        }
        not_zero(&number)?;
        Ok(Self(number))
    }
}

impl SortCode {
    /// Reads a sort code, as six digits or as three pairs with a hyphen or a
    /// space between them. Other groupings are refused: they hint at a
    /// missing digit.
    ///
    /// # Errors
    ///
    /// Says that the code is not written in one of the accepted ways, or all
    /// zeros.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let trimmed = value.trim_matches(is_space);
        let code = without_pair_separators(trimmed).ok_or(SORT_CODE_DIGITS)?;
        not_zero(&code)?;
        Ok(Self(code))
    }
}

impl UkAccountNumber {
    /// Reads an account number; spaces are removed. Older numbers of 6 or 7
    /// digits are refused: banks differ in how they fill them up.
    ///
    /// # Errors
    ///
    /// Says that there are not exactly 8 digits, or only zeros.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let number = digits(value, is_space).ok_or(UK_ACCOUNT_DIGITS)?;
        if number.len() != 8 {
            return Err(UK_ACCOUNT_DIGITS);
        }
        not_zero(&number)?;
        Ok(Self(number))
    }
}

impl AccountNumber {
    /// Reads an account number; spaces, hyphens, slashes and dots are removed,
    /// lower case becomes upper case.
    ///
    /// # Errors
    ///
    /// Says that a character is not allowed, the length is wrong, or the value
    /// is a placeholder (without any digit, or only zeros).
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let number = compact(value, is_account_separator).ok_or(ACCOUNT_CHARACTERS)?;
        if number.is_empty() || number.len() > ACCOUNT_MAX {
            return Err(ACCOUNT_LENGTH);
        }
        if !number.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(ACCOUNT_NO_DIGIT);
        }
        not_zero(&number)?;
        Ok(Self(number))
    }
}

fn is_space_or_hyphen(character: char) -> bool {
    is_space(character) || character == '-'
}

fn is_account_separator(character: char) -> bool {
    is_space(character) || matches!(character, '-' | '/' | '.')
}

/// The value without separators if nothing but digits is left.
fn digits(value: &str, is_separator: fn(char) -> bool) -> Option<String> {
    compact(value, is_separator).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn not_zero(number: &str) -> Result<(), &'static str> {
    if is_all_zeros(number) {
        return Err(ALL_ZEROS);
    }
    Ok(())
}

/// The ranges the American Bankers Association gives out: 00 to the United
/// States government, 01 to 12 to the districts of the Federal Reserve, 21 to
/// 32 to thrift institutions, 61 to 72 to electronic transactions, 80 to
/// traveller's cheques.
fn is_routing_range(first_two: &str) -> bool {
    let range = first_two.parse::<u8>();
    matches!(range, Ok(0..=12 | 21..=32 | 61..=72 | 80))
}

/// The digits' sum weighted 3, 7, 1, 3, 7, 1, 3, 7, 1: a multiple of ten in a
/// correct number.
fn routing_sum(number: &str) -> u32 {
    let weights = [3, 7, 1].into_iter().cycle();
    let digits = number.chars().filter_map(|c| c.to_digit(10));
    digits.zip(weights).map(|(d, weight)| d * weight).sum()
}

/// The six digits of `123456`, `12-34-56` or `12 34 56`.
fn without_pair_separators(value: &str) -> Option<String> {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if value.len() == 6 && is_number(value) {
        return Some(value.to_owned());
    }
    let mut pairs = value.split(is_space_or_hyphen);
    let (first, second, third) = (pairs.next()?, pairs.next()?, pairs.next()?);
    let are_pairs = [first, second, third]
        .iter()
        .all(|pair| pair.len() == 2 && is_number(pair));
    // One kind of separator only: a mix is a sign of a slip.
    let hyphens = value.matches('-').count();
    let is_complete = pairs.next().is_none() && matches!(hyphens, 0 | 2);
    (are_pairs && is_complete).then(|| [first, second, third].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_routing_numbers_are_accepted() {
        for number in [
            "021000021",
            "011401533",
            "091000019",
            "121000358",
            "322271627",
            "000000518",
            "111000025",
            "026009593",
            "053000196",
        ] {
            let read = RoutingNumber::parse(number).map(|n| n.as_str().to_owned());
            assert_eq!(read.as_deref(), Ok(number));
        }
        for written in ["0210-0002-1", " 021 000 021 ", "021\u{A0}000021"] {
            let read = RoutingNumber::parse(written).unwrap();
            assert_eq!(read.as_str(), "021000021");
        }
    }

    #[test]
    fn every_wrong_digit_of_a_routing_number_is_refused() {
        for place in 0..9 {
            for digit in '0'..='9' {
                let mut changed = "121000358".to_owned();
                changed.replace_range(place..=place, &digit.to_string());
                let expected = changed == "121000358";
                assert_eq!(RoutingNumber::parse(&changed).is_ok(), expected);
            }
        }
        assert_eq!(RoutingNumber::parse("121000359"), Err(ROUTING_CHECK));
    }

    #[test]
    fn routing_ranges_out_of_use_are_refused() {
        for first in 0..100_u32 {
            let number = (0..10)
                .map(|last| format!("{first:02}100003{last}"))
                .find(|number| routing_sum(number).is_multiple_of(10))
                .unwrap();
            let in_use = matches!(first, 0..=12 | 21..=32 | 61..=72 | 80);
            let read = RoutingNumber::parse(&number).map(drop);
            assert_eq!(read, if in_use { Ok(()) } else { Err(ROUTING_RANGE) });
        }
    }

    #[test]
    fn malformed_routing_numbers_are_refused() {
        for value in ["", "12100035", "1210003580", "12100035A", "121.000.358", "１21000358"] {
            assert_eq!(RoutingNumber::parse(value), Err(ROUTING_DIGITS), "{value}");
        }
        assert_eq!(RoutingNumber::parse("000000000"), Err(ALL_ZEROS));
    }

    #[test]
    fn us_account_numbers() {
        for (value, normal) in [
            ("1", "1"),
            ("000123456789", "000123456789"),
            ("12345678901234567", "12345678901234567"),
            (" 1234-5678 90", "1234567890"),
        ] {
            assert_eq!(UsAccountNumber::parse(value).unwrap().as_str(), normal);
        }
        for value in ["", " - ", "123456789012345678", "12A4", "12.4", "12/4", "١٢٣"] {
            assert_eq!(UsAccountNumber::parse(value), Err(US_ACCOUNT_DIGITS), "{value}");
        }
        assert_eq!(UsAccountNumber::parse("000-000"), Err(ALL_ZEROS));
    }

    #[test]
    fn sort_codes() {
        for value in ["123456", "12-34-56", "12 34 56", " 12-34-56 ", "12\u{A0}34\u{A0}56"] {
            assert_eq!(SortCode::parse(value).unwrap().as_str(), "123456", "{value}");
        }
        assert_eq!(SortCode::parse("00-00-01").unwrap().as_str(), "000001");
        for value in [
            "",
            "12345",
            "1234567",
            "1-23456",
            "12-3456",
            "12-34 56",
            "12 34-56",
            "123-456",
            "12--34-56",
            "12-34-56-",
            "-12-34-56",
            "12.34.56",
            "12-34-5A",
            "12-34-567",
            "12-34-56-78",
            "--",
            "１23456",
            "é234",
            "12é456",
        ] {
            assert_eq!(SortCode::parse(value), Err(SORT_CODE_DIGITS), "{value}");
        }
        assert_eq!(SortCode::parse("00-00-00"), Err(ALL_ZEROS));
    }

    #[test]
    fn uk_account_numbers() {
        for value in ["31926819", "3192 6819", " 31926819"] {
            assert_eq!(UkAccountNumber::parse(value).unwrap().as_str(), "31926819");
        }
        assert!(UkAccountNumber::parse("00000001").is_ok());
        for value in ["", "1926819", "926819", "319268190", "3192-6819", "3192681A"] {
            assert_eq!(UkAccountNumber::parse(value), Err(UK_ACCOUNT_DIGITS), "{value}");
        }
        assert_eq!(UkAccountNumber::parse("00000000"), Err(ALL_ZEROS));
    }

    #[test]
    fn other_account_numbers() {
        for (value, normal) in [
            ("1", "1"),
            ("12-3456-0123456-00", "123456012345600"),
            ("abc.123/45 6", "ABC123456"),
            ("062-000 12345678", "06200012345678"),
        ] {
            assert_eq!(AccountNumber::parse(value).unwrap().as_str(), normal);
        }
        assert!(AccountNumber::parse(&"1".repeat(34)).is_ok());
        for value in [String::new(), " -/. ".to_owned(), "1".repeat(35)] {
            assert_eq!(AccountNumber::parse(&value), Err(ACCOUNT_LENGTH), "{value}");
        }
        for value in ["12_3", "12,3", "12ö3", "12\n3", "12\\3", "=1+2"] {
            assert_eq!(AccountNumber::parse(value), Err(ACCOUNT_CHARACTERS), "{value}");
        }
        assert_eq!(AccountNumber::parse("N/A"), Err(ACCOUNT_NO_DIGIT));
        assert_eq!(AccountNumber::parse("000/00"), Err(ALL_ZEROS));
    }

    #[test]
    fn debug_hides_the_numbers_and_serde_keeps_them() {
        let routing = RoutingNumber::parse("021000021").unwrap();
        let us = UsAccountNumber::parse("1234567").unwrap();
        let sort_code = SortCode::parse("12-34-56").unwrap();
        let uk = UkAccountNumber::parse("31926819").unwrap();
        let other = AccountNumber::parse("123/456").unwrap();
        assert_eq!(
            format!("{routing:?} {us:?} {sort_code:?} {uk:?} {other:?}"),
            "RoutingNumber(redacted) UsAccountNumber(redacted) SortCode(redacted) \
             UkAccountNumber(redacted) AccountNumber(redacted)"
        );
        let json = serde_json::to_string(&(&routing, &other)).unwrap();
        assert_eq!(json, "[\"021000021\",\"123456\"]");
        let read: (RoutingNumber, AccountNumber) = serde_json::from_str(&json).unwrap();
        assert_eq!(read, (routing, other));
    }
}
