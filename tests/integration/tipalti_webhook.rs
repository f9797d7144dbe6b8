//! Tipalti's webhook: who is believed, what is kept, and that the order of events does not matter.

use std::collections::BTreeMap;

use affiliate_billing::domain::account_settlements::Status;
use affiliate_billing::domain::time::Timestamp;
use affiliate_billing::payout::PaymentReport;
use affiliate_billing::payout::standing::fold;
use affiliate_billing::payout::tipalti::KIND;
use affiliate_billing::payout::tipalti::status::map;
use affiliate_billing::payout::tipalti::webhook::EVENT_TYPES;
use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::TipaltiEventOutcome as Outcome;
use affiliate_billing::webhook::MAX_BODY_BYTES;
use fake_tipalti::Order;
use fake_tipalti::webhooks::{Delivery, sign};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use crate::support::app::App;
use crate::support::fixtures::request_id;
use crate::support::harness::scenarios;
use crate::support::ledger::skipped;
use crate::support::rows::assert_refused;
use crate::support::tables::Tables;
use crate::support::tipalti::{SECRET, World};

scenarios![
    events_move_rows_by_themselves,
    late_repeated_and_reordered_events_end_where_they_should,
    what_is_not_tipaltis_is_refused_by_its_status,
    the_same_event_is_applied_once,
    events_of_every_type_are_kept,
    a_group_event_moves_all_its_payments,
    an_event_of_a_row_that_was_not_sent_from_here_counts,
    an_event_that_came_before_its_row_is_applied_when_it_is_there,
    an_event_that_was_not_understood_is_applied_when_it_is,
    an_event_that_was_cut_off_is_applied_later,
    paid_after_it_was_deleted_raises_an_alarm_and_holds_the_account,
    under_way_after_it_was_deleted_unsent_raises_an_alarm,
    a_final_word_that_is_taken_back_raises_an_alarm,
    a_failed_payment_that_is_taken_up_again_is_not_let_go,
    taken_up_again_after_it_was_deleted_raises_an_alarm,
    a_row_that_tipalti_spoke_of_is_asked_for_and_not_sent,
    an_event_of_a_row_that_tipalti_does_not_pay_changes_nothing,
    nothing_personal_is_kept_of_an_event,
    the_order_of_events_does_not_matter;
    sqlite_only: an_unreachable_database_asks_for_the_event_again;
];

const OK: u16 = 200;
const ACCEPTED: u16 = 202;

/// What is sent, and how.
#[derive(Clone)]
struct Post {
    method: &'static str,
    path: String,
    content_type: Option<&'static str>,
    signature: Option<String>,
    body: String,
}

impl Post {
    /// One that is taken.
    fn good(body: &str) -> Self {
        let now = Timestamp::now().to_seconds_nanos().0;
        Self {
            method: "POST",
            path: KIND.webhook.path.to_owned(),
            content_type: Some("application/json"),
            signature: Some(sign(SECRET, now, body)),
            body: body.to_owned(),
        }
    }

