//! Exact money: amounts in multiples of a millionth of a currency unit, and their limits.
//!
//! No floating point, no rounding but the one that is asked for ([`Amount::floor_to_decimals`]), no wrapping: every
//! operation is checked. Two currencies are never added.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::currency::Currency;
use crate::domain::error::{Error, Result};

/// Decimals kept of every amount: the store counts millionths of the currency unit.
pub const MAX_DECIMALS: u32 = 6;
/// The largest amount of one entry, either way, in currency units.
pub const MAX_ENTRY_UNITS: i64 = 10_000_000_000;
/// The largest balance of one account in one currency, either way, in currency units.
pub const MAX_BALANCE_UNITS: i64 = 1_000_000_000_000;
/// The largest sum of one account's open credits (and of its open debts) in one currency, in currency units. Keeps every
/// sum over one account within the 64 bits that the store counts in, with a factor of two to spare.
pub const MAX_SIDE_UNITS: i64 = 4 * MAX_BALANCE_UNITS;

const MICROS_A_UNIT: i64 = 1_000_000;
/// More digits than any amount within the limits has.
const MAX_TEXT_LENGTH: usize = 30;

/// An exact signed amount without its currency, a multiple of 10^-6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(Decimal);

/// An exact amount in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// The currency.
    pub currency: Currency,
    /// The amount in units of the currency.
    pub amount: Amount,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// Reads `-?digits[.digits]` with ASCII digits and at most six decimals. Refuses exponents, plus signs, separators,
    /// leading and trailing dots, `-0`, and more digits than any amount can have.
    pub fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        const SYNTAX: &str =
            "must be a plain decimal number such as 12.50: digits, an optional minus, an optional point";
        if text.len() > MAX_TEXT_LENGTH {
            return Err("has too many digits");
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (digits, None),
        };
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || fraction.is_some_and(|fraction| !all_digits(fraction)) {
            return Err(SYNTAX);
        }
        if fraction.is_some_and(|fraction| fraction.len() > MAX_DECIMALS as usize) {
            return Err("must have at most 6 decimals");
        }
        let decimal = Decimal::from_str_exact(text).map_err(|_| "has too many digits")?;
        if decimal.is_zero() && text.starts_with('-') {
            return Err("must be written 0, without a minus");
        }
        Ok(Self(decimal.normalize()))
    }

    /// From millionths of a unit; fails beyond what a decimal of 96 bits holds, which no sum within the limits reaches.
    pub fn from_micros(micros: i128) -> Result<Self> {
        Decimal::try_from_i128_with_scale(micros, MAX_DECIMALS)
            .map(|decimal| Self(decimal.normalize()))
            .map_err(|_| overflow())
    }

    /// From whole units.
    #[must_use]
    pub fn from_units(units: i64) -> Self {
        Self(Decimal::from(units))
    }

    /// Millionths of a unit as the store counts them; fails beyond 64 bits.
    pub fn to_micros(self) -> Result<i64> {
        let scaled = self.0.checked_mul(Decimal::from(MICROS_A_UNIT)).ok_or_else(overflow)?;
        if !scaled.fract().is_zero() {
            return Err(Error::internal("an amount has more than six decimals"));
        }
        i64::try_from(scaled.trunc().normalize().mantissa()).map_err(|_| overflow())
    }

    /// Whole units and the millionths beyond them, both with the sign of the amount: how totals over many accounts are
    /// stored, which may exceed 64 bits of millionths.
    pub fn to_units_and_micros(self) -> Result<(i64, i64)> {
        let units = self.0.trunc();
        let rest = Self(self.0.checked_sub(units).ok_or_else(overflow)?);
        let whole = i64::try_from(units.normalize().mantissa()).map_err(|_| overflow())?;
        Ok((whole, rest.to_micros()?))
    }

    /// The sum.
    pub fn checked_add(self, other: Self) -> Result<Self> {
        self.0
            .checked_add(other.0)
            .map(|sum| Self(sum.normalize()))
            .ok_or_else(overflow)
    }

    /// The difference.
    pub fn checked_sub(self, other: Self) -> Result<Self> {
        self.checked_add(other.negated())
    }

    /// The same amount the other way.
    #[must_use]
    pub fn negated(self) -> Self {
        if self.0.is_zero() { self } else { Self(-self.0) }
    }

    /// Without its sign.
    #[must_use]
    pub fn magnitude(self) -> Self {
        Self(self.0.abs())
    }

    /// Rounded towards minus infinity to so many decimals. The only rounding there is; what is cut off is carried forward.
    #[must_use]
    pub fn floor_to_decimals(self, decimals: u32) -> Self {
        Self(
            self.0
                .round_dp_with_strategy(decimals, rust_decimal::RoundingStrategy::ToNegativeInfinity)
                .normalize(),
        )
    }

    /// Whether it has at most so many decimals.
    #[must_use]
    pub fn fits_decimals(self, decimals: u32) -> bool {
        self.0.normalize().scale() <= decimals
    }

    /// Whether it is zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Whether it is above zero.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self > Self::ZERO
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self < Self::ZERO
    }

    /// As text with at least so many decimals, more (up to six) only where they are not zero.
    #[must_use]
    pub fn to_text(self, min_decimals: u32) -> String {
        let normalized = self.0.normalize();
        let decimals = normalized.scale().max(min_decimals);
        format!("{normalized:.*}", decimals as usize)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_text(0))
    }
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl Money {
    /// An amount in a currency.
    #[must_use]
    pub fn new(currency: Currency, amount: Amount) -> Self {
        Self { currency, amount }
    }

    /// The amount as text, with at least the currency's own decimals.
    #[must_use]
    pub fn amount_text(&self) -> String {
        self.amount.to_text(self.currency.minor_units())
    }
}

