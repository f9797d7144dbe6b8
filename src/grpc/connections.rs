//! Connections for tonic to serve: what opens one is bounded in time, and TLS handshakes, in tasks of their own, in number too.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::authentication::transport::{Transport, certificate_name};

/// How long a TLS handshake may take, and after it, or without TLS, the client's part of HTTP/2's opening.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// What a client of HTTP/2 sends first, at least: the preface, and the head of its settings. Until then the protocol's own pings do
/// not find out who says nothing.
const OPENING_BYTES: usize = 24 + 9;
/// Handshakes at once. A connection beyond them is closed, not made to wait: those who open connections and say nothing would
/// otherwise hold up everybody.
pub const MAX_HANDSHAKES: usize = 1024;
/// Connections that may wait to be served after their handshake.
const CONNECTIONS_WAITING: usize = 16;
/// How long nothing is accepted after accepting failed: out of files, or the like.
const PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection over TLS.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// The name in its certificate, which was checked; none without a certificate, or without a name in it.
    pub(crate) certificate_name: Option<Arc<str>>,
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct TlsConnection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

/// Accepts until `shutdown`, or until nobody takes the connections any more. Each handshake is done with the certificates of its
/// time: those that change later do not touch it.
pub(crate) fn accept(
    listener: TcpListener,
    transport: Transport,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<TlsConnection>> {
    let (sender, receiver) = mpsc::channel(CONNECTIONS_WAITING);
    let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        tracing::debug!(%address, "a connection was closed: too many handshakes are under way");
                        continue;
                    };
                    let acceptor = TlsAcceptor::from(transport.current());
                    tokio::spawn(hand_over(acceptor, stream, address, place, sender.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// A connection that ends unless its client opens HTTP/2 within [`HANDSHAKE_TIME`]. hyper has no such limit.
#[derive(Debug)]
pub(crate) struct Opened<S> {
    stream: S,
    /// What is still to come, and until when; none once it is open.
    opening: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> Opened<S> {
    pub(crate) fn new(stream: S) -> Self {
        let deadline = Box::pin(tokio::time::sleep(HANDSHAKE_TIME));
        Self {
            stream,
            opening: Some((OPENING_BYTES, deadline)),
        }
    }
}

impl<S: Connected> Connected for Opened<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some((_, deadline)) = &mut this.opening
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if let Some((missing, _)) = &mut this.opening {
            *missing = missing.saturating_sub(buffer.filled().len().saturating_sub(before));
            if *missing == 0 {
                this.opening = None;
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opened<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

async fn hand_over(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
    sender: mpsc::Sender<io::Result<TlsConnection>>,
) {
    // Without it small answers would wait for the acknowledgement of those before; that it can't be set is no reason to refuse.
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            drop(place);
            // It fails when the server has ended.
            let _ = sender.send(Ok(TlsConnection::new(stream, address))).await;
        }
        Ok(Err(error)) => tracing::info!(%address, %error, "a TLS handshake failed"),
        Err(_elapsed) => tracing::info!(%address, "a TLS handshake took too long"),
    }
}

impl TlsConnection {
    fn new(stream: TlsStream<TcpStream>, address: SocketAddr) -> Self {
        let (_, session) = stream.get_ref();
        let certificate = session
            .peer_certificates()
            .and_then(|certificates| certificates.first());
        let peer = Peer {
            address,
            certificate_name: certificate.and_then(certificate_name).map(Arc::from),
        };
        Self { stream, peer }
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
