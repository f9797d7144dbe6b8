//! Request ids: a repeated call is answered again and done once, and what is remembered is sealed.

use std::collections::BTreeSet;

use affiliate_billing::billing::ChangeControl;
use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::ImportOutcome;
use affiliate_billing::proto::billing_details::Party;
use affiliate_billing::proto::payment_method::Details;
use prost::Message;
use prost_types::FieldMask;
use tonic::Code;
use uuid::Uuid;

use crate::support::app::App;
use crate::support::fixtures::{bank_method, billing_details, entry, request_id, settle_accounts, tipalti_method};
use crate::support::harness::scenarios;
use crate::support::tables::Tables;
use crate::support::wire::{assert_refused, call, field_number, rpc, rpcs, with_bytes};

scenarios![
    every_mutation_is_done_once_and_answered_alike_also_after_a_restart,
    an_error_is_not_remembered,
    what_is_only_validated_is_not_remembered,
    the_same_id_in_two_methods_is_two_requests,
    an_id_is_the_same_in_upper_case,
    a_repeat_of_normalised_content_is_the_same_request;
    sqlite_only: no_personal_data_is_in_the_file;
    postgres_only: no_personal_data_is_in_any_column;
];

const GIVEN_NAME: &str = "Zqgivenname";
const TAX_ID: &str = "ZQTAX4711";
const EMAIL: &str = "zqmail@example.com";
const IBAN: &str = "GB29NWBK60161331926819";
const SECOND_IBAN: &str = "FR1420041010050500013M02606";
const PAYPAL: &str = "zqpaypal@example.com";
const PAYEE: &str = "payee-zqpayee";
const SECRET: &str = "Zqsecretvalue";
const STREET: &str = "Zqstreet 1";
const PERSONAL: [&str; 9] = [
    GIVEN_NAME,
    TAX_ID,
    EMAIL,
    IBAN,
    SECOND_IBAN,
    PAYPAL,
    PAYEE,
    SECRET,
    STREET,
];

/// A call that was made, and its answers.
struct Made {
    name: &'static str,
    request: Vec<u8>,
    answers: Vec<Vec<u8>>,
}

/// Makes calls twice.
struct Twice<'a> {
    app: &'a App,
    tables: Tables,
    made: Vec<Made>,
}

impl<'a> Twice<'a> {
    async fn of(app: &'a App) -> Self {
        Self {
            app,
            tables: Tables::open(&app.database_url).await,
            made: Vec::new(),
        }
    }

    /// Makes a call, and again, and with other content, all under one request id. Gives the answer.
    async fn call<Q: Message, A: Message + Default>(&mut self, name: &'static str, request: &Q, other: &Q) -> A {
        let number = field_number(&rpc(name).input, "request_id").unwrap();
        let id = request_id();
        let request = with_bytes(request.encode_to_vec(), number, id.as_bytes());
        let answers = call(&self.app.channel, name, vec![request.clone()]).await;
        let answers = answers.unwrap_or_else(|status| panic!("{name}: {status}"));
        let before = self.tables.dump().await;
        let again = call(&self.app.channel, name, vec![request.clone()]).await;
        assert!(
            again.unwrap_or_else(|status| panic!("{name} again: {status}")) == answers,
            "{name} again"
        );
        let other = with_bytes(other.encode_to_vec(), number, id.as_bytes());
        let refused = call(&self.app.channel, name, vec![other]).await;
        let status = refused
            .map(|_| panic!("{name} took the id for other content"))
            .unwrap_err();
        assert_refused(&status, Code::FailedPrecondition, "REQUEST_ID_REUSED");
        assert!(before == self.tables.dump().await, "{name} had a second effect");
        let answer = A::decode(answers[0].as_slice()).unwrap();
        self.made.push(Made { name, request, answers });
        answer
    }
}

