//! Imports of billing details and payment methods: what becomes of each item, what is written, and what concurrent callers see.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use affiliate_billing::proto;
use affiliate_billing::proto::billing_details_service_client::BillingDetailsServiceClient;
use affiliate_billing::proto::payment_method::Details;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use affiliate_billing::proto::{BillingDetails, ImportOutcome, PaymentMethod};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::iter;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::app::App;
use crate::support::fixtures::{
    IBAN, bank_method, billing_details, entry, request_id, settle_accounts, tipalti_method,
};
use crate::support::harness::scenarios;
use crate::support::observed::Observer;
use crate::support::rows::{assert_refused, drained, reason_of, violated_fields};
use crate::support::tables::Tables;

scenarios![
    every_billing_details_item_is_answered_in_order,
    every_payment_method_item_is_answered_in_order,
    a_chunk_that_is_sent_again_writes_nothing,
    a_request_id_answers_a_chunk_again_and_does_not_undo_a_newer_change,
    a_chunk_has_one_to_a_thousand_items,
    an_invalid_chunk_ends_the_stream_and_earlier_ones_stay,
    each_chunk_is_answered_once_it_is_committed,
    imported_billing_details_are_those_that_are_created,
    imported_payment_methods_are_those_that_are_created,
    an_item_that_changes_is_as_if_it_were_updated,
    billing_details_are_rejected_for_what_create_refuses,
    payment_methods_are_rejected_for_what_create_refuses,
    an_item_replaces_the_whole_record,
    the_first_method_of_a_currency_is_the_default_and_the_last_that_asks_takes_over,
    a_method_that_is_no_item_hands_its_default_on,
    payees_are_found_and_shared,
    what_was_settled_keeps_its_versions_and_others_are_deleted_in_time,
    concurrent_imports_in_any_order_leave_one_record_each,
    imports_and_single_calls_race_and_both_succeed,
    settling_goes_on_while_payees_are_imported,
    an_unread_import_takes_no_more_chunks;
];

type DetailsChunk = proto::ImportBillingDetailsRequest;
type DetailsAnswer = proto::ImportBillingDetailsResponse;
type MethodsChunk = proto::ImportPaymentMethodsRequest;
type MethodsAnswer = proto::ImportPaymentMethodsResponse;

const CREATED: &str = "CREATED";
const UPDATED: &str = "UPDATED";
const UNCHANGED: &str = "UNCHANGED";
const DUPLICATE: &str = "REJECTED DUPLICATE_KEY";
const OTHER_IBAN: &str = "GB33BUKB20201555555555";

fn details_chunk(items: Vec<BillingDetails>) -> DetailsChunk {
    DetailsChunk {
        billing_details: items,
        ..Default::default()
    }
}

fn methods_chunk(items: Vec<PaymentMethod>) -> MethodsChunk {
    MethodsChunk {
        payment_methods: items,
        ..Default::default()
    }
}

fn shown(outcome: ImportOutcome, reason: &str, field: &str) -> String {
    let name = outcome.as_str_name().strip_prefix("IMPORT_OUTCOME_").unwrap();
    [name, reason, field].join(" ").trim_end().to_owned()
}

fn details_outcomes(answer: &DetailsAnswer) -> Vec<String> {
    let results = answer.results.iter();
    results
        .map(|result| shown(result.outcome(), &result.reason, &result.field))
        .collect()
}

fn methods_outcomes(answer: &MethodsAnswer) -> Vec<String> {
    let results = answer.results.iter();
    results
        .map(|result| shown(result.outcome(), &result.reason, &result.field))
        .collect()
}

impl App {
    async fn import_details(&self, chunks: Vec<DetailsChunk>) -> (Vec<DetailsAnswer>, Option<Status>) {
        let answers = self.billing_details().import_billing_details(iter(chunks)).await;
        drained(answers.unwrap().into_inner()).await
    }

    async fn import_methods(&self, chunks: Vec<MethodsChunk>) -> (Vec<MethodsAnswer>, Option<Status>) {
        let answers = self.payment_methods().import_payment_methods(iter(chunks)).await;
        drained(answers.unwrap().into_inner()).await
    }

    /// Imports one chunk that must be answered; what became of its items.
    async fn details_imported(&self, items: Vec<BillingDetails>) -> Vec<String> {
        details_outcomes(&one(self.import_details(vec![details_chunk(items)]).await))
    }

    async fn methods_imported(&self, items: Vec<PaymentMethod>) -> Vec<String> {
        methods_outcomes(&one(self.import_methods(vec![methods_chunk(items)]).await))
    }

    async fn details_of(&self, account_id: &str) -> BillingDetails {
        let request = proto::GetBillingDetailsRequest {
            account_id: account_id.to_owned(),
        };
        let answer = self.billing_details().get_billing_details(request).await.unwrap();
        answer.into_inner().billing_details.unwrap()
    }

    /// The methods of an account in full, in the order in which they were made.
    async fn methods_of(&self, account_id: &str) -> Vec<PaymentMethod> {
        let request = proto::ListPaymentMethodsRequest {
            account_id: account_id.to_owned(),
            view: proto::View::Full.into(),
            page_size: 1000,
            ..Default::default()
        };
        let answer = self.payment_methods().list_payment_methods(request).await.unwrap();
        answer.into_inner().payment_methods
    }

    /// Type and etag of an account's methods in a currency, by type; the default with a star.
    async fn shown_methods(&self, account_id: &str, currency_code: &str) -> Vec<String> {
        let methods = self.methods_of(account_id).await;
        let mut shown: Vec<String> = methods
            .iter()
            .filter(|method| method.currency_code == currency_code)
            .map(|method| {
                let star = if method.default { "*" } else { "" };
                format!("{}{star} {}", method.type_id, method.etag)
            })
            .collect();
        shown.sort();
        shown
    }

