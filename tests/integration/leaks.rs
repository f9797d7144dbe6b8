//! Personal data and secrets are nowhere but sealed in the database and in the answers to those who may see them. The program
//! runs the whole flow with marked values and logs all it can; then everything that it stored, logged and answered is searched.

mod marked;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use affiliate_billing::domain::permissions::{Role, Rpc};
use affiliate_billing::payout::tipalti::KIND;
use affiliate_billing::proto;
use affiliate_billing::proto::billing_details::Party;
use affiliate_billing::proto::payment_method::Details;
use affiliate_billing::proto::{AccountSettlementStatus as RowStatus, View};
use fake_tipalti::FakeTipalti;
use fake_tipalti::state::{Options, Payee};
use fake_tipalti::webhooks::Delivery;
use prost::Message;
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use crate::support::app::{App, KEYS};
use crate::support::fixtures::{entry, request_id};
use crate::support::guard::{Files, Known, until};
use crate::support::harness::scenarios;
use crate::support::program::Serving;
use crate::support::tables::Tables;
use crate::support::wire::{call_as, first_answer};
use marked::{Class, Marked, Place, the_search_finds_every_form};

scenarios![
    personal_data_and_secrets_are_nowhere_else;
    units: the_search_finds_every_form;
];

/// Far more than any call takes.
const LIMIT: Duration = Duration::from_secs(60);

const LEGAL_NAME: &str = "Zwetschgenmark Handels GmbH";
const REGISTRATION_NUMBER: &str = "HRB 778899441";
const GIVEN_NAME: &str = "Quorinthia";
const FAMILY_NAME: &str = "Leckmarkowitz";
const OTHER_FAMILY_NAME: &str = "Umbenannkowitz";
const TAX_ID: &str = "47110815991";
const OTHER_TAX_ID: &str = "58220926882";
const VAT_ID: &str = "DE136695976";
const ADDRESS_LINE: &str = "Verratgasse 77b";
const LOCALITY: &str = "Marklingshausen";
const AREA: &str = "Undichtland";
const EMAIL: &str = "undicht.quorinthia@marker.example";
const HOLDER: &str = "Quorinthia Kontomarkowitz";
const BANK_NAME: &str = "Sickerbank Tropfenau";
const OPEN_FIELD: &str = "offen-Leckage-4411";

const IBAN: &str = "DE89370400440532013000";
const SPACED_IBAN: &str = "GB82 WEST 1234 5698 7654 32";
const AMERICAN_ACCOUNT: &str = "739201846512";
const BRITISH_ACCOUNT: &str = "31926819";
const PAYPAL: &str = "zahlung@paypalmarker.example";
const PAYEE: &str = "Tropfmarker-payee-17";
const IMPORTED_PAYEE: &str = "Tropfmarker-payee-18";
const SECRET_FIELD: &str = "wallet-Leckage-9917";
const CLIENT_SECRET: &str = "client-Sickerwasser-secret";
const REFRESH_TOKEN: &str = "refresh-Sickerwasser-token";
const WEBHOOK_SECRET: &str = "whsec_Sickerwasser_hook";

const BAD_IBAN: &str = "DE00370400440532013777";
const BAD_EMAIL: &str = "kaputt@undicht@marker.example";
const BAD_VAT_ID: &str = "DE136695977";
const BAD_ID: &str = "Fremdkennung-Leckage-0815";

/// RPCs whose answers show what is [`Class::Shown`].
const SHOWING: [Rpc; 13] = [
    Rpc::CreateBillingDetails,
    Rpc::GetBillingDetails,
    Rpc::ListBillingDetails,
    Rpc::UpdateBillingDetails,
    Rpc::CreatePaymentMethod,
    Rpc::GetPaymentMethod,
    Rpc::ListPaymentMethods,
    Rpc::UpdatePaymentMethod,
    Rpc::ListPaymentMethodChanges,
    Rpc::GetAccountSettlement,
    Rpc::ListAccountSettlements,
    Rpc::UpdateAccountSettlementStatus,
    Rpc::DeleteAccountSettlement,
];

/// Calls of somebody who may do everything but unmask, with all that was answered.
struct Caller {
    channel: Channel,
    authorization: String,
    answered: BTreeSet<&'static str>,
    places: Vec<(Place, bool)>,
    refusals: usize,
}

impl Caller {
    /// A call that must be answered; the first answer.
    async fn done<A: Message + Default>(&mut self, rpc: Rpc, message: &impl Message) -> A {
        let call = call_as(
            &self.channel,
            rpc.path(),
            Some(&self.authorization),
            vec![message.encode_to_vec()],
        );
        let answered = timeout(LIMIT, call).await.unwrap();
        assert!(answered.end.is_none(), "{}: {:?}", rpc.path(), answered.end);
        self.answered.insert(rpc.path());
        for answer in &answered.messages {
            self.keep(rpc, answer);
        }
        self.keep_metadata(rpc, &answered.metadata);
        let first = answered
            .messages
            .first()
            .map(|answer| A::decode(answer.as_slice()).unwrap());
        first.unwrap_or_default()
    }

