//! Entries: post and list.
//!
//! Entries of a call are decided one after the other, as if each were posted alone, and written together: accruals in key
//! order, then entries in key order. Where another call takes a key meanwhile, the whole is decided again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::page::{Page, PageRequest};
use super::{Billing, Call, Mutation, posting_queue};
use crate::domain::currency::Currency;
use crate::domain::entries::{AccrualKey, Entry, EntryKey, EntryOutcome, NewEntry, RejectReason, Rejection};
use crate::domain::error::{Error, Result, StoreFailure};
use crate::domain::ids::{AccountId, new_id};
use crate::domain::money::{Amount, MAX_BALANCE_UNITS, MAX_SIDE_UNITS};
use crate::domain::time::{Date, Timestamp};
use crate::store::accruals::{self, Addition, Sides};
use crate::store::entries as store;
pub use crate::store::entries::EntryFilter;
use crate::store::{Tx, account_settlements};

const LIST: &str = "ListEntries";
/// From this balance on, posters to one account wait for each other, so that together they can't pass the limit.
const NEAR_LIMIT_UNITS: i64 = MAX_BALANCE_UNITS / 100;

/// Posts entries: each is either well formed or already known to be rejected.
#[derive(Debug, Clone, Serialize)]
pub struct PostEntries {
    /// In the order of the request.
    #[serde(serialize_with = "canonical_entries")]
    pub entries: Vec<std::result::Result<NewEntry, Rejection>>,
}

/// The entries as they are hashed: of a malformed one why and where, but not in which words, which another version may choose
/// otherwise.
fn canonical_entries<S: Serializer>(
    entries: &[std::result::Result<NewEntry, Rejection>],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    let canonical = |entry: &'_ std::result::Result<NewEntry, Rejection>| {
        entry.clone().map_err(|rejection| (rejection.reason, rejection.field))
    };
    serializer.collect_seq(entries.iter().map(canonical))
}

impl Mutation for PostEntries {
    const METHOD: &'static str = "PostEntries";
    type Answer = Vec<EntryOutcome>;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<Vec<EntryOutcome>> {
        let mut ledger = Ledger::read(tx, &self.entries).await?;
        let mut decided = ledger.clone().decide(&self.entries)?;
        if !decided.near_limit.is_empty() {
            let pairs: Vec<(AccountId, Currency)> = decided.near_limit.into_iter().collect();
            accruals::serialize_near_limit(tx, &pairs).await?;
            ledger.sides = accruals::sides(tx, &pairs_of(&self.entries)).await?;
            decided = ledger.decide(&self.entries)?;
        }
        write(tx, &decided.accepted).await?;
        Ok(decided.outcomes)
    }
}

impl Billing {
    /// Posts entries in one transaction, which small calls may share, and answers each in order.
    pub async fn post_entries(&self, call: &Call, request: PostEntries) -> Result<Vec<EntryOutcome>> {
        if posting_queue::may_share(call, &request) {
            let store = self.store.clone();
            let weight = request.entries.len();
            let write = move |together| posting_queue::write(store.clone(), together);
            return self.posting.handle((call.clone(), request), weight, write).await;
        }
        self.mutate(call, request).await
    }

    /// Lists entries in the order in which they were posted.
    pub async fn list_entries(&self, filter: &EntryFilter, page: &PageRequest) -> Result<Page<Entry>> {
        let after: Option<Uuid> = self.read_token(LIST, filter, page)?;
        let reader = self.store.reader();
        if let Some(id) = filter.account_settlement_id {
            account_settlements::find(&reader, id)
                .await?
                .ok_or_else(|| super::account_settlement_not_found(id))?;
        }
        let entries = store::list(&reader, filter, after, page.limit()).await?;
        self.page_of(LIST, filter, page, entries, |entry| entry.id)
    }
}

/// What is known of the ledger while a call's entries are decided, with the effect of those decided before.
#[derive(Clone)]
struct Ledger {
    today: Date,
    known: HashMap<EntryKey, Known>,
    taken_back: HashMap<Uuid, Amount>,
    sides: HashMap<(AccountId, Currency), Sides>,
}

#[derive(Clone)]
struct Known {
    id: Uuid,
    content: NewEntry,
    accrual: AccrualKey,
}

struct Accepted<'a> {
    id: Uuid,
    entry: &'a NewEntry,
    accrual: AccrualKey,
    reverses_entry_id: Option<Uuid>,
}

