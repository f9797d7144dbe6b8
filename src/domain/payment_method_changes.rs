//! What changed of payment methods: field by field, masked from the first moment on. And what of it moves money.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::currency::Currency;
use crate::domain::ids::AccountId;
use crate::domain::payment_method_types::PaymentMethodField;
use crate::domain::payment_methods::{PaymentMethodDetails, PaymentMethodRecord, View};
use crate::domain::sensitive::{Sensitive, mask};
use crate::domain::time::Timestamp;

/// What happened to a payment method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Created,
    /// Fields of it changed.
    Updated,
    /// It was deleted.
    Deleted,
}

/// One field that changed, with its values masked: in full they are in no history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Its path in the message.
    pub path: String,
    /// Its value before; empty where it was not set.
    pub before: Sensitive,
    /// Its value after; empty where it is not set.
    pub after: Sensitive,
}

/// One change of a payment method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentMethodChange {
    /// Its id.
    pub id: Uuid,
    /// The account.
    pub account_id: AccountId,
    /// The method, which may be deleted by now.
    pub payment_method_id: Uuid,
    /// Its type.
    pub type_id: String,
    /// Its currency after the change.
    pub currency: Currency,
    /// What happened to it.
    pub kind: ChangeKind,
    /// The fields that changed.
    pub fields: Vec<FieldChange>,
    /// Who.
    pub actor: String,
    /// The RPC that was called.
    pub rpc: String,
    /// Request id of the call; empty where it had none.
    pub request_id: String,
    /// When.
    pub change_time: Timestamp,
}

const CUSTOM_FIELD: &str = "custom.fields[";

impl ChangeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Created, Self::Updated, Self::Deleted];

    /// Name as stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Updated => "UPDATED",
            Self::Deleted => "DELETED",
        }
    }

    /// The kind of a stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl PaymentMethodChange {
    /// The change as it is shown; `type_fields` are those of its type now. What was open when it was kept is masked where the
    /// type has made it secret since, or has it no longer.
    #[must_use]
    pub fn shown(mut self, type_fields: &[PaymentMethodField]) -> Self {
        for field in &mut self.fields {
            let name = field
                .path
                .strip_prefix(CUSTOM_FIELD)
                .and_then(|rest| rest.strip_suffix(']'));
            let is_open = |name: &str| type_fields.iter().any(|known| known.name == name && !known.secret);
            if name.is_some_and(|name| !is_open(name)) {
                field.before = masked_again(&field.before);
                field.after = masked_again(&field.after);
            }
        }
        self
    }
}

/// A masked value stays as it is.
fn masked_again(value: &Sensitive) -> Sensitive {
    if value.as_str().is_empty() {
        Sensitive::default()
    } else {
        Sensitive::new(mask(value.as_str()))
    }
}

