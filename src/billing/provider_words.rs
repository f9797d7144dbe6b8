//! What providers say of payouts, written: by an answer, by a look-up, by an event.
//!
//! Whatever order words arrive in, and however often each does, the one that stands is the same ([`judge`]); this writes it
//! with the row's status, its history, its settlement's counters, and what is known of the payout.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::jittered;
use crate::domain::account_settlements::{MAX_REASON_BYTES, Status};
use crate::domain::error::Result;
use crate::domain::ids::{new_id, parse_uuid};
use crate::domain::payouts::{
    Payout, PayoutAlarm, ProviderRow, StandingWord, UnmappedWord, WordOutcome, pause_until_refresh,
};
use crate::domain::time::Timestamp;
use crate::payout::standing::{Standing, Verdict, judge};
use crate::payout::{MappedStatus, PaymentReport, ProviderKind};
use crate::store::payouts::{self as store, ProviderWrite};
use crate::store::settlements::CounterChanges;
use crate::store::status_changes::{Change, ChangeOfRow};
use crate::store::{Tx, payout_alarms, payout_holds, status_changes};

/// A refusal's rank. It has no time either: any word about a payment counts more than that there is none.
const REFUSED_RANK: u8 = 0;

/// What a provider said of one payment.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// A status of its table, or one that is not in it.
    Said(PaymentReport),
    /// It takes no such payment, for good.
    Refused(PaymentReport),
}

/// How words were heard.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// As the answer to a question or an order: also where nothing new was said, when to ask next is set anew.
    Answer,
    /// By an event with this id.
    Event(String),
}

/// What became of one word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Heard {
    /// What became of it.
    pub(super) outcome: WordOutcome,
    /// The row that it is about, where there is one.
    pub(super) id: Option<Uuid>,
    /// The row's status before all the words that were heard together, and after them.
    pub(super) statuses: Option<(Status, Status)>,
    /// Whether it raised an alarm; it is to be logged once all is committed.
    pub(super) alarm: Option<Alarm>,
}

/// A contradiction, as it is logged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Alarm {
    account_settlement_id: Uuid,
    raw_status: String,
    was_deleted: bool,
}

/// A row on its way to what it becomes.
struct Work {
    row: ProviderRow,
    status: Status,
    /// Whether the words that are kept with the row change.
    is_changed: bool,
    /// Whether what is known of its payout changes.
    is_known: bool,
}

impl Word {
    pub(super) fn report(&self) -> &PaymentReport {
        match self {
            Self::Said(report) | Self::Refused(report) => report,
        }
    }

    fn map(&self, kind: &ProviderKind, raw_status: &str) -> Option<MappedStatus> {
        match self {
            Self::Said(_) => (kind.map_status)(raw_status),
            Self::Refused(_) => Some(MappedStatus {
                status: Status::Error,
                is_final: true,
                rank: REFUSED_RANK,
            }),
        }
    }
}

impl Heard {
    /// One that is about nothing but an alarm.
    pub(super) fn of_alarm(alarm: Option<Alarm>) -> Self {
        Self {
            alarm,
            ..Self::nothing(WordOutcome::Contradiction, None)
        }
    }

    fn nothing(outcome: WordOutcome, id: Option<Uuid>) -> Self {
        Self {
            outcome,
            id,
            statuses: None,
            alarm: None,
        }
    }
}

impl Alarm {
    /// Tells it, at most once for each word: after the commit of what kept it.
    pub(super) fn tell(&self, provider: &str) {
        tracing::error!(
            provider,
            account_settlement_id = %self.account_settlement_id,
            raw_status = %self.raw_status,
            was_deleted = self.was_deleted,
            "ALARM: the provider contradicts what was done: see ListPayoutAlarms"
        );
    }
}

