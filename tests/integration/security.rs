//! Who may call: every role against every RPC, tokens, JSON web tokens, TLS and client certificates, and all of it replaced while
//! calls run. On real connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use affiliate_billing::authentication::{
    Access, Authentication, AuthenticationSettings, JsonWebTokenSettings, NewToken, Rules,
};
use affiliate_billing::domain::permissions::{Need, Role, Rpc, need};
use affiliate_billing::proto;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use affiliate_billing::proto::billing_details_service_client::BillingDetailsServiceClient;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::app::App;
use crate::support::fixtures::{bank_method, billing_details, entry, request_id, settle_accounts};
use crate::support::guard::{Authority, Files, Known, authorized, connect, plain_channel, tls_channel, until};
use crate::support::harness::scenarios;
use crate::support::program::{Serving, failure, run};
use crate::support::wire::{assert_refused, first_answer};

scenarios![
    the_caller_is_the_actor_of_all_it_does,
    a_request_id_replays_to_its_own_caller_alone,
    nobody_learns_what_exists_without_permission;
    sqlite_only: every_role_may_call_what_the_table_says_and_nothing_else,
        what_is_no_good_token_is_refused,
        json_web_tokens_are_checked,
        tokens_are_replaced_while_calls_run,
        client_certificates_say_who_calls,
        a_certificate_is_replaced_under_an_open_stream,
        silent_connections_hold_up_nobody_and_are_closed;
    units: the_program_serves_others_over_tls_to_those_it_knows,
        what_is_missing_is_told_and_warned_of;
];

const LIST_SETTLEMENTS: &str = "/affiliate.billing.v1.SettlementsService/ListSettlements";

/// `OK`, or how the call was refused.
async fn outcome(channel: &Channel, rpc: Rpc, authorization: Option<&str>) -> Result<(), Status> {
    first_answer(channel, rpc.path(), authorization, Vec::new())
        .await
        .map(drop)
}

async fn may_read(channel: &Channel, authorization: Option<&str>) -> Result<(), Status> {
    outcome(channel, Rpc::ListSettlements, authorization).await
}

fn assert_unknown(outcome: Result<(), Status>, what: &str) -> Status {
    let status = outcome.err().unwrap_or_else(|| panic!("{what} is let in"));
    assert_refused(&status, Code::Unauthenticated, "UNAUTHENTICATED");
    status
}

async fn every_role_may_call_what_the_table_says_and_nothing_else(app: App) {
    let files = Files::new();
    let mut callers: Vec<(Vec<Role>, Known)> = Role::ALL
        .into_iter()
        .map(|role| (vec![role], Known::new(role.name(), &[role.name()])))
        .collect();
    callers.push((Vec::new(), Known::new("nobody", &[])));
    callers.push((Role::ALL.to_vec(), Known::new("everything", &Role::ALL.map(Role::name))));
    let known: Vec<&Known> = callers.iter().map(|(_, known)| known).collect();
    files.write_identities(&known);
    let channel = plain_channel(app.guarded(files.by_tokens()).await).await;
    for rpc in Rpc::ALL {
        let path = rpc.path();
        let without = outcome(&channel, rpc, None).await;
        if need(rpc) == Need::Nothing {
            without.unwrap();
        } else {
            assert_unknown(without, path);
        }
        for (roles, known) in &callers {
            let is_allowed = match need(rpc) {
                Need::Nothing | Need::Identity => true,
                Need::AnyOf(needed) => needed.iter().any(|role| roles.contains(role)),
            };
            let outcome = outcome(&channel, rpc, Some(&known.authorization())).await;
            match outcome {
                Err(status) if !is_allowed => {
                    assert_refused(&status, Code::PermissionDenied, "PERMISSION_DENIED");
                }
                // An empty request may lack what it must have: that is told to those who may call alone.
                Err(status) => assert_eq!(
                    status.code(),
                    Code::InvalidArgument,
                    "{} {path}: {status:?}",
                    known.name
                ),
                Ok(()) => assert!(is_allowed, "{} may call {path}", known.name),
            }
        }
    }
    // What is no RPC is told to those who are known.
    let path = "/affiliate.billing.v1.BalancesService/Nothing";
    let unknown = first_answer(&channel, path, None, Vec::new()).await;
    assert_unknown(unknown.map(drop), path);
    let (_, somebody) = &callers[0];
    let unknown = first_answer(&channel, path, Some(&somebody.authorization()), Vec::new()).await;
    assert_refused(&unknown.unwrap_err(), Code::Unimplemented, "UNKNOWN_METHOD");
}

