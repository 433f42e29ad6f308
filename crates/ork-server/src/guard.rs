//! What every request passes: its id, who asks, a net for panics, the form of refusals.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use ork_api::problem::Code;
use ork_core::rows::Actor;
use tracing::Instrument as _;

use crate::app::App;
use crate::random;
use crate::refused::{Refused, render};
use crate::routes;

/// The header with a request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken from a client.
const MAX_REQUEST_ID: usize = 128;

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// From this machine: over the loopback interface, or from within the process.
    pub(crate) local: bool,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) name: &'static str,
    pub(crate) request_id: Arc<str>,
    pub(crate) local: bool,
}

impl Asker {
    pub(crate) fn actor(&self, reason: Option<String>) -> Actor {
        let request_id = Some(self.request_id.to_string());
        Actor { name: self.name.to_owned(), reason, request_id, ..Actor::default() }
    }
}

/// Lets a request in, and gives its answer the id.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let span = tracing::info_span!(
        "request", id = %id, method = %request.method(), path = %request.uri().path()
    );
    let answer = async {
        match admit(&app, &request, &id) {
            Ok(asker) => {
                request.extensions_mut().insert(asker);
                answer(next.run(request)).await
            }
            Err(refused) => refused.into_response(),
        }
    };
    let mut response = answer.instrument(span.clone()).await;
    if let Some(refused) = response.extensions_mut().remove::<Refused>() {
        response = render(refused, &id);
    }
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), "answered"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn answer(response: impl Future<Output = Response>) -> Response {
    match AssertUnwindSafe(response).catch_unwind().await {
        Ok(response) => response,
        Err(_) => Refused::internal("a handler panicked").into_response(),
    }
}

fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    match given.filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID) {
        Some(id) => id.into(),
        None => random::request_id().into(),
    }
}

/// Everything needs a token, save for the routes that are open to all.
fn admit(app: &App, request: &Request, id: &Arc<str>) -> Result<Asker, Refused> {
    let local = request.extensions().get::<Origin>().is_some_and(|origin| origin.local);
    let asker = |name| Asker { name, request_id: id.clone(), local };
    if routes::is_open(request.uri().path()) {
        return Ok(asker("anonymous"));
    }
    let token = bearer(request.headers()).ok_or_else(|| {
        Refused::new(
            Code::Unauthenticated,
            "send `Authorization: Bearer TOKEN`; the token of a local server is in .ork/token",
        )
    })?;
    if app.token.is(token) {
        return Ok(asker("local"));
    }
    Err(Refused::new(Code::Unauthenticated, "the token is not known here"))
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
