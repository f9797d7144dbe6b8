//! Payment method types and payment methods: what is accepted, what is shown, and which one is the default.

use affiliate_billing::proto::payment_method::Details;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use affiliate_billing::proto::{
    BankTransfer, CreatePaymentMethodRequest, CreatePaymentMethodTypeRequest, CustomPayment,
    DeletePaymentMethodRequest, GetPaymentMethodRequest, ListPaymentMethodTypesRequest, ListPaymentMethodsRequest,
    Money, PaymentMethod, PaymentMethodField, PaymentMethodType, Paypal, Tipalti, UpdatePaymentMethodRequest,
    UpdatePaymentMethodTypeRequest, View,
};
use prost_types::FieldMask;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::support::app::App;
use crate::support::harness::scenarios;

scenarios![
    create_accepts_the_four_combinations_of_a_bank_account,
    create_refuses_every_other_bank_account_and_names_the_fields,
    create_takes_paypal_and_tipalti,
    create_refuses_what_is_missing_or_malformed_with_every_violation,
    create_refuses_a_currency_that_the_type_does_not_pay_in,
    create_refuses_a_second_method_of_a_type_and_currency,
    create_for_an_unknown_type_is_not_found,
    own_types_check_their_fields,
    own_types_keep_saved_values_when_their_fields_change,
    types_are_listed_in_pages_by_id,
    types_refuse_settings_that_are_wrong,
    types_change_what_the_mask_names,
    at_most_a_hundred_types,
    disabled_types_keep_details_but_take_no_new_methods,
    answers_are_masked_unless_asked_for_in_full,
    masked_values_that_are_sent_back_are_refused,
    the_first_method_of_a_currency_is_the_default_and_another_takes_over,
    deleting_the_default_hands_it_to_the_oldest_that_remains,
    changing_the_currency_hands_the_default_on,
    the_default_is_not_set_to_false,
    concurrent_first_methods_leave_one_default,
    concurrent_takeovers_leave_one_default,
    concurrent_updates_of_one_method_are_all_done,
    update_changes_what_the_mask_names,
    update_refuses_another_type_or_account,
    update_refuses_unknown_paths_and_empty_masks,
    stale_etags_are_refused,
    request_ids_answer_the_same_again,
    methods_are_listed_in_pages,
    unknown_methods_are_not_found,
];

const IBAN: &str = "DE89370400440532013000";
const OTHER_IBAN: &str = "GB33BUKB20201555555555";

type Client = PaymentMethodsServiceClient<Channel>;

fn client(app: &App) -> Client {
    PaymentMethodsServiceClient::new(app.channel.clone())
}

fn method(account_id: &str, currency_code: &str, details: Details) -> PaymentMethod {
    PaymentMethod {
        account_id: account_id.to_owned(),
        currency_code: currency_code.to_owned(),
        details: Some(details),
        ..PaymentMethod::default()
    }
}

fn bank(change: impl FnOnce(&mut BankTransfer)) -> Details {
    let mut transfer = BankTransfer {
        account_holder_name: "Ada Byron".to_owned(),
        ..BankTransfer::default()
    };
    change(&mut transfer);
    Details::BankTransfer(transfer)
}

fn iban() -> Details {
    bank(|transfer| transfer.iban = IBAN.to_owned())
}

fn paypal(email: &str) -> Details {
    Details::Paypal(Paypal {
        email: email.to_owned(),
    })
}

fn tipalti(payee_id: &str) -> Details {
    Details::Tipalti(Tipalti {
        payee_id: payee_id.to_owned(),
        ..Default::default()
    })
}

fn custom(type_id: &str, fields: &[(&str, &str)]) -> Details {
    Details::Custom(CustomPayment {
        type_id: type_id.to_owned(),
        fields: fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    })
}

fn field(name: &str, required: bool, pattern: &str, secret: bool) -> PaymentMethodField {
    PaymentMethodField {
        name: name.to_owned(),
        required,
        pattern: pattern.to_owned(),
        secret,
        ..PaymentMethodField::default()
    }
}

fn money(currency_code: &str, amount: &str) -> Money {
    Money {
        currency_code: currency_code.to_owned(),
        amount: amount.to_owned(),
    }
}

/// A type with a required open field, a required secret one, and an optional one.
fn wallet() -> PaymentMethodType {
    PaymentMethodType {
        id: "wallet".to_owned(),
        display_name: "Wallet".to_owned(),
        currency_codes: vec!["USD".to_owned(), "EUR".to_owned()],
        minimum_payouts: vec![money("USD", "25")],
        fields: vec![
            field("network", true, "base|ethereum", false),
            field("address", true, "0x[0-9a-f]{8}", true),
            field("note", false, "", false),
        ],
        ..PaymentMethodType::default()
    }
}

