//! `ork completions`.

use clap::CommandFactory as _;

use crate::exit::{Exit, Result};
use crate::output;

/// Completions for a shell, as a script on standard output
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork completions bash > ~/.local/share/bash-completion/completions/ork
  ork completions zsh > ~/.zfunc/_ork
  ork completions fish > ~/.config/fish/completions/ork.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "ork", &mut script);
    output::write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