async fn every_mutation_is_done_once_and_answered_alike_also_after_a_restart(app: App) {
    let app = app.stoppable().await;
    let made = make_every_mutation(&app).await;
    let called: BTreeSet<&str> = made.iter().map(|made| made.name).collect();
    let with_id: BTreeSet<String> = rpcs()
        .into_iter()
        .filter(|rpc| field_number(&rpc.input, "request_id").is_some())
        .map(|rpc| rpc.name)
        // Needs a provider: `tipalti.rs` repeats it.
        .filter(|name| name != "TipaltiService/SubmitSettlement")
        .collect();
    assert_eq!(
        called,
        with_id.iter().map(String::as_str).collect(),
        "every RPC that takes a request id"
    );

    let app = App::start(app.stop().await).await;
    let tables = Tables::open(&app.database_url).await;
    let before = tables.dump().await;
    for made in made {
        let again = call(&app.channel, made.name, vec![made.request]).await;
        let again = again.unwrap_or_else(|status| panic!("{} after the restart: {status}", made.name));
        assert!(again == made.answers, "{} after the restart", made.name);
    }
    assert!(
        before == tables.dump().await,
        "a repeat after the restart had an effect"
    );
    tables.close().await;
    app.finish().await;
}

async fn an_error_is_not_remembered(app: App) {
    let update = update_details(billing_details("aff-1"), "tax_id");
    let status = app
        .billing_details()
        .update_billing_details(update.clone())
        .await
        .unwrap_err();
    assert_refused(&status, Code::NotFound, "BILLING_DETAILS_NOT_FOUND");
    let tables = Tables::open(&app.database_url).await;
    assert_eq!(tables.count("request_ids").await, 0);
    app.with_billing_details("aff-1").await;
    app.billing_details().update_billing_details(update).await.unwrap();
    assert_eq!(tables.count("request_ids").await, 1);

    // Nor is the content of what failed.
    let mut settle = settle_accounts(vec![("aff-1", None)]);
    settle.expected_totals = vec![proto::Money {
        currency_code: "EUR".to_owned(),
        amount: "1".to_owned(),
    }];
    let status = app.balances().settle_balances(settle.clone()).await.unwrap_err();
    assert_refused(&status, Code::Aborted, "EXPECTED_TOTALS_MISMATCH");
    settle.expected_totals.clear();
    app.settle_request(settle).await;
}

async fn what_is_only_validated_is_not_remembered(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "10", "EUR")]).await;
    let mut settle = settle_accounts(vec![("aff-1", None)]);
    settle.validate_only = true;
    let first = app.settle_request(settle.clone()).await;
    assert_eq!(
        app.settle_request(settle.clone()).await.skipped_count,
        first.skipped_count
    );
    settle.validate_only = false;
    let done = app.settle_request(settle.clone()).await;
    assert_eq!(done.settlement.as_ref().unwrap().account_settlement_count, 1);
    assert_eq!(app.settle_request(settle).await, done);
}