    fn keep(&mut self, rpc: Rpc, answer: &[u8]) {
        let place = Place::new(format!("an answer of {}", rpc.path()), answer);
        self.places.push((place, SHOWING.contains(&rpc)));
    }

    /// Headers and trailers never show anything.
    fn keep_metadata(&mut self, rpc: Rpc, metadata: &[MetadataMap]) {
        let place = Place::new(
            format!("headers or trailers of {}", rpc.path()),
            format!("{metadata:?}").as_bytes(),
        );
        self.places.push((place, false));
    }

    /// A call that must be refused.
    async fn refused(&mut self, rpc: Rpc, code: Code, message: &impl Message) {
        let call = call_as(
            &self.channel,
            rpc.path(),
            Some(&self.authorization),
            vec![message.encode_to_vec()],
        );
        let answered = timeout(LIMIT, call).await.unwrap();
        self.keep_metadata(rpc, &answered.metadata);
        let status = answered.end.unwrap_or_else(|| panic!("{} is not refused", rpc.path()));
        assert_eq!(status.code(), code, "{}: {status:?}", rpc.path());
        let told = [
            status.message().as_bytes(),
            status.details(),
            format!("{status:?} {:?}", status.metadata()).as_bytes(),
        ]
        .concat();
        self.places
            .push((Place::new(format!("an error of {}", rpc.path()), &told), false));
        self.refusals += 1;
    }
}

async fn personal_data_and_secrets_are_nowhere_else(app: App) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("serve.log");
    let fake = FakeTipalti::start(Options {
        client_secret: CLIENT_SECRET.to_owned(),
        refresh_token: REFRESH_TOKEN.to_owned(),
        webhook_secret: WEBHOOK_SECRET.to_owned(),
        ..Options::default()
    })
    .await
    .unwrap();
    let database_url = if app.is_postgres() {
        app.database_url.clone()
    } else {
        format!("sqlite://{}", folder.path().join("leaks.db").display())
    };
    let files = Files::new();
    let known = Known::new("everything", &Role::ALL.map(Role::name));
    let approver = Known::new("approver", &Role::ALL.map(Role::name));
    files.write_identities(&[&known, &approver]);
    let identities = files.path("identities.toml").display().to_string();
    let base_url = fake.url();
    let settings = [
        ("BILLING_DATABASE_URL", database_url.as_str()),
        ("BILLING_ENCRYPTION_KEYS", KEYS),
        ("BILLING_LOG", "trace"),
        ("BILLING_REQUIRE_APPROVAL", "1"),
        ("BILLING_TIPALTI_BASE_URL", base_url.as_str()),
        ("BILLING_TIPALTI_CLIENT_ID", "fake-client"),
        ("BILLING_TIPALTI_CLIENT_SECRET", CLIENT_SECRET),
        ("BILLING_TIPALTI_REFRESH_TOKEN", REFRESH_TOKEN),
        ("BILLING_TIPALTI_SYNC_INTERVAL", "200ms"),
        ("BILLING_TIPALTI_WEBHOOK_SECRETS", WEBHOOK_SECRET),
        ("BILLING_TOKENS_FILE", identities.as_str()),
        ("BILLING_WEBHOOK_LISTEN", "127.0.0.1:0"),
    ];
    let serving = Serving::start_with_log(folder.path(), &settings, &log);
    let webhook = format!("http://{}{}", serving.webhook_address().unwrap(), KIND.webhook.path);
    fake.configure(|options| options.webhook_url = Some(webhook));
    let mut caller = Caller {
        channel: serving.channel().await,
        authorization: known.authorization(),
        answered: BTreeSet::new(),
        places: Vec::new(),
        refusals: 0,
    };
    keep_billing_details(&mut caller).await;
    let methods = keep_payment_methods(&mut caller).await;
    refuse_on_purpose(&mut caller, &methods).await;
    let settlement_id = settle(&mut caller).await;
    approve(&mut caller, &approver, &settlement_id).await;
    pay(&mut caller, &fake, &settlement_id).await;
    clear_up(&mut caller, &methods).await;
    look_around(&mut caller, &fake).await;

    let missing: Vec<&str> = Rpc::ALL
        .map(Rpc::path)
        .into_iter()
        .filter(|path| !caller.answered.contains(path))
        .collect();
    assert!(missing.is_empty(), "not played with marked values: {missing:?}");
    let marked = marked_values(known.token.token.as_str());
    let mut places = caller.places;
    places.extend(stored(folder.path(), &database_url).await);
    let printed = serving.lines.join("\n");
    assert_eq!(serving.end("-TERM").code(), Some(0));
    places.extend(stored(folder.path(), &database_url).await);
    places.push((Place::new("what was printed", printed.as_bytes()), false));
    let logged = fs::read(&log).unwrap();
    assert!(logged.len() > 100_000, "it logs at trace level");
    places.push((Place::new("the log", &logged), false));
    let found: Vec<String> = places
        .iter()
        .flat_map(|(place, may_show)| place.found(&marked, *may_show))
        .collect();
    fake.stop();
    assert!(
        found.is_empty(),
        "{} leaks:\n{}",
        found.len(),
        found[..found.len().min(60)].join("\n")
    );
}