fn wallet_details() -> Details {
    custom("wallet", &[("network", "base"), ("address", "0x00112233")])
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

async fn create(client: &mut Client, method: PaymentMethod) -> Result<PaymentMethod, Status> {
    let request = CreatePaymentMethodRequest {
        payment_method: Some(method),
        request_id: String::new(),
    };
    let answer = client.create_payment_method(request).await?.into_inner();
    Ok(answer.payment_method.unwrap())
}

async fn update(client: &mut Client, method: PaymentMethod, paths: &[&str]) -> Result<PaymentMethod, Status> {
    let request = UpdatePaymentMethodRequest {
        payment_method: Some(method),
        update_mask: mask(paths),
        request_id: String::new(),
    };
    let answer = client.update_payment_method(request).await?.into_inner();
    Ok(answer.payment_method.unwrap())
}

async fn get(client: &mut Client, id: &str, view: View) -> Result<PaymentMethod, Status> {
    let request = GetPaymentMethodRequest {
        id: id.to_owned(),
        view: view.into(),
    };
    let answer = client.get_payment_method(request).await?.into_inner();
    Ok(answer.payment_method.unwrap())
}

async fn delete(client: &mut Client, id: &str, etag: &str) -> Result<(), Status> {
    let request = DeletePaymentMethodRequest {
        id: id.to_owned(),
        etag: etag.to_owned(),
        request_id: String::new(),
    };
    client.delete_payment_method(request).await.map(drop)
}

async fn create_type(client: &mut Client, method_type: PaymentMethodType) -> Result<PaymentMethodType, Status> {
    let request = CreatePaymentMethodTypeRequest {
        payment_method_type: Some(method_type),
        request_id: String::new(),
    };
    let answer = client.create_payment_method_type(request).await?.into_inner();
    Ok(answer.payment_method_type.unwrap())
}

async fn update_type(
    client: &mut Client,
    method_type: PaymentMethodType,
    paths: &[&str],
) -> Result<PaymentMethodType, Status> {
    let request = UpdatePaymentMethodTypeRequest {
        payment_method_type: Some(method_type),
        update_mask: mask(paths),
        request_id: String::new(),
    };
    let answer = client.update_payment_method_type(request).await?.into_inner();
    Ok(answer.payment_method_type.unwrap())
}

async fn set_enabled(client: &mut Client, id: &str, enabled: bool) -> PaymentMethodType {
    let change = PaymentMethodType {
        id: id.to_owned(),
        enabled: Some(enabled),
        ..PaymentMethodType::default()
    };
    update_type(client, change, &[]).await.unwrap()
}

/// Which of an account's methods in a currency is the default, by type; there must be one at most.
async fn default_of(client: &mut Client, account_id: &str, currency_code: &str) -> Option<String> {
    let request = ListPaymentMethodsRequest {
        account_id: account_id.to_owned(),
        page_size: 1000,
        ..ListPaymentMethodsRequest::default()
    };
    let listed = client
        .list_payment_methods(request)
        .await
        .unwrap()
        .into_inner()
        .payment_methods;
    let in_currency: Vec<&PaymentMethod> = listed
        .iter()
        .filter(|method| method.currency_code == currency_code)
        .collect();
    let defaults: Vec<&&PaymentMethod> = in_currency.iter().filter(|method| method.default).collect();
    let expected = usize::from(!in_currency.is_empty());
    assert_eq!(defaults.len(), expected, "one default in a currency with methods");
    defaults.first().map(|method| method.type_id.clone())
}

fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, expected: &str) -> Status {
    let status = outcome.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (code, expected),
        "{status:?}"
    );
    status
}

/// The fields that an invalid request is refused for.
fn violated<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Vec<String> {
    let status = assert_refused(outcome, Code::InvalidArgument, "INVALID_REQUEST");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

fn values_shown(details: Option<&Details>) -> Vec<String> {
    match details {
        Some(Details::BankTransfer(transfer)) => vec![transfer.iban.clone(), transfer.account_number.clone()],
        Some(Details::Paypal(paypal)) => vec![paypal.email.clone()],
        Some(Details::Tipalti(tipalti)) => vec![tipalti.payee_id.clone()],
        Some(Details::Custom(custom)) => {
            let mut fields: Vec<(String, String)> = custom.fields.clone().into_iter().collect();
            fields.sort();
            fields
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect()
        }
        None => Vec::new(),
    }
}

async fn create_accepts_the_four_combinations_of_a_bank_account(app: App) {
    let mut client = client(&app);
    type Set = fn(&mut BankTransfer);
    let cases: [(&str, Set, Set); 5] = [
        (
            "iban",
            |sent| sent.iban = "de89 3704 0044 0532 0130 00".to_owned(),
            |kept| kept.iban = IBAN.to_owned(),
        ),
        (
            "iban-bic",
            |sent| {
                sent.iban = OTHER_IBAN.to_owned();
                sent.bic = "BUKBGB22".to_owned();
                sent.bank_name = "Barclays".to_owned();
            },
            |kept| {
                kept.iban = OTHER_IBAN.to_owned();
                kept.bic = "BUKBGB22".to_owned();
                kept.bank_name = "Barclays".to_owned();
            },
        ),
        (
            "us",
            |sent| {
                sent.routing_number = "021000021".to_owned();
                sent.account_number = "0012 3456".to_owned();
            },
            |kept| {
                kept.routing_number = "021000021".to_owned();
                kept.account_number = "00123456".to_owned();
            },
        ),
        (
            "uk",
            |sent| {
                sent.sort_code = "12-34-56".to_owned();
                sent.account_number = "31926819".to_owned();
            },
            |kept| {
                kept.sort_code = "123456".to_owned();
                kept.account_number = "31926819".to_owned();
            },
        ),
        (
            "elsewhere",
            |sent| {
                sent.bic = "BOTKJPJT".to_owned();
                sent.account_number = "1234567".to_owned();
            },
            |kept| {
                kept.bic = "BOTKJPJT".to_owned();
                kept.account_number = "1234567".to_owned();
            },
        ),
    ];
    for (account_id, sent, kept) in cases {
        let created = create(&mut client, method(account_id, "EUR", bank(sent)))
            .await
            .unwrap();
        assert_eq!(created.type_id, "bank_transfer");
        assert!(created.default && created.create_time.is_some() && !created.etag.is_empty());
        let full = get(&mut client, &created.id, View::Full).await.unwrap();
        assert_eq!(full.details, Some(bank(kept)), "{account_id}");
    }
}

async fn create_refuses_every_other_bank_account_and_names_the_fields(app: App) {
    let mut client = client(&app);
    type Set = fn(&mut BankTransfer);
    let cases: [(&[&str], Set); 11] = [
        (&[""], |_| {}),
        (&[""], |sent| sent.bic = "BOTKJPJT".to_owned()),
        (&[""], |sent| sent.account_number = "1234567".to_owned()),
        (&[""], |sent| sent.routing_number = "021000021".to_owned()),
        (&[""], |sent| {
            sent.iban = IBAN.to_owned();
            sent.account_number = "1234567".to_owned();
        }),
        (&[""], |sent| {
            sent.routing_number = "021000021".to_owned();
            sent.sort_code = "123456".to_owned();
            sent.account_number = "31926819".to_owned();
        }),
        (&[".iban"], |sent| sent.iban = "DE89370400440532013001".to_owned()),
        (&[".routing_number"], |sent| {
            sent.routing_number = "021000022".to_owned();
            sent.account_number = "1234567".to_owned();
        }),
        (&[".sort_code", ".account_number"], |sent| {
            sent.sort_code = "1234".to_owned();
            sent.account_number = "1234567".to_owned();
        }),
        (&[".bic"], |sent| {
            sent.bic = "BOTKQQJT".to_owned();
            sent.account_number = "1234567".to_owned();
        }),
        (&[".account_holder_name", ".iban", ""], |sent| {
            sent.account_holder_name.clear();
            sent.iban = "XX".to_owned();
            sent.sort_code = "123456".to_owned();
        }),
    ];
    for (paths, sent) in cases {
        let expected: Vec<String> = paths
            .iter()
            .map(|path| format!("payment_method.bank_transfer{path}"))
            .collect();
        let outcome = create(&mut client, method("a", "EUR", bank(sent))).await;
        assert_eq!(violated(outcome), expected);
    }
    let outcome = create(&mut client, method("a", "EUR", bank(|_| {}))).await;
    let text = outcome.unwrap_err().message().to_owned();
    for combination in [
        "iban with or without bic",
        "routing_number and account_number",
        "sort_code and account_number",
        "bic and account_number",
    ] {
        assert!(text.contains(combination), "{text}");
    }
}

async fn create_takes_paypal_and_tipalti(app: App) {
    let mut client = client(&app);
    for (details, type_id) in [
        (paypal("ada@example.com"), "paypal"),
        (tipalti("aff-1_x.y@z"), "tipalti"),
    ] {
        let created = create(&mut client, method("a", "EUR", details.clone())).await.unwrap();
        assert_eq!(created.type_id, type_id);
        let full = get(&mut client, &created.id, View::Full).await.unwrap();
        assert_eq!(full.details, Some(details));
    }
    for (details, path) in [
        (paypal("ada"), "payment_method.paypal.email"),
        (paypal(""), "payment_method.paypal.email"),
        (tipalti("a b"), "payment_method.tipalti.payee_id"),
        (tipalti(""), "payment_method.tipalti.payee_id"),
    ] {
        assert_eq!(violated(create(&mut client, method("b", "EUR", details)).await), [path]);
    }
}

async fn create_refuses_what_is_missing_or_malformed_with_every_violation(app: App) {
    let mut client = client(&app);
    create_type(&mut client, wallet()).await.unwrap();
    let nothing = client
        .create_payment_method(CreatePaymentMethodRequest::default())
        .await;
    assert_eq!(violated(nothing), ["payment_method"]);
    let empty = create(&mut client, PaymentMethod::default()).await;
    assert_eq!(
        violated(empty),
        [
            "payment_method.account_id",
            "payment_method.currency_code",
            "payment_method.details"
        ]
    );
    // What only the type can tell is told with the rest.
    let request = CreatePaymentMethodRequest {
        payment_method: Some(method("", "BGN", custom("wallet", &[("network", "polygon")]))),
        request_id: "1".to_owned(),
    };
    assert_eq!(
        violated(client.create_payment_method(request).await),
        [
            "request_id",
            "payment_method.account_id",
            "payment_method.currency_code",
            "payment_method.custom.fields[network]",
            "payment_method.custom.fields[address]",
        ]
    );
    let request = GetPaymentMethodRequest {
        id: "x".to_owned(),
        view: 7,
    };
    assert_eq!(violated(client.get_payment_method(request).await), ["id", "view"]);
}

async fn create_refuses_a_currency_that_the_type_does_not_pay_in(app: App) {
    let mut client = client(&app);
    create_type(&mut client, wallet()).await.unwrap();
    for details in [paypal("ada@example.com"), wallet_details()] {
        let outcome = create(&mut client, method("a", "KWD", details)).await;
        assert_eq!(violated(outcome), ["payment_method.currency_code"]);
    }
    let created = create(&mut client, method("a", "KWD", iban())).await.unwrap();
    let outcome = update(
        &mut client,
        PaymentMethod {
            currency_code: "XXX".to_owned(),
            ..created
        },
        &["currency_code"],
    )
    .await;
    assert_eq!(violated(outcome), ["payment_method.currency_code"]);
}

async fn create_refuses_a_second_method_of_a_type_and_currency(app: App) {
    let mut client = client(&app);
    let first = create(&mut client, method("a", "EUR", iban())).await.unwrap();
    let outcome = create(&mut client, method("a", "EUR", iban())).await;
    let status = assert_refused(outcome, Code::AlreadyExists, "PAYMENT_METHOD_ALREADY_EXISTS");
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, first.id);
    create(&mut client, method("b", "EUR", iban())).await.unwrap();
    let other = create(&mut client, method("a", "USD", iban())).await.unwrap();
    let change = PaymentMethod {
        currency_code: "EUR".to_owned(),
        ..other
    };
    let outcome = update(&mut client, change, &["currency_code"]).await;
    assert_refused(outcome, Code::AlreadyExists, "PAYMENT_METHOD_ALREADY_EXISTS");
}