async fn what_is_no_good_token_is_refused(app: App) {
    let files = Files::new();
    let reader = Known::new("reader", &["reader"]);
    files.write_identities(&[&reader]);
    let channel = plain_channel(app.guarded(files.by_tokens()).await).await;
    let token = reader.token.token.as_str();
    let stranger = NewToken::make().unwrap();
    let cut = &token[..token.len() - 1];
    let good = reader.authorization();
    may_read(&channel, Some(&good)).await.unwrap();
    may_read(&channel, Some(&format!("bEaReR {token}"))).await.unwrap();
    let mut told = Vec::new();
    for wrong in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        token.to_owned(),
        format!("Basic {token}"),
        format!("Bearer {}", stranger.token.as_str()),
        format!("Bearer {cut}"),
        format!("Bearer {token}A"),
        format!("Bearer {}", token.to_ascii_lowercase()),
        format!("Bearer {}", reader.token.sha256),
        "Bearer abt_".to_owned(),
        "Bearer a.b.c".to_owned(),
    ] {
        let status = assert_unknown(may_read(&channel, Some(&wrong)).await, &wrong);
        told.push((status.message().to_owned(), status.details().to_vec()));
    }
    told.dedup();
    assert_eq!(told.len(), 1, "how it is wrong is not told");
}

async fn nobody_learns_what_exists_without_permission(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    let method = app.with_method(bank_method("aff-1", "USD")).await.id;
    app.post(vec![entry("order-1", "aff-1", "5", "EUR")]).await;
    let settlement = app.settle(&["aff-1"]).await.settlement.unwrap().id;
    let row = app.rows_of(&settlement).await[0].id.clone();
    let stranger = "00000000-0000-4000-8000-000000000000";
    let files = Files::new();
    let reader = Known::new("reader", &["reader"]);
    let mut payer = Known::new("payer", &["reader", "payer"]);
    payer.may_unmask = true;
    let poster = Known::new("poster", &["poster"]);
    files.write_identities(&[&reader, &payer, &poster]);
    let channel = plain_channel(app.guarded(files.by_tokens()).await).await;

    let full = proto::View::Full.into();
    let methods = |known: &Known| {
        PaymentMethodsServiceClient::with_interceptor(channel.clone(), authorized(&known.authorization()))
    };
    let rows =
        |known: &Known| SettlementsServiceClient::with_interceptor(channel.clone(), authorized(&known.authorization()));
    let mut told = Vec::new();
    // Without the role, and with it but without the permission to unmask: an id that exists and one that does not.
    for known in [&poster, &reader] {
        for (method, row) in [
            (method.as_str(), row.as_str()),
            (stranger, stranger),
            ("malformed", "malformed"),
        ] {
            let request = proto::GetPaymentMethodRequest {
                id: method.to_owned(),
                view: full,
            };
            let refused = methods(known).get_payment_method(request).await.unwrap_err();
            told.push((known.name.clone(), "method", refused));
            let request = proto::GetAccountSettlementRequest {
                id: row.to_owned(),
                view: full,
            };
            let refused = rows(known).get_account_settlement(request).await.unwrap_err();
            told.push((known.name.clone(), "row", refused));
        }
        for account_id in ["aff-1", "aff-2"] {
            let request = proto::ListPaymentMethodsRequest {
                account_id: account_id.to_owned(),
                view: full,
                ..Default::default()
            };
            let refused = methods(known).list_payment_methods(request).await.unwrap_err();
            told.push((known.name.clone(), "methods", refused));
            let request = proto::ListAccountSettlementsRequest {
                account_id: account_id.to_owned(),
                view: full,
                ..Default::default()
            };
            let refused = rows(known).list_account_settlements(request).await.unwrap_err();
            told.push((known.name.clone(), "rows", refused));
        }
    }
    for (name, what, status) in &told {
        assert_refused(status, Code::PermissionDenied, "PERMISSION_DENIED");
        for (other_name, other_what, other) in &told {
            if name == other_name && what == other_what {
                assert_eq!((status.message(), status.details()), (other.message(), other.details()));
            }
        }
    }

    // Masked it is shown, and in full to those who may.
    let shown = async |known: &Known, view: proto::View| {
        let request = proto::GetPaymentMethodRequest {
            id: method.clone(),
            view: view.into(),
        };
        let answer = methods(known).get_payment_method(request).await.unwrap().into_inner();
        let Some(proto::payment_method::Details::BankTransfer(bank)) = answer.payment_method.unwrap().details else {
            panic!("it is a bank account");
        };
        bank.iban
    };
    assert_eq!(shown(&reader, proto::View::Unspecified).await, "****3000");
    assert_eq!(shown(&reader, proto::View::Masked).await, "****3000");
    assert_eq!(shown(&payer, proto::View::Full).await, "DE89370400440532013000");
    let request = proto::GetAccountSettlementRequest {
        id: stranger.to_owned(),
        view: full,
    };
    let missing = rows(&payer).get_account_settlement(request).await.unwrap_err();
    assert_refused(&missing, Code::NotFound, "ACCOUNT_SETTLEMENT_NOT_FOUND");
}

