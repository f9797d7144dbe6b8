//! Sealing anew what is under an old encryption key, in short transactions while the service runs.
//!
//! What is sealed with which key is in the rows themselves: a rotation that was cut off goes on where it was, and one that has
//! nothing to do does nothing.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Billing, Call, Mutation};
use crate::domain::error::{Error, Result};
use crate::store::Tx;
use crate::store::rotation::{Batch, KeyCount, RowKey, SealedTable};

/// Rows that are sealed anew in one transaction.
const ROWS_A_BATCH: usize = 500;
/// Between batches as long as the last one took, so that others get their turn, but no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How often all tables are gone through, while there are still new rows under an old key.
const MAX_PASSES: u32 = 5;
const PASS_PAUSE: Duration = Duration::from_secs(1);
/// Rows that do not open which are told.
const MAX_DAMAGED: usize = 100;
/// In histories and logs.
const ACTOR: &str = "rotate-keys";

/// What is sealed with which key.
#[derive(Debug, Clone)]
pub struct KeyUsage {
    /// The key that writes.
    pub writing: String,
    /// Every other key that there is, in their order.
    pub others: Vec<String>,
    /// By table, the oldest first.
    pub tables: Vec<TableUsage>,
}

/// What of a table is sealed with which key.
#[derive(Debug, Clone)]
pub struct TableUsage {
    /// Its name.
    pub table: &'static str,
    /// By key.
    pub counts: Vec<KeyCount>,
}

/// How far a rotation is in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationProgress {
    /// Its name.
    pub table: &'static str,
    /// Rows under the key that writes.
    pub done: i64,
    /// All its sealed rows.
    pub total: i64,
}

/// How a rotation ended.
#[derive(Debug)]
pub struct Rotation {
    /// What is sealed with which key now.
    pub usage: KeyUsage,
    /// Rows that do not open with the key that they name: table and primary key. They are as they were.
    pub damaged: Vec<String>,
    /// Whether it was asked to stop before it was done.
    pub was_interrupted: bool,
}

#[derive(Serialize)]
struct ResealRows {
    #[serde(skip)]
    table: &'static SealedTable,
    old: String,
    after: Option<RowKey>,
}

impl Mutation for ResealRows {
    const METHOD: &'static str = "ResealRows";
    type Answer = Batch;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<Batch> {
        self.table
            .reseal(tx, &self.old, self.after.as_ref(), ROWS_A_BATCH)
            .await
    }
}

impl Billing {
    /// Counts what is sealed with which key.
    pub async fn key_usage(&self) -> Result<KeyUsage> {
        let keys = self.store.keys();
        let mut ids = keys.ids().map(ToOwned::to_owned);
        let writing = ids.next().ok_or_else(|| Error::internal("no encryption key"))?;
        let others = ids.collect();
        let reader = self.store.reader();
        let mut tables = Vec::new();
        for table in SealedTable::all() {
            tables.push(TableUsage {
                table: table.name(),
                counts: table.counts(&reader).await?,
            });
        }
        Ok(KeyUsage {
            writing,
            others,
            tables,
        })
    }

    /// Seals with the first key what is under another one, the oldest table first, and tells how far it is. Ends when nothing
    /// is left that can be sealed anew, or after the batch that is under way when it is asked to stop.
    pub async fn rotate_keys(
        &self,
        shutdown: &CancellationToken,
        mut tell: impl FnMut(RotationProgress),
    ) -> Result<Rotation> {
        // Before anything else: what was hashed can be compared only with these.
        self.store.keep_hash_keys().await?;
        let mut damaged = Vec::new();
        for pass in 1.. {
            damaged.clear();
            let usage = self.key_usage().await?;
            for (table, usage_of_table) in SealedTable::all().iter().zip(&usage.tables) {
                let mut rows = Rows::new(&usage, usage_of_table);
                tell(rows.progress);
                for old in &usage.others {
                    self.reseal_table(table, old, &mut rows, &mut tell, shutdown).await?;
                }
                damaged.append(&mut rows.damaged);
            }
            let usage = self.key_usage().await?;
            let is_done = usage.old_count() <= i64::try_from(damaged.len()).unwrap_or(i64::MAX);
            if is_done || pass == MAX_PASSES || shutdown.is_cancelled() {
                damaged.truncate(MAX_DAMAGED);
                return Ok(Rotation {
                    was_interrupted: !is_done && shutdown.is_cancelled(),
                    usage,
                    damaged,
                });
            }
            // Rows that somebody else had locked, or that were written meanwhile.
            tokio::time::sleep(PASS_PAUSE).await;
        }
        Err(Error::internal("a rotation did not end"))
    }

