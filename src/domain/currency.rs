//! Currencies in which money may be stated.
//!
//! Owns the list of currency codes the service knows and the number of decimal
//! places (the "minor unit exponent") of each. The source is ISO 4217 list one,
//! as published on 2026-01-01 by its maintenance agency, reduced to the money
//! of a state or of a currency union.
//!
//! Left out on purpose: withdrawn codes (for example BGN, HRK, ANG, CUC, SLL,
//! ZWL), fund codes and units of account (BOV, CHE, CHW, CLF, COU, MXV, USN,
//! UYI, UYW, XAD, XDR, XSU, XUA), precious metals, bond market units, the
//! testing code XTS and the "no currency" code XXX. None of them can be paid
//! out.
//!
//! Not checked here: whether a payment network pays out in a currency, and
//! whether the decimals in everyday use differ from the standard's exponent.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Code and minor unit exponent of every accepted currency, sorted by code for
/// the binary search.
static CURRENCIES: &[(&str, u8)] = &[
    ("AED", 2),
    ("AFN", 2),
    ("ALL", 2),
    ("AMD", 2),
    ("AOA", 2),
    ("ARS", 2),
    ("AUD", 2),
    ("AWG", 2),
    ("AZN", 2),
    ("BAM", 2),
    ("BBD", 2),
    ("BDT", 2),
    ("BHD", 3),
    ("BIF", 0),
    ("BMD", 2),
    ("BND", 2),
    ("BOB", 2),
    ("BRL", 2),
    ("BSD", 2),
    ("BTN", 2),
    ("BWP", 2),
    ("BYN", 2),
    ("BZD", 2),
    ("CAD", 2),
    ("CDF", 2),
    ("CHF", 2),
    ("CLP", 0),
    ("CNY", 2),
    ("COP", 2),
    ("CRC", 2),
    ("CUP", 2),
    ("CVE", 2),
    ("CZK", 2),
    ("DJF", 0),
    ("DKK", 2),
    ("DOP", 2),
    ("DZD", 2),
    ("EGP", 2),
    ("ERN", 2),
    ("ETB", 2),
    ("EUR", 2),
    ("FJD", 2),
    ("FKP", 2),
    ("GBP", 2),
    ("GEL", 2),
    ("GHS", 2),
    ("GIP", 2),
    ("GMD", 2),
    ("GNF", 0),
    ("GTQ", 2),
    ("GYD", 2),
    ("HKD", 2),
    ("HNL", 2),
    ("HTG", 2),
    ("HUF", 2),
    ("IDR", 2),
    ("ILS", 2),
    ("INR", 2),
    ("IQD", 3),
    ("IRR", 2),
    ("ISK", 0),
    ("JMD", 2),
    ("JOD", 3),
    ("JPY", 0),
    ("KES", 2),
    ("KGS", 2),
    ("KHR", 2),
    ("KMF", 0),
    ("KPW", 2),
    ("KRW", 0),
    ("KWD", 3),
    ("KYD", 2),
    ("KZT", 2),
    ("LAK", 2),
    ("LBP", 2),
    ("LKR", 2),
    ("LRD", 2),
    ("LSL", 2),
    ("LYD", 3),
    ("MAD", 2),
    ("MDL", 2),
    ("MGA", 2),
    ("MKD", 2),
    ("MMK", 2),
    ("MNT", 2),
    ("MOP", 2),
    ("MRU", 2),
    ("MUR", 2),
    ("MVR", 2),
    ("MWK", 2),
    ("MXN", 2),
    ("MYR", 2),
    ("MZN", 2),
    ("NAD", 2),
    ("NGN", 2),
    ("NIO", 2),
    ("NOK", 2),
    ("NPR", 2),
    ("NZD", 2),
    ("OMR", 3),
    ("PAB", 2),
    ("PEN", 2),
    ("PGK", 2),
    ("PHP", 2),
    ("PKR", 2),
    ("PLN", 2),
    ("PYG", 0),
    ("QAR", 2),
    ("RON", 2),
    ("RSD", 2),
    ("RUB", 2),
    ("RWF", 0),
    ("SAR", 2),
    ("SBD", 2),
    ("SCR", 2),
    ("SDG", 2),
    ("SEK", 2),
    ("SGD", 2),
    ("SHP", 2),
    ("SLE", 2),
    ("SOS", 2),
    ("SRD", 2),
    ("SSP", 2),
    ("STN", 2),
    ("SVC", 2),
    ("SYP", 2),
    ("SZL", 2),
    ("THB", 2),
    ("TJS", 2),
    ("TMT", 2),
    ("TND", 3),
    ("TOP", 2),
    ("TRY", 2),
    ("TTD", 2),
    ("TWD", 2),
    ("TZS", 2),
    ("UAH", 2),
    ("UGX", 0),
    ("USD", 2),
    ("UYU", 2),
    ("UZS", 2),
    ("VED", 2),
    ("VES", 2),
    ("VND", 0),
    ("VUV", 0),
    ("WST", 2),
    ("XAF", 0),
    ("XCD", 2),
    ("XCG", 2),
    ("XOF", 0),
    ("XPF", 0),
    ("YER", 2),
    ("ZAR", 2),
    ("ZMW", 2),
    ("ZWG", 2),
];