async fn the_caller_is_the_actor_of_all_it_does(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "5", "EUR")]).await;
    let files = Files::new();
    let settler = Known::new("month-end", &["settler"]);
    let desk = Known::new("payers-desk", &["payer"]);
    files.write_identities(&[&settler, &desk]);
    let channel = plain_channel(app.guarded(files.by_tokens()).await).await;
    let mut balances = BalancesServiceClient::with_interceptor(channel.clone(), authorized(&settler.authorization()));
    let request = settle_accounts(vec![("aff-1", None)]);
    let settlement = balances
        .settle_balances(request)
        .await
        .unwrap()
        .into_inner()
        .settlement
        .unwrap();
    let row = app.rows_of(&settlement.id).await[0].id.clone();
    let mut settlements =
        SettlementsServiceClient::with_interceptor(channel.clone(), authorized(&desk.authorization()));
    let request = proto::UpdateAccountSettlementStatusRequest {
        id: row.clone(),
        status: proto::AccountSettlementStatus::InProgress.into(),
        ..Default::default()
    };
    settlements.update_account_settlement_status(request).await.unwrap();
    // A stream, and an answer stream.
    let chunk = proto::BulkUpdateAccountSettlementStatusRequest {
        chunk_id: "1".to_owned(),
        target_status: proto::AccountSettlementStatus::Paid.into(),
        account_settlement_ids: vec![row.clone()],
        ..Default::default()
    };
    let answers = settlements
        .bulk_update_account_settlement_status(tokio_stream::once(chunk))
        .await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(answer.updated_ids, std::slice::from_ref(&row));
    let request = proto::BulkUpdateSettlementStatusRequest {
        settlement_id: settlement.id.clone(),
        expected_status: proto::AccountSettlementStatus::Paid.into(),
        target_status: proto::AccountSettlementStatus::New.into(),
        reason: "returned by the bank".to_owned(),
        ..Default::default()
    };
    let mut answers = settlements
        .bulk_update_settlement_status(request)
        .await
        .unwrap()
        .into_inner();
    while answers.message().await.unwrap().is_some() {}
    let request = proto::ListStatusChangesRequest {
        account_settlement_id: row,
        ..Default::default()
    };
    let changes = settlements
        .list_status_changes(request)
        .await
        .unwrap()
        .into_inner()
        .status_changes;
    let mut actors: Vec<&str> = changes.iter().map(|change| change.actor.as_str()).collect();
    actors.sort_unstable();
    assert_eq!(actors, ["month-end", "payers-desk", "payers-desk", "payers-desk"]);
    let request = proto::HoldPayoutsRequest {
        account_id: "aff-1".to_owned(),
        reason: "looked into".to_owned(),
        ..Default::default()
    };
    balances.hold_payouts(request).await.unwrap();
    let tables = crate::support::tables::Tables::open(&app.database_url).await;
    assert_eq!(tables.texts("SELECT actor FROM payout_holds").await, ["month-end"]);
    assert_eq!(tables.texts("SELECT actor FROM settlements").await, ["month-end"]);
}

