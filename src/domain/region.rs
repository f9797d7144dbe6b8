//! Countries and territories.
//!
//! Owns the list of region codes the service knows. The source is ISO 3166-1
//! alpha-2: its 249 officially assigned codes, upper case.
//!
//! One code more is accepted: `XK` for Kosovo. It is not part of ISO 3166-1
//! (the standard leaves the `X` range to its users), but the IBAN registry,
//! bank identifier codes and the European institutions all use it, so a payee
//! in Kosovo could not be named without it.
//!
//! Reserved codes that look like countries are refused: `UK` (use `GB`), `EL`
//! (use `GR`), `EU`, `IC`, `AC`, `TA` and the like.
//!
//! Not checked here: whether a payee in a region may be paid at all.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Every accepted code, sorted for the binary search.
#[rustfmt::skip]
static REGIONS: &[&str] = &[
    "AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AQ", "AR", "AS", "AT", "AU", "AW", "AX",
    "AZ", "BA", "BB", "BD", "BE", "BF", "BG", "BH", "BI", "BJ", "BL", "BM", "BN", "BO", "BQ",
    "BR", "BS", "BT", "BV", "BW", "BY", "BZ", "CA", "CC", "CD", "CF", "CG", "CH", "CI", "CK",
    "CL", "CM", "CN", "CO", "CR", "CU", "CV", "CW", "CX", "CY", "CZ", "DE", "DJ", "DK", "DM",
    "DO", "DZ", "EC", "EE", "EG", "EH", "ER", "ES", "ET", "FI", "FJ", "FK", "FM", "FO", "FR",
    "GA", "GB", "GD", "GE", "GF", "GG", "GH", "GI", "GL", "GM", "GN", "GP", "GQ", "GR", "GS",
    "GT", "GU", "GW", "GY", "HK", "HM", "HN", "HR", "HT", "HU", "ID", "IE", "IL", "IM", "IN",
    "IO", "IQ", "IR", "IS", "IT", "JE", "JM", "JO", "JP", "KE", "KG", "KH", "KI", "KM", "KN",
    "KP", "KR", "KW", "KY", "KZ", "LA", "LB", "LC", "LI", "LK", "LR", "LS", "LT", "LU", "LV",
    "LY", "MA", "MC", "MD", "ME", "MF", "MG", "MH", "MK", "ML", "MM", "MN", "MO", "MP", "MQ",
    "MR", "MS", "MT", "MU", "MV", "MW", "MX", "MY", "MZ", "NA", "NC", "NE", "NF", "NG", "NI",
    "NL", "NO", "NP", "NR", "NU", "NZ", "OM", "PA", "PE", "PF", "PG", "PH", "PK", "PL", "PM",
    "PN", "PR", "PS", "PT", "PW", "PY", "QA", "RE", "RO", "RS", "RU", "RW", "SA", "SB", "SC",
    "SD", "SE", "SG", "SH", "SI", "SJ", "SK", "SL", "SM", "SN", "SO", "SR", "SS", "ST", "SV",
    "SX", "SY", "SZ", "TC", "TD", "TF", "TG", "TH", "TJ", "TK", "TL", "TM", "TN", "TO", "TR",
    "TT", "TV", "TW", "TZ", "UA", "UG", "UM", "US", "UY", "UZ", "VA", "VC", "VE", "VG", "VI",
    "VN", "VU", "WF", "WS", "XK", "YE", "YT", "ZA", "ZM", "ZW",
];

const UNKNOWN: &str = "region code is not an ISO 3166-1 country code, use two upper-case letters such as DE";

/// A country or territory. Ordered by its code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(&'static str);

impl Region {
    /// Reads a code of exactly two upper-case letters.
    ///
    /// # Errors
    ///
    /// Says that the code is not an assigned country code, or is not written
    /// in upper case.
    pub fn parse(code: &str) -> Result<Self, &'static str> {
        REGIONS
            .binary_search(&code)
            .ok()
            .and_then(|position| REGIONS.get(position))
            .map(|known| Self(known))
            .ok_or(UNKNOWN)
    }

    /// The two-letter code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.0
    }

    /// Every accepted region, in the order of the codes.
    pub fn all() -> impl Iterator<Item = Self> {
        REGIONS.iter().map(|known| Self(known))
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Region {
    /// Checks the code: an unknown region is an error, never a guess.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::parse(&code).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_complete() {
        assert!(REGIONS.is_sorted_by(|a, b| a < b));
        // 249 codes of the standard and XK.
        assert_eq!(REGIONS.len(), 250);
        for code in REGIONS {
            assert!(code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase()));
        }
    }

    #[test]
    fn every_region_reads_back() {
        for region in Region::all() {
            assert_eq!(Region::parse(region.code()), Ok(region));
        }
        assert_eq!(Region::all().count(), REGIONS.len());
    }

    #[test]
    fn kosovo_and_small_territories_are_known() {
        for code in ["XK", "SS", "CW", "SX", "BQ", "AX", "IM", "JE", "GG", "TL", "PS"] {
            assert!(Region::parse(code).is_ok(), "{code}");
        }
    }

    #[test]
    fn reserved_and_withdrawn_codes_are_refused() {
        for code in [
            "UK", "EU", "EL", "XI", "IC", "AC", "TA", "EA", "DG", "CP", "FX", "UN", "AN", "CS", "YU", "SU", "TP", "ZR",
            "BU", "DD", "XX", "ZZ", "QZ", "AA",
        ] {
            assert_eq!(Region::parse(code), Err(UNKNOWN), "{code}");
        }
    }

    #[test]
    fn only_the_exact_spelling_is_accepted() {
        for code in ["", "D", "de", "De", "DEU", " DE", "DE ", "DЕ", "D\u{C9}", "276"] {
            assert_eq!(Region::parse(code), Err(UNKNOWN), "{code:?}");
        }
    }

    #[test]
    fn prints_and_serialises_as_the_code() {
        let region = Region::parse("DE").unwrap();
        assert_eq!(format!("{region} {region:?}"), "DE DE");
        assert_eq!(serde_json::to_string(&region).unwrap(), "\"DE\"");
        assert_eq!(serde_json::from_str::<Region>("\"DE\"").unwrap(), region);
        assert!(serde_json::from_str::<Region>("\"UK\"").is_err());
    }
}
