//! Sockets: HTTP/1.1 with limits on heads, connections and time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ork_api::problem::{Code, MEDIA_TYPE, Problem};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tower::ServiceExt as _;

use crate::guard::Origin;
use crate::limits::Limits;
use crate::start::stopped;

/// How long accepting rests when the system has no descriptor left.
const NO_DESCRIPTOR: Duration = Duration::from_millis(50);

/// Accepts connections until `stopping`, and returns when all have ended or `drain` is over.
pub(crate) async fn listen(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => break,
        };
        match accepted {
            Ok((socket, peer)) => match places.clone().try_acquire_owned() {
                Ok(place) => {
                    let connection =
                        Connection { router: router.clone(), limits: limits.clone(), peer };
                    tokio::spawn(connection.serve(socket, place, stopping.clone()));
                }
                Err(_) => drop(tokio::spawn(turn_away(socket, limits.connections))),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(NO_DESCRIPTOR).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(limits.drain, places.acquire_many(all)).await.is_err() {
        tracing::warn!("some connections were cut off");
    }
}

struct Connection {
    router: Router,
    limits: Limits,
    peer: SocketAddr,
}

impl Connection {
    async fn serve(
        self,
        socket: TcpStream,
        _place: OwnedSemaphorePermit,
        mut stopping: watch::Receiver<bool>,
    ) {
        // Without it only the last packet of an answer may come later.
        let _ = socket.set_nodelay(true);
        let origin = Origin { local: self.peer.ip().to_canonical().is_loopback() };
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(origin);
            self.router.clone().oneshot(request.map(Body::new))
        });
        let io = TokioIo::new(Prompt::new(socket, self.limits.write_timeout));
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_header_size(self.limits.head)
            .max_headers(self.limits.headers)
            .serve_connection(io, service);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stopped(&mut stopping) => {
                Pin::new(&mut connection).graceful_shutdown();
                (&mut connection).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, peer = %self.peer, "a connection ended badly");
            if error.is_timeout() {
                let mut socket = connection.into_parts().io.into_inner();
                let detail = "the request's head took too long (head_timeout)";
                let _ = socket.write_all(&bare(Code::RequestTimeout, detail)).await;
                let _ = socket.shutdown().await;
            }
        }
    }
}

async fn turn_away(mut socket: TcpStream, limit: usize) {
    let detail = format!("{limit} connections are open already (limits.connections); try again");
    let _ = socket.write_all(&bare(Code::Unavailable, &detail)).await;
    let _ = socket.shutdown().await;
}

/// An answer to a client whose request is not read.
fn bare(code: Code, detail: &str) -> Vec<u8> {
    let problem = Problem::new(code, detail);
    let body = serde_json::to_string(&problem).unwrap_or_default();
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {MEDIA_TYPE}\r\nretry-after: 1\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        problem.status,
        problem.title,
        body.len()
    )
    .into_bytes()
}

/// A socket whose reader has to take something within a time.
struct Prompt {
    socket: TcpStream,
    patience: Duration,
    waiting: bool,
    until: Pin<Box<Sleep>>,
}

impl Prompt {
    fn new(socket: TcpStream, patience: Duration) -> Self {
        Self { socket, patience, waiting: false, until: Box::pin(tokio::time::sleep(patience)) }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        if !self.waiting {
            self.waiting = true;
            self.until.as_mut().reset(Instant::now() + self.patience);
        }
        ready!(self.until.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")))
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
