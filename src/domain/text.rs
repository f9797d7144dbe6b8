//! Normalisation shared by the bank and tax identifiers.
//!
//! Owns one rule: which characters people put between the groups of a printed
//! number. No standard covers it; the rule keeps to what cannot change the
//! number itself.
//!
//! Control characters (tabs and line breaks among them) and invisible
//! characters are not spaces here: in an identifier they are a sign of a
//! damaged value, and the caller refuses them.

/// Whether a character is a space of any width, breaking or not.
pub(crate) fn is_space(character: char) -> bool {
    // The two line separators of Unicode count as white space but not as
    // control characters, hence are named.
    character.is_whitespace() && !character.is_control() && !matches!(character, '\u{2028}' | '\u{2029}')
}

/// Removes the separators and turns ASCII letters into upper case; `None` if
/// anything is left that is not an ASCII letter or digit.
pub(crate) fn compact(value: &str, is_separator: fn(char) -> bool) -> Option<String> {
    value
        .chars()
        .filter(|character| !is_separator(*character))
        .map(|character| {
            let kept = character.is_ascii_alphanumeric();
            kept.then(|| character.to_ascii_uppercase())
        })
        .collect()
}

/// Whether a number consists of zeros only, as placeholders do.
pub(crate) fn is_all_zeros(number: &str) -> bool {
    number.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_spaces_are_spaces() {
        for space in [' ', '\u{A0}', '\u{2007}', '\u{2009}', '\u{202F}', '\u{3000}'] {
            assert!(is_space(space), "{space:?}");
        }
        for other in ['\t', '\n', '\r', '\u{200B}', '\u{FEFF}', '\u{2028}', '-', '0'] {
            assert!(!is_space(other), "{other:?}");
        }
    }

    #[test]
    fn compacts_to_upper_case_without_separators() {
        assert_eq!(compact("ab 1\u{A0}2", is_space).as_deref(), Some("AB12"));
        assert_eq!(compact(" ", is_space).as_deref(), Some(""));
        for refused in ["a-b", "a\tb", "ä", "１", "a\u{200B}b", "a\0"] {
            assert_eq!(compact(refused, is_space), None, "{refused:?}");
        }
    }
}