fn marked_values(token: &str) -> Marked {
    let shown = [
        LEGAL_NAME,
        REGISTRATION_NUMBER,
        GIVEN_NAME,
        FAMILY_NAME,
        OTHER_FAMILY_NAME,
        TAX_ID,
        OTHER_TAX_ID,
        VAT_ID,
        ADDRESS_LINE,
        LOCALITY,
        AREA,
        EMAIL,
        HOLDER,
        BANK_NAME,
        OPEN_FIELD,
    ];
    let (_, key) = KEYS.split_once(':').unwrap();
    let secret = [
        IBAN,
        SPACED_IBAN,
        AMERICAN_ACCOUNT,
        BRITISH_ACCOUNT,
        PAYPAL,
        PAYEE,
        IMPORTED_PAYEE,
        SECRET_FIELD,
        CLIENT_SECRET,
        REFRESH_TOKEN,
        WEBHOOK_SECRET,
        BAD_IBAN,
        BAD_EMAIL,
        BAD_VAT_ID,
        BAD_ID,
        key,
        token,
    ];
    let shown = shown.map(|value| (value, Class::Shown));
    let secret = secret.map(|value| (value, Class::Secret));
    Marked::new(&[&shown[..], &secret[..]].concat())
}

/// Everything that the database holds: its files as they are, or its tables.
async fn stored(folder: &Path, database_url: &str) -> Vec<(Place, bool)> {
    let mut places = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("leaks.db") && !name.ends_with(".keys") {
            places.push((Place::new(format!("the file {name}"), &fs::read(&path).unwrap()), false));
        }
    }
    let tables = Tables::open(database_url).await;
    let dump: BTreeMap<String, String> = tables.dump().await;
    tables.close().await;
    assert!(dump.len() > 15, "all tables: {:?}", dump.keys());
    for (table, rows) in dump {
        places.push((Place::new(format!("the table {table}"), rows.as_bytes()), false));
    }
    places
}

fn address() -> proto::Address {
    proto::Address {
        region_code: "DE".to_owned(),
        postal_code: "10115".to_owned(),
        administrative_area: AREA.to_owned(),
        locality: LOCALITY.to_owned(),
        address_lines: vec![ADDRESS_LINE.to_owned()],
    }
}

fn company(account_id: &str) -> proto::BillingDetails {
    proto::BillingDetails {
        account_id: account_id.to_owned(),
        party: Some(Party::Company(proto::Company {
            legal_name: LEGAL_NAME.to_owned(),
            registration_number: REGISTRATION_NUMBER.to_owned(),
        })),
        tax_id: TAX_ID.to_owned(),
        vat_id: VAT_ID.to_owned(),
        address: Some(address()),
        email: EMAIL.to_owned(),
        ..Default::default()
    }
}

fn individual(account_id: &str, family_name: &str) -> proto::BillingDetails {
    proto::BillingDetails {
        account_id: account_id.to_owned(),
        party: Some(Party::Individual(proto::Individual {
            given_name: GIVEN_NAME.to_owned(),
            family_name: family_name.to_owned(),
        })),
        tax_id: OTHER_TAX_ID.to_owned(),
        address: Some(address()),
        email: EMAIL.to_owned(),
        ..Default::default()
    }
}

