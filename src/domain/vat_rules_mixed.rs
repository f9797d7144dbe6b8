//! VAT identification numbers of countries that give out several kinds.
//!
//! Owns the shapes and check digits of Bulgaria, Czechia, Spain, France,
//! Ireland, Latvia, the Netherlands and the United Kingdom, whose companies,
//! people, departments and older registrations have different numbers. The
//! sources, the known limits and what is not checked are those of `vat_rules`,
//! which calls these functions; as there, `None` means a wrong shape.

use crate::domain::text::is_all_zeros;
use crate::domain::vat_check_digits::{all_digits, digits, is_date, is_luhn, is_mod_97_10, luhn_sum, number, weighted};

/// Nine digits for companies, ten for people and others.
pub(crate) fn bulgaria(text: &str) -> Option<bool> {
    if let Some([payload @ .., check]) = digits::<9>(text) {
        let first = weighted(&payload, &[1, 2, 3, 4, 5, 6, 7, 8]) % 11;
        let second = weighted(&payload, &[3, 4, 5, 6, 7, 8, 9, 10]) % 11 % 10;
        return Some(check == if first == 10 { second } else { first });
    }
    let [payload @ .., check] = digits::<10>(text)?;
    let foreigner = weighted(&payload, &[21, 19, 17, 13, 11, 9, 7, 3, 1]) % 10;
    let other = (weighted(&payload, &[4, 3, 2, 7, 6, 5, 4, 3, 2]) + check) % 11;
    Some(is_bulgarian_citizen(&payload, check) || check == foreigner || other == 0)
}

/// A citizen's number begins with the birth date; the month has 20 added for
/// the 19th and 40 for the 21st century.
fn is_bulgarian_citizen(payload: &[u32; 9], check: u32) -> bool {
    let [y1, y2, m1, m2, d1, d2, ..] = *payload;
    let (year, day) = (y1 * 10 + y2, d1 * 10 + d2);
    let is_birth_date = match m1 * 10 + m2 {
        month @ 1..=12 => is_date(1900 + year, month, day),
        month @ 21..=32 => is_date(1800 + year, month - 20, day),
        month @ 41..=52 => is_date(2000 + year, month - 40, day),
        _ => false,
    };
    is_birth_date && weighted(payload, &[2, 4, 8, 5, 10, 9, 7, 3, 6]) % 11 % 10 == check
}

/// Eight digits for companies, nine or ten for people.
pub(crate) fn czechia(text: &str) -> Option<bool> {
    match text.len() {
        8 => czech_company(text),
        9 if text.starts_with('6') => czech_special(text),
        9 => czech_birth_number_without_check(text),
        _ => czech_birth_number(text),
    }
}

fn czech_company(text: &str) -> Option<bool> {
    let [payload @ .., check] = digits::<8>(text)?;
    if text.starts_with('9') {
        return None;
    }
    // 1 to 11: ten is written 0 and eleven is written 1.
    let value = 11 - weighted(&payload, &[8, 7, 6, 5, 4, 3, 2]) % 11;
    Some(check == value % 10)
}

fn czech_special(text: &str) -> Option<bool> {
    let [_, payload @ .., check] = digits::<9>(text)?;
    let value = 11 - weighted(&payload, &[8, 7, 6, 5, 4, 3, 2]) % 11;
    // 1 to 9 give 8 down to 0, ten gives 9 and eleven gives 8.
    Some(check == (19 - value) % 10)
}

/// Given out until 1953, for births from 1880 on.
fn czech_birth_number_without_check(text: &str) -> Option<bool> {
    let [y1, y2, m1, m2, d1, d2, ..] = digits::<9>(text)?;
    let year = match y1 * 10 + y2 {
        year @ 0..=53 => 1900 + year,
        year @ 80.. => 1800 + year,
        _ => return None,
    };
    let month = match m1 * 10 + m2 {
        month @ 51..=62 => month - 50,
        month => month,
    };
    is_date(year, month, d1 * 10 + d2).then_some(true)
}

/// Women have 50 added to the month; both may have 20 more since 2004.
fn czech_birth_number(text: &str) -> Option<bool> {
    let digits = digits::<10>(text)?;
    let [y1, y2, m1, m2, d1, d2, .., check] = digits;
    let year = match y1 * 10 + y2 {
        year @ 0..=53 => 2000 + year,
        year => 1900 + year,
    };
    let month = match m1 * 10 + m2 {
        month @ (21..=32 | 71..=82) => month % 50 - 20,
        month @ 51..=62 => month - 50,
        month => month,
    };
    let expected = number(&digits) / 10 % 11 % 10;
    is_date(year, month, d1 * 10 + d2).then_some(u64::from(check) == expected)
}

