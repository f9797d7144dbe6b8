//! Tables `provider_events` and `provider_event_words`: what providers sent by their webhooks, kept without names and bank
//! data, and what became of each word.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use uuid::Uuid;

use super::conditions::Conditions;
use super::rotation::{KeyPart, SealedTable};
use super::rows::Rows;
use super::sealing::Sealed;
use super::settlements::awaits_approval;
use super::{Session, Tx, time};
use crate::domain::error::{Error, Result};
use crate::domain::payouts::{ListedEvent, ListedWord, WordOutcome};
use crate::domain::time::Timestamp;

const TABLE: &str = "provider_events";

/// The table, for the rotation of the encryption keys.
pub(super) const SEALED: SealedTable = SealedTable {
    name: TABLE,
    key: &[("event_id", KeyPart::TEXT), ("provider", KeyPart::TEXT)],
    row_id: |parts| match parts {
        [event_id, provider] => row_id(provider, event_id),
        _ => String::new(),
    },
};
/// Words of one event that are listed.
const MAX_LISTED_WORDS: i32 = 100;

/// An event to keep.
pub(crate) struct NewEvent<'a> {
    pub(crate) provider: &'a str,
    pub(crate) id: &'a str,
    pub(crate) event_type: &'a str,
    pub(crate) is_test: bool,
    pub(crate) created_time: Option<Timestamp>,
    /// The body, without names and bank data.
    pub(crate) body: &'a str,
    /// Its words, in order.
    pub(crate) words: Vec<NewWord>,
}

/// A word of an event to keep.
pub(crate) struct NewWord {
    pub(crate) ref_code: String,
    pub(crate) account_settlement_id: Option<Uuid>,
    pub(crate) raw_status: String,
}

/// Which events are listed; all conditions together.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct EventFilter {
    /// Only those about this account settlement.
    pub account_settlement_id: Option<Uuid>,
    /// Only those with a word that came to this.
    pub outcome: Option<WordOutcome>,
}

#[derive(FromQueryResult)]
struct Row {
    event_id: String,
    event_type: String,
    is_test: bool,
    created_time: Option<i64>,
    receive_time: i64,
}

#[derive(FromQueryResult)]
struct WordRow {
    event_id: String,
    ref_code: String,
    raw_status: String,
    outcome: String,
}

#[derive(FromQueryResult)]
struct BodyRow {
    key_id: String,
    sealed: Vec<u8>,
}

#[derive(FromQueryResult)]
struct EventId {
    event_id: String,
}

#[derive(FromQueryResult)]
struct RawStatus {
    raw_status: String,
}

/// Keeps an event with its words; false when it is kept already, and then nothing is written.
pub(crate) async fn insert(tx: &Tx, event: &NewEvent<'_>, now: Timestamp) -> Result<bool> {
    let sealed = tx.keys.seal(TABLE, &row_id(event.provider, event.id), &event.body)?;
    let inserted = tx
        .execute(
            "INSERT INTO provider_events (provider, event_id, event_type, is_test, created_time, receive_time, key_id, sealed) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (provider, event_id) DO NOTHING",
            vec![
                event.provider.into(),
                event.id.into(),
                event.event_type.into(),
                event.is_test.into(),
                event.created_time.map(Timestamp::as_micros).into(),
                now.as_micros().into(),
                sealed.key_id.into(),
                sealed.bytes.into(),
            ],
        )
        .await?;
    if inserted == 0 {
        return Ok(false);
    }
    let words = &event.words;
    let mut positions = Vec::with_capacity(words.len());
    for position in 0..words.len() {
        positions.push(i32::try_from(position).map_err(|_| Error::internal("an event has too many words"))?);
    }
    let input = Rows::new()
        .int("place", positions)
        .text("ref_code", words.iter().map(|word| word.ref_code.as_str()))
        .text(
            "row_id",
            words.iter().map(|word| {
                word.account_settlement_id
                    .map_or_else(String::new, |id| id.simple().to_string())
            }),
        )
        .text("raw_status", words.iter().map(|word| word.raw_status.as_str()));
    let (source, mut values) = input.source(tx.backend, 5);
    let fixed: [Value; 4] = [
        event.provider.into(),
        event.id.into(),
        WordOutcome::Stored.name().into(),
        now.as_micros().into(),
    ];
    values.splice(0..0, fixed);
    let row_id = tx.backend.uuid_of_text("NULLIF(input.row_id, '')");
    let sql = format!(
        "INSERT INTO provider_event_words (provider, event_id, position, ref_code, account_settlement_id, raw_status, outcome, \
             outcome_time) \
         SELECT $1, $2, input.place, input.ref_code, {row_id}, input.raw_status, $3, $4 FROM {source}"
    );
    tx.execute(&sql, values).await?;
    Ok(true)
}