async fn keep_billing_details(caller: &mut Caller) {
    for details in [company("acct-company"), individual("acct-person", FAMILY_NAME)] {
        let request = proto::CreateBillingDetailsRequest {
            billing_details: Some(details),
            request_id: request_id(),
        };
        let () = caller.done(Rpc::CreateBillingDetails, &request).await;
        // The same again is answered by what is kept.
        let () = caller.done(Rpc::CreateBillingDetails, &request).await;
    }
    let request = proto::ImportBillingDetailsRequest {
        chunk_id: "1".to_owned(),
        billing_details: vec![
            individual("acct-import", FAMILY_NAME),
            company("acct-company"),
            individual("acct-person", OTHER_FAMILY_NAME),
            proto::BillingDetails {
                email: BAD_EMAIL.to_owned(),
                ..individual("acct-bad", FAMILY_NAME)
            },
        ],
        request_id: request_id(),
    };
    let () = caller.done(Rpc::ImportBillingDetails, &request).await;
    let request = proto::UpdateBillingDetailsRequest {
        billing_details: Some(individual("acct-person", OTHER_FAMILY_NAME)),
        update_mask: None,
        request_id: request_id(),
    };
    let () = caller.done(Rpc::UpdateBillingDetails, &request).await;
    let request = proto::GetBillingDetailsRequest {
        account_id: "acct-person".to_owned(),
    };
    let () = caller.done(Rpc::GetBillingDetails, &request).await;
    let () = caller
        .done(Rpc::ListBillingDetails, &proto::ListBillingDetailsRequest::default())
        .await;
}

fn method(account_id: &str, currency_code: &str, details: Details) -> proto::PaymentMethod {
    proto::PaymentMethod {
        account_id: account_id.to_owned(),
        currency_code: currency_code.to_owned(),
        details: Some(details),
        ..Default::default()
    }
}

fn bank(change: impl FnOnce(&mut proto::BankTransfer)) -> Details {
    let mut bank = proto::BankTransfer {
        account_holder_name: HOLDER.to_owned(),
        bank_name: BANK_NAME.to_owned(),
        ..Default::default()
    };
    change(&mut bank);
    Details::BankTransfer(bank)
}

fn payee(payee_id: &str) -> Details {
    Details::Tipalti(proto::Tipalti {
        payee_id: payee_id.to_owned(),
        ..Default::default()
    })
}

fn all_methods() -> Vec<proto::PaymentMethod> {
    let fields = [("wallet", SECRET_FIELD), ("memo", OPEN_FIELD)];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    vec![
        method("acct-company", "EUR", bank(|bank| bank.iban = IBAN.to_owned())),
        method(
            "acct-company",
            "USD",
            bank(|bank| {
                bank.routing_number = "021000021".to_owned();
                bank.account_number = AMERICAN_ACCOUNT.to_owned();
            }),
        ),
        method(
            "acct-company",
            "GBP",
            bank(|bank| {
                bank.sort_code = "601613".to_owned();
                bank.account_number = BRITISH_ACCOUNT.to_owned();
            }),
        ),
        method(
            "acct-person",
            "EUR",
            Details::Paypal(proto::Paypal {
                email: PAYPAL.to_owned(),
            }),
        ),
        method(
            "acct-person",
            "USD",
            Details::Custom(proto::CustomPayment {
                type_id: "leck_wallet".to_owned(),
                fields: fields.into(),
            }),
        ),
        method("acct-tipalti", "EUR", payee(PAYEE)),
    ]
}