/// A letter or digit, seven digits and a check character.
pub(crate) fn spain(text: &str) -> Option<bool> {
    let (head, rest) = text.split_at_checked(1)?;
    let (middle, check) = rest.split_at_checked(7)?;
    let digits = digits::<7>(middle)?;
    match head {
        "K" | "L" | "M" | "X" => spanish_person(&[0], &digits, check),
        "Y" => spanish_person(&[1], &digits, check),
        "Z" => spanish_person(&[2], &digits, check),
        "A" | "B" | "C" | "D" | "E" | "F" | "G" | "H" | "J" | "N" | "P" | "Q" | "R" | "S" | "U" | "V" | "W" => {
            spanish_company(&digits, check)
        }
        _ => spanish_person(&all_digits(head)?, &digits, check),
    }
}

fn spanish_person(head: &[u32], digits: &[u32; 7], check: &str) -> Option<bool> {
    let value = number(&[head, digits].concat()) % 23;
    let place = u32::try_from(value).ok()?;
    is_one_letter(check).then(|| is_character(b"TRWAGMYFPDXBNJZSQVHLCKE", place, check))
}

fn spanish_company(payload: &[u32; 7], check: &str) -> Option<bool> {
    if !is_one_letter(check) && digits::<1>(check).is_none() {
        return None;
    }
    let with_zero = [payload.as_slice(), &[0]].concat();
    let value = (10 - luhn_sum(&with_zero) % 10) % 10;
    Some(is_character(b"0123456789", value, check) || is_character(b"JABCDEFGHI", value, check))
}

/// A key of two characters and nine digits.
pub(crate) fn france(text: &str) -> Option<bool> {
    let (key, siren) = text.split_at_checked(2)?;
    let digits = digits::<9>(siren)?;
    let value = number(&digits);
    if value == 0 {
        return None;
    }
    // Monaco gives out numbers below a million, which are no SIREN.
    let is_siren = value < 1_000_000 || is_luhn(&digits);
    Some(french_key(key, value)? && is_siren)
}

/// The key is a number, or has a letter (never I or O) in one place or both.
fn french_key(key: &str, siren: u64) -> Option<bool> {
    let mut characters = key.chars();
    let first = french_value(characters.next()?)?;
    let second = french_value(characters.next()?)?;
    let sum = match (first, second) {
        (0..=9, 0..=9) => return Some((siren * 100 + 12) % 97 == first * 10 + second),
        (0..=9, _) => first * 24 + second - 10,
        _ => first * 34 + second - 100,
    };
    Some((siren + 1 + sum / 11) % 11 == sum % 11)
}

fn french_value(character: char) -> Option<u64> {
    let place = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ".find(character)?;
    u64::try_from(place).ok()
}

/// Seven characters, a check letter and perhaps one letter more.
pub(crate) fn ireland(text: &str) -> Option<bool> {
    let (payload, letters) = text.split_at_checked(7)?;
    let (check, extra) = letters.split_at_checked(1)?;
    let (digits, extra) = match digits::<7>(payload) {
        Some(digits) => (digits, irish_value(extra)?),
        None if extra.is_empty() => (irish_old_digits(payload)?, 0),
        None => return None,
    };
    let sum = weighted(&digits, &[8, 7, 6, 5, 4, 3, 2]) + 9 * extra;
    is_one_letter(check).then(|| is_character(b"WABCDEFGHIJKLMNOPQRSTUV", sum % 23, check))
}

/// The value of the second final letter, which may be missing.
fn irish_value(letter: &str) -> Option<u32> {
    if letter.is_empty() {
        return Some(0);
    }
    let place = "WABCDEFGHIJKLMNOPQRSTUV".find(letter)?;
    (letter.len() == 1).then_some(u32::try_from(place).ok()?)
}

/// The older shape sums its first digit last and leaves the second character
/// out.
fn irish_old_digits(payload: &str) -> Option<[u32; 7]> {
    let (first, rest) = payload.split_at_checked(1)?;
    let middle = rest.strip_prefix(|c: char| c.is_ascii_uppercase() || matches!(c, '+' | '*'))?;
    digits(&format!("0{middle}{first}"))
}

/// Eleven digits; up to a first 3 they are a personal code.
pub(crate) fn latvia(text: &str) -> Option<bool> {
    let digits = digits::<11>(text)?;
    let [d1, d2, m1, m2, y1, y2, century, .., check] = digits;
    if d1 > 3 {
        return Some(weighted(&digits, &[9, 1, 4, 8, 3, 10, 2, 5, 7, 6, 1]) % 11 == 3);
    }
    // Personal codes beginning with 32 carry no date (since 2017).
    let year = 1800 + century * 100 + y1 * 10 + y2;
    if (d1, d2) != (3, 2) && !is_date(year, m1 * 10 + m2, d1 * 10 + d2) {
        return None;
    }
    let sum = weighted(&digits, &[10, 5, 8, 4, 2, 1, 6, 3, 7, 9]);
    Some(check == (sum + 1) % 11 % 10)
}

