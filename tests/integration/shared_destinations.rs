//! Accounts that are paid to the same place: who is told, what counts as the same, and what it costs.

use affiliate_billing::proto;
use affiliate_billing::proto::payment_method::Details;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use affiliate_billing::proto::{BankTransfer, PaymentMethod, Paypal, Tipalti, View};
use tokio_stream::iter;
use tonic::{Code, Status};

use crate::support::app::App;
use crate::support::fixtures::{IBAN, bank_method, entry, tipalti_method};
use crate::support::guard::{Files, Known, authorized, plain_channel};
use crate::support::harness::scenarios;
use crate::support::rows::{assert_refused, drained};
use crate::support::tables::Tables;

scenarios![
    accounts_with_one_bank_account_are_shown_with_each_other,
    every_kind_of_place_is_compared,
    the_currencies_of_one_account_share_nothing_with_each_other,
    a_change_begins_and_ends_sharing,
    imported_methods_are_compared,
    shared_only_lists_those_alone,
    many_who_share_are_counted_and_the_first_are_named,
    methods_of_an_older_version_are_compared_once_they_are_hashed,
    a_snapshot_tells_nothing_of_it;
    sqlite_only: only_who_may_see_details_learns_who_shares_them;
];

/// As an account is paid, and whom that is shared with.
fn told(method: &PaymentMethod) -> String {
    let shared = method.shared_with_account_ids.join(" ");
    format!("{}: {} [{shared}]", method.account_id, method.shared_with_account_count)
}

async fn get(app: &App, id: &str, view: View) -> PaymentMethod {
    let request = proto::GetPaymentMethodRequest {
        id: id.to_owned(),
        view: view.into(),
    };
    let answer = app.payment_methods().get_payment_method(request).await.unwrap();
    answer.into_inner().payment_method.unwrap()
}

/// All pages, of so many methods each.
async fn list(app: &App, mut request: proto::ListPaymentMethodsRequest) -> Vec<PaymentMethod> {
    let mut methods = Vec::new();
    loop {
        let answer = app.payment_methods().list_payment_methods(request.clone()).await;
        let answer = answer.unwrap().into_inner();
        methods.extend(answer.payment_methods);
        if answer.next_page_token.is_empty() {
            return methods;
        }
        request.page_token = answer.next_page_token;
    }
}

async fn shared(app: &App) -> Vec<String> {
    let request = proto::ListPaymentMethodsRequest {
        shared_only: true,
        page_size: 1,
        ..Default::default()
    };
    list(app, request).await.iter().map(told).collect()
}

fn with_details(account_id: &str, currency_code: &str, details: Details) -> PaymentMethod {
    PaymentMethod {
        details: Some(details),
        ..bank_method(account_id, currency_code)
    }
}

fn bank(transfer: BankTransfer) -> Details {
    Details::BankTransfer(BankTransfer {
        account_holder_name: "Ada Byron".to_owned(),
        ..transfer
    })
}

fn iban(iban: &str) -> Details {
    bank(BankTransfer {
        iban: iban.to_owned(),
        ..Default::default()
    })
}

fn paypal(email: &str) -> Details {
    Details::Paypal(Paypal {
        email: email.to_owned(),
    })
}

async fn update(app: &App, id: &str, details: Details, path: &str) {
    let request = proto::UpdatePaymentMethodRequest {
        payment_method: Some(PaymentMethod {
            id: id.to_owned(),
            details: Some(details),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec![path.to_owned()],
        }),
        ..Default::default()
    };
    app.payment_methods().update_payment_method(request).await.unwrap();
}

async fn delete(app: &App, id: &str) {
    let request = proto::DeletePaymentMethodRequest {
        id: id.to_owned(),
        ..Default::default()
    };
    app.payment_methods().delete_payment_method(request).await.unwrap();
}