async fn keep_payment_methods(caller: &mut Caller) -> Vec<proto::PaymentMethod> {
    let field = |name: &str, secret| proto::PaymentMethodField {
        name: name.to_owned(),
        secret,
        ..Default::default()
    };
    let kind = proto::PaymentMethodType {
        id: "leck_wallet".to_owned(),
        display_name: "Wallet".to_owned(),
        enabled: Some(true),
        currency_codes: vec!["USD".to_owned()],
        fields: vec![field("wallet", true), field("memo", false)],
        ..Default::default()
    };
    let request = proto::CreatePaymentMethodTypeRequest {
        payment_method_type: Some(kind.clone()),
        request_id: request_id(),
    };
    let () = caller.done(Rpc::CreatePaymentMethodType, &request).await;
    let request = proto::UpdatePaymentMethodTypeRequest {
        payment_method_type: Some(proto::PaymentMethodType {
            display_name: "Purse".to_owned(),
            ..kind
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["display_name".to_owned()],
        }),
        request_id: request_id(),
    };
    let () = caller.done(Rpc::UpdatePaymentMethodType, &request).await;
    let () = caller
        .done(
            Rpc::ListPaymentMethodTypes,
            &proto::ListPaymentMethodTypesRequest::default(),
        )
        .await;
    let request = proto::CreateBillingDetailsRequest {
        billing_details: Some(individual("acct-tipalti", FAMILY_NAME)),
        request_id: request_id(),
    };
    let () = caller.done(Rpc::CreateBillingDetails, &request).await;
    let mut made = Vec::new();
    for each in all_methods() {
        let request = proto::CreatePaymentMethodRequest {
            payment_method: Some(each),
            request_id: request_id(),
        };
        let _: proto::CreatePaymentMethodResponse = caller.done(Rpc::CreatePaymentMethod, &request).await;
        let again: proto::CreatePaymentMethodResponse = caller.done(Rpc::CreatePaymentMethod, &request).await;
        let answer = again.payment_method.unwrap();
        let get = proto::GetPaymentMethodRequest {
            id: answer.id.clone(),
            view: View::Masked.into(),
        };
        let () = caller.done(Rpc::GetPaymentMethod, &get).await;
        made.push(answer);
    }
    for account_id in ["acct-company", "acct-person", "acct-tipalti"] {
        let request = proto::ListPaymentMethodsRequest {
            account_id: account_id.to_owned(),
            ..Default::default()
        };
        let () = caller.done(Rpc::ListPaymentMethods, &request).await;
    }
    let request = proto::ImportPaymentMethodsRequest {
        chunk_id: "1".to_owned(),
        payment_methods: vec![
            method("acct-import", "EUR", payee(IMPORTED_PAYEE)),
            method(
                "acct-import",
                "GBP",
                bank(|bank| bank.iban = SPACED_IBAN.replace(' ', "")),
            ),
            method("acct-import", "USD", bank(|bank| bank.iban = BAD_IBAN.to_owned())),
            method("acct-company", "EUR", bank(|bank| bank.iban = IBAN.to_owned())),
        ],
        request_id: request_id(),
    };
    let () = caller.done(Rpc::ImportPaymentMethods, &request).await;
    let request = proto::UpdatePaymentMethodRequest {
        payment_method: Some(proto::PaymentMethod {
            id: made[0].id.clone(),
            details: Some(bank(|bank| bank.iban = SPACED_IBAN.to_owned())),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["bank_transfer.iban".to_owned()],
        }),
        request_id: request_id(),
    };
    let () = caller.done(Rpc::UpdatePaymentMethod, &request).await;
    let request = proto::ListPaymentMethodChangesRequest {
        account_id: "acct-company".to_owned(),
        ..Default::default()
    };
    let () = caller.done(Rpc::ListPaymentMethodChanges, &request).await;
    made
}

/// Errors with marked values in what was sent.
async fn refuse_on_purpose(caller: &mut Caller, methods: &[proto::PaymentMethod]) {
    let full = proto::GetPaymentMethodRequest {
        id: methods[0].id.clone(),
        view: View::Full.into(),
    };
    caller
        .refused(Rpc::GetPaymentMethod, Code::PermissionDenied, &full)
        .await;
    let reused = request_id();
    let create = |change: &dyn Fn(&mut proto::BillingDetails), request_id: &str| {
        let mut details = company("acct-new");
        change(&mut details);
        proto::CreateBillingDetailsRequest {
            billing_details: Some(details),
            request_id: request_id.to_owned(),
        }
    };
    let invalid: [&dyn Fn(&mut proto::BillingDetails); 7] = [
        &|details| details.email = BAD_EMAIL.to_owned(),
        &|details| details.vat_id = BAD_VAT_ID.to_owned(),
        &|details| details.tax_id = format!("{TAX_ID}\u{1}"),
        &|details| details.tax_id = TAX_ID.repeat(100),
        &|details| details.account_id = format!("{BAD_ID} with spaces").repeat(9),
        &|details| details.address.as_mut().unwrap().region_code = BAD_ID.to_owned(),
        &|details| {
            details.party = Some(Party::Company(proto::Company {
                legal_name: LEGAL_NAME.repeat(50),
                registration_number: REGISTRATION_NUMBER.repeat(50),
            }));
        },
    ];
    for change in invalid {
        caller
            .refused(Rpc::CreateBillingDetails, Code::InvalidArgument, &create(change, ""))
            .await;
    }
    let taken = create(&|details| details.account_id = "acct-company".to_owned(), "");
    caller
        .refused(Rpc::CreateBillingDetails, Code::AlreadyExists, &taken)
        .await;
    let () = caller.done(Rpc::CreateBillingDetails, &create(&|_| {}, &reused)).await;
    let other = create(&|details| details.tax_id = OTHER_TAX_ID.to_owned(), &reused);
    caller
        .refused(Rpc::CreateBillingDetails, Code::FailedPrecondition, &other)
        .await;
    let stale = proto::UpdateBillingDetailsRequest {
        billing_details: Some(proto::BillingDetails {
            etag: "stale".to_owned(),
            ..individual("acct-person", FAMILY_NAME)
        }),
        ..Default::default()
    };
    caller.refused(Rpc::UpdateBillingDetails, Code::Aborted, &stale).await;
    let masked = format!("{LEGAL_NAME}.{IBAN}");
    let unknown_mask = proto::UpdateBillingDetailsRequest {
        billing_details: Some(individual("acct-person", FAMILY_NAME)),
        update_mask: Some(prost_types::FieldMask { paths: vec![masked] }),
        ..Default::default()
    };
    caller
        .refused(Rpc::UpdateBillingDetails, Code::InvalidArgument, &unknown_mask)
        .await;
    let new = |details| proto::CreatePaymentMethodRequest {
        payment_method: Some(method("acct-new", "EUR", details)),
        ..Default::default()
    };
    for details in [
        bank(|bank| bank.iban = BAD_IBAN.to_owned()),
        bank(|bank| {
            bank.iban = IBAN.to_owned();
            bank.account_number = AMERICAN_ACCOUNT.to_owned();
        }),
        bank(|bank| bank.bic = BAD_ID.to_owned()),
        bank(|bank| {
            bank.iban = IBAN.to_owned();
            bank.account_holder_name = HOLDER.repeat(50);
        }),
        bank(|bank| {
            bank.iban = format!("****{}", &IBAN[18..]);
        }),
        Details::Paypal(proto::Paypal {
            email: BAD_EMAIL.to_owned(),
        }),
        payee(&PAYEE.repeat(50)),
        Details::Custom(proto::CustomPayment {
            type_id: BAD_ID.to_owned(),
            fields: [(SECRET_FIELD.to_owned(), SECRET_FIELD.to_owned())].into(),
        }),
    ] {
        let request = new(details);
        caller
            .refused(Rpc::CreatePaymentMethod, Code::InvalidArgument, &request)
            .await;
    }
    let taken = proto::CreatePaymentMethodRequest {
        payment_method: Some(all_methods().remove(0)),
        ..Default::default()
    };
    caller
        .refused(Rpc::CreatePaymentMethod, Code::AlreadyExists, &taken)
        .await;
    let token = proto::ListBillingDetailsRequest {
        page_token: BAD_ID.to_owned(),
        ..Default::default()
    };
    caller
        .refused(Rpc::ListBillingDetails, Code::InvalidArgument, &token)
        .await;
    let id = proto::GetAccountSettlementRequest {
        id: BAD_ID.to_owned(),
        ..Default::default()
    };
    caller
        .refused(Rpc::GetAccountSettlement, Code::InvalidArgument, &id)
        .await;
    let sent = proto::CreateBillingDetailsRequest {
        request_id: BAD_ID.to_owned(),
        billing_details: Some(company("acct-other")),
    };
    caller
        .refused(Rpc::CreateBillingDetails, Code::InvalidArgument, &sent)
        .await;
    let missing = proto::GetBillingDetailsRequest {
        account_id: "acct-nobody".to_owned(),
    };
    caller.refused(Rpc::GetBillingDetails, Code::NotFound, &missing).await;
    assert!(caller.refusals > 20);
}

