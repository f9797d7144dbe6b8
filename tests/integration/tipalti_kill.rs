//! The service killed at every critical moment of a payout, and started again: it ends everything by itself, and nothing is
//! paid twice.
//!
//! A moment is held by the fake, which does not answer, or by the database, where the test has a lock; then the process gets
//! SIGKILL. Every scenario ends in [`Scene::finish`], which says what must hold.

#[path = "tipalti_kill/scene.rs"]
mod scene;

use std::time::Duration;

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::SubmitOutcome;
use affiliate_billing::proto::TipaltiEventOutcome as EventOutcome;
use fake_tipalti::faults::{Endpoint, Fault, FaultKind, Moment};
use fake_tipalti::webhooks::Delivery;
use tokio::time::sleep;
use uuid::Uuid;

use self::scene::{ANSWER_READ, Scene, until};
use crate::support::app::App;
use crate::support::harness::scenarios;

scenarios![
    killed_before_anything_is_intended,
    killed_before_the_intent_is_committed,
    killed_between_the_intent_and_the_request,
    killed_before_the_batch_is_taken,
    killed_after_the_batch_is_taken,
    killed_before_the_rows_are_answered,
    killed_with_the_rows_answer_on_its_way,
    killed_before_the_answer_is_committed,
    killed_after_an_answer_was_cut_off,
    killed_while_a_payment_can_not_be_found_yet,
    killed_during_a_look_up,
    killed_before_a_look_ups_answer_is_committed,
    killed_while_rows_are_sent_again,
    killed_before_an_event_is_kept,
    killed_while_an_event_is_applied,
    killed_again_and_again_at_random_moments,
];

/// All rows at once: nothing is known of any of them before.
const ONE_BATCH: (&str, &str) = ("BILLING_TIPALTI_BATCH_LIMIT", "10");
/// The service asks for nothing by itself: what happens comes from events.
const EVENTS_ALONE: (&str, &str) = ("BILLING_TIPALTI_SYNC_INTERVAL", "1h");
/// The answer comes, but not before the test has its lock;
const LATE: FaultKind = FaultKind::Delay { milliseconds: 700 };
/// and it is waited for.
const PATIENT: (&str, &str) = ("BILLING_TIPALTI_REQUEST_TIMEOUT", "1500ms");

async fn killed_before_anything_is_intended(app: App) {
    let mut scene = Scene::new(&app, &[]).await;
    scene.moment("the token that a submission begins with is held");
    scene.hold(Endpoint::Token, Moment::Before, 0);
    let submission = scene.submit();
    scene.struck("the token is held").await;
    scene.kill();
    assert!(submission.await.unwrap().1.is_some());
    assert!(scene.states().await.is_empty(), "nothing is intended");
    scene.start().await;
    let row = scene.app.row(&scene.rows[4]).await;
    assert_eq!(row.status(), RowStatus::New);
    scene.finish().await;
}

async fn killed_before_the_intent_is_committed(app: App) {
    let mut scene = Scene::new(&app, &[]).await;
    scene.moment("the intent waits for a lock");
    let before = scene.count_logged("asked tipalti for an access token");
    let lock = scene.lock_rows().await;
    let submission = scene.submit();
    scene.logged("asked tipalti for an access token", before).await;
    scene.kill();
    lock.release().await;
    assert!(submission.await.unwrap().1.is_some());
    assert_eq!(scene.fake.requests("batches"), 0, "nothing is sent before its intent");
    assert!(scene.states().await.is_empty());
    scene.start().await;
    scene.finish().await;
}

async fn killed_between_the_intent_and_the_request(app: App) {
    let mut scene = Scene::new(&app, &[ONE_BATCH]).await;
    scene.moment("the token of the request is held");
    scene.hold(Endpoint::Token, Moment::Before, 1);
    let submission = scene.submit();
    scene.struck("the second token is held").await;
    scene.kill();
    assert!(submission.await.unwrap().1.is_some());
    assert_eq!((scene.states().await, scene.attempts()), (unknown(5), vec![0; 5]));
    scene.start().await;
    scene.assert_submitting_sends_nothing().await;
    scene.has(5).await;
    scene.finish().await;
}

async fn killed_before_the_batch_is_taken(app: App) {
    killed_in_the_second_batch(app, Endpoint::Batches, Moment::Before, [1, 1, 0, 0, 0]).await;
}

async fn killed_after_the_batch_is_taken(app: App) {
    killed_in_the_second_batch(app, Endpoint::Batches, Moment::After, [1, 1, 1, 1, 0]).await;
}

async fn killed_before_the_rows_are_answered(app: App) {
    killed_in_the_second_batch(app, Endpoint::Instructions, Moment::Before, [1, 1, 1, 1, 0]).await;
}

