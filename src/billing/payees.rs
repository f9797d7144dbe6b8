//! Whom providers can pay: kept up to date by their events, and by asking for payees that are new here.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Billing, Call, Mutation, Refreshed};
use crate::domain::error::Result;
use crate::domain::payment_methods::PaymentMethodDetails;
use crate::domain::sensitive::Sensitive;
use crate::domain::time::Timestamp;
use crate::payout::{PayeeStatus, ProviderErrorKind};
use crate::store::payees::{self as store, MethodWithoutPayee, Payee, PayeeNews};
use crate::store::{Tx, payment_method_types};

/// Payees that are asked for in one round: each is a request of its own.
const ROUND: usize = 50;
/// How long payees that were taken are somebody's.
const CLAIM_TIME: Duration = Duration::from_secs(120);
/// A payee that the provider does not know is asked for again after so long, then after pauses that double.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// One that can't be paid is asked for again after so long, should its provider not say by itself that it now can.
const NOT_PAYABLE_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// Payment methods that are given their payee in one round.
const METHODS_A_ROUND: usize = 500;

/// Keeps news of a payee, by any of its ids.
pub(super) async fn hear_of_payee(tx: &Tx, provider: &str, said: &PayeeStatus) -> Result<()> {
    let now = Timestamp::now();
    let identifiers: Vec<&Sensitive> = said.identifiers.iter().collect();
    // Made when they are not there: the payment method may come later.
    let mut ids = store::find_or_insert_many(tx, provider, &identifiers, now, None).await?;
    ids.sort_unstable();
    ids.dedup();
    for payee in store::lock(tx, &ids).await? {
        keep_news(tx, &payee, said, now).await?;
    }
    Ok(())
}

/// News count by the provider's time; of two of the same time the one that keeps the money.
async fn keep_news(tx: &Tx, payee: &Payee, said: &PayeeStatus, now: Timestamp) -> Result<()> {
    let Some(payable) = said.is_payable else {
        // It changed, and how was not said: ask.
        return store::postpone(tx, &[payee.id], Some(now)).await;
    };
    let is_news = payee
        .payable
        .is_none_or(|held| (said.event_time, !payable) > (payee.event_time, !held));
    if !is_news {
        return Ok(());
    }
    let news = PayeeNews {
        payable: Some(payable),
        raw_status: &said.raw_status,
        reason: if payable { "" } else { &said.reason },
        event_time: said.event_time,
    };
    let next_time = (!payable).then(|| now.plus(NOT_PAYABLE_PAUSE));
    store::update(tx, payee.id, &news, now, next_time).await
}

/// Takes payees that are due.
#[derive(Serialize)]
struct ClaimPayees {
    provider: &'static str,
}

/// A taken payee; what it is known by goes nowhere but to the provider.
#[derive(Serialize, Deserialize)]
struct TakenPayee {
    id: Uuid,
    check_count: i64,
    identifier: Option<Sensitive>,
}

/// Keeps what the provider said of a payee that was asked for.
#[derive(Serialize)]
struct RecordPayee {
    id: Uuid,
    #[serde(skip)]
    said: Option<PayeeStatus>,
    pause: Duration,
}

/// Finds the row of a payment method's payee.
#[derive(Serialize)]
struct FindPayee {
    provider: &'static str,
    #[serde(skip)]
    identifier: Sensitive,
}

/// Lets a payment method refer to its payee.
#[derive(Serialize)]
struct SetPayee {
    #[serde(skip)]
    method: MethodWithoutPayee,
    payee_id: Uuid,
}

impl Mutation for ClaimPayees {
    const METHOD: &'static str = "ClaimPayees";
    type Answer = Vec<TakenPayee>;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<Vec<TakenPayee>> {
        let now = Timestamp::now();
        let due = store::claim_due(tx, self.provider, ROUND, now, now.plus(CLAIM_TIME)).await?;
        let identifier = |details: &PaymentMethodDetails| details.payee().map(|(_, payee_id)| payee_id.clone());
        Ok(due
            .into_iter()
            .map(|payee| TakenPayee {
                id: payee.id,
                check_count: payee.check_count,
                identifier: payee.details.as_ref().and_then(identifier),
            })
            .collect())
    }
}