const UNKNOWN: &str = "currency code is not an active ISO 4217 currency, use three upper-case letters such as EUR";

/// An active ISO 4217 currency. Ordered by its code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    // The code comes first: the derived order then is the order of the codes.
    code: &'static str,
    minor_units: u8,
}

impl Currency {
    /// Reads a code of exactly three upper-case letters.
    ///
    /// # Errors
    ///
    /// Says that the code is not an active currency, or is not written in
    /// upper case.
    pub fn parse(code: &str) -> Result<Self, &'static str> {
        let found = CURRENCIES.binary_search_by(|(known, _)| (*known).cmp(code));
        found
            .ok()
            .and_then(|position| CURRENCIES.get(position))
            .map(Self::from_row)
            .ok_or(UNKNOWN)
    }

    /// The three-letter code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.code
    }

    /// How many decimal places the smallest unit has: 2 for EUR, 0 for JPY, 3
    /// for KWD.
    #[must_use]
    pub fn minor_units(self) -> u32 {
        u32::from(self.minor_units)
    }

    /// Every accepted currency, in the order of the codes.
    pub fn all() -> impl Iterator<Item = Self> {
        CURRENCIES.iter().map(Self::from_row)
    }

    const fn from_row(&(code, minor_units): &(&'static str, u8)) -> Self {
        Self { code, minor_units }
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

impl<'de> Deserialize<'de> for Currency {
    /// Checks the code: an unknown currency is an error, never a guess.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::parse(&code).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_well_formed() {
        assert!(CURRENCIES.is_sorted_by(|a, b| a.0 < b.0));
        for (code, minor_units) in CURRENCIES {
            assert!(code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase()));
            assert!(matches!(minor_units, 0 | 2 | 3), "{code}");
        }
        assert_eq!(CURRENCIES.len(), 155);
    }

    #[test]
    fn every_currency_reads_back() {
        for currency in Currency::all() {
            assert_eq!(Currency::parse(currency.code()), Ok(currency));
        }
        assert_eq!(Currency::all().count(), CURRENCIES.len());
    }

    #[test]
    fn exponents_that_are_not_two() {
        let with = |units| {
            let rows = Currency::all().filter(move |c| c.minor_units() == units);
            rows.map(Currency::code).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            with(0),
            "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
        );
        assert_eq!(with(3), "BHD IQD JOD KWD LYD OMR TND");
    }

    #[test]
    fn exponents_often_taken_wrongly() {
        for code in ["MGA", "MRU", "HUF", "TWD", "IDR", "LAK", "RSD", "IRR"] {
            assert_eq!(Currency::parse(code).map(Currency::minor_units), Ok(2));
        }
    }

    #[test]
    fn successors_of_withdrawn_codes_are_known() {
        for code in ["EUR", "XCG", "CUP", "ZWG", "SLE", "VES", "VED", "BYN", "STN", "MRU"] {
            assert!(Currency::parse(code).is_ok(), "{code}");
        }
    }

    #[test]
    fn withdrawn_codes_are_refused() {
        for code in [
            "HRK", "BGN", "ANG", "CUC", "ZWL", "SLL", "VEF", "BYR", "STD", "MRO", "LTL", "LVL", "EEK", "ZMK", "DEM",
            "ZWD", "ZWR", "TMM", "GHC", "ROL",
        ] {
            assert_eq!(Currency::parse(code), Err(UNKNOWN), "{code}");
        }
    }

    #[test]
    fn codes_that_are_no_money_are_refused() {
        for code in [
            "XXX", "XTS", "XAU", "XAG", "XPT", "XPD", "XDR", "XSU", "XUA", "XBA", "XBB", "XBC", "XBD", "XAD", "CHE",
            "CHW", "UYI", "UYW", "MXV", "USN", "USS", "BOV", "CLF", "COU",
        ] {
            assert_eq!(Currency::parse(code), Err(UNKNOWN), "{code}");
        }
    }

    #[test]
    fn only_the_exact_spelling_is_accepted() {
        for code in [
            "",
            "EU",
            "EURO",
            "eur",
            "Eur",
            " EUR",
            "EUR ",
            "978",
            "E\u{00DC}R",
            "ЕUR",
            "EUR\0",
        ] {
            assert_eq!(Currency::parse(code), Err(UNKNOWN), "{code:?}");
        }
    }

    #[test]
    fn prints_and_serialises_as_the_code() {
        let euro = Currency::parse("EUR").unwrap();
        assert_eq!(format!("{euro} {euro:?}"), "EUR EUR");
        assert_eq!(serde_json::to_string(&euro).unwrap(), "\"EUR\"");
        assert_eq!(serde_json::from_str::<Currency>("\"EUR\"").unwrap(), euro);
        assert!(serde_json::from_str::<Currency>("\"BGN\"").is_err());
        assert!(serde_json::from_str::<Currency>("978").is_err());
    }

    #[test]
    fn orders_by_code() {
        assert!(Currency::parse("CHF") < Currency::parse("EUR"));
        assert!(Currency::all().is_sorted());
    }
}
