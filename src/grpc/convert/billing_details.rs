//! Messages of `BillingDetailsService`.

use crate::billing::page::Page;
use crate::billing::page::PageRequest;
use crate::billing::{Call, CreateBillingDetails, DeleteBillingDetails, ImportBillingDetails, UpdateBillingDetails};
use crate::domain::billing_details::{
    Address, AddressDraft, BILLING_DETAILS_MASK_PATHS, BillingDetails, BillingDetailsDraft, BillingDetailsRecord, Party,
};
use crate::domain::email::Email;
use crate::domain::error::{Result, Violations};
use crate::domain::ids::{AccountId, MAX_ACCOUNT_ID_BYTES};
use crate::domain::imports::{ImportItem, ImportOutcome};
use crate::domain::permissions::Identity;
use crate::domain::sensitive::Sensitive;
use crate::domain::tax_id::{TaxId, VatId};
use crate::grpc::convert;
use crate::grpc::convert::balances::cut;
use crate::grpc::convert::imports::{Chunk, call_of_chunk, item_of, outcome_parts};
use crate::proto;

const ROOT: &str = "billing_details";

pub(crate) fn create(
    caller: &Identity,
    request: proto::CreateBillingDetailsRequest,
) -> Result<(Call, CreateBillingDetails)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let Some(message) = request.billing_details else {
        violations.push(ROOT, "is required");
        return Err(violations.into_error());
    };
    let request = checked(message, &mut violations);
    violations.finish(request.map(|request| (call, request)))
}

fn checked(message: proto::BillingDetails, violations: &mut Violations) -> Option<CreateBillingDetails> {
    let account_id = convert::account_id("billing_details.account_id", &message.account_id, violations);
    let details = BillingDetailsDraft::from(message).check_into(violations);
    Some(CreateBillingDetails {
        account_id: account_id?,
        details: details?,
    })
}

pub(crate) fn import(
    caller: &Identity,
    request: proto::ImportBillingDetailsRequest,
) -> Result<Chunk<String, ImportBillingDetails>> {
    let items = request.billing_details;
    let call = call_of_chunk(caller, (&request.chunk_id, &request.request_id), ROOT, items.len())?;
    let keys = items
        .iter()
        .map(|message| cut(&message.account_id, MAX_ACCOUNT_ID_BYTES))
        .collect();
    let items = items.into_iter().map(import_item).collect();
    Ok(Chunk {
        chunk_id: request.chunk_id,
        call,
        keys,
        request: ImportBillingDetails { items },
    })
}

fn import_item(message: proto::BillingDetails) -> ImportItem<CreateBillingDetails> {
    let mut violations = Violations::new();
    let item = checked(message, &mut violations);
    item_of(ROOT, item, violations)
}

pub(crate) fn import_response(
    chunk_id: String,
    account_ids: Vec<String>,
    outcomes: Vec<ImportOutcome>,
) -> proto::ImportBillingDetailsResponse {
    let results = account_ids.into_iter().zip(outcomes);
    let results = results
        .map(|(account_id, outcome)| {
            let (outcome, rejection) = outcome_parts(outcome);
            let mut result = proto::BillingDetailsImportResult {
                account_id,
                outcome: outcome.into(),
                ..Default::default()
            };
            if let Some(rejection) = rejection {
                result.reason = rejection.reason.name().to_owned();
                result.field = rejection.field;
                result.message = rejection.message;
            }
            result
        })
        .collect();
    proto::ImportBillingDetailsResponse { chunk_id, results }
}

pub(crate) fn update(
    caller: &Identity,
    request: proto::UpdateBillingDetailsRequest,
) -> Result<(Call, UpdateBillingDetails)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let Some(message) = request.billing_details else {
        violations.push(ROOT, "is required");
        return Err(violations.into_error());
    };
    let account_id = convert::account_id("billing_details.account_id", &message.account_id, &mut violations);
    let mask = convert::mask(
        request.update_mask,
        &BILLING_DETAILS_MASK_PATHS,
        |path| is_set(&message, path),
        &mut violations,
    );
    if mask.is_empty() && violations.is_empty() {
        violations.push(
            "update_mask",
            "name the fields to change, or set them in billing_details",
        );
    }
    let etag = message.etag.clone();
    let draft = BillingDetailsDraft::from(message);
    let request = account_id.map(|account_id| {
        (
            call,
            UpdateBillingDetails {
                account_id,
                draft,
                mask,
                etag,
            },
        )
    });
    violations.finish(request)
}

pub(crate) fn delete(
    caller: &Identity,
    request: proto::DeleteBillingDetailsRequest,
) -> Result<(Call, DeleteBillingDetails)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let account_id = convert::account_id("account_id", &request.account_id, &mut violations);
    let request = account_id.map(|account_id| {
        (
            call,
            DeleteBillingDetails {
                account_id,
                etag: request.etag,
            },
        )
    });
    violations.finish(request)
}

