//! Payment methods: where an account is paid to, for one type and one currency.
//!
//! Details come and are shown as texts ([`DetailsTexts`]); what is kept is checked ([`PaymentMethodDetails`]). What depends on
//! the type alone (the form of a bank account, an e-mail address) is checked without it; the currency and the fields of a type
//! that the program defines are checked against the stored type.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::bank_account::{AccountNumber, RoutingNumber, SortCode, UkAccountNumber, UsAccountNumber};
use crate::domain::bic::Bic;
use crate::domain::currency::Currency;
use crate::domain::email::Email;
use crate::domain::error::Violations;
use crate::domain::iban::Iban;
use crate::domain::ids::{AccountId, check_name, check_optional_name};
use crate::domain::payment_method_types::{
    BANK_TRANSFER, PAYPAL, PaymentMethodField, PaymentMethodType, TIPALTI, check_field_name, check_type_id, is_built_in,
};
use crate::domain::sensitive::{Sensitive, is_masked, mask};
use crate::domain::time::Timestamp;

/// Checked details, of which the variant is the type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentMethodDetails {
    /// To a bank account.
    BankTransfer {
        /// Name of the account's holder.
        account_holder_name: Sensitive,
        /// The account.
        account: BankAccount,
        /// Name of the bank; may be empty.
        bank_name: Sensitive,
    },
    /// To a PayPal account.
    Paypal {
        /// Its address.
        email: Email,
    },
    /// By Tipalti.
    Tipalti {
        /// The payee's id there.
        payee_id: Sensitive,
    },
    /// By a type that the program defines.
    Custom {
        /// The type.
        type_id: String,
        /// Values by field name, none of them empty.
        fields: BTreeMap<String, Sensitive>,
    },
}

/// A bank account, known in one of four ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BankAccount {
    /// By its IBAN.
    Iban {
        /// The IBAN.
        iban: Iban,
        /// The bank, where it was given.
        bic: Option<Bic>,
    },
    /// In the United States.
    UnitedStates {
        /// The bank.
        routing_number: RoutingNumber,
        /// The account.
        account_number: UsAccountNumber,
    },
    /// In the United Kingdom.
    UnitedKingdom {
        /// The bank's branch.
        sort_code: SortCode,
        /// The account.
        account_number: UkAccountNumber,
    },
    /// In the rest of the world.
    Elsewhere {
        /// The bank.
        bic: Bic,
        /// The account.
        account_number: AccountNumber,
    },
}

/// Details as texts: what a caller sent, unchecked, or what is shown to a caller, perhaps masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DetailsTexts {
    /// To a bank account.
    BankTransfer(BankTransferTexts),
    /// To a PayPal account.
    Paypal {
        /// Its address.
        email: Sensitive,
    },
    /// By Tipalti.
    Tipalti {
        /// The payee's id there.
        payee_id: Sensitive,
    },
    /// By a type that the program defines.
    Custom {
        /// The type.
        type_id: String,
        /// Values by field name.
        fields: BTreeMap<String, Sensitive>,
    },
}

/// The fields of a bank transfer; empty where not set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is documented in payment_methods.proto")]
pub struct BankTransferTexts {
    pub account_holder_name: Sensitive,
    pub iban: Sensitive,
    pub bic: Sensitive,
    pub routing_number: Sensitive,
    pub sort_code: Sensitive,
    pub account_number: Sensitive,
    pub bank_name: Sensitive,
}

/// A payment method as a caller sent it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PaymentMethodDraft {
    /// Currency code.
    pub currency_code: String,
    /// Whether it shall be the default of its currency.
    pub default: bool,
    /// The details.
    pub details: Option<DetailsTexts>,
}

/// A payment method as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentMethodRecord {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub account_id: AccountId,
    /// The currency that is paid by it.
    pub currency: Currency,
    /// Its type.
    pub type_id: String,
    /// Whether the account's balances in the currency are paid by it.
    pub is_default: bool,
    /// The details.
    pub details: PaymentMethodDetails,
    /// The version of currency and details, to which account settlements refer.
    pub version_id: Uuid,
    /// Since when it pays to where it pays, and as the default, where it is.
    pub destination_time: Timestamp,
    /// What its provider said of the payee, where a provider pays it.
    pub payee: Option<PayeeState>,
    /// Counts its changes.
    pub revision: i64,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// What a provider said of a payee.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayeeState {
    /// Whether it can be paid; none before the provider said anything.
    pub payable: Option<bool>,
    /// Why it can't be paid, without personal data; may be empty.
    pub reason: String,
    /// When that became so by the provider's clock.
    pub event_time: Option<Timestamp>,
}

/// Other accounts that are paid to the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedWith {
    /// The first of them in their order, at most [`MAX_SHARED_NAMED`](super::destinations::MAX_SHARED_NAMED).
    pub account_ids: Vec<AccountId>,
    /// How many there are, counted up to [`MAX_SHARED_COUNTED`](super::destinations::MAX_SHARED_COUNTED).
    pub count: i32,
}

