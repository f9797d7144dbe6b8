//! International bank account numbers.
//!
//! Owns the reading of an IBAN: its normal form, its country, the length and
//! the character classes its country registered, and its check digits. The
//! sources are ISO 13616-1 and the IBAN registry (see `iban_registry`); the
//! check digits are those of ISO/IEC 7064, MOD 97-10.
//!
//! Not checked here: the national check digits inside the account number,
//! whether the bank exists, whether the account exists, and whose it is.

use crate::domain::iban_registry::{fits, length, structure};
use crate::domain::text::{compact, is_space};
use serde::{Deserialize, Serialize};
use std::fmt;

const CHARACTERS: &str = "IBAN may only have letters, digits and spaces, remove anything else";
const TOO_SHORT: &str = "IBAN is too short, give the country code, the check digits and the whole account number";
const COUNTRY: &str = "IBAN begins with a country code that is not in the IBAN registry, check the first two letters";
const LENGTH: &str = "IBAN has the wrong length for its country, check for missing or extra digits";
const STRUCTURE: &str = "IBAN has a letter or a digit where its country does not allow it, check the number";
const CHECK_DIGITS: &str = "IBAN check digits do not fit, check the number for typing errors";

/// An international bank account number in its electronic form: upper case,
/// without spaces. Personal data: its `Debug` output hides the number.
///
/// Deserialising does not check the number. It is meant for values this type
/// has written itself, never for what a client sends: use [`Iban::parse`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Iban(String);

impl Iban {
    /// Reads an IBAN in the electronic or the printed form; spaces of any kind
    /// and lower case are normalised.
    ///
    /// # Errors
    ///
    /// Says which part of the number is wrong.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let number = compact(value, is_space).ok_or(CHARACTERS)?;
        let (head, bban) = number.split_at_checked(4).ok_or(TOO_SHORT)?;
        let (country, check_digits) = head.split_at_checked(2).ok_or(TOO_SHORT)?;
        let structure = structure(country).ok_or(COUNTRY)?;
        if bban.len() != length(structure) {
            return Err(LENGTH);
        }
        if !fits(structure, bban) {
            return Err(STRUCTURE);
        }
        if !are_possible(check_digits) || remainder(bban, head) != 1 {
            return Err(CHECK_DIGITS);
        }
        Ok(Self(number))
    }

    /// The electronic form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The country the account is held in: the first two letters. Kosovo is
    /// `XK`.
    #[must_use]
    pub fn region_code(&self) -> &str {
        self.0.get(..2).unwrap_or_default()
    }
}

impl fmt::Debug for Iban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Iban(redacted)")
    }
}

/// Whether the check digits are among those the algorithm can produce. 00, 01
/// and 99 leave the same remainder as 97, 98 and 02, so the remainder alone
/// would let them pass.
fn are_possible(check_digits: &str) -> bool {
    let digits_only = check_digits.bytes().all(|byte| byte.is_ascii_digit());
    digits_only && !matches!(check_digits, "00" | "01" | "99")
}

