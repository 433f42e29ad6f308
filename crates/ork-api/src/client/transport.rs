//! The ways to a server.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::worker::Content;

/// A body, as it comes.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A body that is at hand.
pub(super) fn at_hand(content: Bytes) -> Body {
    Full::new(content).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes part by part.
pub(super) fn streamed(content: Content) -> Body {
    let frames = content.map(|part| part.map(Frame::data).map_err(Into::into));
    StreamBody::new(frames).boxed_unsync()
}

/// The server was not reached, or the connection broke before the answer's head came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TransportError(pub String);

/// A way to a server: over a socket, or within the process.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends a request, whose URI has a path and a query only, and returns the answer once its
    /// head is there.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, TransportError>;

    /// Whether an answer may be lost though the request was done.
    fn may_lose_answers(&self) -> bool;
}

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer's head may be awaited until the server is asked whether it lives, and how
/// long it may take to say so. One that lives may take as long as it needs.
const SILENCE: Duration = Duration::from_secs(5);

/// HTTP/1.1 over TCP, without TLS.
#[derive(Clone, Debug)]
pub struct Http {
    pool: Pool<HttpConnector, Body>,
    base: String,
}

impl Http {
    /// The way to the server at `url`: `http://host:port`, and a path where a proxy adds one.
    ///
    /// # Errors
    /// Where `url` is none, or is `https`.
    pub fn new(url: &str) -> Result<Self, TransportError> {
        let refuse = |why: &str| Err(TransportError(format!("`{url}` {why}")));
        let Ok(uri) = url.parse::<Uri>() else { return refuse("is not a URL") };
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return refuse(
                    "is https, and this version of Ork has no TLS; use http on a trusted network \
                     or through a tunnel",
                );
            }
            _ => return refuse("is not a server's URL; it looks like http://127.0.0.1:7070"),
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let pool =
            Pool::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { pool, base: url.trim_end_matches('/').to_owned() })
    }
}

impl Http {
    /// Whether the server answers anything at all.
    async fn lives(&self) -> bool {
        let Ok(uri) = format!("{}/healthz", self.base).parse() else { return false };
        let mut request = Request::new(at_hand(Bytes::new()));
        *request.uri_mut() = uri;
        let asked = tokio::time::timeout(SILENCE, self.pool.request(request)).await;
        asked.is_ok_and(|answer| answer.is_ok())
    }
}

#[async_trait]
impl Transport for Http {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let (mut head, body) = request.into_parts();
        head.uri = format!("{}{}", self.base, head.uri)
            .parse()
            .map_err(|error| TransportError(format!("cannot write the URL: {error}")))?;
        let request = Request::from_parts(head, body);
        let answer = self.pool.request(request);
        tokio::pin!(answer);
        let answer = loop {
            if let Ok(answer) = tokio::time::timeout(SILENCE, &mut answer).await {
                break answer;
            }
            if !self.lives().await {
                return Err(TransportError(format!(
                    "{} takes connections but answers nothing; is its process stopped?",
                    self.base
                )));
            }
        };
        match answer {
            Ok(response) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
            Err(error) => Err(TransportError(format!(
                "cannot reach {}: {}; is a server running there?",
                self.base,
                root(&error)
            ))),
        }
    }

    fn may_lose_answers(&self) -> bool {
        true
    }
}

/// The innermost cause, which is what a person can act on.
fn root(error: &dyn std::error::Error) -> &dyn std::error::Error {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, refusal) in [
            ("http://127.0.0.1:7070", None),
            ("http://h/prefix/", None),
            ("https://h", Some("has no TLS")),
            ("h:7070", Some("not a server's URL")),
            ("ftp://h", Some("not a server's URL")),
            ("http://a b", Some("not a URL")),
        ] {
            let message = Http::new(url).err().map(|error| error.0);
            match refusal {
                None => assert_eq!(message, None),
                Some(part) => {
                    assert!(message.as_ref().is_some_and(|m| m.contains(part)), "{message:?}");
                }
            }
        }
    }
}
