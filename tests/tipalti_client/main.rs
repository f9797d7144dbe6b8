//! The Tipalti provider against the fake, over real HTTP: what each fault means for money.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use affiliate_billing::domain::account_settlements::Status;
use affiliate_billing::domain::currency::Currency;
use affiliate_billing::domain::money::{Amount, Money};
use affiliate_billing::domain::sensitive::Sensitive;
use affiliate_billing::payout::tipalti::status::map;
use affiliate_billing::payout::tipalti::webhook::{SIGNATURE_HEADER, parse_event, verify_signature};
use affiliate_billing::payout::tipalti::{TipaltiProvider, TipaltiSettings};
use affiliate_billing::payout::{LookUp, PaymentOrder, PayoutProvider, ProviderErrorKind, RowOutcome, SubmitError};
use fake_tipalti::faults::{Endpoint, Fault, FaultKind, Moment};
use fake_tipalti::state::{Options, Payee};
use fake_tipalti::webhooks::sign;
use fake_tipalti::{FakeTipalti, Order};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const TIMEOUT: Duration = Duration::from_millis(400);
const LONGER: u64 = 1500;

async fn fake() -> FakeTipalti {
    FakeTipalti::start(Options::default()).await.unwrap()
}

fn settings(url: &str) -> TipaltiSettings {
    let mut settings = TipaltiSettings::new(
        url,
        Sensitive::new("fake-client"),
        Sensitive::new("fake-secret"),
        Sensitive::new("fake-refresh"),
    );
    settings.request_timeout = TIMEOUT;
    settings.retry_pause = Duration::from_millis(10);
    settings.max_retry_pause = Duration::from_secs(2);
    settings
}

fn provider(fake: &FakeTipalti) -> Arc<dyn PayoutProvider> {
    Arc::new(TipaltiProvider::new(settings(&fake.url())).unwrap())
}

fn order(ref_code: &str) -> PaymentOrder {
    PaymentOrder {
        ref_code: ref_code.to_owned(),
        payee_id: Sensitive::new("payee-1"),
        money: Money::new(Currency::parse("EUR").unwrap(), Amount::parse("12.5").unwrap()),
        decimals: 2,
    }
}

fn codes(ref_codes: &[&str]) -> Vec<String> {
    ref_codes.iter().map(|code| (*code).to_owned()).collect()
}

fn status(status: u16, retry_after_seconds: Option<u32>, body: &str) -> FaultKind {
    FaultKind::Status {
        status,
        retry_after_seconds,
        body: body.to_owned(),
    }
}

async fn is_known(provider: &Arc<dyn PayoutProvider>, ref_code: &str) -> bool {
    let answers = provider.look_up(&codes(&[ref_code])).await.unwrap();
    matches!(answers.as_slice(), [LookUp::Known(_)])
}