async fn settle(caller: &mut Caller) -> String {
    let entries = [
        ("acct-company", "EUR"),
        ("acct-company", "USD"),
        ("acct-company", "GBP"),
        ("acct-person", "EUR"),
        ("acct-person", "USD"),
        ("acct-tipalti", "EUR"),
        ("acct-import", "EUR"),
    ];
    let entries = entries.map(|(account_id, currency)| entry(&request_id(), account_id, "10", currency));
    let request = proto::PostEntriesRequest {
        entries: entries.to_vec(),
        request_id: request_id(),
    };
    let () = caller.done(Rpc::PostEntries, &request).await;
    let request = proto::StreamEntriesRequest {
        chunk_id: "1".to_owned(),
        entries: vec![entry("streamed", "acct-company", "1", "EUR")],
    };
    let () = caller.done(Rpc::StreamEntries, &request).await;
    let account_id = "acct-company".to_owned();
    let request = proto::ListEntriesRequest {
        account_id: account_id.clone(),
        ..Default::default()
    };
    let () = caller.done(Rpc::ListEntries, &request).await;
    let () = caller
        .done(Rpc::ListOpenBalances, &proto::ListOpenBalancesRequest::default())
        .await;
    let summarize = proto::SummarizeOpenBalancesRequest::default();
    let () = caller.done(Rpc::SummarizeOpenBalances, &summarize).await;
    let request = proto::HoldPayoutsRequest {
        account_id: account_id.clone(),
        reason: "looked into".to_owned(),
        request_id: request_id(),
    };
    let () = caller.done(Rpc::HoldPayouts, &request).await;
    let () = caller
        .done(Rpc::ListPayoutHolds, &proto::ListPayoutHoldsRequest::default())
        .await;
    let request = proto::ReleasePayoutsRequest {
        account_id,
        request_id: request_id(),
    };
    let () = caller.done(Rpc::ReleasePayouts, &request).await;
    let request = proto::SettleBalancesRequest {
        request_id: request_id(),
        all_accounts: true,
        selection: Some(proto::settle_balances_request::Selection::Filter(
            proto::BalanceFilter::default(),
        )),
        ..Default::default()
    };
    let first: proto::SettleBalancesResponse = caller.done(Rpc::SettleBalances, &request).await;
    let id = first.settlement.unwrap().id;
    let () = caller.done(Rpc::SettleBalances, &request).await;
    let () = caller
        .done(Rpc::ListSettlements, &proto::ListSettlementsRequest::default())
        .await;
    let () = caller
        .done(Rpc::GetSettlement, &proto::GetSettlementRequest { id: id.clone() })
        .await;
    let request = proto::ListSkippedAccountsRequest {
        settlement_id: id.clone(),
        ..Default::default()
    };
    let () = caller.done(Rpc::ListSkippedAccounts, &request).await;
    id
}