/// The fields that differ between two states of a method, of which there may be none before or after. Compared in full, kept
/// masked; `type_fields` are those of its type.
#[must_use]
pub fn changed_fields(
    before: Option<&PaymentMethodRecord>,
    after: Option<&PaymentMethodRecord>,
    type_fields: &[PaymentMethodField],
) -> Vec<FieldChange> {
    let texts = |record: Option<&PaymentMethodRecord>, view| {
        record
            .map(|record| texts(record, view, type_fields))
            .unwrap_or_default()
    };
    let (full_before, full_after) = (texts(before, View::Full), texts(after, View::Full));
    let (mut shown_before, mut shown_after) = (texts(before, View::Masked), texts(after, View::Masked));
    let mut paths: Vec<&String> = full_before.keys().chain(full_after.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut changes = Vec::new();
    for path in paths {
        if full_before.get(path) != full_after.get(path) {
            changes.push(FieldChange {
                path: path.clone(),
                before: shown_before.remove(path).unwrap_or_default(),
                after: shown_after.remove(path).unwrap_or_default(),
            });
        }
    }
    changes
}

/// What is set of a method, by path.
fn texts(record: &PaymentMethodRecord, view: View, type_fields: &[PaymentMethodField]) -> BTreeMap<String, Sensitive> {
    let mut texts: BTreeMap<String, Sensitive> =
        record.details.shown(view, type_fields).by_path().into_iter().collect();
    texts.insert("currency_code".to_owned(), Sensitive::new(record.currency.code()));
    texts.insert("default".to_owned(), Sensitive::new(record.is_default.to_string()));
    texts.retain(|_, value| !value.as_str().is_empty());
    texts
}

/// Whether a method pays to somewhere else than before, or pays an account's balances that it did not pay before: it is new,
/// is of another currency, became the default, or names another account. What people and banks are called does not count: money
/// goes by numbers. Of a type that the program defines every field may say where, so all count.
#[must_use]
pub fn moves_money(before: Option<&PaymentMethodRecord>, after: &PaymentMethodRecord) -> bool {
    let Some(before) = before else {
        return true;
    };
    before.currency != after.currency
        || (after.is_default && !before.is_default)
        || !names_the_same_account(&before.details, &after.details)
}

fn names_the_same_account(before: &PaymentMethodDetails, after: &PaymentMethodDetails) -> bool {
    match (before, after) {
        (
            PaymentMethodDetails::BankTransfer { account: before, .. },
            PaymentMethodDetails::BankTransfer { account: after, .. },
        ) => before == after,
        _ => before == after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::Violations;
    use crate::domain::payment_methods::{BankTransferTexts, DetailsTexts};

    const IBAN: &str = "DE89370400440532013000";
    const OTHER_IBAN: &str = "GB82WEST12345698765432";

    fn record(texts: &DetailsTexts) -> PaymentMethodRecord {
        let details = texts.check_into(&mut Violations::new()).unwrap();
        PaymentMethodRecord {
            id: Uuid::nil(),
            account_id: AccountId::parse("a").unwrap(),
            currency: Currency::parse("EUR").unwrap(),
            type_id: details.type_id().to_owned(),
            is_default: true,
            details,
            version_id: Uuid::nil(),
            destination_time: Timestamp::now(),
            payee: None,
            revision: 1,
            create_time: Timestamp::now(),
            update_time: Timestamp::now(),
        }
    }

    fn bank(holder: &str, iban: &str, bank_name: &str) -> PaymentMethodRecord {
        record(&DetailsTexts::BankTransfer(BankTransferTexts {
            account_holder_name: Sensitive::new(holder),
            iban: Sensitive::new(iban),
            bank_name: Sensitive::new(bank_name),
            ..BankTransferTexts::default()
        }))
    }

    fn custom(values: &[(&str, &str)]) -> PaymentMethodRecord {
        let fields = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Sensitive::new(*value)));
        record(&DetailsTexts::Custom {
            type_id: "wallet".to_owned(),
            fields: fields.collect(),
        })
    }

    fn field(name: &str, secret: bool) -> PaymentMethodField {
        PaymentMethodField {
            name: name.to_owned(),
            display_name: String::new(),
            required: false,
            pattern: String::new(),
            secret,
        }
    }

    fn told(changes: &[FieldChange]) -> Vec<String> {
        let told = |change: &FieldChange| {
            format!(
                "{}: {} > {}",
                change.path,
                change.before.as_str(),
                change.after.as_str()
            )
        };
        changes.iter().map(told).collect()
    }

    #[test]
    fn only_what_changed_is_told_and_masked() {
        let before = bank("Ada", IBAN, "");
        assert_eq!(changed_fields(Some(&before), Some(&before), &[]), []);
        let after = bank("Ada", OTHER_IBAN, "Bank");
        assert_eq!(
            told(&changed_fields(Some(&before), Some(&after), &[])),
            [
                "bank_transfer.bank_name:  > Bank",
                "bank_transfer.iban: ****3000 > ****5432"
            ]
        );
        assert_eq!(
            told(&changed_fields(None, Some(&before), &[])),
            [
                "bank_transfer.account_holder_name:  > Ada",
                "bank_transfer.iban:  > ****3000",
                "currency_code:  > EUR",
                "default:  > true"
            ]
        );
        assert_eq!(changed_fields(Some(&before), None, &[]).len(), 4);
    }

    #[test]
    fn fields_that_became_secret_or_are_gone_are_masked_when_they_are_shown() {
        let (before, after) = (
            custom(&[("phone", "+4912345"), ("pin", "12345678")]),
            custom(&[("phone", "+4967890")]),
        );
        let type_fields = [field("phone", false), field("pin", true)];
        let fields = changed_fields(Some(&before), Some(&after), &type_fields);
        let open = [
            "custom.fields[phone]: +4912345 > +4967890",
            "custom.fields[pin]: ****5678 > ",
        ];
        let hidden = [
            "custom.fields[phone]: ****2345 > ****7890",
            "custom.fields[pin]: ****5678 > ",
        ];
        assert_eq!(told(&fields), open);
        let change = PaymentMethodChange {
            id: Uuid::nil(),
            account_id: before.account_id.clone(),
            payment_method_id: Uuid::nil(),
            type_id: "wallet".to_owned(),
            currency: before.currency,
            kind: ChangeKind::Updated,
            fields,
            actor: String::new(),
            rpc: String::new(),
            request_id: String::new(),
            change_time: Timestamp::now(),
        };
        assert_eq!(told(&change.clone().shown(&type_fields).fields), open);
        assert_eq!(told(&change.clone().shown(&[field("phone", true)]).fields), hidden);
        assert_eq!(told(&change.shown(&[]).fields), hidden);
    }

    #[test]
    fn money_moves_by_numbers_currency_and_default_and_not_by_names() {
        let before = bank("Ada", IBAN, "");
        assert!(moves_money(None, &before));
        assert!(!moves_money(Some(&before), &before));
        assert!(!moves_money(Some(&before), &bank("Ada Byron", IBAN, "Bank")));
        assert!(moves_money(Some(&before), &bank("Ada", OTHER_IBAN, "")));
        let other_currency = PaymentMethodRecord {
            currency: Currency::parse("USD").unwrap(),
            ..before.clone()
        };
        assert!(moves_money(Some(&before), &other_currency));
        let not_default = PaymentMethodRecord {
            is_default: false,
            ..before.clone()
        };
        assert!(moves_money(Some(&not_default), &before));
        assert!(!moves_money(Some(&before), &not_default));
        assert!(moves_money(
            Some(&custom(&[("phone", "1")])),
            &custom(&[("phone", "2")])
        ));
    }
}