    async fn set_type_enabled(&self, id: &str, enabled: bool) {
        let request = proto::UpdatePaymentMethodTypeRequest {
            payment_method_type: Some(proto::PaymentMethodType {
                id: id.to_owned(),
                enabled: Some(enabled),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.payment_methods()
            .update_payment_method_type(request)
            .await
            .unwrap();
    }

    async fn with_wallet_type(&self) {
        let request = proto::CreatePaymentMethodTypeRequest {
            payment_method_type: Some(wallet_type()),
            ..Default::default()
        };
        self.payment_methods()
            .create_payment_method_type(request)
            .await
            .unwrap();
    }
}

fn one<A>((mut answers, end): (Vec<A>, Option<Status>)) -> A {
    assert!(end.is_none(), "{end:?}");
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn changed<T: Clone>(message: &T, change: impl FnOnce(&mut T)) -> T {
    let mut message = message.clone();
    change(&mut message);
    message
}

fn living_in(account_id: &str, locality: &str) -> BillingDetails {
    changed(&billing_details(account_id), |details| {
        details.address.as_mut().unwrap().locality = locality.to_owned();
    })
}

fn locality(details: &BillingDetails) -> &str {
    &details.address.as_ref().unwrap().locality
}

fn with_details(account_id: &str, currency_code: &str, details: Details) -> PaymentMethod {
    PaymentMethod {
        account_id: account_id.to_owned(),
        currency_code: currency_code.to_owned(),
        details: Some(details),
        ..Default::default()
    }
}

fn bank(account_id: &str, iban: &str) -> PaymentMethod {
    let mut method = bank_method(account_id, "EUR");
    if let Some(Details::BankTransfer(transfer)) = &mut method.details {
        transfer.iban = iban.to_owned();
    }
    method
}

fn paypal(account_id: &str, currency_code: &str) -> PaymentMethod {
    let email = format!("{account_id}@example.com");
    with_details(account_id, currency_code, Details::Paypal(proto::Paypal { email }))
}

fn custom(account_id: &str, type_id: &str, fields: &[(&str, &str)]) -> PaymentMethod {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let details = Details::Custom(proto::CustomPayment {
        type_id: type_id.to_owned(),
        fields: fields.collect(),
    });
    with_details(account_id, "USD", details)
}

fn wallet(account_id: &str) -> PaymentMethod {
    custom(account_id, "wallet", &[("network", "base"), ("address", "0x00112233")])
}

fn by_default(method: PaymentMethod) -> PaymentMethod {
    PaymentMethod {
        default: true,
        ..method
    }
}

/// In USD alone, with a field that has a pattern and one that is secret.
fn wallet_type() -> proto::PaymentMethodType {
    let field = |name: &str, pattern: &str, secret| proto::PaymentMethodField {
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        required: true,
        secret,
        ..Default::default()
    };
    proto::PaymentMethodType {
        id: "wallet".to_owned(),
        display_name: "Wallet".to_owned(),
        currency_codes: vec!["USD".to_owned()],
        fields: vec![
            field("network", "base|ethereum", false),
            field("address", "0x[0-9a-f]{8}", true),
        ],
        ..Default::default()
    }
}

async fn every_billing_details_item_is_answered_in_order(app: App) {
    app.with_billing_details("same").await;
    app.with_billing_details("moved").await;
    let before = app.details_of("same").await;
    let long = "a".repeat(200);
    let items = vec![
        billing_details("new-2"),
        changed(&billing_details("bad"), |details| details.tax_id = "!".to_owned()),
        billing_details("same"),
        living_in("moved", "Bonn"),
        living_in("new-2", "Bonn"),
        billing_details("two words"),
        BillingDetails::default(),
        billing_details(&long),
        billing_details("new-1"),
        living_in("moved", "Kiel"),
        // What was wrong takes no account from what is right.
        billing_details("bad"),
    ];
    let sent: Vec<String> = items.iter().map(|item| item.account_id.clone()).collect();
    let answer = one(app.import_details(vec![details_chunk(items)]).await);
    let expected = [
        CREATED,
        "REJECTED INVALID_REQUEST tax_id",
        UNCHANGED,
        UPDATED,
        DUPLICATE,
        "REJECTED INVALID_REQUEST account_id",
        "REJECTED INVALID_REQUEST account_id",
        "REJECTED INVALID_REQUEST account_id",
        CREATED,
        DUPLICATE,
        CREATED,
    ];
    assert_eq!(details_outcomes(&answer), expected);
    for (result, sent) in answer.results.iter().zip(&sent) {
        assert_eq!(result.account_id, sent.chars().take(128).collect::<String>());
        let is_rejected = result.outcome() == ImportOutcome::Rejected;
        assert_eq!(!result.message.is_empty(), is_rejected, "{result:?}");
    }
    assert_eq!(app.details_of("same").await, before);
    assert_eq!(locality(&app.details_of("moved").await), "Bonn");
    assert_eq!(locality(&app.details_of("new-2").await), "Berlin");
    let tables = Tables::open(&app.database_url).await;
    assert_eq!(tables.count("billing_details").await, 5);
    assert_eq!(tables.count("billing_details_versions").await, 6);
    tables.close().await;
}

async fn every_payment_method_item_is_answered_in_order(app: App) {
    app.with_wallet_type().await;
    let same = app.with_method(bank("same", IBAN)).await;
    app.with_method(bank("moved", IBAN)).await;
    let second = app.with_method(paypal("moved", "EUR")).await;
    app.with_method(bank("asks", IBAN)).await;
    app.with_method(paypal("asks", "EUR")).await;
    app.with_method(tipalti_method("old", "EUR")).await;
    app.set_type_enabled("tipalti", false).await;
    let secret = |value: &str| custom("aff-1", "wallet", &[("network", "base"), ("address", value)]);
    let items = vec![
        bank("aff-1", "de89 3704 0044 0532 0130 00"),
        bank("same", IBAN),
        bank("moved", OTHER_IBAN),
        paypal("moved", "EUR"),
        by_default(paypal("asks", "EUR")),
        bank("asks", IBAN),
        bank("aff-1", OTHER_IBAN),
        bank("aff-2", "DE00"),
        bank("aff-2", "****3000"),
        with_details("aff-2", "EUX", paypal("aff-2", "EUR").details.unwrap()),
        PaymentMethod {
            details: None,
            ..paypal("aff-2", "EUR")
        },
        paypal("aff-2", "KWD"),
        custom("aff-1", "nothing", &[]),
        tipalti_method("aff-2", "EUR"),
        tipalti_method("old", "EUR"),
        secret("0x"),
        custom("aff-1", "wallet", &[("network", "base")]),
        secret("****2233"),
        secret("0x00112233"),
        secret("0x44556677"),
        paypal("aff-1", "EUR"),
        paypal("aff-1", "USD"),
    ];
    let answer = one(app.import_methods(vec![methods_chunk(items.clone())]).await);
    let expected = [
        CREATED,
        UNCHANGED,
        UPDATED,
        UNCHANGED,
        UPDATED,
        UPDATED,
        DUPLICATE,
        "REJECTED INVALID_REQUEST bank_transfer.iban",
        "REJECTED INVALID_REQUEST bank_transfer.iban",
        "REJECTED INVALID_REQUEST currency_code",
        "REJECTED INVALID_REQUEST details",
        "REJECTED INVALID_REQUEST currency_code",
        "REJECTED PAYMENT_METHOD_TYPE_NOT_FOUND",
        "REJECTED PAYMENT_METHOD_TYPE_DISABLED",
        "REJECTED PAYMENT_METHOD_TYPE_DISABLED",
        "REJECTED INVALID_REQUEST custom.fields[address]",
        "REJECTED INVALID_REQUEST custom.fields[address]",
        "REJECTED INVALID_REQUEST custom.fields[address]",
        CREATED,
        DUPLICATE,
        CREATED,
        CREATED,
    ];
    assert_eq!(methods_outcomes(&answer), expected);
    for (result, sent) in answer.results.iter().zip(&items) {
        let key = (result.account_id.as_str(), result.currency_code.as_str());
        assert_eq!(key, (sent.account_id.as_str(), sent.currency_code.as_str()));
        let is_rejected = result.outcome() == ImportOutcome::Rejected;
        assert_eq!(result.id.is_empty(), is_rejected, "{result:?}");
        assert_eq!(!result.message.is_empty(), is_rejected, "{result:?}");
    }
    let types: Vec<&str> = answer.results.iter().map(|result| result.type_id.as_str()).collect();
    assert_eq!(types[9..14], ["paypal", "", "paypal", "nothing", "tipalti"]);
    assert_eq!((&answer.results[1].id, &answer.results[3].id), (&same.id, &second.id));
    assert_eq!(app.shown_methods("same", "EUR").await, ["bank_transfer* 1"]);
    assert_eq!(
        app.shown_methods("moved", "EUR").await,
        ["bank_transfer* 2", "paypal 1"]
    );
    assert_eq!(app.shown_methods("asks", "EUR").await, ["bank_transfer 2", "paypal* 2"]);
    assert_eq!(
        app.shown_methods("aff-1", "EUR").await,
        ["bank_transfer* 1", "paypal 1"]
    );
    assert_eq!(app.shown_methods("aff-1", "USD").await, ["paypal 1", "wallet* 1"]);
    assert!(app.methods_of("aff-2").await.is_empty());
}

async fn a_chunk_that_is_sent_again_writes_nothing(app: App) {
    app.with_wallet_type().await;
    app.with_method(by_default(tipalti_method("aff-3", "EUR"))).await;
    let details: Vec<BillingDetails> = (0..20)
        .map(|number| billing_details(&format!("aff-{number}")))
        .collect();
    let mut methods: Vec<PaymentMethod> = (0..20).map(|number| bank(&format!("aff-{number}"), IBAN)).collect();
    methods.extend([
        by_default(paypal("aff-1", "EUR")),
        by_default(bank("aff-2", OTHER_IBAN)),
        by_default(paypal("aff-3", "EUR")),
        by_default(tipalti_method("aff-1", "EUR")),
        wallet("aff-1"),
    ]);
    assert_eq!(app.details_imported(details.clone()).await, [CREATED; 20]);
    app.methods_imported(methods.clone()).await;
    let tables = Tables::open(&app.database_url).await;
    let before = tables.dump().await;
    assert_eq!(app.details_imported(details).await, [UNCHANGED; 20]);
    let again = app.methods_imported(methods).await;
    assert_eq!(again.len(), 25);
    for (outcome, index) in again.iter().zip(0..) {
        // The same account and type as one before it.
        assert_eq!(outcome, if index == 21 { DUPLICATE } else { UNCHANGED }, "{index}");
    }
    assert!(before == tables.dump().await, "a repeat wrote something");
    tables.close().await;
}

async fn a_request_id_answers_a_chunk_again_and_does_not_undo_a_newer_change(app: App) {
    let chunk = DetailsChunk {
        chunk_id: "first".to_owned(),
        request_id: request_id(),
        ..details_chunk(vec![living_in("aff-1", "Bonn"), BillingDetails::default()])
    };
    let first = one(app.import_details(vec![chunk.clone()]).await);
    assert_eq!(
        details_outcomes(&first),
        [CREATED, "REJECTED INVALID_REQUEST account_id"]
    );
    assert_eq!(app.details_imported(vec![living_in("aff-1", "Kiel")]).await, [UPDATED]);
    assert_eq!(one(app.import_details(vec![chunk.clone()]).await), first);
    // The chunk's id belongs to the stream, not to what is remembered.
    let renamed = changed(&chunk, |chunk| chunk.chunk_id = "second".to_owned());
    let answer = one(app.import_details(vec![renamed]).await);
    assert_eq!((answer.chunk_id.as_str(), &answer.results), ("second", &first.results));
    assert_eq!(locality(&app.details_of("aff-1").await), "Kiel");
    let other = changed(&chunk, |chunk| chunk.billing_details[0].tax_id = "87654321".to_owned());
    let other_problem = changed(&chunk, |chunk| chunk.billing_details[1].account_id = "aff-2".to_owned());
    for other in [other, other_problem] {
        let (answers, end) = app.import_details(vec![other, chunk.clone()]).await;
        assert!(answers.is_empty());
        assert_refused(
            Err::<(), _>(end.unwrap()),
            Code::FailedPrecondition,
            "REQUEST_ID_REUSED",
        );
    }

    let chunk = MethodsChunk {
        request_id: request_id(),
        ..methods_chunk(vec![bank("aff-1", IBAN), paypal("aff-1", "EUR")])
    };
    let first = one(app.import_methods(vec![chunk.clone()]).await);
    assert_eq!(methods_outcomes(&first), [CREATED, CREATED]);
    assert_eq!(app.methods_imported(vec![bank("aff-1", OTHER_IBAN)]).await, [UPDATED]);
    let normalised = changed(&chunk, |chunk| {
        chunk.payment_methods[0] = bank("aff-1", "de89 3704 0044 0532 0130 00");
    });
    assert_eq!(one(app.import_methods(vec![normalised]).await), first);
    assert_eq!(
        app.shown_methods("aff-1", "EUR").await,
        ["bank_transfer* 2", "paypal 1"]
    );
    let other = changed(&chunk, |chunk| chunk.payment_methods[1].default = true);
    let (answers, end) = app.import_methods(vec![other]).await;
    assert!(answers.is_empty());
    assert_refused(
        Err::<(), _>(end.unwrap()),
        Code::FailedPrecondition,
        "REQUEST_ID_REUSED",
    );
}

fn many_details(count: usize) -> Vec<BillingDetails> {
    (0..count)
        .map(|number| billing_details(&format!("aff-{number}")))
        .collect()
}

async fn a_chunk_has_one_to_a_thousand_items(app: App) {
    assert_eq!(app.details_imported(many_details(1000)).await, [CREATED; 1000]);
    let mut moved = many_details(1000);
    for details in moved.iter_mut().step_by(2) {
        details.email = "ada@example.com".to_owned();
    }
    let outcomes = app.details_imported(moved).await;
    assert_eq!(outcomes[..4], [UPDATED, UNCHANGED, UPDATED, UNCHANGED]);
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == UPDATED).count(), 500);
    let methods: Vec<PaymentMethod> = (0..1000).map(|number| bank(&format!("aff-{number}"), IBAN)).collect();
    assert_eq!(app.methods_imported(methods.clone()).await, [CREATED; 1000]);
    let others = methods
        .iter()
        .map(|method| bank(&method.account_id, OTHER_IBAN))
        .collect();
    assert_eq!(app.methods_imported(others).await, [UPDATED; 1000]);
    let payees: Vec<PaymentMethod> = methods
        .iter()
        .map(|method| tipalti_method(&method.account_id, "EUR"))
        .collect();
    assert_eq!(app.methods_imported(payees).await, [CREATED; 1000]);
    let tables = Tables::open(&app.database_url).await;
    let rows = [
        ("billing_details", 1000),
        ("billing_details_versions", 1500),
        ("payment_methods", 2000),
        ("payees", 1000),
    ];
    for (table, count) in rows {
        assert_eq!(tables.count(table).await, count, "{table}");
    }
    tables.close().await;

    let too_many: Vec<PaymentMethod> = (0..1001).map(|number| bank(&format!("more-{number}"), IBAN)).collect();
    for items in [Vec::new(), too_many] {
        let (answers, end) = app.import_methods(vec![methods_chunk(items)]).await;
        assert!(answers.is_empty());
        let status = assert_refused(Err::<(), _>(end.unwrap()), Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(violated_fields(&status), ["payment_methods"]);
    }
    assert!(app.methods_of("more-1").await.is_empty());
}

async fn an_invalid_chunk_ends_the_stream_and_earlier_ones_stay(app: App) {
    let invalid = [
        (details_chunk(Vec::new()), "billing_details"),
        (details_chunk(many_details(1001)), "billing_details"),
        (
            DetailsChunk {
                chunk_id: "c".repeat(129),
                ..details_chunk(many_details(1))
            },
            "chunk_id",
        ),
        (
            DetailsChunk {
                request_id: "nope".to_owned(),
                ..details_chunk(many_details(1))
            },
            "request_id",
        ),
    ];
    for ((invalid, field), number) in invalid.into_iter().zip(1..) {
        let (before, after) = (format!("before-{number}"), format!("after-{number}"));
        let chunks = vec![
            details_chunk(vec![billing_details(&before)]),
            invalid,
            details_chunk(vec![billing_details(&after)]),
        ];
        let (answers, end) = app.import_details(chunks).await;
        assert_eq!(answers.len(), 1);
        assert_eq!(details_outcomes(&answers[0]), [CREATED]);
        let status = assert_refused(Err::<(), _>(end.unwrap()), Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(violated_fields(&status), [field]);
    }
    let tables = Tables::open(&app.database_url).await;
    let accounts = tables
        .texts("SELECT account_id FROM billing_details ORDER BY account_id")
        .await;
    assert_eq!(accounts, ["before-1", "before-2", "before-3", "before-4"]);
    tables.close().await;
}

async fn each_chunk_is_answered_once_it_is_committed(app: App) {
    let (sender, chunks) = mpsc::channel(1);
    let mut client = app.billing_details();
    let answers = client.import_billing_details(ReceiverStream::new(chunks)).await;
    let mut answers = answers.unwrap().into_inner();
    for (town, number) in [("Bonn", 1), ("Kiel", 2), ("Bonn", 3)] {
        let chunk = DetailsChunk {
            chunk_id: number.to_string(),
            ..details_chunk(vec![living_in("aff-1", town)])
        };
        sender.send(chunk).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.chunk_id, number.to_string());
        assert_eq!(locality(&app.details_of("aff-1").await), town);
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
}

/// Details of every kind, as they may be sent.
fn details_of_every_kind(account_id: &str) -> Vec<BillingDetails> {
    let base = billing_details(account_id);
    let company = changed(&base, |details| {
        details.party = Some(proto::billing_details::Party::Company(proto::Company {
            legal_name: "Byron GmbH".to_owned(),
            registration_number: "HRB 1".to_owned(),
        }));
        details.vat_id = "de 136 695 976".to_owned();
        details.tax_id.clear();
        details.email = "billing@example.com".to_owned();
        let address = details.address.as_mut().unwrap();
        address.administrative_area = "Berlin".to_owned();
        address.address_lines = vec!["Hof 2".to_owned(), "Invalidenstr. 1".to_owned()];
    });
    // Output only, or of another state: not read.
    let with_output = changed(&base, |details| {
        details.etag = "other".to_owned();
        details.create_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    });
    vec![base, company, with_output]
}

/// Without what tells two records of the same content apart.
fn content_of(details: BillingDetails) -> BillingDetails {
    BillingDetails {
        account_id: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..details
    }
}

async fn imported_billing_details_are_those_that_are_created(app: App) {
    let created = details_of_every_kind("created");
    let imported = details_of_every_kind("imported");
    for ((created, imported), number) in created.into_iter().zip(imported).zip(1..) {
        let (one_id, other_id) = (format!("created-{number}"), format!("imported-{number}"));
        let request = proto::CreateBillingDetailsRequest {
            billing_details: Some(changed(&created, |details| details.account_id = one_id.clone())),
            ..Default::default()
        };
        app.billing_details().create_billing_details(request).await.unwrap();
        let item = changed(&imported, |details| details.account_id = other_id.clone());
        assert_eq!(app.details_imported(vec![item]).await, [CREATED]);
        let (one, other) = (app.details_of(&one_id).await, app.details_of(&other_id).await);
        assert!(!other.etag.is_empty() && other.create_time.is_some() && other.update_time == other.create_time);
        assert!(content_of(one) == content_of(other), "kind {number}");
        // And what was created is to an import what it imported itself.
        let again = changed(&created, |details| details.account_id = one_id.clone());
        assert_eq!(app.details_imported(vec![again]).await, [UNCHANGED]);
    }
    assert_alike(
        &app,
        "billing_details_versions",
        "actor, key_id, CAST(length(sealed) AS text)",
    )
    .await;
}

/// Whether the rows of `created-...` and `imported-...` accounts are the same in some columns.
async fn assert_alike(app: &App, table: &str, columns: &str) {
    let tables = Tables::open(&app.database_url).await;
    let columns = columns.split(", ").collect::<Vec<_>>().join(" || ' ' || ");
    let of = |accounts: &str| format!("SELECT {columns} FROM {table} WHERE account_id LIKE '{accounts}-%'");
    let mut created = tables.texts(&of("created")).await;
    let mut imported = tables.texts(&of("imported")).await;
    created.sort();
    imported.sort();
    assert!(!created.is_empty());
    assert_eq!(created, imported, "{table}");
    tables.close().await;
}

/// Methods of every kind, of one account.
fn methods_of_every_kind(account_id: &str) -> Vec<PaymentMethod> {
    let transfer = |transfer| with_details(account_id, "USD", Details::BankTransfer(transfer));
    let holder = proto::BankTransfer {
        account_holder_name: "Ada Byron".to_owned(),
        ..Default::default()
    };
    let dollars = transfer(proto::BankTransfer {
        routing_number: "021000021".to_owned(),
        account_number: "0012 3456".to_owned(),
        ..holder.clone()
    });
    let pounds = PaymentMethod {
        currency_code: "GBP".to_owned(),
        ..transfer(proto::BankTransfer {
            sort_code: "12-34-56".to_owned(),
            account_number: "31926819".to_owned(),
            ..holder.clone()
        })
    };
    let yen = PaymentMethod {
        currency_code: "JPY".to_owned(),
        ..transfer(proto::BankTransfer {
            bic: "botkjpjt".to_owned(),
            account_number: "1234567".to_owned(),
            bank_name: "MUFG".to_owned(),
            ..holder
        })
    };
    let tipalti = with_details(
        account_id,
        "EUR",
        Details::Tipalti(proto::Tipalti {
            payee_id: format!("payee-{}", &account_id[account_id.len() - 3..]),
            payable: Some(true),
            ..Default::default()
        }),
    );
    let optional = custom(
        account_id,
        "wallet",
        &[("network", "ethereum"), ("address", "0xaabbccdd")],
    );
    vec![
        bank(account_id, "de89 3704 0044 0532 0130 00"),
        paypal(account_id, "EUR"),
        tipalti,
        dollars,
        pounds,
        yen,
        optional,
        // Neither is read.
        PaymentMethod {
            id: "anything".to_owned(),
            etag: "7".to_owned(),
            ..with_details(
                account_id,
                "CHF",
                Details::Paypal(proto::Paypal {
                    email: "ada@example.com".to_owned(),
                }),
            )
        },
    ]
}

/// Without what tells two methods of the same content apart; the e-mail and payee are of the account.
fn method_content(method: &PaymentMethod) -> PaymentMethod {
    let mut content = PaymentMethod {
        id: String::new(),
        account_id: String::new(),
        create_time: None,
        update_time: None,
        // Each sees the other.
        shared_with_account_ids: Vec::new(),
        shared_with_account_count: 0,
        ..method.clone()
    };
    match &mut content.details {
        Some(Details::Paypal(paypal)) => paypal.email = paypal.email.replace(&method.account_id, "account"),
        Some(Details::Tipalti(tipalti)) => tipalti.payee_id = tipalti.payee_id.replace(&method.account_id, "account"),
        _ => {}
    }
    content
}

async fn imported_payment_methods_are_those_that_are_created(app: App) {
    app.with_wallet_type().await;
    for method in methods_of_every_kind("created-001") {
        app.with_method(method).await;
    }
    let imported = methods_of_every_kind("imported-01");
    let count = imported.len();
    assert_eq!(app.methods_imported(imported).await, vec![CREATED; count]);
    let created = app.methods_of("created-001").await;
    let mut imported = app.methods_of("imported-01").await;
    assert_eq!((created.len(), imported.len()), (count, count));
    let key = |method: &PaymentMethod| (method.currency_code.clone(), method.type_id.clone());
    imported.sort_by_key(|method| created.iter().position(|other| key(other) == key(method)));
    for (one, other) in created.iter().zip(&imported) {
        assert!(other.create_time.is_some() && other.update_time == other.create_time);
        let (one, other) = (method_content(one), method_content(other));
        if one.type_id == "tipalti" {
            assert_eq!((one.default, one.etag), (other.default, other.etag));
        } else {
            assert!(one == other, "{} {}", one.currency_code, one.type_id);
        }
    }
    assert_alike(
        &app,
        "payment_methods",
        "currency_code, type_id, CAST(revision AS text), CASE WHEN payee_id IS NULL THEN '' ELSE 'payee' END, \
            CASE WHEN payee_version_id = version_id THEN 'of this version' ELSE '' END",
    )
    .await;
    assert_alike(&app, "payment_method_versions", "currency_code, type_id, actor, key_id").await;
    // And what was created is to an import what it imported itself.
    let again = app.methods_imported(methods_of_every_kind("created-001")).await;
    assert_eq!(again, vec![UNCHANGED; count]);
}

async fn an_item_that_changes_is_as_if_it_were_updated(app: App) {
    app.with_billing_details("created-1").await;
    app.with_billing_details("imported-1").await;
    let before = app.details_of("imported-1").await;
    let request = proto::UpdateBillingDetailsRequest {
        billing_details: Some(living_in("created-1", "Bonn")),
        ..Default::default()
    };
    app.billing_details().update_billing_details(request).await.unwrap();
    assert_eq!(
        app.details_imported(vec![living_in("imported-1", "Bonn")]).await,
        [UPDATED]
    );
    let after = app.details_of("imported-1").await;
    assert!(after.etag != before.etag && after.create_time == before.create_time);
    assert!(content_of(app.details_of("created-1").await) == content_of(after));
    assert_alike(&app, "billing_details_versions", "actor, key_id").await;

    for account_id in ["created-1", "imported-1"] {
        app.with_method(bank(account_id, IBAN)).await;
    }
    let old = app.methods_of("created-1").await.remove(0);
    let request = proto::UpdatePaymentMethodRequest {
        payment_method: Some(PaymentMethod {
            id: old.id,
            ..bank("created-1", OTHER_IBAN)
        }),
        ..Default::default()
    };
    app.payment_methods().update_payment_method(request).await.unwrap();
    assert_eq!(
        app.methods_imported(vec![bank("imported-1", OTHER_IBAN)]).await,
        [UPDATED]
    );
    let (one, other) = (
        app.methods_of("created-1").await.remove(0),
        app.methods_of("imported-1").await.remove(0),
    );
    assert!(method_content(&one) == method_content(&other));
    assert_eq!(other.etag, "2");
    assert_alike(&app, "payment_method_versions", "currency_code, type_id, actor, key_id").await;
}

/// What Create says first of a message, as an import says it of an item.
fn first_violation(status: &Status, root: &str) -> (String, String) {
    let violation = status.get_details_bad_request().unwrap().field_violations.remove(0);
    let field = violation
        .field
        .strip_prefix(root)
        .unwrap()
        .trim_start_matches('.')
        .to_owned();
    (field, violation.description)
}

async fn billing_details_are_rejected_for_what_create_refuses(app: App) {
    let good = billing_details("aff-1");
    type Change = fn(&mut BillingDetails);
    let changes: [Change; 9] = [
        |details| details.party = None,
        |details| details.tax_id.clear(),
        |details| details.vat_id = "FR136695976".to_owned(),
        |details| details.address = None,
        |details| details.address.as_mut().unwrap().region_code = "XX".to_owned(),
        |details| details.address.as_mut().unwrap().address_lines = vec![" ".to_owned(); 6],
        |details| details.email = "a@b".to_owned(),
        |details| details.account_id = "a b".to_owned(),
        |details| *details = BillingDetails::default(),
    ];
    let items: Vec<BillingDetails> = changes.into_iter().map(|change| changed(&good, change)).collect();
    let answer = one(app.import_details(vec![details_chunk(items.clone())]).await);
    for (item, result) in items.into_iter().zip(&answer.results) {
        let request = proto::CreateBillingDetailsRequest {
            billing_details: Some(item),
            ..Default::default()
        };
        let status = app.billing_details().create_billing_details(request).await.unwrap_err();
        assert_eq!(result.reason, reason_of(&status));
        let found = (result.field.clone(), result.message.clone());
        assert_eq!(found, first_violation(&status, "billing_details"));
    }
    let tables = Tables::open(&app.database_url).await;
    assert_eq!(tables.count("billing_details_versions").await, 0);
    tables.close().await;
}

async fn payment_methods_are_rejected_for_what_create_refuses(app: App) {
    app.with_wallet_type().await;
    app.set_type_enabled("tipalti", false).await;
    let many: Vec<(String, String)> = (0..31).map(|number| (format!("f{number}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let items = vec![
        bank("", IBAN),
        bank("aff-1", ""),
        bank("aff-1", "DE89370400440532013001"),
        bank("aff-1", "****3000"),
        paypal("no-mail ", "EUR"),
        paypal("aff-1", "eur"),
        paypal("aff-1", "KWD"),
        PaymentMethod::default(),
        custom("aff-1", "paypal", &[]),
        custom("aff-1", "x", &[]),
        custom("aff-1", "nothing", &[]),
        custom("aff-1", "wallet", &[]),
        custom("aff-1", "wallet", &[("network", "tron"), ("address", "0x00112233")]),
        custom(
            "aff-1",
            "wallet",
            &[("network", "base"), ("address", "0x00112233"), ("more", "1")],
        ),
        custom("aff-1", "wallet", &[("network", "base"), ("address", "****2233")]),
        custom("aff-1", "wallet", &many),
        PaymentMethod {
            currency_code: "EUR".to_owned(),
            ..wallet("aff-1")
        },
        tipalti_method("aff-1", "EUR"),
    ];
    let answer = one(app.import_methods(vec![methods_chunk(items.clone())]).await);
    for (item, result) in items.into_iter().zip(&answer.results) {
        let request = proto::CreatePaymentMethodRequest {
            payment_method: Some(item),
            ..Default::default()
        };
        let status = app.payment_methods().create_payment_method(request).await.unwrap_err();
        assert_eq!(
            (result.outcome(), &result.reason),
            (ImportOutcome::Rejected, &reason_of(&status))
        );
        let found = (result.field.clone(), result.message.clone());
        if status.code() == Code::InvalidArgument {
            assert_eq!(found, first_violation(&status, "payment_method"));
        } else {
            assert_eq!(found, (String::new(), status.message().to_owned()));
        }
    }
    let tables = Tables::open(&app.database_url).await;
    assert_eq!(tables.count("payment_method_versions").await, 0);
    tables.close().await;
}

async fn an_item_replaces_the_whole_record(app: App) {
    let mut full = details_of_every_kind("aff-1").remove(1);
    full.tax_id = "12345678".to_owned();
    assert_eq!(app.details_imported(vec![full]).await, [CREATED]);
    assert_eq!(app.details_imported(vec![billing_details("aff-1")]).await, [UPDATED]);
    assert!(content_of(app.details_of("aff-1").await) == content_of(billing_details("aff-1")));

    let mut named = bank("aff-1", IBAN);
    if let Some(Details::BankTransfer(transfer)) = &mut named.details {
        transfer.bank_name = "Commerzbank".to_owned();
        transfer.bic = "COBADEFFXXX".to_owned();
    }
    assert_eq!(app.methods_imported(vec![named]).await, [CREATED]);
    assert_eq!(app.methods_imported(vec![bank("aff-1", IBAN)]).await, [UPDATED]);
    let stored = app.methods_of("aff-1").await.remove(0);
    assert!(stored.details == bank("aff-1", IBAN).details);
    assert!(stored.default, "false does not take the default away");
}

async fn the_first_method_of_a_currency_is_the_default_and_the_last_that_asks_takes_over(app: App) {
    let methods = vec![
        paypal("first", "EUR"),
        bank("first", IBAN),
        paypal("asks", "EUR"),
        by_default(bank("asks", IBAN)),
        by_default(tipalti_method("several", "EUR")),
        paypal("several", "EUR"),
        by_default(bank("several", IBAN)),
        bank("currencies", IBAN),
        paypal("currencies", "USD"),
    ];
    assert_eq!(app.methods_imported(methods).await, [CREATED; 9]);
    assert_eq!(
        app.shown_methods("first", "EUR").await,
        ["bank_transfer 1", "paypal* 1"]
    );
    assert_eq!(app.shown_methods("asks", "EUR").await, ["bank_transfer* 1", "paypal 1"]);
    let several = app.shown_methods("several", "EUR").await;
    assert_eq!(several, ["bank_transfer* 1", "paypal 1", "tipalti 1"]);
    for currency in ["EUR", "USD"] {
        assert!(app.shown_methods("currencies", currency).await[0].contains('*'));
    }

    // Taking over, with and without new details; of one account both ways at once.
    let takeovers = vec![
        by_default(bank("first", IBAN)),
        bank("asks", OTHER_IBAN),
        by_default(paypal("asks", "EUR")),
        by_default(paypal("several", "EUR")),
        by_default(tipalti_method("several", "EUR")),
        paypal("currencies", "EUR"),
    ];
    let outcomes = app.methods_imported(takeovers.clone()).await;
    assert_eq!(outcomes, [UPDATED, UPDATED, UPDATED, UNCHANGED, UPDATED, CREATED]);
    assert_eq!(
        app.shown_methods("first", "EUR").await,
        ["bank_transfer* 2", "paypal 2"]
    );
    assert_eq!(app.shown_methods("asks", "EUR").await, ["bank_transfer 2", "paypal* 2"]);
    let several = app.shown_methods("several", "EUR").await;
    assert_eq!(several, ["bank_transfer 2", "paypal 1", "tipalti* 2"]);
    assert_eq!(
        app.shown_methods("currencies", "EUR").await,
        ["bank_transfer* 1", "paypal 1"]
    );
    assert_eq!(app.methods_imported(takeovers).await, [UNCHANGED; 6]);
}

async fn a_method_that_is_no_item_hands_its_default_on(app: App) {
    let old = app.with_method(bank("aff-1", IBAN)).await;
    let other = app.with_method(paypal("aff-1", "USD")).await;
    let kept = app.with_method(bank("aff-2", IBAN)).await;
    let items = vec![by_default(paypal("aff-1", "EUR")), paypal("aff-2", "EUR")];
    assert_eq!(app.methods_imported(items).await, [CREATED; 2]);
    let after = app.methods_of("aff-1").await;
    assert_eq!(
        (after[0].id.as_str(), after[0].default, after[0].etag.as_str()),
        (old.id.as_str(), false, "2")
    );
    assert!(after[0].details == bank("aff-1", IBAN).details);
    let seconds_and_nanos = |method: &PaymentMethod| method.update_time.map(|time| (time.seconds, time.nanos));
    assert!(seconds_and_nanos(&after[0]) > seconds_and_nanos(&old));
    assert_eq!(
        (after[1].id.as_str(), after[1].default, after[1].etag.as_str()),
        (other.id.as_str(), true, "1")
    );
    let after = app.methods_of("aff-2").await;
    assert_eq!((after[0].update_time, after[0].default), (kept.update_time, true));
    let tables = Tables::open(&app.database_url).await;
    assert_eq!(tables.count("payment_method_versions").await, 5);
    tables.close().await;
}

async fn payees_are_found_and_shared(app: App) {
    let paid_as = |account_id: &str, currency_code: &str, payee_id: &str| {
        let details = Details::Tipalti(proto::Tipalti {
            payee_id: payee_id.to_owned(),
            ..Default::default()
        });
        with_details(account_id, currency_code, details)
    };
    app.with_method(paid_as("aff-1", "EUR", "ada")).await;
    let items = vec![
        paid_as("aff-2", "EUR", "ada"),
        paid_as("aff-2", "USD", "ben"),
        paid_as("aff-3", "EUR", "ben"),
        paid_as("aff-4", "EUR", "cleo"),
        bank("aff-4", IBAN),
    ];
    assert_eq!(app.methods_imported(items).await, [CREATED; 5]);
    app.with_method(paid_as("aff-5", "EUR", "cleo")).await;
    let tables = Tables::open(&app.database_url).await;
    assert_eq!(tables.count("payees").await, 3);
    let shared = "SELECT account_id || currency_code FROM payment_methods WHERE payee_version_id = version_id \
        ORDER BY payee_id, account_id, currency_code";
    let groups = tables.texts(shared).await;
    assert_eq!(groups.len(), 6);
    for pair in [
        ["aff-1EUR", "aff-2EUR"],
        ["aff-2USD", "aff-3EUR"],
        ["aff-4EUR", "aff-5EUR"],
    ] {
        assert!(groups.chunks(2).any(|group| group == pair), "{pair:?}: {groups:?}");
    }
    // Another payee, and none any more.
    let moved = vec![paid_as("aff-3", "EUR", "dora"), paid_as("aff-2", "EUR", "cleo")];
    assert_eq!(app.methods_imported(moved).await, [UPDATED, UPDATED]);
    assert_eq!(tables.count("payees").await, 4);
    let stale = "SELECT account_id FROM payment_methods WHERE type_id = 'tipalti' AND \
        (payee_id IS NULL OR payee_version_id IS NULL OR payee_version_id <> version_id)";
    assert!(tables.texts(stale).await.is_empty());
    let with_payee = "SELECT account_id FROM payment_methods WHERE type_id <> 'tipalti' AND \
        (payee_id IS NOT NULL OR payee_version_id IS NOT NULL)";
    assert!(tables.texts(with_payee).await.is_empty());
    tables.close().await;
}

async fn what_was_settled_keeps_its_versions_and_others_are_deleted_in_time(app: App) {
    let row = app.settled(&["settled"]).await.remove(0);
    app.payable_account("open", &["EUR"]).await;
    let tables = Tables::open(&app.database_url).await;
    let versions = async |table: &str, account_id: &str| {
        let sql = format!("SELECT CAST(id AS text) FROM {table} WHERE account_id = '{account_id}'");
        let hexadecimal = format!("SELECT hex(id) FROM {table} WHERE account_id = '{account_id}'");
        tables.texts(if app.is_postgres() { &sql } else { &hexadecimal }).await
    };
    let first = versions("billing_details_versions", "settled").await;
    for (town, of_settled, of_open) in [("Bonn", 2, 2), ("Kiel", 3, 3)] {
        let items = vec![living_in("settled", town), living_in("open", town)];
        assert_eq!(app.details_imported(items).await, [UPDATED, UPDATED]);
        // A settle run that began before may be about to use what was superseded just now.
        assert_eq!(versions("billing_details_versions", "settled").await.len(), of_settled);
        assert_eq!(versions("billing_details_versions", "open").await.len(), of_open);
    }
    let an_hour_ago = "UPDATE billing_details_versions SET create_time = create_time - 3600000000";
    tables.execute(an_hour_ago).await;
    let items = vec![living_in("settled", "Ulm"), living_in("open", "Ulm")];
    assert_eq!(app.details_imported(items).await, [UPDATED, UPDATED]);
    let kept = versions("billing_details_versions", "settled").await;
    assert_eq!(
        kept.len(),
        3,
        "the settled one, the newest, and the one that it superseded just now"
    );
    assert!(kept.contains(&first[0]));
    assert_eq!(versions("billing_details_versions", "open").await.len(), 2);
    let items = vec![bank("settled", OTHER_IBAN), bank("open", OTHER_IBAN)];
    assert_eq!(app.methods_imported(items).await, [UPDATED, UPDATED]);
    let request = proto::GetAccountSettlementRequest {
        id: row.id.clone(),
        view: proto::View::Full.into(),
    };
    let answer = app.settlements().get_account_settlement(request).await.unwrap();
    let kept = answer.into_inner().account_settlement.unwrap();
    assert_eq!(locality(kept.billing_details.as_ref().unwrap()), "Berlin");
    assert!(kept.payment_method.unwrap().details == bank("settled", IBAN).details);
    // What is settled from now on is made with the new ones.
    let row = app.settled_again(&["settled"]).await.remove(0);
    assert_eq!(locality(row.billing_details.as_ref().unwrap()), "Ulm");
    tables.close().await;
}

const ACCOUNTS: usize = 40;
const IMPORTERS: usize = 8;
const ROUNDS: usize = 3;
/// Enough that those who make them meet.
const NEW_ACCOUNTS: usize = 100;

/// Two servers on the database, in turns.
async fn channels(app: &App, count: usize) -> Vec<Channel> {
    let servers = [app.channel.clone(), app.replica().await];
    servers.into_iter().cycle().take(count).collect()
}

/// The accounts in an order of the importer's own.
fn accounts(importer: usize) -> Vec<String> {
    let mut accounts: Vec<String> = (0..ACCOUNTS).map(|number| format!("aff-{number}")).collect();
    accounts.rotate_left(importer * 7 % ACCOUNTS);
    if importer % 2 == 1 {
        accounts.reverse();
    }
    accounts
}

async fn import_over_and_over(channel: Channel, importer: usize) {
    let towns = (0..ROUNDS).map(|round| format!("Town {importer}-{round}"));
    let chunks: Vec<DetailsChunk> = towns
        .map(|town| details_chunk(accounts(importer).iter().map(|id| living_in(id, &town)).collect()))
        .collect();
    let answers = BillingDetailsServiceClient::new(channel.clone())
        .import_billing_details(iter(chunks))
        .await;
    let (answers, end) = drained(answers.unwrap().into_inner()).await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!(answers.len(), ROUNDS);
    for answer in &answers {
        let outcomes = details_outcomes(answer);
        assert_eq!(outcomes.len(), ACCOUNTS);
        assert!(
            outcomes.iter().all(|outcome| outcome == CREATED || outcome == UPDATED),
            "{outcomes:?}"
        );
    }

    let item = |id: &String, round: usize| {
        let iban = [IBAN, OTHER_IBAN][(importer + round) % 2];
        let asks = (importer + round).is_multiple_of(3);
        let payee = tipalti_method(id, "EUR");
        let payee = if asks { by_default(payee) } else { payee };
        [payee, bank(id, iban)]
    };
    let chunks: Vec<MethodsChunk> = (0..ROUNDS)
        .map(|round| methods_chunk(accounts(importer).iter().flat_map(|id| item(id, round)).collect()))
        .collect();
    let answers = PaymentMethodsServiceClient::new(channel)
        .import_payment_methods(iter(chunks))
        .await;
    let (answers, end) = drained(answers.unwrap().into_inner()).await;
    assert!(end.is_none(), "{end:?}");
    for answer in &answers {
        let outcomes = methods_outcomes(answer);
        assert!(
            !outcomes.iter().any(|outcome| outcome.starts_with("REJECTED")),
            "{outcomes:?}"
        );
    }
}

/// A chunk of new accounts, whose order is the importer's own, twice: first all race to make them, then to change them.
async fn import_new_ones(channel: Channel, importer: usize, round: usize) {
    let mut ids: Vec<String> = (0..NEW_ACCOUNTS)
        .map(|number| format!("new-{round}-{number}"))
        .collect();
    ids.rotate_left(importer * 37 % NEW_ACCOUNTS);
    if importer % 2 == 1 {
        ids.reverse();
    }
    let details = |town: &str| details_chunk(ids.iter().map(|id| living_in(id, town)).collect());
    let chunks = vec![
        details(&format!("Town {importer}")),
        details(&format!("City {importer}")),
    ];
    let answers = BillingDetailsServiceClient::new(channel.clone())
        .import_billing_details(iter(chunks))
        .await;
    let (answers, end) = drained(answers.unwrap().into_inner()).await;
    assert!(end.is_none(), "{end:?}");
    for answer in &answers {
        let outcomes = details_outcomes(answer);
        let whole = [CREATED, UPDATED].map(|outcome| vec![outcome; NEW_ACCOUNTS]);
        assert!(whole.iter().any(|whole| outcomes == *whole), "chunks mix: {outcomes:?}");
    }
    let methods = ids
        .iter()
        .flat_map(|id| [tipalti_method(id, "EUR"), bank(id, IBAN)])
        .collect();
    let answers = PaymentMethodsServiceClient::new(channel)
        .import_payment_methods(iter(vec![methods_chunk(methods)]))
        .await;
    let (_, end) = drained(answers.unwrap().into_inner()).await;
    assert!(end.is_none(), "{end:?}");
}

async fn concurrent_imports_in_any_order_leave_one_record_each(app: App) {
    let channels = channels(&app, IMPORTERS).await;
    for round in 0..ROUNDS {
        let importers = channels.iter().cloned().enumerate();
        let tasks: Vec<_> = importers
            .map(|(importer, channel)| tokio::spawn(import_new_ones(channel, importer, round)))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
    let tables = Tables::open(&app.database_url).await;
    for (table, a_account) in [
        ("billing_details", 1),
        ("payment_methods", 2),
        ("payment_method_versions", 2),
        ("payees", 1),
    ] {
        let rows = a_account * NEW_ACCOUNTS * ROUNDS;
        assert_eq!(tables.count(table).await, rows as u64, "{table}");
    }
    let defaults = "SELECT account_id FROM payment_methods WHERE is_default";
    assert_eq!(tables.texts(defaults).await.len(), NEW_ACCOUNTS * ROUNDS);
    tables.close().await;
    // Chunks do not mix: all accounts are as one chunk left them.
    let mut towns: Vec<String> = Vec::new();
    for number in 0..NEW_ACCOUNTS {
        towns.push(locality(&app.details_of(&format!("new-0-{number}")).await).to_owned());
    }
    towns.dedup();
    assert_eq!(towns.len(), 1, "{towns:?}");
    assert_eq!(Observer::connect(&app).await.deadlocks().await, 0);
}

async fn create_and_update_one_by_one(channel: Channel) {
    let mut details = BillingDetailsServiceClient::new(channel.clone());
    let mut methods = PaymentMethodsServiceClient::new(channel);
    for account_id in accounts(3) {
        let create = proto::CreateBillingDetailsRequest {
            billing_details: Some(living_in(&account_id, "Created")),
            ..Default::default()
        };
        if let Err(status) = details.create_billing_details(create).await {
            assert_eq!(reason_of(&status), "BILLING_DETAILS_ALREADY_EXIST");
        }
        let update = proto::UpdateBillingDetailsRequest {
            billing_details: Some(living_in(&account_id, "Updated")),
            ..Default::default()
        };
        details.update_billing_details(update).await.unwrap();
        let create = proto::CreatePaymentMethodRequest {
            payment_method: Some(by_default(paypal(&account_id, "EUR"))),
            ..Default::default()
        };
        if let Err(status) = methods.create_payment_method(create).await {
            assert_eq!(reason_of(&status), "PAYMENT_METHOD_ALREADY_EXISTS");
        }
    }
}

async fn import_both_kinds(channel: Channel, importer: usize) {
    import_over_and_over(channel.clone(), importer).await;
    let items = accounts(importer).iter().map(|id| paypal(id, "EUR")).collect();
    let answers = PaymentMethodsServiceClient::new(channel)
        .import_payment_methods(iter(vec![methods_chunk(items)]))
        .await;
    let (_, end) = drained(answers.unwrap().into_inner()).await;
    assert!(end.is_none(), "{end:?}");
}

async fn imports_and_single_calls_race_and_both_succeed(app: App) {
    let channels = channels(&app, 4).await;
    let mut tasks = Vec::new();
    for (importer, channel) in channels.into_iter().enumerate() {
        tasks.push(tokio::spawn(create_and_update_one_by_one(channel.clone())));
        tasks.push(tokio::spawn(import_both_kinds(channel, importer)));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let tables = Tables::open(&app.database_url).await;
    for (table, a_account) in [("billing_details", 1), ("payment_methods", 3), ("payees", 1)] {
        assert_eq!(tables.count(table).await, a_account * ACCOUNTS as u64, "{table}");
    }
    let defaults = "SELECT account_id FROM payment_methods WHERE is_default ORDER BY account_id";
    assert_eq!(tables.texts(defaults).await.len(), ACCOUNTS);
    tables.close().await;
}

async fn settling_goes_on_while_payees_are_imported(app: App) {
    let ids = accounts(0);
    app.details_imported(ids.iter().map(|id| billing_details(id)).collect())
        .await;
    app.methods_imported(ids.iter().map(|id| bank(id, IBAN)).collect())
        .await;
    let channels = channels(&app, 3).await;
    let importing: Vec<_> = channels
        .into_iter()
        .enumerate()
        .map(|(importer, channel)| tokio::spawn(import_over_and_over(channel, importer)))
        .collect();
    for number in 0..6 {
        let entries = ids.iter().map(|id| entry(&format!("{id}-{number}"), id, "1", "EUR"));
        app.post(entries.collect()).await;
        let named: Vec<String> = accounts(number);
        let request = settle_accounts(named.iter().map(|id| (id.as_str(), None)).collect());
        let settlement = app.settle_request(request).await.settlement.unwrap();
        assert_eq!(
            settlement.account_settlement_count + settlement.skipped_count,
            ACCOUNTS as i64
        );
        for row in app.rows_of(&settlement.id).await {
            assert!(!locality(row.billing_details.as_ref().unwrap()).is_empty());
        }
    }
    for task in importing {
        task.await.unwrap();
    }
    assert_eq!(Observer::connect(&app).await.deadlocks().await, 0);
}

const CHUNKS: usize = 150;
/// Far more than what the buffers on the way hold: each answer has some 200 kB.
const MOST_TAKEN: usize = 75;
const QUIET_ROUNDS: usize = 8;

async fn an_unread_import_takes_no_more_chunks(app: App) {
    app.with_billing_details("aff-1").await;
    let endpoint = Endpoint::from_shared(app.address.clone()).unwrap();
    let channel = endpoint.initial_stream_window_size(65_535).connect().await.unwrap();
    let mut slow = BillingDetailsServiceClient::new(channel);
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    // Without anything but their long ids they are rejected, and say so at length.
    let items: Vec<BillingDetails> = (0..1000)
        .map(|index| BillingDetails {
            account_id: format!("{index:0>128}"),
            ..Default::default()
        })
        .collect();
    let chunks = iter(0..CHUNKS).map(move |number| {
        counted.fetch_add(1, Ordering::Relaxed);
        DetailsChunk {
            chunk_id: number.to_string(),
            ..details_chunk(items.clone())
        }
    });
    let answers = slow.import_billing_details(chunks).await.unwrap().into_inner();

    // Nothing is read of it, while others go on; until no more chunks are taken for many of their calls.
    let (mut quiet, mut last) = (0, 0);
    while quiet < QUIET_ROUNDS && last < CHUNKS {
        for town in ["Bonn", "Kiel", "Berlin"] {
            assert_eq!(app.details_imported(vec![living_in("aff-1", town)]).await, [UPDATED]);
            let request = proto::GetBillingDetailsRequest {
                account_id: "aff-1".to_owned(),
            };
            slow.get_billing_details(request).await.unwrap();
        }
        let now = taken.load(Ordering::Relaxed);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
    }
    assert!((1..MOST_TAKEN).contains(&last), "{last} chunks were taken");
    let (answers, end) = drained(answers).await;
    assert!(end.is_none(), "{end:?}");
    let ids: Vec<String> = answers.into_iter().map(|answer| answer.chunk_id).collect();
    assert_eq!(ids, (0..CHUNKS).map(|number| number.to_string()).collect::<Vec<_>>());
}