async fn killed_with_the_rows_answer_on_its_way(app: App) {
    killed_in_the_second_batch(app, Endpoint::Instructions, Moment::After, [1, 1, 1, 1, 0]).await;
}

/// The first batch was answered, the second one is cut off with so many attempts seen by then, the third one is still new.
async fn killed_in_the_second_batch(app: App, endpoint: Endpoint, moment: Moment, attempts: [u32; 5]) {
    let mut scene = Scene::new(&app, &[]).await;
    scene.moment(format!("the second request to {endpoint:?} is held, {moment:?}"));
    scene.hold(endpoint, moment, 1);
    let submission = scene.submit();
    scene.struck("the request is held").await;
    until("it was worked on", async || {
        (scene.attempts() == attempts).then_some(())
    })
    .await;
    scene.kill();
    let (answered, end) = submission.await.unwrap();
    assert!(answered.len() <= 2 && end.is_some());
    let states = scene.states().await;
    assert_eq!(states, ["KNOWN", "KNOWN", "UNKNOWN", "UNKNOWN"]);
    scene.start().await;
    scene.has(4).await;
    assert_eq!(scene.app.row(&scene.rows[4]).await.status(), RowStatus::New);
    scene.finish().await;
}

async fn killed_before_the_answer_is_committed(app: App) {
    let mut scene = Scene::new(&app, &[ONE_BATCH, PATIENT]).await;
    scene.moment("what was answered row by row waits for a lock");
    scene.fake.fail_once(Endpoint::Instructions, Moment::After, LATE);
    let submission = scene.submit();
    scene.struck("the answer is late").await;
    let before = scene.count_logged(ANSWER_READ);
    let lock = scene.lock_rows().await;
    scene.logged(ANSWER_READ, before).await;
    scene.kill();
    lock.release().await;
    assert!(submission.await.unwrap().1.is_some());
    assert_eq!((scene.states().await, scene.attempts()), (unknown(5), vec![1; 5]));
    scene.start().await;
    scene.assert_submitting_sends_nothing().await;
    scene.has(5).await;
    scene.finish().await;
}

async fn killed_after_an_answer_was_cut_off(app: App) {
    let mut scene = Scene::new(&app, &[]).await;
    for (batches, endpoint) in [(1, Endpoint::Batches), (2, Endpoint::Instructions)] {
        scene.moment(format!("the answer of {endpoint:?} is cut off, and that is committed"));
        scene.fake.fail_once(endpoint, Moment::After, FaultKind::Cut);
        let (answered, end) = scene.submit().await.unwrap();
        assert!(end.is_some());
        let last = answered.last().unwrap();
        assert_eq!(last.outcome(), SubmitOutcome::Unknown, "{last:?}");
        scene.kill_and_start().await;
        scene.has(2 * batches).await;
    }
    scene.finish().await;
}

async fn killed_while_a_payment_can_not_be_found_yet(app: App) {
    let doubt = ("BILLING_TIPALTI_DOUBT_PERIOD", "1h");
    let mut scene = Scene::new(&app, &[ONE_BATCH, doubt]).await;
    scene.moment("what was taken can't be found");
    scene.fake.configure(|options| options.visible_after_ms = 3_600_000);
    scene.hold(Endpoint::Batches, Moment::After, 0);
    let submission = scene.submit();
    scene.struck("the answer is held").await;
    until("it was taken", async || (scene.attempts() == [1; 5]).then_some(())).await;
    scene.kill_and_start().await;
    assert!(submission.await.unwrap().1.is_some());
    until("it was looked up in vain", async || {
        let checks = "SELECT CAST(coalesce(min(check_count), -1) AS text) FROM payouts WHERE state = 'UNKNOWN'";
        let tables = scene.tables().await;
        let checked = tables.texts(checks).await;
        tables.close().await;
        (checked != ["0"]).then_some(())
    })
    .await;
    scene.moment("killed again, and it still can't be found");
    assert_eq!((scene.states().await, scene.attempts()), (unknown(5), vec![1; 5]));
    scene.kill_and_start().await;
    scene.fake.configure(|options| options.visible_after_ms = 0);
    until("it is found", async || {
        scene.assert_kept().await;
        let states = scene.states().await;
        (states == ["KNOWN"; 5]).then_some(())
    })
    .await;
    scene.finish().await;
}