#[tokio::test]
async fn a_batch_is_taken_and_answered_row_by_row() {
    let fake = fake().await;
    let provider = provider(&fake);
    let outcomes = provider.submit("b", &[order("a-1"), order("a-2")]).await.unwrap();
    assert_eq!(
        outcomes.iter().map(RowOutcome::ref_code).collect::<Vec<_>>(),
        ["a-1", "a-2"]
    );
    for outcome in &outcomes {
        let RowOutcome::Accepted(report) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(report.raw_status, "ANALYZING");
        assert!(!report.provider_reference.is_empty() && report.event_time.is_some());
        assert_eq!(map(&report.raw_status).unwrap().status, Status::InProgress);
    }
    assert_eq!(fake.state()["payments"]["a-1"]["amount"], "12.5");
    assert_eq!(
        (fake.accepted("a-1"), fake.requests("token"), fake.requests("batches")),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_payee_that_cannot_be_paid_fails_its_row_alone() {
    let fake = fake().await;
    fake.configure(|options| options.knows_all_payees = false);
    fake.set_payee(Payee {
        id: "payee-1".to_owned(),
        ref_code: Some("idap-1".to_owned()),
        is_payable: false,
        reason_code: Some("TaxFormsMissing".to_owned()),
        reason: Some("no tax form, ask jane@example.com".to_owned()),
    });
    let provider = provider(&fake);
    let stranger = PaymentOrder {
        payee_id: Sensitive::new("stranger"),
        ..order("a-2")
    };
    let outcomes = provider.submit("b", &[order("a-1"), stranger]).await.unwrap();
    let RowOutcome::Accepted(deferred) = &outcomes[0] else {
        panic!("{outcomes:?}")
    };
    let mapped = map(&deferred.raw_status).unwrap();
    assert_eq!((mapped.status, mapped.is_final), (Status::Error, true));
    assert_eq!(deferred.error_code, "TaxFormsMissing");
    assert_eq!(deferred.error_text, "no tax form, ask [removed]");
    let RowOutcome::Refused(refused) = &outcomes[1] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(refused.error_code, "PayeeUnknown");
    for id in ["payee-1", "idap-1"] {
        let payee = provider.payee_status(&Sensitive::new(id)).await.unwrap().unwrap();
        assert_eq!(payee.is_payable, Some(false), "{id}");
    }
    assert_eq!(provider.payee_status(&Sensitive::new("stranger")).await.unwrap(), None);
}

#[tokio::test]
async fn a_ref_code_that_is_there_already_is_unknown_and_never_refused() {
    let fake = fake().await;
    let provider = provider(&fake);
    provider.submit("b", &[order("a-1")]).await.unwrap();
    let outcomes = provider.submit("c", &[order("a-1"), order("a-2")]).await.unwrap();
    assert!(matches!(outcomes[0], RowOutcome::Unknown { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[1], RowOutcome::Accepted(_)), "{outcomes:?}");
    assert_eq!((fake.accepted("a-1"), fake.attempts("a-1")), (1, 2));
    let duplicate = r#"{"errors":[{"code":"X","message":"refCode already exists"}]}"#;
    fake.fail_once(Endpoint::Batches, Moment::Before, status(400, None, duplicate));
    let error = provider.submit("d", &[order("a-3")]).await.unwrap_err();
    assert!(matches!(error, SubmitError::Unknown(_)), "{error:?}");
}

#[tokio::test]
async fn faults_after_sending_are_unknown_whether_taken_or_not() {
    let hang = FaultKind::Hang { milliseconds: LONGER };
    let faults = [
        (Moment::Before, hang.clone(), false),
        (Moment::After, hang, true),
        (Moment::Before, FaultKind::Cut, false),
        (Moment::After, FaultKind::Cut, true),
        (Moment::After, FaultKind::CutBody, true),
        (Moment::After, FaultKind::Garbage, true),
        (Moment::Before, status(500, None, ""), false),
        (Moment::After, status(500, None, ""), true),
        (Moment::Before, status(503, Some(1), ""), false),
        (Moment::After, status(502, None, "<html>"), true),
        (Moment::Before, status(408, None, ""), false),
        (Moment::After, status(409, None, ""), true),
        (Moment::Before, status(307, None, ""), false),
    ];
    for (moment, kind, is_taken) in faults {
        let fake = fake().await;
        let provider = provider(&fake);
        fake.fail_once(Endpoint::Batches, moment, kind.clone());
        let error = provider.submit("b", &[order("a-1")]).await.unwrap_err();
        assert!(
            matches!(error, SubmitError::Unknown(_)),
            "{moment:?} {kind:?}: {error:?}"
        );
        assert_eq!(fake.requests("batches"), 1, "{moment:?} {kind:?}");
        assert_eq!(fake.accepted("a-1"), u32::from(is_taken), "{moment:?} {kind:?}");
        assert_eq!(is_known(&provider, "a-1").await, is_taken, "{moment:?} {kind:?}");
    }
}

#[tokio::test]
async fn a_batch_that_was_taken_and_can_not_be_read_is_unknown() {
    let fake = fake().await;
    let provider = provider(&fake);
    for times in [1, 10] {
        fake.add_fault(Fault {
            times,
            ..Fault::once(Endpoint::Instructions, Moment::Before, status(404, None, ""))
        });
        let ref_code = format!("a-{times}");
        let error = provider.submit("b", &[order(&ref_code)]).await.unwrap_err();
        assert!(matches!(error, SubmitError::Unknown(_)), "{error:?}");
        assert_eq!(fake.accepted(&ref_code), 1);
        fake.clear_faults();
    }
    fake.fail_once(Endpoint::Instructions, Moment::After, FaultKind::Nothing);
    let outcomes = provider.submit("b", &[order("a-3")]).await.unwrap();
    assert!(matches!(outcomes[0], RowOutcome::Unknown { .. }));
}

#[tokio::test]
async fn refusals_of_the_whole_batch_are_not_sent() {
    for code in [400, 401, 403, 404, 413, 422] {
        let fake = fake().await;
        fake.fail_once(Endpoint::Batches, Moment::Before, status(code, None, ""));
        let error = provider(&fake).submit("b", &[order("a-1")]).await.unwrap_err();
        assert!(matches!(error, SubmitError::NotSent(_)), "{code}: {error:?}");
        assert_eq!((fake.requests("batches"), fake.accepted("a-1")), (1, 0), "{code}");
    }
}

#[tokio::test]
async fn too_many_requests_are_not_sent_and_tell_how_long_to_wait() {
    let fake = fake().await;
    fake.fail_once(Endpoint::Batches, Moment::Before, status(429, Some(7), ""));
    let error = provider(&fake).submit("b", &[order("a-1")]).await.unwrap_err();
    let SubmitError::NotSent(error) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (error.kind, error.retry_after),
        (ProviderErrorKind::Throttled, Some(Duration::from_secs(7)))
    );
    assert_eq!(fake.requests("batches"), 1);
}

#[tokio::test]
async fn nothing_is_sent_without_a_connection_a_name_or_a_token() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let fake = fake().await;
    // The token comes from the fake, the batch goes nowhere.
    for base in [refusing.as_str(), "http://no-such-host.invalid"] {
        let mut settings = settings(base);
        settings.token_url = Some(format!("{}/connect/token", fake.url()));
        let error = TipaltiProvider::new(settings)
            .unwrap()
            .submit("b", &[order("a-1")])
            .await
            .unwrap_err();
        assert!(
            matches!(&error, SubmitError::NotSent(error) if error.kind == ProviderErrorKind::Unreachable),
            "{error:?}"
        );
    }
    let mut wrong = settings(&fake.url());
    wrong.client_secret = Sensitive::new("wrong");
    let error = TipaltiProvider::new(wrong)
        .unwrap()
        .submit("b", &[order("a-1")])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SubmitError::NotSent(error) if error.kind == ProviderErrorKind::Credentials),
        "{error:?}"
    );
    for kind in [
        FaultKind::Cut,
        status(500, None, ""),
        FaultKind::Garbage,
        FaultKind::Hang { milliseconds: LONGER },
    ] {
        fake.fail_once(Endpoint::Token, Moment::After, kind);
        let error = provider(&fake).submit("b", &[order("a-1")]).await.unwrap_err();
        assert!(matches!(error, SubmitError::NotSent(_)), "{error:?}");
    }
    assert_eq!(fake.requests("batches"), 0);
}

