//! What handlers read of a request. Each reading that fails is a refusal with a sentence.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use ork_api::problem::Code;
use ork_core::ids::ProjectId;
use ork_core::value::{Digest, Value};
use ork_engine::Key;
use ork_store::Page;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::app::App;
use crate::refused::{Refused, Result};

/// The longest idempotency key.
const MAX_KEY: usize = 255;

/// The project that the path names.
pub(crate) struct InProject(pub(crate) ProjectId);

impl FromRequestParts<Arc<App>> for InProject {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let params = RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|error| Refused::malformed(error.to_string()))?;
        let name =
            params.iter().find(|(name, _)| *name == "project").map_or("", |(_, value)| value);
        app.project(name).map(Self)
    }
}

/// The other names in the path. One that cannot be read names nothing that exists.
pub(crate) struct At<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for At<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        match Path::<T>::from_request_parts(parts, app).await {
            Ok(Path(names)) => Ok(Self(names)),
            Err(_) => Err(Refused::not_found(format_args!("`{}`", parts.uri.path()))),
        }
    }
}

/// The fields of the query; an unknown one is refused.
pub(crate) struct Fields<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Fields<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self> {
        fields(&parts.uri).map(Self)
    }
}

/// The fields of `uri`'s query.
pub(crate) fn fields<T: DeserializeOwned>(uri: &Uri) -> Result<T> {
    match Query::try_from_uri(uri) {
        Ok(Query(fields)) => Ok(fields),
        Err(error) => {
            let error =
                std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
            Err(Refused::malformed(format!("the query cannot be read: {error}")))
        }
    }
}

/// A JSON object as the body, with its idempotency key. No body at all stands for an empty one.
pub(crate) struct Sent<T> {
    pub(crate) body: T,
    pub(crate) key: Option<Key>,
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Sent<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let (parts, body) = request.into_parts();
        if parts.headers.contains_key(header::CONTENT_TYPE) {
            require_json(&parts.headers)?;
        }
        let bytes = collect(body, app.limits.body, "limits.body", app).await?;
        if !bytes.is_empty() {
            require_json(&parts.headers)?;
        }
        let key = key(&parts, &bytes)?;
        Ok(Self { body: read_json(&bytes)?, key })
    }
}

fn require_json(headers: &HeaderMap) -> Result<()> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    let is_json = |kind: &str| {
        kind.eq_ignore_ascii_case("application/json")
            || kind.to_ascii_lowercase().ends_with("+json")
    };
    if kind.is_some_and(is_json) {
        return Ok(());
    }
    Err(Refused::new(Code::UnsupportedMediaType, "send JSON with `Content-Type: application/json`"))
}

async fn collect(body: Body, limit: usize, name: &str, app: &App) -> Result<Bytes> {
    let body = Limited::new(body, limit).collect();
    match tokio::time::timeout(app.limits.body_timeout, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused::new(
            Code::TooLarge,
            format!("the body is larger than {limit} bytes ({name})"),
        )),
        Ok(Err(error)) => Err(Refused::malformed(format!("the body broke off: {error}"))),
        Err(_) => Err(Refused::new(
            Code::RequestTimeout,
            format!("the body took longer than {:?} (body_timeout)", app.limits.body_timeout),
        )),
    }
}

/// A webhook's body as it was sent, with what its sender says of it.
pub(crate) struct Delivery {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl FromRequest<Arc<App>> for Delivery {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let body = collect(body, app.limits.body, "limits.body", app).await?;
        Ok(Self { headers: parts.headers, body })
    }
}

impl Delivery {
    /// The body as a value.
    pub(crate) fn value(&self) -> Result<Value> {
        require_json(&self.headers)?;
        let read = serde_json::from_slice::<Distinct>(&self.body);
        let read = read.and_then(|_| serde_json::from_slice(&self.body));
        read.map_err(|error| Refused::malformed(format!("the body is not JSON: {error}")))
    }
}

fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    let read = serde_json::from_slice::<Distinct>(bytes).and_then(|Distinct { is_object }| {
        if is_object {
            return serde_json::from_slice(bytes);
        }
        Err(serde::de::Error::custom("it has to be an object"))
    });
    read.map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Refused::new(Code::Invalid, format!("the body is not what is read here: {error}"))
        }
        _ => Refused::malformed(format!("the body is not JSON: {error}")),
    })
}

/// JSON in which no object has a key twice: of two values one would be taken in silence.
struct Distinct {
    is_object: bool,
}

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Distinct { is_object: false })
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            entries.next_value::<Self>()?;
            if let Some(name) = names.replace(name) {
                let twice = format!("the key `{name}` is there twice");
                return Err(serde::de::Error::custom(twice));
            }
        }
        Ok(Self { is_object: true })
    }
}

/// The idempotency key, with the digest of all that the client sent.
fn key(parts: &Parts, body: &[u8]) -> Result<Option<Key>> {
    let Some(value) = parts.headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_KEY);
    let key = key.ok_or_else(|| {
        Refused::malformed(format!("Idempotency-Key: send 1 to {MAX_KEY} visible ASCII characters"))
    })?;
    let mut sent = format!("{} {}\n", parts.method, parts.uri).into_bytes();
    sent.extend_from_slice(body);
    Ok(Some(Key { key: key.to_owned(), request: Digest::of(&sent) }))
}

/// The part of a list that is wanted.
pub(crate) fn page(limit: Option<usize>, cursor: Option<String>) -> Result<Page> {
    use ork_api::types::{DEFAULT_LIMIT, MAX_LIMIT};
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Refused::malformed(format!("limit: from 1 to {MAX_LIMIT}, not {limit}")));
    }
    Ok(Page { limit, cursor })
}

/// Words with commas between, each one of a core's enum.
pub(crate) fn words<T: DeserializeOwned>(field: &str, text: Option<&str>) -> Result<Vec<T>> {
    let words = text.unwrap_or_default().split(',').filter(|word| !word.is_empty());
    words
        .map(|word| {
            serde_json::from_value(word.into()).map_err(|error: serde_json::Error| {
                let error = error.to_string();
                let known = error.split_once("expected ").map_or(&*error, |(_, known)| known);
                Refused::malformed(format!("{field}: `{word}` is none; it is {known}"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[serde(default)]
        n: u64,
        #[serde(default)]
        params: indexmap::IndexMap<String, serde_json::Value>,
    }

    #[test]
    fn a_body_is_an_object_without_a_key_twice() {
        let read = |text: &str| read_json::<Body>(text.as_bytes()).map_err(|error| error.0.detail);
        let body = read("{\"n\": 3, \"params\": {\"a\": [1, {\"b\": null}], \"c\": 1.5}}").unwrap();
        assert_eq!((body.n, body.params.len()), (3, 2));
        assert_eq!(read("").unwrap().n, 0);
        for (text, part) in [
            ("[3, {}]", "has to be an object"),
            ("null", "has to be an object"),
            ("{\"params\": {\"a\": 1, \"a\": 2}}", "the key `a` is there twice"),
            ("{\"params\": {\"a\": [{\"b\": 1, \"b\": 1}]}}", "the key `b` is there twice"),
            ("{\"n\": ", "is not JSON"),
        ] {
            let detail = read(text).unwrap_err();
            assert!(detail.contains(part), "{text}: {detail}");
        }
    }
}
