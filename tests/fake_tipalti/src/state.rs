//! What the fake knows: payees, batches, payments, events, and what was asked of it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::faults::Fault;

/// What a payment goes through by default, step by step.
pub const DEFAULT_SCRIPT: [&str; 4] = ["ANALYZING", "SUBMITTED", "PAID", "CLEARED"];

/// How the fake behaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The application that tokens are given to.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// Its refresh token.
    pub refresh_token: String,
    /// Seconds that a token lives.
    pub token_lifetime_seconds: u64,
    /// Whether each token comes with a new refresh token that replaces the old one.
    pub rotate_refresh_token: bool,
    /// Instructions in a batch at most.
    pub batch_limit: usize,
    /// Whether several conditions in a filter are understood.
    pub takes_or: bool,
    /// Whether a payee that was not set is known and payable.
    pub knows_all_payees: bool,
    /// Items on a page at most.
    pub max_page_size: usize,
    /// A payee whose payments make it refuse their whole batch, as malformed.
    pub malformed_payee: Option<String>,
    /// What it says of a ref code that it has already.
    pub duplicate_text: String,
    /// A payment that it answers without its ref code.
    pub garbled_ref_code: Option<String>,
    /// Milliseconds until a payment that was taken can be found.
    pub visible_after_ms: u64,
    /// Whether every change of a status makes an event.
    pub sends_events: bool,
    /// Where events are sent.
    pub webhook_url: Option<String>,
    /// What they are signed with.
    pub webhook_secret: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "fake-client".to_owned(),
            client_secret: "fake-secret".to_owned(),
            refresh_token: "fake-refresh".to_owned(),
            token_lifetime_seconds: 3600,
            rotate_refresh_token: false,
            batch_limit: 250,
            takes_or: true,
            knows_all_payees: true,
            max_page_size: 100,
            malformed_payee: None,
            duplicate_text: "a payment with this refCode already exists".to_owned(),
            garbled_ref_code: None,
            visible_after_ms: 0,
            sends_events: true,
            webhook_url: None,
            webhook_secret: "whsec_test_tipalti".to_owned(),
        }
    }
}

/// A payee.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Payee {
    /// Its id.
    pub id: String,
    /// Its other id; its id by default.
    #[serde(default)]
    pub ref_code: Option<String>,
    /// Whether it can be paid. What is sent to one that can't is deferred.
    pub is_payable: bool,
    /// Why not: the code, such as `TaxFormsMissing`.
    #[serde(default)]
    pub reason_code: Option<String>,
    /// Why not: the text.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A payment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    /// Its id.
    pub id: String,
    /// The batch it came with.
    pub batch_id: String,
    /// Its ref code.
    pub ref_code: String,
    /// Who is paid.
    pub payee_id: String,
    /// How much, as it was written.
    pub amount: String,
    /// In which currency.
    pub currency: String,
    /// Its status.
    pub status: String,
    /// What comes after that.
    pub script: VecDeque<String>,
    /// Why it failed: the code.
    pub error_code: String,
    /// Why it failed: the text.
    pub error_text: String,
    /// When it came to its status.
    pub changed_at: String,
    #[serde(skip)]
    pub(crate) taken_at: Option<Instant>,
}

/// One event, as it is sent.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// The body.
    pub body: String,
    /// Answers of the receiver, by HTTP status; 0 where there was none.
    pub answers: Vec<u16>,
}

/// Everything that the fake knows.
#[derive(Debug, Default)]
pub struct State {
    /// How it behaves.
    pub options: Options,
    pub(crate) tokens: HashSet<String>,
    pub(crate) refresh_token: Option<String>,
    pub(crate) payees: BTreeMap<String, Payee>,
    pub(crate) payments: BTreeMap<String, Payment>,
    /// Answers to the instructions of each batch.
    pub(crate) batches: BTreeMap<String, Vec<Value>>,
    /// How often each ref code was sent, whatever became of it.
    pub(crate) attempts: BTreeMap<String, u32>,
    /// How often each ref code was taken: never more than once.
    pub(crate) accepted: BTreeMap<String, u32>,
    pub(crate) requests: BTreeMap<String, u32>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) events: Vec<Event>,
    /// Events that wait: their places in `events`. `None` when events are sent at once.
    pub(crate) held_events: Option<Vec<usize>>,
    pub(crate) script: Option<Vec<String>>,
    pub(crate) counter: u64,
}

/// One instruction of a batch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Instruction {
    payee_id: String,
    amount_submitted: Amount,
    ref_code: String,
}

#[derive(Debug, Deserialize)]
struct Amount {
    currency: String,
    amount: serde_json::Number,
}

impl State {
    pub(crate) fn next_id(&mut self, kind: &str) -> String {
        self.counter += 1;
        format!("{kind}-{}", self.counter)
    }

