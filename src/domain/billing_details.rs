//! Billing details: who an account is for billing.
//!
//! A draft is what a caller sent, or a stored record that is being changed; [`BillingDetailsDraft::check`] makes billing
//! details of it or names everything that is wrong.

use serde::{Deserialize, Serialize};

use crate::domain::email::Email;
use crate::domain::error::{Result, Violations};
use crate::domain::ids::{AccountId, check_name, check_optional_name};
use crate::domain::region::Region;
use crate::domain::sensitive::Sensitive;
use crate::domain::tax_id::{TaxId, VatId};
use crate::domain::time::Timestamp;

/// Checked billing details.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillingDetails {
    /// What the account is.
    pub party: Party,
    /// National tax number. At least one of it and `vat_id` is there.
    pub tax_id: Option<TaxId>,
    /// VAT id with prefix.
    pub vat_id: Option<VatId>,
    /// Where the account is at home.
    pub address: Address,
    /// Address for billing mail.
    pub email: Option<Email>,
}

/// A company or a natural person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Party {
    /// A company.
    Company {
        /// The registered name.
        legal_name: Sensitive,
        /// Number in the company register; may be empty.
        registration_number: Sensitive,
    },
    /// A natural person.
    Individual {
        /// Given name.
        given_name: Sensitive,
        /// Family name.
        family_name: Sensitive,
    },
}

/// A postal address in the way of `google.type.PostalAddress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The country.
    pub region: Region,
    /// Postal code; may be empty.
    pub postal_code: Sensitive,
    /// State or province; may be empty.
    pub administrative_area: Sensitive,
    /// City or town.
    pub locality: Sensitive,
    /// Street and the like, 1 to 5 lines.
    pub address_lines: Vec<Sensitive>,
}

/// Billing details as stored, with what the store adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillingDetailsRecord {
    /// Whose they are.
    pub account_id: AccountId,
    /// The details.
    pub details: BillingDetails,
    /// Changes with every change.
    pub etag: String,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// Unchecked billing details; empty texts stand for fields that are not set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BillingDetailsDraft {
    /// What the account is.
    pub party: Option<Party>,
    /// National tax number.
    pub tax_id: Sensitive,
    /// VAT id.
    pub vat_id: Sensitive,
    /// Where the account is at home.
    pub address: Option<AddressDraft>,
    /// Address for billing mail.
    pub email: Sensitive,
}

/// An unchecked address.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AddressDraft {
    /// Country code.
    pub region_code: String,
    /// Postal code.
    pub postal_code: Sensitive,
    /// State or province.
    pub administrative_area: Sensitive,
    /// City or town.
    pub locality: Sensitive,
    /// Street and the like.
    pub address_lines: Vec<Sensitive>,
}

/// Paths that an update mask may name, in the order of the message.
pub const BILLING_DETAILS_MASK_PATHS: [&str; 15] = [
    "company",
    "company.legal_name",
    "company.registration_number",
    "individual",
    "individual.given_name",
    "individual.family_name",
    "tax_id",
    "vat_id",
    "address",
    "address.region_code",
    "address.postal_code",
    "address.administrative_area",
    "address.locality",
    "address.address_lines",
    "email",
];

const ROOT: &str = "billing_details";
const MAX_LEGAL_NAME: usize = 200;
const MAX_PERSON_NAME: usize = 100;
const MAX_REGISTRATION_NUMBER: usize = 64;
const MAX_POSTAL_CODE: usize = 20;
const MAX_PLACE: usize = 100;
const MAX_ADDRESS_LINE: usize = 200;
const MAX_ADDRESS_LINES: usize = 5;

impl BillingDetailsDraft {
    /// Checks everything, and names every field that is wrong by its path.
    pub fn check(&self) -> Result<BillingDetails> {
        let mut violations = Violations::new();
        let details = self.check_into(&mut violations);
        violations.finish(details)
    }

