//! Pure types and rules, one file a resource. Knows neither gRPC nor SQL.

pub mod account_settlements;
pub mod bank_account;
pub mod bic;
pub mod billing_details;
pub mod currency;
pub mod email;
pub mod entries;
pub mod error;
pub mod iban;
mod iban_registry;
pub mod ids;
pub mod money;
pub mod open_balances;
pub mod payment_method_types;
pub mod payment_methods;
pub mod payout_holds;
pub mod payouts;
pub mod permissions;
pub mod region;
pub mod sensitive;
pub mod settlements;
pub mod tax_id;
mod text;
pub mod time;
mod vat_check_digits;
mod vat_rules;
mod vat_rules_mixed;
