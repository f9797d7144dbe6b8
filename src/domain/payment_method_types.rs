//! Payment method types: what the program offers to be paid by, and the fields of the types that it defines itself.
//!
//! A draft is what a caller sent, or a stored type that is being changed; [`PaymentMethodTypeDraft::check`] makes settings of
//! it or names everything that is wrong. A type's settings never change what is saved of a payment method already.

use std::collections::BTreeSet;

use regex_lite::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::domain::currency::Currency;
use crate::domain::error::{Result, Violations};
use crate::domain::ids::{check_name, check_optional_name};
use crate::domain::money::{Amount, Money};
use crate::domain::time::Timestamp;

/// Id of the built-in type that pays to a bank account.
pub const BANK_TRANSFER: &str = "bank_transfer";
/// Id of the built-in type that pays to a PayPal account.
pub const PAYPAL: &str = "paypal";
/// Id of the built-in type whose payouts Tipalti makes and tracks.
pub const TIPALTI: &str = "tipalti";
/// How many types there can be, built-in ones among them.
pub const MAX_PAYMENT_METHOD_TYPES: u64 = 100;

/// Paths that an update mask may name, in the order of the message.
pub const PAYMENT_METHOD_TYPE_MASK_PATHS: [&str; 5] =
    ["display_name", "enabled", "currency_codes", "minimum_payouts", "fields"];

const ROOT: &str = "payment_method_type";
const MIN_ID: usize = 3;
const MAX_ID: usize = 50;
const MAX_DISPLAY_NAME: usize = 100;
const MAX_CURRENCIES: usize = 200;
const MAX_MINIMUM_UNITS: i64 = 1_000_000_000_000;
const MAX_FIELDS: usize = 30;
const MAX_FIELD_NAME: usize = 50;
const MAX_PATTERN: usize = 200;
/// Memory of one compiled pattern, in bytes. Matching costs at most its number of states for each character of a value.
const MAX_PATTERN_BYTES: usize = 256 * 1024;

/// The currencies that PayPal takes, by its list for the REST APIs, to which the reference of its Payouts API refers
/// (<https://developer.paypal.com/api/rest/reference/currency-codes/>).
const PAYPAL_CURRENCIES: [&str; 25] = [
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "JPY", "MXN", "MYR", "NOK",
    "NZD", "PHP", "PLN", "RUB", "SEK", "SGD", "THB", "TWD", "USD",
];
/// Those among them that PayPal takes in whole units only, by the same list. ISO 4217 gives HUF and TWD two decimals.
const PAYPAL_WHOLE_UNITS: [&str; 3] = ["HUF", "JPY", "TWD"];

/// One way of being paid that the program offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentMethodType {
    /// `bank_transfer`, `paypal`, `tipalti`, or the program's own.
    pub id: String,
    /// Whether it came with the service.
    pub built_in: bool,
    /// Name to show.
    pub display_name: String,
    /// Whether balances can be settled by it and methods of it created.
    pub enabled: bool,
    /// Currencies that it pays in. Empty: every one that the rail takes.
    pub currencies: Vec<Currency>,
    /// Smallest payouts, at most one a currency.
    pub minimum_payouts: Vec<Money>,
    /// Fields of a type that the program defines; none of a built-in one.
    pub fields: Vec<PaymentMethodField>,
    /// Counts its changes.
    pub revision: i64,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// One field of a type that the program defines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentMethodField {
    /// Key of its value.
    pub name: String,
    /// Name to show; may be empty.
    pub display_name: String,
    /// Whether a method must have it.
    pub required: bool,
    /// Regular expression that the whole value must match; empty for any value.
    pub pattern: String,
    /// Whether the value is masked unless the full view is asked for.
    pub secret: bool,
}

/// What of a type its caller chooses, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentMethodTypeSettings {
    /// Name to show.
    pub display_name: String,
    /// Whether it can be used.
    pub enabled: bool,
    /// Currencies that it pays in.
    pub currencies: Vec<Currency>,
    /// Smallest payouts.
    pub minimum_payouts: Vec<Money>,
    /// Own fields.
    pub fields: Vec<PaymentMethodField>,
}

