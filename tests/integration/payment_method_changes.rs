//! The history of payment methods: who changed what, when, and never a value in full.

use affiliate_billing::proto;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use affiliate_billing::proto::{ImportOutcome, PaymentMethodChangeKind as Kind};
use tonic::Code;

use crate::support::app::App;
use crate::support::fixtures::{IBAN, bank_method, request_id, tipalti_method};
use crate::support::guard::{Files, Known, authorized, plain_channel};
use crate::support::harness::scenarios;
use crate::support::rows::assert_refused;
use crate::support::tables::Tables;

scenarios![
    every_change_is_kept_with_who_when_and_which_fields,
    imports_are_in_the_history_too,
    what_changes_nothing_or_fails_is_not_in_the_history,
    changes_are_listed_by_account_method_and_time_in_pages,
    no_value_is_kept_in_full_and_secret_fields_stay_so;
];

const OTHER_IBAN: &str = "GB82WEST12345698765432";

type Request = proto::ListPaymentMethodChangesRequest;

async fn changes(app: &App, request: Request) -> Vec<proto::PaymentMethodChange> {
    let answer = app
        .payment_methods()
        .list_payment_method_changes(request)
        .await
        .unwrap();
    answer.into_inner().payment_method_changes
}

async fn of_account(app: &App, account_id: &str) -> Vec<proto::PaymentMethodChange> {
    let request = Request {
        account_id: account_id.to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    changes(app, request).await
}

/// `path: before > after` of each field.
fn fields(change: &proto::PaymentMethodChange) -> Vec<String> {
    let told = |field: &proto::PaymentMethodFieldChange| format!("{}: {} > {}", field.path, field.before, field.after);
    change.fields.iter().map(told).collect()
}

fn with_iban(id: &str, iban: &str) -> proto::UpdatePaymentMethodRequest {
    let mut method = bank_method("", "");
    method.id = id.to_owned();
    if let Some(proto::payment_method::Details::BankTransfer(bank)) = &mut method.details {
        bank.iban = iban.to_owned();
    }
    proto::UpdatePaymentMethodRequest {
        payment_method: Some(method),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["bank_transfer.iban".to_owned()],
        }),
        ..Default::default()
    }
}