/// Nine digits, the letter B and two digits.
pub(crate) fn netherlands(text: &str) -> Option<bool> {
    let (payload, suffix) = text.split_once('B')?;
    let [body @ .., check] = digits::<9>(payload)?;
    if is_all_zeros(payload) || digits::<2>(suffix)? == [0, 0] {
        return None;
    }
    let is_older = weighted(&body, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11 == check;
    Some(is_older || is_mod_97_10(&format!("NL{text}")))
}

/// Nine digits, twelve with a branch, or a department's five characters.
pub(crate) fn united_kingdom(text: &str) -> Option<bool> {
    if let Some(department) = text.strip_prefix("GD") {
        return (number(&digits::<3>(department)?) < 500).then_some(true);
    }
    if let Some(authority) = text.strip_prefix("HA") {
        return (number(&digits::<3>(authority)?) >= 500).then_some(true);
    }
    let (trader, branch) = text.split_at_checked(9)?;
    if !branch.is_empty() {
        digits::<3>(branch)?;
    }
    let digits = digits::<9>(trader)?;
    let remainder = weighted(&digits, &[8, 7, 6, 5, 4, 3, 2, 10, 1]) % 97;
    // Modulus 97-55 is used for numbers from 100 0000 on: 97 - 55 is 42.
    let is_newer = remainder == 42 && number(&digits) >= 100_000_000;
    let is_given_out = number(&digits) >= 100;
    is_given_out.then_some(remainder == 0 || is_newer)
}

/// Whether a text is a single upper-case letter.
pub(crate) fn is_one_letter(text: &str) -> bool {
    text.len() == 1 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether a text is the one character at a place of an alphabet.
pub(crate) fn is_character(alphabet: &[u8], place: u32, text: &str) -> bool {
    let character = usize::try_from(place).ok().and_then(|p| alphabet.get(p));
    character.is_some_and(|character| text.as_bytes() == [*character])
}

#[cfg(test)]
mod tests {
    use crate::domain::vat_rules::check;

    /// Correct numbers and the place of a check digit or letter in each.
    const CORRECT: &[(&str, &str, usize)] = &[
        ("BG", "175074752", 8),
        ("BG", "831650349", 8),
        ("CZ", "25123891", 7),
        ("CZ", "46505334", 7),
        ("CZ", "640903926", 8),
        ("CZ", "7103192745", 9),
        ("ES", "B58378431", 8),
        ("ES", "A28015865", 8),
        ("ES", "J99216582", 8),
        ("ES", "Q2826000H", 8),
        ("ES", "54362315K", 8),
        ("ES", "X2482300W", 8),
        ("ES", "Y5277343F", 8),
        ("ES", "M1234567L", 8),
        ("FR", "40303265045", 1),
        ("FR", "23334175221", 1),
        ("FR", "83404833048", 0),
        ("FR", "K7399859412", 1),
        ("FR", "4Z123456782", 10),
        ("FR", "53000004605", 1),
        ("GB", "980780684", 8),
        ("GB", "434031494", 8),
        ("GB", "110305878", 8),
        ("GB", "980780684001", 8),
        ("IE", "6433435F", 7),
        ("IE", "6433435OA", 7),
        ("IE", "6388047V", 7),
        ("IE", "3333510LH", 7),
        ("IE", "8D79739I", 7),
        ("IE", "8*10503K", 7),
        ("LV", "40003521600", 10),
        ("LV", "40003032949", 10),
        ("LV", "16117519997", 10),
        ("LV", "32867300679", 10),
        ("NL", "004495445B01", 8),
        ("NL", "010000446B01", 8),
        ("NL", "002455799B11", 11),
        ("NL", "123456789B13", 11),
        ("XI", "980780684", 8),
    ];

    #[test]
    fn correct_numbers_are_accepted() {
        for (prefix, number, _) in CORRECT {
            assert_eq!(check(prefix, number), Some(true), "{prefix}{number}");
        }
    }

    #[test]
    fn every_changed_check_character_is_refused() {
        for (prefix, number, place) in CORRECT {
            let original = &number[*place..=*place];
            let is_digit = original.bytes().all(|byte| byte.is_ascii_digit());
            for character in if is_digit { '0'..='9' } else { 'A'..='Z' } {
                let mut changed = (*number).to_owned();
                changed.replace_range(place..=place, &character.to_string());
                let expected = changed == *number;
                let is_correct = check(prefix, &changed) == Some(true);
                assert_eq!(is_correct, expected, "{prefix}{changed}");
            }
        }
    }

    #[test]
    fn every_wrong_length_is_a_wrong_shape() {
        for (prefix, number, _) in CORRECT {
            let longer = format!("{number}0");
            // Some countries give out numbers of the next length, too.
            let is_next = matches!((*prefix, number.len()), ("CZ", 8 | 9) | ("BG", 9));
            assert!(is_next || check(prefix, &longer).is_none(), "{prefix}{longer}");
        }
        for (prefix, number) in [
            ("BG", "17507475"),
            ("CZ", "2512389"),
            ("ES", "B5837843"),
            ("ES", "B"),
            ("FR", "4030326504"),
            ("FR", "4"),
            ("GB", "98078068"),
            ("GB", "9807806840"),
            ("IE", "6433435"),
            ("IE", "643343F"),
            ("LV", "4000352160"),
            ("NL", "04495445B01"),
            ("NL", "004495445B1"),
            ("NL", "004495445B"),
            ("NL", "B"),
        ] {
            assert_eq!(check(prefix, number), None, "{prefix}{number}");
        }
    }

    #[test]
    fn every_wrong_character_is_refused() {
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
    fn bulgarian_people_and_others() {
        // The last digits a citizen, a foreigner and any other may have.
        for (payload, correct) in [("752316926", "357"), ("801901000", "18")] {
            for digit in '0'..='9' {
                let number = format!("{payload}{digit}");
                let expected = Some(correct.contains(digit));
                assert_eq!(check("BG", &number), expected, "{number}");
            }
        }
    }

    #[test]
    fn czech_people_have_a_birth_date() {
        // Born before 1954: no check digit.
        assert_eq!(check("CZ", "395601439"), Some(true));
        assert_eq!(check("CZ", "395601438"), Some(true));
        // The 13th month, the 32nd day, a year in which nine digits were over.
        for number in ["391301439", "395632439", "545601439", "7113192745"] {
            assert_eq!(check("CZ", number), None, "{number}");
        }
        // Twenty is added to the month in ten digits only.
        assert_eq!(check("CZ", "392101439"), None);
        assert_eq!(check("CZ", "991231123"), Some(true));
        // A company's number does not begin with nine.
        assert_eq!(check("CZ", "95123891"), None);
    }

    #[test]
    fn spanish_companies_may_have_either_check_character() {
        assert_eq!(check("ES", "B5837843A"), Some(true));
        assert_eq!(check("ES", "B5837843B"), Some(false));
        // I, O and T name no legal form; people have a letter.
        for number in ["I58378431", "O58378431", "T58378431", "543623154", "X24823004"] {
            assert_eq!(check("ES", number), None, "{number}");
        }
    }

    #[test]
    fn french_keys_never_have_i_or_o() {
        for number in ["I7399859412", "KO399859412", "12000000000"] {
            assert_eq!(check("FR", number), None, "{number}");
        }
        // The key fits, the SIREN does not.
        let siren = 303_265_046_u64;
        let number = format!("{:02}{siren}", (siren * 100 + 12) % 97);
        assert_eq!(check("FR", &number), Some(false));
    }

    #[test]
    fn irish_shapes() {
        for number in [
            "8DD9739I",
            "8-79739I",
            "8D79739IA",
            "6433435F1",
            "64334351",
            "6433435OX",
        ] {
            assert_eq!(check("IE", number), None, "{number}");
        }
        // A second letter W counts as none.
        assert_eq!(check("IE", "6433435FW"), Some(true));
    }

    #[test]
    fn latvian_people_have_a_birth_date() {
        for number in ["16137519997", "32137519997", "00117519997"] {
            assert_ne!(check("LV", number), Some(true), "{number}");
        }
    }

    #[test]
    fn dutch_suffixes() {
        for number in ["004495445B00", "004495445A01", "000000000B01", "004495445B0B"] {
            assert_eq!(check("NL", number), None, "{number}");
        }
        // The older check digit does not cover the suffix, the newer one does.
        assert_eq!(check("NL", "004495445B02"), Some(true));
        assert_eq!(check("NL", "002455799B12"), Some(false));
    }

    #[test]
    fn british_departments_and_moduli() {
        for prefix in ["GB", "XI"] {
            for number in ["GD001", "GD499", "HA500", "HA999"] {
                assert_eq!(check(prefix, number), Some(true), "{number}");
            }
            for number in ["GD500", "HA499", "GD01", "GD0001", "GX001", "000000042"] {
                assert_eq!(check(prefix, number), None, "{number}");
            }
        }
        // Modulus 97-55 is not used below 100 0000.
        let number = (0..97)
            .map(|check_digits| format!("0123456{check_digits:02}"))
            .filter(|number| check("GB", number) == Some(true));
        assert_eq!(number.count(), 1);
        let number = (0..97)
            .map(|check_digits| format!("1234567{check_digits:02}"))
            .filter(|number| check("GB", number) == Some(true));
        assert_eq!(number.count(), 2);
    }
}