async fn killed_during_a_look_up(app: App) {
    let mut scene = cut_off_before_the_request(&app, &[ONE_BATCH]).await;
    for moment in [Moment::Before, Moment::After] {
        scene.moment(format!("a look-up is held, {moment:?}"));
        scene.hold(Endpoint::Payments, moment, 0);
        scene.start().await;
        scene.struck("the look-up is held").await;
        scene.kill();
        assert_eq!((scene.states().await, scene.attempts()), (unknown(5), vec![0; 5]));
    }
    scene.start().await;
    scene.has(5).await;
    scene.finish().await;
}

async fn killed_before_a_look_ups_answer_is_committed(app: App) {
    let mut scene = cut_off_before_the_request(&app, &[ONE_BATCH, PATIENT]).await;
    scene.moment("what a look-up says waits for a lock");
    // The rows are looked up all at once, then each that was not there alone: the last answer.
    scene.fake.add_fault(Fault {
        skip: 5,
        ..Fault::once(Endpoint::Payments, Moment::After, LATE)
    });
    scene.start().await;
    scene.struck("the last look-up is late").await;
    let before = scene.count_logged(ANSWER_READ);
    let lock = scene.lock_rows().await;
    scene.logged(ANSWER_READ, before).await;
    scene.kill();
    lock.release().await;
    assert_eq!(scene.fake.requests("batches"), 1, "nothing is sent before its intent");
    assert_eq!((scene.states().await, scene.attempts()), (unknown(5), vec![0; 5]));
    scene.start().await;
    scene.assert_submitting_sends_nothing().await;
    scene.has(5).await;
    scene.finish().await;
}

async fn killed_while_rows_are_sent_again(app: App) {
    let mut scene = cut_off_before_the_request(&app, &[ONE_BATCH]).await;
    for (moment, attempts) in [(Moment::Before, 0), (Moment::After, 1)] {
        scene.moment(format!("sending again is held, {moment:?}"));
        scene.hold(Endpoint::Batches, moment, 0);
        scene.start().await;
        scene.struck("sending again is held").await;
        until("it was worked on", async || {
            (scene.attempts() == [attempts; 5]).then_some(())
        })
        .await;
        scene.kill();
        assert_eq!(scene.states().await, unknown(5));
    }
    scene.start().await;
    scene.has(5).await;
    scene.finish().await;
}

