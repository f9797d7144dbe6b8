//! The month's data: reads the CSV files and turns their rows into messages of the API.
//!
//! Amounts stay the text that they are in the file: the service reads decimals exactly, so nothing here has to.

use crate::failure::Failure;
use crate::request_id::Fingerprint;
use affiliate_billing::proto::billing_details::Party;
use affiliate_billing::proto::payment_method::Details;
use affiliate_billing::proto::{
    Address, BankTransfer, BillingDetails, Company, CustomPayment, Entry, EntryKind, Individual, Money, PaymentMethod,
    PaymentMethodField, PaymentMethodType, Paypal, Tipalti,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Everything that happened before the month's end.
pub(crate) struct Month {
    /// What the program offers to be paid by.
    pub(crate) types: Vec<OfferedType>,
    /// Who is to be paid, and how.
    pub(crate) affiliates: Vec<Affiliate>,
    /// What they earned, in the order in which it happened: a clawback stands behind the entry that it names.
    pub(crate) entries: Vec<Entry>,
    /// A digest of the files.
    pub(crate) fingerprint: String,
}

/// A payment method type, and whether it comes with the service.
pub(crate) struct OfferedType {
    pub(crate) settings: PaymentMethodType,
    pub(crate) built_in: bool,
}

/// What is known of one affiliate.
#[derive(Default)]
pub(crate) struct Affiliate {
    /// Who it is. A few never told.
    pub(crate) details: Option<BillingDetails>,
    /// How it is paid. The first one in a currency becomes the default for it, so their order counts.
    pub(crate) methods: Vec<PaymentMethod>,
}

impl Month {
    /// Reads all files of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let mut reader = Reader {
            folder,
            fingerprint: Fingerprint::default(),
        };
        let fields = reader.rows("payment_method_type_fields.csv", field)?;
        let mut types = reader.rows("payment_method_types.csv", offered_type)?;
        for (type_id, field) in fields {
            for offered in types.iter_mut().filter(|t| t.settings.id == type_id) {
                offered.settings.fields.push(field.clone());
            }
        }
        let mut affiliates: BTreeMap<String, Affiliate> = BTreeMap::new();
        for details in reader.rows("accounts.csv", billing_details)? {
            let affiliate = affiliates.entry(details.account_id.clone()).or_default();
            affiliate.details = Some(details);
        }
        for method in reader.rows("payment_methods.csv", payment_method)? {
            let affiliate = affiliates.entry(method.account_id.clone()).or_default();
            affiliate.methods.push(method);
        }
        Ok(Self {
            types,
            affiliates: affiliates.into_values().collect(),
            entries: reader.rows("entries.csv", entry)?,
            fingerprint: reader.fingerprint.finish(),
        })
    }

    /// The accounts that earned something.
    pub(crate) fn earning_accounts(&self) -> BTreeSet<&str> {
        self.entries.iter().map(|entry| entry.account_id.as_str()).collect()
    }
}

struct Reader<'a> {
    folder: &'a Path,
    fingerprint: Fingerprint,
}

impl Reader<'_> {
    /// Reads one file and converts its rows; a fault is told with its file and line.
    fn rows<R: DeserializeOwned, T>(
        &mut self,
        name: &str,
        convert: impl Fn(R) -> Result<T, String>,
    ) -> Result<Vec<T>, Failure> {
        let file = self.folder.join(name);
        let fault = |problem: String| Failure::Data {
            file: file.clone(),
            problem,
        };
        let content = std::fs::read(&file).map_err(|error| fault(error.to_string()))?;
        self.fingerprint.add(&content);

        let mut rows = Vec::new();
        let mut csv = csv::Reader::from_reader(content.as_slice());
        for (index, row) in csv.deserialize().enumerate() {
            let row = row.map_err(|error| fault(error.to_string()))?;
            let converted = convert(row).map_err(|problem| fault(format!("row {}: {problem}", index + 1)))?;
            rows.push(converted);
        }
        Ok(rows)
    }
}

#[derive(Deserialize)]
struct TypeRow {
    id: String,
    built_in: bool,
    display_name: String,
    currency_codes: String,
    minimum_payouts: String,
}

fn offered_type(row: TypeRow) -> Result<OfferedType, String> {
    let mut minimum_payouts = Vec::new();
    for minimum in list(&row.minimum_payouts) {
        let (currency, amount) = minimum
            .split_once(' ')
            .ok_or_else(|| format!("`{minimum}` is no minimum payout such as `EUR 50.00`"))?;
        minimum_payouts.push(money(currency, amount));
    }
    Ok(OfferedType {
        built_in: row.built_in,
        settings: PaymentMethodType {
            id: row.id,
            display_name: row.display_name,
            currency_codes: list(&row.currency_codes).map(str::to_owned).collect(),
            minimum_payouts,
            ..PaymentMethodType::default()
        },
    })
}