async fn every_change_is_kept_with_who_when_and_which_fields(app: App) {
    let files = Files::new();
    let (maker, changer) = (Known::new("maker", &["accounts"]), Known::new("changer", &["accounts"]));
    let (reader, payer) = (Known::new("reader", &["reader"]), Known::new("payer", &["payer"]));
    files.write_identities(&[&maker, &changer, &reader, &payer]);
    let channel = plain_channel(app.guarded(files.by_tokens()).await).await;
    let methods = |known: &Known| {
        PaymentMethodsServiceClient::with_interceptor(channel.clone(), authorized(&known.authorization()))
    };
    let id = request_id();
    let request = proto::CreatePaymentMethodRequest {
        payment_method: Some(bank_method("aff-1", "EUR")),
        request_id: id.clone(),
    };
    // Twice, as one call.
    methods(&maker).create_payment_method(request.clone()).await.unwrap();
    let bank = methods(&maker).create_payment_method(request).await.unwrap();
    let bank = bank.into_inner().payment_method.unwrap();
    methods(&changer)
        .update_payment_method(with_iban(&bank.id, OTHER_IBAN))
        .await
        .unwrap();
    let request = proto::CreatePaymentMethodRequest {
        payment_method: Some(proto::PaymentMethod {
            default: true,
            ..tipalti_method("aff-1", "EUR")
        }),
        ..Default::default()
    };
    let tipalti = methods(&maker).create_payment_method(request).await.unwrap();
    let tipalti = tipalti.into_inner().payment_method.unwrap();
    let request = proto::DeletePaymentMethodRequest {
        id: tipalti.id.clone(),
        ..Default::default()
    };
    methods(&changer).delete_payment_method(request).await.unwrap();

    let request = Request {
        account_id: "aff-1".to_owned(),
        ..Default::default()
    };
    let refused = methods(&payer).list_payment_method_changes(request.clone()).await;
    assert_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
    let listed = methods(&reader)
        .list_payment_method_changes(request)
        .await
        .unwrap()
        .into_inner();
    let mut listed = listed.payment_method_changes;
    listed.reverse();
    type Told<'a> = (&'a str, Kind, &'a str, &'a str, Vec<String>);
    let told: Vec<Told<'_>> = listed
        .iter()
        .map(|change| {
            let method = if change.payment_method_id == bank.id {
                "bank"
            } else {
                "tipalti"
            };
            (
                method,
                change.kind(),
                change.actor.as_str(),
                change.rpc.as_str(),
                fields(change),
            )
        })
        .collect();
    let owned = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
    let expected: Vec<Told<'_>> = vec![
        (
            "bank",
            Kind::Created,
            "maker",
            "CreatePaymentMethod",
            owned(&[
                "bank_transfer.account_holder_name:  > Ada Byron",
                "bank_transfer.iban:  > ****3000",
                "currency_code:  > EUR",
                "default:  > true",
            ]),
        ),
        (
            "bank",
            Kind::Updated,
            "changer",
            "UpdatePaymentMethod",
            owned(&["bank_transfer.iban: ****3000 > ****5432"]),
        ),
        (
            "bank",
            Kind::Updated,
            "maker",
            "CreatePaymentMethod",
            owned(&["default: true > false"]),
        ),
        (
            "tipalti",
            Kind::Created,
            "maker",
            "CreatePaymentMethod",
            owned(&[
                "currency_code:  > EUR",
                "default:  > true",
                "tipalti.payee_id:  > ****ff-1",
            ]),
        ),
        (
            "tipalti",
            Kind::Deleted,
            "changer",
            "DeletePaymentMethod",
            owned(&[
                "currency_code: EUR > ",
                "default: true > ",
                "tipalti.payee_id: ****ff-1 > ",
            ]),
        ),
        (
            "bank",
            Kind::Updated,
            "changer",
            "DeletePaymentMethod",
            owned(&["default: false > true"]),
        ),
    ];
    assert_eq!(told, expected);
    assert_eq!(listed[0].request_id, id);
    assert_eq!(
        (listed[0].type_id.as_str(), listed[0].currency_code.as_str()),
        ("bank_transfer", "EUR")
    );
    assert_eq!(listed[0].change_time, bank.create_time);
    assert!(listed.iter().skip(1).all(|change| change.request_id.is_empty()));
    assert!(listed.is_sorted_by_key(|change| {
        let time = change.change_time.unwrap();
        (time.seconds, time.nanos)
    }));
}

async fn imports_are_in_the_history_too(app: App) {
    let methods = || {
        vec![
            bank_method("aff-1", "EUR"),
            tipalti_method("aff-1", "EUR"),
            bank_method("aff-2", "EUR"),
        ]
    };
    let id = request_id();
    assert_eq!(
        app.import_chunk_of_methods(methods(), &id).await,
        [ImportOutcome::Created; 3]
    );
    app.import_chunk_of_methods(methods(), &id).await;
    assert_eq!(
        app.import_chunk_of_methods(methods(), "").await,
        [ImportOutcome::Unchanged; 3]
    );
    let made = of_account(&app, "aff-1").await;
    assert_eq!(made.len(), 2);
    for change in made.iter().chain(&of_account(&app, "aff-2").await) {
        assert_eq!(
            (change.kind(), change.rpc.as_str()),
            (Kind::Created, "ImportPaymentMethods")
        );
        assert_eq!((change.actor.as_str(), &change.request_id), ("unauthenticated", &id));
    }
    // One that takes the default over, with other details.
    let mut changed = tipalti_method("aff-1", "EUR");
    changed.default = true;
    changed.details = Some(proto::payment_method::Details::Tipalti(proto::Tipalti {
        payee_id: "another-payee".to_owned(),
        ..Default::default()
    }));
    assert_eq!(
        app.import_chunk_of_methods(vec![changed], "").await,
        [ImportOutcome::Updated]
    );
    let told: Vec<Vec<String>> = of_account(&app, "aff-1").await.iter().take(2).map(fields).collect();
    let expected: [&[&str]; 2] = [
        &["default: false > true", "tipalti.payee_id: ****ff-1 > ****ayee"],
        &["default: true > false"],
    ];
    assert_eq!(told, expected);
}

