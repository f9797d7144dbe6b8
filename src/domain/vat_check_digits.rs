//! The arithmetic shared by the check digits of VAT identification numbers.
//!
//! Owns the sums several countries use: weighted sums, the Luhn sum (ISO/IEC
//! 7812), ISO/IEC 7064 MOD 11,10 and MOD 97-10, and the calendar check for
//! numbers that carry a birth date. Which country uses which is for
//! `vat_rules` to say.

/// The digits of a text that consists of exactly `N` of them.
pub(crate) fn digits<const N: usize>(text: &str) -> Option<[u32; N]> {
    all_digits(text)?.try_into().ok()
}

/// The digits of a text that consists of nothing else.
pub(crate) fn all_digits(text: &str) -> Option<Vec<u32>> {
    text.chars().map(|c| c.to_digit(10)).collect()
}

/// The number that digits write.
pub(crate) fn number(digits: &[u32]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(*digit))
}

/// The sum of the digits, each multiplied by the weight at its place. Extra
/// weights are left out.
pub(crate) fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(d, w)| d * w).sum()
}

/// The sum of the digits where every second one, counted from the right and
/// beginning with the last but one, is doubled and its own digits are added.
pub(crate) fn luhn_sum(digits: &[u32]) -> u32 {
    let doubled = |digit: u32| digit * 2 / 10 + digit * 2 % 10;
    let from_right = digits.iter().rev().zip([false, true].into_iter().cycle());
    from_right
        .map(|(digit, is_second)| if is_second { doubled(*digit) } else { *digit })
        .sum()
}

/// Whether the Luhn check digit at the end of a number fits.
pub(crate) fn is_luhn(digits: &[u32]) -> bool {
    luhn_sum(digits).is_multiple_of(10)
}

/// ISO/IEC 7064 MOD 11,10 over a whole number, the check digit included.
pub(crate) fn is_mod_11_10(digits: &[u32]) -> bool {
    let product = digits.iter().fold(10, |product, digit| {
        let sum = (product + digit) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    // The step of the check digit leaves a sum of one, which is doubled.
    product == 2
}

/// ISO/IEC 7064 MOD 97-10 over a text in which letters count as 10 to 35.
pub(crate) fn is_mod_97_10(text: &str) -> bool {
    let values = text.chars().filter_map(|c| c.to_digit(36));
    let remainder = values.fold(0, |remainder, value| {
        (remainder * if value < 10 { 10 } else { 100 } + value) % 97
    });
    remainder == 1
}

/// Whether a day is in the Gregorian calendar.
pub(crate) fn is_date(year: u32, month: u32, day: u32) -> bool {
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=last).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exact_numbers_of_digits() {
        assert_eq!(digits::<3>("012"), Some([0, 1, 2]));
        for text in ["01", "0123", "01A", "01 ", "٠١٢", ""] {
            assert_eq!(digits::<3>(text), None, "{text}");
        }
        assert_eq!(number(&[0, 1, 2]), 12);
    }

    #[test]
    fn sums() {
        assert_eq!(weighted(&[1, 2, 3], &[3, 2, 1, 9]), 10);
        assert_eq!(luhn_sum(&[7, 9, 9, 2, 7, 3, 9, 8, 7, 1, 3]), 70);
        assert!(is_luhn(&[7, 9, 9, 2, 7, 3, 9, 8, 7, 1, 3]));
        assert!(!is_luhn(&[7, 9, 9, 2, 7, 3, 9, 8, 7, 1, 4]));
        assert!(is_mod_11_10(&[1, 3, 6, 6, 9, 5, 9, 7, 6]));
        assert!(!is_mod_11_10(&[1, 3, 6, 6, 9, 5, 9, 7, 8]));
        assert!(is_mod_97_10("3214282912345698765432161182"));
        assert!(is_mod_97_10("NL002455799B11"));
        assert!(!is_mod_97_10("NL002455799B12"));
    }

    #[test]
    fn dates() {
        assert!(is_date(2024, 2, 29) && is_date(2000, 2, 29) && is_date(1999, 12, 31));
        assert!(!is_date(2023, 2, 29) && !is_date(1900, 2, 29) && !is_date(2024, 4, 31));
        assert!(!is_date(2024, 0, 1) && !is_date(2024, 13, 1) && !is_date(2024, 1, 0));
    }
}