/// The unchecked settings of a type.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PaymentMethodTypeDraft {
    /// Name to show.
    pub display_name: String,
    /// Whether it can be used; `None` where the caller did not say.
    pub enabled: Option<bool>,
    /// Codes of the currencies that it pays in.
    pub currency_codes: Vec<String>,
    /// Smallest payouts.
    pub minimum_payouts: Vec<MinimumPayoutDraft>,
    /// Own fields.
    pub fields: Vec<PaymentMethodField>,
}

/// An unchecked smallest payout.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MinimumPayoutDraft {
    /// Currency code.
    pub currency_code: String,
    /// Amount as text.
    pub amount: String,
}

impl PaymentMethodType {
    /// Whether it pays in a currency.
    #[must_use]
    pub fn pays_in(&self, currency: Currency) -> bool {
        rail_takes(&self.id, currency) && (self.currencies.is_empty() || self.currencies.contains(&currency))
    }

    /// The smallest payout in a currency, where there is one.
    #[must_use]
    pub fn minimum_payout(&self, currency: Currency) -> Option<Amount> {
        self.minimum_payouts
            .iter()
            .find(|minimum| minimum.currency == currency)
            .map(|minimum| minimum.amount)
    }

    /// How many decimals the rail takes of a currency: the currency's own, or fewer.
    #[must_use]
    pub fn payout_decimals(&self, currency: Currency) -> u32 {
        if self.id == PAYPAL && PAYPAL_WHOLE_UNITS.contains(&currency.code()) {
            return 0;
        }
        currency.minor_units()
    }

    /// The provider that makes its payouts and manages their status, where there is one.
    #[must_use]
    pub fn provider(&self) -> Option<&'static str> {
        (self.id == TIPALTI).then_some(TIPALTI)
    }

    /// What makes two states of it different to its callers.
    #[must_use]
    pub fn etag(&self) -> String {
        self.revision.to_string()
    }
}

impl PaymentMethodField {
    /// Whether a value is what the pattern asks for.
    #[must_use]
    pub fn accepts(&self, value: &str) -> bool {
        // A stored pattern has compiled before; should it ever not, nothing is accepted.
        self.pattern.is_empty() || compile(&self.pattern).is_ok_and(|pattern| pattern.is_match(value))
    }
}

impl PaymentMethodTypeDraft {
    /// Checks everything but the id, and names every field that is wrong by its path.
    pub fn check(&self, id: &str, built_in: bool) -> Result<PaymentMethodTypeSettings> {
        let mut violations = Violations::new();
        let settings = self.check_into(id, built_in, &mut violations);
        violations.finish(Some(settings))
    }

    /// As [`PaymentMethodTypeDraft::check`], with the violations noted beside those of the rest of the request. What comes
    /// back is right only if none was noted.
    pub fn check_into(&self, id: &str, built_in: bool, violations: &mut Violations) -> PaymentMethodTypeSettings {
        violations.check(
            format!("{ROOT}.display_name"),
            check_name(&self.display_name, MAX_DISPLAY_NAME),
        );
        let currencies = self.check_currencies(id, violations);
        let minimum_payouts = self.check_minimum_payouts(id, violations);
        if built_in {
            if !self.fields.is_empty() {
                violations.push(
                    format!("{ROOT}.fields"),
                    "a built-in type has its own fields: leave this empty",
                );
            }
        } else {
            self.check_fields(violations);
        }
        PaymentMethodTypeSettings {
            display_name: self.display_name.clone(),
            enabled: self.enabled.unwrap_or(true),
            currencies,
            minimum_payouts,
            fields: self.fields.clone(),
        }
    }

