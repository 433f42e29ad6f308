//! `ork test`.

use std::path::PathBuf;

use indexmap::IndexMap;
use ork_api::client::Client;
use ork_api::types::{Draft, NewRun, SingleTask};
use ork_core::plan::{Plan, Task};
use ork_core::types::Type;
use serde_json::Value;

use super::{Global, block_on, validate};
use crate::context::{Need, Session};
use crate::exit::{Exit, Failure, Result};
use crate::files::WorkflowFile;
use crate::output::Format;
use crate::params::{Given, ParamFlags, read_pairs};
use crate::suggest;

/// Runs one task of a file alone, with the inputs that are given, and prints its output
#[derive(clap::Args)]
#[command(after_help = "\
Its upstreams do not run, and its `when` is not asked. Inputs that come from other tasks are given
by -i, or taken from an earlier run.

Examples:
  ork test etl.yaml clean -i rows='[1, 2]'
  ork test etl.yaml load -i parts=@parts.json -p day=2026-11-24
  ork test etl.yaml load --from-run last -i limit=10")]
pub(crate) struct TestArgs {
    /// The workflow's file
    file: PathBuf,
    /// The task; one of `finally` as `finally/NAME`
    task: String,
    /// An input; `NAME=@FILE` takes its text from a file
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,
    /// Take the inputs that are not given from this run of the same workflow
    #[arg(long, value_name = "RUN")]
    from_run: Option<String>,
    #[command(flatten)]
    params: ParamFlags,
}

pub(crate) fn run(global: &Global, args: &TestArgs) -> Result {
    let format = global.format()?;
    let file = WorkflowFile::read(&args.file)?;
    validate::show(&file);
    let Some(plan) = &file.compiled.plan else { return Ok(Exit::Failed) };
    let task = find(plan, &args.task)?;
    let given = read_pairs(&args.inputs, |name| input_type(task, name))?;
    let names = taken(task);
    if let Some(unknown) = given.names().find(|name| !names.contains(name)) {
        return Err(Failure::usage(format!("`{}` has no input `{unknown}`", args.task))
            .hint(suggest::hint(unknown, &names)));
    }
    let params = args.params.read(|name| plan.params.get(name).map(|param| param.ty.clone()))?;
    block_on(async {
        let mut session = Session::open_local(&global.server, Need::Works).await?;
        let outcome = go(&mut session, args, &file, (task, given), params, format).await;
        super::run::close(session, outcome).await
    })
}

async fn go(
    session: &mut Session,
    args: &TestArgs,
    file: &WorkflowFile,
    (task, given): (&Task, Given),
    params: Given,
    format: Format,
) -> Result {
    let mut inputs = match &args.from_run {
        Some(run) => earlier(session, run, &args.task, task).await?,
        None => IndexMap::new(),
    };
    inputs.extend(given.kept(&session.client).await?);
    let draft = Draft {
        file: args.file.to_string_lossy().into_owned(),
        source: file.text().into_owned(),
        root: file.root.display().to_string(),
        task: Some(SingleTask { path: args.task.clone(), inputs }),
    };
    let new = NewRun { draft: Some(draft), ..NewRun::default() };
    super::run::start_with(session, (new, params), false, format).await
}

/// What may be given to the task: its inputs, and in the older form the outputs of its upstreams.
fn taken(task: &Task) -> Vec<&str> {
    let outputs = task.action.upstream_outputs().into_iter().flat_map(IndexMap::keys);
    task.inputs.keys().chain(outputs).map(String::as_str).collect()
}

/// The inputs that the task had in an earlier run.
async fn earlier(
    session: &Session,
    run: &str,
    path: &str,
    task: &Task,
) -> Result<IndexMap<String, Value>> {
    let client: &Client = &session.client;
    let run = crate::runs::find(client, run).await?;
    let found = client.task(run.id, path).await?;
    let Some(inputs) = found.inputs else {
        let message =
            format!("`{path}` was never started in {}, so it had no inputs there", run.id);
        return Err(Failure::new(Exit::Refused, message).hint("take a run in which it was started"));
    };
    let mut values = IndexMap::new();
    for (name, payload) in &inputs {
        values.insert(name.clone(), super::run::value(session, payload).await?);
    }
    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    for name in task.action.upstream_outputs().into_iter().flat_map(IndexMap::keys) {
        let output = client.task(run.id, &format!("{folder}{name}")).await?.output;
        let value = match &output {
            Some(payload) => super::run::value(session, payload).await?,
            None => Value::Null,
        };
        values.entry(name.clone()).or_insert(value);
    }
    Ok(values)
}

fn find<'p>(plan: &'p Plan, path: &str) -> Result<&'p Task> {
    plan.task(path).ok_or_else(|| {
        let names: Vec<_> = plan.paths().collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Failure::usage(format!("there is no task `{path}`")).hint(suggest::hint(path, &names))
    })
}

fn input_type(task: &Task, name: &str) -> Option<Type> {
    match &task.input_type {
        Some(Type::Object(fields)) => fields.get(name).cloned(),
        _ => Some(Type::Json),
    }
}