/// Whoever settled may not, and another may.
async fn approve(caller: &mut Caller, approver: &Known, settlement_id: &str) {
    let request = proto::ApproveSettlementRequest {
        id: settlement_id.to_owned(),
        request_id: request_id(),
        ..Default::default()
    };
    caller
        .refused(Rpc::ApproveSettlement, Code::FailedPrecondition, &request)
        .await;
    let own = std::mem::replace(&mut caller.authorization, approver.authorization());
    let () = caller.done(Rpc::ApproveSettlement, &request).await;
    caller.authorization = own;
}

async fn pay(caller: &mut Caller, fake: &FakeTipalti, settlement_id: &str) {
    let request = proto::ListAccountSettlementsRequest {
        settlement_id: settlement_id.to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    let answer: proto::ListAccountSettlementsResponse = caller.done(Rpc::ListAccountSettlements, &request).await;
    let rows = answer.account_settlements;
    assert_eq!(rows.len(), 7);
    for row in &rows {
        let request = proto::GetAccountSettlementRequest {
            id: row.id.clone(),
            ..Default::default()
        };
        let () = caller.done(Rpc::GetAccountSettlement, &request).await;
        let full = proto::GetAccountSettlementRequest {
            id: row.id.clone(),
            view: View::Full.into(),
        };
        caller
            .refused(Rpc::GetAccountSettlement, Code::PermissionDenied, &full)
            .await;
    }
    let by_hand: Vec<&proto::AccountSettlement> = rows
        .iter()
        .filter(|row| !["acct-tipalti", "acct-import"].contains(&row.account_id.as_str()))
        .collect();
    let request = proto::UpdateAccountSettlementStatusRequest {
        id: by_hand[0].id.clone(),
        status: RowStatus::Paid.into(),
        request_id: request_id(),
        ..Default::default()
    };
    let () = caller.done(Rpc::UpdateAccountSettlementStatus, &request).await;
    let request = proto::BulkUpdateAccountSettlementStatusRequest {
        chunk_id: "1".to_owned(),
        target_status: RowStatus::InProgress.into(),
        // An id that is none is told back to whom it is from.
        account_settlement_ids: vec![by_hand[1].id.clone(), "no-id".to_owned()],
        request_id: request_id(),
        ..Default::default()
    };
    let () = caller.done(Rpc::BulkUpdateAccountSettlementStatus, &request).await;
    let request = proto::BulkUpdateSettlementStatusRequest {
        settlement_id: settlement_id.to_owned(),
        expected_status: RowStatus::InProgress.into(),
        target_status: RowStatus::New.into(),
        request_id: request_id(),
        ..Default::default()
    };
    let () = caller.done(Rpc::BulkUpdateSettlementStatus, &request).await;
    let request = proto::ListStatusChangesRequest {
        account_settlement_id: by_hand[0].id.clone(),
        ..Default::default()
    };
    let () = caller.done(Rpc::ListStatusChanges, &request).await;
    let request = proto::DeleteAccountSettlementRequest {
        id: by_hand[1].id.clone(),
        request_id: request_id(),
        ..Default::default()
    };
    let () = caller.done(Rpc::DeleteAccountSettlement, &request).await;
    through_tipalti(caller, fake, settlement_id, &rows).await;
}

async fn through_tipalti(
    caller: &mut Caller,
    fake: &FakeTipalti,
    settlement_id: &str,
    rows: &[proto::AccountSettlement],
) {
    let submit = proto::SubmitSettlementRequest {
        settlement_id: settlement_id.to_owned(),
        request_id: request_id(),
    };
    let () = caller.done(Rpc::SubmitSettlement, &submit).await;
    let text = format!("account {IBAN} and {AMERICAN_ACCOUNT} of {EMAIL} is closed");
    let row = rows.iter().find(|row| row.account_id == "acct-tipalti").unwrap();
    assert!(fake.set_status(&row.id, "REJECTED", "AccountClosed", &text));
    let sync = proto::SyncSettlementRequest {
        settlement_id: settlement_id.to_owned(),
    };
    let () = caller.done(Rpc::SyncSettlement, &sync).await;
    fake.set_payee(Payee {
        id: PAYEE.to_owned(),
        ref_code: None,
        is_payable: false,
        reason_code: Some("TaxFormsMissing".to_owned()),
        reason: Some(format!("no tax form of {EMAIL}, {IBAN}")),
    });
    let data = json!({
        "payeeId": PAYEE, "isPayable": false, "status": "X", "statusReason": format!("no tax form of {EMAIL}"),
        "name": LEGAL_NAME, "email": EMAIL, "bankAccount": {"iban": IBAN, "holder": HOLDER}, "street": ADDRESS_LINE,
    });
    let (_, answer) = fake
        .send_event("payeeDetailsChanged", data, None, Delivery::default())
        .await;
    assert_eq!(answer, 200);
    let data = json!({"refCode": row.id, "paymentStatus": "REJECTED", "errorDescription": text, "payeeId": PAYEE, "iban": IBAN,
        "payeeName": format!("{GIVEN_NAME} {FAMILY_NAME}")});
    let (_, answer) = fake.send_event("paymentError", data, None, Delivery::default()).await;
    assert_eq!(answer, 200);
    // What is no event, and what is not signed.
    let forged = Delivery {
        has_wrong_signature: true,
        ..Delivery::default()
    };
    let body = format!("{{\"id\":\"e\",\"type\":\"x\",\"eventData\":{{\"iban\":\"{IBAN}\"}}}}");
    assert!(fake.send_raw(&body, forged).await >= 400);
    assert!(fake.send_raw(&format!("{IBAN} {EMAIL}"), Delivery::default()).await >= 400);
    let () = caller
        .done(Rpc::ListTipaltiEvents, &proto::ListTipaltiEventsRequest::default())
        .await;
    let () = caller
        .done(Rpc::ListPayoutAlarms, &proto::ListPayoutAlarmsRequest::default())
        .await;
    let get = proto::GetAccountSettlementRequest {
        id: row.id.clone(),
        ..Default::default()
    };
    let shown: proto::GetAccountSettlementResponse = caller.done(Rpc::GetAccountSettlement, &get).await;
    assert_eq!(shown.account_settlement.unwrap().status(), RowStatus::Error);
}

async fn clear_up(caller: &mut Caller, methods: &[proto::PaymentMethod]) {
    let request = proto::SettleBalancesRequest {
        request_id: request_id(),
        all_accounts: true,
        selection: Some(proto::settle_balances_request::Selection::Filter(
            proto::BalanceFilter::default(),
        )),
        ..Default::default()
    };
    let again: proto::SettleBalancesResponse = caller.done(Rpc::SettleBalances, &request).await;
    let request = proto::DeleteSettlementRequest {
        id: again.settlement.unwrap().id,
        request_id: request_id(),
        ..Default::default()
    };
    let () = caller.done(Rpc::DeleteSettlement, &request).await;
    let request = proto::DeletePaymentMethodRequest {
        id: methods[3].id.clone(),
        etag: String::new(),
        request_id: request_id(),
    };
    let () = caller.done(Rpc::DeletePaymentMethod, &request).await;
    let request = proto::DeleteBillingDetailsRequest {
        account_id: "acct-new".to_owned(),
        etag: String::new(),
        request_id: request_id(),
    };
    let () = caller.done(Rpc::DeleteBillingDetails, &request).await;
}

/// Health, reflection, those whom nobody knows, and what the service does by itself.
async fn look_around(caller: &mut Caller, fake: &FakeTipalti) {
    let () = caller.done(Rpc::HealthCheck, &()).await;
    // `list_services` of both versions.
    let list = [0x3a, 0x01, b'*'].to_vec();
    for (rpc, message) in [
        (Rpc::HealthWatch, Vec::new()),
        (Rpc::ServerReflectionInfoV1, list.clone()),
        (Rpc::ServerReflectionInfoV1Alpha, list),
    ] {
        let answer = first_answer(&caller.channel, rpc.path(), Some(&caller.authorization), message).await;
        caller.keep(rpc, &answer.unwrap().unwrap());
        caller.answered.insert(rpc.path());
    }
    // A token that nobody has is a secret of somebody.
    let authorization = format!("Bearer {BAD_ID}");
    let stranger = first_answer(
        &caller.channel,
        Rpc::ListSettlements.path(),
        Some(&authorization),
        Vec::new(),
    )
    .await;
    let status = stranger.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let told = format!("{status:?}");
    caller
        .places
        .push((Place::new("an error to strangers", told.as_bytes()), false));
    until("payees are asked for", async || fake.requests("payees") > 0).await;
}