#[tokio::test]
async fn a_batch_that_must_not_be_sent_is_not() {
    let fake = fake().await;
    let provider = provider(&fake);
    let too_many: Vec<_> = (0..251).map(|number| order(&format!("a-{number}"))).collect();
    let twice = vec![order("a"), order("A")];
    let too_fine = vec![PaymentOrder {
        decimals: 0,
        ..order("a")
    }];
    let not_plain = vec![order("a\" or refCode!=\"")];
    for orders in [too_many, twice, too_fine, not_plain] {
        let error = provider.submit("b", &orders).await.unwrap_err();
        assert!(matches!(error, SubmitError::NotSent(_)), "{error:?}");
    }
    assert_eq!(fake.requests("batches"), 0);
    let most: Vec<_> = (0..250).map(|number| order(&format!("a-{number}"))).collect();
    let outcomes = provider.submit("b", &most).await.unwrap();
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, RowOutcome::Accepted(_)))
    );
    assert_eq!((outcomes.len(), fake.requests("instructions")), (250, 3));
}

#[tokio::test]
async fn many_payments_are_looked_up_with_few_questions() {
    let fake = fake().await;
    let provider = provider(&fake);
    let orders: Vec<_> = (0..200).map(|number| order(&format!("a-{number}"))).collect();
    provider.submit("b", &orders).await.unwrap();
    let mut asked: Vec<String> = orders.iter().map(|order| order.ref_code.clone()).collect();
    asked.push("stranger".to_owned());
    asked.push("a-0".to_owned());
    let answers = provider.look_up(&asked).await.unwrap();
    assert_eq!(answers.iter().map(LookUp::ref_code).collect::<Vec<_>>(), asked);
    let unknown: Vec<_> = answers
        .iter()
        .filter(|answer| matches!(answer, LookUp::NotKnown { .. }))
        .collect();
    assert_eq!(unknown.len(), 1);
    assert_eq!(
        fake.requests("payments"),
        6,
        "5 questions, and one to be sure of the stranger"
    );
}