async fn what_changes_nothing_or_fails_is_not_in_the_history(app: App) {
    let bank = app.with_method(bank_method("aff-1", "EUR")).await;
    assert_eq!(of_account(&app, "aff-1").await.len(), 1);
    let same = app
        .payment_methods()
        .update_payment_method(with_iban(&bank.id, IBAN))
        .await
        .unwrap();
    assert_eq!(same.into_inner().payment_method.unwrap().etag, bank.etag);
    let malformed = app
        .payment_methods()
        .update_payment_method(with_iban(&bank.id, "DE00"))
        .await;
    assert_refused(malformed, Code::InvalidArgument, "INVALID_REQUEST");
    let mut late = with_iban(&bank.id, OTHER_IBAN);
    if let Some(method) = &mut late.payment_method {
        method.etag = "99".to_owned();
    }
    let late = app.payment_methods().update_payment_method(late).await;
    assert_refused(late, Code::Aborted, "ETAG_MISMATCH");
    let second = proto::CreatePaymentMethodRequest {
        payment_method: Some(bank_method("aff-1", "EUR")),
        ..Default::default()
    };
    let second = app.payment_methods().create_payment_method(second).await;
    assert_refused(second, Code::AlreadyExists, "PAYMENT_METHOD_ALREADY_EXISTS");
    let late_delete = proto::DeletePaymentMethodRequest {
        id: bank.id,
        etag: "99".to_owned(),
        ..Default::default()
    };
    let late_delete = app.payment_methods().delete_payment_method(late_delete).await;
    assert_refused(late_delete, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(of_account(&app, "aff-1").await.len(), 1);
}

async fn changes_are_listed_by_account_method_and_time_in_pages(app: App) {
    let bank = app.with_method(bank_method("aff-1", "EUR")).await;
    let dollars = app.with_method(bank_method("aff-1", "USD")).await;
    app.with_method(bank_method("aff-2", "EUR")).await;
    for iban in [OTHER_IBAN, IBAN, OTHER_IBAN] {
        app.payment_methods()
            .update_payment_method(with_iban(&bank.id, iban))
            .await
            .unwrap();
    }
    let all = changes(&app, Request::default()).await;
    assert_eq!(all.len(), 6);
    assert_eq!(all[5].payment_method_id, bank.id, "the oldest is last");
    let of_account: Vec<_> = all
        .iter()
        .filter(|change| change.account_id == "aff-1")
        .cloned()
        .collect();
    let request = Request {
        account_id: "aff-1".to_owned(),
        page_size: 2,
        ..Default::default()
    };
    let mut paged = Vec::new();
    let mut tokens = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = Request {
            page_token,
            ..request.clone()
        };
        let answer = app
            .payment_methods()
            .list_payment_method_changes(request)
            .await
            .unwrap()
            .into_inner();
        paged.extend(answer.payment_method_changes);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
        tokens.push(page_token.clone());
    }
    assert_eq!(paged, of_account);
    assert_eq!(tokens.len(), 2);
    // A token is of its list and filter.
    for (account_id, page_token) in [("aff-2", tokens[0].clone()), ("aff-1", format!("{}A", tokens[0]))] {
        let request = Request {
            account_id: account_id.to_owned(),
            page_token,
            ..Default::default()
        };
        let refused = app.payment_methods().list_payment_method_changes(request).await;
        assert_refused(refused, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    }

    let request = Request {
        account_id: "aff-1".to_owned(),
        payment_method_id: dollars.id.clone(),
        ..Default::default()
    };
    assert_eq!(changes(&app, request).await.len(), 1);
    let request = Request {
        account_id: "aff-2".to_owned(),
        payment_method_id: dollars.id,
        ..Default::default()
    };
    assert!(changes(&app, request).await.is_empty());
    let request = Request {
        change_time_from: all[2].change_time,
        change_time_before: all[0].change_time,
        ..Default::default()
    };
    assert_eq!(changes(&app, request).await, all[1..3]);
    let malformed = Request {
        payment_method_id: "x".to_owned(),
        page_size: -1,
        ..Default::default()
    };
    let refused = app.payment_methods().list_payment_method_changes(malformed).await;
    assert_refused(refused, Code::InvalidArgument, "INVALID_REQUEST");
}

async fn no_value_is_kept_in_full_and_secret_fields_stay_so(app: App) {
    let field = |name: &str, secret: bool| proto::PaymentMethodField {
        name: name.to_owned(),
        secret,
        ..Default::default()
    };
    let wallet = |secret: bool| proto::PaymentMethodType {
        id: "wallet".to_owned(),
        display_name: "Wallet".to_owned(),
        fields: vec![field("phone", secret), field("pin", true)],
        ..Default::default()
    };
    let request = proto::CreatePaymentMethodTypeRequest {
        payment_method_type: Some(wallet(false)),
        ..Default::default()
    };
    app.payment_methods().create_payment_method_type(request).await.unwrap();
    let values = [("phone", "+49123456789"), ("pin", "918273645")];
    let method = proto::PaymentMethod {
        account_id: "aff-1".to_owned(),
        currency_code: "EUR".to_owned(),
        details: Some(proto::payment_method::Details::Custom(proto::CustomPayment {
            type_id: "wallet".to_owned(),
            fields: values.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        })),
        ..Default::default()
    };
    app.with_method(method).await;
    let told = fields(&of_account(&app, "aff-1").await[0]);
    assert!(told.contains(&"custom.fields[phone]:  > +49123456789".to_owned()));
    assert!(told.contains(&"custom.fields[pin]:  > ****3645".to_owned()));
    // What became secret later is masked in what was kept before, too.
    let request = proto::UpdatePaymentMethodTypeRequest {
        payment_method_type: Some(wallet(true)),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["fields".to_owned()],
        }),
        ..Default::default()
    };
    app.payment_methods().update_payment_method_type(request).await.unwrap();
    let told = fields(&of_account(&app, "aff-1").await[0]);
    assert!(
        told.contains(&"custom.fields[phone]:  > ****6789".to_owned()),
        "{told:?}"
    );
    assert!(told.contains(&"custom.fields[pin]:  > ****3645".to_owned()), "{told:?}");

    // The history outlives the method and its versions, and its table has nothing to read in it.
    let bank = app.with_method(bank_method("aff-2", "EUR")).await;
    let request = proto::DeletePaymentMethodRequest {
        id: bank.id,
        ..Default::default()
    };
    app.payment_methods().delete_payment_method(request).await.unwrap();
    let kinds: Vec<Kind> = of_account(&app, "aff-2")
        .await
        .iter()
        .map(|change| change.kind())
        .collect();
    assert_eq!(kinds, [Kind::Deleted, Kind::Created]);
    let tables = Tables::open(&app.database_url).await;
    let dump = tables.dump().await;
    tables.close().await;
    let history = dump["payment_method_changes"].to_lowercase();
    for text in ["ada byron", "****3000", "3645", "6789", "de89"] {
        let hexadecimal: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!history.contains(&hexadecimal), "{text}");
        // Digits alone may stand in an id by chance.
        assert!(
            text.bytes().all(|byte| byte.is_ascii_digit()) || text == "de89" || !history.contains(text),
            "{text}"
        );
    }
}