struct Decided<'a> {
    outcomes: Vec<EntryOutcome>,
    accepted: Vec<Accepted<'a>>,
    near_limit: BTreeSet<(AccountId, Currency)>,
}

impl Ledger {
    async fn read(tx: &Tx, entries: &[std::result::Result<NewEntry, Rejection>]) -> Result<Self> {
        let mut keys = BTreeSet::new();
        let mut reversed_keys = BTreeSet::new();
        for entry in entries.iter().flatten() {
            keys.insert(&entry.key);
            reversed_keys.extend(entry.reverses.as_ref());
        }
        keys.extend(&reversed_keys);
        let found = if keys.is_empty() {
            HashMap::new()
        } else {
            store::find(tx, &keys.into_iter().collect::<Vec<_>>()).await?
        };
        let mut reversed_ids: Vec<Uuid> = reversed_keys
            .into_iter()
            .filter_map(|key| found.get(key))
            .map(|entry| entry.id)
            .collect();
        reversed_ids.sort_unstable();
        let taken_back = if reversed_ids.is_empty() {
            HashMap::new()
        } else {
            // Locked in one statement, added up in the next: what a concurrent clawback committed meanwhile is then seen.
            store::lock(tx, &reversed_ids).await?;
            store::taken_back(tx, &reversed_ids).await?
        };
        let pairs = pairs_of(entries);
        let sides = if pairs.is_empty() {
            HashMap::new()
        } else {
            accruals::sides(tx, &pairs).await?
        };
        let known = found
            .into_iter()
            .map(|(key, entry)| {
                (
                    key,
                    Known {
                        id: entry.id,
                        content: entry.content,
                        accrual: entry.accrual,
                    },
                )
            })
            .collect();
        Ok(Self {
            today: Date::today(),
            known,
            taken_back,
            sides,
        })
    }

    fn decide(mut self, entries: &[std::result::Result<NewEntry, Rejection>]) -> Result<Decided<'_>> {
        let mut decided = Decided {
            outcomes: Vec::with_capacity(entries.len()),
            accepted: Vec::new(),
            near_limit: BTreeSet::new(),
        };
        for entry in entries {
            let outcome = match entry {
                Err(rejection) => EntryOutcome::Rejected(rejection.clone()),
                Ok(entry) => self.decide_one(entry, &mut decided)?,
            };
            decided.outcomes.push(outcome);
        }
        Ok(decided)
    }

    fn decide_one<'a>(&mut self, entry: &'a NewEntry, decided: &mut Decided<'a>) -> Result<EntryOutcome> {
        if let Some(known) = self.known.get(&entry.key) {
            return Ok(if known.content == *entry {
                EntryOutcome::AlreadyPosted
            } else {
                rejected(
                    RejectReason::ExternalIdConflict,
                    "external_id",
                    "was posted before with other content: use a new id for a new entry",
                )
            });
        }
        let reversed = match self.reversed_by(entry)? {
            Ok(reversed) => reversed,
            Err(rejection) => return Ok(EntryOutcome::Rejected(rejection)),
        };
        let accrual = entry.accrual_key(reversed.as_ref().map(|known| &known.accrual), self.today);
        let Some(sides) = self.sides_with(entry)? else {
            return Ok(rejected(
                RejectReason::BalanceLimitExceeded,
                "money.amount",
                "would bring the account's balance in this currency beyond 10^12 units: settle it first",
            ));
        };
        let pair = (entry.account_id.clone(), entry.money.currency);
        if sides.credits.checked_sub(sides.debits)? > Amount::from_units(NEAR_LIMIT_UNITS) {
            decided.near_limit.insert(pair.clone());
        }
        self.sides.insert(pair, sides);
        let reverses_entry_id = reversed.map(|known| known.id);
        if let Some(id) = reverses_entry_id {
            let taken_back = self.taken_back.get(&id).copied().unwrap_or_default();
            self.taken_back.insert(id, taken_back.checked_add(entry.money.amount)?);
        }
        let id = new_id();
        self.known.insert(
            entry.key.clone(),
            Known {
                id,
                content: entry.clone(),
                accrual: accrual.clone(),
            },
        );
        decided.accepted.push(Accepted {
            id,
            entry,
            accrual,
            reverses_entry_id,
        });
        Ok(EntryOutcome::Posted)
    }

    /// The entry that a clawback takes back, or why it can't.
    fn reversed_by(&self, entry: &NewEntry) -> Result<std::result::Result<Option<Known>, Rejection>> {
        let Some(key) = &entry.reverses else {
            return Ok(Ok(None));
        };
        let reject = |reason, message| Ok(Err(Rejection::new(reason, "reverses_external_id", message)));
        let Some(known) = self.known.get(key) else {
            return reject(
                RejectReason::ReversedEntryNotFound,
                "names an entry that is not there: post it first",
            );
        };
        let reversed = &known.content;
        if !reversed.kind.can_be_reversed() || !reversed.money.amount.is_positive() {
            return reject(
                RejectReason::ReversedEntryMismatch,
                "names an entry that can't be taken back: it must be a commission, bonus or positive adjustment",
            );
        }
        if reversed.account_id != entry.account_id || reversed.money.currency != entry.money.currency {
            return reject(
                RejectReason::ReversedEntryMismatch,
                "names an entry of another account or currency",
            );
        }
        let taken_back = self.taken_back.get(&known.id).copied().unwrap_or_default();
        let left = reversed
            .money
            .amount
            .checked_add(taken_back)?
            .checked_add(entry.money.amount)?;
        if left.is_negative() {
            return Ok(Err(Rejection::new(
                RejectReason::ClawbackExceedsEntry,
                "money.amount",
                "would take back more than what is left of the entry that it names",
            )));
        }
        Ok(Ok(Some(known.clone())))
    }

    /// What would be open with the entry; `None` beyond the limits.
    fn sides_with(&self, entry: &NewEntry) -> Result<Option<Sides>> {
        let pair = (entry.account_id.clone(), entry.money.currency);
        let mut sides = self.sides.get(&pair).copied().unwrap_or_default();
        let amount = entry.money.amount;
        if amount.is_negative() {
            sides.debits = sides.debits.checked_add(amount)?;
        } else {
            sides.credits = sides.credits.checked_add(amount)?;
        }
        let limit = Amount::from_units(MAX_BALANCE_UNITS);
        let side_limit = Amount::from_units(MAX_SIDE_UNITS);
        let net = sides.credits.checked_add(sides.debits)?;
        // An entry that brings a balance back towards zero is always welcome.
        let worse = net.is_negative() == amount.is_negative();
        let grown_side = if amount.is_negative() {
            sides.debits.magnitude()
        } else {
            sides.credits
        };
        let beyond = (worse && net.magnitude() > limit) || grown_side > side_limit;
        Ok((!beyond).then_some(sides))
    }
}