#[tokio::test]
async fn not_known_is_believed_of_one_question_only() {
    let fake = fake().await;
    let provider = provider(&fake);
    provider.submit("b", &[order("a-1"), order("a-2")]).await.unwrap();
    // An empty answer to a question for several is asked again, one by one.
    fake.fail_once(Endpoint::Payments, Moment::After, FaultKind::Nothing);
    let answers = provider.look_up(&codes(&["a-1", "a-2"])).await.unwrap();
    assert!(
        answers.iter().all(|answer| matches!(answer, LookUp::Known(_))),
        "{answers:?}"
    );
    // So is everything where several can't be asked for at once.
    fake.configure(|options| options.takes_or = false);
    let answers = provider.look_up(&codes(&["a-1", "x", "a-2"])).await.unwrap();
    assert!(matches!(answers[1], LookUp::NotKnown { .. }), "{answers:?}");
    assert!(matches!(answers[2], LookUp::Known(_)), "{answers:?}");
    for wrong in [
        status(404, None, ""),
        FaultKind::Garbage,
        status(200, None, r#"{"items":[],"totalCount":1}"#),
    ] {
        fake.fail_once(Endpoint::Payments, Moment::Before, wrong);
        provider.look_up(&codes(&["x"])).await.unwrap_err();
    }
    let other = r#"{"items":[{"id":"1","refCode":"other","status":"PAID"}],"totalCount":1}"#;
    fake.fail_once(Endpoint::Payments, Moment::Before, status(200, None, other));
    provider.look_up(&codes(&["x"])).await.unwrap_err();
}

#[tokio::test]
async fn of_several_payments_with_one_ref_code_the_one_that_keeps_the_money_counts() {
    let fake = fake().await;
    let two =
        r#"{"items":[{"id":"1","refCode":"x","status":"SUBMITTED"},{"id":"2","refCode":"x","status":"REJECTED"}]}"#;
    fake.fail_once(Endpoint::Payments, Moment::Before, status(200, None, two));
    let answers = provider(&fake).look_up(&codes(&["x"])).await.unwrap();
    let LookUp::Known(report) = &answers[0] else {
        panic!("{answers:?}")
    };
    assert_eq!(report.raw_status, "SUBMITTED");
}

#[tokio::test]
async fn look_ups_are_asked_again_and_honour_retry_after() {
    let fake = fake().await;
    let provider = provider(&fake);
    provider.submit("b", &[order("a-1")]).await.unwrap();
    for kind in [
        FaultKind::Cut,
        FaultKind::CutBody,
        status(503, None, ""),
        FaultKind::Hang { milliseconds: LONGER },
    ] {
        fake.fail_once(Endpoint::Payments, Moment::After, kind);
        assert!(is_known(&provider, "a-1").await);
    }
    let began = Instant::now();
    fake.fail_once(Endpoint::Payments, Moment::Before, status(429, Some(1), ""));
    assert!(is_known(&provider, "a-1").await);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let before = fake.requests("payments");
    fake.fail_once(Endpoint::Payments, Moment::Before, status(429, Some(30), ""));
    let error = provider.look_up(&codes(&["a-1"])).await.unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(30)));
    assert_eq!(
        fake.requests("payments"),
        before + 1,
        "who asks for more than we wait is left alone"
    );
}

