//! The server itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use ork_api::types::{Health, Me};

use crate::app::App;
use crate::guard::Asker;
use crate::openapi;
use crate::refused::{Refused, Result};

/// Whether the server lives.
#[utoipa::path(get, path = "/healthz", security(()), responses((status = 200, body = Health)))]
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok".into() })
}

/// Whether the server is ready to work.
#[utoipa::path(
    get, path = "/readyz", security(()),
    responses((status = 200, body = Health), (status = 503, body = ork_api::problem::Problem))
)]
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Health>> {
    app.engine.inspect(|_| ()).await?;
    Ok(Json(Health { status: "ok".into() }))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, body = Object)))]
pub(crate) async fn openapi() -> Result<Response> {
    let document = openapi::document().map_err(Refused::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(document)).into_response())
}

/// Who asks.
#[utoipa::path(get, path = "/api/v1/me", responses((status = 200, body = Me)))]
pub(crate) async fn me(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
) -> Json<Me> {
    Json(Me {
        name: asker.name.to_owned(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        projects: vec![app.project.to_string()],
        local: asker.local,
    })
}