async fn create_for_an_unknown_type_is_not_found(app: App) {
    let mut client = client(&app);
    let outcome = create(&mut client, method("a", "EUR", custom("wise", &[]))).await;
    assert_refused(outcome, Code::NotFound, "PAYMENT_METHOD_TYPE_NOT_FOUND");
    for type_id in ["paypal", "bank_transfer", "", "No"] {
        let outcome = create(&mut client, method("a", "EUR", custom(type_id, &[]))).await;
        assert_eq!(violated(outcome), ["payment_method.custom.type_id"], "{type_id}");
    }
    let change = PaymentMethodType {
        id: "wise".to_owned(),
        enabled: Some(false),
        ..PaymentMethodType::default()
    };
    let outcome = update_type(&mut client, change, &[]).await;
    assert_refused(outcome, Code::NotFound, "PAYMENT_METHOD_TYPE_NOT_FOUND");
}

async fn own_types_check_their_fields(app: App) {
    let mut client = client(&app);
    let created = create_type(&mut client, wallet()).await.unwrap();
    assert_eq!((created.enabled, created.built_in), (Some(true), false));
    assert_eq!(created.minimum_payouts, [money("USD", "25.00")]);
    let address = ("address", "0x00112233");
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 6] = [
        (&[], &["[network]", "[address]"]),
        (&[("network", ""), address], &["[network]"]),
        (&[("network", "bases"), address], &["[network]"]),
        (&[("network", "base"), ("address", "0x00112233 ")], &["[address]"]),
        (&[("network", "base"), address, ("other", "x")], &[""]),
        (&[("network", "base"), address, ("note", "a\nb")], &["[note]"]),
    ];
    for (fields, paths) in cases {
        let expected: Vec<String> = paths
            .iter()
            .map(|path| format!("payment_method.custom.fields{path}"))
            .collect();
        let outcome = create(&mut client, method("a", "USD", custom("wallet", fields))).await;
        assert_eq!(violated(outcome), expected, "{fields:?}");
    }
    let long = "x".repeat(500);
    let fields = [("network", "base"), address, ("note", long.as_str())];
    let created = create(&mut client, method("a", "USD", custom("wallet", &fields)))
        .await
        .unwrap();
    assert_eq!(created.type_id, "wallet");
    let full = get(&mut client, &created.id, View::Full).await.unwrap();
    assert_eq!(full.details, Some(custom("wallet", &fields)));
}