/// The body of an event, as kept; none when it is not.
pub(crate) async fn body<C: ConnectionTrait>(
    session: &Session<C>,
    provider: &str,
    event_id: &str,
) -> Result<Option<String>> {
    let sql = "SELECT key_id, sealed FROM provider_events WHERE provider = $1 AND event_id = $2";
    let row: Option<BodyRow> = session
        .fetch_optional(sql, vec![provider.into(), event_id.into()])
        .await?;
    let open = |row: BodyRow| {
        let sealed = Sealed {
            key_id: row.key_id,
            bytes: row.sealed,
        };
        session.keys.open(TABLE, &row_id(provider, event_id), &sealed)
    };
    row.map(open).transpose()
}

/// Keeps what became of words of an event.
pub(crate) async fn set_outcomes(
    tx: &Tx,
    provider: &str,
    event_id: &str,
    outcomes: &[(i32, WordOutcome)],
    now: Timestamp,
) -> Result<()> {
    if outcomes.is_empty() {
        return Ok(());
    }
    let input = Rows::new()
        .int("place", outcomes.iter().map(|(position, _)| *position))
        .text("outcome", outcomes.iter().map(|(_, outcome)| outcome.name()));
    let (source, mut values) = input.source(tx.backend, 4);
    let fixed: [Value; 3] = [provider.into(), event_id.into(), now.as_micros().into()];
    values.splice(0..0, fixed);
    let sql = format!(
        "UPDATE provider_event_words SET outcome = input.outcome, outcome_time = $3 FROM {source} \
         WHERE provider_event_words.provider = $1 AND provider_event_words.event_id = $2 \
             AND provider_event_words.position = input.place"
    );
    tx.execute(&sql, values).await?;
    Ok(())
}

/// Locks the next words of an event that wait for something, those after a position; their positions.
pub(crate) async fn lock_waiting(
    tx: &Tx,
    provider: &str,
    event_id: &str,
    after: i32,
    limit: usize,
) -> Result<Vec<i32>> {
    #[derive(FromQueryResult)]
    struct Position {
        position: i32,
    }
    let sql = format!(
        "SELECT position FROM provider_event_words WHERE provider = $1 AND event_id = $2 AND position > $3 \
             AND outcome IN ('STORED', 'UNMAPPED', 'NO_ROW') ORDER BY position LIMIT {limit}{}",
        tx.backend.for_update()
    );
    let values = vec![provider.into(), event_id.into(), after.into()];
    let rows: Vec<Position> = tx.fetch_all(&sql, values).await?;
    Ok(rows.into_iter().map(|row| row.position).collect())
}

/// Events with words that were kept before a time and not looked at, whose rows are there now, or whose statuses are now known;
/// those that were looked at longest ago first.
pub(crate) async fn waiting<C: ConnectionTrait>(
    session: &Session<C>,
    provider: &str,
    stored_before: Timestamp,
    now_known: &[String],
    limit: usize,
) -> Result<Vec<String>> {
    // Each by its own statement: joined by OR, no index would serve them.
    let stored = events(
        session,
        "w.outcome = 'STORED' AND w.outcome_time <= $2",
        vec![provider.into(), stored_before.as_micros().into()],
        limit,
    );
    let mut found = stored.await?;
    let no_row = events(
        session,
        concat!(
            "w.outcome = 'NO_ROW' AND w.account_settlement_id IS NOT NULL AND EXISTS ( \
                 SELECT 1 FROM account_settlements s WHERE s.id = w.account_settlement_id AND s.provider = w.provider \
                     AND (s.delete_time IS NOT NULL OR NOT ",
            awaits_approval!(),
            "))"
        ),
        vec![provider.into()],
        limit,
    );
    found.extend(no_row.await?);
    if !now_known.is_empty() {
        let (source, mut values) = Rows::new()
            .text("raw_status", now_known.iter().map(String::as_str))
            .source(session.backend, 2);
        values.insert(0, provider.into());
        let condition = format!("w.outcome = 'UNMAPPED' AND w.raw_status IN (SELECT input.raw_status FROM {source})");
        found.extend(events(session, &condition, values, limit).await?);
    }
    Ok(found)
}

async fn events<C: ConnectionTrait>(
    session: &Session<C>,
    condition: &str,
    values: Vec<Value>,
    limit: usize,
) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT w.event_id, min(w.outcome_time) AS looked_at FROM provider_event_words w \
         WHERE w.provider = $1 AND {condition} GROUP BY w.event_id ORDER BY looked_at, w.event_id LIMIT {limit}"
    );
    let rows: Vec<EventId> = session.fetch_all(&sql, values).await?;
    Ok(rows.into_iter().map(|row| row.event_id).collect())
}

