//! `ork runs cancel|pause|resume|retry` on one run or on all that a filter finds, and `mark`,
//! `signal`, `rerun`.

use std::fmt::Write as _;

use ork_api::client::{Client, ClientError};
use ork_api::types::{
    Cancel, Mark, MarkState, Pause, Preview, Rerun, Retry, Run, RunQuery, Signal,
};
use ork_core::ids::RunId;
use serde::Serialize;
use serde_json::Value;

use super::run::went_away;
use crate::context::Session;
use crate::exit::{Exit, Failure, Result};
use crate::output::{self, Format, say};
use crate::params::ParamFlags;
use crate::runs::find;
use crate::watch::Whose;

/// The most runs that one command is given to.
const MAX_RUNS: usize = 1_000;

/// Which runs a command is for, and whether it is only tried.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Targets {
    /// An id, the beginning of one, or `last`
    pub(crate) run: Option<String>,
    /// All runs of this workflow
    #[arg(short, long, value_name = "NAME", conflicts_with = "run")]
    workflow: Option<String>,
    /// All runs in these states, with commas between
    #[arg(short, long, value_name = "STATES", value_parser = super::runs::states, conflicts_with = "run")]
    state: Option<String>,
    /// All runs with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", conflicts_with = "run")]
    labels: Vec<String>,
    /// Tell what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

impl Targets {
    /// Whether it is one run, not those of a filter.
    pub(crate) fn is_one(&self) -> bool {
        self.workflow.is_none() && self.state.is_none() && self.labels.is_empty()
    }

    async fn runs(&self, client: &Client) -> Result<Vec<Run>> {
        if self.is_one() {
            let Some(run) = &self.run else {
                return Err(Failure::usage("name a run, or give --workflow, --state or --label"));
            };
            return Ok(vec![find(client, run).await?]);
        }
        let labels = self.labels.iter().map(|text| match text.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Failure::usage(format!("--label: `{text}` is not KEY=VALUE"))),
        });
        let mut query = RunQuery {
            workflow: self.workflow.clone(),
            state: self.state.clone(),
            labels: labels.collect::<Result<_>>()?,
            limit: Some(500),
            ..RunQuery::default()
        };
        let mut found = Vec::new();
        loop {
            let page = client.runs(&query).await?;
            found.extend(page.items);
            query.cursor = page.next_cursor;
            if found.len() > MAX_RUNS {
                let message = format!("the filter finds more than {MAX_RUNS} runs; narrow it");
                return Err(Failure::usage(message));
            }
            if query.cursor.is_none() {
                return Ok(found);
            }
        }
    }
}

/// What a command came to for one run.
#[derive(Serialize)]
struct Told {
    run: RunId,
    workflow: String,
    /// `done`, or why not.
    result: String,
    /// For a dry run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<ork_core::run::Planned>,
}

/// Gives a command to each of the runs; a refusal of one does not keep it from the others.
pub(crate) async fn each<B: Serialize>(
    client: &Client,
    targets: &Targets,
    (verb, body): (&str, &B),
    format: Format,
    command: impl AsyncFn(&Client, RunId) -> std::result::Result<Run, ClientError>,
) -> Result {
    let mut told = Vec::new();
    for run in targets.runs(client).await? {
        let outcome = if targets.dry_run {
            client.preview(run.id, verb, body).await.map(|preview| preview.changes)
        } else {
            command(client, run.id).await.map(|_| Vec::new())
        };
        match outcome {
            Ok(changes) => {
                let result = if targets.dry_run { "would change" } else { "done" }.to_owned();
                told.push(Told { run: run.id, workflow: run.workflow, result, changes });
            }
            Err(error) if targets.is_one() => return Err(error.into()),
            Err(error) if error.code().is_none() => return Err(error.into()),
            Err(error) => {
                let result = error.to_string();
                told.push(Told {
                    run: run.id,
                    workflow: run.workflow,
                    result,
                    changes: Vec::new(),
                });
            }
        }
    }
    let refused = told.iter().any(|one| !matches!(&*one.result, "done" | "would change"));
    output::list(format, &told, |one| one.run.to_string(), table)?;
    Ok(if refused { Exit::Refused } else { Exit::Ok })
}

fn table(told: &[Told]) -> String {
    let mut text = String::new();
    for one in told {
        let _ = writeln!(text, "{} {}: {}", one.run, one.workflow, one.result);
        text.push_str(&changes(&Preview { changes: one.changes.clone() }));
    }
    text
}

