//! What every RPC answers to requests that are wrong: the documented code and reason, all the fields, and nothing written.

use std::collections::BTreeMap;

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::payment_method::Details;
use affiliate_billing::proto::settle_balances_request::Selection;
use fake_tipalti::webhooks::Delivery;
use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldMask};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::app::App;
use crate::support::fixtures::{
    bank_method, billing_details, entry, money, request_id, settle_accounts, tipalti_method,
};
use crate::support::harness::scenarios;
use crate::support::tables::Tables;
use crate::support::tipalti::World;
use crate::support::wire::{
    Rpc, assert_refused, call, call_path, field_number, package_message, read_string, rpc, rpcs, with_bytes,
    with_number,
};

scenarios![
    an_empty_request_is_accepted_or_names_what_it_lacks,
    what_is_no_message_of_the_method_is_malformed,
    a_message_over_the_limit_is_refused,
    an_unknown_method_is_told_apart,
    a_malformed_id_or_request_id_is_named,
    an_unknown_enum_value_is_named,
    a_page_size_below_zero_is_refused,
    a_page_token_fits_its_own_list_and_filter_alone,
    no_text_anywhere_makes_the_service_fail,
    wrong_requests_are_refused_with_their_fields,
    refused_requests_say_why,
    a_run_with_other_totals_settles_nothing,
    twenty_violations_are_told_and_all_are_counted,
    an_invalid_chunk_ends_its_stream_after_the_answers_before_it,
];

/// What the requests below are about.
struct Scene {
    method_id: String,
    tipalti_method_id: String,
    settlement_id: String,
    other_settlement_id: String,
    deleted_settlement_id: String,
    new_row: String,
    paid_row: String,
    deleted_row: String,
    provider_row: String,
}

/// Compares all that is stored before and after.
struct Unchanged {
    tables: Tables,
    before: BTreeMap<String, String>,
}

impl Unchanged {
    async fn since_now(app: &App) -> Self {
        let tables = Tables::open(&app.database_url).await;
        let before = tables.dump().await;
        Self { tables, before }
    }

    async fn check(&self, what: &str) {
        let after = self.tables.dump().await;
        for (table, rows) in &self.before {
            assert!(rows == &after[table], "{what} changed {table}");
        }
    }

    async fn check_but(&mut self, table: &str) {
        self.before.remove(table);
        self.check("the request").await;
    }

    async fn forget(&mut self) {
        self.before = self.tables.dump().await;
    }
}

async fn an_empty_request_is_accepted_or_names_what_it_lacks(app: App) {
    let unchanged = Unchanged::since_now(&app).await;
    for Rpc { name, .. } in rpcs() {
        let method = name.rsplit('/').next().unwrap();
        let lacks: &[&str] = match method {
            "CreateBillingDetails" | "UpdateBillingDetails" | "ImportBillingDetails" => &["billing_details"],
            "GetBillingDetails" | "DeleteBillingDetails" | "ReleasePayouts" => &["account_id"],
            "CreatePaymentMethodType" | "UpdatePaymentMethodType" => &["payment_method_type"],
            "CreatePaymentMethod" | "UpdatePaymentMethod" => &["payment_method"],
            "ImportPaymentMethods" => &["payment_methods"],
            "GetPaymentMethod"
            | "DeletePaymentMethod"
            | "GetSettlement"
            | "ApproveSettlement"
            | "DeleteSettlement"
            | "GetAccountSettlement"
            | "DeleteAccountSettlement" => &["id"],
            "PostEntries" | "StreamEntries" => &["entries"],
            "HoldPayouts" => &["account_id", "reason"],
            "SettleBalances" => &["request_id", "selection"],
            "ListSkippedAccounts" | "SubmitSettlement" | "SyncSettlement" => &["settlement_id"],
            "ListStatusChanges" => &["account_settlement_id"],
            "UpdateAccountSettlementStatus" => &["id", "status"],
            "BulkUpdateAccountSettlementStatus" => &["target_status", "account_settlement_ids"],
            "BulkUpdateSettlementStatus" => &["settlement_id", "expected_status", "target_status"],
            _ => &[],
        };
        let outcome = call(&app.channel, &name, vec![Vec::new()]).await;
        if lacks.is_empty() {
            outcome.unwrap_or_else(|status| panic!("{name}: {status}"));
        } else {
            assert_eq!(invalid(&outcome.unwrap_err()), lacks, "{name}");
        }
    }
    unchanged.check("an empty request").await;
}

async fn what_is_no_message_of_the_method_is_malformed(app: App) {
    let unchanged = Unchanged::since_now(&app).await;
    for each in rpcs() {
        let number = each.string_field().number().try_into().unwrap();
        let bodies = [
            ("invalid UTF-8", with_bytes(Vec::new(), number, &[b'a', 0xff, 0xfe])),
            ("a cut string", vec![with_bytes(Vec::new(), number, b"")[0], 5, b'a']),
            ("a number for a string", with_number(Vec::new(), number, 1)),
            ("an endless number", vec![0xff; 12]),
        ];
        for (what, body) in bodies {
            let status = call(&app.channel, &each.name, vec![body]).await.unwrap_err();
            assert_refused(&status, Code::InvalidArgument, "MALFORMED_MESSAGE");
            assert!(
                !status.message().contains("buffer"),
                "{what} of {}: {status}",
                each.name
            );
        }
    }
    unchanged.check("a malformed message").await;
}

async fn a_message_over_the_limit_is_refused(app: App) {
    let unchanged = Unchanged::since_now(&app).await;
    for each in rpcs() {
        let number = each.string_field().number().try_into().unwrap();
        let text = vec![b'a'; 4 * 1024 * 1024];
        let body = with_bytes(Vec::new(), number, &text);
        let status = call(&app.channel, &each.name, vec![body]).await.unwrap_err();
        assert_refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    }
    unchanged.check("a large message").await;
}

