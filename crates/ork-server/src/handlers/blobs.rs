//! Blobs: code bundles, and values too large for a row.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ork_api::types::Blob;
use ork_core::value::Digest;
use ork_store::Blobs as _;
use serde::Deserialize;

use crate::app::App;
use crate::extract::{At, Content, InProject};
use crate::refused::{Refused, Result};

/// A blob in the path.
#[derive(Debug, Deserialize)]
pub(crate) struct BlobAt {
    digest: Digest,
}

/// Whether a blob is kept.
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
    if app.logs.blobs().size(&at.digest).await?.is_some() {
        Ok(StatusCode::OK)
    } else {
        Err(Refused::not_found(format_args!("blob {}", at.digest)))
    }
}

/// The content of a blob.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/blobs/{digest}",
    params(("project" = String, Path), ("digest" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = [u8]))
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    _project: InProject,
    At(at): At<BlobAt>,
) -> Result<Response> {
    let content = app.logs.blobs().get(&at.digest).await?;
    let content = content.ok_or_else(|| Refused::not_found(format_args!("blob {}", at.digest)))?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::from(content)).into_response())
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
    Content(content): Content,
) -> Result<(StatusCode, Json<Blob>)> {
    let size = content.len() as u64;
    if Digest::of(&content) != at.digest {
        return Err(Refused::field(
            "digest",
            format!("the content's digest is {}", Digest::of(&content)),
        ));
    }
    let digest = app.logs.blobs().put(content).await?;
    Ok((StatusCode::CREATED, Json(Blob { digest, size })))
}
