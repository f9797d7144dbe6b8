//! The country formats of international bank account numbers.
//!
//! Owns the table of the IBAN registry, kept by SWIFT as the registration
//! authority of ISO 13616: for each of the 89 registered countries, how many
//! characters of which class follow the country code and the check digits.
//! Kosovo is registered under `XK`. Brazil is kept as the registry has it since
//! letters are allowed in its bank code, which includes every older number.
//!
//! Territories whose accounts carry the code of another country (for example
//! Réunion with `FR`, Åland with `FI`, Jersey with `GB`) have no entry of their
//! own: the registry lists them under that country. Countries that use a
//! format of their own without registration are not in the table either.

/// The class of characters the registry allows in one place.
#[derive(Clone, Copy)]
pub(crate) enum Class {
    /// `n`: digits.
    Digits,
    /// `a`: upper-case letters.
    Letters,
    /// `c`: digits and letters; lower case has been normalised before.
    Both,
}

use Class::{Both as C, Digits as N, Letters as A};

/// The parts of a national account number (BBAN): a count of characters of one
/// class each, in order.
pub(crate) type Structure = &'static [(u8, Class)];

/// Country code and structure, sorted by code for the binary search.
#[rustfmt::skip]
static REGISTRY: &[(&str, Structure)] = &[
    ("AD", &[(4, N), (4, N), (12, C)]),
    ("AE", &[(3, N), (16, N)]),
    ("AL", &[(8, N), (16, C)]),
    ("AT", &[(5, N), (11, N)]),
    ("AZ", &[(4, A), (20, C)]),
    ("BA", &[(3, N), (3, N), (8, N), (2, N)]),
    ("BE", &[(3, N), (7, N), (2, N)]),
    ("BG", &[(4, A), (4, N), (2, N), (8, C)]),
    ("BH", &[(4, A), (14, C)]),
    ("BI", &[(5, N), (5, N), (11, N), (2, N)]),
    ("BR", &[(8, C), (5, N), (10, N), (1, C), (1, C)]),
    ("BY", &[(4, C), (4, N), (16, C)]),
    ("CH", &[(5, N), (12, C)]),
    ("CR", &[(4, N), (14, N)]),
    ("CY", &[(3, N), (5, N), (16, C)]),
    ("CZ", &[(4, N), (16, N)]),
    ("DE", &[(8, N), (10, N)]),
    ("DJ", &[(5, N), (5, N), (11, N), (2, N)]),
    ("DK", &[(4, N), (9, N), (1, N)]),
    ("DO", &[(4, C), (20, N)]),
    ("EE", &[(2, N), (14, N)]),
    ("EG", &[(4, N), (4, N), (17, N)]),
    ("ES", &[(4, N), (4, N), (1, N), (1, N), (10, N)]),
    ("FI", &[(3, N), (11, N)]),
    ("FK", &[(2, A), (12, N)]),
    ("FO", &[(4, N), (9, N), (1, N)]),
    ("FR", &[(5, N), (5, N), (11, C), (2, N)]),
    ("GB", &[(4, A), (6, N), (8, N)]),
    ("GE", &[(2, A), (16, N)]),
    ("GI", &[(4, A), (15, C)]),
    ("GL", &[(4, N), (9, N), (1, N)]),
    ("GR", &[(3, N), (4, N), (16, C)]),
    ("GT", &[(4, C), (20, C)]),
    ("HN", &[(4, A), (20, N)]),
    ("HR", &[(7, N), (10, N)]),
    ("HU", &[(3, N), (4, N), (1, N), (15, N), (1, N)]),
    ("IE", &[(4, A), (6, N), (8, N)]),
    ("IL", &[(3, N), (3, N), (13, N)]),
    ("IQ", &[(4, A), (3, N), (12, N)]),
    ("IS", &[(4, N), (2, N), (6, N), (10, N)]),
    ("IT", &[(1, A), (5, N), (5, N), (12, C)]),
    ("JO", &[(4, A), (4, N), (18, C)]),
    ("KW", &[(4, A), (22, C)]),
    ("KZ", &[(3, N), (13, C)]),
    ("LB", &[(4, N), (20, C)]),
    ("LC", &[(4, A), (24, C)]),
    ("LI", &[(5, N), (12, C)]),
    ("LT", &[(5, N), (11, N)]),
    ("LU", &[(3, N), (13, C)]),
    ("LV", &[(4, A), (13, C)]),
    ("LY", &[(3, N), (3, N), (15, N)]),
    ("MC", &[(5, N), (5, N), (11, C), (2, N)]),
    ("MD", &[(2, C), (18, C)]),
    ("ME", &[(3, N), (13, N), (2, N)]),
    ("MK", &[(3, N), (10, C), (2, N)]),
    ("MN", &[(4, N), (12, N)]),
    ("MR", &[(5, N), (5, N), (11, N), (2, N)]),
    ("MT", &[(4, A), (5, N), (18, C)]),
    ("MU", &[(4, A), (2, N), (2, N), (12, N), (3, N), (3, A)]),
    ("NI", &[(4, A), (20, N)]),
    ("NL", &[(4, A), (10, N)]),
    ("NO", &[(4, N), (6, N), (1, N)]),
    ("OM", &[(3, N), (16, C)]),
    ("PK", &[(4, A), (16, C)]),
    ("PL", &[(8, N), (16, N)]),
    ("PS", &[(4, A), (21, C)]),
    ("PT", &[(4, N), (4, N), (11, N), (2, N)]),
    ("QA", &[(4, A), (21, C)]),
    ("RO", &[(4, A), (16, C)]),
    ("RS", &[(3, N), (13, N), (2, N)]),
    ("RU", &[(9, N), (5, N), (15, C)]),
    ("SA", &[(2, N), (18, C)]),
    ("SC", &[(4, A), (2, N), (2, N), (16, N), (3, A)]),
    ("SD", &[(2, N), (12, N)]),
    ("SE", &[(3, N), (16, N), (1, N)]),
    ("SI", &[(5, N), (8, N), (2, N)]),
    ("SK", &[(4, N), (6, N), (10, N)]),
    ("SM", &[(1, A), (5, N), (5, N), (12, C)]),
    ("SO", &[(4, N), (3, N), (12, N)]),
    ("ST", &[(4, N), (4, N), (11, N), (2, N)]),
    ("SV", &[(4, A), (20, N)]),
    ("TL", &[(3, N), (14, N), (2, N)]),
    ("TN", &[(2, N), (3, N), (13, N), (2, N)]),
    ("TR", &[(5, N), (1, N), (16, C)]),
    ("UA", &[(6, N), (19, C)]),
    ("VA", &[(3, N), (15, N)]),
    ("VG", &[(4, A), (16, N)]),
    ("XK", &[(4, N), (10, N), (2, N)]),
    ("YE", &[(4, A), (4, N), (18, C)]),
];