async fn own_types_keep_saved_values_when_their_fields_change(app: App) {
    let mut client = client(&app);
    create_type(&mut client, wallet()).await.unwrap();
    let saved = create(&mut client, method("a", "USD", wallet_details())).await.unwrap();
    let change = PaymentMethodType {
        id: "wallet".to_owned(),
        fields: vec![field("handle", true, "@.+", false)],
        ..PaymentMethodType::default()
    };
    update_type(&mut client, change, &["fields"]).await.unwrap();
    // What the type no longer knows may have been a secret.
    let masked = get(&mut client, &saved.id, View::Masked).await.unwrap();
    assert_eq!(
        values_shown(masked.details.as_ref()),
        ["address=****2233", "network=****"]
    );
    let change = PaymentMethod {
        id: saved.id.clone(),
        currency_code: "EUR".to_owned(),
        ..PaymentMethod::default()
    };
    update(&mut client, change, &["currency_code"]).await.unwrap();
    let full = get(&mut client, &saved.id, View::Full).await.unwrap();
    assert_eq!(
        (full.currency_code.as_str(), full.details),
        ("EUR", Some(wallet_details()))
    );
    // New values are those of the type as it is now.
    let change = |fields| PaymentMethod {
        id: saved.id.clone(),
        details: Some(custom("wallet", fields)),
        ..PaymentMethod::default()
    };
    let outcome = update(&mut client, change(&[("network", "base")]), &["custom.fields"]).await;
    assert_eq!(
        violated(outcome),
        ["payment_method.custom.fields", "payment_method.custom.fields[handle]"]
    );
    let changed = update(&mut client, change(&[("handle", "@ada")]), &["custom.fields"])
        .await
        .unwrap();
    assert_eq!(changed.details, Some(custom("wallet", &[("handle", "@ada")])));
}