/// The changes of a dry run, one a line.
pub(crate) fn changes(preview: &Preview) -> String {
    let mut text = String::new();
    for planned in &preview.changes {
        let what = planned.path.as_ref().map_or("the run", |path| path.as_str());
        let again = if planned.again { ", anew" } else { "" };
        let _ = writeln!(text, "  {what}: {} → {}{again}", planned.from, planned.to);
    }
    text
}

/// Ends runs before their time; `finally` still runs
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork cancel last
  ork cancel 01932b --reason 'wrong day'
  ork cancel last --task load
  ork cancel last --force        ends `finally` too
  ork runs cancel --workflow etl --state pending --dry-run")]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    targets: Targets,
    /// Only this task
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// End `finally` too
    #[arg(long)]
    force: bool,
}

pub(crate) async fn cancel(client: &Client, args: CancelArgs, format: Format) -> Result {
    let CancelArgs { targets, task, force } = args;
    let wanted = Cancel { task, force, reason: targets.reason.clone() };
    if !targets.is_one() || targets.dry_run {
        let command = async |client: &Client, run| client.cancel(run, &wanted).await;
        return each(client, &targets, ("cancel", &wanted), format, command).await;
    }
    let Some(run) = &targets.run else {
        return Err(Failure::usage("name a run, or give --workflow, --state or --label"));
    };
    let run = find(client, run).await?;
    let what = match &wanted.task {
        Some(task) => format!("{task} of {}", run.id),
        None => run.id.to_string(),
    };
    let run = client.cancel(run.id, &wanted).await?;
    output::one(format, &run, &run.id.to_string(), |_| String::new())?;
    say(format_args!("cancelling {what}"));
    Ok(Exit::Ok)
}

/// Keeps everything of a run back that would start; what runs goes on
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork runs pause last --reason 'the bucket is full'
  ork runs pause --workflow etl --state running")]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    targets: Targets,
}

/// Ends the pause of a run
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork runs resume last
  ork runs resume --workflow etl")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    targets: Targets,
}

pub(crate) async fn pause(client: &Client, args: PauseArgs, format: Format) -> Result {
    let wanted = Pause { reason: args.targets.reason.clone() };
    let command = async |client: &Client, run| client.pause(run, &wanted).await;
    each(client, &args.targets, ("pause", &wanted), format, command).await
}

pub(crate) async fn resume(client: &Client, args: ResumeArgs, format: Format) -> Result {
    let wanted = Pause { reason: args.targets.reason.clone() };
    let command = async |client: &Client, run| client.resume(run, &wanted).await;
    each(client, &args.targets, ("resume", &wanted), format, command).await
}

/// Does parts of a run again: what failed, or the named tasks with all that follows them
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork retry last
  ork retry 01932b --task load --task report
  ork retry last --task load --only              what follows and succeeded stays
  ork retry last --task load --cancel-downstream  in a run that is not over
  ork runs retry --workflow etl --state failed --dry-run")]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    targets: Targets,
    /// This task and everything downstream of it; may be given several times
    #[arg(long = "task", value_name = "TASK")]
    tasks: Vec<String>,
    /// Of what is downstream of the tasks, that which succeeded stays
    #[arg(long, requires = "tasks")]
    only: bool,
    /// Stop what is under way downstream for it
    #[arg(long)]
    cancel_downstream: bool,
    /// Do not wait for the end; needs a server that is running
    #[arg(short, long)]
    detach: bool,
}

impl RetryArgs {
    /// Whether the run is watched to its end.
    pub(crate) fn watches(&self) -> bool {
        !self.detach && self.targets.is_one() && !self.targets.dry_run
    }
}

pub(crate) async fn retry(session: &mut Session, args: RetryArgs, format: Format) -> Result {
    let watches = args.watches();
    let RetryArgs { targets, tasks, only, cancel_downstream, .. } = args;
    let reason = targets.reason.clone();
    let wanted = Retry { tasks, only, cancel_downstream, reason };
    if !targets.is_one() || targets.dry_run {
        let command = async |client: &Client, run| client.retry(run, &wanted).await;
        return each(&session.client, &targets, ("retry", &wanted), format, command).await;
    }
    let Some(run) = &targets.run else {
        return Err(Failure::usage("name a run, or give --workflow, --state or --label"));
    };
    let run = find(&session.client, run).await?;
    let run = match session.client.retry(run.id, &wanted).await {
        Err(error) if went_away(&error) => {
            session.reopen(error).await?;
            session.client.retry(run.id, &wanted).await?
        }
        other => other?,
    };
    if !watches {
        output::one(format, &run, &run.id.to_string(), |run| format!("{}\n", run.id))?;
        return Ok(Exit::Ok);
    }
    super::run::watch_to_end(session, &run, Whose::Own, format).await
}