pub(crate) fn get(request: &proto::GetBillingDetailsRequest) -> Result<AccountId> {
    let mut violations = Violations::new();
    let account_id = convert::account_id("account_id", &request.account_id, &mut violations);
    violations.finish(account_id)
}

pub(crate) fn list(request: proto::ListBillingDetailsRequest) -> Result<PageRequest> {
    let mut violations = Violations::new();
    let page = convert::page(request.page_size, request.page_token, &mut violations);
    violations.finish(Some(page))
}

/// For an empty mask only whole parts count: a part of them that is empty can't be told from one that is not set.
fn is_set(message: &proto::BillingDetails, path: &str) -> bool {
    use proto::billing_details::Party as Message;
    match path {
        "company" => matches!(message.party, Some(Message::Company(_))),
        "individual" => matches!(message.party, Some(Message::Individual(_))),
        "tax_id" => !message.tax_id.is_empty(),
        "vat_id" => !message.vat_id.is_empty(),
        "address" => message.address.is_some(),
        "email" => !message.email.is_empty(),
        _ => false,
    }
}

impl From<proto::BillingDetails> for BillingDetailsDraft {
    fn from(message: proto::BillingDetails) -> Self {
        Self {
            party: message.party.map(Party::from),
            tax_id: Sensitive::new(message.tax_id),
            vat_id: Sensitive::new(message.vat_id),
            address: message.address.map(AddressDraft::from),
            email: Sensitive::new(message.email),
        }
    }
}

impl From<proto::billing_details::Party> for Party {
    fn from(message: proto::billing_details::Party) -> Self {
        match message {
            proto::billing_details::Party::Company(company) => Self::Company {
                legal_name: Sensitive::new(company.legal_name),
                registration_number: Sensitive::new(company.registration_number),
            },
            proto::billing_details::Party::Individual(individual) => Self::Individual {
                given_name: Sensitive::new(individual.given_name),
                family_name: Sensitive::new(individual.family_name),
            },
        }
    }
}

impl From<proto::Address> for AddressDraft {
    fn from(message: proto::Address) -> Self {
        Self {
            region_code: message.region_code,
            postal_code: Sensitive::new(message.postal_code),
            administrative_area: Sensitive::new(message.administrative_area),
            locality: Sensitive::new(message.locality),
            address_lines: message.address_lines.into_iter().map(Sensitive::new).collect(),
        }
    }
}

impl From<BillingDetailsRecord> for proto::BillingDetails {
    fn from(record: BillingDetailsRecord) -> Self {
        let mut message = Self::from(&record.details);
        message.account_id = record.account_id.to_string();
        message.etag = record.etag;
        message.create_time = Some(record.create_time.into());
        message.update_time = Some(record.update_time.into());
        message
    }
}

impl From<&BillingDetails> for proto::BillingDetails {
    fn from(details: &BillingDetails) -> Self {
        Self {
            party: Some((&details.party).into()),
            tax_id: details
                .tax_id
                .as_ref()
                .map(TaxId::as_str)
                .unwrap_or_default()
                .to_owned(),
            vat_id: details
                .vat_id
                .as_ref()
                .map(VatId::as_str)
                .unwrap_or_default()
                .to_owned(),
            address: Some((&details.address).into()),
            email: details.email.as_ref().map(Email::as_str).unwrap_or_default().to_owned(),
            ..Self::default()
        }
    }
}

impl From<&Party> for proto::billing_details::Party {
    fn from(party: &Party) -> Self {
        match party {
            Party::Company {
                legal_name,
                registration_number,
            } => Self::Company(proto::Company {
                legal_name: legal_name.as_str().to_owned(),
                registration_number: registration_number.as_str().to_owned(),
            }),
            Party::Individual {
                given_name,
                family_name,
            } => Self::Individual(proto::Individual {
                given_name: given_name.as_str().to_owned(),
                family_name: family_name.as_str().to_owned(),
            }),
        }
    }
}

impl From<&Address> for proto::Address {
    fn from(address: &Address) -> Self {
        Self {
            region_code: address.region.code().to_owned(),
            postal_code: address.postal_code.as_str().to_owned(),
            administrative_area: address.administrative_area.as_str().to_owned(),
            locality: address.locality.as_str().to_owned(),
            address_lines: address
                .address_lines
                .iter()
                .map(|line| line.as_str().to_owned())
                .collect(),
        }
    }
}

impl From<Page<BillingDetailsRecord>> for proto::ListBillingDetailsResponse {
    fn from(page: Page<BillingDetailsRecord>) -> Self {
        let page = page.map(proto::BillingDetails::from);
        Self {
            billing_details: page.items,
            next_page_token: page.next_token,
        }
    }
}