async fn a_request_id_replays_to_its_own_caller_alone(app: App) {
    let files = Files::new();
    let (first, second) = (Known::new("first", &["accounts"]), Known::new("second", &["accounts"]));
    files.write_identities(&[&first, &second]);
    let channel = plain_channel(app.guarded(files.by_tokens()).await).await;
    let create = async |known: &Known, request: &proto::CreateBillingDetailsRequest| {
        let mut details =
            BillingDetailsServiceClient::with_interceptor(channel.clone(), authorized(&known.authorization()));
        let answer = details.create_billing_details(request.clone()).await?;
        Ok::<_, Status>(answer.into_inner())
    };
    let request = proto::CreateBillingDetailsRequest {
        billing_details: Some(billing_details("aff-1")),
        request_id: request_id(),
    };
    let made = create(&first, &request).await.unwrap();
    assert_eq!(
        create(&first, &request).await.unwrap(),
        made,
        "its own is answered again"
    );
    let refused = create(&second, &request).await.unwrap_err();
    assert_refused(&refused, Code::AlreadyExists, "BILLING_DETAILS_ALREADY_EXIST");
    // Nor is another's id taken: with it something else can be done.
    let other = proto::CreateBillingDetailsRequest {
        billing_details: Some(billing_details("aff-2")),
        request_id: request.request_id.clone(),
    };
    create(&second, &other).await.unwrap();
    let reused = create(&first, &other).await.unwrap_err();
    assert_refused(&reused, Code::FailedPrecondition, "REQUEST_ID_REUSED");
}

async fn tokens_are_replaced_while_calls_run(app: App) {
    let files = Files::new();
    let steady = Known::new("steady", &["reader", "poster"]);
    let old = Known::new("changing", &["reader"]);
    let mut new = Known::new("changing", &["poster"]);
    files.write_identities(&[&steady, &old]);
    let channel = plain_channel(app.guarded(files.by_tokens()).await).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let calls = {
        let (channel, is_over, authorization) = (channel.clone(), Arc::clone(&is_over), steady.authorization());
        tokio::spawn(async move {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                may_read(&channel, Some(&authorization)).await.unwrap();
                count += 1;
            }
            count
        })
    };
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut balances = BalancesServiceClient::with_interceptor(channel.clone(), authorized(&steady.authorization()));
    let stream = balances.stream_entries(UnboundedReceiverStream::new(receiver)).await;
    let mut stream = stream.unwrap().into_inner();
    let mut post = async |number: u32| {
        let chunk = proto::StreamEntriesRequest {
            chunk_id: number.to_string(),
            entries: vec![entry(&format!("order-{number}"), "aff-1", "1", "EUR")],
        };
        sender.send(chunk).unwrap();
        assert_eq!(stream.message().await.unwrap().unwrap().posted_count, 1);
    };
    post(1).await;
    may_read(&channel, Some(&old.authorization())).await.unwrap();
    assert_unknown(
        may_read(&channel, Some(&new.authorization())).await,
        "a token that is not yet known",
    );

    files.write_identities(&[&steady, &new]);
    until("the new token", async || {
        let outcome = outcome(&channel, Rpc::HealthWatch, Some(&new.authorization())).await;
        outcome.is_ok()
    })
    .await;
    assert_unknown(may_read(&channel, Some(&old.authorization())).await, "the old token");
    let denied = may_read(&channel, Some(&new.authorization())).await.unwrap_err();
    assert_refused(&denied, Code::PermissionDenied, "PERMISSION_DENIED");
    post(2).await;

    // A file that can't be used changes nothing; one that can afterwards does.
    files.write("identities.toml", "[[identity]]\nname =");
    new.roles = vec!["reader".to_owned()];
    let third = Known::new("third", &["reader"]);
    // Longer than it takes to look at the file: that nothing comes of it can't be waited for otherwise.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    outcome(&channel, Rpc::HealthWatch, Some(&new.authorization()))
        .await
        .unwrap();
    files.write_identities(&[&steady, &new, &third]);
    until("the third token", async || {
        may_read(&channel, Some(&third.authorization())).await.is_ok()
    })
    .await;
    may_read(&channel, Some(&new.authorization())).await.unwrap();
    post(3).await;
    is_over.store(true, Ordering::Relaxed);
    assert!(calls.await.unwrap() > 0);
}

/// Gives out JSON web tokens.
struct Issuer {
    keys: Ed25519KeyPair,
}

impl Issuer {
    fn new(seed: u8) -> Self {
        Self {
            keys: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(),
        }
    }

    fn public(&self, id: &str) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.keys.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": x})
    }

    fn authorization(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.keys.sign(message.as_bytes()));
        format!("Bearer {message}.{signature}")
    }
}

fn message(header: &Value, claims: &Value) -> String {
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encoded(header), encoded(claims))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn with(mut value: Value, name: &str, other: Value) -> Value {
    value[name] = other;
    value
}