/// Writes words, each judged after the ones before it; what became of each, in order.
pub(super) async fn hear(
    tx: &Tx,
    kind: &ProviderKind,
    words: &[Word],
    origin: &Origin,
    interval: Duration,
) -> Result<Vec<Heard>> {
    let now = Timestamp::now();
    let mut ids: Vec<Uuid> = words
        .iter()
        .filter_map(|word| parse_uuid(&word.report().ref_code).ok())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(words.iter().map(|_| Heard::nothing(WordOutcome::NoRow, None)).collect());
    }
    let mut works: HashMap<Uuid, Work> = store::lock(tx, &ids)
        .await?
        .into_iter()
        .map(|(id, row)| (id, Work::new(row)))
        .collect();
    let mut heard = Vec::with_capacity(words.len());
    for word in words {
        let id = parse_uuid(&word.report().ref_code).ok();
        let work = id.and_then(|id| works.get_mut(&id));
        heard.push(match work {
            Some(work) if work.row.provider.as_deref() == Some(kind.name) => {
                hear_one(tx, kind, work, word, origin, now).await?
            }
            Some(_) | None => Heard::nothing(WordOutcome::NoRow, None),
        });
    }
    for heard in &mut heard {
        let work = heard.id.and_then(|id| works.get(&id));
        heard.statuses = work.map(|work| (work.row.status, work.status));
    }
    write(tx, kind, works.into_values().collect(), interval, now).await?;
    Ok(heard)
}

async fn hear_one(
    tx: &Tx,
    kind: &ProviderKind,
    work: &mut Work,
    word: &Word,
    origin: &Origin,
    now: Timestamp,
) -> Result<Heard> {
    let report = word.report();
    let id = Some(work.row.id);
    if work.row.awaits_approval && !work.row.deleted {
        return hear_of_unapproved(tx, kind, &work.row, word, origin, now).await;
    }
    let held = work.standing();
    let is_repeated = matches!(origin, Origin::Answer) && work.says_the_same(report);
    if !is_repeated {
        work.note_under_way(word, kind);
    }
    let verdict = judge(held.as_ref(), report, |raw_status| word.map(kind, raw_status));
    if work.row.deleted {
        return hear_of_deleted(tx, kind, work, report, verdict, origin, now).await;
    }
    work.is_known |= matches!(origin, Origin::Answer);
    match verdict {
        Verdict::Unmapped => {
            work.note_unmapped(report);
            Ok(Heard::nothing(WordOutcome::Unmapped, id))
        }
        Verdict::Stale => Ok(Heard::nothing(WordOutcome::Stale, id)),
        // A provider that does not tell since when says the same at each question, with the question's time.
        Verdict::Moves(_) if is_repeated => Ok(Heard::nothing(WordOutcome::Stale, id)),
        Verdict::Moves(mapped) => {
            work.stands(report, mapped);
            Ok(Heard::nothing(WordOutcome::Applied, id))
        }
        Verdict::Contradicts { mapped, moves } => {
            if moves {
                work.stands(report, mapped);
            }
            let alarm = raise(tx, kind, work, report, origin, now).await?;
            Ok(Heard {
                alarm,
                ..Heard::nothing(WordOutcome::Contradiction, id)
            })
        }
    }
}

/// A deleted row never changes again, and its money may be paid otherwise by now. What does not say that nothing was paid
/// contradicts that: it is kept, and the account is held until somebody has looked.
async fn hear_of_deleted(
    tx: &Tx,
    kind: &ProviderKind,
    work: &Work,
    report: &PaymentReport,
    verdict: Verdict,
    origin: &Origin,
    now: Timestamp,
) -> Result<Heard> {
    let id = Some(work.row.id);
    let mapped = match verdict {
        Verdict::Unmapped => return Ok(Heard::nothing(WordOutcome::Unmapped, id)),
        Verdict::Stale => return Ok(Heard::nothing(WordOutcome::Stale, id)),
        Verdict::Moves(mapped) | Verdict::Contradicts { mapped, .. } => mapped,
    };
    if mapped.status == Status::Error {
        return Ok(Heard::nothing(WordOutcome::Stale, id));
    }
    let alarm = raise(tx, kind, work, report, origin, now).await?;
    if alarm.is_some() {
        let reason = format!(
            "{} says {} of account settlement {}, which was deleted: see whether its money was paid again",
            kind.name, report.raw_status, work.row.id
        );
        hold(tx, kind, &work.row, &reason).await?;
    }
    Ok(Heard {
        alarm,
        ..Heard::nothing(WordOutcome::Contradiction, id)
    })
}