/// A payment method as it is shown to a caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownPaymentMethod {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub account_id: AccountId,
    /// The currency that is paid by it.
    pub currency: Currency,
    /// Its type.
    pub type_id: String,
    /// Whether it is the default of the currency.
    pub is_default: bool,
    /// The details, perhaps masked.
    pub details: DetailsTexts,
    /// What its provider said of the payee, where a provider pays it.
    #[serde(default)]
    pub payee: Option<PayeeState>,
    /// Who else is paid to the same place, where that is shown and somebody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_with: Option<SharedWith>,
    /// Changes with every change.
    pub etag: String,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// How much of the details is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// The last four characters of what is to be kept from most eyes.
    Masked,
    /// Everything.
    Full,
}

/// Paths that an update mask may name, in the order of the message.
pub const PAYMENT_METHOD_MASK_PATHS: [&str; 16] = [
    "currency_code",
    "default",
    "bank_transfer",
    "bank_transfer.account_holder_name",
    "bank_transfer.iban",
    "bank_transfer.bic",
    "bank_transfer.routing_number",
    "bank_transfer.sort_code",
    "bank_transfer.account_number",
    "bank_transfer.bank_name",
    "paypal",
    "paypal.email",
    "tipalti",
    "tipalti.payee_id",
    "custom",
    "custom.fields",
];
/// Stands in a mask for the details, whichever they are: what `*` asks for.
pub const ANY_DETAILS: &str = "details";

const ROOT: &str = "payment_method";
const CUSTOM: &str = "custom";
const MAX_HOLDER_NAME: usize = 140;
const MAX_BANK_NAME: usize = 140;
const MAX_PAYEE_ID: usize = 64;
const MAX_FIELD_VALUE: usize = 500;
/// More than any type has; a map with more is refused as a whole.
const MAX_FIELDS: usize = 30;

const MASKED: &str = "is masked: send it in full, as VIEW_FULL shows it, or leave it out of the update mask";
const IMMUTABLE: &str = "the type is immutable: create a new payment method";
const NO_DETAILS: &str = "set one of bank_transfer, paypal, tipalti and custom";
const COMBINATIONS: &str = "must have exactly one of these combinations: iban with or without bic; \
    routing_number and account_number; sort_code and account_number; bic and account_number";

impl PaymentMethodDetails {
    /// The type that they are for.
    #[must_use]
    pub fn type_id(&self) -> &str {
        match self {
            Self::BankTransfer { .. } => BANK_TRANSFER,
            Self::Paypal { .. } => PAYPAL,
            Self::Tipalti { .. } => TIPALTI,
            Self::Custom { type_id, .. } => type_id,
        }
    }

    /// The provider that pays it and the payee's id there, where a provider does.
    #[must_use]
    pub fn payee(&self) -> Option<(&'static str, &Sensitive)> {
        match self {
            Self::Tipalti { payee_id } => Some((TIPALTI, payee_id)),
            Self::BankTransfer { .. } | Self::Paypal { .. } | Self::Custom { .. } => None,
        }
    }

    /// As texts, in full.
    #[must_use]
    pub fn texts(&self) -> DetailsTexts {
        match self {
            Self::BankTransfer {
                account_holder_name,
                account,
                bank_name,
            } => DetailsTexts::BankTransfer(BankTransferTexts {
                account_holder_name: account_holder_name.clone(),
                bank_name: bank_name.clone(),
                ..account.texts()
            }),
            Self::Paypal { email } => DetailsTexts::Paypal {
                email: Sensitive::new(email.as_str()),
            },
            Self::Tipalti { payee_id } => DetailsTexts::Tipalti {
                payee_id: payee_id.clone(),
            },
            Self::Custom { type_id, fields } => DetailsTexts::Custom {
                type_id: type_id.clone(),
                fields: fields.clone(),
            },
        }
    }

    /// As texts, masked where that is asked for. `fields` are those of the type now: a value of a field that is not among
    /// them is masked, since it may have been a secret one.
    #[must_use]
    pub fn shown(&self, view: View, fields: &[PaymentMethodField]) -> DetailsTexts {
        match view {
            View::Full => self.texts(),
            View::Masked => self.texts().masked(fields),
        }
    }
}

impl BankAccount {
    fn texts(&self) -> BankTransferTexts {
        match self {
            Self::Iban { iban, bic } => BankTransferTexts {
                iban: Sensitive::new(iban.as_str()),
                bic: Sensitive::new(bic.as_ref().map(Bic::as_str).unwrap_or_default()),
                ..BankTransferTexts::default()
            },
            Self::UnitedStates {
                routing_number,
                account_number,
            } => BankTransferTexts {
                routing_number: Sensitive::new(routing_number.as_str()),
                account_number: Sensitive::new(account_number.as_str()),
                ..BankTransferTexts::default()
            },
            Self::UnitedKingdom {
                sort_code,
                account_number,
            } => BankTransferTexts {
                sort_code: Sensitive::new(sort_code.as_str()),
                account_number: Sensitive::new(account_number.as_str()),
                ..BankTransferTexts::default()
            },
            Self::Elsewhere { bic, account_number } => BankTransferTexts {
                bic: Sensitive::new(bic.as_str()),
                account_number: Sensitive::new(account_number.as_str()),
                ..BankTransferTexts::default()
            },
        }
    }
}

