//! `ork runs cancel|pause|resume|retry` on one run or on all that a filter finds, and `mark`,
//! `signal`, `rerun`.

use std::fmt::Write as _;

use ork_api::client::{Client, ClientError};
use ork_api::types::{
    Cancel, Mark, MarkState, Pause, Preview, Rerun, Retry, Run, Signal, Told, ToldResult,
};
use ork_core::ids::RunId;
use serde::Serialize;
use serde_json::Value;

use super::run::went_away;
use super::targets::{Filter, How, Whom};
use crate::context::Session;
use crate::exit::{Exit, Failure, Result};
use crate::output::{self, Format, say};
use crate::params::ParamFlags;
use crate::runs::find;
use crate::watch::Whose;

/// Which runs a command is for, and whether it is only tried.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Targets {
    /// An id, the beginning of one, or `last`
    run: Option<String>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    pub(crate) how: How,
}

impl Targets {
    /// Whether it is one run, not those of a filter.
    pub(crate) fn is_one(&self) -> bool {
        self.filter.is_empty()
    }

    fn whom(&self) -> Result<Whom> {
        Whom::of(self.run.clone(), self.filter.clone())
    }
}

/// Gives a command to one run or to each that a filter finds; a refusal of one of those does not
/// keep it from the others.
pub(crate) async fn each<B: Serialize>(
    client: &Client,
    (whom, dry_run): (Whom, bool),
    (verb, body): (&str, &B),
    format: Format,
    command: impl AsyncFn(&Client, RunId) -> std::result::Result<Run, ClientError>,
) -> Result {
    let items = match whom {
        Whom::Many(query) => client.each(verb, &query, body, dry_run).await?.items,
        Whom::One(run) => {
            let Run { id: run, workflow, .. } = find(client, &run).await?;
            let result = if dry_run { ToldResult::Tried } else { ToldResult::Done };
            let (problem, changes, made) = (None, Vec::new(), None);
            let mut told = Told { run, workflow, result, problem, changes, made };
            if dry_run {
                told.changes = client.preview(run, verb, body).await?.changes;
            } else {
                command(client, run).await?;
            }
            vec![told]
        }
    };
    listed(&items, dry_run, format)
}

/// Shows what a command came to for each run.
pub(crate) fn listed(items: &[Told], dry_run: bool, format: Format) -> Result {
    let refused = items.iter().filter(|told| told.problem.is_some()).count();
    output::list(format, items, |told| told.run.to_string(), |items| table(items, dry_run))?;
    if items.is_empty() {
        say("the filter finds no run");
    }
    Ok(if refused > 0 { Exit::Refused } else { Exit::Ok })
}

fn table(items: &[Told], dry_run: bool) -> String {
    let mut text = String::new();
    for told in items {
        let result = match (&told.problem, told.made) {
            (Some(problem), _) => problem.to_string(),
            (None, Some(made)) => format!("done by {made}"),
            (None, None) if dry_run && told.changes.is_empty() => "would not change".to_owned(),
            (None, None) if dry_run => "would change".to_owned(),
            (None, None) => "done".to_owned(),
        };
        let _ = writeln!(text, "{} {}: {result}", told.run, told.workflow);
        text.push_str(&changes(&Preview { changes: told.changes.clone() }));
    }
    text
}

/// The changes of a dry run, one a line.
pub(crate) fn changes(preview: &Preview) -> String {
    let mut text = String::new();
    for planned in &preview.changes {
        let what = match (&planned.path, &planned.what, planned.run) {
            (Some(path), ..) => path.to_string(),
            (None, Some(what), _) => what.clone(),
            (None, None, _) => "the run".to_owned(),
        };
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
    let How { dry_run, reason } = targets.how.clone();
    let wanted = Cancel { task, force, reason };
    let run = match targets.whom()? {
        Whom::One(run) if !dry_run => run,
        whom => {
            let command = async |client: &Client, run| client.cancel(run, &wanted).await;
            return each(client, (whom, dry_run), ("cancel", &wanted), format, command).await;
        }
    };
    let run = find(client, &run).await?;
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
    let How { dry_run, reason } = args.targets.how.clone();
    let wanted = Pause { reason };
    let command = async |client: &Client, run| client.pause(run, &wanted).await;
    each(client, (args.targets.whom()?, dry_run), ("pause", &wanted), format, command).await
}

pub(crate) async fn resume(client: &Client, args: ResumeArgs, format: Format) -> Result {
    let How { dry_run, reason } = args.targets.how.clone();
    let wanted = Pause { reason };
    let command = async |client: &Client, run| client.resume(run, &wanted).await;
    each(client, (args.targets.whom()?, dry_run), ("resume", &wanted), format, command).await
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
        !self.detach && self.targets.is_one() && !self.targets.how.dry_run
    }
}

