//! The command line: what can be typed, and which module does it.

mod completions;
mod fmt;
mod graph;
mod init;
mod schema;
mod validate;

use std::future::Future;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::exit::{Exit, Failure, Result};
use crate::output;

const EXAMPLES: &str = "\
Begin:
  ork init                    a workflow and its code to try
  ork validate                check every workflow file under this folder

Exit codes:
  0  done   1  a check found errors   2  usage or configuration";

/// Typed YAML workflows over plain code, as durable runs.
#[derive(Parser)]
#[command(name = "ork", version, after_help = EXAMPLES, disable_help_subcommand = true)]
#[command(max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The form of data on standard output: text, json or github
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORM",
        hide_possible_values = true
    )]
    #[arg(help_heading = "Global options")]
    output: Option<Form>,
    /// The same as `-o json`
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
}

/// The forms that `-o` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// JSON.
    Json,
    /// `validate`: findings for people.
    Text,
    /// `validate`: findings as GitHub's annotations.
    Github,
}

impl Global {
    fn form(&self) -> Option<Form> {
        if self.json { Some(Form::Json) } else { self.output }
    }
}

#[derive(Subcommand)]
enum Command {
    Validate(validate::ValidateArgs),
    Fmt(fmt::FmtArgs),
    Graph(graph::GraphArgs),
    Schema(schema::SchemaArgs),
    Init(init::InitArgs),
    Completions(completions::CompletionsArgs),
}

/// Parses the command line, does what it says, and gives the exit code.
pub(crate) fn main() -> ExitCode {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    match dispatch(&global, command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                let error = owo_colors::OwoColorize::red(&"error");
                output::say(format_args!("{error}: {failure}"));
            }
            failure.exit.into()
        }
    }
}

fn dispatch(global: &Global, command: Command) -> Result {
    match command {
        Command::Validate(args) => validate::run(global, &args),
        Command::Fmt(args) => fmt::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Runs what needs a server. Commands that need none never pay for a runtime.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(future);
    // A thread that waits for a line of standard input would hold the process.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(|inner| check(inner, &path));
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:\n  ork "), "{path} has no examples");
            }
        }
        Cli::command().get_subcommands().for_each(|command| check(command, "ork"));
    }
}
