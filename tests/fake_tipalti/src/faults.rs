//! Faults on demand: what goes wrong, at which endpoint, at which moment, how often.

use serde::{Deserialize, Serialize};

/// Where requests arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /connect/token`
    Token,
    /// `POST /api/v1/payment-batches`
    Batches,
    /// `GET /api/v1/payment-batches/{id}/instructions`
    Instructions,
    /// `GET /api/v1/payments`
    Payments,
    /// `GET /api/v1/payees` and `/payees/{id}`
    Payees,
}

/// When it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the request is worked on: nothing is taken.
    Before,
    /// After it was worked on, instead of the answer.
    After,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// No answer for so long; then the connection is cut.
    Hang {
        /// Milliseconds.
        milliseconds: u64,
    },
    /// The answer comes so much later, and is right.
    Delay {
        /// Milliseconds.
        milliseconds: u64,
    },
    /// The connection is cut without an answer.
    Cut,
    /// The connection is cut in the middle of an answer that begins with success.
    CutBody,
    /// A status instead of the answer, such as 429 or 503.
    Status {
        /// The status.
        status: u16,
        /// Seconds in `Retry-After`.
        #[serde(default)]
        retry_after_seconds: Option<u32>,
        /// The body.
        #[serde(default)]
        body: String,
    },
    /// Success with a body that is no JSON.
    Garbage,
    /// Success with an empty list.
    Nothing,
}

/// A fault that waits for its moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where.
    pub endpoint: Endpoint,
    /// When.
    pub moment: Moment,
    /// What.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// So many requests pass first.
    #[serde(default)]
    pub skip: u32,
    /// So many requests are hit; once by default.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// One that hits the next request.
    #[must_use]
    pub fn once(endpoint: Endpoint, moment: Moment, kind: FaultKind) -> Self {
        Self {
            endpoint,
            moment,
            kind,
            skip: 0,
            times: 1,
        }
    }
}

/// The fault that hits this request, if one does; used up by that.
pub(crate) fn take(faults: &mut Vec<Fault>, endpoint: Endpoint) -> Option<(Moment, FaultKind)> {
    let place = faults.iter().position(|fault| fault.endpoint == endpoint)?;
    let fault = faults.get_mut(place)?;
    if fault.skip > 0 {
        fault.skip -= 1;
        return None;
    }
    let hit = (fault.moment, fault.kind.clone());
    fault.times = fault.times.saturating_sub(1);
    if fault.times == 0 {
        faults.remove(place);
    }
    Some(hit)
}
