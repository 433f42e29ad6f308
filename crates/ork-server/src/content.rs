//! Blobs as the body of an answer: whole or in part, never whole in memory.

use std::ops::Range;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use ork_api::encode::segment;
use ork_api::problem::Code;
use ork_core::value::{Digest, FileRef};
use ork_store::{Blobs as _, FileBlobs};

use crate::refused::{Refused, Result};

/// How much is read at a time.
const PART: u64 = 1 << 20;

/// What part of a content is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<u64>),
    /// None of it is there.
    Nothing,
}

/// Answers with a file, or with the part of it that `Range` names. Its digest is its `ETag`, so that
/// `If-None-Match` and `If-Range` are exact.
pub(crate) async fn serve(
    blobs: &Arc<FileBlobs>,
    file: &FileRef,
    asked: &HeaderMap,
) -> Result<Response> {
    let size = blobs.size(&file.digest).await?;
    let size = size.ok_or_else(|| Refused::not_found(format_args!("blob {}", file.digest)))?;
    let tag = format!("\"{}\"", file.digest);
    if asked.get(header::IF_NONE_MATCH).is_some_and(|tags| has_tag(tags, &tag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let (status, part) = match wanted(asked, &tag, size) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Nothing => {
            let detail = format!("the file has {size} bytes; ask for a range within");
            return Err(Refused::new(Code::RangeNotSatisfiable, detail));
        }
    };
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if status == StatusCode::PARTIAL_CONTENT {
        let (from, to) = (part.start, part.end - 1);
        set(header::CONTENT_RANGE, &format!("bytes {from}-{to}/{size}"));
    }
    set(header::CONTENT_LENGTH, &(part.end - part.start).to_string());
    set(header::CONTENT_TYPE, "application/octet-stream");
    set(header::CONTENT_DISPOSITION, &disposition(&file.name));
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::ACCEPT_RANGES, "bytes");
    set(header::ETAG, &tag);
    Ok((status, headers, body(Arc::clone(blobs), file.digest, part)).into_response())
}

/// The bytes, part by part, as fast as the client takes them.
fn body(blobs: Arc<FileBlobs>, digest: Digest, range: Range<u64>) -> Body {
    Body::from_stream(unfold(Some(range), move |left| {
        let blobs = Arc::clone(&blobs);
        async move {
            let left = left.filter(|left| !left.is_empty())?;
            let end = left.end.min(left.start + PART);
            let read = blobs.get_range(&digest, left.start..end).await;
            match read.map_err(|error| error.to_string()) {
                Ok(Some(part)) if part.len() as u64 == end - left.start => {
                    Some((Ok::<Bytes, String>(part), Some(end..left.end)))
                }
                Ok(_) => Some((Err(format!("blob {digest} is not whole")), None)),
                Err(error) => Some((Err(error), None)),
            }
        }
    }))
}

fn has_tag(tags: &HeaderValue, tag: &str) -> bool {
    let tags = tags.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.map(|known| known.strip_prefix("W/").unwrap_or(known)).any(|t| t == tag || t == "*")
}

/// Reads `Range`. Several ranges, and units that are not known, are answered whole (RFC 9110, 14.2).
fn wanted(asked: &HeaderMap, tag: &str, size: u64) -> Wanted {
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|same| same != tag) {
        return Wanted::Whole;
    }
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((from, to)) = range.trim().split_once('-') else { return Wanted::Whole };
    let part = match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => from..to.saturating_add(1).min(size),
        (Ok(from), Err(_)) if to.is_empty() => from..size,
        (Err(_), Ok(last)) if from.is_empty() => size.saturating_sub(last)..size,
        _ => return Wanted::Whole,
    };
    if part.is_empty() { Wanted::Nothing } else { Wanted::Part(part) }
}

/// The name under which a browser keeps it (RFC 6266): its last part, in ASCII and in full.
fn disposition(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    let plain =
        |c: char| if c == ' ' || c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", segment(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-3", Wanted::Part(0..4)),
            ("bytes=4-", Wanted::Part(4..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=8-99", Wanted::Part(8..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=3-1", Wanted::Whole),
            ("bytes=0-1,4-5", Wanted::Whole),
            ("bytes=x-y", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
        ] {
            let mut asked = HeaderMap::new();
            asked.insert(header::RANGE, range.parse().unwrap());
            assert_eq!(wanted(&asked, "\"a\"", 10), expected, "{range}");
            asked.insert(header::IF_RANGE, "\"b\"".parse().unwrap());
            assert_eq!(wanted(&asked, "\"a\"", 10), Wanted::Whole, "{range}");
        }
    }

    #[test]
    fn names_are_safe_in_a_header() {
        assert_eq!(
            disposition("plots/a \"ü\".png"),
            "attachment; filename=\"a ___.png\"; filename*=UTF-8''a%20%22%C3%BC%22.png"
        );
    }
}
