//! Where payment methods are paid to, in a form in which two that are paid to the same place are equal: several accounts that
//! are is a sign of fraud.
//!
//! Only what a payment is routed by counts: not the holder's name, not the bank's. What is written in two ways is one place
//! where that is sure: an account of the United Kingdom by its IBAN or by sort code and number, numbers with zeros before them,
//! a bank by any of its branches' BICs, a PayPal address in upper or lower case.

use crate::domain::payment_methods::{BankAccount, PaymentMethodDetails};
use crate::domain::sensitive::Sensitive;

/// Accounts that are named of those who share a place.
pub const MAX_SHARED_NAMED: usize = 10;
/// They are counted up to here.
pub const MAX_SHARED_COUNTED: usize = 100;

/// Where details are paid to; none where that can't be compared: what the fields of a type of the program's own mean is not
/// known.
#[must_use]
pub fn destination(details: &PaymentMethodDetails) -> Option<Sensitive> {
    let parts = match details {
        PaymentMethodDetails::BankTransfer { account, .. } => of_bank_account(account),
        PaymentMethodDetails::Paypal { email } => vec!["paypal".to_owned(), email.as_str().to_lowercase()],
        PaymentMethodDetails::Tipalti { payee_id } => vec!["tipalti".to_owned(), payee_id.as_str().to_owned()],
        PaymentMethodDetails::Custom { .. } => return None,
    };
    Some(Sensitive::new(parts.join("\0")))
}

fn of_bank_account(account: &BankAccount) -> Vec<String> {
    match account {
        BankAccount::Iban { iban, .. } => of_iban(iban.as_str()),
        BankAccount::UnitedStates {
            routing_number,
            account_number,
        } => vec![
            "us".to_owned(),
            routing_number.as_str().to_owned(),
            without_zeros(account_number.as_str()),
        ],
        BankAccount::UnitedKingdom {
            sort_code,
            account_number,
        } => of_united_kingdom(sort_code.as_str(), account_number.as_str()),
        // The first eight characters are the bank, the others its branch.
        BankAccount::Elsewhere { bic, account_number } => vec![
            "bic".to_owned(),
            bic.as_str().chars().take(8).collect(),
            without_zeros(account_number.as_str()),
        ],
    }
}

/// In the United Kingdom's IBANs the sort code and the account number stand at the end (IBAN registry, GB).
fn of_iban(iban: &str) -> Vec<String> {
    match (iban.get(8..14), iban.get(14..22)) {
        (Some(sort_code), Some(account_number)) if iban.starts_with("GB") => {
            of_united_kingdom(sort_code, account_number)
        }
        _ => vec!["iban".to_owned(), iban.to_owned()],
    }
}

fn of_united_kingdom(sort_code: &str, account_number: &str) -> Vec<String> {
    vec!["uk".to_owned(), sort_code.to_owned(), account_number.to_owned()]
}

fn without_zeros(number: &str) -> String {
    number.trim_start_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::Violations;
    use crate::domain::payment_methods::{BankTransferTexts, DetailsTexts};

    fn of(texts: DetailsTexts) -> Option<String> {
        let mut violations = Violations::new();
        let details = texts.check_into(&mut violations);
        assert!(violations.is_empty(), "{violations:?}");
        destination(&details.unwrap()).map(|destination| destination.as_str().to_owned())
    }

    fn bank(set: impl Fn(&mut BankTransferTexts)) -> String {
        let mut texts = BankTransferTexts {
            account_holder_name: Sensitive::new("Ada Byron"),
            ..BankTransferTexts::default()
        };
        set(&mut texts);
        of(DetailsTexts::BankTransfer(texts)).unwrap()
    }

    fn iban(number: &str) -> String {
        bank(|texts| texts.iban = Sensitive::new(number))
    }

    fn uk(sort_code: &str, number: &str) -> String {
        bank(|texts| {
            texts.sort_code = Sensitive::new(sort_code);
            texts.account_number = Sensitive::new(number);
        })
    }

    fn us(routing_number: &str, number: &str) -> String {
        bank(|texts| {
            texts.routing_number = Sensitive::new(routing_number);
            texts.account_number = Sensitive::new(number);
        })
    }

    fn elsewhere(bic: &str, number: &str) -> String {
        bank(|texts| {
            texts.bic = Sensitive::new(bic);
            texts.account_number = Sensitive::new(number);
        })
    }

    fn paypal(email: &str) -> String {
        of(DetailsTexts::Paypal {
            email: Sensitive::new(email),
        })
        .unwrap()
    }

    #[test]
    fn one_place_written_in_several_ways_is_one() {
        let named = bank(|texts| {
            texts.account_holder_name = Sensitive::new("Somebody Else");
            texts.iban = Sensitive::new("de89 3704 0044 0532 0130 00");
            texts.bic = Sensitive::new("COBADEFFXXX");
            texts.bank_name = Sensitive::new("A bank");
        });
        assert_eq!(named, iban("DE89370400440532013000"));
        assert_eq!(iban("GB29 NWBK 6016 1331 9268 19"), uk("60-16-13", "31926819"));
        assert_eq!(us("021000021", "000123456789"), us("0210-0002-1", "123456789"));
        assert_eq!(elsewhere("CHASHKHH", "0012-345"), elsewhere("CHASHKHHXXX", "12345"));
        assert_eq!(paypal("Ada@Example.com"), paypal("ada@example.COM"));
    }

    #[test]
    fn other_places_are_others() {
        let all = [
            iban("DE89370400440532013000"),
            iban("GB29NWBK60161331926819"),
            uk("601613", "31926810"),
            uk("601614", "31926819"),
            us("021000021", "123456789"),
            us("011401533", "123456789"),
            elsewhere("CHASHKHH", "123456789"),
            elsewhere("CHASSGSG", "123456789"),
            paypal("ada@example.com"),
            paypal("ada@example.org"),
            of(DetailsTexts::Tipalti {
                payee_id: Sensitive::new("ada@example.com"),
            })
            .unwrap(),
        ];
        let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn details_of_a_type_of_the_program_are_not_compared() {
        let details = PaymentMethodDetails::Custom {
            type_id: "wallet".to_owned(),
            fields: std::collections::BTreeMap::new(),
        };
        assert!(destination(&details).is_none());
    }
}
