//! Shape and check digits of VAT identification numbers, country by country.
//!
//! Owns the rules of the 27 member states of the European Union, of Northern
//! Ireland (`XI`) and of the United Kingdom (`GB`). The sources are the shapes
//! the European Commission publishes for its VIES service and the check digit
//! algorithms published by the national tax authorities.
//!
//! Known limits, country by country:
//! - Czechia: the nine digits of a person born before 1954 have no check
//!   digit, only a date. Bulgaria, Latvia and Czechia: a person's number must
//!   have a real birth date where it carries one.
//! - Bulgaria: ten digits are correct if any one of three algorithms (citizen,
//!   foreigner, other) fits.
//! - Spain: sources differ on which legal forms have a letter and which have a
//!   digit, so both spellings of the same check value are accepted.
//! - France: the older numeric and the newer alphanumeric keys are both
//!   checked; numbers of Monaco have no SIREN check digit, only the key.
//! - Ireland: the older shape with a letter, `+` or `*` in second place and
//!   the newer ones with one or two final letters are accepted.
//! - Italy: the office code is not checked, since the list has grown.
//! - Netherlands: the older check digit (of the number before the `B`) or the
//!   one in use since 2020 (modulo 97 over the whole) must fit.
//! - Romania: 2 to 10 digits; Slovakia: only numbers given out for VAT, no
//!   birth numbers.
//! - United Kingdom: modulus 97 or 97-55; the five characters of government
//!   departments (`GD`) and health authorities (`HA`) have no check digit, nor
//!   have the three branch digits of twelve.
//! - A number of zeros only has the wrong shape everywhere.
//!
//! Not checked here: whether a number is registered, which only VIES or the
//! national register can say.

use crate::domain::text::is_all_zeros;
use crate::domain::vat_check_digits::{all_digits, digits, is_luhn, is_mod_11_10, luhn_sum, number, weighted};
use crate::domain::vat_rules_mixed::{
    bulgaria, czechia, france, ireland, is_character, is_one_letter, latvia, netherlands, spain, united_kingdom,
};

/// The prefixes of the EU VAT area: its member states and Northern Ireland.
/// Greece uses `EL`, the others the code of the country.
pub(crate) const EU_PREFIXES: [&str; 28] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "EL", "ES", "FI", "FR", "HR", "HU", "IE", "IT", "LT", "LU", "LV",
    "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK", "XI",
];

/// Checks the part of a number after its prefix, upper case and without
/// separators. `None` if the shape is wrong for the prefix (or the prefix
/// unknown), else whether the check digits fit.
pub(crate) fn check(prefix: &str, number: &str) -> Option<bool> {
    if is_all_zeros(number) {
        return None;
    }
    match prefix {
        "AT" => austria(number),
        "BE" => belgium(number),
        "BG" => bulgaria(number),
        "CY" => cyprus(number),
        "CZ" => czechia(number),
        "DE" => germany(number),
        "DK" => denmark(number),
        "EE" => estonia(number),
        "EL" => greece(number),
        "ES" => spain(number),
        "FI" => finland(number),
        "FR" => france(number),
        "HR" => croatia(number),
        "HU" => hungary(number),
        "IE" => ireland(number),
        "IT" => italy(number),
        "LT" => lithuania(number),
        "LU" => luxembourg(number),
        "LV" => latvia(number),
        "MT" => malta(number),
        "NL" => netherlands(number),
        "PL" => poland(number),
        "PT" => portugal(number),
        "RO" => romania(number),
        "SE" => sweden(number),
        "SI" => slovenia(number),
        "SK" => slovakia(number),
        "GB" | "XI" => united_kingdom(number),
        _ => None,
    }
}

fn austria(text: &str) -> Option<bool> {
    let [payload @ .., check] = digits::<8>(text.strip_prefix('U')?)?;
    Some((luhn_sum(&payload) + 4 + check).is_multiple_of(10))
}

fn belgium(text: &str) -> Option<bool> {
    let digits = digits::<10>(text)?;
    let [0 | 1, ..] = digits else { return None };
    let value = number(&digits);
    Some(97 - value / 100 % 97 == value % 100)
}