    /// As [`BillingDetailsDraft::check`], with the violations noted beside those of the rest of the request.
    pub fn check_into(&self, violations: &mut Violations) -> Option<BillingDetails> {
        let party = self.check_party(violations);
        let address = self.check_address(violations);
        let tax_id = optional(self.tax_id.as_str(), |text| {
            violations.check(format!("{ROOT}.tax_id"), TaxId::parse(text))
        });
        // Without a valid country the prefix has nothing to fit.
        let vat_id = address.as_ref().and_then(|address| {
            optional(self.vat_id.as_str(), |text| {
                violations.check(format!("{ROOT}.vat_id"), VatId::parse(text, address.region))
            })
        });
        if self.tax_id.as_str().is_empty() && self.vat_id.as_str().is_empty() {
            violations.push(
                format!("{ROOT}.tax_id"),
                "at least one of tax_id and vat_id is required",
            );
        }
        let email = optional(self.email.as_str(), |text| {
            violations.check(format!("{ROOT}.email"), Email::parse(text))
        });
        Some(BillingDetails {
            party: party?,
            tax_id,
            vat_id,
            address: address?,
            email,
        })
    }

    fn check_party(&self, violations: &mut Violations) -> Option<Party> {
        match &self.party {
            Some(Party::Company {
                legal_name,
                registration_number,
            }) => {
                violations.check(
                    format!("{ROOT}.company.legal_name"),
                    check_name(legal_name.as_str(), MAX_LEGAL_NAME),
                );
                violations.check(
                    format!("{ROOT}.company.registration_number"),
                    check_optional_name(registration_number.as_str(), MAX_REGISTRATION_NUMBER),
                );
            }
            Some(Party::Individual {
                given_name,
                family_name,
            }) => {
                violations.check(
                    format!("{ROOT}.individual.given_name"),
                    check_name(given_name.as_str(), MAX_PERSON_NAME),
                );
                violations.check(
                    format!("{ROOT}.individual.family_name"),
                    check_name(family_name.as_str(), MAX_PERSON_NAME),
                );
            }
            None => violations.push(format!("{ROOT}.party"), "set either company or individual"),
        }
        self.party.clone()
    }

    fn check_address(&self, violations: &mut Violations) -> Option<Address> {
        let Some(draft) = &self.address else {
            violations.push(format!("{ROOT}.address"), "is required");
            return None;
        };
        let root = format!("{ROOT}.address");
        let region = violations.check(format!("{root}.region_code"), Region::parse(&draft.region_code));
        violations.check(
            format!("{root}.postal_code"),
            check_optional_name(draft.postal_code.as_str(), MAX_POSTAL_CODE),
        );
        violations.check(
            format!("{root}.administrative_area"),
            check_optional_name(draft.administrative_area.as_str(), MAX_PLACE),
        );
        violations.check(
            format!("{root}.locality"),
            check_name(draft.locality.as_str(), MAX_PLACE),
        );
        if !(1..=MAX_ADDRESS_LINES).contains(&draft.address_lines.len()) {
            violations.push(format!("{root}.address_lines"), "must be 1 to 5 lines");
        }
        for (index, line) in draft.address_lines.iter().enumerate().take(MAX_ADDRESS_LINES) {
            violations.check(
                format!("{root}.address_lines[{index}]"),
                check_name(line.as_str(), MAX_ADDRESS_LINE),
            );
        }
        Some(Address {
            region: region?,
            postal_code: draft.postal_code.clone(),
            administrative_area: draft.administrative_area.clone(),
            locality: draft.locality.clone(),
            address_lines: draft.address_lines.clone(),
        })
    }

    /// Takes over the fields that the mask names from another draft.
    pub fn apply(&mut self, other: &Self, mask: &[String]) {
        for path in mask {
            self.apply_path(other, path);
        }
    }