/// Nobody approved that it is paid, and nothing was sent from here: somebody went round this service. The word waits until the
/// settlement is approved, or the row deleted, and the account is held until somebody has looked.
async fn hear_of_unapproved(
    tx: &Tx,
    kind: &ProviderKind,
    row: &ProviderRow,
    word: &Word,
    origin: &Origin,
    now: Timestamp,
) -> Result<Heard> {
    let report = word.report();
    let waits = Heard::nothing(WordOutcome::NoRow, Some(row.id));
    let mapped = word.map(kind, &report.raw_status);
    if mapped.is_none_or(|mapped| mapped.status == Status::Error) {
        return Ok(waits);
    }
    let said = (report.raw_status.as_str(), report.event_time);
    let alarm = raise_alarm(tx, kind, row, said, origin, now).await?;
    if alarm.is_some() {
        let reason = format!(
            "{} says {} of account settlement {}, which awaits approval: see who sent it there",
            kind.name, report.raw_status, row.id
        );
        hold(tx, kind, row, &reason).await?;
    }
    Ok(Heard { alarm, ..waits })
}

/// Puts the account on hold until somebody has looked, unless it is already.
async fn hold(tx: &Tx, kind: &ProviderKind, row: &ProviderRow, reason: &str) -> Result<()> {
    if payout_holds::find_active(tx, &row.account_id).await?.is_none() {
        payout_holds::insert(tx, &row.account_id, cut(reason), kind.name).await?;
    }
    Ok(())
}

async fn raise(
    tx: &Tx,
    kind: &ProviderKind,
    work: &Work,
    report: &PaymentReport,
    origin: &Origin,
    now: Timestamp,
) -> Result<Option<Alarm>> {
    raise_alarm(
        tx,
        kind,
        &work.row,
        (&report.raw_status, report.event_time),
        origin,
        now,
    )
    .await
}

/// Keeps an alarm about what was said, and when; none when the same raised one before.
pub(super) async fn raise_alarm(
    tx: &Tx,
    kind: &ProviderKind,
    row: &ProviderRow,
    (raw_status, event_time): (&str, Option<Timestamp>),
    origin: &Origin,
    now: Timestamp,
) -> Result<Option<Alarm>> {
    let alarm = PayoutAlarm {
        id: new_id(),
        account_settlement_id: row.id,
        account_id: row.account_id.clone(),
        provider: kind.name.to_owned(),
        raw_status: raw_status.to_owned(),
        event_time,
        was_deleted: row.deleted,
        origin: match origin {
            Origin::Answer => "look-up".to_owned(),
            Origin::Event(id) => format!("event {id}"),
        },
        create_time: now,
    };
    let is_new = payout_alarms::insert(tx, &alarm).await?;
    Ok(is_new.then_some(Alarm {
        account_settlement_id: alarm.account_settlement_id,
        raw_status: alarm.raw_status,
        was_deleted: alarm.was_deleted,
    }))
}

async fn write(tx: &Tx, kind: &ProviderKind, mut works: Vec<Work>, interval: Duration, now: Timestamp) -> Result<()> {
    works.sort_unstable_by_key(|work| work.row.id);
    let mut counters = CounterChanges::default();
    let mut history: BTreeMap<(Status, String), Vec<ChangeOfRow<'_>>> = BTreeMap::new();
    let mut writes = Vec::new();
    for work in works.iter_mut() {
        work.schedule(interval, now);
    }
    for work in works.iter().filter(|work| work.is_changed) {
        writes.push(ProviderWrite {
            row: &work.row,
            status: work.status,
        });
        if work.status != work.row.status {
            counters.moved(
                work.row.settlement_id,
                work.row.money.currency,
                work.row.status,
                work.status,
            );
            let changes = history.entry((work.status, work.reason())).or_default();
            changes.push(ChangeOfRow {
                id: work.row.id,
                revision: work.row.revision + 1,
                from: Some(work.row.status),
                payment_reference: "",
            });
        }
    }
    store::write_words(tx, &writes, now).await?;
    for ((to, reason), changes) in &history {
        let change = Change {
            to: *to,
            by_system: true,
            actor: kind.name,
            reason,
            request_id: "",
            time: now,
        };
        status_changes::insert(tx, &change, changes).await?;
    }
    let known: Vec<&ProviderRow> = works
        .iter()
        .filter(|work| work.is_known)
        .map(|work| &work.row)
        .collect();
    store::write(tx, kind.name, &known, now).await?;
    counters.write(tx).await
}