async fn accounts_with_one_bank_account_are_shown_with_each_other(app: App) {
    let one = app.with_method(bank_method("aff-1", "EUR")).await;
    assert_eq!(told(&one), "aff-1: 0 []", "an answer to a write tells nothing");
    assert_eq!(told(&get(&app, &one.id, View::Full).await), "aff-1: 0 []");
    app.with_method(with_details("aff-2", "EUR", iban("GB33BUKB20201555555555")))
        .await;
    // The holder, the currency and the way that it is written do not matter.
    let details = bank(BankTransfer {
        account_holder_name: "Somebody Else".to_owned(),
        iban: "de89 3704 0044 0532 0130 00".to_owned(),
        bic: "COBADEFFXXX".to_owned(),
        ..Default::default()
    });
    app.with_method(with_details("aff-3", "USD", details)).await;
    assert_eq!(told(&get(&app, &one.id, View::Full).await), "aff-1: 1 [aff-3]");
    assert_eq!(told(&get(&app, &one.id, View::Masked).await), "aff-1: 0 []");
    let full = list(
        &app,
        proto::ListPaymentMethodsRequest {
            view: View::Full.into(),
            ..Default::default()
        },
    )
    .await;
    let full: Vec<String> = full.iter().map(told).collect();
    assert_eq!(full, ["aff-1: 1 [aff-3]", "aff-2: 0 []", "aff-3: 1 [aff-1]"]);
    let masked = list(&app, proto::ListPaymentMethodsRequest::default()).await;
    assert!(masked.iter().all(|method| method.shared_with_account_count == 0));
    let tables = Tables::open(&app.database_url).await;
    let dump = tables.dump().await;
    tables.close().await;
    let plain = hexadecimal_sha256(IBAN);
    assert!(
        !dump["payment_methods"].to_lowercase().contains(&plain),
        "a hash without a key"
    );
}

