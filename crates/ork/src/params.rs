//! `-p k=v`, `-p k=@FILE` and `--params FILE`, read by the declared types.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use ork_api::client::Client;
use ork_api::worker::in_parts;
use ork_core::lang::{self, Limits};
use ork_core::types::Type;
use ork_core::value::{Digest, FileRef, Hasher};
use serde_json::Value;

use crate::exit::{Failure, Result, io};

/// The flags with which params are given.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ParamFlags {
    /// A param; `NAME=@FILE` takes its text from a file, or is that file where its type is `file`
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
    pub(crate) fn read(&self, type_of: impl Fn(&str) -> Option<Type>) -> Result<Given> {
        let all = self.file.as_deref().map(from_file).transpose()?.unwrap_or_default();
        let all = all.into_iter().map(|(name, value)| (name, Arg::Value(value)));
        let single = read_pairs(&self.params, &type_of)?;
        if let Some(unknown) = single.names().find(|name| type_of(name).is_none()) {
            return Err(Failure::usage(format!("-p: there is no param `{unknown}`"))
                .hint("`params` of the workflow's file declares them"));
        }
        Ok(Given(all.chain(single.0).collect()))
    }

    /// The params of the file as they are, and single ones as they were typed: where the types are
    /// not known here.
    ///
    /// # Errors
    /// When the file cannot be read, or an argument has no `=` or names a file.
    pub(crate) fn untyped(&self) -> Result<(IndexMap<String, Value>, IndexMap<String, String>)> {
        let mut all = self.file.as_deref().map(from_file).transpose()?.unwrap_or_default();
        let mut single = IndexMap::new();
        for pair in &self.params {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "@"));
            if value.starts_with('@') {
                let message = format!("-p {pair}: beside a filter it is NAME=VALUE");
                return Err(Failure::usage(message));
            }
            all.shift_remove(name);
            single.insert(name.to_owned(), value.to_owned());
        }
        Ok((all, single))
    }

    /// Whether a param is given by itself.
    pub(crate) fn is_empty(&self) -> bool {
        self.params.is_empty()
    }
}

/// Values by name, as they were typed. The files among them are still on this machine alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given(IndexMap<String, Arg>);

#[derive(Clone, Debug, PartialEq)]
enum Arg {
    Value(Value),
    File(PathBuf),
    Files(Vec<PathBuf>),
}

impl Given {
    /// The names that were given.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Has the server keep the files, each once, and gives all as JSON.
    ///
    /// # Errors
    /// When a file cannot be read, or the server does not take it.
    pub(crate) async fn kept(self, client: &Client) -> Result<IndexMap<String, Value>> {
        let mut values = IndexMap::new();
        for (name, given) in self.0 {
            let value = match given {
                Arg::Value(value) => value,
                Arg::File(path) => keep(client, &path).await?,
                Arg::Files(paths) => {
                    let mut files = Vec::new();
                    for path in &paths {
                        files.push(keep(client, path).await?);
                    }
                    Value::Array(files)
                }
            };
            values.insert(name, value);
        }
        Ok(values)
    }
}

/// Has the server keep a file of this machine.
async fn keep(client: &Client, path: &Path) -> Result<Value> {
    let failed = |error| io(path, &error);
    let own = path.to_owned();
    let read = tokio::task::spawn_blocking(move || digest(&own)).await;
    let (digest, size) = read.map_err(std::io::Error::other).flatten().map_err(failed)?;
    if !client.has_blob(&digest).await? {
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        client.put_stream(&digest, in_parts(file)).await?;
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(FileRef { digest, name: name.unwrap_or_else(|| "file".into()), size }.to_value())
}

fn digest(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        let why = "a param of type `file` takes a regular file, which can be read twice";
        return Err(std::io::Error::other(why));
    }
    let (mut hasher, mut size, mut part) = (Hasher::default(), 0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok((hasher.digest(), size)),
            length => {
                hasher.update(&part[..length]);
                size += length as u64;
            }
        }
    }
}

/// Values by name from `NAME=VALUE` arguments, each read by its type.
///
/// # Errors
/// When an argument has no `=`, or its file cannot be read.
pub(crate) fn read_pairs(
    arguments: &[String],
    type_of: impl Fn(&str) -> Option<Type>,
) -> Result<Given> {
    let mut values = IndexMap::new();
    for argument in arguments {
        let (name, text) = split(argument)?;
        let value = match type_of(name) {
            Some(ty) => typed(&ty, name, text)?,
            None => Arg::Value(Value::String(text_of(text)?)),
        };
        values.insert(name.to_owned(), value);
    }
    Ok(Given(values))
}

fn typed(ty: &Type, name: &str, text: &str) -> Result<Arg> {
    let file = |text: &str| text.strip_prefix('@').map(PathBuf::from);
    match ty.non_null() {
        Type::File => {
            if let Some(path) = file(text) {
                return Ok(Arg::File(path));
            }
        }
        Type::List(item) if **item == Type::File => {
            let paths: Option<Vec<_>> = text.split(',').map(file).collect();
            if let Some(paths) = paths {
                return Ok(Arg::Files(paths));
            }
        }
        _ => {}
    }
    let read = ty.read_text(&text_of(text)?).map(Arg::Value);
    read.map_err(|mismatch| {
        let failure = Failure::usage(format!("{name}: {mismatch}"));
        if ty.has_file() { failure.hint(format!("write `{name}=@FILE`")) } else { failure }
    })
}

/// The two sides of `NAME=VALUE`.
fn split(argument: &str) -> Result<(&str, &str)> {
    let pair = argument.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.ok_or_else(|| Failure::usage(format!("`{argument}` is not NAME=VALUE")))
}

/// The text that is meant: that of a file, where it begins with `@`.
fn text_of(text: &str) -> Result<String> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    let path = Path::new(path);
    String::from_utf8(read(path)?)
        .map_err(|_| Failure::usage(format!("{}: not UTF-8 text", path.display())))
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
        assert_eq!(split("a=b=c").unwrap(), ("a", "b=c"));
    }

    #[test]
    fn files_are_given_by_their_paths() {
        let file = typed(&Type::File.nullable(), "data", "@a/b.csv").unwrap();
        assert_eq!(file, Arg::File("a/b.csv".into()));
        let files = typed(&Type::list(Type::File), "parts", "@a,@b").unwrap();
        assert_eq!(files, Arg::Files(vec!["a".into(), "b".into()]));
        for (ty, text) in [(Type::File, "a.csv"), (Type::list(Type::File), "a,@b")] {
            let failure = typed(&ty, "x", text).unwrap_err().to_string();
            assert!(failure.contains("write `x=@FILE`"), "{failure}");
        }
    }
}