async fn json_web_tokens_are_checked(app: App) {
    let files = Files::new();
    let known = Known::new("operator", &["reader"]);
    files.write_identities(&[&known]);
    let (issuer, next) = (Issuer::new(1), Issuer::new(2));
    files.write("keys.json", &json!({"keys": [issuer.public("one")]}).to_string());
    let settings = AuthenticationSettings {
        identities_file: Some(files.path("identities.toml")),
        json_web_tokens: Some(JsonWebTokenSettings {
            keys_file: files.path("keys.json"),
            rules: Rules {
                audience: "billing".to_owned(),
                issuer: None,
                roles_claim: "roles".to_owned(),
            },
        }),
    };
    let access = Access {
        authentication: Authentication::open(&settings).unwrap(),
        transport: None,
    };
    let channel = plain_channel(app.guarded(access).await).await;
    let header = || json!({"alg": "EdDSA", "kid": "one"});
    let claims = || json!({"sub": "somebody", "aud": "billing", "exp": now() + 600, "roles": ["reader", "accounts"]});
    let good = issuer.authorization(&header(), &claims());
    may_read(&channel, Some(&good)).await.unwrap();
    may_read(&channel, Some(&known.authorization())).await.unwrap();
    let denied = outcome(&channel, Rpc::PostEntries, Some(&good)).await.unwrap_err();
    assert_refused(&denied, Code::PermissionDenied, "PERMISSION_DENIED");
    // Its subject is the actor.
    let mut details = BillingDetailsServiceClient::with_interceptor(channel.clone(), authorized(&good));
    let request = proto::CreateBillingDetailsRequest {
        billing_details: Some(billing_details("aff-1")),
        ..Default::default()
    };
    details.create_billing_details(request).await.unwrap();
    let tables = crate::support::tables::Tables::open(&app.database_url).await;
    assert_eq!(
        tables.texts("SELECT actor FROM billing_details_versions").await,
        ["somebody"]
    );

    let none = format!("Bearer {}.", message(&with(header(), "alg", json!("none")), &claims()));
    let symmetric = {
        let message = message(&with(header(), "alg", json!("HS256")), &claims());
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(issuer.keys.public_key().as_ref()).unwrap();
        mac.update(message.as_bytes());
        format!(
            "Bearer {message}.{}",
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
        )
    };
    for (what, wrong) in [
        ("without a signature", none),
        ("signed with the public key as a secret", symmetric),
        (
            "of an unknown key",
            next.authorization(&with(header(), "kid", json!("two")), &claims()),
        ),
        ("signed by another", next.authorization(&header(), &claims())),
        (
            "for another audience",
            issuer.authorization(&header(), &with(claims(), "aud", json!("other"))),
        ),
        (
            "that has expired",
            issuer.authorization(&header(), &with(claims(), "exp", json!(now() - 120))),
        ),
        (
            "that is not valid yet",
            issuer.authorization(&header(), &with(claims(), "nbf", json!(now() + 120))),
        ),
        // The operator's own names are not given out by the issuer of tokens.
        (
            "with an identity's name",
            issuer.authorization(&header(), &with(claims(), "sub", json!("operator"))),
        ),
        (
            "with the service's name",
            issuer.authorization(&header(), &with(claims(), "sub", json!("unauthenticated"))),
        ),
    ] {
        assert_unknown(may_read(&channel, Some(&wrong)).await, &format!("a token {what}"));
    }

    // Keys are changed, the old one leaves.
    let of_next = next.authorization(&with(header(), "kid", json!("two")), &claims());
    files.write("keys.json", &json!({"keys": [next.public("two")]}).to_string());
    until("the new key", async || may_read(&channel, Some(&of_next)).await.is_ok()).await;
    assert_unknown(may_read(&channel, Some(&good)).await, "a token of a key that left");
}