/// All rows are intended and none was taken; the process is dead.
async fn cut_off_before_the_request(app: &App, settings: &[(&'static str, &str)]) -> Scene {
    let mut scene = Scene::new(app, settings).await;
    scene.moment("the first sending is held");
    scene.hold(Endpoint::Batches, Moment::Before, 0);
    let submission = scene.submit();
    scene.struck("the request is held").await;
    scene.kill();
    assert!(submission.await.unwrap().1.is_some());
    scene
}

async fn killed_before_an_event_is_kept(app: App) {
    let (mut scene, row_id) = submitted(&app).await;
    scene.moment("an event that waits for a lock before it is kept");
    scene.listen_for_events();
    let lock = scene.lock_events().await;
    assert!(scene.fake.set_status(&row_id, "SUBMITTED", "", ""));
    // What reads is answered meanwhile.
    for _ in 0..20 {
        assert!(events_of(&scene, &row_id).await.is_empty());
    }
    scene.kill();
    lock.release().await;
    let (body, answers) = until("the event is not answered", async || {
        let state = scene.fake.state();
        let event = state["events"].as_array().unwrap().last().unwrap().clone();
        let answers = event["answers"].as_array().unwrap().clone();
        (!answers.is_empty()).then(|| (event["body"].as_str().unwrap().to_owned(), answers))
    })
    .await;
    assert_eq!(answers, [0]);
    assert_eq!(scene.tables().await.count("provider_events").await, 0);
    scene.start().await;
    scene.listen_for_events();
    for _ in 0..2 {
        assert_eq!(scene.fake.send_raw(&body, Delivery::default()).await, 200);
    }
    assert_eq!(events_of(&scene, &row_id).await, [EventOutcome::Applied]);
    scene.finish().await;
}

async fn killed_while_an_event_is_applied(app: App) {
    let (mut scene, row_id) = submitted(&app).await;
    scene.moment("an event that was kept waits for a lock before it is applied");
    scene.listen_for_events();
    let tables = scene.tables().await;
    let mut lock = None;
    if app.is_postgres() {
        lock = Some(scene.lock_rows().await);
    } else {
        // A lock would keep the event out as well: SQLite has one for all. Applying it takes forever instead.
        tables.execute(ENDLESS_UPDATE).await;
    }
    assert!(scene.fake.set_status(&row_id, "SUBMITTED", "", ""));
    until("the event is kept", async || {
        (events_of(&scene, &row_id).await == [EventOutcome::Stored]).then_some(())
    })
    .await;
    scene.kill();
    if let Some(lock) = lock {
        lock.release().await;
    } else {
        tables.execute("DROP TRIGGER endless").await;
    }
    assert_eq!(
        tables.texts("SELECT outcome FROM provider_event_words").await,
        ["STORED"],
        "kept and not applied"
    );
    // It is taken for cut off only after a while: let that be over.
    tables
        .execute("UPDATE provider_event_words SET outcome_time = outcome_time - 60000000")
        .await;
    tables.close().await;
    scene.start().await;
    scene.listen_for_events();
    until("the event is applied without the provider's help", async || {
        (events_of(&scene, &row_id).await == [EventOutcome::Applied]).then_some(())
    })
    .await;
    let row = scene.app.row(&row_id).await;
    assert_eq!(row.provider.unwrap().raw_status, "SUBMITTED");
    let state = scene.fake.state();
    let body = state["events"][0]["body"].as_str().unwrap();
    assert_eq!(scene.fake.send_raw(body, Delivery::default()).await, 200);
    assert_eq!(events_of(&scene, &row_id).await, [EventOutcome::Applied]);
    scene.finish().await;
}

const ENDLESS_UPDATE: &str = "CREATE TRIGGER endless BEFORE UPDATE ON account_settlements BEGIN \
     SELECT count(*) FROM (WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers) \
     SELECT number FROM numbers); END";

/// All rows are at the provider, and their statuses come from events alone; with the id of the first row.
async fn submitted(app: &App) -> (Scene, String) {
    let scene = Scene::new(app, &[EVENTS_ALONE]).await;
    let (_, end) = scene.submit().await.unwrap();
    assert!(end.is_none(), "{end:?}");
    let row_id = scene.rows[1].clone();
    (scene, row_id)
}

/// What became of the events of a row.
async fn events_of(scene: &Scene, row_id: &str) -> Vec<EventOutcome> {
    let request = proto::ListTipaltiEventsRequest {
        account_settlement_id: row_id.to_owned(),
        ..Default::default()
    };
    let answer = scene.tipalti().list_tipalti_events(request).await.unwrap();
    let events = answer.into_inner().tipalti_events;
    events.iter().map(|event| event.payments[0].outcome()).collect()
}

/// `BILLING_KILL_SEED` repeats a failure, which tells its seed, as far as the machine is as fast as it was then;
/// `BILLING_KILL_LIVES` makes it longer.
async fn killed_again_and_again_at_random_moments(app: App) {
    let setting = |name: &str, default| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let seed = setting("BILLING_KILL_SEED", Uuid::new_v4().as_u64_pair().0);
    let lives = setting("BILLING_KILL_LIVES", LIVES);
    let mut random = Random(seed);
    let mut scene = Scene::new(&app, &[]).await;
    for life in 0..lives {
        scene.fake.clear_faults();
        let fault = random.fault();
        // While it submits, or while it looks up what was cut off before.
        let longest = random.one(&[200, 700, 4000]);
        let milliseconds = random.below(longest);
        scene.moment(format!(
            "BILLING_KILL_SEED={seed}: life {life} of {lives}, killed after {milliseconds} ms, with {fault:?}"
        ));
        scene.fake.add_fault(fault);
        let submission = if random.below(2) == 0 {
            scene.submit()
        } else {
            scene.submit_anew()
        };
        sleep(Duration::from_millis(milliseconds)).await;
        scene.assert_kept().await;
        scene.kill_and_start().await;
        submission.await.unwrap();
        scene.assert_kept().await;
    }
    scene.fake.clear_faults();
    scene.moment(format!("BILLING_KILL_SEED={seed}: after all lives"));
    scene.finish().await;
}

const LIVES: u64 = 6;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        let place = self.below(of.len() as u64);
        of[usize::try_from(place).unwrap()].clone()
    }

    fn fault(&mut self) -> Fault {
        let endpoints = [
            Endpoint::Token,
            Endpoint::Batches,
            Endpoint::Batches,
            Endpoint::Instructions,
            Endpoint::Payments,
        ];
        let failed = FaultKind::Status {
            status: 503,
            retry_after_seconds: None,
            body: String::new(),
        };
        let kinds = [
            scene::HELD,
            FaultKind::Delay { milliseconds: 300 },
            FaultKind::Cut,
            FaultKind::CutBody,
            failed,
            FaultKind::Garbage,
        ];
        Fault {
            endpoint: self.one(&endpoints),
            moment: self.one(&[Moment::Before, Moment::After]),
            kind: self.one(&kinds),
            skip: u32::try_from(self.below(4)).unwrap(),
            times: 1,
        }
    }
}

/// Intended, and not known whether they were sent.
fn unknown(count: usize) -> Vec<String> {
    vec!["UNKNOWN".to_owned(); count]
}
