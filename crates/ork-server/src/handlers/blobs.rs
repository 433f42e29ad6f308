//! Blobs: code bundles, files, and values too large for a row.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use ork_api::problem::Code;
use ork_api::types::Blob;
use ork_core::value::{Digest, FileRef};
use ork_store::{Blobs as _, Content, StoreError};
use serde::Deserialize;
use tokio::time::timeout;

use crate::app::App;
use crate::content::serve;
use crate::extract::{At, InProject};
use crate::refused::{Refused, Result};

/// A blob in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct BlobAt {
    digest: Digest,
}

/// Whether a blob is kept. One that is will be for a day from now, whether anything refers to it or
/// not.
#[utoipa::path(
    head, path = "/api/v1/projects/{project}/blobs/{digest}",
    params(("project" = String, Path), ("digest" = String, Path)),
    responses((status = 200), (status = 404))
)]
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    _project: InProject,
    At(at): At<BlobAt>,
) -> Result<StatusCode> {
    if app.logs.blobs().touch(&at.digest).await? {
        Ok(StatusCode::OK)
    } else {
        Err(Refused::not_found(format_args!("blob {}", at.digest)))
    }
}

/// The content of a blob, or the part of it that `Range` names.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/blobs/{digest}",
    params(("project" = String, Path), ("digest" = String, Path)),
    responses(
        (status = 200, content_type = "application/octet-stream", body = [u8]),
        (status = 206, content_type = "application/octet-stream", body = [u8]),
        (status = 304), (status = 416)
    )
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    _project: InProject,
    At(at): At<BlobAt>,
    asked: HeaderMap,
) -> Result<Response> {
    let file = FileRef { digest: at.digest, name: at.digest.to_string(), size: 0 };
    serve(app.logs.blobs(), &file, &asked).await
}

/// Keeps a blob under its digest.
#[utoipa::path(
    put, path = "/api/v1/projects/{project}/blobs/{digest}",
    params(("project" = String, Path), ("digest" = String, Path)),
    request_body(content = [u8], content_type = "application/octet-stream"),
    responses((status = 201, body = Blob))
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    _project: InProject,
    At(at): At<BlobAt>,
    content: Body,
) -> Result<(StatusCode, Json<Blob>)> {
    let most = app.limits.artifact;
    let (content, ended) = parts(content, app.limits.body_timeout);
    let kept = app.logs.blobs().put_stream(content, most).await;
    let (digest, size) = match (kept, ended.get()) {
        (Ok(kept), _) => kept,
        (Err(_), Some(refused)) => return Err(refused.clone()),
        (Err(StoreError::Rejected(_)), None) => {
            let detail = format!("the content is larger than {most} bytes (limits.artifact)");
            return Err(Refused::new(Code::TooLarge, detail));
        }
        (Err(error), None) => return Err(error.into()),
    };
    if digest != at.digest {
        // It is kept under its own name until it is swept.
        return Err(Refused::field("digest", format!("the content's digest is {digest}")));
    }
    Ok((StatusCode::CREATED, Json(Blob { digest, size })))
}

/// A body part by part, each of which has to come in time, and where it is told why it broke off.
fn parts(body: Body, patience: Duration) -> (Content, Arc<OnceLock<Refused>>) {
    let ended = Arc::new(OnceLock::new());
    let why = Arc::clone(&ended);
    let parts = unfold(body.into_data_stream(), move |mut body| {
        let why = Arc::clone(&why);
        async move {
            let refused = match timeout(patience, body.next()).await {
                Ok(Some(Ok(part))) => return Some((Ok(part), body)),
                Ok(None) => return None,
                Ok(Some(Err(error))) => Refused::malformed(format!("the body broke off: {error}")),
                Err(_) => Refused::new(
                    Code::RequestTimeout,
                    format!("no part of the body came within {patience:?} (body_timeout)"),
                ),
            };
            let error = io::Error::other(refused.0.detail.clone());
            // Nothing follows the first error.
            let _ = why.set(refused);
            Some((Err(error), body))
        }
    });
    (parts.boxed(), ended)
}