    fn check_currencies(&self, id: &str, violations: &mut Violations) -> Vec<Currency> {
        let root = format!("{ROOT}.currency_codes");
        if self.currency_codes.len() > MAX_CURRENCIES {
            violations.push(&root, "must be at most 200 currencies");
        }
        let mut currencies = Vec::new();
        for (index, code) in self.currency_codes.iter().enumerate().take(MAX_CURRENCIES) {
            let field = format!("{root}[{index}]");
            let Some(currency) = violations.check(&field, Currency::parse(code)) else {
                continue;
            };
            if currencies.contains(&currency) {
                violations.push(&field, "stands twice: name each currency once");
            } else if !rail_takes(id, currency) {
                violations.push(&field, "is a currency that the rail does not take");
            } else {
                currencies.push(currency);
            }
        }
        currencies
    }

    fn check_minimum_payouts(&self, id: &str, violations: &mut Violations) -> Vec<Money> {
        let root = format!("{ROOT}.minimum_payouts");
        if self.minimum_payouts.len() > MAX_CURRENCIES {
            violations.push(&root, "must be at most 200 amounts");
        }
        let mut minimums: Vec<Money> = Vec::new();
        for (index, draft) in self.minimum_payouts.iter().enumerate().take(MAX_CURRENCIES) {
            let field = format!("{root}[{index}]");
            let Some(minimum) = draft.check(&field, violations) else {
                continue;
            };
            let currency = minimum.currency;
            // The codes as sent: a currency that is refused among them is not also called missing here.
            let pays_in = if self.currency_codes.is_empty() {
                rail_takes(id, currency)
            } else {
                self.currency_codes.iter().any(|code| code == currency.code())
            };
            if minimums.iter().any(|other| other.currency == currency) {
                violations.push(
                    format!("{field}.currency_code"),
                    "stands twice: name one minimum a currency",
                );
            } else if !pays_in {
                violations.push(
                    format!("{field}.currency_code"),
                    "is a currency that the type does not pay in",
                );
            } else {
                minimums.push(minimum);
            }
        }
        minimums
    }

    fn check_fields(&self, violations: &mut Violations) {
        let root = format!("{ROOT}.fields");
        if !(1..=MAX_FIELDS).contains(&self.fields.len()) {
            violations.push(&root, "must be 1 to 30 fields");
        }
        let mut names = BTreeSet::new();
        for (index, field) in self.fields.iter().enumerate().take(MAX_FIELDS) {
            let path = format!("{root}[{index}]");
            violations.check(format!("{path}.name"), check_field_name(&field.name));
            if !names.insert(&field.name) {
                violations.push(format!("{path}.name"), "stands twice: name each field once");
            }
            violations.check(
                format!("{path}.display_name"),
                check_optional_name(&field.display_name, MAX_DISPLAY_NAME),
            );
            violations.check(format!("{path}.pattern"), check_pattern(&field.pattern));
        }
    }

    /// Takes over the fields that the mask names from another draft.
    pub fn apply(&mut self, other: &Self, mask: &[String]) {
        for path in mask {
            match path.as_str() {
                "display_name" => self.display_name.clone_from(&other.display_name),
                "enabled" => self.enabled = other.enabled,
                "currency_codes" => self.currency_codes.clone_from(&other.currency_codes),
                "minimum_payouts" => self.minimum_payouts.clone_from(&other.minimum_payouts),
                "fields" => self.fields.clone_from(&other.fields),
                _ => {}
            }
        }
    }
}

impl MinimumPayoutDraft {
    fn check(&self, field: &str, violations: &mut Violations) -> Option<Money> {
        let currency = violations.check(format!("{field}.currency_code"), Currency::parse(&self.currency_code));
        let amount = violations.check(format!("{field}.amount"), Amount::parse(&self.amount));
        let minimum = Money::new(currency?, amount?);
        let problem = if !minimum.amount.is_positive() {
            "must be more than 0: leave it out for no minimum".to_owned()
        } else if minimum.amount > Amount::from_units(MAX_MINIMUM_UNITS) {
            "must be at most 1000000000000".to_owned()
        } else if !minimum.amount.fits_decimals(minimum.currency.minor_units()) {
            format!(
                "must have at most {} decimals, as {} has",
                minimum.currency.minor_units(),
                minimum.currency
            )
        } else {
            return Some(minimum);
        };
        violations.push(format!("{field}.amount"), problem);
        None
    }
}

