//! Names and values in paths and queries.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

/// `text` as one segment of a path, or as a name or value in a query.
pub fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The text that [`segment`] made; none for what is no such text.
pub fn unsegment(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (high, low) = (rest.next()?, rest.next()?);
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// The fields of `fields` as a query, with its `?`; empty where there are none.
pub fn query(fields: &impl Serialize) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(fields) else { return String::new() };
    let pairs = fields.iter().filter_map(|(name, value)| {
        let text = match value {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some(format!("{}={}", segment(name), segment(&text)))
    });
    let pairs: Vec<_> = pairs.collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogQuery, Part};

    #[test]
    fn segments() {
        for (text, encoded) in [
            ("load", "load"),
            ("finally/cleanup", "finally%2Fcleanup"),
            ("load[3]", "load%5B3%5D"),
            ("ä b", "%C3%A4%20b"),
            ("..", ".."),
        ] {
            assert_eq!(segment(text), encoded);
            assert_eq!(unsegment(encoded).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_no_segment() {
        for text in ["%", "%4", "%zz", "%FF", "a%"] {
            assert_eq!(unsegment(text), None, "{text}");
        }
    }

    #[test]
    fn queries() {
        assert_eq!(query(&Part::default()), "");
        let part = Part { limit: Some(5), cursor: Some("a&b".into()) };
        assert_eq!(query(&part), "?limit=5&cursor=a%26b");
        assert_eq!(query(&LogQuery { follow: true, ..LogQuery::default() }), "?follow=true");
    }
}