impl Mutation for RecordPayee {
    const METHOD: &'static str = "RecordPayee";
    type Answer = ();

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<()> {
        let now = Timestamp::now();
        match &self.said {
            None => store::postpone(tx, &[self.id], Some(now.plus(self.pause))).await,
            Some(said) => {
                // Asked and answered, whether it is news or not; what can't be paid, or is not said, is asked for again.
                let pause = (said.is_payable != Some(true)).then_some(NOT_PAYABLE_PAUSE);
                store::postpone(tx, &[self.id], pause.map(|pause| now.plus(pause))).await?;
                if said.is_payable.is_none() {
                    return Ok(());
                }
                for payee in store::lock(tx, &[self.id]).await? {
                    keep_news(tx, &payee, said, now).await?;
                }
                Ok(())
            }
        }
    }
}

impl Mutation for FindPayee {
    const METHOD: &'static str = "FindPayee";
    type Answer = Uuid;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<Uuid> {
        let now = Timestamp::now();
        store::find_or_insert(tx, self.provider, &self.identifier, now, Some(now)).await
    }
}

impl Mutation for SetPayee {
    const METHOD: &'static str = "SetPayee";
    type Answer = ();

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<()> {
        store::set_payee(tx, &self.method, self.payee_id).await
    }
}

impl Billing {
    /// Asks the provider for some of the payees that are due.
    pub async fn refresh_due_payees(&self, provider: &str) -> Result<Refreshed> {
        let (client, kind) = self.client(provider)?;
        let call = Call::by_system(kind.name);
        let taken = self.mutate(&call, ClaimPayees { provider: kind.name }).await?;
        let count = taken.len();
        for payee in taken {
            let said = match &payee.identifier {
                Some(identifier) => match client.payee_status(identifier).await {
                    Ok(said) => said,
                    Err(error) if error.kind.is_transient() || error.kind == ProviderErrorKind::Credentials => {
                        return Ok(Refreshed {
                            count,
                            has_more: false,
                            failure: Some(error),
                        });
                    }
                    Err(error) => {
                        // It is this payee's alone: the others must not wait for it.
                        tracing::warn!(provider = kind.name, payee = %payee.id, %error, "a payee can't be asked for");
                        None
                    }
                },
                None => None,
            };
            let doublings = u32::try_from(payee.check_count.clamp(0, 16)).unwrap_or(16);
            let record = RecordPayee {
                id: payee.id,
                said,
                pause: FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE),
            };
            self.mutate(&call, record).await?;
        }
        Ok(Refreshed {
            count,
            has_more: count == ROUND,
            failure: None,
        })
    }

    /// Gives some of the payment methods that a version before this one wrote their payees; whether there may be more.
    pub async fn find_missing_payees(&self) -> Result<bool> {
        let reader = self.store.reader();
        let types = payment_method_types::list_all(&reader).await?;
        let mut has_more = false;
        for method_type in types.iter().filter(|method_type| method_type.provider().is_some()) {
            let methods = store::methods_without_payee(&reader, &method_type.id, METHODS_A_ROUND).await?;
            has_more |= methods.len() == METHODS_A_ROUND;
            for method in methods {
                self.find_payee_of(method).await?;
            }
        }
        Ok(has_more)
    }

    /// In two transactions: who makes a method locks methods before payees, this has it the other way round.
    async fn find_payee_of(&self, method: MethodWithoutPayee) -> Result<()> {
        let Some((provider, identifier)) = method.details.payee() else {
            return Ok(());
        };
        let call = Call::by_system(provider);
        let find = FindPayee {
            provider,
            identifier: identifier.clone(),
        };
        let payee_id = self.mutate(&call, find).await?;
        self.mutate(&call, SetPayee { method, payee_id }).await
    }
}
