//! Streams of chunks: each is handled and answered before the next one is taken.

use std::future::Future;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};

use super::deadline;
use super::status::{from_error, from_transport};
use crate::domain::error::{Error, Reason};

/// Answers that may wait for a slow reader. Then its stream stops taking chunks, and HTTP/2's flow control stops the sender.
const ANSWERS_WAITING: usize = 4;

/// What a stream of answers is.
pub(crate) type Answers<T> = ReceiverStream<Result<T, Status>>;

/// Answers each chunk of a request stream in order. An error ends the stream after the answers before it; so do the end of the
/// requests, the caller's deadline and a shutdown, which let the chunk that is under way finish.
pub(crate) fn answer_chunks<Q, A, F, W>(
    request: Request<Streaming<Q>>,
    shutdown: CancellationToken,
    handle: F,
) -> Answers<A>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Fn(Q) -> W + Send + 'static,
    W: Future<Output = Result<A, Status>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(ANSWERS_WAITING);
    let deadline = deadline::of(request.metadata().as_ref());
    let mut chunks = request.into_inner();
    tokio::spawn(async move {
        // A place for the answer first: nothing is done whose answer could not be given. It fails when the caller is gone.
        while let Ok(place) = sender.reserve().await {
            let chunk = tokio::select! {
                biased;
                () = shutdown.cancelled() => Err(from_error(shutting_down())),
                () = deadline::passed(deadline) => Err(deadline::exceeded()),
                chunk = chunks.message() => chunk.map_err(from_transport),
            };
            let answer = match chunk {
                Ok(Some(chunk)) => unless_panicked(handle(chunk)).await,
                Ok(None) => break,
                Err(status) => Err(status),
            };
            let failed = answer.is_err();
            place.send(answer);
            if failed {
                break;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Gives answers as long as there are any: `next` gets the number of the chunk, from 0, and says what comes, or that all is said.
pub(crate) fn answer_until_done<A, S, F, W>(
    deadline: Option<Instant>,
    shutdown: CancellationToken,
    start: S,
    next: F,
) -> Answers<A>
where
    A: Send + 'static,
    S: Send + 'static,
    F: Fn(i64, S) -> W + Send + 'static,
    W: Future<Output = Result<Option<(A, S)>, Status>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(ANSWERS_WAITING);
    tokio::spawn(async move {
        let mut state = start;
        let mut number = 0;
        while let Ok(place) = sender.reserve().await {
            if shutdown.is_cancelled() {
                place.send(Err(from_error(shutting_down())));
                break;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                place.send(Err(deadline::exceeded()));
                break;
            }
            match unless_panicked(next(number, state)).await {
                Ok(Some((answer, following))) => {
                    place.send(Ok(answer));
                    state = following;
                    number += 1;
                }
                Ok(None) => break,
                Err(status) => {
                    place.send(Err(status));
                    break;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// In a task of its own: a stream whose chunk ended abnormally must not look as if all were answered.
async fn unless_panicked<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    let abnormal = |error| from_error(Error::internal(format!("a chunk ended abnormally: {error}")));
    tokio::spawn(work).await.map_err(abnormal)?
}

fn shutting_down() -> Error {
    Error::refused(
        Reason::ShuttingDown,
        "the server shuts down: send again from the first unanswered chunk, with its request id",
    )
}
