//! The `OpenAPI` document, made when it is first asked for.

use std::sync::OnceLock;

use axum::body::Bytes;
use utoipa::OpenApi as _;
use utoipa::openapi::SecurityRequirement;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use crate::routes::Document;

/// The document as JSON.
pub(crate) fn document() -> Result<Bytes, serde_json::Error> {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    if let Some(document) = DOCUMENT.get() {
        return Ok(document.clone());
    }
    let mut document = Document::openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("token", bearer);
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    let document = Bytes::from(serde_json::to_vec(&document)?);
    Ok(DOCUMENT.get_or_init(|| document).clone())
}
