//! Payment method types: create, list, update.

use serde::Serialize;

use super::page::{Page, PageRequest};
use super::{Billing, Call, Mutation, check_etag};
use crate::domain::error::{Error, Reason, Result};
use crate::domain::payment_method_types::{
    MAX_PAYMENT_METHOD_TYPES, PaymentMethodType, PaymentMethodTypeDraft, PaymentMethodTypeSettings,
};
use crate::store::{Tx, payment_method_types as store};

pub(super) const TYPE_RESOURCE: &str = "affiliate.billing.v1.PaymentMethodType";
const LIST: &str = "ListPaymentMethodTypes";

/// Adds a type that the program defines.
#[derive(Debug, Clone, Serialize)]
pub struct CreatePaymentMethodType {
    /// Its id.
    pub id: String,
    /// Its settings.
    pub settings: PaymentMethodTypeSettings,
}

/// Changes the settings of a type.
#[derive(Debug, Clone, Serialize)]
pub struct UpdatePaymentMethodType {
    /// Its id.
    pub id: String,
    /// The new values of the fields in the mask.
    pub draft: PaymentMethodTypeDraft,
    /// The fields to change.
    pub mask: Vec<String>,
    /// Compared when not empty.
    pub etag: String,
}

impl Mutation for CreatePaymentMethodType {
    const METHOD: &'static str = "CreatePaymentMethodType";
    type Answer = PaymentMethodType;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<PaymentMethodType> {
        let count = store::count_for_insert(tx).await?;
        if store::find(tx, &self.id).await?.is_some() {
            return Err(Error::refused_for(
                Reason::PaymentMethodTypeAlreadyExists,
                TYPE_RESOURCE,
                &self.id,
                "a payment method type has this id: change it with UpdatePaymentMethodType, or choose another id",
            ));
        }
        if count >= MAX_PAYMENT_METHOD_TYPES {
            return Err(Error::refused(
                Reason::TooManyPaymentMethodTypes,
                "there are 100 payment method types already: change one that is no longer used",
            ));
        }
        store::insert(tx, &self.id, &self.settings).await
    }
}

impl Mutation for UpdatePaymentMethodType {
    const METHOD: &'static str = "UpdatePaymentMethodType";
    type Answer = PaymentMethodType;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<PaymentMethodType> {
        let current = store::find_for_update(tx, &self.id)
            .await?
            .ok_or_else(|| type_not_found(&self.id))?;
        check_etag(&self.etag, &current.etag())?;
        let mut draft = PaymentMethodTypeDraft::from(&current);
        draft.apply(&self.draft, &self.mask);
        let settings = draft.check(&current.id, current.built_in)?;
        store::update(tx, current, &settings).await
    }
}

impl Billing {
    /// Adds a type that the program defines.
    pub async fn create_payment_method_type(
        &self,
        call: &Call,
        request: CreatePaymentMethodType,
    ) -> Result<PaymentMethodType> {
        self.mutate(call, request).await
    }

    /// Lists the types by id.
    pub async fn list_payment_method_types(&self, page: &PageRequest) -> Result<Page<PaymentMethodType>> {
        let after: Option<String> = self.read_token(LIST, &(), page)?;
        let types = store::list(&self.store.reader(), after.as_deref(), page.limit()).await?;
        self.page_of(LIST, &(), page, types, |listed| listed.id.clone())
    }

    /// Changes the settings of a type.
    pub async fn update_payment_method_type(
        &self,
        call: &Call,
        request: UpdatePaymentMethodType,
    ) -> Result<PaymentMethodType> {
        self.mutate(call, request).await
    }
}

pub(super) fn type_not_found(id: &str) -> Error {
    Error::refused_for(
        Reason::PaymentMethodTypeNotFound,
        TYPE_RESOURCE,
        id,
        "no payment method type has this id: see ListPaymentMethodTypes",
    )
}