impl From<&PaymentMethodType> for PaymentMethodTypeDraft {
    fn from(stored: &PaymentMethodType) -> Self {
        Self {
            display_name: stored.display_name.clone(),
            enabled: Some(stored.enabled),
            currency_codes: stored.currencies.iter().map(Currency::to_string).collect(),
            minimum_payouts: stored
                .minimum_payouts
                .iter()
                .map(|minimum| MinimumPayoutDraft {
                    currency_code: minimum.currency.to_string(),
                    amount: minimum.amount_text(),
                })
                .collect(),
            fields: stored.fields.clone(),
        }
    }
}

/// Whether an id is that of a type that came with the service.
#[must_use]
pub fn is_built_in(id: &str) -> bool {
    [BANK_TRANSFER, PAYPAL, TIPALTI].contains(&id)
}

/// Checks the id of a type.
pub fn check_type_id(id: &str) -> std::result::Result<(), &'static str> {
    if id.is_empty() {
        return Err("is required");
    }
    if (MIN_ID..=MAX_ID).contains(&id.len()) && is_name(id) {
        Ok(())
    } else {
        Err("must be 3 to 50 characters: a lower-case letter, then lower-case letters, digits and _")
    }
}

/// Checks the name of a field of a type that the program defines.
pub fn check_field_name(name: &str) -> std::result::Result<(), &'static str> {
    if name.is_empty() {
        return Err("is required");
    }
    if name.len() <= MAX_FIELD_NAME && is_name(name) {
        Ok(())
    } else {
        Err("must be at most 50 characters: a lower-case letter, then lower-case letters, digits and _")
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn check_pattern(pattern: &str) -> std::result::Result<(), &'static str> {
    if pattern.is_empty() {
        return Ok(());
    }
    if pattern.chars().count() > MAX_PATTERN {
        return Err("must be at most 200 characters");
    }
    // By itself first: `a)|(b` is no pattern, but would be one within the group that makes it match the whole value.
    build(pattern).and_then(|_| compile(pattern)).map(drop).map_err(
        |()| "must be a regular expression in the syntax of Rust's regex, without look-around, and not too large",
    )
}

/// The pattern as it is applied: to the whole value.
fn compile(pattern: &str) -> std::result::Result<Regex, ()> {
    build(&format!("^(?:{pattern})$"))
}

fn build(pattern: &str) -> std::result::Result<Regex, ()> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(drop)
}

