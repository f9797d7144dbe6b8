//! A fake Tipalti: the part of its REST API that the service uses, webhooks that it signs and sends, and faults on demand.
//!
//! Tests hold a [`FakeTipalti`]; other programs run the binary (`cargo run -p fake-tipalti`) and steer it over HTTP under
//! `/control` (`control.rs` lists it). It counts what it took by ref code: a second payment with the same one is refused, as the real one does,
//! and counted as an attempt.

mod api;
mod control;
pub mod faults;
mod serve;
pub mod state;
pub mod webhooks;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::faults::{Endpoint, Fault, FaultKind, Moment};
use crate::state::{Options, Payee, State};
use crate::webhooks::Delivery;

/// A running fake. Cheap to clone; runs until [`stop`](Self::stop), or until its runtime ends.
#[derive(Clone)]
pub struct FakeTipalti {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<watch::Sender<bool>>,
}

/// In which order held events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As they came.
    Sent,
    /// The last one first.
    Reversed,
}

impl FakeTipalti {
    /// Starts on a free loopback port.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Self::start_on(listener, options)
    }

    /// Starts on a listener.
    pub fn start_on(listener: TcpListener, options: Options) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let state = State {
            options,
            ..State::default()
        };
        let fake = Self {
            address: listener.local_addr()?,
            state: Arc::new(Mutex::new(state)),
            stop: Arc::new(stop),
        };
        let router = api::router(fake.clone()).merge(control::router(fake.clone()));
        tokio::spawn(serve::serve(listener, router, stopped));
        Ok(fake)
    }

    /// Where it listens: `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops listening, and cuts the connections that are open.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how it behaves.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.lock().options);
    }

    /// Adds a fault.
    pub fn add_fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Adds a fault that hits the next request.
    pub fn fail_once(&self, endpoint: Endpoint, moment: Moment, kind: FaultKind) {
        self.add_fault(Fault::once(endpoint, moment, kind));
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Makes all access tokens bad.
    pub fn revoke_tokens(&self) {
        self.lock().tokens.clear();
    }

    /// Sets a payee.
    pub fn set_payee(&self, payee: Payee) {
        self.lock().payees.insert(payee.id.clone(), payee);
    }

    /// Sets what new payments go through, first to last; the first is what they begin with.
    pub fn set_script(&self, statuses: &[&str]) {
        self.lock().script = Some(statuses.iter().map(|status| (*status).to_owned()).collect());
    }

    /// Sets the status of a payment, any text, and announces it; false when there is no such payment.
    pub fn set_status(&self, ref_code: &str, status: &str, error_code: &str, error_text: &str) -> bool {
        {
            let mut state = self.lock();
            let Some(payment) = state.payments.get_mut(ref_code) else {
                return false;
            };
            status.clone_into(&mut payment.status);
            error_code.clone_into(&mut payment.error_code);
            error_text.clone_into(&mut payment.error_text);
            payment.changed_at = state::now_text();
        }
        webhooks::announce(self, ref_code);
        true
    }

    /// Moves each payment to what comes next in its script; gives how many moved.
    pub fn advance(&self) -> usize {
        let mut moved = Vec::new();
        for payment in self.lock().payments.values_mut() {
            if let Some(next) = payment.script.pop_front() {
                payment.status = next;
                payment.changed_at = state::now_text();
                moved.push(payment.ref_code.clone());
            }
        }
        for ref_code in &moved {
            webhooks::announce(self, ref_code);
        }
        moved.len()
    }

    /// Holds events back from now on.
    pub fn hold_events(&self) {
        self.lock().held_events.get_or_insert_default();
    }

    /// Sends the events that were held, one after the other, each so many times, and holds no more; gives the answers.
    pub async fn release_events(&self, order: Order, times: usize, delivery: Delivery) -> Vec<u16> {
        let mut places = self.lock().held_events.take().unwrap_or_default();
        if order == Order::Reversed {
            places.reverse();
        }
        let mut answers = Vec::new();
        for place in places {
            for _ in 0..times {
                answers.push(webhooks::deliver(self, place, delivery).await);
            }
        }
        answers
    }

    /// Makes an event by hand and sends it; gives its id and the answer's HTTP status, 0 where there was none.
    pub async fn send_event(
        &self,
        event_type: &str,
        data: Value,
        created: Option<String>,
        delivery: Delivery,
    ) -> (String, u16) {
        let place = {
            let mut state = self.lock();
            webhooks::add(&mut state, event_type, &webhooks::created(created), data)
        };
        let answer = webhooks::deliver(self, place, delivery).await;
        let id = self.lock().events.get(place).map(|event| event.id.clone());
        (id.unwrap_or_default(), answer)
    }

    /// Sends any body, signed.
    pub async fn send_raw(&self, body: &str, delivery: Delivery) -> u16 {
        let place = {
            let mut state = self.lock();
            let id = state.next_id("raw");
            webhooks::add_raw(&mut state, id, body.to_owned())
        };
        webhooks::deliver(self, place, delivery).await
    }

    /// One event for all payments of a batch, `paymentGroupApproved` or `paymentGroupDeclined`; a declined one cancels them.
    pub async fn send_group_event(&self, batch_id: &str, is_approved: bool) -> u16 {
        let payments: Vec<Value> = {
            let mut state = self.lock();
            let mut payments = Vec::new();
            for payment in state
                .payments
                .values_mut()
                .filter(|payment| payment.batch_id == batch_id)
            {
                if !is_approved {
                    "CANCELED".clone_into(&mut payment.status);
                    payment.script.clear();
                    payment.changed_at = state::now_text();
                }
                payments.push(json!({"refCode": payment.ref_code, "paymentStatus": payment.status}));
            }
            payments
        };
        let event_type = if is_approved {
            "paymentGroupApproved"
        } else {
            "paymentGroupDeclined"
        };
        let data = json!({"paymentGroupId": batch_id, "payments": payments});
        self.send_event(event_type, data, None, Delivery::default()).await.1
    }

    /// How often a ref code was taken.
    #[must_use]
    pub fn accepted(&self, ref_code: &str) -> u32 {
        self.lock().accepted.get(ref_code).copied().unwrap_or(0)
    }

    /// How often a ref code was sent.
    #[must_use]
    pub fn attempts(&self, ref_code: &str) -> u32 {
        self.lock().attempts.get(ref_code).copied().unwrap_or(0)
    }

    /// How often an endpoint was asked: `token`, `batches`, `instructions`, `payments` or `payees`.
    #[must_use]
    pub fn requests(&self, endpoint: &str) -> u32 {
        self.lock().requests.get(endpoint).copied().unwrap_or(0)
    }

    /// Everything that it knows.
    #[must_use]
    pub fn state(&self) -> Value {
        self.lock().to_json()
    }
}
