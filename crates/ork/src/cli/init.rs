//! `ork init`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure, Result, io};
use crate::output::say;

/// A workflow and its code to begin with
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork init
  ork init my-project && cd my-project && ork run hello.ork.yaml -p name=you")]
pub(crate) struct InitArgs {
    /// The folder; made where there is none
    #[arg(default_value = ".")]
    folder: PathBuf,
}

const FILES: [(&str, &str); 3] = [
    ("hello.ork.yaml", include_str!("init/hello.ork.yaml")),
    ("hello.py", include_str!("init/hello.py")),
    ("ork.schema.json", ""),
];

pub(crate) fn run(args: &InitArgs) -> Result {
    let folder = &args.folder;
    fs::create_dir_all(folder).map_err(|error| io(folder, &error))?;
    let taken: Vec<_> =
        FILES.iter().map(|(name, _)| folder.join(name)).filter(|p| p.exists()).collect();
    if let Some(path) = taken.first() {
        let failure = Failure::usage(format!("{} is there already", path.display()));
        return Err(failure.hint("`ork init FOLDER` begins in a folder of its own"));
    }
    for (name, text) in FILES {
        let text = if text.is_empty() { schema() } else { text.to_owned() };
        let path = below(folder, name);
        fs::write(&path, text).map_err(|error| io(&path, &error))?;
        say(format_args!("wrote {}", path.display()));
    }
    ignore_state(&below(folder, ".gitignore"))?;
    let change = if folder == Path::new(".") {
        String::new()
    } else {
        format!("  cd {}\n", folder.display())
    };
    say(format_args!("\nnext:\n{change}  ork run hello.ork.yaml -p name=you\n  ork up"));
    Ok(Exit::Ok)
}

/// A file of the folder, as short as it can be said.
fn below(folder: &Path, name: &str) -> PathBuf {
    if folder == Path::new(".") { name.into() } else { folder.join(name) }
}

fn schema() -> String {
    serde_json::to_string_pretty(&ork_core::lang::schema()).unwrap_or_default() + "\n"
}

/// Adds `.ork/` to what git ignores, if it is not there.
fn ignore_state(path: &Path) -> Result<()> {
    let before = fs::read_to_string(path).unwrap_or_default();
    if before.lines().any(|line| line.trim_matches('/') == ".ork") {
        return Ok(());
    }
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| io(path, &error))?;
    write!(file, "{gap}.ork/\n__pycache__/\n").map_err(|error| io(path, &error))?;
    say(format_args!("wrote {}", path.display()));
    Ok(())
}