impl PaymentMethodRecord {
    /// What makes two states of it different to its callers.
    #[must_use]
    pub fn etag(&self) -> String {
        self.revision.to_string()
    }

    /// As shown to a caller; `fields` are those of its type.
    #[must_use]
    pub fn shown(&self, view: View, fields: &[PaymentMethodField]) -> ShownPaymentMethod {
        ShownPaymentMethod {
            id: self.id,
            account_id: self.account_id.clone(),
            currency: self.currency,
            type_id: self.type_id.clone(),
            is_default: self.is_default,
            details: self.details.shown(view, fields),
            payee: self.payee.clone(),
            shared_with: None,
            etag: self.etag(),
            create_time: self.create_time,
            update_time: self.update_time,
        }
    }
}

impl DetailsTexts {
    /// The type that they are for; of a custom one what the caller named.
    #[must_use]
    pub fn type_id(&self) -> &str {
        match self {
            Self::BankTransfer(_) => BANK_TRANSFER,
            Self::Paypal { .. } => PAYPAL,
            Self::Tipalti { .. } => TIPALTI,
            Self::Custom { type_id, .. } => type_id,
        }
    }

    /// Name of the field of the message that they are in.
    fn field(&self) -> &'static str {
        match self {
            Self::BankTransfer(_) => BANK_TRANSFER,
            Self::Paypal { .. } => PAYPAL,
            Self::Tipalti { .. } => TIPALTI,
            Self::Custom { .. } => CUSTOM,
        }
    }

    /// What they consist of, each by its path in the message; what is not set is empty.
    #[must_use]
    pub fn by_path(self) -> Vec<(String, Sensitive)> {
        let root = self.field();
        let fields: Vec<(String, Sensitive)> = match self {
            Self::BankTransfer(texts) => [
                ("account_holder_name", texts.account_holder_name),
                ("iban", texts.iban),
                ("bic", texts.bic),
                ("routing_number", texts.routing_number),
                ("sort_code", texts.sort_code),
                ("account_number", texts.account_number),
                ("bank_name", texts.bank_name),
            ]
            .map(|(name, text)| (name.to_owned(), text))
            .into(),
            Self::Paypal { email } => vec![("email".to_owned(), email)],
            Self::Tipalti { payee_id } => vec![("payee_id".to_owned(), payee_id)],
            Self::Custom { fields, .. } => {
                let named = fields
                    .into_iter()
                    .map(|(name, value)| (format!("fields[{name}]"), value));
                named.collect()
            }
        };
        fields
            .into_iter()
            .map(|(name, text)| (format!("{root}.{name}"), text))
            .collect()
    }

    /// Routing number, sort code and BIC are those of the bank and public: they stay.
    fn masked(self, type_fields: &[PaymentMethodField]) -> Self {
        match self {
            Self::BankTransfer(texts) => Self::BankTransfer(BankTransferTexts {
                iban: masked(&texts.iban),
                account_number: masked(&texts.account_number),
                ..texts
            }),
            Self::Paypal { email } => Self::Paypal { email: masked(&email) },
            Self::Tipalti { payee_id } => Self::Tipalti {
                payee_id: masked(&payee_id),
            },
            Self::Custom { type_id, fields } => {
                let is_open = |name: &str| type_fields.iter().any(|field| field.name == name && !field.secret);
                let fields = fields
                    .into_iter()
                    .map(|(name, value)| {
                        let value = if is_open(&name) { value } else { masked(&value) };
                        (name, value)
                    })
                    .collect();
                Self::Custom { type_id, fields }
            }
        }
    }

    /// Checks what can be checked without the stored type.
    pub fn check_into(&self, violations: &mut Violations) -> Option<PaymentMethodDetails> {
        match self {
            Self::BankTransfer(texts) => texts.check_into(violations),
            Self::Paypal { email } => {
                let path = format!("{ROOT}.paypal.email");
                let email = checked(&path, email, Email::parse, violations)?;
                Some(PaymentMethodDetails::Paypal { email })
            }
            Self::Tipalti { payee_id } => {
                let path = format!("{ROOT}.tipalti.payee_id");
                checked(&path, payee_id, check_payee_id, violations)?;
                Some(PaymentMethodDetails::Tipalti {
                    payee_id: payee_id.clone(),
                })
            }
            Self::Custom { type_id, fields } => {
                let path = format!("{ROOT}.custom.type_id");
                if is_built_in(type_id) {
                    violations.push(path, "is a built-in type: set bank_transfer, paypal or tipalti instead");
                } else {
                    violations.check(path, check_type_id(type_id));
                }
                check_values(fields, violations);
                // A value that is empty is one that is not set.
                let set = fields.iter().filter(|(_, value)| !value.as_str().is_empty());
                Some(PaymentMethodDetails::Custom {
                    type_id: type_id.clone(),
                    fields: set.map(|(name, value)| (name.clone(), value.clone())).collect(),
                })
            }
        }
    }

    /// Checks the values of a custom method against the fields of its type.
    pub fn check_fields_into(&self, method_type: &PaymentMethodType, violations: &mut Violations) {
        let Self::Custom { fields, .. } = self else {
            return;
        };
        if fields.len() > MAX_FIELDS {
            return;
        }
        for name in fields.keys() {
            if !method_type.fields.iter().any(|field| field.name == *name) {
                violations.push(
                    format!("{ROOT}.custom.fields"),
                    "has a field that the type does not define: see ListPaymentMethodTypes",
                );
                break;
            }
        }
        for field in &method_type.fields {
            let value = fields.get(&field.name).map(Sensitive::as_str).unwrap_or_default();
            let path = format!("{ROOT}.custom.fields[{}]", field.name);
            if field.required && value.trim().is_empty() {
                violations.push(path, "is required");
            } else if !value.is_empty() && check_value(value).is_ok() && !field.accepts(value) {
                violations.push(
                    path,
                    "does not match the pattern of the field: see ListPaymentMethodTypes",
                );
            }
        }
    }

    /// These details with what the mask names taken over from others. `None` when the mask names none of the details.
    #[must_use]
    pub fn merged(&self, other: Option<&Self>, mask: &[String], violations: &mut Violations) -> Option<Self> {
        let mut merged = None;
        for path in mask {
            let root = path.split('.').next().unwrap_or_default();
            if root == ANY_DETAILS {
                merged = self.replaced(other, violations);
            } else if [BANK_TRANSFER, PAYPAL, TIPALTI, CUSTOM].contains(&root) {
                if root != self.field() {
                    violations.push(format!("{ROOT}.{root}"), IMMUTABLE);
                } else if path == root {
                    // Another type's details in the message do not count: the mask does not name them.
                    merged = self.replaced(other.filter(|other| other.field() == root), violations);
                } else {
                    let mut changed = merged.unwrap_or_else(|| self.clone());
                    changed.take_over(other, path, violations);
                    merged = Some(changed);
                }
            }
        }
        merged
    }

    /// The whole details are exchanged, within the type.
    fn replaced(&self, other: Option<&Self>, violations: &mut Violations) -> Option<Self> {
        let Some(other) = other else {
            violations.push(
                format!("{ROOT}.{}", self.field()),
                "is required: a payment method can't be without details",
            );
            return None;
        };
        if other.field() != self.field() {
            violations.push(format!("{ROOT}.{}", other.field()), IMMUTABLE);
            return None;
        }
        if other.type_id() != self.type_id() {
            violations.push(format!("{ROOT}.custom.type_id"), IMMUTABLE);
            return None;
        }
        Some(other.clone())
    }

    /// Takes over one field of the same kind of details; of none, or of another kind, it is empty.
    fn take_over(&mut self, other: Option<&Self>, path: &str, violations: &mut Violations) {
        match self {
            Self::BankTransfer(texts) => {
                let new = match other {
                    Some(Self::BankTransfer(new)) => new.clone(),
                    Some(Self::Paypal { .. } | Self::Tipalti { .. } | Self::Custom { .. }) | None => {
                        BankTransferTexts::default()
                    }
                };
                texts.take_over(new, path);
            }
            Self::Paypal { email } => {
                *email = match other {
                    Some(Self::Paypal { email }) => email.clone(),
                    Some(Self::BankTransfer(_) | Self::Tipalti { .. } | Self::Custom { .. }) | None => {
                        Sensitive::default()
                    }
                };
            }
            Self::Tipalti { payee_id } => {
                *payee_id = match other {
                    Some(Self::Tipalti { payee_id }) => payee_id.clone(),
                    Some(Self::BankTransfer(_) | Self::Paypal { .. } | Self::Custom { .. }) | None => {
                        Sensitive::default()
                    }
                };
            }
            Self::Custom { type_id, fields } => {
                *fields = match other {
                    Some(Self::Custom {
                        type_id: named,
                        fields: new,
                    }) => {
                        if !named.is_empty() && named != type_id {
                            violations.push(format!("{ROOT}.custom.type_id"), IMMUTABLE);
                        }
                        new.clone()
                    }
                    Some(Self::BankTransfer(_) | Self::Paypal { .. } | Self::Tipalti { .. }) | None => BTreeMap::new(),
                };
            }
        }
    }
}