#[tokio::test]
async fn retries_end_with_their_number_and_with_the_budget() {
    let fake = fake().await;
    let provider = provider(&fake);
    fake.add_fault(Fault {
        times: u32::MAX,
        ..Fault::once(Endpoint::Payments, Moment::Before, status(500, None, ""))
    });
    let ask = async || provider.look_up(&codes(&["x"])).await.unwrap_err();
    assert_eq!(ask().await.kind, ProviderErrorKind::Failed);
    assert_eq!(fake.requests("payments"), 5);
    for _ in 0..20 {
        ask().await;
    }
    assert_eq!(
        fake.requests("payments"),
        21 + 20,
        "one each, and the retries that were saved up"
    );
}

#[tokio::test]
async fn a_token_is_fetched_once_by_many_and_again_when_it_is_not_taken() {
    let fake = fake().await;
    let provider = provider(&fake);
    let asked = codes(&["x"]);
    let (one, two, three) = tokio::join!(
        provider.look_up(&asked),
        provider.look_up(&asked),
        provider.look_up(&asked)
    );
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(fake.requests("token"), 1);
    fake.revoke_tokens();
    assert!(!is_known(&provider, "x").await);
    assert_eq!(fake.requests("token"), 2);
    // A post is not repeated by itself: it fails once, and the next one has a new token.
    fake.revoke_tokens();
    let error = provider.submit("b", &[order("a-1")]).await.unwrap_err();
    assert!(matches!(error, SubmitError::NotSent(_)), "{error:?}");
    provider.submit("b", &[order("a-1")]).await.unwrap();
    assert_eq!((fake.requests("token"), fake.accepted("a-1")), (3, 1));
}

#[tokio::test]
async fn refused_tokens_are_fetched_anew_once_and_not_forever() {
    let fake = fake().await;
    fake.add_fault(Fault {
        times: u32::MAX,
        ..Fault::once(Endpoint::Payments, Moment::Before, status(401, None, ""))
    });
    let error = provider(&fake).look_up(&codes(&["x"])).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Unauthorized);
    assert_eq!((fake.requests("payments"), fake.requests("token")), (2, 2));
}

#[tokio::test]
async fn a_new_refresh_token_is_used_from_then_on() {
    let fake = fake().await;
    fake.configure(|options| options.rotate_refresh_token = true);
    let provider = provider(&fake);
    for _ in 0..3 {
        assert!(!is_known(&provider, "x").await);
        fake.revoke_tokens();
    }
    assert_eq!(fake.requests("token"), 3);
}

#[tokio::test]
async fn a_token_is_replaced_before_it_ends() {
    let fake = fake().await;
    fake.configure(|options| options.token_lifetime_seconds = 0);
    let provider = provider(&fake);
    for _ in 0..2 {
        assert!(!is_known(&provider, "x").await);
    }
    assert_eq!(fake.requests("token"), 2);
}

#[tokio::test]
async fn the_script_s_statuses_are_seen_and_an_unknown_one_is_unmapped() {
    let fake = fake().await;
    let provider = provider(&fake);
    fake.set_script(&["Analyzing", "PENDING_PAYER_FUNDS", "INTERNAL_VALUE", "CLEARED"]);
    provider.submit("b", &[order("a-1")]).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let answers = provider.look_up(&codes(&["a-1"])).await.unwrap();
        let LookUp::Known(report) = &answers[0] else {
            panic!("{answers:?}")
        };
        seen.push(map(&report.raw_status).map(|mapped| (mapped.status, mapped.is_final)));
        fake.advance();
    }
    let expected = [
        Some((Status::InProgress, false)),
        Some((Status::InProgress, false)),
        None,
        Some((Status::Paid, true)),
    ];
    assert_eq!(seen, expected);
}

