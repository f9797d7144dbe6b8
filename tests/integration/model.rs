//! Random histories against a model of the rules in memory, and the same history on both databases.
//!
//! `BILLING_MODEL_CASES` and `BILLING_MODEL_STEPS` make it longer; `BILLING_MODEL_SEED` repeats a failure, which tells its
//! seed and the shortest history found that fails too.

#[path = "model/history.rs"]
mod history;
#[path = "model/ledger.rs"]
mod ledger;
#[path = "model/player.rs"]
mod player;

use std::time::{Duration, Instant};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use regex_lite::Regex;
use uuid::Uuid;

use self::history::{Step, histories};
use self::player::Player;
use crate::support::app::App;
use crate::support::fixtures::money;
use crate::support::harness::scenarios;

scenarios![
    random_histories_are_as_the_model_says;
    both: random_histories_are_answered_the_same_by_both_databases;
];

const CASES: u64 = 24;
const STEPS: u64 = 40;
/// Histories answered by both databases; the model has checked others on each.
const CASES_OF_BOTH: u64 = 4;
/// How long shorter histories are tried after a failure.
const SHORTENING_TIME: Duration = Duration::from_secs(60);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// The seed of the first history; the others count on from it.
fn first_seed() -> u64 {
    let random = u64::from(Uuid::new_v4().as_fields().0);
    setting("BILLING_MODEL_SEED", random)
}

fn runner(seed: u64) -> TestRunner {
    let bytes = [seed.to_le_bytes(); 4].concat();
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn drawn(seed: u64) -> Vec<Step> {
    let steps = usize::try_from(setting("BILLING_MODEL_STEPS", STEPS)).unwrap();
    histories(steps).new_tree(&mut runner(seed)).unwrap().current()
}

async fn with_minimum(app: &App) {
    let minimum = money(ledger::BANK_MINIMUM_EUR, "EUR").unwrap();
    app.set_minimums("bank_transfer", vec![minimum]).await;
}

async fn random_histories_are_as_the_model_says(app: App) {
    with_minimum(&app).await;
    let first = first_seed();
    for seed in first..first + setting("BILLING_MODEL_CASES", CASES) {
        let steps = drawn(seed);
        let Err(failure) = Player::play(&app, &format!("h{seed}-"), &steps).await else {
            continue;
        };
        let (steps, failure) = shortest(&app, steps, failure).await;
        panic!("BILLING_MODEL_SEED={seed} BILLING_MODEL_CASES=1 fails:\n{failure}\nafter the steps\n{steps:#?}");
    }
}

/// A shorter history that fails too: what is left when each step is left out in turn, as long as there is time.
async fn shortest(app: &App, mut steps: Vec<Step>, mut failure: String) -> (Vec<Step>, String) {
    let end = Instant::now() + SHORTENING_TIME;
    for index in (0..steps.len()).rev() {
        if Instant::now() > end {
            break;
        }
        let mut fewer = steps.clone();
        fewer.remove(index);
        if let Err(other) = Player::play(app, &format!("s{index}-"), &fewer).await {
            (steps, failure) = (fewer, other);
        }
    }
    (steps, failure)
}

async fn random_histories_are_answered_the_same_by_both_databases(sqlite: App, postgres: App) {
    with_minimum(&sqlite).await;
    with_minimum(&postgres).await;
    let first = first_seed();
    for seed in first..first + CASES_OF_BOTH {
        let steps = drawn(seed);
        let prefix = format!("h{seed}-");
        let on_sqlite = normalised(Player::play(&sqlite, &prefix, &steps).await.unwrap());
        let on_postgres = normalised(Player::play(&postgres, &prefix, &steps).await.unwrap());
        assert_eq!(on_sqlite.len(), on_postgres.len());
        for (one, other) in on_sqlite.iter().zip(&on_postgres) {
            assert_eq!(one, other, "BILLING_MODEL_SEED={seed}");
        }
    }
}

/// Answers without what differs by nature: ids become their number in the order of appearance; etags and times go.
fn normalised(answers: Vec<String>) -> Vec<String> {
    let id = Regex::new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").unwrap();
    let time = Regex::new("Timestamp \\{ seconds: -?[0-9]+, nanos: [0-9]+ \\}").unwrap();
    let etag = Regex::new("etag: \"[^\"]*\"").unwrap();
    let mut ids: Vec<String> = Vec::new();
    let mut plain = Vec::new();
    for answer in answers {
        let answer = time.replace_all(&answer, "time");
        let answer = etag.replace_all(&answer, "etag");
        let numbered = id.replace_all(&answer, |found: &regex_lite::Captures<'_>| {
            let found = found.get(0).map_or("", |id| id.as_str());
            let known = ids.iter().position(|id| id == found);
            let number = known.unwrap_or_else(|| {
                ids.push(found.to_owned());
                ids.len() - 1
            });
            format!("id {number}")
        });
        plain.push(numbered.into_owned());
    }
    plain
}