async fn an_unknown_method_is_told_apart(app: App) {
    for path in [
        "/affiliate.billing.v1.BalancesService/PayEverybody",
        "/affiliate.billing.v1.BillingDetailsService/getBillingDetails",
        "/affiliate.billing.v1.NoSuchService/Get",
        "/affiliate.billing.v2.BalancesService/PostEntries",
        "/",
        "/x",
    ] {
        let status = call_path(&app.channel, path, vec![Vec::new()]).await.unwrap_err();
        assert_refused(&status, Code::Unimplemented, "UNKNOWN_METHOD");
    }
}

async fn a_malformed_id_or_request_id_is_named(app: App) {
    let unchanged = Unchanged::since_now(&app).await;
    let uuid = "0190d5a4-7c3e-7000-8000-3f6b7c1d2e4f";
    let no_uuids = [
        "nope".to_owned(),
        uuid.replace('-', ""),
        format!("{{{uuid}}}"),
        format!("urn:uuid:{uuid}"),
        format!("{uuid} "),
        uuid.replace('4', "g"),
        uuid.replace('4', "４"),
    ];
    let no_accounts = [
        "two words".to_owned(),
        "a\0b".to_owned(),
        "a".repeat(129),
        "a\u{a0}b".to_owned(),
    ];
    for each in rpcs() {
        for (field, values) in [
            ("request_id", &no_uuids[..]),
            ("id", &no_uuids[..]),
            ("settlement_id", &no_uuids[..]),
            ("account_settlement_id", &no_uuids[..]),
            ("account_id", &no_accounts[..]),
        ] {
            let Some(number) = field_number(&each.input, field) else {
                continue;
            };
            for value in values {
                let body = with_bytes(Vec::new(), number, value.as_bytes());
                let status = call(&app.channel, &each.name, vec![body]).await.unwrap_err();
                let fields = invalid(&status);
                assert!(
                    fields.contains(&field.to_owned()),
                    "{} {field} {value}: {fields:?}",
                    each.name
                );
            }
        }
    }
    unchanged.check("a malformed id").await;
}