impl BankTransferTexts {
    fn check_into(&self, violations: &mut Violations) -> Option<PaymentMethodDetails> {
        let root = format!("{ROOT}.bank_transfer");
        violations.check(
            format!("{root}.account_holder_name"),
            check_name(self.account_holder_name.as_str(), MAX_HOLDER_NAME),
        );
        violations.check(
            format!("{root}.bank_name"),
            check_optional_name(self.bank_name.as_str(), MAX_BANK_NAME),
        );
        Some(PaymentMethodDetails::BankTransfer {
            account_holder_name: self.account_holder_name.clone(),
            account: self.check_account(&root, violations)?,
            bank_name: self.bank_name.clone(),
        })
    }

    /// Each field that is set is checked by itself, whether or not the combination is one; the number of an account outside
    /// the IBAN's countries has no form of its own without the bank.
    fn check_account(&self, root: &str, violations: &mut Violations) -> Option<BankAccount> {
        let iban = optional(&format!("{root}.iban"), &self.iban, Iban::parse, violations);
        let bic = optional(&format!("{root}.bic"), &self.bic, Bic::parse, violations);
        let routing = optional(
            &format!("{root}.routing_number"),
            &self.routing_number,
            RoutingNumber::parse,
            violations,
        );
        let sort_code = optional(
            &format!("{root}.sort_code"),
            &self.sort_code,
            SortCode::parse,
            violations,
        );
        let number_path = format!("{root}.account_number");
        let number = &self.account_number;
        match (self.combination(), iban, bic, routing, sort_code) {
            (Some(Combination::Iban), iban, bic, _, _) => Some(BankAccount::Iban { iban: iban?, bic }),
            (Some(Combination::UnitedStates), _, _, routing_number, _) => {
                let account_number = checked(&number_path, number, UsAccountNumber::parse, violations);
                Some(BankAccount::UnitedStates {
                    routing_number: routing_number?,
                    account_number: account_number?,
                })
            }
            (Some(Combination::UnitedKingdom), _, _, _, sort_code) => {
                let account_number = checked(&number_path, number, UkAccountNumber::parse, violations);
                Some(BankAccount::UnitedKingdom {
                    sort_code: sort_code?,
                    account_number: account_number?,
                })
            }
            (Some(Combination::Elsewhere), _, bic, _, _) => {
                let account_number = checked(&number_path, number, AccountNumber::parse, violations);
                Some(BankAccount::Elsewhere {
                    bic: bic?,
                    account_number: account_number?,
                })
            }
            (None, ..) => {
                if is_masked(number.as_str()) {
                    violations.push(number_path, MASKED);
                }
                violations.push(root, COMBINATIONS);
                None
            }
        }
    }