async fn write(tx: &Tx, accepted: &[Accepted<'_>]) -> Result<()> {
    if accepted.is_empty() {
        return Ok(());
    }
    let mut additions: BTreeMap<&AccrualKey, (Amount, i64)> = BTreeMap::new();
    for entry in accepted {
        let (amount, count) = additions.entry(&entry.accrual).or_default();
        *amount = amount.checked_add(entry.entry.money.amount)?;
        *count += 1;
    }
    let additions: Vec<Addition> = additions
        .into_iter()
        .map(|(key, (amount, entry_count))| Addition {
            key: key.clone(),
            amount,
            entry_count,
        })
        .collect();
    let accrual_ids = accruals::add(tx, &additions).await?;
    let mut rows = Vec::with_capacity(accepted.len());
    for entry in accepted {
        let accrual_id = *accrual_ids
            .get(&entry.accrual)
            .ok_or_else(|| Error::internal("an accrual was not answered"))?;
        rows.push(store::EntryRow {
            id: entry.id,
            accrual_id,
            entry: entry.entry,
            reverses_entry_id: entry.reverses_entry_id,
        });
    }
    // In key order: two calls that insert the same keys in different orders would wait for each other.
    rows.sort_by(|one, other| one.entry.key.cmp(&other.entry.key));
    let inserted = store::insert(tx, &rows, Timestamp::now()).await?;
    if inserted != rows.len() as u64 {
        // Another call posted one of them since it was looked up: undo, and decide again with that one known.
        return Err(Error::Store(StoreFailure::Contention(
            "an entry was posted meanwhile".to_owned(),
        )));
    }
    Ok(())
}

fn pairs_of(entries: &[std::result::Result<NewEntry, Rejection>]) -> Vec<(AccountId, Currency)> {
    let pairs: BTreeSet<(AccountId, Currency)> = entries
        .iter()
        .flatten()
        .map(|entry| (entry.account_id.clone(), entry.money.currency))
        .collect();
    pairs.into_iter().collect()
}

fn rejected(reason: RejectReason, field: &str, message: &str) -> EntryOutcome {
    EntryOutcome::Rejected(Rejection::new(reason, field, message))
}