async fn client_certificates_say_who_calls(app: App) {
    let files = Files::new();
    let (authority, stranger) = (Authority::new(), Authority::new());
    files.write_certificate(&authority.issue("localhost"));
    files.write("authorities.pem", &authority.pem());
    let spiffe = Known::new("spiffe://example.org/desk", &["reader"]);
    let dns = Known::new("shop.example.org", &["poster"]);
    files.write_identities(&[&spiffe, &dns]);
    let address = app.guarded(files.over_tls()).await;
    let channel_with = async |certificate| tls_channel(&authority.client(certificate), address).await;

    let desk = authority.issue("spiffe://example.org/desk");
    let desk = channel_with(Some(&desk)).await.unwrap();
    may_read(&desk, None).await.unwrap();
    let denied = outcome(&desk, Rpc::PostEntries, None).await.unwrap_err();
    assert_refused(&denied, Code::PermissionDenied, "PERMISSION_DENIED");
    let shop = authority.issue("shop.example.org");
    let shop = channel_with(Some(&shop)).await.unwrap();
    let denied = may_read(&shop, None).await.unwrap_err();
    assert_refused(&denied, Code::PermissionDenied, "PERMISSION_DENIED");
    let mut balances = BalancesServiceClient::new(shop.clone());
    let request = proto::PostEntriesRequest {
        entries: vec![entry("order-1", "aff-1", "1", "EUR")],
        ..Default::default()
    };
    balances.post_entries(request).await.unwrap();
    // A token counts before the certificate, a wrong one too.
    may_read(&shop, Some(&spiffe.authorization())).await.unwrap();
    let wrong = format!("Bearer {}", NewToken::make().unwrap().token.as_str());
    assert_unknown(
        may_read(&desk, Some(&wrong)).await,
        "a wrong token over a good certificate",
    );
    // A name that is not in the file is known, and may do nothing.
    let other = authority.issue("other.example.org");
    let other = channel_with(Some(&other)).await.unwrap();
    let denied = may_read(&other, None).await.unwrap_err();
    assert_refused(&denied, Code::PermissionDenied, "PERMISSION_DENIED");

    let expired = authority.issue_until("spiffe://example.org/desk", 2020);
    let foreign = stranger.issue("spiffe://example.org/desk");
    for (what, certificate) in [
        ("no", None),
        ("an expired", Some(&expired)),
        ("a foreign", Some(&foreign)),
    ] {
        // It is refused in the handshake, which the client may see only with its first call.
        let call = match channel_with(certificate).await {
            Ok(channel) => may_read(&channel, Some(&spiffe.authorization())).await,
            Err(_) => continue,
        };
        let status = call.err().unwrap_or_else(|| panic!("{what} certificate is let in"));
        assert!(
            status.details().is_empty(),
            "{what} certificate is answered: {status:?}"
        );
    }
    assert!(
        connect(&stranger.client(None), address).await.is_err(),
        "the server shows its own authority's"
    );
    let plain = plain_channel(address).await;
    assert!(may_read(&plain, Some(&spiffe.authorization())).await.is_err());

    // Whoever leaves the file may do nothing more, on open connections too.
    files.write_identities(&[&dns]);
    until("the end of a name", async || may_read(&desk, None).await.is_err()).await;
    // The authorities are replaced: those of before are refused.
    files.write("authorities.pem", &stranger.pem());
    let late = authority.issue("shop.example.org");
    until("the new authority", async || {
        let Ok(channel) = channel_with(Some(&late)).await else {
            return true;
        };
        outcome(&channel, Rpc::HealthCheck, None).await.is_err()
    })
    .await;
    let now_known = stranger.issue("shop.example.org");
    let now_known = channel_with(Some(&now_known)).await.unwrap();
    outcome(&now_known, Rpc::HealthCheck, None).await.unwrap();
}

async fn a_certificate_is_replaced_under_an_open_stream(app: App) {
    let files = Files::new();
    let authority = Authority::new();
    let (old, new) = (authority.issue("localhost"), authority.issue("localhost"));
    files.write_certificate(&old);
    let poster = Known::new("poster", &["poster"]);
    files.write_identities(&[&poster]);
    let address = app.guarded(files.over_tls()).await;
    let connector = authority.client(None);
    let shown = async || {
        let stream = connect(&connector, address).await.unwrap();
        let (_, session) = stream.get_ref();
        session.peer_certificates().unwrap()[0].clone().into_owned()
    };
    assert_eq!(&shown().await, old.der());
    let channel = tls_channel(&connector, address).await.unwrap();
    let mut balances = BalancesServiceClient::with_interceptor(channel, authorized(&poster.authorization()));
    let (sender, receiver) = mpsc::unbounded_channel();
    let stream = balances.stream_entries(UnboundedReceiverStream::new(receiver)).await;
    let mut stream = stream.unwrap().into_inner();
    let mut post = async |number: u32| {
        let chunk = proto::StreamEntriesRequest {
            chunk_id: number.to_string(),
            entries: vec![entry(&format!("order-{number}"), "aff-1", "1", "EUR")],
        };
        sender.send(chunk).unwrap();
        assert_eq!(stream.message().await.unwrap().unwrap().posted_count, 1);
    };
    post(1).await;
    // Between the two the certificate and the key do not fit: the old ones still count.
    files.write("certificate.pem", &new.certificate_pem);
    // Longer than it takes to look at the files: that nothing comes of it can't be waited for otherwise.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(&shown().await, old.der());
    files.write("key.pem", &new.key_pem);
    until("the new certificate", async || &shown().await == new.der()).await;
    post(2).await;
}