fn overflow() -> Error {
    Error::internal("an amount is beyond the range that is counted in")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_decimals_are_read() {
        for (text, shown) in [
            ("0", "0.00"),
            ("12.5", "12.50"),
            ("-0.000001", "-0.000001"),
            ("007", "7.00"),
            ("10000000000", "10000000000.00"),
            ("1.230000", "1.23"),
        ] {
            assert_eq!(Amount::parse(text).unwrap().to_text(2), shown, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "-",
            "+1",
            "NaN",
            "inf",
            "1e3",
            "1,5",
            "-0",
            "-0.00",
            ".5",
            "5.",
            "1_000",
            " 1",
            "1 ",
            "0x10",
            "1.0000001",
            "--1",
            "1.2.3",
            "١٢",
            "１",
            "1234567890123456789012345678901234567890",
            "9999999999999999999999999999",
        ] {
            let outcome = Amount::parse(text);
            if text.len() == 28 {
                assert!(outcome.is_err() || outcome.unwrap().to_micros().is_err(), "{text}");
            } else {
                assert!(outcome.is_err(), "{text}");
            }
        }
    }

    #[test]
    fn sums_beyond_the_range_fail_and_do_not_wrap() {
        let huge = Amount::from_micros(i128::from(i64::MAX)).unwrap();
        assert!(huge.to_micros().is_ok());
        assert!(
            huge.checked_add(Amount::from_micros(1).unwrap())
                .unwrap()
                .to_micros()
                .is_err()
        );
        assert!(Amount::from_micros(i128::MAX).is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips(micros in any::<i64>()) {
            let amount = Amount::from_micros(i128::from(micros)).unwrap();
            let text = amount.to_text(3);
            prop_assert_eq!(Amount::parse(&text).unwrap(), amount);
            prop_assert_eq!(amount.to_micros().unwrap(), micros);
        }

        #[test]
        fn units_and_micros_make_up_the_amount(micros in any::<i64>()) {
            let amount = Amount::from_micros(i128::from(micros)).unwrap();
            let (units, rest) = amount.to_units_and_micros().unwrap();
            prop_assert_eq!(i128::from(units) * 1_000_000 + i128::from(rest), i128::from(micros));
        }

        #[test]
        fn addition_is_that_of_integers(left in any::<i64>(), right in any::<i64>()) {
            let sum = Amount::from_micros(i128::from(left)).unwrap()
                .checked_add(Amount::from_micros(i128::from(right)).unwrap()).unwrap();
            prop_assert_eq!(sum, Amount::from_micros(i128::from(left) + i128::from(right)).unwrap());
        }

        #[test]
        fn floor_loses_less_than_one_minor_unit(micros in any::<i64>(), decimals in 0u32..=4) {
            let amount = Amount::from_micros(i128::from(micros)).unwrap();
            let floor = amount.floor_to_decimals(decimals);
            let rest = amount.checked_sub(floor).unwrap();
            prop_assert!(!rest.is_negative());
            prop_assert!(floor.fits_decimals(decimals));
            prop_assert!(rest.to_micros().unwrap() < 10_i64.pow(6 - decimals));
        }
    }
}