fn hexadecimal_sha256(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn every_kind_of_place_is_compared(app: App) {
    let uk = |sort_code: &str, account_number: &str| {
        bank(BankTransfer {
            sort_code: sort_code.to_owned(),
            account_number: account_number.to_owned(),
            ..Default::default()
        })
    };
    let us = |account_number: &str| {
        bank(BankTransfer {
            routing_number: "021000021".to_owned(),
            account_number: account_number.to_owned(),
            ..Default::default()
        })
    };
    let elsewhere = |bic: &str| {
        bank(BankTransfer {
            bic: bic.to_owned(),
            account_number: "12345678".to_owned(),
            ..Default::default()
        })
    };
    let tipalti = |payee_id: &str| {
        Details::Tipalti(Tipalti {
            payee_id: payee_id.to_owned(),
            ..Default::default()
        })
    };
    let pairs = [
        (iban("GB29NWBK60161331926819"), uk("60-16-13", "31926819")),
        (us("123456789"), us("000123456789")),
        (elsewhere("CHASHKHH"), elsewhere("CHASHKHHXXX")),
        (paypal("Ada@example.com"), paypal("ada@Example.com")),
        (tipalti("payee-1"), tipalti("payee-1")),
    ];
    let mut expected = Vec::new();
    for (number, (one, other)) in pairs.into_iter().enumerate() {
        let (first, second) = (format!("aff-{number}-a"), format!("aff-{number}-b"));
        app.with_method(with_details(&first, "USD", one)).await;
        app.with_method(with_details(&second, "USD", other)).await;
        expected.push(format!("{first}: 1 [{second}]"));
        expected.push(format!("{second}: 1 [{first}]"));
    }
    // Each is somewhere else.
    for (number, details) in [
        uk("601613", "31926818"),
        us("12345678"),
        elsewhere("CHASSGSG"),
        tipalti("PAYEE-1"),
    ]
    .into_iter()
    .enumerate()
    {
        app.with_method(with_details(&format!("alone-{number}"), "USD", details))
            .await;
    }
    assert_eq!(shared(&app).await, expected);
}

async fn the_currencies_of_one_account_share_nothing_with_each_other(app: App) {
    app.payable_account("aff-1", &["EUR", "USD", "GBP"]).await;
    assert_eq!(shared(&app).await, [""; 0]);
    app.payable_account("aff-2", &["EUR", "USD"]).await;
    let shared = shared(&app).await;
    let of = |account_id: &str| shared.iter().filter(|told| told.starts_with(account_id)).count();
    assert_eq!((of("aff-1"), of("aff-2")), (3, 2));
    assert!(
        shared.iter().all(|told| told.contains(": 1 [aff-")),
        "an account counts once: {shared:?}"
    );
}

async fn a_change_begins_and_ends_sharing(app: App) {
    let one = app
        .with_method(with_details("aff-1", "EUR", paypal("one@example.com")))
        .await;
    let other = app
        .with_method(with_details("aff-2", "EUR", paypal("other@example.com")))
        .await;
    assert_eq!(shared(&app).await, [""; 0]);
    update(&app, &other.id, paypal("one@example.com"), "paypal.email").await;
    assert_eq!(shared(&app).await, ["aff-1: 1 [aff-2]", "aff-2: 1 [aff-1]"]);
    update(&app, &one.id, paypal("third@example.com"), "paypal.email").await;
    assert_eq!(shared(&app).await, [""; 0]);
    update(&app, &one.id, paypal("one@example.com"), "paypal.email").await;
    assert_eq!(shared(&app).await.len(), 2);
    delete(&app, &one.id).await;
    assert_eq!(shared(&app).await, [""; 0]);
}

async fn import(app: &App, methods: Vec<PaymentMethod>) {
    let chunk = proto::ImportPaymentMethodsRequest {
        payment_methods: methods,
        ..Default::default()
    };
    let answers = app.payment_methods().import_payment_methods(iter(vec![chunk])).await;
    let (answers, end) = drained(answers.unwrap().into_inner()).await;
    assert!(end.is_none(), "{end:?}");
    assert!(
        answers[0].results.iter().all(|result| result.reason.is_empty()),
        "{answers:?}"
    );
}

async fn imported_methods_are_compared(app: App) {
    app.with_method(bank_method("aff-1", "EUR")).await;
    import(
        &app,
        vec![
            bank_method("aff-2", "EUR"),
            with_details("aff-3", "EUR", paypal("ada@example.com")),
            tipalti_method("aff-4", "EUR"),
        ],
    )
    .await;
    assert_eq!(shared(&app).await, ["aff-1: 1 [aff-2]", "aff-2: 1 [aff-1]"]);
    import(
        &app,
        vec![
            with_details("aff-2", "EUR", iban("GB33BUKB20201555555555")),
            with_details("aff-3", "EUR", paypal("bob@example.com")),
            with_details("aff-5", "EUR", paypal("bob@example.com")),
        ],
    )
    .await;
    assert_eq!(shared(&app).await, ["aff-3: 1 [aff-5]", "aff-5: 1 [aff-3]"]);
}

async fn shared_only_lists_those_alone(app: App) {
    for number in 1..=6 {
        let email = if number % 2 == 0 {
            "even".to_owned()
        } else {
            format!("odd-{number}")
        };
        let details = paypal(&format!("{email}@example.com"));
        app.with_method(with_details(&format!("aff-{number}"), "EUR", details))
            .await;
    }
    let expected = [
        "aff-2: 2 [aff-4 aff-6]",
        "aff-4: 2 [aff-2 aff-6]",
        "aff-6: 2 [aff-2 aff-4]",
    ];
    assert_eq!(shared(&app).await, expected);
    let of_account = proto::ListPaymentMethodsRequest {
        account_id: "aff-4".to_owned(),
        shared_only: true,
        ..Default::default()
    };
    let methods = list(&app, of_account.clone()).await;
    assert_eq!(methods.iter().map(told).collect::<Vec<_>>(), [expected[1]]);
    // The details stay masked unless they are asked for.
    let email = |method: &PaymentMethod| match method.details.clone() {
        Some(Details::Paypal(paypal)) => paypal.email,
        other => panic!("{other:?}"),
    };
    assert_eq!(email(&methods[0]), "****.com");
    let full = proto::ListPaymentMethodsRequest {
        view: View::Full.into(),
        ..of_account
    };
    assert_eq!(email(&list(&app, full).await[0]), "even@example.com");
    // A token is of its filter.
    let first = proto::ListPaymentMethodsRequest {
        shared_only: true,
        page_size: 1,
        ..Default::default()
    };
    let page = app
        .payment_methods()
        .list_payment_methods(first)
        .await
        .unwrap()
        .into_inner();
    let other = proto::ListPaymentMethodsRequest {
        page_token: page.next_page_token,
        ..Default::default()
    };
    let outcome = app.payment_methods().list_payment_methods(other).await;
    assert_refused(outcome, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
}

async fn many_who_share_are_counted_and_the_first_are_named(app: App) {
    let methods = (0..120).map(|number| bank_method(&format!("aff-{number:03}"), "EUR"));
    import(&app, methods.collect()).await;
    let request = proto::ListPaymentMethodsRequest {
        shared_only: true,
        page_size: 1000,
        ..Default::default()
    };
    let methods = list(&app, request).await;
    assert_eq!(methods.len(), 120);
    assert!(methods.iter().all(|method| method.shared_with_account_count == 100));
    let named =
        |numbers: std::ops::Range<usize>| -> Vec<String> { numbers.map(|number| format!("aff-{number:03}")).collect() };
    assert_eq!(methods[119].shared_with_account_ids, named(0..10));
    assert_eq!(methods[0].shared_with_account_ids, named(1..11));
}

async fn methods_of_an_older_version_are_compared_once_they_are_hashed(app: App) {
    app.with_method(bank_method("aff-1", "EUR")).await;
    let changed = app
        .with_method(with_details("aff-2", "EUR", iban("GB33BUKB20201555555555")))
        .await;
    app.with_method(bank_method("aff-3", "EUR")).await;
    let tables = Tables::open(&app.database_url).await;
    // An older version makes a method without a hash, and changes one that has one.
    let forget = "UPDATE payment_methods SET destination_hash = NULL, destination_hash_version_id = NULL WHERE account_id = 'aff-1'";
    tables.execute(forget).await;
    update(&app, &changed.id, iban(IBAN), "bank_transfer.iban").await;
    let stale = "UPDATE payment_methods SET destination_hash_version_id = (SELECT o.version_id FROM payment_methods o \
        WHERE o.account_id = 'aff-3') WHERE account_id = 'aff-2'";
    tables.execute(stale).await;
    assert_eq!(shared(&app).await, [""; 0], "a hash counts for its version alone");
    let last = app.billing.hash_missing_destinations(None).await.unwrap();
    assert!(last.is_some());
    assert_eq!(app.billing.hash_missing_destinations(last).await.unwrap(), None);
    let expected = [
        "aff-1: 2 [aff-2 aff-3]",
        "aff-2: 2 [aff-1 aff-3]",
        "aff-3: 2 [aff-1 aff-2]",
    ];
    assert_eq!(shared(&app).await, expected);
    assert_eq!(app.billing.hash_missing_destinations(None).await.unwrap(), None, "once");
    // One that does not open keeps no other from being compared.
    tables
        .execute("UPDATE payment_methods SET destination_hash_version_id = NULL")
        .await;
    let damage = "UPDATE payment_method_versions SET key_id = 'gone' WHERE account_id = 'aff-1'";
    tables.execute(damage).await;
    assert!(app.billing.hash_missing_destinations(None).await.unwrap().is_some());
    let hashed = "SELECT account_id FROM payment_methods WHERE destination_hash_version_id = version_id ORDER BY 1";
    assert_eq!(tables.texts(hashed).await, ["aff-2", "aff-3"]);
    tables
        .execute("UPDATE payment_method_versions SET key_id = 'test'")
        .await;
    tables.close().await;
}

async fn a_snapshot_tells_nothing_of_it(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.payable_account("aff-2", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "10", "EUR")]).await;
    let settlement = app.settle(&["aff-1"]).await.settlement.unwrap().id;
    let request = proto::ListAccountSettlementsRequest {
        settlement_id: settlement,
        view: View::Full.into(),
        ..Default::default()
    };
    let rows = app.settlements().list_account_settlements(request).await.unwrap();
    let row = rows.into_inner().account_settlements.remove(0);
    assert_eq!(told(&row.payment_method.unwrap()), "aff-1: 0 []");
}