fn cyprus(text: &str) -> Option<bool> {
    let (payload, check) = text.split_at_checked(8)?;
    let digits = digits::<8>(payload)?;
    if payload.starts_with("12") || !is_one_letter(check) {
        return None;
    }
    let values = digits.iter().enumerate().map(|(place, digit)| {
        let is_odd_place = place % 2 == 0;
        match digit {
            0 if is_odd_place => 1,
            1 if is_odd_place => 0,
            2..=4 if is_odd_place => digit * 2 + 1,
            5.. if is_odd_place => digit * 2 + 3,
            _ => *digit,
        }
    });
    let sum: u32 = values.sum();
    Some(is_character(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", sum % 26, check))
}

fn germany(text: &str) -> Option<bool> {
    let digits = digits::<9>(text)?;
    (!text.starts_with('0')).then(|| is_mod_11_10(&digits))
}

fn denmark(text: &str) -> Option<bool> {
    let digits = digits::<8>(text)?;
    let sum = weighted(&digits, &[2, 7, 6, 5, 4, 3, 2, 1]);
    (!text.starts_with('0')).then_some(sum.is_multiple_of(11))
}

fn estonia(text: &str) -> Option<bool> {
    let sum = weighted(&digits::<9>(text)?, &[3, 7, 1, 3, 7, 1, 3, 7, 1]);
    Some(sum.is_multiple_of(10))
}

fn greece(text: &str) -> Option<bool> {
    let [payload @ .., check] = digits::<9>(text)?;
    let sum = weighted(&payload, &[256, 128, 64, 32, 16, 8, 4, 2]);
    Some(check == sum % 11 % 10)
}

fn finland(text: &str) -> Option<bool> {
    let sum = weighted(&digits::<8>(text)?, &[7, 9, 10, 5, 8, 4, 2, 1]);
    Some(sum.is_multiple_of(11))
}

fn croatia(text: &str) -> Option<bool> {
    Some(is_mod_11_10(&digits::<11>(text)?))
}

fn hungary(text: &str) -> Option<bool> {
    let sum = weighted(&digits::<8>(text)?, &[9, 7, 3, 1, 9, 7, 3, 1]);
    Some(sum.is_multiple_of(10))
}

fn italy(text: &str) -> Option<bool> {
    let digits = digits::<11>(text)?;
    let is_taxpayer = number(&digits) / 10_000 > 0;
    is_taxpayer.then(|| is_luhn(&digits))
}

fn lithuania(text: &str) -> Option<bool> {
    let digits = all_digits(text).filter(|digits| matches!(digits.len(), 9 | 12))?;
    // The last but one digit is always one.
    let (check, payload) = digits.split_last()?;
    if payload.last() != Some(&1) {
        return None;
    }
    let first = weighted(payload, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2]) % 11;
    let second = weighted(payload, &[3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4]) % 11 % 10;
    Some(*check == if first == 10 { second } else { first })
}

fn luxembourg(text: &str) -> Option<bool> {
    let value = number(&digits::<8>(text)?);
    Some(value / 100 % 89 == value % 100)
}

fn malta(text: &str) -> Option<bool> {
    let digits = digits::<8>(text)?;
    let expected = 37 - weighted(&digits, &[3, 4, 6, 7, 8, 9]) % 37;
    let fits = u64::from(expected) == number(&digits) % 100;
    (!text.starts_with('0')).then_some(fits)
}

fn poland(text: &str) -> Option<bool> {
    let [payload @ .., check] = digits::<10>(text)?;
    Some(weighted(&payload, &[6, 5, 7, 2, 3, 4, 5, 6, 7]) % 11 == check)
}

fn portugal(text: &str) -> Option<bool> {
    let [payload @ .., check] = digits::<9>(text)?;
    // Ten and eleven are written 0.
    let value = 11 - weighted(&payload, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    let expected = if value > 9 { 0 } else { value };
    (!text.starts_with('0')).then_some(check == expected)
}

fn romania(text: &str) -> Option<bool> {
    let mut digits = all_digits(text).filter(|digits| matches!(digits.len(), 2..=10))?;
    if text.starts_with('0') {
        return None;
    }
    // Shorter numbers count as filled up with zeros on the left.
    digits.reverse();
    let (check, payload) = digits.split_first()?;
    let sum = weighted(payload, &[2, 3, 5, 7, 1, 2, 3, 5, 7]);
    Some(*check == sum * 10 % 11 % 10)
}

fn sweden(text: &str) -> Option<bool> {
    let (payload, suffix) = text.split_at_checked(10)?;
    let digits_of_payload = digits::<10>(payload)?;
    let value = number(&digits::<2>(suffix)?);
    (1..=94).contains(&value).then(|| is_luhn(&digits_of_payload))
}

fn slovenia(text: &str) -> Option<bool> {
    let [payload @ .., check] = digits::<8>(text)?;
    // Ten is written 0; eleven is not given out.
    let value = 11 - weighted(&payload, &[8, 7, 6, 5, 4, 3, 2]) % 11;
    let fits = value != 11 && check == value % 10;
    (!text.starts_with('0')).then_some(fits)
}

fn slovakia(text: &str) -> Option<bool> {
    let digits = digits::<10>(text)?;
    let [1..=9, _, 2 | 3 | 4 | 7 | 8 | 9, ..] = digits else {
        return None;
    };
    Some(number(&digits).is_multiple_of(11))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Correct numbers and the place of a check digit in each.
    const CORRECT: &[(&str, &str, usize)] = &[
        ("AT", "U13585627", 8),
        ("AT", "U57194903", 8),
        ("AT", "U33864707", 8),
        ("BE", "0403019261", 9),
        ("BE", "0428759497", 9),
        ("CY", "10259033P", 8),
        ("CY", "99200002N", 8),
        ("DE", "136695976", 8),
        ("DE", "129273398", 8),
        ("DE", "119429301", 8),
        ("DK", "13585628", 7),
        ("DK", "24256790", 7),
        ("EE", "100931558", 8),
        ("EL", "094259216", 8),
        ("EL", "023456780", 8),
        ("FI", "20774740", 7),
        ("FI", "09853608", 7),
        ("HR", "33392005961", 10),
        ("HR", "38192148118", 10),
        ("HU", "12892312", 7),
        ("HU", "10597190", 7),
        ("IT", "00743110157", 10),
        ("IT", "00159560366", 10),
        ("LT", "119511515", 8),
        ("LT", "100001919017", 11),
        ("LT", "100004801610", 11),
        ("LU", "15027442", 7),
        ("LU", "26375245", 7),
        ("MT", "11679112", 7),
        ("MT", "15121333", 7),
        ("PL", "8567346215", 9),
        ("PL", "5260001246", 9),
        ("PT", "501964843", 8),
        ("PT", "502757191", 8),
        ("RO", "18547290", 7),
        ("RO", "11198699", 7),
        ("RO", "1590082", 6),
        ("SE", "123456789701", 9),
        ("SE", "556188840401", 9),
        ("SI", "50223054", 7),
        ("SI", "59082437", 7),
        ("SK", "2022749619", 9),
        ("SK", "2021252827", 9),
    ];

    #[test]
    fn correct_numbers_are_accepted() {
        for (prefix, number, _) in CORRECT {
            assert_eq!(check(prefix, number), Some(true), "{prefix}{number}");
        }
    }

    #[test]
    fn every_changed_check_digit_is_refused() {
        for (prefix, number, place) in CORRECT {
            let alphabet = if *prefix == "CY" { 'A'..='Z' } else { '0'..='9' };
            for character in alphabet {
                let mut changed = (*number).to_owned();
                changed.replace_range(place..=place, &character.to_string());
                let expected = Some(changed == *number);
                assert_eq!(check(prefix, &changed), expected, "{prefix}{changed}");
            }
        }
    }

    #[test]
    fn every_wrong_length_is_a_wrong_shape() {
        for (prefix, number, _) in CORRECT {
            // Shorter and longer Romanian numbers exist.
            if *prefix == "RO" {
                continue;
            }
            let shorter = &number[..number.len() - 1];
            assert_eq!(check(prefix, shorter), None, "{prefix}{shorter}");
            assert_eq!(check(prefix, &format!("{number}0")), None, "{prefix}{number}0");
        }
        assert_eq!(check("RO", "1"), None);
        assert_eq!(check("RO", "12345678901"), None);
    }

    #[test]
    fn every_wrong_character_is_a_wrong_shape() {
        for (prefix, number, _) in CORRECT {
            for place in 0..number.len() {
                for wrong in ["-", " ", "/", "a", "Ä"] {
                    let mut changed = (*number).to_owned();
                    changed.replace_range(place..=place, wrong);
                    assert_eq!(check(prefix, &changed), None, "{prefix}{changed}");
                }
            }
        }
    }

    #[test]
    fn shapes_no_authority_gives_out_are_refused() {
        for (prefix, number) in [
            ("BE", "2000000095"),
            ("CY", "12000000A"),
            ("DE", "036695976"),
            ("DK", "03585628"),
            ("IT", "00000000157"),
            ("LT", "119511525"),
            ("MT", "01679112"),
            ("PT", "001964843"),
            ("RO", "018547290"),
            ("SE", "123456789700"),
            ("SE", "123456789795"),
            ("SI", "00223054"),
            ("SK", "2002749619"),
            ("SK", "0022749619"),
        ] {
            assert_eq!(check(prefix, number), None, "{prefix}{number}");
        }
    }

    #[test]
    fn second_check_digits_are_not_mixed_up_with_the_first() {
        // The sum is a multiple of 97: the check digits are 97, not 00.
        assert_eq!(check("BE", "1000070097"), Some(true));
        assert_eq!(check("BE", "1000070000"), Some(false));
        // 75 leaves the same remainder as 38 does, but is above 37.
        assert_eq!(check("MT", "15643475"), Some(false));
    }

    #[test]
    fn zeros_and_unknown_prefixes_are_refused() {
        for prefix in EU_PREFIXES.iter().chain(&["GB", "GR", "US", ""]) {
            for length in 0..14 {
                assert_eq!(check(prefix, &"0".repeat(length)), None, "{prefix}");
            }
        }
        assert_eq!(check("GR", "094259216"), None);
        assert!(EU_PREFIXES.is_sorted());
    }
}