/// Takes one HTTP request, answers 200, and gives its head and its body.
async fn receive_one(listener: &TcpListener) -> (String, Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            return (head.to_owned(), body.as_bytes().to_vec());
        }
    }
}

fn signature(head: &str) -> String {
    let prefix = format!("{SIGNATURE_HEADER}: ");
    head.lines()
        .find_map(|line| line.strip_prefix(prefix.as_str()))
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn events_are_signed_and_may_be_held_reversed_and_repeated() {
    let fake = fake().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks/tipalti", listener.local_addr().unwrap());
    fake.configure(|options| options.webhook_url = Some(url));
    fake.hold_events();
    provider(&fake).submit("b", &[order("a-1")]).await.unwrap();
    fake.set_status("a-1", "PAID", "", "");
    let releasing = fake.clone();
    let released = tokio::spawn(async move {
        releasing
            .release_events(Order::Reversed, 2, fake_tipalti::webhooks::Delivery::default())
            .await
    });
    let mut statuses = Vec::new();
    let secrets = [Sensitive::new("older"), Sensitive::new("whsec_test_tipalti")];
    for _ in 0..4 {
        let (head, body) = receive_one(&listener).await;
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
        verify_signature(&signature(&head), &secrets, &body, now).unwrap();
        statuses.push(parse_event(&body).unwrap().payments[0].raw_status.clone());
    }
    assert_eq!(statuses, ["PAID", "PAID", "ANALYZING", "ANALYZING"]);
    assert_eq!(released.await.unwrap(), [200; 4]);
}

#[test]
fn the_fake_signs_as_the_example_says() {
    let body = r#"{"id":"e1","type":"paymentCompleted","createdDate":"2026-01-01T00:00:00Z","isTest":true,"version":"1.0","traceId":"t","eventData":{"refCode":"AS-0001","paymentStatus":"PAID"}}"#;
    assert_eq!(
        sign("whsec_test_tipalti", 1_767_225_600, body),
        "t=1767225600,v=f91b1a9a8449ebf65260a5749a553facb6df8755f275f4e2d43d4f1ab3ad4ae7"
    );
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_and_no_payee_is_in_a_log_an_error_or_a_debug_output() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let fake = fake().await;
    let tipalti = TipaltiProvider::new(settings(&fake.url())).unwrap();
    let mut shown = format!("{tipalti:?} {:?}", settings(&fake.url()));
    tipalti.submit("b", &[order("a-1")]).await.unwrap();
    tipalti.payee_status(&Sensitive::new("payee-1")).await.unwrap();
    fake.add_fault(Fault {
        times: u32::MAX,
        ..Fault::once(Endpoint::Payees, Moment::Before, FaultKind::Cut)
    });
    let error = tipalti.payee_status(&Sensitive::new("payee-1")).await.unwrap_err();
    shown.push_str(&format!("{error} {error:?}"));
    let echo = r#"{"errors":[{"code":"X","message":"payee jane@example.com with 12345678 is bad"}]}"#;
    fake.fail_once(Endpoint::Batches, Moment::Before, status(400, None, echo));
    let error = tipalti.submit("b", &[order("a-2")]).await.unwrap_err();
    shown.push_str(&format!("{error} {error:?}"));
    let mut wrong = settings(&fake.url());
    wrong.client_secret = Sensitive::new("wrong-secret");
    let error = TipaltiProvider::new(wrong)
        .unwrap()
        .look_up(&codes(&["x"]))
        .await
        .unwrap_err();
    shown.push_str(&format!("{error} {error:?}"));
    drop(guard);
    shown.push_str(&String::from_utf8_lossy(&log.0.lock().unwrap()));
    assert!(shown.contains("posted to tipalti"), "the log is caught");
    for secret in [
        "fake-secret",
        "wrong-secret",
        "fake-refresh",
        "fake-client",
        "access-token",
        "payee-1",
        "jane",
        "12345678",
    ] {
        assert!(!shown.contains(secret), "{secret} is in: {shown}");
    }
}
