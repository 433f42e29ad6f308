//! The command line: what can be typed, and which module does it.

mod approvals;
mod artifacts;
mod backfills;
mod completions;
mod config;
mod deploy;
mod fmt;
mod graph;
mod init;
mod operate;
mod pools;
mod run;
pub(crate) mod runs;
mod schedules;
mod schema;
mod targets;
mod test;
mod triggers;
mod up;
mod validate;
mod workflows;

use std::future::Future;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::context::ServerFlags;
use crate::exit::{Exit, Failure, Result};
use crate::output::{self, Format};

const EXAMPLES: &str = "\
Begin:
  ork init                    a workflow and its code to try
  ork run hello.ork.yaml      run it here, and watch
  ork up                      a server here that deploys and watches this folder

Exit codes:
    0  done; also a run that was accepted and is not waited for
    1  the run failed, or a check found errors
    2  usage or configuration
    3  the server cannot be reached or is not ready: safe to repeat
    4  refused: not signed in, not allowed, not found, not in this state, not valid
    5  the run was cancelled or skipped
  130  interrupted while watching; the run goes on";

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
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// The form of data on standard output: table, json, yaml or name
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

/// The forms that `-o` takes. Two of them belong to single commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names or ids alone.
    Name,
    /// `validate`: the same as `table`.
    Text,
    /// `validate`: findings as GitHub's annotations.
    Github,
}

impl Global {
    fn form(&self) -> Option<Form> {
        if self.json { Some(Form::Json) } else { self.output }
    }

    /// Refuses a form where a command prints no data that has forms.
    ///
    /// # Errors
    /// When one is typed.
    fn no_form(&self) -> Result<()> {
        match self.form() {
            None => Ok(()),
            Some(_) => Err(Failure::usage("-o and --json say nothing here: it prints no data")),
        }
    }

    /// The form in which a command that lists or shows resources prints them.
    ///
    /// # Errors
    /// When the form is one of another command.
    pub(crate) fn format(&self) -> Result<Format> {
        match self.form() {
            None | Some(Form::Table) => Ok(Format::Table),
            Some(Form::Json) => Ok(Format::Json),
            Some(Form::Yaml) => Ok(Format::Yaml),
            Some(Form::Name) => Ok(Format::Name),
            Some(Form::Text | Form::Github) => {
                Err(Failure::usage("-o here is one of table, json, yaml, name"))
            }
        }
    }
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Up(up::UpArgs),
    Validate(validate::ValidateArgs),
    Fmt(fmt::FmtArgs),
    Graph(graph::GraphArgs),
    Schema(schema::SchemaArgs),
    Init(init::InitArgs),
    Test(test::TestArgs),
    Deploy(deploy::DeployArgs),
    Ls(runs::ListArgs),
    Logs(runs::LogsArgs),
    Watch(runs::WatchArgs),
    Cancel(operate::CancelArgs),
    Retry(operate::RetryArgs),
    Explain(runs::ExplainArgs),
    /// Runs: list, show, watch, logs, cancel, pause, resume, retry, rerun, mark, signal, explain
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Workflows: list, show, versions, diff, pause, resume
    #[command(subcommand)]
    Workflows(workflows::WorkflowsCommand),
    /// Files that tasks left: list, get
    #[command(subcommand)]
    Artifacts(artifacts::ArtifactsCommand),
    /// Approvals: list, approve, reject
    #[command(subcommand)]
    Approvals(approvals::ApprovalsCommand),
    /// Schedules: list, show, pause, resume, preview
    #[command(subcommand)]
    Schedules(schedules::SchedulesCommand),
    /// Triggers: list, show, rotate
    #[command(subcommand)]
    Triggers(triggers::TriggersCommand),
    /// Backfills: list, show, pause, resume, cancel, retry
    #[command(subcommand)]
    Backfills(backfills::BackfillsCommand),
    /// Pools, whose slots tasks share: list, set, delete
    #[command(subcommand)]
    Pools(pools::PoolsCommand),
    /// The configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
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
    match armed().and_then(|()| dispatch(&global, command)) {
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

/// Arms the point at which a test of a debug build wants this process to die: `ORK_FAILPOINT`.
#[cfg(debug_assertions)]
fn armed() -> Result<()> {
    let Ok(text) = std::env::var("ORK_FAILPOINT") else { return Ok(()) };
    let armed = ork_server::failpoint::arm(&text);
    armed.map_err(|wrong| Failure::usage(format!("ORK_FAILPOINT: `{text}`: {wrong}")))
}

#[cfg(not(debug_assertions))]
fn armed() -> Result<()> {
    Ok(())
}

fn dispatch(global: &Global, command: Command) -> Result {
    match command {
        Command::Run(args) => run::run(global, args),
        Command::Up(args) => up::run(global, &args),
        Command::Validate(args) => validate::run(global, &args),
        Command::Fmt(args) => global.no_form().and_then(|()| fmt::run(&args)),
        Command::Graph(args) => graph::run(global, &args),
        Command::Schema(args) => schema::run(global, &args),
        Command::Init(args) => global.no_form().and_then(|()| init::run(&args)),
        Command::Test(args) => test::run(global, &args),
        Command::Deploy(args) => deploy::run(global, &args),
        Command::Ls(args) => runs::run(global, runs::RunsCommand::List(args)),
        Command::Logs(args) => runs::run(global, runs::RunsCommand::Logs(args)),
        Command::Watch(args) => runs::run(global, runs::RunsCommand::Watch(args)),
        Command::Cancel(args) => runs::run(global, runs::RunsCommand::Cancel(args)),
        Command::Retry(args) => runs::run(global, runs::RunsCommand::Retry(args)),
        Command::Explain(args) => runs::run(global, runs::RunsCommand::Explain(args)),
        Command::Runs(command) => runs::run(global, command),
        Command::Workflows(command) => workflows::run(global, command),
        Command::Artifacts(command) => artifacts::run(global, command),
        Command::Approvals(command) => approvals::run(global, command),
        Command::Schedules(command) => schedules::run(global, command),
        Command::Triggers(command) => triggers::run(global, command),
        Command::Backfills(command) => backfills::run(global, command),
        Command::Pools(command) => pools::run(global, command),
        Command::Config(command) => config::run(global, &command),
        Command::Completions(args) => global.no_form().and_then(|()| completions::run(&args)),
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
    fn no_command_takes_the_name_of_an_option_of_all() {
        fn check(command: &clap::Command, of_all: &[&str]) {
            for arg in command.get_arguments().filter(|arg| !arg.is_global_set()) {
                let taken = of_all.contains(&arg.get_id().as_str());
                assert!(!taken, "{} {}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(|inner| check(inner, of_all));
        }
        let cli = Cli::command();
        let of_all: Vec<_> = cli
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .map(|arg| arg.get_id().as_str())
            .collect();
        assert!(of_all.contains(&"output"), "{of_all:?}");
        cli.get_subcommands().for_each(|command| check(command, &of_all));
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