async fn the_same_id_in_two_methods_is_two_requests(app: App) {
    let id = request_id();
    let hold = proto::HoldPayoutsRequest {
        account_id: "aff-1".to_owned(),
        reason: "a check".to_owned(),
        request_id: id.clone(),
    };
    let held = app.balances().hold_payouts(hold.clone()).await.unwrap().into_inner();
    let release = proto::ReleasePayoutsRequest {
        account_id: "aff-1".to_owned(),
        request_id: id,
    };
    let released = app
        .balances()
        .release_payouts(release.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(released.payout_hold.as_ref().unwrap().release_time.is_some());
    // The first answers are given again, whatever has become of the hold.
    assert_eq!(app.balances().hold_payouts(hold).await.unwrap().into_inner(), held);
    assert_eq!(
        app.balances().release_payouts(release).await.unwrap().into_inner(),
        released
    );
}

async fn an_id_is_the_same_in_upper_case(app: App) {
    let mut settle = settle_accounts(vec![("aff-1", None)]);
    settle.request_id = Uuid::now_v7().to_string();
    let done = app.settle_request(settle.clone()).await;
    settle.request_id = settle.request_id.to_uppercase();
    assert_eq!(app.settle_request(settle).await, done);
}

async fn a_repeat_of_normalised_content_is_the_same_request(app: App) {
    let mut request = proto::CreatePaymentMethodRequest {
        payment_method: Some(bank("aff-1", "gb29 nwbk 6016 1331 9268 19")),
        request_id: request_id(),
    };
    let made = app
        .payment_methods()
        .create_payment_method(request.clone())
        .await
        .unwrap()
        .into_inner();
    request.payment_method = Some(bank("aff-1", IBAN));
    let again = app
        .payment_methods()
        .create_payment_method(request)
        .await
        .unwrap()
        .into_inner();
    assert!(again == made);

    let mut post = proto::PostEntriesRequest {
        entries: vec![entry("order-1", "aff-1", "1.5", "EUR")],
        request_id: request_id(),
    };
    let posted = app.balances().post_entries(post.clone()).await.unwrap().into_inner();
    post.entries[0].money.as_mut().unwrap().amount = "1.500000".to_owned();
    post.entries[0].available_date = "2026-01-31".to_owned();
    assert_eq!(app.balances().post_entries(post).await.unwrap().into_inner(), posted);
}

async fn no_personal_data_is_in_the_file(app: App) {
    let app = app.stoppable().await;
    make_every_mutation(&app).await;
    assert_sealed(&app).await;
    let path = app.database_url.strip_prefix("sqlite://").unwrap().to_owned();
    // While it runs the newest rows are in the log beside the file; after it all are in the file.
    let running = [
        std::fs::read(&path).unwrap(),
        std::fs::read(format!("{path}-wal")).unwrap(),
    ]
    .concat();
    let database = app.stop().await;
    let stopped = std::fs::read(&path).unwrap();
    for bytes in [running, stopped] {
        let bytes = bytes.to_ascii_lowercase();
        let holds = |text: &str| {
            bytes
                .windows(text.len())
                .any(|window| window == text.to_lowercase().as_bytes())
        };
        assert!(holds("zqaccount"), "what is plain is found");
        for text in PERSONAL {
            assert!(!holds(text), "{text} is in the file");
        }
    }
    drop(database);
}

async fn no_personal_data_is_in_any_column(app: App) {
    make_every_mutation(&app).await;
    assert_sealed(&app).await;
}

async fn assert_sealed(app: &App) {
    let tables = Tables::open(&app.database_url).await;
    let dump = tables.dump().await;
    tables.close().await;
    assert!(dump["request_ids"].lines().count() >= 19);
    assert!(
        dump.values().any(|rows| rows.contains("zqaccount")),
        "what is plain is found"
    );
    for (table, rows) in dump {
        let rows = rows.to_lowercase();
        for text in PERSONAL {
            let text = text.to_lowercase();
            let hexadecimal: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            let upper: String = text.to_uppercase().bytes().map(|byte| format!("{byte:02x}")).collect();
            for form in [&text, &hexadecimal, &upper] {
                assert!(!rows.contains(form), "{text} is in {table}");
            }
        }
    }
}

/// Calls every RPC that takes a request id, on an account full of personal data, each call twice.
async fn make_every_mutation(app: &App) -> Vec<Made> {
    let mut twice = Twice::of(app).await;
    payees(&mut twice).await;
    let id = settled(&mut twice).await;
    statuses(&mut twice, &id).await;
    deletions(&mut twice, &id).await;
    twice.tables.close().await;
    twice.made
}

const ACCOUNT: &str = "zqaccount";

async fn payees(twice: &mut Twice<'_>) {
    let create = |locality: &str| proto::CreateBillingDetailsRequest {
        billing_details: Some(personal_details(locality)),
        ..Default::default()
    };
    let name = "BillingDetailsService/CreateBillingDetails";
    let _: proto::CreateBillingDetailsResponse = twice.call(name, &create("Berlin"), &create("Bonn")).await;
    let update = |locality: &str| update_details(personal_details(locality), "address.locality");
    let name = "BillingDetailsService/UpdateBillingDetails";
    let _: proto::UpdateBillingDetailsResponse = twice
        .call(name, &without_id(update("Bonn")), &without_id(update("Kiel")))
        .await;

    let create = |title: &str| proto::CreatePaymentMethodTypeRequest {
        payment_method_type: Some(wallet(title)),
        ..Default::default()
    };
    let name = "PaymentMethodsService/CreatePaymentMethodType";
    let _: proto::CreatePaymentMethodTypeResponse = twice.call(name, &create("Wallet"), &create("Purse")).await;
    let update = |title: &str| proto::UpdatePaymentMethodTypeRequest {
        payment_method_type: Some(wallet(title)),
        update_mask: mask("display_name"),
        ..Default::default()
    };
    let name = "PaymentMethodsService/UpdatePaymentMethodType";
    let _: proto::UpdatePaymentMethodTypeResponse = twice.call(name, &update("Purse"), &update("Pocket")).await;

    let create = |method: proto::PaymentMethod| proto::CreatePaymentMethodRequest {
        payment_method: Some(method),
        ..Default::default()
    };
    let name = "PaymentMethodsService/CreatePaymentMethod";
    let other = create(bank(ACCOUNT, SECOND_IBAN));
    let made: proto::CreatePaymentMethodResponse = twice.call(name, &create(bank(ACCOUNT, IBAN)), &other).await;
    let id = made.payment_method.unwrap().id;
    for method in [
        with_details(Details::Paypal(proto::Paypal {
            email: PAYPAL.to_owned(),
        })),
        with_details(Details::Custom(proto::CustomPayment {
            type_id: "wallet".to_owned(),
            fields: [("number".to_owned(), SECRET.to_owned())].into(),
        })),
        tipalti_method("zqpayee", "EUR"),
    ] {
        let _: proto::CreatePaymentMethodResponse = twice.call(name, &create(method), &other).await;
    }
    let update = |iban: &str| proto::UpdatePaymentMethodRequest {
        payment_method: Some(proto::PaymentMethod {
            id: id.clone(),
            ..bank(ACCOUNT, iban)
        }),
        update_mask: mask("bank_transfer"),
        ..Default::default()
    };
    let name = "PaymentMethodsService/UpdatePaymentMethod";
    let _: proto::UpdatePaymentMethodResponse = twice.call(name, &update(SECOND_IBAN), &update(IBAN)).await;
    let other = twice
        .app
        .with_method(bank(ACCOUNT, "DE89370400440532013000").in_currency("USD"))
        .await;
    let delete = |id: &str| proto::DeletePaymentMethodRequest {
        id: id.to_owned(),
        ..Default::default()
    };
    imports(twice).await;
    let name = "PaymentMethodsService/DeletePaymentMethod";
    let _: proto::DeletePaymentMethodResponse = twice.call(name, &delete(&other.id), &delete(&id)).await;
}

/// One item that changes, one that is there as it is, and one that is rejected.
async fn imports(twice: &mut Twice<'_>) {
    let import = |locality: &str| proto::ImportBillingDetailsRequest {
        billing_details: vec![
            personal_details(locality),
            personal_details("Jena"),
            proto::BillingDetails::default(),
        ],
        ..Default::default()
    };
    let name = "BillingDetailsService/ImportBillingDetails";
    let answer: proto::ImportBillingDetailsResponse = twice.call(name, &import("Ulm"), &import("Trier")).await;
    let outcomes: Vec<ImportOutcome> = answer.results.iter().map(|result| result.outcome()).collect();
    let expected = [ImportOutcome::Updated, ImportOutcome::Rejected, ImportOutcome::Rejected];
    assert_eq!(outcomes, expected);

    let import = |account: &str| proto::ImportPaymentMethodsRequest {
        payment_methods: vec![
            bank(ACCOUNT, IBAN),
            tipalti_method("zqpayee", "EUR"),
            bank(account, SECOND_IBAN),
            bank(ACCOUNT, "DE00"),
        ],
        ..Default::default()
    };
    let name = "PaymentMethodsService/ImportPaymentMethods";
    let answer: proto::ImportPaymentMethodsResponse = twice.call(name, &import("zqimported"), &import("another")).await;
    let outcomes: Vec<ImportOutcome> = answer.results.iter().map(|result| result.outcome()).collect();
    let expected = [
        ImportOutcome::Updated,
        ImportOutcome::Unchanged,
        ImportOutcome::Created,
        ImportOutcome::Rejected,
    ];
    assert_eq!(outcomes, expected);
}

async fn settled(twice: &mut Twice<'_>) -> String {
    let post = |amount: &str| proto::PostEntriesRequest {
        entries: vec![entry("order-1", ACCOUNT, amount, "EUR")],
        ..Default::default()
    };
    let _: proto::PostEntriesResponse = twice
        .call("BalancesService/PostEntries", &post("10.005"), &post("11"))
        .await;
    let hold = |reason: &str| proto::HoldPayoutsRequest {
        account_id: ACCOUNT.to_owned(),
        reason: reason.to_owned(),
        ..Default::default()
    };
    let _: proto::HoldPayoutsResponse = twice
        .call("BalancesService/HoldPayouts", &hold("one"), &hold("two"))
        .await;
    let release = |account: &str| proto::ReleasePayoutsRequest {
        account_id: account.to_owned(),
        ..Default::default()
    };
    let name = "BalancesService/ReleasePayouts";
    let _: proto::ReleasePayoutsResponse = twice.call(name, &release(ACCOUNT), &release("another")).await;
    let settle = |note: &str| proto::SettleBalancesRequest {
        note: note.to_owned(),
        ..settle_accounts(vec![(ACCOUNT, None), ("nobody", None)])
    };
    let name = "BalancesService/SettleBalances";
    let settled: proto::SettleBalancesResponse = twice.call(name, &settle("one"), &settle("two")).await;
    assert_eq!(settled.settlement.as_ref().unwrap().account_settlement_count, 1);
    settled.settlement.unwrap().id
}

async fn statuses(twice: &mut Twice<'_>, settlement_id: &str) {
    let row = twice.app.rows_of(settlement_id).await.remove(0).id;
    let pay = |reference: &str| proto::UpdateAccountSettlementStatusRequest {
        id: row.clone(),
        status: RowStatus::Paid.into(),
        payment_reference: reference.to_owned(),
        ..Default::default()
    };
    let name = "SettlementsService/UpdateAccountSettlementStatus";
    let _: proto::UpdateAccountSettlementStatusResponse = twice.call(name, &pay("ref-1"), &pay("ref-2")).await;
    let reset = |reason: &str| proto::BulkUpdateAccountSettlementStatusRequest {
        chunk_id: "1".to_owned(),
        target_status: RowStatus::New.into(),
        account_settlement_ids: vec![row.clone(), "nope".to_owned()],
        reason: reason.to_owned(),
        ..Default::default()
    };
    let name = "SettlementsService/BulkUpdateAccountSettlementStatus";
    let chunk: proto::BulkUpdateAccountSettlementStatusResponse =
        twice.call(name, &reset("returned"), &reset("bounced")).await;
    assert_eq!((chunk.updated_count, chunk.skipped.len()), (1, 1));
    let all = |from: RowStatus, to: RowStatus, reason: &str| proto::BulkUpdateSettlementStatusRequest {
        settlement_id: settlement_id.to_owned(),
        expected_status: from.into(),
        target_status: to.into(),
        reason: reason.to_owned(),
        ..Default::default()
    };
    let name = "SettlementsService/BulkUpdateSettlementStatus";
    for (from, to) in [
        (RowStatus::New, RowStatus::InProgress),
        (RowStatus::InProgress, RowStatus::New),
    ] {
        let chunk: proto::BulkUpdateSettlementStatusResponse =
            twice.call(name, &all(from, to, "one"), &all(from, to, "two")).await;
        assert_eq!(chunk.updated_ids, std::slice::from_ref(&row));
    }
}

async fn deletions(twice: &mut Twice<'_>, settlement_id: &str) {
    let row = twice.app.rows_of(settlement_id).await.remove(0).id;
    let delete = |id: &str| proto::DeleteAccountSettlementRequest {
        id: id.to_owned(),
        ..Default::default()
    };
    let name = "SettlementsService/DeleteAccountSettlement";
    let other = delete(&request_id());
    let _: proto::DeleteAccountSettlementResponse = twice.call(name, &delete(&row), &other).await;
    let again = approval(twice).await;
    let delete = |id: &str| proto::DeleteSettlementRequest {
        id: id.to_owned(),
        ..Default::default()
    };
    let name = "SettlementsService/DeleteSettlement";
    let _: proto::DeleteSettlementResponse = twice.call(name, &delete(&again), &delete(settlement_id)).await;
    let delete = |id: &str| proto::DeleteBillingDetailsRequest {
        account_id: id.to_owned(),
        ..Default::default()
    };
    let name = "BillingDetailsService/DeleteBillingDetails";
    let _: proto::DeleteBillingDetailsResponse = twice.call(name, &delete(ACCOUNT), &delete("another")).await;
}

/// A settlement that somebody else made, approved.
async fn approval(twice: &mut Twice<'_>) -> String {
    let controlled = twice.app.controlled(ChangeControl {
        require_approval: true,
        ..ChangeControl::default()
    });
    let id = controlled.await.settle(&[ACCOUNT]).await.settlement.unwrap().id;
    let made_by_another = "UPDATE settlements SET actor = 'somebody' WHERE approval_required";
    twice.tables.execute(made_by_another).await;
    let approve = |id: &str| proto::ApproveSettlementRequest {
        id: id.to_owned(),
        ..Default::default()
    };
    let name = "SettlementsService/ApproveSettlement";
    let _: proto::ApproveSettlementResponse = twice.call(name, &approve(&id), &approve(&request_id())).await;
    id
}

fn personal_details(locality: &str) -> proto::BillingDetails {
    let mut details = billing_details(ACCOUNT);
    details.party = Some(Party::Individual(proto::Individual {
        given_name: GIVEN_NAME.to_owned(),
        family_name: GIVEN_NAME.to_owned(),
    }));
    details.tax_id = TAX_ID.to_owned();
    details.email = EMAIL.to_owned();
    let address = details.address.as_mut().unwrap();
    address.locality = locality.to_owned();
    address.address_lines = vec![STREET.to_owned()];
    details
}

fn bank(account_id: &str, iban: &str) -> proto::PaymentMethod {
    let mut method = bank_method(account_id, "EUR");
    if let Some(Details::BankTransfer(bank)) = &mut method.details {
        bank.iban = iban.to_owned();
        bank.account_holder_name = GIVEN_NAME.to_owned();
    }
    method
}

fn with_details(details: Details) -> proto::PaymentMethod {
    proto::PaymentMethod {
        details: Some(details),
        ..bank(ACCOUNT, IBAN)
    }
}

trait InCurrency {
    fn in_currency(self, currency_code: &str) -> Self;
}

impl InCurrency for proto::PaymentMethod {
    fn in_currency(mut self, currency_code: &str) -> Self {
        currency_code.clone_into(&mut self.currency_code);
        self
    }
}

fn wallet(display_name: &str) -> proto::PaymentMethodType {
    proto::PaymentMethodType {
        id: "wallet".to_owned(),
        display_name: display_name.to_owned(),
        currency_codes: vec!["EUR".to_owned()],
        fields: vec![proto::PaymentMethodField {
            name: "number".to_owned(),
            display_name: "Number".to_owned(),
            required: true,
            secret: true,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn mask(path: &str) -> Option<FieldMask> {
    Some(FieldMask {
        paths: vec![path.to_owned()],
    })
}

fn update_details(details: proto::BillingDetails, path: &str) -> proto::UpdateBillingDetailsRequest {
    proto::UpdateBillingDetailsRequest {
        billing_details: Some(details),
        update_mask: mask(path),
        request_id: request_id(),
    }
}

fn without_id(request: proto::UpdateBillingDetailsRequest) -> proto::UpdateBillingDetailsRequest {
    proto::UpdateBillingDetailsRequest {
        request_id: String::new(),
        ..request
    }
}
