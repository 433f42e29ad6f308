//! `ork fmt`.

use std::path::{Path, PathBuf};

use ork_core::lang::Limits;

use crate::exit::{Exit, Failure, Result, io};
use crate::output::{self, say};

/// Writes workflow files in their canonical form, comments kept
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork fmt                     every workflow file under this folder
  ork fmt etl.yaml
  ork fmt --check             changes nothing; exit code 1 if something would change
  ork fmt --upgrade old.yaml  rewrites the older form
  ork fmt - < etl.yaml        from standard input to standard output")]
pub(crate) struct FmtArgs {
    /// Files and folders; `-` is standard input
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Change nothing; name the files that would change
    #[arg(long)]
    check: bool,
    /// Rewrite the older form of tasks too
    #[arg(long)]
    upgrade: bool,
}

pub(crate) fn run(args: &FmtArgs) -> Result {
    if args.paths == [Path::new("-")] {
        return stdin(args);
    }
    let mut exit = Exit::Ok;
    for path in crate::files::find(&args.paths)? {
        match file(args, &path) {
            Ok(Outcome::Same) => {}
            Ok(Outcome::Changed) => {
                output::write(&format!("{}\n", path.display()))?;
                exit = if args.check { Exit::Failed } else { exit };
            }
            Ok(Outcome::Invalid) => exit = Exit::Failed,
            Err(failure) => {
                say(format_args!("error: {failure}"));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

/// What became of a file.
enum Outcome {
    Same,
    /// It was written anew, or would be.
    Changed,
    /// Its findings have been told.
    Invalid,
}

fn stdin(args: &FmtArgs) -> Result {
    let bytes = crate::files::bounded(std::io::stdin(), Limits::default().bytes)
        .map_err(|error| Failure::failed(format!("standard input: {error}")))?;
    let Some(text) = formatted(args, Path::new("<stdin>"), &bytes) else {
        return Ok(Exit::Failed);
    };
    if args.check {
        return Ok(if text.as_bytes() == bytes { Exit::Ok } else { Exit::Failed });
    }
    output::write(&text)?;
    Ok(Exit::Ok)
}

fn file(args: &FmtArgs, path: &Path) -> Result<Outcome> {
    let read = crate::files::read(path, Limits::default().bytes);
    let bytes = read.map_err(|error| io(path, &error))?;
    let Some(text) = formatted(args, path, &bytes) else { return Ok(Outcome::Invalid) };
    if text.as_bytes() == bytes {
        return Ok(Outcome::Same);
    }
    if !args.check {
        replace(path, &text)?;
    }
    Ok(Outcome::Changed)
}

/// Writes beside the file and renames, so that it is never half written.
fn replace(path: &Path, text: &str) -> Result<()> {
    let target = std::fs::canonicalize(path).map_err(|error| io(path, &error))?;
    let beside = target.with_extension(format!("ork-fmt-{}", std::process::id()));
    let write = || {
        std::fs::write(&beside, text)?;
        std::fs::set_permissions(&beside, std::fs::metadata(&target)?.permissions())?;
        std::fs::rename(&beside, &target)
    };
    write().map_err(|error| io(path, &error))
}

/// The canonical text; none where the file is invalid. What was found is told.
fn formatted(args: &FmtArgs, path: &Path, bytes: &[u8]) -> Option<String> {
    let done = ork_core::lang::format(&path.to_string_lossy(), bytes, args.upgrade);
    let (text, found) = match done {
        Ok(done) => (Some(done.text), done.warnings),
        Err(found) => (None, found),
    };
    if !found.is_empty() {
        let source = String::from_utf8_lossy(bytes);
        say(ork_core::lang::render(&found, |_| Some(&source), false));
    }
    text
}
