//! `ork run`.

use std::path::Path;

use indexmap::IndexMap;
use ork_api::client::ClientError;
use ork_api::problem::Code;
use ork_api::stamp::Stamp;
use ork_api::types::{Draft, NewRun, Payload, Run};
use ork_core::run::RunState;
use ork_core::types::Type;
use serde_json::Value;

use super::{Global, block_on, validate};
use crate::context::{Need, Session};
use crate::exit::{Exit, Failure, Result};
use crate::files::{self, WorkflowFile};
use crate::output::{self, Format, say};
use crate::params::{Given, ParamFlags};
use crate::suggest;
use crate::watch::{self, Watched, Whose};

/// Runs a file here, or a deployed workflow on its server, and watches
#[derive(clap::Args)]
#[command(after_help = "\
A FILE (it has a `/`, or ends in .yaml or .yml) runs on this machine: on the server of the nearest
.ork folder, which this process becomes when none is running. A NAME is a deployed workflow.
Progress goes to standard error, the run's result to standard output.

Examples:
  ork run etl.yaml
  ork run etl.yaml -p day=2026-11-24 -p regions=eu,us
  ork run etl.yaml --params params.yaml -p query=@query.sql
  ork run etl.yaml -p data=@sales.csv
  ork run daily_sales --detach -o name
  ork run ./etl.yaml -o json | jq .output")]
pub(crate) struct RunArgs {
    /// A workflow's file, or the name of a deployed workflow
    #[arg(value_name = "FILE|NAME")]
    what: String,
    #[command(flatten)]
    params: ParamFlags,
    /// What the run is for: a date or a time, ISO 8601 (now)
    #[arg(long, value_name = "TIME")]
    at: Option<Stamp>,
    /// The workflow's version (the current one)
    #[arg(long, value_name = "N")]
    version: Option<i64>,
    /// A label, for people and filters
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not wait for the end; needs a server that is running
    #[arg(short, long)]
    detach: bool,
}

pub(crate) fn run(global: &Global, args: RunArgs) -> Result {
    let format = global.format()?;
    if !files::is_file(&args.what) {
        return block_on(run_name(global, args, format));
    }
    if args.version.is_some() {
        return Err(Failure::usage("--version is for a deployed workflow, not for a file"));
    }
    let file = WorkflowFile::read(Path::new(&args.what))?;
    validate::show(&file);
    let Some(plan) = &file.compiled.plan else { return Ok(Exit::Failed) };
    let params = args.params.read(|name| plan.params.get(name).map(|param| param.ty.clone()))?;
    let draft = Draft {
        file: args.what.clone(),
        source: file.text().into_owned(),
        root: file.root.display().to_string(),
        task: None,
    };
    let new = NewRun { draft: Some(draft), ..request(&args)? };
    let need = if args.detach { Need::Runs } else { Need::Works };
    block_on(async {
        let mut session = Session::open_local(&global.server, need).await?;
        let outcome = start_with(&mut session, (new, params), args.detach, format).await;
        close(session, outcome).await
    })
}

/// Starts a run once the files of its params are kept.
///
/// # Errors
/// As [`start`], and when a file cannot be kept.
pub(crate) async fn start_with(
    session: &mut Session,
    (new, params): (NewRun, Given),
    detach: bool,
    format: Format,
) -> Result {
    let params = params.kept(&session.client).await?;
    start(session, &NewRun { params, ..new }, detach, format).await
}

async fn run_name(global: &Global, args: RunArgs, format: Format) -> Result {
    let need = if args.detach { Need::Runs } else { Need::Works };
    let mut session = Session::open(&global.server, need).await?;
    let outcome = start_name(&mut session, &args, format).await;
    close(session, outcome).await
}

async fn start_name(session: &mut Session, args: &RunArgs, format: Format) -> Result {
    let types = types(session, args).await?;
    let params = args.params.read(|name| types.get(name).cloned())?;
    let new = NewRun { workflow: Some(args.what.clone()), version: args.version, ..request(args)? };
    start_with(session, (new, params), args.detach, format).await
}

/// The declared types of a deployed workflow's params; asked for only where they are needed.
async fn types(session: &Session, args: &RunArgs) -> Result<IndexMap<String, Type>> {
    if args.params.is_empty() {
        return Ok(IndexMap::new());
    }
    let number = match args.version {
        Some(number) => Some(number),
        None => super::workflows::find(&session.client, &args.what).await?.current,
    };
    let Some(number) = number else {
        let message = format!("`{}` has no deployed version", args.what);
        return Err(Failure::new(Exit::Refused, message).hint("deploy it with `ork deploy`"));
    };
    let version = session.client.version(&args.what, number).await?;
    Ok(version.params.into_iter().map(|(name, param)| (name, param.ty)).collect())
}

