//! Posts what the affiliates earned.

use crate::client::Billing;
use crate::data::Month;
use crate::failure::Failure;
use crate::streams::{ChunkFeed, check_turn, count};
use affiliate_billing::proto::{RejectedEntry, StreamEntriesRequest, StreamEntriesResponse};
use indicatif::{ProgressBar, ProgressStyle};

const CHUNK_SIZE: usize = 500;

/// Posts all entries over one stream. Answers how many were new.
///
/// An entry is known by its source and external id, so a repeat needs no request id and no book-keeping: what a run that
/// was killed had posted is answered as already posted.
pub(crate) async fn post(billing: &Billing, month: &Month) -> Result<usize, Failure> {
    let chunks = month.entries.chunks(CHUNK_SIZE);
    let progress = progress_bar(chunks.len());
    let requests = chunks.enumerate().map(|(index, entries)| StreamEntriesRequest {
        chunk_id: index.to_string(),
        entries: entries.to_vec(),
    });
    let (mut feed, stream) = ChunkFeed::start(requests).await;
    let mut answers = billing
        .balances
        .clone()
        .stream_entries(stream)
        .await
        .map_err(Failure::call("open the stream of entries"))?
        .into_inner();

    let mut tally = Tally::default();
    while let Some(answer) = answers.message().await.map_err(Failure::call("post entries"))? {
        feed.send_next().await;
        tally.add(answer)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    tally.check(month)?;
    println!(
        "entries: {} posted, {} were there already",
        tally.posted, tally.already_posted
    );
    Ok(tally.posted)
}

/// What became of the entries so far.
#[derive(Default)]
struct Tally {
    chunks: usize,
    posted: usize,
    already_posted: usize,
    rejected: Vec<RejectedEntry>,
}

impl Tally {
    fn add(&mut self, answer: StreamEntriesResponse) -> Result<(), Failure> {
        check_turn(&answer.chunk_id, self.chunks)?;
        self.chunks += 1;
        self.posted += count(answer.posted_count)?;
        self.already_posted += count(answer.already_posted_count)?;
        self.rejected.extend(answer.rejected);
        Ok(())
    }

    /// Every entry has to be answered, and none rejected: the month would be paid wrongly.
    fn check(&self, month: &Month) -> Result<(), Failure> {
        if let Some(first) = self.rejected.first() {
            return Err(Failure::Unexpected(format!(
                "{} entries were rejected, the first is {}: {} ({} {})",
                self.rejected.len(),
                first.external_id,
                first.message,
                first.reason,
                first.field
            )));
        }
        let answered = self.posted + self.already_posted;
        if answered != month.entries.len() {
            return Err(Failure::Unexpected(format!(
                "{} entries were sent and {answered} answered",
                month.entries.len()
            )));
        }
        Ok(())
    }
}

fn progress_bar(chunks: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("posting {bar:40} {pos}/{len} chunks, {eta} to go")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    // Counted in `u64`, which holds every `usize` there is today.
    let length = u64::try_from(chunks).unwrap_or(u64::MAX);
    ProgressBar::new(length).with_style(style)
}