    /// Sends it; the status and the body of the answer.
    async fn send(&self, webhook: &str) -> (u16, String) {
        let host = webhook.strip_prefix("http://").unwrap().split('/').next().unwrap();
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n",
            self.method, self.path
        );
        if let Some(content_type) = self.content_type {
            head.push_str(&format!("content-type: {content_type}\r\n"));
        }
        if let Some(signature) = &self.signature {
            head.push_str(&format!("Tipalti-Signature: {signature}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // A body that is refused for its size may not be read to its end.
        let _ = stream.write_all(self.body.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let status = answer
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("no answer: {answer:?}"));
        (status.parse().unwrap(), answer)
    }
}

fn event(id: &str, event_type: &str, ref_code: &str, raw_status: &str, created: &str) -> String {
    json!({"id": id, "type": event_type, "createdDate": created, "isTest": true, "version": "1.0", "traceId": "t",
        "eventData": {"refCode": ref_code, "paymentStatus": raw_status}})
    .to_string()
}

fn said(row: &proto::AccountSettlement) -> (RowStatus, String, bool) {
    let provider = row.provider.clone().unwrap_or_default();
    (row.status(), provider.raw_status, provider.is_final)
}

async fn events_move_rows_by_themselves(app: App) {
    let world = World::new(&app).await;
    world.fake.hold_events();
    let row = world.submitted_row("aff-1").await;
    for raw_status in ["SUBMITTED", "PAID", "CLEARED"] {
        world.fake.advance();
        let answers = world.fake.release_events(Order::Sent, 1, Delivery::default()).await;
        assert!(answers.iter().all(|answer| *answer == OK), "{answers:?}");
        world.fake.hold_events();
        assert_eq!(said(&app.row(&row.id).await).1, raw_status);
    }
    assert_eq!(world.fake.requests("payments"), 0, "nobody asked");
    let events = world.replica.events(Outcome::Unspecified).await;
    assert_eq!(events.len(), 4);
    let newest = &events[0];
    assert_eq!((newest.r#type.as_str(), newest.is_test), ("paymentCompleted", true));
    assert_eq!(newest.payments[0].ref_code, row.id);
    assert_eq!(newest.payments[0].outcome(), Outcome::Applied);
    world.end().await;
}

async fn late_repeated_and_reordered_events_end_where_they_should(app: App) {
    let world = World::new(&app).await;
    world.fake.hold_events();
    let rows = world.settled(&["aff-1", "aff-2"]).await;
    world.replica.submit(&rows[0].settlement_id).await;
    world.fake.advance();
    world.fake.advance();
    world.fake.set_status(&rows[0].id, "CLEARED", "", "");
    world
        .fake
        .set_status(&rows[1].id, "REJECTED", "BankRefused", "no such account");
    let answers = world.fake.release_events(Order::Reversed, 2, Delivery::default()).await;
    assert!(
        answers.len() == 16 && answers.iter().all(|answer| *answer == OK),
        "{answers:?}"
    );
    assert_eq!(
        said(&app.row(&rows[0].id).await),
        (RowStatus::Paid, "CLEARED".to_owned(), true)
    );
    assert_eq!(
        said(&app.row(&rows[1].id).await),
        (RowStatus::Error, "REJECTED".to_owned(), true)
    );
    let history = app.history(&rows[0].id).await;
    assert_eq!(
        history.len(),
        3,
        "one change for each of the statuses that it had: {history:?}"
    );
    assert_eq!(
        app.history(&rows[1].id).await[2].reason,
        "REJECTED: BankRefused: no such account"
    );
    assert!(world.replica.alarms().await.is_empty());
    world.end().await;
}

async fn what_is_not_tipaltis_is_refused_by_its_status(app: App) {
    let world = World::new(&app).await;
    let good = Post::good(&event(
        "e1",
        "paymentCompleted",
        &request_id(),
        "PAID",
        "2026-01-01T00:00:00Z",
    ));
    let now = Timestamp::now().to_seconds_nanos().0;
    let with = |change: &dyn Fn(&mut Post)| {
        let mut post = good.clone();
        change(&mut post);
        post
    };
    let signed = |body: &str| Post::good(body);
    let example = r#"{"id":"e1","type":"paymentCompleted","createdDate":"2026-01-01T00:00:00Z","isTest":true,"version":"1.0","traceId":"t","eventData":{"refCode":"AS-0001","paymentStatus":"PAID"}}"#;
    let example_signature = "t=1767225600,v=f91b1a9a8449ebf65260a5749a553facb6df8755f275f4e2d43d4f1ab3ad4ae7";
    let refused = [
        (with(&|post| post.method = "GET"), 405),
        (with(&|post| post.path = "/webhooks/other".to_owned()), 404),
        (with(&|post| post.content_type = None), 415),
        (with(&|post| post.content_type = Some("text/plain")), 415),
        (with(&|post| post.signature = None), 401),
        (with(&|post| post.signature = Some("nonsense".to_owned())), 401),
        (with(&|post| post.signature = Some(sign("wrong", now, &post.body))), 401),
        (with(&|post| post.body.push(' ')), 401),
        (
            with(&|post| post.signature = Some(sign(SECRET, now - 301, &post.body))),
            401,
        ),
        (
            with(&|post| post.signature = Some(sign(SECRET, now + 330, &post.body))),
            401,
        ),
        (
            with(&|post| {
                post.body = example.to_owned();
                post.signature = Some(example_signature.to_owned());
            }),
            401,
        ),
        (signed("hello"), 400),
        (signed("[]"), 400),
        (signed(r#"{"type":"paymentCompleted"}"#), 400),
        (signed(r#"{"id":"e1"}"#), 400),
        (signed(&" ".repeat(MAX_BODY_BYTES + 1)), 413),
    ];
    for (post, expected) in refused {
        let (status, answer) = post.send(&world.webhook).await;
        assert_eq!(status, expected, "{answer}");
        assert!(answer.contains(r#"{"error":"#) || status == 405, "{answer}");
    }
    assert!(
        world.replica.events(Outcome::Unspecified).await.is_empty(),
        "nothing is kept of them"
    );
    // Either secret counts, and parameters of the content type don't matter.
    let other = with(&|post| {
        post.signature = Some(sign("other", now, &post.body));
        post.content_type = Some("application/json; charset=utf-8");
    });
    let (status, answer) = other.send(&world.webhook).await;
    assert_eq!(status, ACCEPTED, "{answer}");
    assert!(answer.contains(r#""unknown_ref_codes":1"#), "{answer}");
    world.end().await;
}

async fn the_same_event_is_applied_once(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let row = world.submitted_row("aff-1").await;
    let post = Post::good(&event(
        "e1",
        "paymentCompleted",
        &row.id,
        "PAID",
        "2999-01-01T00:00:00Z",
    ));
    assert_eq!(post.send(&world.webhook).await.0, OK);
    let paid = app.row(&row.id).await;
    assert_eq!(paid.status(), RowStatus::Paid);
    // The id is what makes it the same, whatever else it says.
    let other = Post::good(&event(
        "e1",
        "paymentError",
        &row.id,
        "REJECTED",
        "2999-01-02T00:00:00Z",
    ));
    for post in [&post, &other] {
        let (status, answer) = post.send(&world.webhook).await;
        assert!(status == OK && answer.contains("duplicate"), "{answer}");
    }
    assert_eq!(app.row(&row.id).await, paid);
    world.end().await;
}

async fn events_of_every_type_are_kept(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let row = world.submitted_row("aff-1").await;
    for event_type in EVENT_TYPES.into_iter().chain(["somethingNew"]) {
        let data =
            json!({"refCode": row.id, "paymentStatus": "SUBMITTED", "payeeId": "payee-aff-1", "isPayable": true});
        let (_, answer) = world.fake.send_event(event_type, data, None, Delivery::default()).await;
        assert_eq!(answer, OK, "{event_type}");
    }
    let kept = world.replica.events(Outcome::Unspecified).await;
    let mut types: Vec<&str> = kept.iter().map(|event| event.r#type.as_str()).collect();
    types.reverse();
    assert_eq!(
        types,
        EVENT_TYPES.into_iter().chain(["somethingNew"]).collect::<Vec<_>>()
    );
    world.end().await;
}

async fn a_group_event_moves_all_its_payments(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let settlement = app.tipalti_settlement("aff", 700).await;
    world.replica.submit(&settlement).await;
    let batch = world.fake.state()["payments"]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap()["batchId"]
        .clone();
    let batch = batch.as_str().unwrap().to_owned();
    assert_eq!(world.fake.send_group_event(&batch, false).await, OK);
    let settlement_now = app.settlement(&settlement).await.status_counts.unwrap();
    assert_eq!((settlement_now.error, settlement_now.in_progress), (250, 450));
    let events = world.replica.events(Outcome::Applied).await;
    assert_eq!(
        (events.len(), events[0].payment_count, events[0].payments.len()),
        (1, 250, 100)
    );
    // One larger than what is applied in one transaction, of which some are not ours.
    let rows = app.rows_of(&settlement).await;
    let payments: Vec<_> = rows
        .iter()
        .map(|row| json!({"refCode": row.id, "paymentStatus": "CLEARED"}))
        .chain([json!({"refCode": "AS-0001", "paymentStatus": "PAID"})])
        .collect();
    let data = json!({"paymentGroupId": "g", "payments": payments});
    let (_, answer) = world
        .fake
        .send_event("paymentGroupApproved", data, None, Delivery::default())
        .await;
    assert_eq!(answer, ACCEPTED, "one of them is not known");
    let counts = app.settlement(&settlement).await.status_counts.unwrap();
    assert_eq!(
        (counts.paid, counts.error),
        (700, 0),
        "cleared after it was canceled, by Tipalti's later word"
    );
    assert_eq!(
        world.replica.alarms().await.len(),
        250,
        "one for each that was canceled for good"
    );
    world.end().await;
}

async fn an_event_of_a_row_that_was_not_sent_from_here_counts(app: App) {
    let world = World::new(&app).await;
    let row = world.settled(&["aff-1"]).await.remove(0);
    let post = Post::good(&event(
        "e1",
        "paymentSubmitted",
        &row.id,
        "SUBMITTED",
        "2026-01-01T00:00:00Z",
    ));
    assert_eq!(post.send(&world.webhook).await.0, OK);
    assert_eq!(app.row(&row.id).await.status(), RowStatus::InProgress);
    assert!(
        world.replica.submit(&row.settlement_id).await.is_empty(),
        "somebody sent it"
    );
    assert_eq!(world.fake.attempts(&row.id), 0);
    let outcome = app.delete_row(&row.id).await;
    assert_refused(outcome, Code::FailedPrecondition, "ACCOUNT_SETTLEMENT_NOT_DELETABLE");
    world.end().await;
}

/// Gives a row another id everywhere, beside the service.
async fn rename(app: &App, from: &str, to: &str) {
    let tables = Tables::open(&app.database_url).await;
    let literal = |id: &str| {
        if app.is_postgres() {
            format!("'{id}'")
        } else {
            format!("X'{}'", id.replace('-', ""))
        }
    };
    tables.execute(tables.without_foreign_keys()).await;
    for (table, column) in [
        ("account_settlements", "id"),
        ("accruals", "account_settlement_id"),
        ("status_changes", "account_settlement_id"),
    ] {
        let sql = format!(
            "UPDATE {table} SET {column} = {} WHERE {column} = {}",
            literal(to),
            literal(from)
        );
        tables.execute(&sql).await;
    }
    tables.close().await;
}

async fn an_event_that_came_before_its_row_is_applied_when_it_is_there(app: App) {
    let world = World::new(&app).await;
    let row = world.settled(&["aff-1"]).await.remove(0);
    let id = request_id();
    let post = Post::good(&event("e1", "paymentCompleted", &id, "PAID", "2026-01-01T00:00:00Z"));
    let (status, answer) = post.send(&world.webhook).await;
    assert!(status == ACCEPTED && answer.contains("waiting"), "{answer}");
    assert_eq!(world.replica.billing.apply_waiting_events(&KIND).await.unwrap(), 0);
    assert_eq!(world.replica.events(Outcome::UnknownRefCode).await.len(), 1);
    rename(&app, &row.id, &id).await;
    assert_eq!(world.replica.billing.apply_waiting_events(&KIND).await.unwrap(), 1);
    assert_eq!(said(&app.row(&id).await).0, RowStatus::Paid);
    assert_eq!(world.replica.events(Outcome::Applied).await.len(), 1);
    assert_eq!(
        world.replica.billing.apply_waiting_events(&KIND).await.unwrap(),
        0,
        "once"
    );
    world.end().await;
}

async fn an_event_that_was_not_understood_is_applied_when_it_is(app: App) {
    let mut world = World::new(&app).await;
    let row = world.settled(&["aff-1"]).await.remove(0);
    let post = Post::good(&event("e1", "paymentX", &row.id, "FUTURE", "2026-01-01T00:00:00Z"));
    assert_eq!(post.send(&world.webhook).await.0, ACCEPTED);
    assert_eq!(world.replica.events(Outcome::Unmapped).await.len(), 1);
    assert_eq!(world.replica.billing.apply_waiting_events(&KIND).await.unwrap(), 0);
    let unmapped = app.row(&row.id).await;
    assert!(unmapped.status() == RowStatus::New && unmapped.provider.unwrap().unmapped);
    let outcome = app.delete_row(&row.id).await;
    assert_refused(outcome, Code::FailedPrecondition, "ACCOUNT_SETTLEMENT_NOT_DELETABLE");
    // As a version leaves it that did not know PAID yet.
    let id = request_id();
    let post = Post::good(&event("e2", "paymentCompleted", &id, "PAID", "2026-01-01T00:00:00Z"));
    post.send(&world.webhook).await;
    let tables = Tables::open(&app.database_url).await;
    tables
        .execute("UPDATE provider_event_words SET outcome = 'UNMAPPED' WHERE event_id = 'e2'")
        .await;
    tables.close().await;
    rename(&app, &row.id, &id).await;
    world.replica.refresh();
    crate::tipalti_faults::until(&app, &id, |row| row.status() == RowStatus::Paid).await;
    world.end().await;
}

async fn an_event_that_was_cut_off_is_applied_later(app: App) {
    let world = World::new(&app).await;
    let row = world.settled(&["aff-1"]).await.remove(0);
    let id = request_id();
    let post = Post::good(&event("e1", "paymentCompleted", &id, "PAID", "2026-01-01T00:00:00Z"));
    post.send(&world.webhook).await;
    let tables = Tables::open(&app.database_url).await;
    // Just kept: whoever keeps it is about to apply it.
    let recent = Timestamp::now().as_micros();
    let set = |time: i64| format!("UPDATE provider_event_words SET outcome = 'STORED', outcome_time = {time}");
    tables.execute(&set(recent)).await;
    rename(&app, &row.id, &id).await;
    assert_eq!(world.replica.billing.apply_waiting_events(&KIND).await.unwrap(), 0);
    tables.execute(&set(recent - 60_000_000)).await;
    tables.close().await;
    assert_eq!(world.replica.billing.apply_waiting_events(&KIND).await.unwrap(), 1);
    assert_eq!(app.row(&id).await.status(), RowStatus::Paid);
    world.end().await;
}

async fn paid_after_it_was_deleted_raises_an_alarm_and_holds_the_account(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let row = world.submitted_row("aff-1").await;
    world.fake.set_status(&row.id, "REJECTED", "BankRefused", "");
    world.replica.sync(&row.settlement_id).await;
    let deleted = app.delete_row(&row.id).await.unwrap();
    for id in ["e1", "e2"] {
        let post = Post::good(&event(id, "paymentCompleted", &row.id, "PAID", "2999-01-01T00:00:00Z"));
        assert_eq!(post.send(&world.webhook).await.0, OK);
    }
    assert_eq!(app.row(&row.id).await, deleted, "a deleted row never changes again");
    let alarms = world.replica.alarms().await;
    assert_eq!(alarms.len(), 1, "one for what was said, however often: {alarms:?}");
    let alarm = &alarms[0];
    assert_eq!(
        (
            alarm.account_settlement_id.as_str(),
            alarm.raw_status.as_str(),
            alarm.was_deleted,
            alarm.origin.as_str()
        ),
        (row.id.as_str(), "PAID", true, "event e1")
    );
    let run = app.settle(&["aff-1"]).await;
    assert_eq!(skipped(&run.skipped[0]), "aff-1 EUR ACCOUNT_ON_HOLD 10.00 EUR");
    let hold = app.release("aff-1").await.unwrap();
    assert!(hold.actor == "tipalti" && hold.reason.contains(&row.id), "{hold:?}");
    assert_eq!(world.replica.events(Outcome::Contradiction).await.len(), 2);
    // What says that it failed contradicts nothing.
    let post = Post::good(&event(
        "e3",
        "paymentError",
        &row.id,
        "CANCELED",
        "2999-01-02T00:00:00Z",
    ));
    assert_eq!(post.send(&world.webhook).await.0, OK);
    assert_eq!(world.replica.alarms().await.len(), 1);
    world.end().await;
}

async fn under_way_after_it_was_deleted_unsent_raises_an_alarm(app: App) {
    let world = World::new(&app).await;
    let row = world.settled(&["aff-1"]).await.remove(0);
    app.delete_row(&row.id).await.unwrap();
    let post = Post::good(&event(
        "e1",
        "paymentSubmitted",
        &row.id,
        "SUBMITTED",
        "2026-01-01T00:00:00Z",
    ));
    assert_eq!(post.send(&world.webhook).await.0, OK);
    assert_eq!(world.replica.alarms().await.len(), 1);
    assert!(app.release("aff-1").await.is_ok(), "it was held");
    world.end().await;
}

async fn a_final_word_that_is_taken_back_raises_an_alarm(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let rows = world.settled(&["aff-1", "aff-2"]).await;
    world.replica.submit(&rows[0].settlement_id).await;
    world.fake.set_status(&rows[0].id, "REJECTED", "", "");
    world.fake.set_status(&rows[1].id, "CLEARED", "", "");
    world.replica.sync(&rows[0].settlement_id).await;
    for (id, row, raw_status) in [("e1", &rows[0], "PAID"), ("e2", &rows[1], "REJECTED")] {
        let post = Post::good(&event(id, "payment", &row.id, raw_status, "2999-01-01T00:00:00Z"));
        assert_eq!(post.send(&world.webhook).await.0, OK);
    }
    assert_eq!(
        said(&app.row(&rows[0].id).await).0,
        RowStatus::Paid,
        "money that may have been paid is not let go"
    );
    assert_eq!(said(&app.row(&rows[1].id).await).1, "CLEARED");
    let alarms = world.replica.alarms().await;
    assert!(
        alarms.len() == 2 && alarms.iter().all(|alarm| !alarm.was_deleted),
        "{alarms:?}"
    );
    assert!(
        app.release("aff-1").await.is_err(),
        "nothing was let go, so nobody is held"
    );
    world.end().await;
}

async fn a_failed_payment_that_is_taken_up_again_is_not_let_go(app: App) {
    let deferred = |day: &str| (day.to_owned(), "DEFERRED");
    let submitted = |day: &str| (day.to_owned(), "SUBMITTED");
    let orders = [
        [deferred("2998-01-01"), submitted("2998-01-02")],
        [submitted("2998-01-02"), deferred("2998-01-01")],
    ];
    for (number, order) in orders.into_iter().enumerate() {
        let world = World::new(&app).await;
        world.fake.configure(|options| options.sends_events = false);
        let row = world.submitted_row(&format!("aff-{number}")).await;
        let say = async |id: String, day: &str, raw_status: &str| {
            let post = Post::good(&event(&id, "payment", &row.id, raw_status, &format!("{day}T00:00:00Z")));
            assert_eq!(post.send(&world.webhook).await.0, OK);
        };
        for (place, (day, raw_status)) in order.iter().enumerate() {
            say(format!("e-{number}-{place}"), day, raw_status).await;
        }
        assert_eq!(
            said(&app.row(&row.id).await),
            (RowStatus::Error, "DEFERRED".to_owned(), false)
        );
        let outcome = app.delete_row(&row.id).await;
        assert_refused(outcome, Code::FailedPrecondition, "ACCOUNT_SETTLEMENT_NOT_DELETABLE");
        assert_eq!(
            world.replica.sync(&row.settlement_id).await.len(),
            1,
            "it is asked for again"
        );
        say(format!("e-{number}-last"), "2998-01-03", "DEFERRED").await;
        assert!(said(&app.row(&row.id).await).2);
        app.delete_row(&row.id).await.unwrap();
        world.end().await;
    }
}

async fn taken_up_again_after_it_was_deleted_raises_an_alarm(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let row = world.submitted_row("aff-1").await;
    world.fake.set_status(&row.id, "DEFERRED", "", "");
    world.replica.sync(&row.settlement_id).await;
    app.delete_row(&row.id).await.unwrap();
    let early = Post::good(&event("e1", "payment", &row.id, "SUBMITTED", "2026-01-01T00:00:00Z"));
    assert_eq!(early.send(&world.webhook).await.0, OK);
    assert!(world.replica.alarms().await.is_empty(), "from before it failed");
    let late = Post::good(&event("e2", "payment", &row.id, "SUBMITTED", "2999-01-01T00:00:00Z"));
    assert_eq!(late.send(&world.webhook).await.0, OK);
    assert_eq!(world.replica.alarms().await.len(), 1);
    assert!(app.release("aff-1").await.is_ok(), "it was held");
    world.end().await;
}

async fn a_row_that_tipalti_spoke_of_is_asked_for_and_not_sent(app: App) {
    let world = World::new(&app).await;
    let row = world.settled(&["aff-1"]).await.remove(0);
    let post = Post::good(&event("e1", "paymentX", &row.id, "FUTURE", "2026-01-01T00:00:00Z"));
    assert_eq!(post.send(&world.webhook).await.0, ACCEPTED);
    let sent = world.replica.submit(&row.settlement_id).await;
    assert_eq!((sent.len(), sent[0].status()), (1, RowStatus::InProgress));
    assert_eq!(world.fake.attempts(&row.id), 0);
    assert_eq!(world.replica.sync(&row.settlement_id).await.len(), 1);
    world.end().await;
}

async fn an_event_of_a_row_that_tipalti_does_not_pay_changes_nothing(app: App) {
    let world = World::new(&app).await;
    let row = app.settled(&["aff-1"]).await.remove(0);
    let post = Post::good(&event(
        "e1",
        "paymentCompleted",
        &row.id,
        "PAID",
        "2026-01-01T00:00:00Z",
    ));
    assert_eq!(post.send(&world.webhook).await.0, ACCEPTED);
    assert_eq!(app.row(&row.id).await, row);
    assert_eq!(world.replica.billing.apply_waiting_events(&KIND).await.unwrap(), 0);
    world.end().await;
}

async fn nothing_personal_is_kept_of_an_event(app: App) {
    let world = World::new(&app).await;
    let row = world.submitted_row("aff-1").await;
    let data = json!({"refCode": row.id, "paymentStatus": "DEFERRED", "payeeId": "zqpayee", "payeeName": "Zqname",
        "email": "zqmail@example.com", "bankAccount": {"iban": "DE89370400440532013000"},
        "errorDescription": "transfer to DE89370400440532013000 of zqmail@example.com failed"});
    let (_, answer) = world
        .fake
        .send_event("paymentDeferred", data, None, Delivery::default())
        .await;
    assert_eq!(answer, OK);
    assert_eq!(
        app.row(&row.id).await.provider.unwrap().error_message,
        "transfer to [removed] of [removed] failed"
    );
    let tables = Tables::open(&app.database_url).await;
    for (table, rows) in tables.dump().await {
        for personal in ["zqpayee", "Zqname", "zqmail", "DE8937", "payee-aff-1"] {
            assert!(!rows.contains(personal), "{personal} is in {table}");
            let hexadecimal: String = personal.bytes().map(|byte| format!("{byte:02X}")).collect();
            assert!(!rows.to_uppercase().contains(&hexadecimal), "{personal} is in {table}");
        }
    }
    tables.close().await;
    world.end().await;
}

/// A repeatable stream of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

async fn the_order_of_events_does_not_matter(app: App) {
    const RAW: [&str; 9] = [
        "ANALYZING",
        "SUBMITTED",
        "FRAUD_REVIEW",
        "PAID",
        "CLEARED",
        "REJECTED",
        "DEFERRED",
        "CANCELED",
        "NEWER_THAN_US",
    ];
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let mut numbers = Numbers(20_261_125);
    for history in 0..12 {
        let words: Vec<(&str, i64)> = (0..2 + numbers.below(5))
            .map(|_| (RAW[numbers.below(RAW.len())], i64::try_from(numbers.below(4)).unwrap()))
            .collect();
        let told = format!("history {history}: {words:?}");
        let expected = expected(&words);
        let mut ends = BTreeMap::new();
        for order in 0..3 {
            let row = world.settled(&[&format!("aff-{history}-{order}")]).await.remove(0);
            let mut shuffled = [words.clone(), words.clone()].concat();
            for place in (1..shuffled.len()).rev() {
                shuffled.swap(place, numbers.below(place + 1));
            }
            for (number, (raw_status, day)) in shuffled.into_iter().enumerate() {
                let created = format!("2026-01-0{}T00:00:00Z", day + 1);
                let id = format!("{history}-{order}-{number}");
                let post = Post::good(&event(&id, "payment", &row.id, raw_status, &created));
                assert!([OK, ACCEPTED].contains(&post.send(&world.webhook).await.0), "{told}");
            }
            let row = app.row(&row.id).await;
            assert_eq!(
                (row.status(), row.provider.as_ref().unwrap().is_final),
                expected,
                "{told}"
            );
            let provider = row.provider.unwrap();
            ends.insert((row.status.to_string(), provider.raw_status, provider.unmapped), order);
        }
        assert_eq!(ends.len(), 1, "{told}: {ends:?}");
    }
    world.end().await;
}

/// What is left of words, whatever their order.
fn expected(words: &[(&str, i64)]) -> (RowStatus, bool) {
    let reports: Vec<PaymentReport> = words
        .iter()
        .map(|(raw_status, day)| PaymentReport {
            ref_code: String::new(),
            raw_status: (*raw_status).to_owned(),
            provider_reference: String::new(),
            error_code: String::new(),
            error_text: String::new(),
            event_time: Timestamp::from_micros(*day),
        })
        .collect();
    let standing = fold(&reports, map);
    let status = match standing.as_ref().map(|standing| standing.mapped.status) {
        None | Some(Status::New) => RowStatus::New,
        Some(Status::InProgress) => RowStatus::InProgress,
        Some(Status::Paid) => RowStatus::Paid,
        Some(Status::Error) => RowStatus::Error,
    };
    // What says after a failure that it goes on, or nobody knows what, puts that in doubt.
    let goes_on =
        |report: &&PaymentReport| map(&report.raw_status).is_none_or(|mapped| mapped.status == Status::InProgress);
    let newest = reports
        .iter()
        .filter(goes_on)
        .map(|report| report.event_time)
        .max()
        .flatten();
    let is_final = standing.is_some_and(|standing| {
        let is_doubted = status == RowStatus::Error && newest > standing.report.event_time;
        standing.mapped.is_final && !is_doubted
    });
    (status, is_final)
}

async fn an_unreachable_database_asks_for_the_event_again(app: App) {
    let app = app.stoppable().await;
    let world = World::new(&app).await;
    app.billing.store().close().await.unwrap();
    let post = Post::good(&event(
        "e1",
        "paymentCompleted",
        &request_id(),
        "PAID",
        "2026-01-01T00:00:00Z",
    ));
    let (status, answer) = post.send(&world.webhook).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: "), "{answer}");
    world.end().await;
}