async fn an_unknown_enum_value_is_named(app: App) {
    let mut tried = 0;
    for each in rpcs() {
        let enums = each.input.field.iter().filter(|field| field.r#type() == Type::Enum);
        for field in enums {
            for value in [99, -1] {
                let body = with_number(Vec::new(), field.number().try_into().unwrap(), value);
                let status = call(&app.channel, &each.name, vec![body]).await.unwrap_err();
                let fields = invalid(&status);
                assert!(
                    fields.contains(&field.name().to_owned()),
                    "{} {}: {fields:?}",
                    each.name,
                    field.name()
                );
                tried += 1;
            }
        }
    }
    assert!(tried >= 20, "{tried}");
    // That of an entry is the entry's own, and keeps no other from being posted.
    let mut wrong = entry("order-1", "aff-1", "1", "EUR");
    wrong.kind = 99;
    let request = proto::PostEntriesRequest {
        entries: vec![wrong, entry("order-2", "aff-1", "1", "EUR")],
        ..Default::default()
    };
    let results = app.balances().post_entries(request).await.unwrap().into_inner().results;
    assert_eq!(
        (results[0].reason.as_str(), results[0].field.as_str()),
        ("INVALID_ENTRY", "kind")
    );
    assert_eq!(results[1].outcome(), proto::EntryOutcome::Posted);
}

async fn a_page_size_below_zero_is_refused(app: App) {
    let mut tried = 0;
    for each in rpcs() {
        let Some(number) = field_number(&each.input, "page_size") else {
            continue;
        };
        for size in [-1, i32::MIN] {
            let status = call(&app.channel, &each.name, vec![with_number(Vec::new(), number, size)]).await;
            let fields = invalid(&status.unwrap_err());
            assert!(fields.contains(&"page_size".to_owned()), "{}: {fields:?}", each.name);
        }
        tried += 1;
    }
    assert_eq!(tried, 13, "lists");
}

async fn a_page_token_fits_its_own_list_and_filter_alone(app: App) {
    let scene = scene(&app).await;
    two_alarms(&app).await;
    let lists = lists(&scene);
    let count = rpcs()
        .iter()
        .filter(|rpc| field_number(&rpc.input, "page_token").is_some())
        .count();
    assert_eq!(lists.len(), count, "every list is here");
    let mut tokens = Vec::new();
    for list in &lists {
        let first = list.call(&app, &list.request, "").await.unwrap();
        let token = read_string(&first, field_number(&rpc(list.name).output, "next_page_token").unwrap());
        assert!(!token.is_empty(), "{} has a second page", list.name);
        list.call(&app, &list.request, &token).await.unwrap();
        tokens.push(token);
    }
    for list in &lists {
        let own = tokens[lists.iter().position(|other| other.name == list.name).unwrap()].as_str();
        let mut changed = own.to_owned();
        changed.replace_range(4..5, if &own[4..5] == "A" { "B" } else { "A" });
        let longer = format!("{own}AAAA");
        let mut wrong = vec![
            "garbage",
            "****",
            "=",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            &own[1..],
            &changed,
            &longer,
        ];
        wrong.extend(tokens.iter().map(String::as_str).filter(|token| *token != own));
        for token in wrong {
            assert_bad_token(list.call(&app, &list.request, token).await, list.name);
        }
        if let Some(other) = &list.other_filter {
            assert_bad_token(list.call(&app, other, own).await, list.name);
        }
    }
}

/// Each text field of each request in turn gets texts that are wrong somewhere: whatever is answered is documented, and an
/// error leaves nothing behind.
async fn no_text_anywhere_makes_the_service_fail(app: App) {
    let scene = scene(&app).await;
    let mut unchanged = Unchanged::since_now(&app).await;
    let long = "a".repeat(70_000);
    let mut tried = 0;
    for each in rpcs() {
        let base = good_request(&each.name, &scene);
        for (path, numbers) in text_fields(&each.input) {
            for text in ["\0", "*", "\u{202e}é", &long] {
                let body = numbers.iter().rev().fold(text.as_bytes().to_vec(), |inner, number| {
                    with_bytes(Vec::new(), *number, &inner)
                });
                let what = format!("{} with {path} of {:.9}", each.name, text);
                let request = [base.clone(), body].concat();
                match call(&app.channel, &each.name, vec![request]).await {
                    Ok(_) => unchanged.forget().await,
                    Err(status) => {
                        assert_documented(&status, &what);
                        unchanged.check(&what).await;
                    }
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 250, "{tried}");
}

async fn wrong_requests_are_refused_with_their_fields(app: App) {
    let scene = scene(&app).await;
    let unchanged = Unchanged::since_now(&app).await;
    for (name, request, fields) in wrong_requests(&scene) {
        let status = call(&app.channel, name, vec![request]).await.unwrap_err();
        assert_eq!(invalid(&status), fields, "{name}");
        unchanged.check(name).await;
    }
}

async fn refused_requests_say_why(app: App) {
    let scene = scene(&app).await;
    let unchanged = Unchanged::since_now(&app).await;
    for (name, request, code, reason) in refused_requests(&scene) {
        let outcome = call(&app.channel, name, vec![request]).await;
        let status = outcome.map(|_| panic!("{name} is not {reason}")).unwrap_err();
        assert_refused(&status, code, reason);
        if code == Code::NotFound || code == Code::AlreadyExists {
            let details = status.get_error_details();
            let resource = details
                .resource_info()
                .unwrap_or_else(|| panic!("{name} without ResourceInfo"));
            assert!(
                resource.resource_type.starts_with("affiliate.billing.v1."),
                "{resource:?}"
            );
        }
        unchanged.check(name).await;
    }
}

/// A run closes the due accruals to further entries before it claims them, so that posters are not held up; a refused one
/// leaves them closed. That shows nowhere, and moves no money.
async fn a_run_with_other_totals_settles_nothing(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "10.005", "EUR")]).await;
    let open = app.open_balances(&["aff-1"]).await;
    let mut unchanged = Unchanged::since_now(&app).await;
    for totals in [
        vec![money("9.99", "EUR")],
        vec![money("10", "USD")],
        vec![money("10", "EUR"), money("1", "USD")],
    ] {
        let mut request = settle_accounts(vec![("aff-1", None)]);
        request.expected_totals = totals.into_iter().flatten().collect();
        let status = app.balances().settle_balances(request).await.unwrap_err();
        assert_refused(&status, Code::Aborted, "EXPECTED_TOTALS_MISMATCH");
    }
    unchanged.check_but("accruals").await;
    assert_eq!(app.open_balances(&["aff-1"]).await, open);
}

async fn twenty_violations_are_told_and_all_are_counted(app: App) {
    let unchanged = Unchanged::since_now(&app).await;
    let wrong = vec![("two words", money("1,5", "EUR")); 30];
    let request = settle_accounts(wrong);
    let status = app.balances().settle_balances(request).await.unwrap_err();
    let told = assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(told.fields.len(), 20);
    assert_eq!(told.fields[0], "accounts.items[0].account_id");
    assert_eq!(told.fields[19], "accounts.items[9].amount.amount");
    assert_eq!(told.metadata["violation_count"], "60");
    unchanged.check("a request with 60 violations").await;
}

async fn an_invalid_chunk_ends_its_stream_after_the_answers_before_it(app: App) {
    let chunk = |id: &str, entries| proto::StreamEntriesRequest {
        chunk_id: id.to_owned(),
        entries,
    };
    let good = chunk("1", vec![entry("order-1", "aff-1", "1", "EUR")]);
    let last = chunk("3", vec![entry("order-3", "aff-1", "1", "EUR")]);
    let requests = tokio_stream::iter([good.clone(), chunk("2", Vec::new()), last]);
    let mut answers = app.balances().stream_entries(requests).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert_eq!((first.chunk_id.as_str(), first.posted_count), ("1", 1));
    let status = answers.message().await.unwrap_err();
    assert_eq!(invalid(&status), ["entries"]);
    assert_eq!(app.open_balances(&["aff-1"]).await[0].entry_count, 1);

    let number = rpc("BalancesService/StreamEntries")
        .string_field()
        .number()
        .try_into()
        .unwrap();
    let malformed = with_bytes(Vec::new(), number, &[0xff]);
    let outcome = call(
        &app.channel,
        "BalancesService/StreamEntries",
        vec![good.encode_to_vec(), malformed],
    )
    .await;
    assert_refused(&outcome.unwrap_err(), Code::InvalidArgument, "MALFORMED_MESSAGE");
}

/// A list with at least two rows.
struct List {
    name: &'static str,
    request: Vec<u8>,
    other_filter: Option<Vec<u8>>,
}

impl List {
    /// One row of it.
    async fn call(&self, app: &App, request: &[u8], token: &str) -> Result<Vec<u8>, Status> {
        let input = rpc(self.name).input;
        let request = with_number(request.to_vec(), field_number(&input, "page_size").unwrap(), 1);
        let request = with_bytes(request, field_number(&input, "page_token").unwrap(), token.as_bytes());
        Ok(call(&app.channel, self.name, vec![request]).await?.remove(0))
    }
}

/// Two events of Tipalti, each with an alarm.
async fn two_alarms(app: &App) {
    let world = World::new(app).await;
    let row = world.settled(&["tipalti-1"]).await.remove(0);
    app.delete_row(&row.id).await.unwrap();
    for raw_status in ["SUBMITTED", "PAID"] {
        let data = serde_json::json!({"refCode": row.id, "paymentStatus": raw_status});
        world.fake.send_event("payment", data, None, Delivery::default()).await;
    }
    world.end().await;
}

fn lists(scene: &Scene) -> Vec<List> {
    let list = |name, request: Vec<u8>, other: Option<Vec<u8>>| List {
        name,
        request,
        other_filter: other,
    };
    let methods = proto::ListPaymentMethodsRequest {
        account_id: "aff-1".to_owned(),
        ..Default::default()
    };
    let method_changes = proto::ListPaymentMethodChangesRequest {
        account_id: "aff-1".to_owned(),
        ..Default::default()
    };
    let entries = proto::ListEntriesRequest {
        account_id: "aff-1".to_owned(),
        ..Default::default()
    };
    let balances = proto::ListOpenBalancesRequest {
        filter: Some(proto::BalanceFilter {
            payable_only: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    let holds = proto::ListPayoutHoldsRequest {
        show_released: true,
        ..Default::default()
    };
    let settlements = proto::ListSettlementsRequest {
        show_deleted: true,
        ..Default::default()
    };
    let skipped = |id: &String| {
        let request = proto::ListSkippedAccountsRequest {
            settlement_id: id.clone(),
            ..Default::default()
        };
        request.encode_to_vec()
    };
    let rows = proto::ListAccountSettlementsRequest {
        status: RowStatus::New.into(),
        ..Default::default()
    };
    let events = proto::ListTipaltiEventsRequest {
        outcome: proto::TipaltiEventOutcome::Contradiction.into(),
        ..Default::default()
    };
    let alarms = proto::ListPayoutAlarmsRequest {
        account_id: "tipalti-1".to_owned(),
        ..Default::default()
    };
    let changes = |id: &String| {
        let request = proto::ListStatusChangesRequest {
            account_settlement_id: id.clone(),
            ..Default::default()
        };
        request.encode_to_vec()
    };
    vec![
        list("BillingDetailsService/ListBillingDetails", Vec::new(), None),
        list("PaymentMethodsService/ListPaymentMethodTypes", Vec::new(), None),
        list(
            "PaymentMethodsService/ListPaymentMethods",
            Vec::new(),
            Some(methods.encode_to_vec()),
        ),
        list(
            "PaymentMethodsService/ListPaymentMethodChanges",
            Vec::new(),
            Some(method_changes.encode_to_vec()),
        ),
        list("BalancesService/ListEntries", Vec::new(), Some(entries.encode_to_vec())),
        list(
            "BalancesService/ListOpenBalances",
            Vec::new(),
            Some(balances.encode_to_vec()),
        ),
        list(
            "BalancesService/ListPayoutHolds",
            Vec::new(),
            Some(holds.encode_to_vec()),
        ),
        list(
            "SettlementsService/ListSettlements",
            Vec::new(),
            Some(settlements.encode_to_vec()),
        ),
        list(
            "SettlementsService/ListSkippedAccounts",
            skipped(&scene.settlement_id),
            Some(skipped(&scene.other_settlement_id)),
        ),
        list(
            "SettlementsService/ListAccountSettlements",
            Vec::new(),
            Some(rows.encode_to_vec()),
        ),
        list(
            "SettlementsService/ListStatusChanges",
            changes(&scene.paid_row),
            Some(changes(&scene.new_row)),
        ),
        list(
            "TipaltiService/ListTipaltiEvents",
            Vec::new(),
            Some(events.encode_to_vec()),
        ),
        list(
            "TipaltiService/ListPayoutAlarms",
            Vec::new(),
            Some(alarms.encode_to_vec()),
        ),
    ]
}

fn wrong_requests(scene: &Scene) -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
    let mut cases = Vec::new();
    let mut wrong = |name, request: Vec<u8>, fields: &[&'static str]| cases.push((name, request, fields.to_vec()));

    // Oneofs that are not set, and masks.
    let mut details = billing_details("aff-9");
    details.party = None;
    details.address = None;
    wrong(
        "BillingDetailsService/CreateBillingDetails",
        proto::CreateBillingDetailsRequest {
            billing_details: Some(details),
            ..Default::default()
        }
        .encode_to_vec(),
        &["billing_details.party", "billing_details.address"],
    );
    wrong(
        "BillingDetailsService/UpdateBillingDetails",
        update_details("aff-1", "", &["nonsense"]),
        &["update_mask"],
    );
    let mut method = bank_method("aff-9", "EUR");
    method.details = None;
    wrong(
        "PaymentMethodsService/CreatePaymentMethod",
        create_method(method),
        &["payment_method.details"],
    );
    for iban in ["****3000", "**********************"] {
        let mut method = bank_method("aff-9", "EUR");
        if let Some(Details::BankTransfer(bank)) = &mut method.details {
            bank.iban = iban.to_owned();
        }
        wrong(
            "PaymentMethodsService/CreatePaymentMethod",
            create_method(method),
            &["payment_method.bank_transfer.iban"],
        );
    }
    wrong(
        "PaymentMethodsService/UpdatePaymentMethod",
        update_method(&scene.method_id, "", "nonsense"),
        &["update_mask"],
    );
    wrong(
        "PaymentMethodsService/UpdatePaymentMethodType",
        update_type("paypal", "", "nonsense"),
        &["update_mask"],
    );

    // Too many.
    let entries: Vec<_> = (0..1001)
        .map(|number| entry(&format!("many-{number}"), "aff-1", "1", "EUR"))
        .collect();
    wrong(
        "BalancesService/PostEntries",
        proto::PostEntriesRequest {
            entries: entries.clone(),
            ..Default::default()
        }
        .encode_to_vec(),
        &["entries"],
    );
    wrong(
        "BalancesService/StreamEntries",
        proto::StreamEntriesRequest {
            entries,
            ..Default::default()
        }
        .encode_to_vec(),
        &["entries"],
    );
    let ids = vec![scene.new_row.clone(); 1001];
    wrong(
        "SettlementsService/BulkUpdateAccountSettlementStatus",
        bulk(|chunk| chunk.account_settlement_ids = ids),
        &["account_settlement_ids"],
    );
    let items = vec![proto::StatusUpdateItem::default(); 1001];
    wrong(
        "SettlementsService/BulkUpdateAccountSettlementStatus",
        bulk(|chunk| chunk.items = items),
        &["items"],
    );
    wrong(
        "SettlementsService/BulkUpdateAccountSettlementStatus",
        bulk(|chunk| {
            chunk.items = vec![proto::StatusUpdateItem::default()];
            chunk.account_settlement_ids = vec![scene.new_row.clone()];
        }),
        &["items"],
    );

    // Too long.
    wrong(
        "BalancesService/StreamEntries",
        proto::StreamEntriesRequest {
            chunk_id: "a".repeat(129),
            entries: vec![entry("e", "aff-1", "1", "EUR")],
        }
        .encode_to_vec(),
        &["chunk_id"],
    );
    wrong(
        "BalancesService/HoldPayouts",
        proto::HoldPayoutsRequest {
            account_id: "aff-1".to_owned(),
            reason: "a".repeat(501),
            ..Default::default()
        }
        .encode_to_vec(),
        &["reason"],
    );
    wrong(
        "SettlementsService/BulkUpdateAccountSettlementStatus",
        bulk(|chunk| {
            chunk.chunk_id = "a".repeat(129);
            chunk.reason = "a".repeat(501);
            chunk.items = vec![proto::StatusUpdateItem {
                id: "x".to_owned(),
                payment_reference: "a".repeat(141),
            }];
        }),
        &["chunk_id", "reason", "items[0].payment_reference"],
    );

    // Settling.
    let settle = |change: &dyn Fn(&mut proto::SettleBalancesRequest)| {
        let mut request = settle_accounts(vec![("aff-1", None)]);
        change(&mut request);
        request.encode_to_vec()
    };
    let name = "BalancesService/SettleBalances";
    wrong(name, settle(&|r| r.selection = None), &["selection"]);
    wrong(name, settle(&|r| r.all_accounts = true), &["all_accounts"]);
    wrong(
        name,
        settle(&|r| r.selection = Some(Selection::Filter(proto::BalanceFilter::default()))),
        &["all_accounts"],
    );
    wrong(
        name,
        settle(&|r| r.selection = Some(Selection::Accounts(proto::AccountSelection::default()))),
        &["accounts.items"],
    );
    wrong(
        name,
        settle(&|r| r.available_through = "2999-01-01".to_owned()),
        &["available_through"],
    );
    wrong(
        name,
        settle(&|r| r.available_through = "2026-02-30".to_owned()),
        &["available_through"],
    );
    wrong(name, settle(&|r| r.note = "a".repeat(1001)), &["note"]);
    wrong(
        name,
        settle(&|r| r.expected_totals = vec![money("1", "EUR").unwrap(), money("1e3", "XXL").unwrap()]),
        &["expected_totals[1].currency_code", "expected_totals[1].amount"],
    );
    for amount in [
        "",
        "NaN",
        "1e3",
        "+1",
        "1,5",
        "-0",
        ".5",
        "5.",
        "٣",
        "0",
        "-1",
        "1.001",
        "****",
        " 1",
        &"9".repeat(40),
    ] {
        let request = settle_accounts(vec![("aff-1", money(amount, "EUR"))]);
        wrong(name, request.encode_to_vec(), &["accounts.items[0].amount.amount"]);
    }

    // Statuses.
    let name = "SettlementsService/UpdateAccountSettlementStatus";
    wrong(
        name,
        status_update(&scene.new_row, RowStatus::Error, |_| {}),
        &["status"],
    );
    wrong(
        name,
        status_update(&scene.new_row, RowStatus::InProgress, |r| {
            r.payment_reference = "x".to_owned()
        }),
        &["payment_reference"],
    );
    wrong(
        name,
        status_update(&scene.new_row, RowStatus::Paid, |r| {
            r.reason = "a".repeat(501);
            r.payment_reference = "a".repeat(141);
            r.paid_time = Some(prost_types::Timestamp {
                seconds: 253_402_300_800,
                nanos: 0,
            });
        }),
        &["reason", "paid_time", "payment_reference"],
    );
    wrong(
        "SettlementsService/BulkUpdateSettlementStatus",
        bulk_settlement(&scene.settlement_id, RowStatus::New, RowStatus::Error),
        &["target_status"],
    );

    // Filters.
    wrong(
        "BalancesService/ListOpenBalances",
        proto::ListOpenBalancesRequest {
            filter: Some(proto::BalanceFilter {
                account_ids: vec!["aff-1".to_owned(), String::new()],
                currency_code: "eur".to_owned(),
                payment_method_type_id: "a".repeat(51),
                minimum: money("x", ""),
                ..Default::default()
            }),
            available_through: "tomorrow".to_owned(),
            page_size: -1,
            ..Default::default()
        }
        .encode_to_vec(),
        &[
            "filter.account_ids[1]",
            "filter.minimum.currency_code",
            "filter.minimum.amount",
            "filter.payment_method_type_id",
            "filter.currency_code",
            "available_through",
            "page_size",
        ],
    );
    let no_time = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
    wrong(
        "BalancesService/ListEntries",
        proto::ListEntriesRequest {
            create_time_from: no_time,
            create_time_before: no_time,
            occur_time_from: no_time,
            ..Default::default()
        }
        .encode_to_vec(),
        &[
            "create_time_from",
            "create_time_before",
            "occur_time_from",
            "occur_time_from",
        ],
    );
    cases
}

fn refused_requests(scene: &Scene) -> Vec<(&'static str, Vec<u8>, Code, &'static str)> {
    let unknown = request_id();
    let mut cases = Vec::new();
    let mut refused = |name, request: Vec<u8>, code, reason| cases.push((name, request, code, reason));

    // Unknown ids, of each RPC that takes one.
    for (name, field, reason) in [
        (
            "BillingDetailsService/GetBillingDetails",
            "account_id",
            "BILLING_DETAILS_NOT_FOUND",
        ),
        (
            "BillingDetailsService/DeleteBillingDetails",
            "account_id",
            "BILLING_DETAILS_NOT_FOUND",
        ),
        (
            "PaymentMethodsService/GetPaymentMethod",
            "id",
            "PAYMENT_METHOD_NOT_FOUND",
        ),
        (
            "PaymentMethodsService/DeletePaymentMethod",
            "id",
            "PAYMENT_METHOD_NOT_FOUND",
        ),
        (
            "BalancesService/ListEntries",
            "account_settlement_id",
            "ACCOUNT_SETTLEMENT_NOT_FOUND",
        ),
        ("BalancesService/ReleasePayouts", "account_id", "PAYOUT_HOLD_NOT_FOUND"),
        ("SettlementsService/GetSettlement", "id", "SETTLEMENT_NOT_FOUND"),
        ("SettlementsService/DeleteSettlement", "id", "SETTLEMENT_NOT_FOUND"),
        (
            "SettlementsService/ListSkippedAccounts",
            "settlement_id",
            "SETTLEMENT_NOT_FOUND",
        ),
        (
            "SettlementsService/GetAccountSettlement",
            "id",
            "ACCOUNT_SETTLEMENT_NOT_FOUND",
        ),
        (
            "SettlementsService/DeleteAccountSettlement",
            "id",
            "ACCOUNT_SETTLEMENT_NOT_FOUND",
        ),
        (
            "SettlementsService/ListStatusChanges",
            "account_settlement_id",
            "ACCOUNT_SETTLEMENT_NOT_FOUND",
        ),
    ] {
        let number = field_number(&rpc(name).input, field).unwrap();
        refused(
            name,
            with_bytes(Vec::new(), number, unknown.as_bytes()),
            Code::NotFound,
            reason,
        );
    }
    refused(
        "BillingDetailsService/UpdateBillingDetails",
        update_details("nobody", "", &["email"]),
        Code::NotFound,
        "BILLING_DETAILS_NOT_FOUND",
    );
    refused(
        "PaymentMethodsService/UpdatePaymentMethod",
        update_method(&unknown, "", "default"),
        Code::NotFound,
        "PAYMENT_METHOD_NOT_FOUND",
    );
    refused(
        "PaymentMethodsService/UpdatePaymentMethodType",
        update_type("nothing", "", "display_name"),
        Code::NotFound,
        "PAYMENT_METHOD_TYPE_NOT_FOUND",
    );
    let status = "SettlementsService/UpdateAccountSettlementStatus";
    refused(
        status,
        status_update(&unknown, RowStatus::Paid, |_| {}),
        Code::NotFound,
        "ACCOUNT_SETTLEMENT_NOT_FOUND",
    );
    let bulk_settle = "SettlementsService/BulkUpdateSettlementStatus";
    refused(
        bulk_settle,
        bulk_settlement(&unknown, RowStatus::New, RowStatus::Paid),
        Code::NotFound,
        "SETTLEMENT_NOT_FOUND",
    );

    // What is there already.
    refused(
        "BillingDetailsService/CreateBillingDetails",
        proto::CreateBillingDetailsRequest {
            billing_details: Some(billing_details("aff-1")),
            ..Default::default()
        }
        .encode_to_vec(),
        Code::AlreadyExists,
        "BILLING_DETAILS_ALREADY_EXIST",
    );
    refused(
        "PaymentMethodsService/CreatePaymentMethod",
        create_method(bank_method("aff-1", "EUR")),
        Code::AlreadyExists,
        "PAYMENT_METHOD_ALREADY_EXISTS",
    );
    refused(
        "BalancesService/HoldPayouts",
        proto::HoldPayoutsRequest {
            account_id: "hold-1".to_owned(),
            reason: "another".to_owned(),
            ..Default::default()
        }
        .encode_to_vec(),
        Code::AlreadyExists,
        "PAYOUT_HOLD_ALREADY_EXISTS",
    );

    // Wrong etags.
    let etag = "another";
    for (name, request) in [
        (
            "BillingDetailsService/UpdateBillingDetails",
            update_details("aff-1", etag, &["email"]),
        ),
        (
            "BillingDetailsService/DeleteBillingDetails",
            proto::DeleteBillingDetailsRequest {
                account_id: "aff-1".to_owned(),
                etag: etag.to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "PaymentMethodsService/UpdatePaymentMethodType",
            update_type("paypal", etag, "display_name"),
        ),
        (
            "PaymentMethodsService/UpdatePaymentMethod",
            update_method(&scene.method_id, etag, "default"),
        ),
        (
            "PaymentMethodsService/DeletePaymentMethod",
            proto::DeletePaymentMethodRequest {
                id: scene.method_id.clone(),
                etag: etag.to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "SettlementsService/DeleteSettlement",
            proto::DeleteSettlementRequest {
                id: scene.other_settlement_id.clone(),
                etag: etag.to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "SettlementsService/DeleteAccountSettlement",
            proto::DeleteAccountSettlementRequest {
                id: scene.new_row.clone(),
                etag: etag.to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            status,
            status_update(&scene.new_row, RowStatus::Paid, |r| r.etag = etag.to_owned()),
        ),
    ] {
        refused(name, request, Code::Aborted, "ETAG_MISMATCH");
    }

    // Not in this state.
    for (request, code, reason) in [
        (
            status_update(&scene.new_row, RowStatus::Paid, |r| {
                r.expected_status = RowStatus::InProgress.into()
            }),
            Code::Aborted,
            "UNEXPECTED_STATUS",
        ),
        (
            status_update(&scene.paid_row, RowStatus::New, |_| {}),
            Code::InvalidArgument,
            "REASON_REQUIRED",
        ),
        (
            status_update(&scene.deleted_row, RowStatus::Paid, |_| {}),
            Code::FailedPrecondition,
            "ACCOUNT_SETTLEMENT_DELETED",
        ),
        (
            status_update(&scene.provider_row, RowStatus::Paid, |_| {}),
            Code::FailedPrecondition,
            "PROVIDER_MANAGED",
        ),
    ] {
        refused(status, request, code, reason);
    }
    for (name, id, code, reason) in [
        (
            "SettlementsService/DeleteAccountSettlement",
            &scene.paid_row,
            Code::FailedPrecondition,
            "ACCOUNT_SETTLEMENT_NOT_DELETABLE",
        ),
        (
            "SettlementsService/DeleteAccountSettlement",
            &scene.deleted_row,
            Code::NotFound,
            "ACCOUNT_SETTLEMENT_NOT_FOUND",
        ),
        (
            "SettlementsService/DeleteSettlement",
            &scene.settlement_id,
            Code::FailedPrecondition,
            "ACCOUNT_SETTLEMENT_NOT_DELETABLE",
        ),
        (
            "SettlementsService/DeleteSettlement",
            &scene.deleted_settlement_id,
            Code::NotFound,
            "SETTLEMENT_NOT_FOUND",
        ),
    ] {
        let number = field_number(&rpc(name).input, "id").unwrap();
        refused(name, with_bytes(Vec::new(), number, id.as_bytes()), code, reason);
    }
    refused(
        bulk_settle,
        bulk_settlement(&scene.deleted_settlement_id, RowStatus::New, RowStatus::Paid),
        Code::FailedPrecondition,
        "SETTLEMENT_DELETED",
    );
    cases
}

/// A request that is right, for texts to be put into.
fn good_request(name: &str, scene: &Scene) -> Vec<u8> {
    let fields: &[(&str, &str)] = match name.rsplit('/').next().unwrap() {
        "GetBillingDetails" => &[("account_id", "aff-1")],
        "DeleteBillingDetails" => &[("account_id", "aff-2")],
        "GetPaymentMethod" => &[("id", &scene.method_id)],
        "DeletePaymentMethod" => &[("id", &scene.tipalti_method_id)],
        "HoldPayouts" => &[("account_id", "hold-3"), ("reason", "a check")],
        "ReleasePayouts" => &[("account_id", "hold-2")],
        "GetSettlement" => &[("id", &scene.settlement_id)],
        "ApproveSettlement" => &[("id", &scene.settlement_id)],
        "DeleteSettlement" => &[("id", &scene.other_settlement_id)],
        "ListSkippedAccounts" => &[("settlement_id", &scene.settlement_id)],
        "GetAccountSettlement" => &[("id", &scene.new_row)],
        "DeleteAccountSettlement" => &[("id", &scene.new_row)],
        "ListStatusChanges" => &[("account_settlement_id", &scene.new_row)],
        _ => &[],
    };
    let input = rpc(name).input;
    let plain = fields.iter().fold(Vec::new(), |request, (field, value)| {
        with_bytes(request, field_number(&input, field).unwrap(), value.as_bytes())
    });
    match name.rsplit('/').next().unwrap() {
        "CreateBillingDetails" => {
            let billing_details = Some(billing_details("aff-9"));
            proto::CreateBillingDetailsRequest {
                billing_details,
                ..Default::default()
            }
            .encode_to_vec()
        }
        "ImportBillingDetails" => proto::ImportBillingDetailsRequest {
            billing_details: vec![billing_details("aff-9")],
            ..Default::default()
        }
        .encode_to_vec(),
        "ImportPaymentMethods" => proto::ImportPaymentMethodsRequest {
            payment_methods: vec![bank_method("aff-9", "EUR")],
            ..Default::default()
        }
        .encode_to_vec(),
        "UpdateBillingDetails" => update_details("aff-1", "", &["*"]),
        "CreatePaymentMethod" => create_method(bank_method("aff-9", "EUR")),
        "UpdatePaymentMethod" => update_method(&scene.method_id, "", "bank_transfer"),
        "CreatePaymentMethodType" => {
            let payment_method_type = Some(wallet("wallet"));
            proto::CreatePaymentMethodTypeRequest {
                payment_method_type,
                ..Default::default()
            }
            .encode_to_vec()
        }
        "UpdatePaymentMethodType" => update_type("paypal", "", "display_name"),
        "SettleBalances" => settle_accounts(vec![("aff-1", None)]).encode_to_vec(),
        "UpdateAccountSettlementStatus" => status_update(&scene.new_row, RowStatus::Paid, |_| {}),
        "BulkUpdateAccountSettlementStatus" => bulk(|chunk| chunk.items = vec![proto::StatusUpdateItem::default()]),
        "BulkUpdateSettlementStatus" => bulk_settlement(&scene.other_settlement_id, RowStatus::New, RowStatus::Paid),
        _ => plain,
    }
}

/// The text fields of a message and of those inside it, with the numbers that lead there.
fn text_fields(message: &DescriptorProto) -> Vec<(String, Vec<u32>)> {
    let mut found = Vec::new();
    for field in &message.field {
        let number: u32 = field.number().try_into().unwrap();
        if field.r#type() == Type::String {
            found.push((field.name().to_owned(), vec![number]));
            continue;
        }
        let inner = package_message(field.type_name());
        for (path, numbers) in inner.iter().flat_map(text_fields) {
            let path = format!("{}.{path}", field.name());
            found.push((path, [vec![number], numbers].concat()));
        }
    }
    found
}

async fn scene(app: &App) -> Scene {
    app.payable_account("aff-1", &["EUR", "USD"]).await;
    app.payable_account("aff-2", &["EUR"]).await;
    app.with_billing_details("aff-3").await;
    let tipalti = app.with_method(tipalti_method("aff-3", "EUR")).await;
    for number in 1..=3 {
        for account in ["aff-1", "aff-2", "aff-3", "aff-4", "aff-5"] {
            app.post(vec![entry(&format!("{account}-{number}"), account, "10", "EUR")])
                .await;
        }
        if number == 3 {
            app.post(vec![entry("usd", "aff-1", "10", "USD")]).await;
        }
    }
    for account in ["hold-1", "hold-2"] {
        let request = proto::HoldPayoutsRequest {
            account_id: account.to_owned(),
            reason: "a check".to_owned(),
            ..Default::default()
        };
        app.balances().hold_payouts(request).await.unwrap();
    }
    let everybody = ["aff-1", "aff-2", "aff-3", "aff-4", "aff-5"];
    let settlement = app.settle(&everybody).await.settlement.unwrap();
    let row = |account: &str, rows: &[proto::AccountSettlement]| {
        rows.iter().find(|row| row.account_id == account).unwrap().id.clone()
    };
    let rows = app.rows_of(&settlement.id).await;
    let paid_row = row("aff-1", &rows);
    let mut settlements = app.settlements();
    let pay = status_update_request(&paid_row, RowStatus::Paid);
    settlements.update_account_settlement_status(pay).await.unwrap();
    let deleted_row = row("aff-2", &rows);
    let delete = proto::DeleteAccountSettlementRequest {
        id: deleted_row.clone(),
        ..Default::default()
    };
    settlements.delete_account_settlement(delete).await.unwrap();

    let deleted = app.settle(&["aff-2", "aff-4"]).await.settlement.unwrap();
    let delete = proto::DeleteSettlementRequest {
        id: deleted.id.clone(),
        ..Default::default()
    };
    settlements.delete_settlement(delete).await.unwrap();
    let other = app.settle(&["aff-2", "aff-4", "aff-5"]).await.settlement.unwrap();
    app.post(vec![
        entry("more-1", "aff-1", "10", "EUR"),
        entry("more-2", "aff-2", "10", "EUR"),
    ])
    .await;
    Scene {
        method_id: app.first_method_of("aff-1").await,
        tipalti_method_id: tipalti.id,
        new_row: row("aff-2", &app.rows_of(&other.id).await),
        provider_row: row("aff-3", &rows),
        settlement_id: settlement.id,
        other_settlement_id: other.id,
        deleted_settlement_id: deleted.id,
        paid_row,
        deleted_row,
    }
}

impl App {
    /// The first payment method of an account.
    async fn first_method_of(&self, account_id: &str) -> String {
        let request = proto::ListPaymentMethodsRequest {
            account_id: account_id.to_owned(),
            ..Default::default()
        };
        let answer = self.payment_methods().list_payment_methods(request).await.unwrap();
        answer.into_inner().payment_methods.remove(0).id
    }
}

fn mask(path: &str) -> Option<FieldMask> {
    Some(FieldMask {
        paths: vec![path.to_owned()],
    })
}

fn update_details(account_id: &str, etag: &str, paths: &[&str]) -> Vec<u8> {
    let request = proto::UpdateBillingDetailsRequest {
        billing_details: Some(proto::BillingDetails {
            etag: etag.to_owned(),
            ..billing_details(account_id)
        }),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..Default::default()
    };
    request.encode_to_vec()
}

fn create_method(method: proto::PaymentMethod) -> Vec<u8> {
    let request = proto::CreatePaymentMethodRequest {
        payment_method: Some(method),
        ..Default::default()
    };
    request.encode_to_vec()
}

fn update_method(id: &str, etag: &str, path: &str) -> Vec<u8> {
    let request = proto::UpdatePaymentMethodRequest {
        payment_method: Some(proto::PaymentMethod {
            id: id.to_owned(),
            etag: etag.to_owned(),
            default: true,
            ..bank_method("aff-1", "EUR")
        }),
        update_mask: mask(path),
        ..Default::default()
    };
    request.encode_to_vec()
}

fn wallet(id: &str) -> proto::PaymentMethodType {
    proto::PaymentMethodType {
        id: id.to_owned(),
        display_name: "Wallet".to_owned(),
        currency_codes: vec!["EUR".to_owned()],
        fields: vec![proto::PaymentMethodField {
            name: "number".to_owned(),
            display_name: "Number".to_owned(),
            required: true,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn update_type(id: &str, etag: &str, path: &str) -> Vec<u8> {
    let request = proto::UpdatePaymentMethodTypeRequest {
        payment_method_type: Some(proto::PaymentMethodType {
            id: id.to_owned(),
            display_name: "Another".to_owned(),
            etag: etag.to_owned(),
            ..Default::default()
        }),
        update_mask: mask(path),
        ..Default::default()
    };
    request.encode_to_vec()
}

fn status_update_request(id: &str, status: RowStatus) -> proto::UpdateAccountSettlementStatusRequest {
    proto::UpdateAccountSettlementStatusRequest {
        id: id.to_owned(),
        status: status.into(),
        ..Default::default()
    }
}

fn status_update(
    id: &str,
    status: RowStatus,
    change: impl FnOnce(&mut proto::UpdateAccountSettlementStatusRequest),
) -> Vec<u8> {
    let mut request = status_update_request(id, status);
    change(&mut request);
    request.encode_to_vec()
}

fn bulk(change: impl FnOnce(&mut proto::BulkUpdateAccountSettlementStatusRequest)) -> Vec<u8> {
    let mut chunk = proto::BulkUpdateAccountSettlementStatusRequest {
        target_status: RowStatus::Paid.into(),
        ..Default::default()
    };
    change(&mut chunk);
    chunk.encode_to_vec()
}

fn bulk_settlement(id: &str, expected: RowStatus, target: RowStatus) -> Vec<u8> {
    let request = proto::BulkUpdateSettlementStatusRequest {
        settlement_id: id.to_owned(),
        expected_status: expected.into(),
        target_status: target.into(),
        ..Default::default()
    };
    request.encode_to_vec()
}

fn invalid(status: &Status) -> Vec<String> {
    assert_refused(status, Code::InvalidArgument, "INVALID_REQUEST").fields
}

fn assert_bad_token(outcome: Result<Vec<u8>, Status>, name: &str) {
    let status = outcome.map(|_| panic!("{name} took a wrong token")).unwrap_err();
    let told = assert_refused(&status, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    assert_eq!(told.fields, ["page_token"]);
}

fn assert_documented(status: &Status, what: &str) {
    let codes = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::Aborted,
    ];
    assert!(codes.contains(&status.code()), "{what}: {status:?}");
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    assert_refused(
        status,
        status.code(),
        &reason.unwrap_or_else(|| panic!("{what}: {status:?}")),
    );
}