async fn silent_connections_hold_up_nobody_and_are_closed(app: App) {
    let files = Files::new();
    let authority = Authority::new();
    files.write_certificate(&authority.issue("localhost"));
    let reader = Known::new("reader", &["reader"]);
    files.write_identities(&[&reader]);
    let address = app.guarded(files.over_tls()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let connector = authority.client(None);
    let channel = timeout(Duration::from_secs(5), tls_channel(&connector, address)).await;
    let channel = channel.unwrap().unwrap();
    may_read(&channel, Some(&reader.authorization())).await.unwrap();
    for mut stream in silent {
        let mut byte = [0];
        let read = timeout(Duration::from_secs(30), stream.read(&mut byte)).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "the server ends what says nothing");
    }
}

fn the_program_serves_others_over_tls_to_those_it_knows() {
    let made = run("token", tempfile::tempdir().unwrap().path(), &[]);
    assert!(made.status.success());
    let said = String::from_utf8(made.stdout).unwrap();
    let token = said.lines().find(|line| line.starts_with("abt_")).unwrap();
    let line = said.lines().find(|line| line.starts_with("tokens_sha256 = ")).unwrap();
    let files = Files::new();
    let authority = Authority::new();
    files.write_certificate(&authority.issue("localhost"));
    files.write(
        "identities.toml",
        &format!("[[identity]]\nname = \"desk\"\n{line}\nroles = [\"reader\"]\n"),
    );
    let paths = ["identities.toml", "certificate.pem", "key.pem"].map(|name| files.path(name).display().to_string());
    let settings = [
        ("BILLING_LISTEN", "0.0.0.0:0"),
        ("BILLING_TOKENS_FILE", paths[0].as_str()),
        ("BILLING_TLS_CERT_FILE", paths[1].as_str()),
        ("BILLING_TLS_KEY_FILE", paths[2].as_str()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &settings);
    assert!(!serving.lines.iter().any(|line| line.contains(token)));
    let port = serving.address().rsplit_once(':').unwrap().1;
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let channel = tls_channel(&authority.client(None), address).await.unwrap();
        may_read(&channel, Some(&format!("Bearer {token}"))).await.unwrap();
        assert_unknown(may_read(&channel, None).await, LIST_SETTLEMENTS);
    });
    assert_eq!(serving.end("-TERM").code(), Some(0));
}

fn what_is_missing_is_told_and_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let everywhere = ("BILLING_LISTEN", "0.0.0.0:0");
    let said = failure("serve", folder.path(), &[everywhere]);
    for word in ["BILLING_TOKENS_FILE", "BILLING_TLS_CERT_FILE", "BILLING_INSECURE=1"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    let files = Files::new();
    files.write_identities(&[&Known::new("reader", &["reader"])]);
    let identities = files.path("identities.toml").display().to_string();
    let tokens = ("BILLING_TOKENS_FILE", identities.as_str());
    let said = failure("serve", folder.path(), &[everywhere, tokens]);
    assert!(
        said.contains("not encrypted") && !said.contains("not authenticated"),
        "{said}"
    );
    for (settings, warned) in [
        (
            vec![everywhere, ("BILLING_INSECURE", "1")],
            vec!["not authenticated", "not encrypted"],
        ),
        (
            vec![everywhere, tokens, ("BILLING_INSECURE", "1")],
            vec!["not encrypted"],
        ),
        (vec![], vec!["not authenticated"]),
        (vec![tokens], vec![]),
    ] {
        let (code, log) = Serving::start_logged(folder.path(), &settings).end_with_log("-TERM");
        assert_eq!(code, Some(0));
        for word in ["not authenticated", "not encrypted"] {
            assert_eq!(log.contains(word), warned.contains(&word), "{settings:?}: {log}");
        }
    }
}