/// Says that an event was looked at in vain, so that others come first.
pub(crate) async fn postpone(tx: &Tx, provider: &str, event_id: &str, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE provider_event_words SET outcome_time = $1 WHERE provider = $2 AND event_id = $3 \
             AND outcome IN ('STORED', 'UNMAPPED', 'NO_ROW')",
        vec![now.as_micros().into(), provider.into(), event_id.into()],
    )
    .await?;
    Ok(())
}

/// The statuses that were not known when they came.
pub(crate) async fn unmapped_statuses<C: ConnectionTrait>(session: &Session<C>, provider: &str) -> Result<Vec<String>> {
    let sql =
        "SELECT DISTINCT raw_status FROM provider_event_words WHERE provider = $1 AND outcome = 'UNMAPPED' LIMIT 1000";
    let rows: Vec<RawStatus> = session.fetch_all(sql, vec![provider.into()]).await?;
    Ok(rows.into_iter().map(|row| row.raw_status).collect())
}

/// Events before a key, newest first.
pub(crate) async fn list<C: ConnectionTrait>(
    session: &Session<C>,
    provider: &str,
    filter: &EventFilter,
    before: Option<&(i64, String)>,
    limit: u64,
) -> Result<Vec<ListedEvent>> {
    let mut conditions = Conditions::new();
    conditions.and("e.provider = ?", provider);
    if let Some((receive_time, event_id)) = before {
        let receive_time = conditions.bind(*receive_time);
        let event_id = conditions.bind(event_id.as_str());
        conditions.and_plain(format!("(e.receive_time, e.event_id) < ({receive_time}, {event_id})"));
    }
    let word = "e.event_id IN (SELECT w.event_id FROM provider_event_words w WHERE w.provider = $1 AND";
    conditions.and_some(
        &format!("{word} w.account_settlement_id = ?)"),
        filter.account_settlement_id,
    );
    if let Some(outcome) = filter.outcome {
        // As text, for the partial indexes: these are our own names.
        conditions.and_plain(format!("{word} w.outcome = '{}')", outcome.name()));
    }
    let sql = format!(
        "SELECT e.event_id, e.event_type, e.is_test, e.created_time, e.receive_time FROM provider_events e WHERE {} \
         ORDER BY e.receive_time DESC, e.event_id DESC LIMIT {limit}",
        conditions.sql()
    );
    let rows: Vec<Row> = session.fetch_all(&sql, conditions.into_values()).await?;
    let mut words = words_of(session, provider, &rows).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let (word_count, words) = words.remove(&row.event_id).unwrap_or_default();
        events.push(ListedEvent {
            word_count,
            words,
            id: row.event_id,
            event_type: row.event_type,
            is_test: row.is_test,
            created_time: row.created_time.map(time).transpose()?,
            receive_time: time(row.receive_time)?,
        });
    }
    Ok(events)
}

/// How many words events have, and the first of them.
async fn words_of<C: ConnectionTrait>(
    session: &Session<C>,
    provider: &str,
    events: &[Row],
) -> Result<HashMap<String, (i64, Vec<ListedWord>)>> {
    #[derive(FromQueryResult)]
    struct Count {
        event_id: String,
        word_count: i64,
    }
    let source = || {
        let rows = Rows::new().text("event_id", events.iter().map(|row| row.event_id.as_str()));
        let (source, mut values) = rows.source(session.backend, 2);
        values.insert(0, provider.into());
        (source, values)
    };
    let (input, values) = source();
    let sql = format!(
        "SELECT w.event_id, count(*) AS word_count FROM provider_event_words w \
         WHERE w.provider = $1 AND w.event_id IN (SELECT input.event_id FROM {input}) GROUP BY w.event_id"
    );
    let mut words: HashMap<String, (i64, Vec<ListedWord>)> = HashMap::new();
    for row in session.fetch_all::<Count>(&sql, values).await? {
        words.insert(row.event_id, (row.word_count, Vec::new()));
    }
    let (input, values) = source();
    let sql = format!(
        "SELECT w.event_id, w.ref_code, w.raw_status, w.outcome FROM provider_event_words w \
         WHERE w.provider = $1 AND w.position < {MAX_LISTED_WORDS} AND w.event_id IN (SELECT input.event_id FROM {input}) \
         ORDER BY w.event_id, w.position"
    );
    for row in session.fetch_all::<WordRow>(&sql, values).await? {
        let outcome = WordOutcome::from_name(&row.outcome)
            .ok_or_else(|| Error::internal("a stored outcome of a word is unknown"))?;
        words.entry(row.event_id).or_default().1.push(ListedWord {
            ref_code: row.ref_code,
            raw_status: row.raw_status,
            outcome,
        });
    }
    Ok(words)
}

fn row_id(provider: &str, event_id: &str) -> String {
    format!("{provider}\0{event_id}")
}