pub(crate) async fn retry(session: &mut Session, args: RetryArgs, format: Format) -> Result {
    let watches = args.watches();
    let RetryArgs { targets, tasks, only, cancel_downstream, .. } = args;
    let How { dry_run, reason } = targets.how.clone();
    let wanted = Retry { tasks, only, cancel_downstream, reason };
    let run = match targets.whom()? {
        Whom::One(run) if !dry_run => run,
        whom => {
            let (client, given) = (&session.client, (whom, dry_run));
            let command = async |client: &Client, run| client.retry(run, &wanted).await;
            return each(client, given, ("retry", &wanted), format, command).await;
        }
    };
    let run = find(&session.client, &run).await?;
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
  ork runs mark last load failed --dry-run
  ork runs mark --workflow etl --state running load skipped")]
pub(crate) struct MarkArgs {
    /// The run (an id, the beginning of one, or `last`; left out beside a filter), the task, and
    /// success, failed or skipped
    #[arg(value_names = ["RUN", "TASK", "STATE"], num_args = 2..=3, required = true)]
    words: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// For success: its output, as JSON
    #[arg(long, value_name = "JSON")]
    value: Option<String>,
    #[command(flatten)]
    how: How,
}

fn mark_state(text: &str) -> Result<MarkState> {
    match text {
        "success" => Ok(MarkState::Success),
        "failed" => Ok(MarkState::Failed),
        "skipped" => Ok(MarkState::Skipped),
        _ => Err(Failure::usage(format!("`{text}`: say success, failed or skipped"))),
    }
}

fn read_json(flag: &str, text: Option<&str>) -> Result<Value> {
    let value = text.map(serde_json::from_str).transpose();
    let value = value.map_err(|error| Failure::usage(format!("{flag}: it is no JSON: {error}")));
    Ok(value?.unwrap_or_default())
}

pub(crate) async fn mark(client: &Client, args: MarkArgs, format: Format) -> Result {
    let MarkArgs { words, filter, value, how: How { dry_run, reason } } = args;
    let (whom, [task, state]) = Whom::before(words, filter)?;
    let (state, output) = (mark_state(&state)?, read_json("--value", value.as_deref())?);
    let wanted = Mark { task, state, output, reason };
    let command = async |client: &Client, run| client.mark(run, &wanted).await;
    each(client, (whom, dry_run), ("mark", &wanted), format, command).await
}

/// Sends a signal to a run; the oldest wait for it takes it
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork runs signal last delivered
  ork runs signal 01932b delivered --payload '{\"rows\": 3}'
  ork runs signal --workflow etl --state running delivered")]
pub(crate) struct SignalArgs {
    /// The run (an id, the beginning of one, or `last`; left out beside a filter) and the signal's
    /// name
    #[arg(value_names = ["RUN", "NAME"], num_args = 1..=2, required = true)]
    words: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// What it says, as JSON
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    #[command(flatten)]
    how: How,
}

pub(crate) async fn signal(client: &Client, args: SignalArgs, format: Format) -> Result {
    let SignalArgs { words, filter, payload, how: How { dry_run, reason } } = args;
    let (whom, [name]) = Whom::before(words, filter)?;
    let payload = read_json("--payload", payload.as_deref())?;
    let wanted = Signal { name, payload, reason };
    let command = async |client: &Client, run| client.signal(run, &wanted).await;
    each(client, (whom, dry_run), ("signal", &wanted), format, command).await
}

/// Makes a new run that does another one again; successes that would be the same are copied
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork runs rerun last
  ork runs rerun 01932b --latest -p day=2026-11-24
  ork runs rerun last --version 3 --dry-run
  ork runs rerun --workflow etl --state failed --since 2026-11-24 --latest")]
pub(crate) struct RerunArgs {
    #[command(flatten)]
    targets: Targets,
    /// With this version (that of the run)
    #[arg(long, value_name = "N", conflicts_with = "latest")]
    version: Option<i64>,
    /// With the workflow's current version
    #[arg(long)]
    latest: bool,
    #[command(flatten)]
    params: ParamFlags,
    /// Do not wait for the end; needs a server that is running
    #[arg(short, long)]
    detach: bool,
}

impl RerunArgs {
    /// Whether the new run is watched to its end.
    pub(crate) fn watches(&self) -> bool {
        !self.detach && self.targets.is_one() && !self.targets.how.dry_run
    }
}

pub(crate) async fn rerun(session: &mut Session, args: RerunArgs, format: Format) -> Result {
    let watches = args.watches();
    let client = &session.client;
    let How { dry_run, reason } = args.targets.how.clone();
    let run = match args.targets.whom()? {
        Whom::One(run) => find(client, &run).await?,
        Whom::Many(query) => {
            let wanted = rerun_of_many(&args, reason)?;
            let told = client.each("rerun", &query, &wanted, dry_run).await?;
            return listed(&told.items, dry_run, format);
        }
    };
    let version = match (args.version, args.latest) {
        (Some(version), _) => version,
        (None, true) => client.workflow(&run.workflow).await?.current.unwrap_or(run.version),
        (None, false) => run.version,
    };
    let declared = client.version(&run.workflow, version).await?.params;
    let params = args.params.read(|name| declared.get(name).map(|param| param.ty.clone()))?;
    let params = params.kept(client).await?;
    let wanted = Rerun { version: Some(version), params, reason, ..Rerun::default() };
    if dry_run {
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

/// What is sent for runs of versions that are not known here: the server reads the params.
fn rerun_of_many(args: &RerunArgs, reason: Option<String>) -> Result<Rerun> {
    let (params, params_text) = args.params.untyped()?;
    let (version, latest) = (args.version, args.latest);
    Ok(Rerun { version, latest, params, params_text, reason })
}
