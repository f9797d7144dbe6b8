//! Open balances, and whether a settlement would pay them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::currency::Currency;
use crate::domain::error::Result;
use crate::domain::ids::AccountId;
use crate::domain::money::{Amount, Money};
use crate::domain::payment_method_types::PaymentMethodType;
use crate::domain::time::{Date, Timestamp};

/// Why settling leaves out an account and currency: the first that applies, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SettleSkipReason {
    /// The same account and currency was named before.
    DuplicateAccount,
    /// The account is on hold.
    AccountOnHold,
    /// It has no billing details.
    NoBillingDetails,
    /// It has no payment method in this currency.
    NoPaymentMethod,
    /// The type of its default payment method is disabled, or no longer pays in this currency.
    PaymentMethodDisabled,
    /// The provider of its default payment method said that it can't pay this payee.
    PayeeNotPayable,
    /// Its default payment method has paid to where it pays, as the default, for too short a time.
    PaymentMethodCoolingOff,
    /// The balance is below zero.
    NegativeBalance,
    /// Nothing is available.
    NothingOpen,
    /// The amount asked for is more than the open balance.
    AmountAboveOpenBalance,
    /// The payout is under the type's minimum, or rounds down to nothing.
    BelowMinimum,
}

/// What is open on one account in one currency, with what decides whether it can be paid.
#[derive(Debug, Clone)]
pub struct OpenBalance {
    /// The account.
    pub account_id: AccountId,
    /// The currency.
    pub currency: Currency,
    /// Available up to the cut-off.
    pub open: Amount,
    /// Becomes available later.
    pub pending: Amount,
    /// Entries in both.
    pub entry_count: i64,
    /// Accruals that make up `open`.
    pub open_accrual_count: i64,
    /// The last day of an available accrual; that of a carried remainder.
    pub last_open_day: Option<Date>,
    /// What decides whether it can be paid.
    pub payee: Payee,
}

/// What decides whether an account can be paid in a currency.
#[derive(Debug, Clone, Default)]
pub struct Payee {
    /// Whether it is on hold.
    pub on_hold: bool,
    /// Its current billing details.
    pub billing_details_version_id: Option<Uuid>,
    /// Its default payment method in the currency.
    pub method: Option<DefaultMethod>,
}

/// The payment method that an account's balance in a currency is paid by.
#[derive(Debug, Clone)]
pub struct DefaultMethod {
    /// Its current details.
    pub version_id: Uuid,
    /// Its type.
    pub type_id: String,
    /// Whether its provider can pay the payee, where it said so.
    pub payee_payable: Option<bool>,
    /// Since when it pays to where it pays, as the default; none where nobody asks.
    pub destination_time: Option<Timestamp>,
}

/// The payment method types by id.
pub type Types = HashMap<String, PaymentMethodType>;

/// The most hours that payment methods can be made to cool off: 90 days.
pub const MAX_COOL_OFF_HOURS: u32 = 2160;

/// What decides beside what is known of an account.
#[derive(Debug)]
pub struct Terms {
    /// The payment method types.
    pub types: Types,
    /// How long a payment method cools off after it was made, became the default or pays to somewhere else; nothing for not at
    /// all.
    pub cool_off_hours: u32,
    /// What time it is.
    pub now: Timestamp,
}

/// What a settlement would pay.
#[derive(Debug, Clone)]
pub struct Payable {
    /// The payout, rounded down to `decimals`.
    pub money: Money,
    /// The scale that its payment method takes: the currency's own, or less.
    pub decimals: u32,
    /// Billing details to pay it with.
    pub billing_details_version_id: Uuid,
    /// Payment method to pay it with.
    pub method: DefaultMethod,
    /// The provider that manages its status, if one does.
    pub provider: Option<&'static str>,
}

/// Which open balances: all conditions together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceFilter {
    /// Only of these accounts; empty for no condition.
    pub account_ids: Vec<AccountId>,
    /// Only in this currency.
    pub currency: Option<Currency>,
    /// Only those whose default payment method is of this type.
    pub payment_method_type_id: Option<String>,
    /// Only in its currency and at least its amount.
    pub minimum: Option<Money>,
    /// Only those that would be paid.
    pub payable_only: bool,
}

/// The most accounts that a filter may name.
pub const MAX_FILTER_ACCOUNTS: usize = 10_000;

impl OpenBalance {
    /// What settling it now would pay, all of it or the amount asked for, or why it would not.
    pub fn payable(
        &self,
        requested: Option<Amount>,
        terms: &Terms,
    ) -> Result<std::result::Result<Payable, SettleSkipReason>> {
        let (billing_details_version_id, method, method_type) = match self.payee.check(self.currency, terms) {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        if self.open.is_negative() {
            return Ok(Err(SettleSkipReason::NegativeBalance));
        }
        if self.open.is_zero() {
            return Ok(Err(SettleSkipReason::NothingOpen));
        }
        if requested.is_some_and(|requested| requested > self.open) {
            return Ok(Err(SettleSkipReason::AmountAboveOpenBalance));
        }
        let decimals = method_type.payout_decimals(self.currency);
        let money = Money::new(
            self.currency,
            requested.unwrap_or(self.open).floor_to_decimals(decimals),
        );
        let minimum = method_type.minimum_payout(self.currency).unwrap_or(Amount::ZERO);
        if !money.amount.is_positive() || money.amount < minimum {
            return Ok(Err(SettleSkipReason::BelowMinimum));
        }
        Ok(Ok(Payable {
            money,
            decimals,
            billing_details_version_id,
            method,
            provider: method_type.provider(),
        }))
    }

    /// Whether there is neither anything open nor anything pending.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.open.is_zero() && self.pending.is_zero()
    }
}