    fn combination(&self) -> Option<Combination> {
        let is_set = |text: &Sensitive| !text.as_str().is_empty();
        let set = [
            is_set(&self.iban),
            is_set(&self.bic),
            is_set(&self.routing_number),
            is_set(&self.sort_code),
            is_set(&self.account_number),
        ];
        match set {
            [true, _, false, false, false] => Some(Combination::Iban),
            [false, false, true, false, true] => Some(Combination::UnitedStates),
            [false, false, false, true, true] => Some(Combination::UnitedKingdom),
            [false, true, false, false, true] => Some(Combination::Elsewhere),
            _ => None,
        }
    }

    fn take_over(&mut self, new: Self, path: &str) {
        match path {
            "bank_transfer.account_holder_name" => self.account_holder_name = new.account_holder_name,
            "bank_transfer.iban" => self.iban = new.iban,
            "bank_transfer.bic" => self.bic = new.bic,
            "bank_transfer.routing_number" => self.routing_number = new.routing_number,
            "bank_transfer.sort_code" => self.sort_code = new.sort_code,
            "bank_transfer.account_number" => self.account_number = new.account_number,
            "bank_transfer.bank_name" => self.bank_name = new.bank_name,
            _ => {}
        }
    }
}

/// Which fields of a bank transfer say where the account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Combination {
    Iban,
    UnitedStates,
    UnitedKingdom,
    Elsewhere,
}

impl PaymentMethodDraft {
    /// Checks currency and details, as far as that can be done without the stored type.
    pub fn check_into(&self, violations: &mut Violations) -> (Option<Currency>, Option<PaymentMethodDetails>) {
        let currency = violations.check(currency_path(), Currency::parse(&self.currency_code));
        let details = match &self.details {
            Some(details) => details.check_into(violations),
            None => {
                violations.push(format!("{ROOT}.details"), NO_DETAILS);
                None
            }
        };
        (currency, details)
    }
}

/// Checks that a type pays in a currency.
pub fn check_currency(method_type: &PaymentMethodType, currency: Currency, violations: &mut Violations) {
    if !method_type.pays_in(currency) {
        violations.push(
            currency_path(),
            "is a currency that the type does not pay in: see ListPaymentMethodTypes",
        );
    }
}

/// Path of the currency in a request.
#[must_use]
pub fn currency_path() -> String {
    format!("{ROOT}.currency_code")
}

/// A required text that can be answered masked.
fn checked<T>(
    path: &str,
    text: &Sensitive,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
    violations: &mut Violations,
) -> Option<T> {
    let text = text.as_str();
    let outcome = if text.is_empty() {
        Err("is required")
    } else if is_masked(text) {
        Err(MASKED)
    } else {
        parse(text)
    };
    violations.check(path, outcome)
}

/// As [`checked`], but may be empty.
fn optional<T>(
    path: &str,
    text: &Sensitive,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
    violations: &mut Violations,
) -> Option<T> {
    if text.as_str().is_empty() {
        None
    } else {
        checked(path, text, parse, violations)
    }
}

fn check_payee_id(text: &str) -> Result<(), &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    if text.len() <= MAX_PAYEE_ID && text.bytes().all(is_allowed) {
        Ok(())
    } else {
        Err("must be 1 to 64 letters, digits and -_.@, as Tipalti shows the payee's id")
    }
}