/// The structure registered for a country code.
pub(crate) fn structure(country: &str) -> Option<Structure> {
    let found = REGISTRY.binary_search_by(|(known, _)| (*known).cmp(country));
    let entry = found.ok().and_then(|position| REGISTRY.get(position));
    entry.map(|(_, structure)| *structure)
}

/// How many characters a structure asks for.
pub(crate) fn length(structure: Structure) -> usize {
    structure.iter().map(|(count, _)| usize::from(*count)).sum()
}

/// Whether a text of the right length has the right class in every place.
pub(crate) fn fits(structure: Structure, bban: &str) -> bool {
    let classes = structure
        .iter()
        .flat_map(|(count, class)| std::iter::repeat_n(*class, usize::from(*count)));
    bban.len() == length(structure) && bban.bytes().zip(classes).all(|(b, class)| class.has(b))
}

impl Class {
    const fn has(self, byte: u8) -> bool {
        match self {
            Self::Digits => byte.is_ascii_digit(),
            Self::Letters => byte.is_ascii_uppercase(),
            Self::Both => byte.is_ascii_digit() || byte.is_ascii_uppercase(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::region::Region;

    #[test]
    fn table_is_sorted_and_complete() {
        assert!(REGISTRY.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(REGISTRY.len(), 89);
    }

    #[test]
    fn every_country_is_a_region() {
        for (country, structure) in REGISTRY {
            assert!(Region::parse(country).is_ok(), "{country}");
            // Norway has the shortest number (15), Russia the longest (33).
            assert!((11..=29).contains(&length(structure)), "{country}");
        }
    }

    #[test]
    fn class_is_checked_in_every_place() {
        let structure = structure("NL").unwrap();
        assert!(fits(structure, "ABNA0417164300"));
        assert!(!fits(structure, "ABN10417164300"));
        assert!(!fits(structure, "ABNAA417164300"));
        assert!(!fits(structure, "ABNa0417164300"));
        assert!(!fits(structure, "ABNA041716430"));
        assert!(!fits(structure, "ABNA04171643000"));
    }

    #[test]
    fn unregistered_countries_have_no_structure() {
        for country in ["US", "CA", "AU", "JP", "CN", "IN", "RE", "AX", "JE", "IR", "UK", ""] {
            assert!(structure(country).is_none(), "{country}");
        }
    }
}