/// The remainder of the rearranged number divided by 97, where letters count
/// as 10 to 35.
fn remainder(bban: &str, head: &str) -> u32 {
    let values = bban.chars().chain(head.chars()).filter_map(|c| c.to_digit(36));
    values.fold(0, |remainder, value| {
        let shift = if value < 10 { 10 } else { 100 };
        (remainder * shift + value) % 97
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example number of each country in the registry.
    const EXAMPLES: &[&str] = &[
        "AD1200012030200359100100",
        "AE070331234567890123456",
        "AL47212110090000000235698741",
        "AT611904300234573201",
        "AZ21NABZ00000000137010001944",
        "BA391290079401028494",
        "BE68539007547034",
        "BG80BNBG96611020345678",
        "BH67BMAG00001299123456",
        "BI4210000100010000332045181",
        "BR1800360305000010009795493C1",
        "BY13NBRB3600900000002Z00AB00",
        "CH9300762011623852957",
        "CR05015202001026284066",
        "CY17002001280000001200527600",
        "CZ6508000000192000145399",
        "DE89370400440532013000",
        "DJ2100010000000154000100186",
        "DK5000400440116243",
        "DO28BAGR00000001212453611324",
        "EE382200221020145685",
        "EG380019000500000000263180002",
        "ES9121000418450200051332",
        "FI2112345600000785",
        "FK88SC123456789012",
        "FO6264600001631634",
        "FR1420041010050500013M02606",
        "GB29NWBK60161331926819",
        "GE29NB0000000101904917",
        "GI75NWBK000000007099453",
        "GL8964710001000206",
        "GR1601101250000000012300695",
        "GT82TRAJ01020000001210029690",
        "HN88CABF00000000000250005469",
        "HR1210010051863000160",
        "HU42117730161111101800000000",
        "IE29AIBK93115212345678",
        "IL620108000000099999999",
        "IQ98NBIQ850123456789012",
        "IS140159260076545510730339",
        "IT60X0542811101000000123456",
        "JO94CBJO0010000000000131000302",
        "KW81CBKU0000000000001234560101",
        "KZ86125KZT5004100100",
        "LB62099900000001001901229114",
        "LC55HEMM000100010012001200023015",
        "LI21088100002324013AA",
        "LT121000011101001000",
        "LU280019400644750000",
        "LV80BANK0000435195001",
        "LY83002048000020100120361",
        "MC5811222000010123456789030",
        "MD24AG000225100013104168",
        "ME25505000012345678951",
        "MK07250120000058984",
        "MN121234123456789123",
        "MR1300020001010000123456753",
        "MT84MALT011000012345MTLCAST001S",
        "MU17BOMM0101101030300200000MUR",
        "NI45BAPR00000013000003558124",
        "NL91ABNA0417164300",
        "NO9386011117947",
        "OM810180000001299123456",
        "PK36SCBL0000001123456702",
        "PL61109010140000071219812874",
        "PS92PALS000000000400123456702",
        "PT50000201231234567890154",
        "QA58DOHB00001234567890ABCDEFG",
        "RO49AAAA1B31007593840000",
        "RS35260005601001611379",
        "RU0304452522540817810538091310419",
        "SA0380000000608010167519",
        "SC18SSCB11010000000000001497USD",
        "SD2129010501234001",
        "SE4550000000058398257466",
        "SI56263300012039086",
        "SK3112000000198742637541",
        "SM86U0322509800000000270100",
        "SO211000001001000100141",
        "ST23000100010051845310146",
        "SV62CENR00000000000000700025",
        "TL380080012345678910157",
        "TN5910006035183598478831",
        "TR330006100519786457841326",
        "UA213223130000026007233566001",
        "VA59001123000012345678",
        "VG96VPVG0000012345678901",
        "XK051212012345678906",
        "YE15CBYE0001018861234567891234",
    ];

    /// Puts fitting check digits (`02` to `98`) into a number.
    fn with_check_digits(number: &str) -> String {
        let (country, bban) = (&number[..2], &number[4..]);
        let digits = 98 - remainder(bban, &format!("{country}00"));
        format!("{country}{digits:02}{bban}")
    }

    #[test]
    fn every_registry_example_is_accepted() {
        assert_eq!(EXAMPLES.len(), 89);
        for example in EXAMPLES {
            let iban = Iban::parse(example).unwrap_or_else(|error| panic!("{example}: {error}"));
            assert_eq!(iban.as_str(), *example);
            assert_eq!(iban.region_code(), &example[..2]);
            assert_eq!(with_check_digits(example), *example);
        }
    }

    #[test]
    fn printed_form_and_lower_case_are_normalised() {
        for example in EXAMPLES {
            for space in [" ", "\u{A0}", "\u{202F}", "\u{2009}"] {
                let groups: Vec<&str> = (0..example.len())
                    .step_by(4)
                    .map(|i| &example[i..example.len().min(i + 4)])
                    .collect();
                let printed = format!("{space}{}{space}", groups.join(space)).to_lowercase();
                assert_eq!(Iban::parse(&printed).unwrap().as_str(), *example);
            }
        }
    }

    #[test]
    fn wrong_check_digits_are_refused() {
        for example in EXAMPLES {
            for digits in 0..100 {
                let changed = format!("{}{digits:02}{}", &example[..2], &example[4..]);
                let expected = changed == *example;
                assert_eq!(Iban::parse(&changed).is_ok(), expected, "{changed}");
            }
        }
    }

    #[test]
    fn impossible_check_digits_are_refused_though_the_remainder_fits() {
        for (possible, impossible) in [(97, "00"), (98, "01"), (2, "99")] {
            let with = |n: u32| with_check_digits(&format!("DE00{n:018}"));
            let number = (370_400_440..)
                .map(with)
                .find(|number| number[2..4] == format!("{possible:02}"))
                .unwrap();
            assert!(Iban::parse(&number).is_ok());
            let alias = format!("DE{impossible}{}", &number[4..]);
            assert_eq!(remainder(&alias[4..], &alias[..4]), 1);
            assert_eq!(Iban::parse(&alias), Err(CHECK_DIGITS));
        }
    }

    #[test]
    fn every_changed_character_is_refused() {
        for example in EXAMPLES {
            for place in 4..example.len() {
                let mut changed = example.as_bytes().to_vec();
                changed[place] = match changed[place] {
                    b'9' => b'0',
                    b'Z' => b'A',
                    other => other + 1,
                };
                assert!(Iban::parse(str::from_utf8(&changed).unwrap()).is_err());
            }
        }
    }

    #[test]
    fn every_swap_of_neighbouring_digits_is_refused() {
        for example in EXAMPLES {
            for place in 5..example.len() {
                let mut swapped = example.as_bytes().to_vec();
                // A letter counts as two digits: swapping it moves three.
                if swapped[place - 1..=place].iter().all(u8::is_ascii_digit) {
                    swapped.swap(place - 1, place);
                    let swapped = str::from_utf8(&swapped).unwrap();
                    assert_eq!(Iban::parse(swapped).is_ok(), swapped == *example);
                }
            }
        }
    }

    #[test]
    fn wrong_length_is_refused_even_with_fitting_check_digits() {
        for example in EXAMPLES {
            let longer = with_check_digits(&format!("{example}0"));
            let shorter = with_check_digits(&example[..example.len() - 1]);
            assert_eq!(Iban::parse(&longer), Err(LENGTH), "{longer}");
            assert_eq!(Iban::parse(&shorter), Err(LENGTH), "{shorter}");
        }
    }

    #[test]
    fn wrong_class_is_refused_even_with_fitting_check_digits() {
        for example in EXAMPLES {
            let parts = structure(&example[..2]).unwrap();
            let mut start = 4;
            for (count, class) in parts {
                let wrong = match class {
                    crate::domain::iban_registry::Class::Digits => Some("A"),
                    crate::domain::iban_registry::Class::Letters => Some("1"),
                    crate::domain::iban_registry::Class::Both => None,
                };
                for place in start..start + usize::from(*count) {
                    let Some(wrong) = wrong else { continue };
                    let mut changed = (*example).to_owned();
                    changed.replace_range(place..=place, wrong);
                    let changed = with_check_digits(&changed);
                    assert_eq!(Iban::parse(&changed), Err(STRUCTURE), "{changed}");
                }
                start += usize::from(*count);
            }
            assert_eq!(start, example.len());
        }
    }

    #[test]
    fn letters_are_allowed_in_brazilian_bank_codes() {
        assert!(Iban::parse("BR6699999A03000010009795493C1").is_ok());
    }

    #[test]
    fn unregistered_countries_are_refused() {
        for country in ["US", "RE", "UK", "EL", "ZZ", "D1", "11"] {
            let number = with_check_digits(&format!("{country}00370400440532013000"));
            assert_eq!(Iban::parse(&number), Err(COUNTRY), "{number}");
        }
    }

    #[test]
    fn anything_but_letters_digits_and_spaces_is_refused() {
        for value in [
            "DE89-3704-0044-0532-0130-00",
            "DE89370400440532013000.",
            "DE8937040044053201300\u{FF10}",
            "DE89\t370400440532013000",
            "DE89370400440532013000\n",
            "DE89\u{200B}370400440532013000",
            "ＤＥ89370400440532013000",
            "DE89370400440532013000\0",
        ] {
            assert_eq!(Iban::parse(value), Err(CHARACTERS), "{value:?}");
        }
    }

    #[test]
    fn short_values_are_refused_without_panic() {
        for value in ["", " ", "D", "DE", "DE8"] {
            assert_eq!(Iban::parse(value), Err(TOO_SHORT), "{value:?}");
        }
        assert_eq!(Iban::parse("DE89"), Err(LENGTH));
        assert_eq!(Iban::parse("DEAB370400440532013000"), Err(CHECK_DIGITS));
    }

    #[test]
    fn debug_hides_the_number_and_serde_keeps_it() {
        let iban = Iban::parse("DE89 3704 0044 0532 0130 00").unwrap();
        assert_eq!(format!("{iban:?}"), "Iban(redacted)");
        let json = serde_json::to_string(&iban).unwrap();
        assert_eq!(json, "\"DE89370400440532013000\"");
        assert_eq!(serde_json::from_str::<Iban>(&json).unwrap(), iban);
    }
}
