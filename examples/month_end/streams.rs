//! Feeding a bidirectional stream chunk by chunk, and reading its answers.

use crate::failure::Failure;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Chunks that may be sent before the oldest of them is answered. A few keep the server busy while an answer travels; more
/// would only queue up in front of its database.
const IN_FLIGHT: usize = 4;

/// Sends chunks so that never more than a few are unanswered: one new chunk for every answer.
pub(crate) struct ChunkFeed<C: Iterator> {
    chunks: C,
    sender: Option<mpsc::Sender<C::Item>>,
}

impl<C: Iterator> ChunkFeed<C> {
    /// Puts the first chunks on the way. The stream that comes with it is the request to make the call with.
    pub(crate) async fn start(chunks: C) -> (Self, ReceiverStream<C::Item>) {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let mut feed = Self {
            chunks,
            sender: Some(sender),
        };
        for _ in 0..IN_FLIGHT {
            feed.send_next().await;
        }
        (feed, ReceiverStream::new(receiver))
    }

    /// Sends one more chunk, or ends the stream after the last one. To be called once for every answer.
    pub(crate) async fn send_next(&mut self) {
        let Some(sender) = &self.sender else { return };
        let Some(chunk) = self.chunks.next() else {
            self.sender = None;
            return;
        };
        // When the call has ended nobody takes the chunk any more; the answer's side says why.
        if sender.send(chunk).await.is_err() {
            self.sender = None;
        }
    }
}

/// Answers come in the order of the chunks, which are numbered from 0: anything else would be counted for the wrong one.
pub(crate) fn check_turn(chunk_id: &str, answered_before: usize) -> Result<(), Failure> {
    if chunk_id == answered_before.to_string() {
        return Ok(());
    }
    Err(Failure::Unexpected(format!(
        "chunk {answered_before} was to be answered, but the answer is to `{chunk_id}`"
    )))
}

/// A count of the API as a number to add up.
pub(crate) fn count(count: i32) -> Result<usize, Failure> {
    usize::try_from(count).map_err(|_| Failure::Unexpected(format!("the count {count} is negative")))
}