impl Payee {
    /// Until when its payment method cools off, where it does.
    #[must_use]
    pub fn cooling_off_until(&self, terms: &Terms) -> Option<Timestamp> {
        let since = self.method.as_ref()?.destination_time?;
        let until = since.minus_hours(-i64::from(terms.cool_off_hours));
        (until > terms.now).then_some(until)
    }

    /// Why a settlement leaves out an account that has nothing open in a currency, or in none at all.
    #[must_use]
    pub fn reason_without_balance(&self, currency: Option<Currency>, terms: &Terms) -> SettleSkipReason {
        let obstacle = match currency {
            Some(currency) => self.check(currency, terms).err(),
            None if self.on_hold => Some(SettleSkipReason::AccountOnHold),
            None if self.billing_details_version_id.is_none() => Some(SettleSkipReason::NoBillingDetails),
            None if self.method.is_none() => Some(SettleSkipReason::NoPaymentMethod),
            None => None,
        };
        obstacle.unwrap_or(SettleSkipReason::NothingOpen)
    }

    /// What it is paid with, or the first reason why it can't be paid.
    fn check<'a>(
        &self,
        currency: Currency,
        terms: &'a Terms,
    ) -> std::result::Result<(Uuid, DefaultMethod, &'a PaymentMethodType), SettleSkipReason> {
        if self.on_hold {
            return Err(SettleSkipReason::AccountOnHold);
        }
        let billing_details = self
            .billing_details_version_id
            .ok_or(SettleSkipReason::NoBillingDetails)?;
        let method = self.method.clone().ok_or(SettleSkipReason::NoPaymentMethod)?;
        let method_type = terms
            .types
            .get(&method.type_id)
            .filter(|method_type| method_type.enabled && method_type.pays_in(currency))
            .ok_or(SettleSkipReason::PaymentMethodDisabled)?;
        if method.payee_payable == Some(false) {
            return Err(SettleSkipReason::PayeeNotPayable);
        }
        if self.cooling_off_until(terms).is_some() {
            return Err(SettleSkipReason::PaymentMethodCoolingOff);
        }
        Ok((billing_details, method, method_type))
    }
}

impl BalanceFilter {
    /// Whether it leaves out nobody who would be paid. `payable_only` alone does not: with the names of a failed look-up
    /// beside it, it would pay everybody.
    #[must_use]
    pub fn means_everybody(&self) -> bool {
        *self
            == Self {
                payable_only: self.payable_only,
                ..Self::default()
            }
    }

    /// Whether it has conditions that are checked balance by balance.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        self.payment_method_type_id.is_some() || self.minimum.is_some() || self.payable_only
    }

    /// Whether a balance fulfils the conditions that are not already part of the query.
    pub fn admits(&self, balance: &OpenBalance, terms: &Terms) -> Result<bool> {
        if balance.is_zero() && self.account_ids.is_empty() {
            return Ok(false);
        }
        let enough = |minimum: Money| balance.currency == minimum.currency && balance.open >= minimum.amount;
        if !self.minimum.is_none_or(enough) {
            return Ok(false);
        }
        let method_type = balance.payee.method.as_ref().map(|method| &method.type_id);
        if self.payment_method_type_id.is_some() && self.payment_method_type_id.as_ref() != method_type {
            return Ok(false);
        }
        Ok(!self.payable_only || balance.payable(None, terms)?.is_ok())
    }
}

impl SettleSkipReason {
    /// All of them, in the order in which they apply.
    pub const ALL: [Self; 11] = [
        Self::DuplicateAccount,
        Self::AccountOnHold,
        Self::NoBillingDetails,
        Self::NoPaymentMethod,
        Self::PaymentMethodDisabled,
        Self::PayeeNotPayable,
        Self::PaymentMethodCoolingOff,
        Self::NegativeBalance,
        Self::NothingOpen,
        Self::AmountAboveOpenBalance,
        Self::BelowMinimum,
    ];

    /// Name as stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DuplicateAccount => "DUPLICATE_ACCOUNT",
            Self::AccountOnHold => "ACCOUNT_ON_HOLD",
            Self::NoBillingDetails => "NO_BILLING_DETAILS",
            Self::NoPaymentMethod => "NO_PAYMENT_METHOD",
            Self::PaymentMethodDisabled => "PAYMENT_METHOD_DISABLED",
            Self::PayeeNotPayable => "PAYEE_NOT_PAYABLE",
            Self::PaymentMethodCoolingOff => "PAYMENT_METHOD_COOLING_OFF",
            Self::NegativeBalance => "NEGATIVE_BALANCE",
            Self::NothingOpen => "NOTHING_OPEN",
            Self::AmountAboveOpenBalance => "AMOUNT_ABOVE_OPEN_BALANCE",
            Self::BelowMinimum => "BELOW_MINIMUM",
        }
    }

    /// The reason of a stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}
