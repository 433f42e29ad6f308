//! Reads JSON that nobody vouches for: within limits, and with the place of what is wrong.

use std::fmt;

use ork_core::value::Value;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// How deep lists and objects may be nested.
pub(crate) const MAX_DEPTH: usize = 100;

/// Reads one JSON value. Duplicate keys, NUL, lone surrogates, `NaN` and too deep nesting are
/// refused, since not every store and language keeps them.
///
/// # Errors
/// One clause that says what is wrong and where.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("it is not UTF-8, {}", place(bytes, error.valid_up_to())))?;
    scan(text.as_bytes())?;
    serde_json::from_str::<Strict>(text).map(|strict| strict.0).map_err(|error| error.to_string())
}

/// What a parser would not refuse, or not before it has gone too deep.
fn scan(bytes: &[u8]) -> Result<(), String> {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at)?,
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    let place = place(bytes, at);
                    return Err(format!("it is nested more than {MAX_DEPTH} deep, {place}"));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'N' | b'I' => {
                let word = if *byte == b'N' { "NaN" } else { "Infinity" };
                if bytes[at..].starts_with(word.as_bytes()) {
                    return Err(format!("{word} is not JSON (use null), {}", place(bytes, at)));
                }
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The place of the quote that ends the string which begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> Result<usize, String> {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at),
            0 => return Err(format!("a text holds NUL, {}", place(bytes, at))),
            b'\\' => {
                if bytes[at..].starts_with(b"\\u0000") {
                    return Err(format!("a text holds NUL, {}", place(bytes, at)));
                }
                at += 1;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(at)
}

fn place(bytes: &[u8], at: usize) -> String {
    let before = &bytes[..at];
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = at - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |n| n + 1) + 1;
    format!("at line {line} column {column}")
}

/// A value whose objects have each key once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = serde_json::Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format_args!("the key `{key}` comes twice")));
            }
            let Strict(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_clean_json_and_says_where() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        let cases: &[(&[u8], &str)] = &[
            (b"", "EOF while parsing a value at line 1 column 0"),
            (b"{\"a\": 1,\n \"a\": 2}", "the key `a` comes twice at line 2 column 4"),
            (b"[1, NaN]", "NaN is not JSON (use null), at line 1 column 5"),
            (b"-Infinity", "Infinity is not JSON (use null), at line 1 column 2"),
            (b"[\n\"a\\u0000b\"]", "a text holds NUL, at line 2 column 3"),
            (b"\"a\0b\"", "a text holds NUL, at line 1 column 3"),
            (b"\"\\ud800\"", "unexpected end of hex escape at line 1 column 8"),
            (b"\"\\udc00\"", "lone leading surrogate in hex escape at line 1 column 7"),
            (b"[1]\n[2]", "trailing characters at line 2 column 1"),
            (b"\"\xff\"", "it is not UTF-8, at line 1 column 2"),
            (b"1e999", "number out of range at line 1 column 5"),
            (deep.as_bytes(), "it is nested more than 100 deep, at line 1 column 101"),
        ];
        for (input, expected) in cases {
            assert_eq!(read(input).map_err(|e| e.clone()), Err((*expected).to_owned()));
        }
    }

    #[test]
    fn reads_clean_json_as_it_is() {
        let text = r#"{"N":"NaN [{ \" \\","u":"\ud83d\ude00","n":[1,-2,1.5,18446744073709551615,null,true]}"#;
        assert_eq!(read(text.as_bytes()).ok(), serde_json::from_str(text).ok());
    }
}
