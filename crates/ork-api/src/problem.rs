//! The error body: RFC 9457 `application/problem+json`.

use std::fmt;

use ork_core::lang::Diagnostic;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Stable, for programs.
    pub code: Code,
    /// The status in words.
    pub title: String,
    /// A sentence that names the thing and the next step.
    pub detail: String,
    /// The request's id, as in `X-Request-Id` and in the server's log.
    #[serde(default)]
    pub request_id: String,
    /// For 422: what is wrong, field by field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// For a workflow that has errors: all findings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = crate::schema::diagnostics)]
    pub diagnostics: Vec<Diagnostic>,
}

impl Problem {
    /// A problem with a sentence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let status = code.status();
        let title = http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Error");
        Self {
            status,
            code,
            title: title.to_owned(),
            detail: detail.into(),
            request_id: String::new(),
            errors: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// The same problem with what is wrong field by field.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.errors {
            [only] if self.detail.ends_with(&only.message) => return f.write_str(&self.detail),
            _ => f.write_str(self.detail.trim_end_matches("; see `errors`"))?,
        }
        self.errors.iter().try_for_each(|error| write!(f, "\n  {}: {}", error.field, error.message))
    }
}

impl std::error::Error for Problem {}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// The field's place in the request: `params.day`, `tasks[0]`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal;)*) => {
        /// The kinds of problem. Each has one status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A kind that this client does not know; the status tells the rest.
            #[serde(other)]
            Unknown,
        }

        impl Code {
            /// Every kind that a server sends.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Unknown => 500,
                }
            }
        }
    };
}

codes! {
    /// The request cannot be read: its JSON, a query parameter, a header.
    Malformed = 400;
    /// No token, or one that is not known.
    Unauthenticated = 401;
    /// The token does not allow it.
    Forbidden = 403;
    /// There is no such thing, or it may not be seen.
    NotFound = 404;
    /// The path exists, the method does not.
    MethodNotAllowed = 405;
    /// The request's head or body did not come in time.
    RequestTimeout = 408;
    /// The state does not allow it.
    Conflict = 409;
    /// A token of an attempt that is not the current one.
    StaleLease = 409;
    /// The workflow was deleted; a deploy brings it back.
    WorkflowDeleted = 409;
    /// It is not any more what `If-Match` names.
    PreconditionFailed = 412;
    /// The body is larger than the limit that the sentence names.
    TooLarge = 413;
    /// The body is not of the media type that is read here.
    UnsupportedMediaType = 415;
    /// None of the range that was asked for is there.
    RangeNotSatisfiable = 416;
    /// The fields are read, but their values are not accepted.
    Invalid = 422;
    /// The workflow has errors; see `diagnostics`.
    WorkflowInvalid = 422;
    /// The idempotency key was used before with another request.
    IdempotencyKeyReused = 422;
    /// A limit on work under way is reached; later it may go.
    LimitReached = 429;
    /// The request's head is larger than the limit.
    HeadTooLarge = 431;
    /// A mistake of the server; its log has more under the request's id.
    Internal = 500;
    /// Not now: no leader is known, or the server is stopping. Safe to repeat.
    Unavailable = 503;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_a_newer_server_is_read_as_unknown() {
        let body = r#"{"status":418,"code":"teapot","title":"t","detail":"d"}"#;
        let problem: Problem = serde_json::from_str(body).unwrap();
        assert_eq!((problem.status, problem.code), (418, Code::Unknown));
    }

    #[test]
    fn every_code_has_a_status_with_a_name() {
        for code in Code::ALL {
            let problem = Problem::new(*code, "x");
            assert_ne!(problem.title, "Error", "{code:?}");
        }
    }
}