fn rail_takes(id: &str, currency: Currency) -> bool {
    id != PAYPAL || PAYPAL_CURRENCIES.contains(&currency.code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::Error;

    fn own() -> PaymentMethodTypeDraft {
        PaymentMethodTypeDraft {
            display_name: "Wise".to_owned(),
            fields: vec![field("email", "[^@ ]+@[^@ ]+")],
            ..PaymentMethodTypeDraft::default()
        }
    }

    fn field(name: &str, pattern: &str) -> PaymentMethodField {
        PaymentMethodField {
            name: name.to_owned(),
            display_name: String::new(),
            required: true,
            pattern: pattern.to_owned(),
            secret: false,
        }
    }

    fn minimum(currency_code: &str, amount: &str) -> MinimumPayoutDraft {
        MinimumPayoutDraft {
            currency_code: currency_code.to_owned(),
            amount: amount.to_owned(),
        }
    }

    fn stored(id: &str, settings: PaymentMethodTypeSettings) -> PaymentMethodType {
        PaymentMethodType {
            id: id.to_owned(),
            built_in: is_built_in(id),
            display_name: settings.display_name,
            enabled: settings.enabled,
            currencies: settings.currencies,
            minimum_payouts: settings.minimum_payouts,
            fields: settings.fields,
            revision: 1,
            create_time: Timestamp::now(),
            update_time: Timestamp::now(),
        }
    }

    fn paths(outcome: Result<PaymentMethodTypeSettings>) -> Vec<String> {
        match outcome {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
            other => panic!("not refused: {other:?}"),
        }
    }

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    #[test]
    fn a_type_of_the_program_is_accepted_and_enabled() {
        let mut draft = own();
        draft.currency_codes = vec!["EUR".to_owned(), "JPY".to_owned()];
        draft.minimum_payouts = vec![minimum("EUR", "20.50"), minimum("JPY", "1000000000000")];
        let wise = stored("wise", draft.check("wise", false).unwrap());
        assert!(wise.enabled && !wise.built_in && wise.provider().is_none());
        assert!(wise.pays_in(currency("JPY")) && !wise.pays_in(currency("USD")));
        assert_eq!(
            wise.minimum_payout(currency("EUR")),
            Some(Amount::parse("20.5").unwrap())
        );
        assert_eq!(wise.minimum_payout(currency("USD")), None);
        let again = PaymentMethodTypeDraft::from(&wise).check("wise", false).unwrap();
        assert_eq!(again.minimum_payouts, wise.minimum_payouts);
    }

    #[test]
    fn every_violation_is_named() {
        let draft = PaymentMethodTypeDraft {
            display_name: " ".to_owned(),
            enabled: None,
            currency_codes: ["EUR", "EUR", "BGN", "JPY"].map(str::to_owned).to_vec(),
            minimum_payouts: vec![
                minimum("EUR", "0"),
                minimum("EUR", "1.001"),
                minimum("EUR", "1000000000000.01"),
                minimum("EUR", "1"),
                minimum("EUR", "2"),
                minimum("USD", "1"),
                minimum("JPY", "1.5"),
                minimum("eur", "x"),
            ],
            fields: vec![
                field("Name", ""),
                field("a", "("),
                field("a", "(?=a)b"),
                field("", &"a".repeat(201)),
            ],
        };
        assert_eq!(
            paths(draft.check("wise", false)),
            [
                "display_name",
                "currency_codes[1]",
                "currency_codes[2]",
                "minimum_payouts[0].amount",
                "minimum_payouts[1].amount",
                "minimum_payouts[2].amount",
                "minimum_payouts[4].currency_code",
                "minimum_payouts[5].currency_code",
                "minimum_payouts[6].amount",
                "minimum_payouts[7].currency_code",
                "minimum_payouts[7].amount",
                "fields[0].name",
                "fields[1].pattern",
                "fields[2].name",
                "fields[2].pattern",
                "fields[3].name",
                "fields[3].pattern",
            ]
            .map(|path| format!("payment_method_type.{path}"))
        );
    }

    #[test]
    fn own_types_have_fields_and_built_in_ones_have_none() {
        let mut draft = own();
        draft.fields.clear();
        assert_eq!(paths(draft.check("wise", false)), ["payment_method_type.fields"]);
        assert!(draft.check(PAYPAL, true).is_ok());
        assert_eq!(paths(own().check(PAYPAL, true)), ["payment_method_type.fields"]);
        draft.fields = (0..31).map(|number| field(&format!("f{number}"), "")).collect();
        assert_eq!(paths(draft.check("wise", false)), ["payment_method_type.fields"]);
        draft.fields.pop();
        assert!(draft.check("wise", false).is_ok());
    }

    #[test]
    fn paypal_keeps_to_the_currencies_of_its_rail() {
        let mut draft = own();
        draft.fields.clear();
        let paypal = stored(PAYPAL, draft.check(PAYPAL, true).unwrap());
        let taken: Vec<&str> = Currency::all()
            .filter(|currency| paypal.pays_in(*currency))
            .map(Currency::code)
            .collect();
        assert_eq!(taken, PAYPAL_CURRENCIES);
        let bank = stored(BANK_TRANSFER, draft.check(BANK_TRANSFER, true).unwrap());
        assert!(Currency::all().all(|currency| bank.pays_in(currency)));
        draft.currency_codes = vec!["KWD".to_owned()];
        draft.minimum_payouts = vec![minimum("KWD", "1")];
        assert_eq!(
            paths(draft.check(PAYPAL, true)),
            ["payment_method_type.currency_codes[0]"]
        );
        draft.currency_codes.clear();
        assert_eq!(
            paths(draft.check(PAYPAL, true)),
            ["payment_method_type.minimum_payouts[0].currency_code"]
        );
    }

    #[test]
    fn paypal_takes_whole_units_of_some_currencies() {
        let mut draft = own();
        draft.fields.clear();
        let paypal = stored(PAYPAL, draft.check(PAYPAL, true).unwrap());
        let tipalti = stored(TIPALTI, draft.check(TIPALTI, true).unwrap());
        for (code, by_paypal, by_tipalti) in [("HUF", 0, 2), ("TWD", 0, 2), ("JPY", 0, 0), ("EUR", 2, 2)] {
            assert_eq!(paypal.payout_decimals(currency(code)), by_paypal, "{code}");
            assert_eq!(tipalti.payout_decimals(currency(code)), by_tipalti, "{code}");
        }
        assert_eq!((paypal.provider(), tipalti.provider()), (None, Some("tipalti")));
    }

    #[test]
    fn ids_of_types() {
        for id in ["abc", "a_1", "crypto_usdc", &"a".repeat(50)] {
            assert_eq!(check_type_id(id), Ok(()), "{id}");
        }
        for id in [
            "",
            "ab",
            "1ab",
            "_ab",
            "Wise",
            "wi-se",
            "wi se",
            "wisé",
            &"a".repeat(51),
        ] {
            assert!(check_type_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn patterns_match_the_whole_value() {
        for (pattern, value, accepted) in [
            ("", "anything", true),
            ("private|business", "business", true),
            ("private|business", "businesses", false),
            ("a|b", "ab", false),
            ("(?m)a", "a\nb", false),
            ("(?i)ab", "AB", true),
            ("0x[0-9a-f]{40}", "0x00000000000000000000000000000000000000ff", true),
            ("[^@ ]+@[^@ ]+", "a@b c", false),
            ("a$", "a\n", false),
        ] {
            assert!(check_pattern(pattern).is_ok(), "{pattern}");
            assert_eq!(field("x", pattern).accepts(value), accepted, "{pattern} {value}");
        }
    }

    #[test]
    fn patterns_that_break_out_or_are_too_large_are_refused() {
        for pattern in [
            "a)|(b",
            "a)|(?:b",
            "(?x)a # comment",
            "a\\",
            "[a",
            "(?<!a)b",
            "(?P<a>b)\\1",
            "((a{1000}){1000}){1000}",
            "(((){1000}){1000}){1000}",
            "(((((a*)*)*){100}){100}){100}",
        ] {
            assert!(check_pattern(pattern).is_err(), "{pattern}");
        }
        assert!(check_pattern("[A-Za-z0-9._-]{1,500}").is_ok());
    }

    #[test]
    fn apply_takes_over_what_the_mask_names() {
        let mut draft = own();
        let other = PaymentMethodTypeDraft {
            display_name: "Other".to_owned(),
            enabled: Some(false),
            ..PaymentMethodTypeDraft::default()
        };
        draft.apply(&other, &["enabled".to_owned()]);
        assert_eq!((draft.enabled, draft.display_name.as_str()), (Some(false), "Wise"));
        draft.apply(&other, &PAYMENT_METHOD_TYPE_MASK_PATHS.map(str::to_owned));
        assert_eq!((draft.display_name.as_str(), draft.fields.is_empty()), ("Other", true));
    }
}