impl Work {
    fn new(row: ProviderRow) -> Self {
        Self {
            status: row.status,
            row,
            is_changed: false,
            is_known: false,
        }
    }

    /// The word that stands, as it is judged against.
    fn standing(&self) -> Option<Standing> {
        self.row.standing.as_ref().map(|word| Standing {
            report: PaymentReport {
                ref_code: self.row.id.to_string(),
                raw_status: word.raw_status.clone(),
                provider_reference: word.reference.clone(),
                error_code: word.error_code.clone(),
                error_text: word.error_text.clone(),
                event_time: word.event_time,
            },
            mapped: MappedStatus {
                status: word.status,
                is_final: word.is_final,
                rank: word.rank,
            },
        })
    }

    fn stands(&mut self, report: &PaymentReport, mapped: MappedStatus) {
        self.row.standing = Some(StandingWord {
            raw_status: report.raw_status.clone(),
            reference: report.provider_reference.clone(),
            error_code: report.error_code.clone(),
            error_text: report.error_text.clone(),
            event_time: report.event_time,
            status: mapped.status,
            is_final: mapped.is_final,
            rank: mapped.rank,
        });
        self.status = mapped.status;
        self.is_changed = true;
        self.is_known = true;
    }

    /// Keeps when it was last said to be under way: newer than a final failure, it puts that in doubt.
    fn note_under_way(&mut self, word: &Word, kind: &ProviderKind) {
        let report = word.report();
        let mapped = word.map(kind, &report.raw_status);
        let is_under_way = mapped.is_some_and(|mapped| mapped.status == Status::InProgress);
        if is_under_way && report.event_time > self.row.under_way_time && !self.row.deleted {
            let was_final = self.row.is_final();
            self.row.under_way_time = report.event_time;
            self.is_changed = true;
            // In doubt it is asked for again.
            self.is_known |= was_final && !self.row.is_final();
        }
    }

    fn says_the_same(&self, report: &PaymentReport) -> bool {
        self.row.standing.as_ref().is_some_and(|word| {
            word.raw_status == report.raw_status
                && word.reference == report.provider_reference
                && word.error_code == report.error_code
                && word.error_text == report.error_text
        })
    }

    /// Keeps the newest of the words that are not known, whatever order they come in.
    fn note_unmapped(&mut self, report: &PaymentReport) {
        let new = (report.event_time, report.raw_status.as_str());
        let held = self.row.unmapped.as_ref();
        if held.is_none_or(|held| new > (held.event_time, held.raw_status.as_str())) && !report.raw_status.is_empty() {
            self.row.unmapped = Some(UnmappedWord {
                raw_status: report.raw_status.clone(),
                event_time: report.event_time,
            });
            self.is_changed = true;
        }
        // That the provider has it is known now, whatever it means.
        self.is_known |= self.row.payout.is_some();
    }

    fn schedule(&mut self, interval: Duration, now: Timestamp) {
        if !self.is_known {
            return;
        }
        let standing = self.row.standing.as_ref();
        let unchanged_since = standing.and_then(|word| word.event_time).unwrap_or(now);
        let pause = jittered(pause_until_refresh(self.status, unchanged_since, now, interval));
        let payout = Payout::known(self.row.payout.as_ref(), self.row.is_final(), now, now.plus(pause));
        self.row.payout = Some(payout);
    }

    /// What the history says: the provider's word, and why where it failed.
    fn reason(&self) -> String {
        let Some(word) = &self.row.standing else {
            return String::new();
        };
        let mut reason = word.raw_status.clone();
        for part in [&word.error_code, &word.error_text] {
            if !part.is_empty() {
                reason.push_str(": ");
                reason.push_str(part);
            }
        }
        cut(&reason).to_owned()
    }
}

/// At most as many bytes as a reason has.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_REASON_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
