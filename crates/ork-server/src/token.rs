//! The local token: made at the first start, readable by its owner alone.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use ork_core::value::Digest;

use crate::random;

/// What every token begins with.
const PREFIX: &str = "ork_";

/// A token as the server keeps it: by its digest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known(Digest);

impl Known {
    pub(crate) fn new(token: &str) -> Self {
        Self(Digest::of(token.as_bytes()))
    }

    /// Whether `token` is this one. It takes as long for any token of that length.
    pub(crate) fn is(&self, token: &str) -> bool {
        same(&self.0.0, &Digest::of(token.as_bytes()).0)
    }
}

/// Whether two secrets are the same. It takes as long for any of that length.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// The token of a data directory, made where there is none.
pub(crate) fn read_or_make(directory: &Path) -> io::Result<String> {
    let path = directory.join("token");
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().starts_with(PREFIX) => return Ok(text.trim().to_owned()),
        Ok(_) => {
            let message = format!("{} holds no token; remove it to get a new one", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let secret = random::bytes::<32>().map_err(io::Error::other)?;
    let token = format!("{PREFIX}{}", Digest(secret));
    write_private(&path, token.as_bytes())?;
    Ok(token)
}

/// Writes a file that its owner alone can read, all or nothing.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(&draft)?;
    file.write_all(content)?;
    drop(file);
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept_private() {
        let directory = tempfile::tempdir().unwrap();
        let token = read_or_make(directory.path()).unwrap();
        assert_eq!(token.len(), PREFIX.len() + 64);
        assert_eq!(read_or_make(directory.path()).unwrap(), token);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(directory.path().join("token")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let known = Known::new(&token);
        assert!(known.is(&token));
        for other in ["", "ork_", &token[1..], &token.to_uppercase()] {
            assert!(!known.is(other), "{other}");
        }
    }

    #[test]
    fn a_spoilt_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("token"), "hello").unwrap();
        let error = read_or_make(directory.path()).unwrap_err().to_string();
        assert!(error.contains("holds no token"), "{error}");
    }
}