/// Every value is refused when masked, also that of a field that is not secret now: it may have been when it was read.
fn check_values(fields: &BTreeMap<String, Sensitive>, violations: &mut Violations) {
    if fields.len() > MAX_FIELDS {
        violations.push(format!("{ROOT}.custom.fields"), "has more fields than any type defines");
        return;
    }
    for (name, value) in fields {
        // A name that no type can have is not repeated: it may be a value in the wrong place.
        let path = if check_field_name(name).is_ok() {
            format!("{ROOT}.custom.fields[{name}]")
        } else {
            format!("{ROOT}.custom.fields")
        };
        violations.check(path, check_value(value.as_str()));
    }
}

fn check_value(value: &str) -> Result<(), &'static str> {
    if is_masked(value) {
        Err(MASKED)
    } else if value.chars().count() > MAX_FIELD_VALUE {
        Err("must be at most 500 characters")
    } else if value.chars().any(char::is_control) {
        Err("must not have control characters")
    } else {
        Ok(())
    }
}

fn masked(value: &Sensitive) -> Sensitive {
    if value.as_str().is_empty() {
        Sensitive::default()
    } else {
        Sensitive::new(mask(value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::payment_method_types::{PaymentMethodTypeDraft, PaymentMethodTypeSettings};

    const IBAN: &str = "DE89 3704 0044 0532 0130 00";

    /// A bank transfer with the fields of a row, in the order of the message after the holder's name.
    fn bank(iban: &str, bic: &str, routing_number: &str, sort_code: &str, account_number: &str) -> DetailsTexts {
        DetailsTexts::BankTransfer(BankTransferTexts {
            account_holder_name: Sensitive::new("Ada Byron"),
            iban: Sensitive::new(iban),
            bic: Sensitive::new(bic),
            routing_number: Sensitive::new(routing_number),
            sort_code: Sensitive::new(sort_code),
            account_number: Sensitive::new(account_number),
            bank_name: Sensitive::default(),
        })
    }

    fn paypal(email: &str) -> DetailsTexts {
        DetailsTexts::Paypal {
            email: Sensitive::new(email),
        }
    }

    fn tipalti(payee_id: &str) -> DetailsTexts {
        DetailsTexts::Tipalti {
            payee_id: Sensitive::new(payee_id),
        }
    }

    fn custom(type_id: &str, fields: &[(&str, &str)]) -> DetailsTexts {
        DetailsTexts::Custom {
            type_id: type_id.to_owned(),
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Sensitive::new(*value)))
                .collect(),
        }
    }

    fn field(name: &str, required: bool, pattern: &str, secret: bool) -> PaymentMethodField {
        PaymentMethodField {
            name: name.to_owned(),
            display_name: String::new(),
            required,
            pattern: pattern.to_owned(),
            secret,
        }
    }

    fn wallet() -> PaymentMethodType {
        let fields = vec![
            field("network", true, "base|ethereum", false),
            field("wallet", true, "0x[0-9a-f]{8}", true),
            field("note", false, "[a-z]+", false),
        ];
        let draft = PaymentMethodTypeDraft {
            display_name: "Wallet".to_owned(),
            fields,
            ..PaymentMethodTypeDraft::default()
        };
        let settings: PaymentMethodTypeSettings = draft.check("wallet", false).unwrap();
        PaymentMethodType {
            id: "wallet".to_owned(),
            built_in: false,
            display_name: settings.display_name,
            enabled: true,
            currencies: Vec::new(),
            minimum_payouts: Vec::new(),
            fields: settings.fields,
            revision: 1,
            create_time: Timestamp::now(),
            update_time: Timestamp::now(),
        }
    }

    fn check(texts: &DetailsTexts) -> Result<PaymentMethodDetails, Vec<(String, String)>> {
        let mut violations = Violations::new();
        let details = texts.check_into(&mut violations);
        match details {
            Some(details) if violations.is_empty() => Ok(details),
            _ => Err(told(violations)),
        }
    }

    fn told(violations: Violations) -> Vec<(String, String)> {
        violations
            .into_inner()
            .into_iter()
            .map(|violation| {
                let field = violation.field.strip_prefix("payment_method.").unwrap().to_owned();
                (field, violation.description)
            })
            .collect()
    }

    fn paths(texts: &DetailsTexts) -> Vec<String> {
        check(texts).unwrap_err().into_iter().map(|(field, _)| field).collect()
    }

    fn merge(
        texts: &DetailsTexts,
        other: Option<&DetailsTexts>,
        mask: &[&str],
    ) -> Result<Option<DetailsTexts>, Vec<String>> {
        let mask: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
        let mut violations = Violations::new();
        let merged = texts.merged(other, &mask, &mut violations);
        if violations.is_empty() {
            return Ok(merged);
        }
        Err(told(violations).into_iter().map(|(field, _)| field).collect())
    }

    #[test]
    fn the_four_combinations_are_accepted_and_normalised() {
        for (texts, normal) in [
            (
                bank(IBAN, "", "", "", ""),
                bank("DE89370400440532013000", "", "", "", ""),
            ),
            (
                bank("de89370400440532013000", "cobadeff", "", "", ""),
                bank("DE89370400440532013000", "COBADEFF", "", "", ""),
            ),
            (
                bank("", "", "021-000-021", "", "12 34"),
                bank("", "", "021000021", "", "1234"),
            ),
            (
                bank("", "", "", "12-34-56", "31926819"),
                bank("", "", "", "123456", "31926819"),
            ),
            (
                bank("", "BOTKJPJT", "", "", "abc-123"),
                bank("", "BOTKJPJT", "", "", "ABC123"),
            ),
        ] {
            let details = check(&texts).unwrap();
            assert_eq!(details.texts(), normal);
            assert_eq!(details.type_id(), "bank_transfer");
            let json = serde_json::to_string(&details).unwrap();
            assert_eq!(serde_json::from_str::<PaymentMethodDetails>(&json).unwrap(), details);
            assert!(
                !format!("{details:?}{texts:?}").contains(['0', '1', '3']),
                "{details:?}"
            );
        }
    }

    #[test]
    fn every_other_combination_is_refused_with_the_four_that_are_not() {
        let values = ["DE89370400440532013000", "COBADEFF", "021000021", "123456", "31926819"];
        let mut accepted = 0;
        for set in 0..32_u32 {
            let value = |place: usize| if set >> place & 1 == 1 { values[place] } else { "" };
            let texts = bank(value(0), value(1), value(2), value(3), value(4));
            match check(&texts) {
                Ok(_) => accepted += 1,
                Err(violations) => {
                    assert_eq!(violations, [("bank_transfer".to_owned(), COMBINATIONS.to_owned())]);
                }
            }
        }
        assert_eq!(accepted, 5);
    }

    #[test]
    fn every_wrong_bank_field_is_named() {
        let texts = bank("DE00", "X", "1", "2", "****3000");
        assert_eq!(
            paths(&texts),
            [
                "bank_transfer.iban",
                "bank_transfer.bic",
                "bank_transfer.routing_number",
                "bank_transfer.sort_code",
                "bank_transfer.account_number",
                "bank_transfer"
            ]
        );
        for (texts, path) in [
            (bank("", "", "021000021", "", "12A"), "bank_transfer.account_number"),
            (bank("", "", "", "123456", "123"), "bank_transfer.account_number"),
            (bank("", "BOTKJPJT", "", "", "-"), "bank_transfer.account_number"),
            (bank("DE89370400440532013001", "", "", "", ""), "bank_transfer.iban"),
        ] {
            assert_eq!(paths(&texts), [path]);
        }
        let DetailsTexts::BankTransfer(mut texts) = bank(IBAN, "", "", "", "") else {
            panic!()
        };
        texts.account_holder_name = Sensitive::new(" ");
        texts.bank_name = Sensitive::new("b".repeat(141));
        assert_eq!(
            paths(&DetailsTexts::BankTransfer(texts)),
            ["bank_transfer.account_holder_name", "bank_transfer.bank_name"]
        );
    }

    #[test]
    fn paypal_and_tipalti() {
        assert_eq!(
            check(&paypal("ada@EXAMPLE.com")).unwrap().texts(),
            paypal("ada@example.com")
        );
        assert_eq!(paths(&paypal("ada")), ["paypal.email"]);
        assert_eq!(paths(&paypal("")), ["paypal.email"]);
        for payee_id in ["a", "aff-1_x.y@Z", &"9".repeat(64)] {
            assert_eq!(check(&tipalti(payee_id)).unwrap().texts(), tipalti(payee_id));
        }
        for payee_id in ["", " a", "a b", "ä", "a/b", &"9".repeat(65)] {
            assert_eq!(paths(&tipalti(payee_id)), ["tipalti.payee_id"], "{payee_id}");
        }
    }

    #[test]
    fn custom_values_are_checked_without_the_type() {
        let details = check(&custom("wallet", &[("a", "1"), ("b", "")])).unwrap();
        assert_eq!(details.texts(), custom("wallet", &[("a", "1")]));
        let long = "x".repeat(501);
        let texts = custom("paypal", &[("a", "a\u{7}"), ("b", &long), ("Not a name", "a\n")]);
        assert_eq!(
            paths(&texts),
            [
                "custom.type_id",
                "custom.fields",
                "custom.fields[a]",
                "custom.fields[b]"
            ]
        );
        for type_id in ["", "Wallet", "ab", "bank_transfer", "tipalti"] {
            assert_eq!(paths(&custom(type_id, &[])), ["custom.type_id"], "{type_id}");
        }
        assert!(check(&custom("wallet", &[("a", &"x".repeat(500))])).is_ok());
    }

    #[test]
    fn custom_values_are_checked_against_the_type() {
        let wallet = wallet();
        for (fields, expected) in [
            (vec![("network", "base"), ("wallet", "0x00112233")], vec![]),
            (
                vec![("network", "base"), ("wallet", "0x00112233"), ("note", "")],
                vec![],
            ),
            (vec![], vec!["custom.fields[network]", "custom.fields[wallet]"]),
            (
                vec![("network", "bases"), ("wallet", " "), ("note", " ")],
                vec!["custom.fields[network]", "custom.fields[wallet]", "custom.fields[note]"],
            ),
            (
                vec![("network", "base"), ("wallet", "0x00112233"), ("other", "x")],
                vec!["custom.fields"],
            ),
        ] {
            let mut violations = Violations::new();
            custom("wallet", &fields).check_fields_into(&wallet, &mut violations);
            let paths: Vec<String> = told(violations).into_iter().map(|(field, _)| field).collect();
            assert_eq!(paths, expected, "{fields:?}");
        }
    }

    #[test]
    fn masked_answers_show_the_last_four_of_what_is_secret() {
        let masked = |texts: &DetailsTexts| check(texts).unwrap().shown(View::Masked, &wallet().fields);
        assert_eq!(
            masked(&bank(IBAN, "COBADEFF", "", "", "")),
            bank("****3000", "COBADEFF", "", "", "")
        );
        assert_eq!(
            masked(&bank("", "", "021000021", "", "1234")),
            bank("", "", "021000021", "", "****")
        );
        assert_eq!(
            masked(&bank("", "", "", "123456", "31926819")),
            bank("", "", "", "123456", "****6819")
        );
        assert_eq!(masked(&paypal("ada@example.com")), paypal("****.com"));
        assert_eq!(masked(&tipalti("payee-0001")), tipalti("****0001"));
        let stored = custom(
            "wallet",
            &[("network", "base"), ("wallet", "0x00112233"), ("gone", "secret")],
        );
        assert_eq!(
            masked(&stored),
            custom(
                "wallet",
                &[("network", "base"), ("wallet", "****2233"), ("gone", "****cret")]
            )
        );
        let details = check(&stored).unwrap();
        assert_eq!(details.shown(View::Full, &[]), stored);
        assert_eq!(
            details.shown(View::Masked, &[]),
            custom(
                "wallet",
                &[("network", "****"), ("wallet", "****2233"), ("gone", "****cret")]
            )
        );
    }

    #[test]
    fn masked_values_are_refused_wherever_they_are_answered() {
        for (texts, path) in [
            (bank("****3000", "", "", "", ""), "bank_transfer.iban"),
            (bank("", "", "021000021", "", "****"), "bank_transfer.account_number"),
            (bank("", "", "", "123456", "****6819"), "bank_transfer.account_number"),
            (bank("", "BOTKJPJT", "", "", "****6819"), "bank_transfer.account_number"),
            (paypal("****.com"), "paypal.email"),
            (tipalti("****0001"), "tipalti.payee_id"),
            (custom("wallet", &[("wallet", "****2233")]), "custom.fields[wallet]"),
        ] {
            assert_eq!(check(&texts).unwrap_err(), [(path.to_owned(), MASKED.to_owned())]);
        }
    }

    #[test]
    fn updates_take_over_what_the_mask_names() {
        let stored = bank("DE89370400440532013000", "COBADEFF", "", "", "");
        let sent = bank("GB33BUKB20201555555555", "", "", "", "");
        for (mask, expected) in [
            (vec!["currency_code", "default"], None),
            (
                vec!["bank_transfer.iban"],
                Some(bank("GB33BUKB20201555555555", "COBADEFF", "", "", "")),
            ),
            (
                vec!["bank_transfer.bic"],
                Some(bank("DE89370400440532013000", "", "", "", "")),
            ),
            (vec!["bank_transfer"], Some(sent.clone())),
            (vec![ANY_DETAILS], Some(sent.clone())),
        ] {
            assert_eq!(merge(&stored, Some(&sent), &mask), Ok(expected), "{mask:?}");
        }
        let cleared = merge(&paypal("a@example.com"), None, &["paypal.email"]);
        assert_eq!(cleared, Ok(Some(paypal(""))));
        let stored = custom("wallet", &[("network", "base"), ("note", "x")]);
        let sent = custom("", &[("network", "ethereum")]);
        assert_eq!(
            merge(&stored, Some(&sent), &["custom.fields"]),
            Ok(Some(custom("wallet", &[("network", "ethereum")])))
        );
    }

    #[test]
    fn the_type_is_immutable() {
        let stored = paypal("a@example.com");
        let wallet = custom("wallet", &[]);
        for (stored, sent, mask, path) in [
            (&stored, Some(tipalti("x")), vec!["tipalti"], "tipalti"),
            (
                &stored,
                Some(bank(IBAN, "", "", "", "")),
                vec!["bank_transfer.iban"],
                "bank_transfer",
            ),
            (&stored, None, vec!["custom.fields"], "custom"),
            (&stored, Some(tipalti("x")), vec![ANY_DETAILS], "tipalti"),
            (&stored, None, vec![ANY_DETAILS], "paypal"),
            (&stored, Some(tipalti("x")), vec!["paypal"], "paypal"),
            (&wallet, Some(custom("other", &[])), vec!["custom"], "custom.type_id"),
            (
                &wallet,
                Some(custom("other", &[])),
                vec!["custom.fields"],
                "custom.type_id",
            ),
        ] {
            assert_eq!(
                merge(stored, sent.as_ref(), &mask),
                Err(vec![path.to_owned()]),
                "{mask:?}"
            );
        }
    }
}