async fn only_who_may_see_details_learns_who_shares_them(app: App) {
    app.with_method(bank_method("aff-1", "EUR")).await;
    app.with_method(bank_method("aff-2", "EUR")).await;
    let files = Files::new();
    let writer = Known::new("writer", &["accounts", "reader", "admin"]);
    let reviewer = Known {
        may_unmask: true,
        ..Known::new("reviewer", &["reader"])
    };
    files.write_identities(&[&writer, &reviewer]);
    let channel = plain_channel(app.guarded(files.by_tokens()).await).await;
    let ask = async |known: &Known, request: proto::ListPaymentMethodsRequest| -> Result<Vec<String>, Status> {
        let authorized = authorized(&known.authorization());
        let mut client = PaymentMethodsServiceClient::with_interceptor(channel.clone(), authorized);
        let answer = client.list_payment_methods(request).await?;
        Ok(answer.into_inner().payment_methods.iter().map(told).collect())
    };
    let shared_only = proto::ListPaymentMethodsRequest {
        shared_only: true,
        ..Default::default()
    };
    assert_refused(
        ask(&writer, shared_only.clone()).await,
        Code::PermissionDenied,
        "PERMISSION_DENIED",
    );
    let masked = ask(&writer, proto::ListPaymentMethodsRequest::default()).await.unwrap();
    assert_eq!(masked, ["aff-1: 0 []", "aff-2: 0 []"]);
    let told = ask(&reviewer, shared_only).await.unwrap();
    assert_eq!(told, ["aff-1: 1 [aff-2]", "aff-2: 1 [aff-1]"]);
}