    /// Takes a batch: gives the batch's id and the ref codes that were taken.
    pub(crate) fn take_batch(&mut self, instructions: Vec<Instruction>) -> (String, Vec<String>) {
        let batch_id = self.next_id("batch");
        let mut answers = Vec::new();
        let mut taken = Vec::new();
        for instruction in instructions {
            *self.attempts.entry(instruction.ref_code.clone()).or_default() += 1;
            let refusal = self.refusal(&instruction);
            answers.push(match refusal {
                Some((code, message)) => json!({
                    "id": self.next_id("instruction"), "refCode": instruction.ref_code, "payeeId": instruction.payee_id,
                    "instructionStatus": "ERROR", "alerts": [{"code": code, "message": message, "type": "ERROR"}],
                }),
                None => {
                    taken.push(instruction.ref_code.clone());
                    self.take(&batch_id, instruction)
                }
            });
        }
        self.batches.insert(batch_id.clone(), answers);
        (batch_id, taken)
    }

    fn refusal(&self, instruction: &Instruction) -> Option<(&'static str, String)> {
        if self.payments.contains_key(&instruction.ref_code) {
            return Some(("RefCode", self.options.duplicate_text.clone()));
        }
        if !self.options.knows_all_payees && self.payee(&instruction.payee_id).is_none() {
            return Some(("PayeeUnknown", "the payee is unknown".to_owned()));
        }
        None
    }

    /// Whether a batch is refused as a whole.
    pub(crate) fn is_malformed(&self, instructions: &[Instruction]) -> bool {
        let malformed = self.options.malformed_payee.as_ref();
        instructions
            .iter()
            .any(|instruction| malformed == Some(&instruction.payee_id))
    }

    fn take(&mut self, batch_id: &str, instruction: Instruction) -> Value {
        *self.accepted.entry(instruction.ref_code.clone()).or_default() += 1;
        let payee = self.payee(&instruction.payee_id).cloned();
        let default: Vec<String> = DEFAULT_SCRIPT.iter().map(|status| (*status).to_owned()).collect();
        let mut script: VecDeque<String> = self.script.clone().unwrap_or(default).into();
        let mut payment = Payment {
            id: self.next_id("payment"),
            batch_id: batch_id.to_owned(),
            ref_code: instruction.ref_code.clone(),
            payee_id: instruction.payee_id.clone(),
            amount: instruction.amount_submitted.amount.to_string(),
            currency: instruction.amount_submitted.currency,
            status: script.pop_front().unwrap_or_else(|| "ANALYZING".to_owned()),
            script,
            error_code: String::new(),
            error_text: String::new(),
            changed_at: now_text(),
            taken_at: Some(Instant::now()),
        };
        if let Some(payee) = payee.filter(|payee| !payee.is_payable) {
            "DEFERRED".clone_into(&mut payment.status);
            payment.script.clear();
            payment.error_code = payee.reason_code.unwrap_or_else(|| "PayeeNotPayable".to_owned());
            payment.error_text = payee.reason.unwrap_or_else(|| "the payee is not payable".to_owned());
        }
        let mut alerts = Vec::new();
        if !payment.error_code.is_empty() {
            alerts.push(json!({"code": payment.error_code, "message": payment.error_text, "type": "ERROR"}));
        }
        let answer = json!({
            "id": payment.id, "refCode": payment.ref_code, "payeeId": payment.payee_id,
            "instructionStatus": payment.status, "alerts": alerts,
        });
        self.payments.insert(instruction.ref_code, payment);
        answer
    }

    pub(crate) fn payee(&self, id: &str) -> Option<&Payee> {
        self.payees
            .values()
            .find(|payee| payee.id == id || payee.ref_code.as_deref() == Some(id))
    }

    /// Everything, for `GET /control/state`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "payments": self.payments,
            "payees": self.payees,
            "attempts": self.attempts,
            "accepted": self.accepted,
            "acceptedTotal": self.accepted.values().sum::<u32>(),
            "acceptedTwice": self.accepted.iter().filter(|(_, times)| **times > 1).map(|(code, _)| code).collect::<Vec<_>>(),
            "batches": self.batches.len(),
            "requests": self.requests,
            "events": self.events,
            "heldEvents": self.held_events.as_ref().map(Vec::len),
            "faults": self.faults,
        })
    }
}

impl Payment {
    pub(crate) fn is_visible(&self, after_ms: u64) -> bool {
        self.taken_at
            .is_none_or(|taken_at| taken_at.elapsed().as_millis() >= u128::from(after_ms))
    }

    /// As `GET /payments` answers it.
    pub(crate) fn to_answer(&self) -> Value {
        let amount: Value = serde_json::from_str(&self.amount).unwrap_or_default();
        json!({
            "id": self.id, "batchId": self.batch_id, "refCode": self.ref_code, "payeeId": self.payee_id,
            "status": self.status, "amountSubmitted": {"amount": amount, "currency": self.currency}, "fees": [],
            "statusChangeDateTimeUTC": self.changed_at, "errorCode": self.error_code, "errorDescription": self.error_text,
        })
    }
}

/// The present as the real one writes it.
pub(crate) fn now_text() -> String {
    jiff::Timestamp::now().to_string()
}