async fn types_are_listed_in_pages_by_id(app: App) {
    let mut client = client(&app);
    create_type(&mut client, wallet()).await.unwrap();
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListPaymentMethodTypesRequest {
            page_size: 3,
            page_token,
        };
        let page = client.list_payment_method_types(request).await.unwrap().into_inner();
        for listed in &page.payment_method_types {
            assert_eq!(listed.enabled, Some(true));
            assert_eq!(listed.built_in, listed.id != "wallet");
        }
        ids.extend(page.payment_method_types.into_iter().map(|listed| listed.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, ["bank_transfer", "paypal", "tipalti", "wallet"]);
    let request = ListPaymentMethodTypesRequest {
        page_size: -1,
        page_token: String::new(),
    };
    assert_eq!(violated(client.list_payment_method_types(request).await), ["page_size"]);
}

async fn types_refuse_settings_that_are_wrong(app: App) {
    let mut client = client(&app);
    let wrong = PaymentMethodType {
        id: "Wise".to_owned(),
        currency_codes: ["EUR", "EUR", "DEM"].map(str::to_owned).to_vec(),
        minimum_payouts: vec![money("EUR", "1.005"), money("USD", "1")],
        fields: vec![field("a", true, "(", false), field("a", true, "", false)],
        ..PaymentMethodType::default()
    };
    assert_eq!(
        violated(create_type(&mut client, wrong).await),
        [
            "id",
            "display_name",
            "currency_codes[1]",
            "currency_codes[2]",
            "minimum_payouts[0].amount",
            "minimum_payouts[1].currency_code",
            "fields[0].pattern",
            "fields[1].name",
        ]
        .map(|path| format!("payment_method_type.{path}"))
    );
    create_type(&mut client, wallet()).await.unwrap();
    let outcome = create_type(&mut client, wallet()).await;
    assert_refused(outcome, Code::AlreadyExists, "PAYMENT_METHOD_TYPE_ALREADY_EXISTS");
    let built_in = PaymentMethodType {
        id: "paypal".to_owned(),
        ..wallet()
    };
    let outcome = create_type(&mut client, built_in.clone()).await;
    assert_refused(outcome, Code::AlreadyExists, "PAYMENT_METHOD_TYPE_ALREADY_EXISTS");
    let outcome = update_type(&mut client, built_in, &["fields"]).await;
    assert_eq!(violated(outcome), ["payment_method_type.fields"]);
    let nothing = client
        .create_payment_method_type(CreatePaymentMethodTypeRequest::default())
        .await;
    assert_eq!(violated(nothing), ["payment_method_type"]);
}

async fn types_change_what_the_mask_names(app: App) {
    let mut client = client(&app);
    let created = create_type(&mut client, wallet()).await.unwrap();
    let change = PaymentMethodType {
        id: "wallet".to_owned(),
        display_name: "USDC wallet".to_owned(),
        enabled: Some(false),
        ..PaymentMethodType::default()
    };
    let changed = update_type(&mut client, change.clone(), &["display_name"])
        .await
        .unwrap();
    assert_eq!(changed.display_name, "USDC wallet");
    assert_eq!((changed.enabled, &changed.fields), (Some(true), &created.fields));
    assert_ne!(changed.etag, created.etag);

    let outcome = update_type(
        &mut client,
        PaymentMethodType {
            etag: created.etag,
            ..change.clone()
        },
        &["enabled"],
    )
    .await;
    assert_refused(outcome, Code::Aborted, "ETAG_MISMATCH");

    // A minimum must not be left behind in a currency that is taken away.
    let fewer = PaymentMethodType {
        id: "wallet".to_owned(),
        currency_codes: vec!["EUR".to_owned()],
        ..PaymentMethodType::default()
    };
    let outcome = update_type(&mut client, fewer.clone(), &["currency_codes"]).await;
    assert_eq!(
        violated(outcome),
        ["payment_method_type.minimum_payouts[0].currency_code"]
    );
    let changed = update_type(&mut client, fewer, &["currency_codes", "minimum_payouts"])
        .await
        .unwrap();
    assert_eq!((changed.currency_codes.len(), changed.minimum_payouts.len()), (1, 0));

    let outcome = update_type(&mut client, change.clone(), &["built_in"]).await;
    assert_eq!(violated(outcome), ["update_mask"]);
    let nothing = PaymentMethodType {
        id: "wallet".to_owned(),
        ..PaymentMethodType::default()
    };
    assert_eq!(violated(update_type(&mut client, nothing, &[]).await), ["update_mask"]);
    let silent = PaymentMethodType {
        enabled: None,
        ..wallet()
    };
    assert_eq!(
        violated(update_type(&mut client, silent, &["*"]).await),
        ["payment_method_type.enabled"]
    );
    let whole = PaymentMethodType {
        enabled: Some(false),
        ..wallet()
    };
    let changed = update_type(&mut client, whole, &["*"]).await.unwrap();
    assert_eq!(
        (
            changed.display_name.as_str(),
            changed.enabled,
            changed.currency_codes.len()
        ),
        ("Wallet", Some(false), 2)
    );
}

async fn at_most_a_hundred_types(app: App) {
    let mut client = client(&app);
    for number in 3..100 {
        let own = PaymentMethodType {
            id: format!("own_{number}"),
            ..wallet()
        };
        create_type(&mut client, own).await.unwrap();
    }
    let outcome = create_type(&mut client, wallet()).await;
    assert_refused(outcome, Code::FailedPrecondition, "TOO_MANY_PAYMENT_METHOD_TYPES");
}

async fn disabled_types_keep_details_but_take_no_new_methods(app: App) {
    let mut client = client(&app);
    let created = create(&mut client, method("a", "EUR", paypal("ada@example.com")))
        .await
        .unwrap();
    assert_eq!(set_enabled(&mut client, "paypal", false).await.enabled, Some(false));
    let outcome = create(&mut client, method("b", "EUR", paypal("bob@example.com"))).await;
    assert_refused(outcome, Code::FailedPrecondition, "PAYMENT_METHOD_TYPE_DISABLED");
    let kept = get(&mut client, &created.id, View::Full).await.unwrap();
    assert_eq!((kept.details, kept.default), (Some(paypal("ada@example.com")), true));
    let change = PaymentMethod {
        id: created.id.clone(),
        details: Some(paypal("ada@example.org")),
        ..PaymentMethod::default()
    };
    update(&mut client, change, &[]).await.unwrap();
    set_enabled(&mut client, "paypal", true).await;
    let kept = get(&mut client, &created.id, View::Full).await.unwrap();
    assert_eq!(kept.details, Some(paypal("ada@example.org")));
    create(&mut client, method("b", "EUR", paypal("bob@example.com")))
        .await
        .unwrap();
}

async fn answers_are_masked_unless_asked_for_in_full(app: App) {
    let mut client = client(&app);
    create_type(&mut client, wallet()).await.unwrap();
    let uk = bank(|transfer| {
        transfer.sort_code = "123456".to_owned();
        transfer.account_number = "31926819".to_owned();
    });
    let short = bank(|transfer| {
        transfer.routing_number = "021000021".to_owned();
        transfer.account_number = "1234".to_owned();
    });
    let cases: [(&str, Details, &[&str]); 6] = [
        ("1", iban(), &["****3000", ""]),
        ("2", uk, &["", "****6819"]),
        ("3", short, &["", "****"]),
        ("4", paypal("ada@example.com"), &["****.com"]),
        ("5", tipalti("payee-0001"), &["****0001"]),
        ("6", wallet_details(), &["address=****2233", "network=base"]),
    ];
    for (account_id, details, shown) in &cases {
        let created = create(&mut client, method(account_id, "USD", details.clone()))
            .await
            .unwrap();
        assert_eq!(values_shown(created.details.as_ref()), *shown);
        for view in [View::Unspecified, View::Masked] {
            assert_eq!(get(&mut client, &created.id, view).await.unwrap(), created);
        }
        let full = get(&mut client, &created.id, View::Full).await.unwrap();
        assert_eq!(full.details.as_ref(), Some(details));
        let by_default = PaymentMethod {
            id: created.id.clone(),
            default: true,
            ..PaymentMethod::default()
        };
        let updated = update(&mut client, by_default, &[]).await.unwrap();
        assert_eq!(updated, created, "nothing changed, and it is masked");
    }
    for (view, is_full) in [(View::Unspecified, false), (View::Masked, false), (View::Full, true)] {
        let request = ListPaymentMethodsRequest {
            view: view.into(),
            ..ListPaymentMethodsRequest::default()
        };
        let listed = client
            .list_payment_methods(request)
            .await
            .unwrap()
            .into_inner()
            .payment_methods;
        for (listed, (_, details, shown)) in listed.iter().zip(&cases) {
            if is_full {
                assert_eq!(listed.details.as_ref(), Some(details));
            } else {
                assert_eq!(values_shown(listed.details.as_ref()), *shown);
            }
        }
        assert_eq!(listed.len(), cases.len());
    }
}

async fn masked_values_that_are_sent_back_are_refused(app: App) {
    let mut client = client(&app);
    create_type(&mut client, wallet()).await.unwrap();
    let uk = bank(|transfer| {
        transfer.sort_code = "123456".to_owned();
        transfer.account_number = "31926819".to_owned();
    });
    for (account_id, details, path) in [
        ("1", iban(), "bank_transfer.iban"),
        ("2", uk, "bank_transfer.account_number"),
        ("3", paypal("ada@example.com"), "paypal.email"),
        ("4", tipalti("payee-0001"), "tipalti.payee_id"),
        ("5", wallet_details(), "custom.fields[address]"),
    ] {
        let path = format!("payment_method.{path}");
        let created = create(&mut client, method(account_id, "USD", details.clone()))
            .await
            .unwrap();
        let again = method("other", "USD", created.details.clone().unwrap());
        assert_eq!(violated(create(&mut client, again).await), std::slice::from_ref(&path));
        for paths in [&[][..], &["*"][..]] {
            let outcome = update(&mut client, created.clone(), paths).await;
            assert_eq!(violated(outcome), std::slice::from_ref(&path));
        }
        let full = get(&mut client, &created.id, View::Full).await.unwrap();
        assert_eq!(full.details, Some(details));
        assert_eq!(full.etag, created.etag);
    }
}

async fn the_first_method_of_a_currency_is_the_default_and_another_takes_over(app: App) {
    let mut client = client(&app);
    let first = create(&mut client, method("a", "EUR", iban())).await.unwrap();
    let second = create(&mut client, method("a", "EUR", paypal("ada@example.com")))
        .await
        .unwrap();
    let elsewhere = create(&mut client, method("a", "USD", paypal("ada@example.com")))
        .await
        .unwrap();
    assert_eq!((first.default, second.default, elsewhere.default), (true, false, true));
    let third = PaymentMethod {
        default: true,
        ..method("a", "EUR", tipalti("payee-1"))
    };
    assert!(create(&mut client, third).await.unwrap().default);
    assert_eq!(default_of(&mut client, "a", "EUR").await.as_deref(), Some("tipalti"));
    let cleared = get(&mut client, &first.id, View::Masked).await.unwrap();
    assert_ne!(cleared.etag, first.etag, "it changed when it was no longer the default");
    let change = PaymentMethod {
        id: second.id,
        default: true,
        ..PaymentMethod::default()
    };
    assert!(update(&mut client, change, &["default"]).await.unwrap().default);
    assert_eq!(default_of(&mut client, "a", "EUR").await.as_deref(), Some("paypal"));
    assert_eq!(default_of(&mut client, "a", "USD").await.as_deref(), Some("paypal"));
}

async fn deleting_the_default_hands_it_to_the_oldest_that_remains(app: App) {
    let mut client = client(&app);
    let bank = create(&mut client, method("a", "EUR", iban())).await.unwrap();
    let paypal = create(&mut client, method("a", "EUR", paypal("ada@example.com")))
        .await
        .unwrap();
    let tipalti = create(&mut client, method("a", "EUR", tipalti("payee-1")))
        .await
        .unwrap();
    delete(&mut client, &bank.id, "").await.unwrap();
    assert_eq!(default_of(&mut client, "a", "EUR").await.as_deref(), Some("paypal"));
    let stale = delete(&mut client, &paypal.id, &paypal.etag).await;
    assert_refused(stale, Code::Aborted, "ETAG_MISMATCH");
    delete(&mut client, &tipalti.id, &tipalti.etag).await.unwrap();
    assert_eq!(default_of(&mut client, "a", "EUR").await.as_deref(), Some("paypal"));
    delete(&mut client, &paypal.id, "").await.unwrap();
    assert_eq!(default_of(&mut client, "a", "EUR").await, None);
    let outcome = delete(&mut client, &paypal.id, "").await;
    assert_refused(outcome, Code::NotFound, "PAYMENT_METHOD_NOT_FOUND");
    assert!(create(&mut client, method("a", "EUR", iban())).await.unwrap().default);
}

async fn changing_the_currency_hands_the_default_on(app: App) {
    let mut client = client(&app);
    let bank = create(&mut client, method("a", "EUR", iban())).await.unwrap();
    create(&mut client, method("a", "EUR", tipalti("payee-1")))
        .await
        .unwrap();
    create(&mut client, method("a", "EUR", paypal("ada@example.com")))
        .await
        .unwrap();
    let to = |currency_code: &str, default| PaymentMethod {
        id: bank.id.clone(),
        currency_code: currency_code.to_owned(),
        default,
        ..PaymentMethod::default()
    };
    let moved = update(&mut client, to("USD", false), &["currency_code"]).await.unwrap();
    assert!(moved.default, "the first one in its new currency");
    assert_eq!(default_of(&mut client, "a", "EUR").await.as_deref(), Some("tipalti"));
    let moved = update(&mut client, to("EUR", false), &["currency_code"]).await.unwrap();
    assert!(!moved.default);
    assert_eq!(default_of(&mut client, "a", "EUR").await.as_deref(), Some("tipalti"));
    assert_eq!(default_of(&mut client, "a", "USD").await, None);
    update(&mut client, to("USD", false), &["currency_code"]).await.unwrap();
    let moved = update(&mut client, to("EUR", true), &["currency_code", "default"])
        .await
        .unwrap();
    assert!(moved.default);
    assert_eq!(
        default_of(&mut client, "a", "EUR").await.as_deref(),
        Some("bank_transfer")
    );
    let full = get(&mut client, &bank.id, View::Full).await.unwrap();
    assert_eq!(full.details, Some(iban()));
}

async fn the_default_is_not_set_to_false(app: App) {
    let mut client = client(&app);
    let bank = create(&mut client, method("a", "EUR", iban())).await.unwrap();
    let other = create(&mut client, method("a", "EUR", tipalti("payee-1")))
        .await
        .unwrap();
    let not_default = |method: &PaymentMethod| PaymentMethod {
        id: method.id.clone(),
        ..PaymentMethod::default()
    };
    let outcome = update(&mut client, not_default(&bank), &["default"]).await;
    assert_eq!(violated(outcome), ["payment_method.default"]);
    let unchanged = update(&mut client, not_default(&other), &["default"]).await.unwrap();
    assert_eq!(unchanged, other);
    // A copy of it that says nothing of the default leaves it alone.
    let copy = PaymentMethod {
        default: false,
        ..get(&mut client, &bank.id, View::Full).await.unwrap()
    };
    assert!(update(&mut client, copy, &["*"]).await.unwrap().default);
}

async fn concurrent_first_methods_leave_one_default(app: App) {
    let mut client = client(&app);
    for round in 0..10 {
        let account_id = format!("a-{round}");
        let details = [iban(), paypal("ada@example.com"), tipalti("payee-1"), iban()];
        let creations = details.map(|details| {
            let mut client = client.clone();
            let method = method(&account_id, "EUR", details);
            tokio::spawn(async move { create(&mut client, method).await })
        });
        let mut created = 0;
        for creation in creations {
            match creation.await.unwrap() {
                Ok(_) => created += 1,
                Err(status) => assert_eq!(reason(&status), "PAYMENT_METHOD_ALREADY_EXISTS"),
            }
        }
        assert_eq!(created, 3);
        assert!(default_of(&mut client, &account_id, "EUR").await.is_some());
    }
}

async fn concurrent_takeovers_leave_one_default(app: App) {
    let mut client = client(&app);
    let mut ids = Vec::new();
    for details in [iban(), paypal("ada@example.com"), tipalti("payee-1")] {
        for currency_code in ["EUR", "USD"] {
            let created = create(&mut client, method("a", currency_code, details.clone()))
                .await
                .unwrap();
            ids.push(created.id);
        }
    }
    let mut changes = Vec::new();
    for _ in 0..5 {
        for id in &ids {
            let mut client = client.clone();
            let change = PaymentMethod {
                id: id.clone(),
                default: true,
                ..PaymentMethod::default()
            };
            changes.push(tokio::spawn(
                async move { update(&mut client, change, &["default"]).await },
            ));
        }
    }
    for change in changes {
        assert!(change.await.unwrap().unwrap().default);
    }
    let deletions = [&ids[0], &ids[3]].map(|id| {
        let (mut client, id) = (client.clone(), id.clone());
        tokio::spawn(async move { delete(&mut client, &id, "").await })
    });
    for deletion in deletions {
        deletion.await.unwrap().unwrap();
    }
    for currency_code in ["EUR", "USD"] {
        assert!(default_of(&mut client, "a", currency_code).await.is_some());
    }
}

async fn concurrent_updates_of_one_method_are_all_done(app: App) {
    let mut client = client(&app);
    let created = create(&mut client, method("a", "EUR", paypal("ada@example.com")))
        .await
        .unwrap();
    let changes: Vec<_> = (0..20)
        .map(|number| {
            let mut client = client.clone();
            let change = PaymentMethod {
                id: created.id.clone(),
                details: Some(paypal(&format!("ada-{number}@example.com"))),
                ..PaymentMethod::default()
            };
            tokio::spawn(async move { update(&mut client, change, &["paypal.email"]).await })
        })
        .collect();
    for change in changes {
        change.await.unwrap().unwrap();
    }
    assert_eq!(default_of(&mut client, "a", "EUR").await.as_deref(), Some("paypal"));
}

async fn update_changes_what_the_mask_names(app: App) {
    let mut client = client(&app);
    let stored = bank(|transfer| {
        transfer.iban = IBAN.to_owned();
        transfer.bic = "COBADEFF".to_owned();
        transfer.bank_name = "Commerzbank".to_owned();
    });
    let created = create(&mut client, method("a", "EUR", stored)).await.unwrap();
    let change = |details: Details| PaymentMethod {
        id: created.id.clone(),
        details: Some(details),
        ..PaymentMethod::default()
    };
    let sent = bank(|transfer| {
        transfer.account_holder_name = "Ada Lovelace".to_owned();
        transfer.iban = OTHER_IBAN.to_owned();
    });
    let changed = update(&mut client, change(sent.clone()), &["bank_transfer.iban"])
        .await
        .unwrap();
    assert_ne!(changed.etag, created.etag);
    let full = get(&mut client, &created.id, View::Full).await.unwrap();
    let expected = bank(|transfer| {
        transfer.iban = OTHER_IBAN.to_owned();
        transfer.bic = "COBADEFF".to_owned();
        transfer.bank_name = "Commerzbank".to_owned();
    });
    assert_eq!(full.details, Some(expected));
    // A field in the mask that is not set is cleared.
    let paths = ["bank_transfer.bic", "bank_transfer.account_holder_name"];
    update(&mut client, change(sent.clone()), &paths).await.unwrap();
    let full = get(&mut client, &created.id, View::Full).await.unwrap();
    let expected = bank(|transfer| {
        transfer.account_holder_name = "Ada Lovelace".to_owned();
        transfer.iban = OTHER_IBAN.to_owned();
        transfer.bank_name = "Commerzbank".to_owned();
    });
    assert_eq!(full.details, Some(expected));
    let outcome = update(&mut client, change(bank(|_| {})), &["bank_transfer.iban"]).await;
    assert_eq!(violated(outcome), ["payment_method.bank_transfer"]);
    // From an IBAN to a pair of numbers is one change.
    let numbers = bank(|transfer| {
        transfer.sort_code = "123456".to_owned();
        transfer.account_number = "31926819".to_owned();
    });
    for paths in [&[][..], &["bank_transfer"][..]] {
        update(&mut client, change(numbers.clone()), paths).await.unwrap();
        let full = get(&mut client, &created.id, View::Full).await.unwrap();
        assert_eq!(full.details.as_ref(), Some(&numbers));
    }
    let whole = PaymentMethod {
        currency_code: "GBP".to_owned(),
        ..change(sent.clone())
    };
    let changed = update(&mut client, whole, &["*"]).await.unwrap();
    assert_eq!((changed.currency_code.as_str(), changed.default), ("GBP", true));
    let full = get(&mut client, &created.id, View::Full).await.unwrap();
    assert_eq!(full.details, Some(sent));
}

async fn update_refuses_another_type_or_account(app: App) {
    let mut client = client(&app);
    create_type(&mut client, wallet()).await.unwrap();
    let created = create(&mut client, method("a", "EUR", iban())).await.unwrap();
    let change = |details: Option<Details>| PaymentMethod {
        id: created.id.clone(),
        currency_code: "EUR".to_owned(),
        details,
        ..PaymentMethod::default()
    };
    let cases: [(Option<Details>, &[&str], &str); 6] = [
        (Some(paypal("ada@example.com")), &[], "payment_method.paypal"),
        (Some(paypal("ada@example.com")), &["paypal"], "payment_method.paypal"),
        (
            Some(tipalti("payee-1")),
            &["tipalti.payee_id"],
            "payment_method.tipalti",
        ),
        (Some(wallet_details()), &["*"], "payment_method.custom"),
        (None, &["*"], "payment_method.bank_transfer"),
        (None, &["bank_transfer"], "payment_method.bank_transfer"),
    ];
    for (details, paths, expected) in cases {
        let outcome = update(&mut client, change(details), paths).await;
        assert_eq!(violated(outcome), [expected], "{paths:?}");
    }
    let other_account = PaymentMethod {
        account_id: "b".to_owned(),
        ..change(Some(iban()))
    };
    assert_eq!(
        violated(update(&mut client, other_account, &[]).await),
        ["payment_method.account_id"]
    );
    let own = create(&mut client, method("a", "USD", wallet_details())).await.unwrap();
    let other_type = PaymentMethod {
        id: own.id,
        details: Some(custom("other", &[])),
        ..PaymentMethod::default()
    };
    assert_eq!(
        violated(update(&mut client, other_type, &["custom"]).await),
        ["payment_method.custom.type_id"]
    );
    let same_account = PaymentMethod {
        account_id: "a".to_owned(),
        ..change(Some(iban()))
    };
    update(&mut client, same_account, &[]).await.unwrap();
}

async fn update_refuses_unknown_paths_and_empty_masks(app: App) {
    let mut client = client(&app);
    let created = create(&mut client, method("a", "EUR", iban())).await.unwrap();
    for path in [
        "account_id",
        "type_id",
        "id",
        "etag",
        "bank_transfer.x",
        "custom.type_id",
        "details",
        "",
    ] {
        let outcome = update(&mut client, created.clone(), &["currency_code", path]).await;
        assert_eq!(violated(outcome), ["update_mask"], "{path}");
    }
    let nothing = PaymentMethod {
        id: created.id.clone(),
        ..PaymentMethod::default()
    };
    assert_eq!(violated(update(&mut client, nothing, &[]).await), ["update_mask"]);
    let without_id = PaymentMethod {
        id: String::new(),
        ..created
    };
    assert_eq!(
        violated(update(&mut client, without_id, &["default"]).await),
        ["payment_method.id"]
    );
}

async fn stale_etags_are_refused(app: App) {
    let mut client = client(&app);
    let created = create(&mut client, method("a", "EUR", paypal("ada@example.com")))
        .await
        .unwrap();
    let change = |email: &str, etag: &str| PaymentMethod {
        id: created.id.clone(),
        etag: etag.to_owned(),
        details: Some(paypal(email)),
        ..PaymentMethod::default()
    };
    let changed = update(&mut client, change("ada@example.org", &created.etag), &["paypal"])
        .await
        .unwrap();
    let outcome = update(&mut client, change("ada@example.net", &created.etag), &["paypal"]).await;
    assert_refused(outcome, Code::Aborted, "ETAG_MISMATCH");
    assert_refused(
        delete(&mut client, &created.id, &created.etag).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let kept = get(&mut client, &created.id, View::Full).await.unwrap();
    assert_eq!(kept.details, Some(paypal("ada@example.org")));
    delete(&mut client, &created.id, &changed.etag).await.unwrap();
}

async fn request_ids_answer_the_same_again(app: App) {
    let mut client = client(&app);
    create_type(&mut client, wallet()).await.unwrap();
    let request_id = Uuid::now_v7().to_string();
    let creation = CreatePaymentMethodRequest {
        payment_method: Some(method("a", "USD", wallet_details())),
        request_id: request_id.clone(),
    };
    let created = client
        .create_payment_method(creation.clone())
        .await
        .unwrap()
        .into_inner();
    // Not even a type that is disabled or has other fields since changes the answer.
    set_enabled(&mut client, "wallet", false).await;
    let opened = PaymentMethodType {
        id: "wallet".to_owned(),
        fields: vec![field("address", true, "", false)],
        ..PaymentMethodType::default()
    };
    update_type(&mut client, opened, &["fields"]).await.unwrap();
    let again = client
        .create_payment_method(creation.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, created);
    let mut other = creation;
    other.payment_method = Some(method("a", "EUR", wallet_details()));
    assert_refused(
        client.create_payment_method(other).await,
        Code::FailedPrecondition,
        "REQUEST_ID_REUSED",
    );

    let id = created.payment_method.unwrap().id;
    let change = UpdatePaymentMethodRequest {
        payment_method: Some(PaymentMethod {
            id: id.clone(),
            currency_code: "EUR".to_owned(),
            ..PaymentMethod::default()
        }),
        update_mask: None,
        request_id: request_id.clone(),
    };
    let changed = client.update_payment_method(change.clone()).await.unwrap();
    let again = client.update_payment_method(change).await.unwrap();
    assert_eq!(again.into_inner(), changed.into_inner());

    let deletion = DeletePaymentMethodRequest {
        id: id.clone(),
        etag: String::new(),
        request_id: request_id.clone(),
    };
    for _ in 0..2 {
        client.delete_payment_method(deletion.clone()).await.unwrap();
    }
    assert_refused(
        get(&mut client, &id, View::Masked).await,
        Code::NotFound,
        "PAYMENT_METHOD_NOT_FOUND",
    );

    let creation = CreatePaymentMethodTypeRequest {
        payment_method_type: Some(PaymentMethodType {
            id: "wise".to_owned(),
            ..wallet()
        }),
        request_id,
    };
    let created = client.create_payment_method_type(creation.clone()).await.unwrap();
    let again = client.create_payment_method_type(creation).await.unwrap();
    assert_eq!(again.into_inner(), created.into_inner());
}

async fn methods_are_listed_in_pages(app: App) {
    let mut client = client(&app);
    let mut expected = Vec::new();
    for account_id in ["a", "b", "c"] {
        for currency_code in ["EUR", "USD", "GBP"] {
            let created = create(&mut client, method(account_id, currency_code, iban()))
                .await
                .unwrap();
            expected.push((created.account_id, created.id));
        }
    }
    for (account_id, expected) in [("", &expected[..]), ("b", &expected[3..6]), ("none", &[])] {
        for page_size in [1, 2, 3, 1_000_000] {
            let mut listed = Vec::new();
            let mut page_token = String::new();
            loop {
                let request = ListPaymentMethodsRequest {
                    account_id: account_id.to_owned(),
                    page_size,
                    page_token,
                    ..ListPaymentMethodsRequest::default()
                };
                let page = client.list_payment_methods(request).await.unwrap().into_inner();
                assert!(page.payment_methods.len() <= usize::try_from(page_size).unwrap());
                listed.extend(
                    page.payment_methods
                        .into_iter()
                        .map(|method| (method.account_id, method.id)),
                );
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(listed, expected);
        }
    }
    let first = ListPaymentMethodsRequest {
        page_size: 1,
        ..ListPaymentMethodsRequest::default()
    };
    let token = client
        .list_payment_methods(first.clone())
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    for page_token in [token, "x".to_owned()] {
        let request = ListPaymentMethodsRequest {
            account_id: "a".to_owned(),
            page_token,
            ..first.clone()
        };
        assert_refused(
            client.list_payment_methods(request).await,
            Code::InvalidArgument,
            "INVALID_PAGE_TOKEN",
        );
    }
    let request = ListPaymentMethodsRequest {
        account_id: "a b".to_owned(),
        page_size: -1,
        view: 9,
        ..first
    };
    assert_eq!(
        violated(client.list_payment_methods(request).await),
        ["account_id", "view", "page_size"]
    );
}

async fn unknown_methods_are_not_found(app: App) {
    let mut client = client(&app);
    let id = Uuid::new_v4().to_string();
    let change = PaymentMethod {
        id: id.clone(),
        default: true,
        ..PaymentMethod::default()
    };
    for outcome in [
        get(&mut client, &id, View::Full).await.map(drop),
        update(&mut client, change, &[]).await.map(drop),
        delete(&mut client, &id, "").await,
    ] {
        assert_refused(outcome, Code::NotFound, "PAYMENT_METHOD_NOT_FOUND");
    }
}