fn request(args: &RunArgs) -> Result<NewRun> {
    let label = |text: &String| {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--label: `{text}` is not KEY=VALUE")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    Ok(NewRun {
        logical_time: args.at.map(|at| at.to_string()),
        labels: args.labels.iter().map(label).collect::<Result<_>>()?,
        reason: args.reason.clone(),
        ..NewRun::default()
    })
}

/// Makes the run and, unless detached, watches it to its end and prints its result.
///
/// # Errors
/// When the run is refused or the server goes away.
pub(crate) async fn start(
    session: &mut Session,
    new: &NewRun,
    detach: bool,
    format: Format,
) -> Result {
    let run = create(session, new).await?;
    if detach {
        let text = |run: &Run| format!("{}\n", run.id);
        output::one(format, &run, &run.id.to_string(), text)?;
        return Ok(Exit::Ok);
    }
    watch_to_end(session, &run, Whose::Own, format).await
}

/// Watches a run to its end and prints its result.
///
/// # Errors
/// When the server goes away.
pub(crate) async fn watch_to_end(
    session: &mut Session,
    run: &Run,
    whose: Whose,
    format: Format,
) -> Result {
    let watched = watch::follow(session, run, whose).await?;
    let exit = watched.exit();
    match watched {
        Watched::Over(run) => result(session, &run, format).await?,
        Watched::Left => left(session, run),
    }
    Ok(exit)
}

fn left(session: &Session, run: &Run) {
    if session.is_host() {
        say(format_args!(
            "left {}; it goes on when `ork up` or `ork run` is next started here",
            run.id
        ));
    } else {
        say(format_args!("left {}; it goes on: ork watch {}", run.id, run.id));
    }
}

/// A key under which a lost answer can be asked for again, even of the server that follows.
async fn create(session: &mut Session, new: &NewRun) -> Result<Run> {
    let key = format!("cli-{}", uuid::Uuid::now_v7());
    let made = match session.client.create_run_once(new, &key).await {
        Err(error) if went_away(&error) => {
            session.reopen(error).await?;
            session.client.create_run_once(new, &key).await
        }
        other => other,
    };
    match made {
        Ok(run) => Ok(run),
        Err(error) => Err(explain(session, new, error).await),
    }
}

/// Whether the server is gone, or will be in a moment.
pub(crate) fn went_away(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable(_)) || error.code() == Some(Code::Unavailable)
}

/// A refusal with what a person may have meant.
async fn explain(session: &Session, new: &NewRun, error: ClientError) -> Failure {
    let missing = error.code() == Some(Code::NotFound);
    let failure = Failure::from(error);
    let Some(name) = new.workflow.as_deref().filter(|_| missing) else { return failure };
    let names = super::workflows::names(&session.client).await;
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    if names.contains(&name) { failure } else { failure.hint(suggest::hint(name, &names)) }
}

async fn result(session: &Session, run: &Run, format: Format) -> Result<()> {
    if format != Format::Table {
        return output::one(format, run, &run.id.to_string(), |_| String::new());
    }
    if run.state != RunState::Success {
        say(format_args!("more: ork explain {}", run.id));
    }
    match &run.output {
        Some(payload) => output::write(&text(&value(session, payload).await?)),
        None => Ok(()),
    }
}

/// The value of a payload, fetched where it is kept apart.
///
/// # Errors
/// When it cannot be fetched.
pub(crate) async fn value(session: &Session, payload: &Payload) -> Result<Value> {
    match payload {
        Payload::Value(value) => Ok(value.clone()),
        Payload::Blob { digest, .. } => {
            let bytes = session.client.blob(digest).await?;
            serde_json::from_slice(&bytes)
                .map_err(|error| Failure::failed(format!("blob {digest} is not JSON: {error}")))
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => format!("{text}\n"),
        other => serde_json::to_string_pretty(other).unwrap_or_default() + "\n",
    }
}

/// Ends the session with the command: a server of others stays until they are done, unless its
/// user left.
///
/// # Errors
/// The command's own.
pub(crate) async fn close(session: Session, outcome: Result) -> Result {
    let leave = matches!(&outcome, Ok(Exit::Interrupted));
    session.close(leave).await;
    outcome
}
