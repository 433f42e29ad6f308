//! Refusals on their way out.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ork_api::problem::{Code, FieldError, MEDIA_TYPE, Problem};
use ork_core::run::RefusalCode;
use ork_store::StoreError;

/// A handler's refusal. The guard puts the request's id into it and writes the body.
#[derive(Clone, Debug)]
pub(crate) struct Refused(pub(crate) Box<Problem>);

/// The result of a handler.
pub(crate) type Result<T> = std::result::Result<T, Refused>;

impl Refused {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }

    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what}"))
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Code::Malformed, detail)
    }

    /// One field whose value is not accepted.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { field: field.into(), message: message.into() }])
    }

    pub(crate) fn fields(errors: Vec<FieldError>) -> Self {
        let detail = match &errors[..] {
            [one] => format!("`{}`: {}", one.field, one.message),
            several => format!("{} fields are not accepted; see `errors`", several.len()),
        };
        Self(Box::new(Problem::new(Code::Invalid, detail).with_errors(errors)))
    }

    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(Code::Internal, "the server failed; its log says more under this request's id")
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Retryable(_) | StoreError::Unknown(_) | StoreError::Fenced { .. } => {
                Self::new(Code::Unavailable, format!("{error}; repeat the request"))
            }
            StoreError::Malformed(words) => Self::malformed(words),
            StoreError::Rejected(_) => Self::internal(error),
        }
    }
}

impl From<ork_engine::Error> for Refused {
    fn from(error: ork_engine::Error) -> Self {
        match error {
            ork_engine::Error::Refused(refusal) => {
                let code = match refusal.code {
                    RefusalCode::NotFound => Code::NotFound,
                    RefusalCode::StaleLease => Code::StaleLease,
                    RefusalCode::Conflict => Code::Conflict,
                    RefusalCode::LimitReached => Code::LimitReached,
                    RefusalCode::KeyReused => Code::IdempotencyKeyReused,
                    RefusalCode::Invalid => Code::Invalid,
                    RefusalCode::Forbidden => Code::Forbidden,
                    RefusalCode::Changed => Code::PreconditionFailed,
                    RefusalCode::Deleted => Code::WorkflowDeleted,
                };
                Self::new(code, refusal.message)
            }
            ork_engine::Error::Rejected(_) => Self::new(Code::Invalid, error.to_string()),
            ork_engine::Error::Unavailable(_) | ork_engine::Error::Stopped => {
                Self::new(Code::Unavailable, error.to_string())
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        if let Ok(status) = StatusCode::from_u16(self.0.status) {
            *response.status_mut() = status;
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The refusal's answer as it is sent.
pub(crate) fn render(mut refused: Refused, request_id: &str) -> Response {
    request_id.clone_into(&mut refused.0.request_id);
    let status = StatusCode::from_u16(refused.0.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = (status, Json(&refused.0)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    match refused.0.code {
        Code::Unavailable | Code::LimitReached => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Code::Unauthenticated => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        _ => {}
    }
    response
}