#[derive(Deserialize)]
struct FieldRow {
    type_id: String,
    name: String,
    display_name: String,
    required: bool,
    pattern: String,
    secret: bool,
}

fn field(row: FieldRow) -> Result<(String, PaymentMethodField), String> {
    let field = PaymentMethodField {
        name: row.name,
        display_name: row.display_name,
        required: row.required,
        pattern: row.pattern,
        secret: row.secret,
    };
    Ok((row.type_id, field))
}

#[derive(Deserialize)]
struct AccountRow {
    account_id: String,
    party: String,
    legal_name: String,
    registration_number: String,
    given_name: String,
    family_name: String,
    tax_id: String,
    vat_id: String,
    region_code: String,
    postal_code: String,
    administrative_area: String,
    locality: String,
    address_line: String,
    email: String,
}

fn billing_details(row: AccountRow) -> Result<BillingDetails, String> {
    let party = match row.party.as_str() {
        "company" => Party::Company(Company {
            legal_name: row.legal_name,
            registration_number: row.registration_number,
        }),
        "individual" => Party::Individual(Individual {
            given_name: row.given_name,
            family_name: row.family_name,
        }),
        other => return Err(format!("`{other}` is neither `company` nor `individual`")),
    };
    Ok(BillingDetails {
        account_id: row.account_id,
        party: Some(party),
        tax_id: row.tax_id,
        vat_id: row.vat_id,
        address: Some(Address {
            region_code: row.region_code,
            postal_code: row.postal_code,
            administrative_area: row.administrative_area,
            locality: row.locality,
            address_lines: vec![row.address_line],
        }),
        email: row.email,
        ..BillingDetails::default()
    })
}

#[derive(Deserialize)]
struct MethodRow {
    account_id: String,
    currency_code: String,
    default: String,
    type_id: String,
    account_holder_name: String,
    iban: String,
    bic: String,
    routing_number: String,
    sort_code: String,
    account_number: String,
    bank_name: String,
    paypal_email: String,
    payee_id: String,
    custom_fields: String,
}

fn payment_method(row: MethodRow) -> Result<PaymentMethod, String> {
    let details = match row.type_id.as_str() {
        "bank_transfer" => Details::BankTransfer(BankTransfer {
            account_holder_name: row.account_holder_name,
            iban: row.iban,
            bic: row.bic,
            routing_number: row.routing_number,
            sort_code: row.sort_code,
            account_number: row.account_number,
            bank_name: row.bank_name,
        }),
        "paypal" => Details::Paypal(Paypal {
            email: row.paypal_email,
        }),
        "tipalti" => Details::Tipalti(Tipalti {
            payee_id: row.payee_id,
            ..Tipalti::default()
        }),
        // Any other one is of the program's own making.
        _ => Details::Custom(CustomPayment {
            type_id: row.type_id,
            fields: custom_fields(&row.custom_fields)?,
        }),
    };
    Ok(PaymentMethod {
        account_id: row.account_id,
        currency_code: row.currency_code,
        default: row.default == "true",
        details: Some(details),
        ..PaymentMethod::default()
    })
}

fn custom_fields(text: &str) -> Result<HashMap<String, String>, String> {
    let mut fields = HashMap::new();
    for field in list(text) {
        let (name, value) = field
            .split_once('=')
            .ok_or_else(|| "a custom field is not written as `name=value`".to_owned())?;
        fields.insert(name.to_owned(), value.to_owned());
    }
    Ok(fields)
}

#[derive(Deserialize)]
struct EntryRow {
    source: String,
    external_id: String,
    account_id: String,
    currency_code: String,
    amount: String,
    kind: String,
    occur_time: String,
    available_date: String,
    description: String,
    reverses_external_id: String,
    reverses_source: String,
}

fn entry(row: EntryRow) -> Result<Entry, String> {
    let kind = EntryKind::from_str_name(&format!("ENTRY_KIND_{}", row.kind))
        .ok_or_else(|| format!("`{}` is no kind of entry", row.kind))?;
    let occur_time = row
        .occur_time
        .parse()
        .map_err(|_| format!("`{}` is no time", row.occur_time))?;
    Ok(Entry {
        source: row.source,
        external_id: row.external_id,
        account_id: row.account_id,
        money: Some(money(&row.currency_code, &row.amount)),
        kind: kind.into(),
        occur_time: Some(occur_time),
        available_date: row.available_date,
        description: row.description,
        reverses_external_id: row.reverses_external_id,
        reverses_source: row.reverses_source,
        ..Entry::default()
    })
}

fn money(currency_code: &str, amount: &str) -> Money {
    Money {
        currency_code: currency_code.to_owned(),
        amount: amount.to_owned(),
    }
}

/// The parts of a cell that holds several, separated by semicolons.
fn list(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(';').filter(|part| !part.is_empty())
}