    fn apply_path(&mut self, other: &Self, path: &str) {
        match path {
            "company" => {
                let company = other
                    .party
                    .clone()
                    .filter(|party| matches!(party, Party::Company { .. }));
                if company.is_some() || matches!(self.party, Some(Party::Company { .. })) {
                    self.party = company;
                }
            }
            "individual" => {
                let individual = other
                    .party
                    .clone()
                    .filter(|party| matches!(party, Party::Individual { .. }));
                if individual.is_some() || matches!(self.party, Some(Party::Individual { .. })) {
                    self.party = individual;
                }
            }
            "company.legal_name" | "company.registration_number" => self.apply_company(other, path),
            "individual.given_name" | "individual.family_name" => self.apply_individual(other, path),
            "tax_id" => self.tax_id = other.tax_id.clone(),
            "vat_id" => self.vat_id = other.vat_id.clone(),
            "email" => self.email = other.email.clone(),
            "address" => self.address = other.address.clone(),
            _ => self.apply_address(other, path),
        }
    }

    fn apply_company(&mut self, other: &Self, path: &str) {
        let (mut name, mut number) = match &self.party {
            Some(Party::Company {
                legal_name,
                registration_number,
            }) => (legal_name.clone(), registration_number.clone()),
            _ => (Sensitive::default(), Sensitive::default()),
        };
        let (new_name, new_number) = match &other.party {
            Some(Party::Company {
                legal_name,
                registration_number,
            }) => (legal_name.clone(), registration_number.clone()),
            _ => (Sensitive::default(), Sensitive::default()),
        };
        if path == "company.legal_name" {
            name = new_name;
        } else {
            number = new_number;
        }
        self.party = Some(Party::Company {
            legal_name: name,
            registration_number: number,
        });
    }

    fn apply_individual(&mut self, other: &Self, path: &str) {
        let (mut given, mut family) = match &self.party {
            Some(Party::Individual {
                given_name,
                family_name,
            }) => (given_name.clone(), family_name.clone()),
            _ => (Sensitive::default(), Sensitive::default()),
        };
        let (new_given, new_family) = match &other.party {
            Some(Party::Individual {
                given_name,
                family_name,
            }) => (given_name.clone(), family_name.clone()),
            _ => (Sensitive::default(), Sensitive::default()),
        };
        if path == "individual.given_name" {
            given = new_given;
        } else {
            family = new_family;
        }
        self.party = Some(Party::Individual {
            given_name: given,
            family_name: family,
        });
    }

    fn apply_address(&mut self, other: &Self, path: &str) {
        let mut address = self.address.clone().unwrap_or_default();
        let new = other.address.clone().unwrap_or_default();
        match path {
            "address.region_code" => address.region_code = new.region_code,
            "address.postal_code" => address.postal_code = new.postal_code,
            "address.administrative_area" => address.administrative_area = new.administrative_area,
            "address.locality" => address.locality = new.locality,
            "address.address_lines" => address.address_lines = new.address_lines,
            _ => {}
        }
        self.address = Some(address);
    }
}

impl From<&BillingDetails> for BillingDetailsDraft {
    fn from(details: &BillingDetails) -> Self {
        let text = |value: Option<&str>| Sensitive::new(value.unwrap_or_default());
        Self {
            party: Some(details.party.clone()),
            tax_id: text(details.tax_id.as_ref().map(TaxId::as_str)),
            vat_id: text(details.vat_id.as_ref().map(VatId::as_str)),
            address: Some(AddressDraft {
                region_code: details.address.region.code().to_owned(),
                postal_code: details.address.postal_code.clone(),
                administrative_area: details.address.administrative_area.clone(),
                locality: details.address.locality.clone(),
                address_lines: details.address.address_lines.clone(),
            }),
            email: text(details.email.as_ref().map(Email::as_str)),
        }
    }
}

fn optional<T>(text: &str, check: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    if text.is_empty() { None } else { check(text) }
}