/// Sets the outcome of a task: what depends on it goes on
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork runs mark last load success --value '{\"rows\": 3}'
  ork runs mark last report skipped --reason 'not today'
  ork runs mark last load failed --dry-run")]
pub(crate) struct MarkArgs {
    /// An id, the beginning of one, or `last`
    run: String,
    /// The task
    task: String,
    /// success, failed or skipped
    #[arg(value_parser = mark_state)]
    state: MarkState,
    /// For success: its output, as JSON
    #[arg(long, value_name = "JSON")]
    value: Option<String>,
    /// Tell what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn mark_state(text: &str) -> std::result::Result<MarkState, String> {
    match text {
        "success" => Ok(MarkState::Success),
        "failed" => Ok(MarkState::Failed),
        "skipped" => Ok(MarkState::Skipped),
        _ => Err("one of success, failed, skipped".to_owned()),
    }
}

fn read_json(flag: &str, text: Option<&str>) -> Result<Value> {
    let value = text.map(serde_json::from_str).transpose();
    let value = value.map_err(|error| Failure::usage(format!("{flag}: it is no JSON: {error}")));
    Ok(value?.unwrap_or_default())
}

pub(crate) async fn mark(client: &Client, args: MarkArgs, format: Format) -> Result {
    let MarkArgs { run, task, state, value, dry_run, reason } = args;
    let output = read_json("--value", value.as_deref())?;
    let wanted = Mark { task, state, output, reason: reason.clone() };
    let targets = Targets { run: Some(run), dry_run, reason, ..Targets::default() };
    let command = async |client: &Client, run| client.mark(run, &wanted).await;
    each(client, &targets, ("mark", &wanted), format, command).await
}

/// Sends a signal to a run; the oldest wait for it takes it
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork runs signal last delivered
  ork runs signal 01932b delivered --payload '{\"rows\": 3}'")]
pub(crate) struct SignalArgs {
    /// An id, the beginning of one, or `last`
    run: String,
    /// The signal's name
    name: String,
    /// What it says, as JSON
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// Tell what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(crate) async fn signal(client: &Client, args: SignalArgs, format: Format) -> Result {
    let SignalArgs { run, name, payload, dry_run, reason } = args;
    let payload = read_json("--payload", payload.as_deref())?;
    let wanted = Signal { name, payload, reason: reason.clone() };
    let targets = Targets { run: Some(run), dry_run, reason, ..Targets::default() };
    let command = async |client: &Client, run| client.signal(run, &wanted).await;
    each(client, &targets, ("signal", &wanted), format, command).await
}

/// Makes a new run that does another one again; successes that would be the same are copied
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork runs rerun last
  ork runs rerun 01932b --latest -p day=2026-11-24
  ork runs rerun last --version 3 --dry-run")]
pub(crate) struct RerunArgs {
    /// An id, the beginning of one, or `last`
    run: String,
    /// With this version (that of the run)
    #[arg(long, value_name = "N", conflicts_with = "latest")]
    version: Option<i64>,
    /// With the workflow's current version
    #[arg(long)]
    latest: bool,
    #[command(flatten)]
    params: ParamFlags,
    /// Tell what would be copied, and make no run
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not wait for the end; needs a server that is running
    #[arg(short, long)]
    detach: bool,
}

impl RerunArgs {
    /// Whether the new run is watched to its end.
    pub(crate) fn watches(&self) -> bool {
        !self.detach && !self.dry_run
    }
}

pub(crate) async fn rerun(session: &mut Session, args: RerunArgs, format: Format) -> Result {
    let watches = args.watches();
    let client = &session.client;
    let run = find(client, &args.run).await?;
    let version = match (args.version, args.latest) {
        (Some(version), _) => version,
        (None, true) => client.workflow(&run.workflow).await?.current.unwrap_or(run.version),
        (None, false) => run.version,
    };
    let declared = client.version(&run.workflow, version).await?.params;
    let params = args.params.read(|name| declared.get(name).map(|param| param.ty.clone()))?;
    let params = params.kept(client).await?;
    let wanted =
        Rerun { version: Some(version), params, reason: args.reason.clone(), ..Rerun::default() };
    if args.dry_run {
        let preview = client.preview(run.id, "rerun", &wanted).await?;
        output::one(format, &preview, &run.id.to_string(), changes)?;
        return Ok(Exit::Ok);
    }
    let new = client.rerun(run.id, &wanted).await?;
    if !watches {
        output::one(format, &new, &new.id.to_string(), |run| format!("{}\n", run.id))?;
        return Ok(Exit::Ok);
    }
    super::run::watch_to_end(session, &new, Whose::Own, format).await
}
