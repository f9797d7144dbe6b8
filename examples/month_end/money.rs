//! Adding up amounts: exact decimals, and never two currencies in one sum.

use crate::failure::Failure;
use affiliate_billing::proto::Money;
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// Sums, one a currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals(BTreeMap<String, Decimal>);

impl Totals {
    /// Adds every amount to the sum of its currency.
    pub(crate) fn of<'a>(amounts: impl IntoIterator<Item = &'a Money>) -> Result<Self, Failure> {
        let mut totals = Self::default();
        for money in amounts {
            totals.add(money)?;
        }
        Ok(totals)
    }

    /// Adds one amount to the sum of its currency.
    pub(crate) fn add(&mut self, money: &Money) -> Result<(), Failure> {
        let sum = self.0.entry(money.currency_code.clone()).or_default();
        // The operators of `Decimal` panic on overflow; the checked methods do not.
        *sum = sum
            .checked_add(amount(money)?)
            .ok_or_else(|| Failure::Unexpected("a total is too large".to_owned()))?;
        Ok(())
    }

    /// The sum in one currency; zero when there was nothing in it.
    pub(crate) fn in_currency(&self, currency_code: &str) -> Decimal {
        self.0.get(currency_code).copied().unwrap_or_default()
    }

    /// The currencies, in alphabetical order.
    pub(crate) fn currencies(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// `EUR 1.50, JPY 20`, or `nothing`.
    pub(crate) fn in_words(&self) -> String {
        let sums: Vec<String> = self
            .0
            .iter()
            .map(|(currency, sum)| format!("{currency} {sum}"))
            .collect();
        if sums.is_empty() {
            return "nothing".to_owned();
        }
        sums.join(", ")
    }
}

/// The amount of a money value as a number.
pub(crate) fn amount(money: &Money) -> Result<Decimal, Failure> {
    Decimal::from_str_exact(&money.amount)
        .map_err(|_| Failure::Unexpected(format!("`{}` is no amount of {}", money.amount, money.currency_code)))
}

/// A number as tables show it: all with six decimals, so that they stand under each other.
pub(crate) fn exact(amount: Decimal) -> String {
    format!("{amount:.6}")
}

/// A money value that the contract promises, by reference.
pub(crate) fn required<'a>(money: Option<&'a Money>, field: &str) -> Result<&'a Money, Failure> {
    money.ok_or_else(|| Failure::missing(field))
}
