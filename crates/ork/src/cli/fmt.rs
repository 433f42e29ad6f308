//! `ork fmt`.

use std::path::{Path, PathBuf};

use ork_core::lang::{Diagnostic, Limits};

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
        let changed = match file(args, &path) {
            Ok(changed) => changed,
            Err(failure) => {
                say(failure);
                exit = Exit::Failed;
                continue;
            }
        };
        if changed {
            output::write(&format!("{}\n", path.display()))?;
            exit = if args.check { Exit::Failed } else { exit };
        }
    }
    Ok(exit)
}

fn stdin(args: &FmtArgs) -> Result {
    let bytes = crate::files::bounded(std::io::stdin(), Limits::default().bytes)
        .map_err(|error| Failure::failed(format!("standard input: {error}")))?;
    let text = formatted(args, Path::new("<stdin>"), &bytes)?;
    if args.check {
        return Ok(if text.as_bytes() == bytes { Exit::Ok } else { Exit::Failed });
    }
    output::write(&text)?;
    Ok(Exit::Ok)
}

/// Whether the file changed, or would.
fn file(args: &FmtArgs, path: &Path) -> Result<bool> {
    let read = crate::files::read(path, Limits::default().bytes);
    let bytes = read.map_err(|error| io(path, &error))?;
    let text = formatted(args, path, &bytes)?;
    if text.as_bytes() == bytes {
        return Ok(false);
    }
    if !args.check {
        replace(path, &text)?;
    }
    Ok(true)
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

fn formatted(args: &FmtArgs, path: &Path, bytes: &[u8]) -> Result<String> {
    let name = path.to_string_lossy();
    let shown = |found: &[Diagnostic]| {
        let text = String::from_utf8_lossy(bytes);
        ork_core::lang::render(found, |_| Some(&text), false)
    };
    let done = ork_core::lang::format(&name, bytes, args.upgrade)
        .map_err(|found| Failure::failed(shown(&found)))?;
    if !done.warnings.is_empty() {
        say(shown(&done.warnings));
    }
    Ok(done.text)
}
