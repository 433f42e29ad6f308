//! Values that flow between tasks: JSON, kept inline while small and by reference when large.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
pub use serde_json::Value;

/// A value up to this many bytes of JSON is kept in its row; a larger one is a blob.
pub const INLINE_LIMIT: usize = 64 * 1024;

/// The most bytes of JSON of what the run machine keeps in a row for itself.
pub const DETAIL_LIMIT: usize = 1 << 20;

/// The SHA-256 of a content. In text it is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// The digest of a content that comes part by part.
#[derive(Clone, Debug, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Adds the next part.
    pub fn update(&mut self, part: &[u8]) {
        sha2::Digest::update(&mut self.0, part);
    }

    /// The digest of all parts.
    pub fn digest(self) -> Digest {
        Digest(sha2::Digest::finalize(self.0).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What was given is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(NotADigest);
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| NotADigest)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A file that is kept as a blob. In values it is `{"$file": {"digest": …, "name": …, "size": …}}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileRef {
    /// The digest of its content, which is the blob's name.
    pub digest: Digest,
    /// What it is called: its last name, or of an artifact its path in the artifacts' folder.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

impl FileRef {
    /// The only key of a value that is a file.
    pub const KEY: &str = "$file";

    /// The longest name in bytes.
    pub const MAX_NAME: usize = 1024;

    /// The file that a value is; none when it is none.
    pub fn of(value: &Value) -> Option<Self> {
        let fields = value.as_object().filter(|fields| fields.len() == 1)?;
        let file = Self::deserialize(fields.get(Self::KEY)?).ok()?;
        let named = (1..=Self::MAX_NAME).contains(&file.name.len()) && !file.name.contains('\0');
        named.then_some(file)
    }

    /// The value that it is.
    pub fn to_value(&self) -> Value {
        serde_json::json!({
            Self::KEY: { "digest": self.digest, "name": self.name, "size": self.size }
        })
    }

    /// How it stands in a text until a worker knows its path: between two NUL, which no text for a
    /// program can hold.
    pub fn mark(&self) -> String {
        format!("\0file:{}:{}:{}\0", self.digest, self.size, self.name)
    }

    /// The file of a mark, without the NUL around it.
    fn of_mark(mark: &str) -> Option<Self> {
        let mut parts = mark.strip_prefix("file:")?.splitn(3, ':');
        let (digest, size, name) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { digest: digest.parse().ok()?, size: size.parse().ok()?, name: name.into() })
    }

    /// A text as parts, in which the marks of files stand apart.
    pub fn marks(text: &str) -> Vec<Result<Self, &str>> {
        if !text.contains('\0') {
            return vec![Err(text)];
        }
        let parts = text.split('\0').enumerate();
        parts.map(|(n, part)| Self::of_mark(part).filter(|_| n % 2 == 1).ok_or(part)).collect()
    }

    /// Finds the files in a value, at whatever depth.
    pub fn each(value: &Value, found: &mut dyn FnMut(Self)) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| Self::each(item, found)),
            Value::Object(fields) => match Self::of(value) {
                Some(file) => found(file),
                None => fields.values().for_each(|field| Self::each(field, found)),
            },
            _ => {}
        }
    }
}

/// A value or the place where it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    /// The value itself: at most [`INLINE_LIMIT`] bytes of JSON.
    Inline(Value),
    /// A blob that holds the value's JSON.
    Blob {
        /// The digest of that JSON, which is the blob's name.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
}

impl Data {
    /// JSON's `null`.
    pub const NULL: Self = Self::Inline(Value::Null);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(name: &str) -> FileRef {
        FileRef { digest: Digest::of(name.as_bytes()), name: name.into(), size: 3 }
    }

    #[test]
    fn a_file_is_a_value_of_one_key() {
        let value = file("a:b.csv").to_value();
        assert_eq!(FileRef::of(&value), Some(file("a:b.csv")));
        let digest = Digest::of(b"");
        for other in [
            json!("x"),
            json!({ "$file": "x" }),
            json!({ "$file": { "digest": digest, "name": "", "size": 1 } }),
            json!({ "$file": { "digest": digest, "name": "a", "size": -1 } }),
            json!({ "$file": { "digest": "ab", "name": "a", "size": 1 } }),
            json!({ "$file": { "digest": digest, "name": "a", "size": 1 }, "more": 1 }),
        ] {
            assert_eq!(FileRef::of(&other), None, "{other}");
        }
        let mut found = Vec::new();
        FileRef::each(&json!([1, { "a": value, "b": [value] }]), &mut |file| found.push(file));
        assert_eq!(found, [file("a:b.csv"), file("a:b.csv")]);
    }

    #[test]
    fn files_stand_apart_in_text() {
        let text = format!("--in={} --and={}", file("a").mark(), file("b:c").mark());
        let parts = FileRef::marks(&text);
        assert_eq!(parts, [Err("--in="), Ok(file("a")), Err(" --and="), Ok(file("b:c")), Err("")]);
        assert_eq!(FileRef::marks("plain"), [Err("plain")]);
        assert_eq!(FileRef::marks("a\0file:x\0b"), [Err("a"), Err("file:x"), Err("b")]);
    }
}