    async fn reseal_table(
        &self,
        table: &'static SealedTable,
        old: &str,
        rows: &mut Rows,
        tell: &mut impl FnMut(RotationProgress),
        shutdown: &CancellationToken,
    ) -> Result<()> {
        let call = Call::by_system(ACTOR);
        let mut after = None;
        while !shutdown.is_cancelled() {
            let start = Instant::now();
            let reseal = ResealRows {
                table,
                old: old.to_owned(),
                after,
            };
            let batch = self.mutate(&call, reseal).await?;
            rows.add(&batch);
            if batch.last.is_none() {
                break;
            }
            after = batch.last;
            tell(rows.progress);
            tokio::time::sleep(start.elapsed().min(LONGEST_PAUSE)).await;
        }
        Ok(())
    }
}

/// How far one table is.
struct Rows {
    progress: RotationProgress,
    damaged: Vec<String>,
}

impl Rows {
    fn new(usage: &KeyUsage, of_table: &TableUsage) -> Self {
        let sum = |counts: &mut dyn Iterator<Item = &KeyCount>| counts.map(|count| count.row_count).sum();
        let mut written = of_table.counts.iter().filter(|count| count.key_id == usage.writing);
        Self {
            progress: RotationProgress {
                table: of_table.table,
                done: sum(&mut written),
                total: sum(&mut of_table.counts.iter()),
            },
            damaged: Vec::new(),
        }
    }

    fn add(&mut self, batch: &Batch) {
        let resealed = i64::try_from(batch.resealed_count).unwrap_or(i64::MAX);
        self.progress.done = self.progress.done.saturating_add(resealed);
        // Rows that came after the count.
        self.progress.total = self.progress.total.max(self.progress.done);
        let table = self.progress.table;
        self.damaged
            .extend(batch.damaged.iter().map(|key| format!("{table} {key}")));
    }
}

impl KeyUsage {
    /// Rows that are sealed with a key, in all tables.
    #[must_use]
    pub fn count(&self, key_id: &str) -> i64 {
        let counts = self.tables.iter().flat_map(|table| &table.counts);
        let counts = counts.filter(|count| count.key_id == key_id);
        counts.map(|count| count.row_count).sum()
    }

    /// Rows under the keys that there are and do not write.
    #[must_use]
    pub fn old_count(&self) -> i64 {
        self.others.iter().map(|key_id| self.count(key_id)).sum()
    }

    /// Keys that something is sealed with and that there are not.
    #[must_use]
    pub fn missing(&self) -> Vec<&str> {
        let counts = self.tables.iter().flat_map(|table| &table.counts);
        let mut missing: Vec<&str> = counts
            .map(|count| count.key_id.as_str())
            .filter(|key_id| *key_id != self.writing && !self.others.iter().any(|other| other == key_id))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Whether everything is sealed with the key that writes.
    #[must_use]
    pub fn is_rotated(&self) -> bool {
        self.old_count() == 0 && self.missing().is_empty()
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            for count in &table.counts {
                writeln!(
                    formatter,
                    "{}: {} rows under {}",
                    table.table, count.row_count, count.key_id
                )?;
            }
        }
        for key_id in &self.others {
            match self.count(key_id) {
                0 => writeln!(
                    formatter,
                    "nothing is sealed with {key_id} any more: it may be dropped once every process writes with {}",
                    self.writing
                )?,
                count => writeln!(formatter, "{count} rows are sealed with {key_id}: keep it")?,
            }
        }
        for key_id in self.missing() {
            writeln!(
                formatter,
                "{} rows are sealed with {key_id}, which is not among the keys: nobody can read them without",
                self.count(key_id)
            )?;
        }
        Ok(())
    }
}
