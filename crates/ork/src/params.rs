//! `-p k=v`, `-p k=@FILE` and `--params FILE`, read by the declared types.

use std::path::Path;

use indexmap::IndexMap;
use ork_core::lang::{self, Limits};
use ork_core::types::Type;
use serde_json::Value;

use crate::exit::{Failure, Result, io};

/// The flags with which params are given.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ParamFlags {
    /// A param; `NAME=@FILE` takes its text from a file
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    pub(crate) params: Vec<String>,
    /// A YAML or JSON file that holds params; single ones win
    #[arg(id = "params_file", long = "params", value_name = "FILE")]
    pub(crate) file: Option<std::path::PathBuf>,
}

impl ParamFlags {
    /// The params by name, as JSON. What single ones say is checked here; whether those of the
    /// file are accepted is the server's to say.
    ///
    /// # Errors
    /// When a file cannot be read, or an argument has no `=`, names no param or is not of its
    /// type.
    pub(crate) fn read(
        &self,
        type_of: impl Fn(&str) -> Option<Type>,
    ) -> Result<IndexMap<String, Value>> {
        let mut values = self.file.as_deref().map(from_file).transpose()?.unwrap_or_default();
        let single = read_pairs(&self.params, &type_of)?;
        if let Some(unknown) = single.keys().find(|name| type_of(name).is_none()) {
            return Err(Failure::usage(format!("-p: there is no param `{unknown}`"))
                .hint("`params` of the workflow's file declares them"));
        }
        values.extend(single);
        Ok(values)
    }

    /// Whether a param is given by itself.
    pub(crate) fn is_empty(&self) -> bool {
        self.params.is_empty()
    }
}

/// Values by name from `NAME=VALUE` arguments, each read by its type.
///
/// # Errors
/// When an argument has no `=`, or its file cannot be read.
pub(crate) fn read_pairs(
    arguments: &[String],
    type_of: impl Fn(&str) -> Option<Type>,
) -> Result<IndexMap<String, Value>> {
    let mut values = IndexMap::new();
    for argument in arguments {
        let (name, text) = split(argument)?;
        let value = match type_of(name) {
            Some(ty) => ty
                .read_text(&text)
                .map_err(|mismatch| Failure::usage(format!("{name}: {mismatch}")))?,
            None => Value::String(text),
        };
        values.insert(name.to_owned(), value);
    }
    Ok(values)
}

/// The name and the text of `NAME=VALUE` or `NAME=@FILE`.
fn split(argument: &str) -> Result<(&str, String)> {
    let Some((name, text)) = argument.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err(Failure::usage(format!("`{argument}` is not NAME=VALUE")));
    };
    let Some(path) = text.strip_prefix('@') else { return Ok((name, text.to_owned())) };
    let path = Path::new(path);
    let text = String::from_utf8(read(path)?)
        .map_err(|_| Failure::usage(format!("{}: not UTF-8 text", path.display())))?;
    Ok((name, text))
}

/// A file of params, or what a pipe gives: `@<(command)`.
fn read(path: &Path) -> Result<Vec<u8>> {
    let most = Limits::default().bytes;
    let opened = std::fs::File::open(path);
    let bytes = opened.and_then(|file| crate::files::bounded(file, most));
    let bytes = bytes.map_err(|error| io(path, &error))?;
    if bytes.len() > most {
        return Err(Failure::usage(format!("{}: more than {most} bytes", path.display())));
    }
    Ok(bytes)
}

fn from_file(path: &Path) -> Result<IndexMap<String, Value>> {
    let bytes = read(path)?;
    let value = lang::data(&path.to_string_lossy(), &bytes).map_err(|found| {
        let text = String::from_utf8_lossy(&bytes);
        Failure::usage(ork_core::lang::render(&found, |_| Some(&text), false))
    })?;
    match value {
        Value::Object(params) => Ok(params.into_iter().collect()),
        _ => Err(Failure::usage(format!("{}: not a map of params", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_needs_a_name() {
        assert!(split("x").is_err());
        assert!(split("=x").is_err());
        assert_eq!(split("a=b=c").unwrap(), ("a", "b=c".to_owned()));
    }
}
