//! `ork workflows`.

use std::fmt::Write as _;
use std::path::Path;

use clap::Subcommand;
use indexmap::IndexMap;
use ork_api::client::Client;
use ork_api::problem::Code;
use ork_api::types::{
    DescribeWorkflow, Diff, DiffQuery, HistoryItem, Part, Pause, Removal, Validate, Version,
    VersionItem, Workflow,
};
use ork_core::difference::Difference;
use ork_core::rows::Happened;
use owo_colors::OwoColorize as _;
use serde_json::Value;

use super::deploy::Deployer;
use super::targets::{How, show};
use super::{Global, block_on};
use crate::context::{Need, Session};
use crate::exit::{Exit, Failure, Result};
use crate::files::{self, WorkflowFile};
use crate::output::{self, Format};
use crate::suggest;

#[derive(Subcommand)]
pub(crate) enum WorkflowsCommand {
    /// Workflows by name
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  ork workflows list
  ork workflows list -o name"
    )]
    List(Listed),
    /// A workflow, its params and its tasks
    #[command(after_help = "\
Examples:
  ork workflows show daily_sales
  ork workflows show daily_sales --version 3 -o yaml
  ork workflows show daily_sales --source")]
    Show {
        /// The workflow
        name: String,
        /// The version (the current one)
        #[arg(long, value_name = "N", allow_hyphen_values = true)]
        version: Option<i64>,
        /// Only the YAML as it was deployed
        #[arg(long)]
        source: bool,
    },
    /// What differs between two versions, or between a file and the current version
    ///
    /// In the graph, the types, the params and the limits, not in the text.
    #[command(after_help = "\
Examples:
  ork workflows diff daily_sales            the current version and the one before
  ork workflows diff daily_sales 3          version 3 and the current one
  ork workflows diff daily_sales 3 5 -o json
  ork workflows diff ./daily_sales.yaml     the current version and this file")]
    Diff {
        /// The workflow, or a file of it
        #[arg(value_name = "NAME|FILE")]
        what: String,
        /// The older version (the one before)
        from: Option<i64>,
        /// The newer version (the current one)
        to: Option<i64>,
    },
    /// Keeps everything of a workflow back that would start; new runs are accepted and wait
    #[command(after_help = "\
Examples:
  ork workflows pause etl --reason 'the source is down'
  ork workflows pause --all      the whole project
  ork workflows pause etl --dry-run")]
    Pause(PauseArgs),
    /// Ends a workflow's pause
    #[command(after_help = "\
Examples:
  ork workflows resume etl
  ork workflows resume --all     what the pause of the project holds")]
    Resume(PauseArgs),
    /// Changes what people read of a workflow, and whether it is paused, without a version
    ///
    /// A later deploy changes only those parts back that its file says anew.
    #[command(after_help = "\
Examples:
  ork workflows set etl --description 'Loads the day' --owner data-team
  ork workflows set etl --tag nightly --untag draft --label tier=gold --unlabel old
  ork workflows set etl --no-owner --reason 'the team is gone'
  ork workflows set etl --tag nightly --dry-run")]
    Set(SetArgs),
    /// What was done to a workflow, the latest first: who, when, what and why
    #[command(after_help = "\
Examples:
  ork workflows history etl
  ork workflows history etl -o json")]
    History {
        /// The workflow
        name: String,
        #[command(flatten)]
        listed: Listed,
    },
    /// Deletes a workflow of which no run is active
    ///
    /// Its schedules and triggers stop. Its runs, versions and history stay, and a deploy brings it
    /// back.
    #[command(after_help = "\
Examples:
  ork workflows delete etl --dry-run
  ork workflows delete etl --reason 'replaced by etl2'")]
    Delete {
        /// The workflow
        name: String,
        #[command(flatten)]
        how: How,
    },
    Backfill(super::backfills::BackfillArgs),
    /// A workflow's versions, newest first
    #[command(after_help = "\
Examples:
  ork workflows versions daily_sales")]
    Versions {
        /// The workflow
        name: String,
        #[command(flatten)]
        listed: Listed,
    },
}

/// Which workflow is paused, or goes on.
#[derive(clap::Args)]
pub(crate) struct PauseArgs {
    /// The workflow
    #[arg(required_unless_present = "all")]
    name: Option<String>,
    /// The whole project
    #[arg(long, conflicts_with = "name")]
    all: bool,
    #[command(flatten)]
    how: How,
}

/// What people are to read of a workflow.
#[derive(clap::Args)]
#[group(id = "what", required = true, multiple = true)]
pub(crate) struct Described {
    /// Free text
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// No description
    #[arg(long, conflicts_with = "description")]
    no_description: bool,
    /// A tag more; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Without this tag; may be given several times
    #[arg(long = "untag", value_name = "TAG")]
    untags: Vec<String>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::targets::label)]
    labels: Vec<(String, String)>,
    /// Without this label; may be given several times
    #[arg(long = "unlabel", value_name = "KEY")]
    unlabels: Vec<String>,
    /// Who answers for it
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Nobody answers for it
    #[arg(long, conflicts_with = "owner")]
    no_owner: bool,
}

/// What is changed of which workflow.
#[derive(clap::Args)]
pub(crate) struct SetArgs {
    /// The workflow
    name: String,
    #[command(flatten)]
    what: Described,
    #[command(flatten)]
    how: How,
}

impl Described {
    /// What is sent: tags are sent whole, as they are to be.
    fn patch(self, now: &Workflow, reason: Option<String>) -> DescribeWorkflow {
        let labels = self.labels.into_iter().map(|(key, value)| (key, Some(value)));
        let labels: IndexMap<_, _> =
            labels.chain(self.unlabels.into_iter().map(|key| (key, None))).collect();
        let mut tags = now.tags.clone();
        tags.retain(|tag| !self.untags.contains(tag));
        tags.extend(self.tags);
        let mut seen = std::collections::HashSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        DescribeWorkflow {
            description: self.description.map(Some).or(self.no_description.then_some(None)),
            tags: (tags != now.tags).then_some(Some(tags)),
            labels: (!labels.is_empty()).then_some(Some(labels)),
            owner: self.owner.map(Some).or(self.no_owner.then_some(None)),
            paused: None,
            reason,
        }
    }
}

async fn set(client: &Client, args: SetArgs, format: Format) -> Result {
    let SetArgs { name, what, how: How { dry_run, reason } } = args;
    let now = find(client, &name).await?;
    let patch = what.patch(&now, reason);
    if dry_run {
        return show(&client.preview_describe(&name, &patch).await?, &name, format);
    }
    let then = client.describe_workflow(&name, &patch, Some(&now.revision)).await?;
    output::one(format, &then, &name, |_| String::new())?;
    let word = if then.revision == now.revision { "is so already" } else { "is changed" };
    output::say(format_args!("{name} {word}"));
    Ok(Exit::Ok)
}

async fn delete(client: &Client, name: &str, how: How, format: Format) -> Result {
    let How { dry_run, reason } = how;
    find(client, name).await?;
    let preview = client.delete_workflow(name, &Removal { dry_run, reason }).await?;
    if dry_run {
        return show(&preview, name, format);
    }
    output::one(format, &preview, name, |_| String::new())?;
    output::say(format_args!("{name} is deleted; a deploy brings it back"));
    Ok(Exit::Ok)
}

/// Up to `limit` of what was done to a workflow.
async fn history(client: &Client, name: &str, limit: usize) -> Result<Vec<HistoryItem>> {
    let (mut items, mut part) = (Vec::new(), Part::default());
    loop {
        part.limit = Some((limit - items.len()).min(500));
        let page = client.workflow_history(name, &part).await?;
        items.extend(page.items);
        part.cursor = page.next_cursor;
        if part.cursor.is_none() || items.len() >= limit {
            return Ok(items);
        }
    }
}

fn happened(what: Happened) -> &'static str {
    match what {
        Happened::Deployed => "deployed",
        Happened::Described => "changed",
        Happened::Paused => "paused",
        Happened::Resumed => "resumed",
        Happened::Deleted => "deleted",
    }
}

fn history_text(items: &[HistoryItem]) -> String {
    let mut text = String::new();
    for item in items {
        let version = item.version.map(|version| format!(" version {version}")).unwrap_or_default();
        let what = happened(item.what);
        let why = item.by.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let (at, by) = (super::runs::instant(item.at), &item.by.name);
        let _ = writeln!(text, "{at}  {what}{version} by {by}{why}");
        for change in &item.changes {
            let _ = writeln!(text, "  {}", changed(change));
        }
    }
    text
}

async fn pause(client: &Client, args: PauseArgs, on: bool, format: Format) -> Result<()> {
    let How { dry_run, reason } = args.how;
    let wanted = Pause { reason };
    let name = args.name.as_deref();
    let verb = if on { "pause" } else { "resume" };
    let preview = match name {
        Some(name) if dry_run => client.preview_of(&["workflows", name], verb, &wanted).await?,
        None if dry_run => client.preview_of(&[], verb, &wanted).await?,
        Some(name) => client.pause_workflow(name, on, &wanted).await?,
        None => client.pause_project(on, &wanted).await?,
    };
    let name = name.unwrap_or("the project");
    output::one(format, &preview, name, super::operate::changes)?;
    let word = match (dry_run, on) {
        (true, true) => "would pause",
        (true, false) => "would resume",
        (false, true) => "paused",
        (false, false) => "resumed",
    };
    output::say(format_args!("{word} {name}; changes: {}", preview.changes.len()));
    Ok(())
}

/// How much of a list is printed.
#[derive(clap::Args)]
pub(crate) struct Listed {
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(crate) fn run(global: &Global, command: WorkflowsCommand) -> Result {
    block_on(async {
        let session = Session::open(&global.server, Need::Answers).await?;
        let outcome = go(&session, global, command).await;
        session.close(true).await;
        outcome
    })
}

async fn go(session: &Session, global: &Global, command: WorkflowsCommand) -> Result {
    let (client, format) = (&session.client, global.format()?);
    match command {
        WorkflowsCommand::List(listed) => {
            let items = workflows(client, listed.limit as usize).await?;
            output::list(format, &items, |item| item.name.clone(), table)?;
        }
        WorkflowsCommand::Pause(args) => pause(client, args, true, format).await?,
        WorkflowsCommand::Resume(args) => pause(client, args, false, format).await?,
        WorkflowsCommand::Backfill(args) => {
            return super::backfills::create(client, args, format).await;
        }
        WorkflowsCommand::Set(args) => return set(client, args, format).await,
        WorkflowsCommand::Delete { name, how } => return delete(client, &name, how, format).await,
        WorkflowsCommand::History { name, listed } => {
            find(client, &name).await?;
            let items = history(client, &name, listed.limit as usize).await?;
            output::list(format, &items, |item| item.number.to_string(), history_text)?;
        }
        WorkflowsCommand::Versions { name, listed } => {
            find(client, &name).await?;
            let items = versions(client, &name, listed.limit as usize).await?;
            output::list(format, &items, |item| item.version.to_string(), versions_table)?;
        }
        WorkflowsCommand::Diff { what, from, to } => {
            let diff = if files::is_file(&what) {
                diff_file(client, &what, from).await?
            } else {
                find(client, &what).await?;
                client.diff(&what, &DiffQuery { from, to }).await?
            };
            output::one(format, &diff, &diff.workflow, differing)?;
        }
        WorkflowsCommand::Show { name, version, source } => {
            let workflow = find(client, &name).await?;
            let number = version.or(workflow.current).ok_or_else(|| {
                Failure::new(Exit::Refused, format!("`{name}` has drafts only"))
                    .hint("make a version of it with `ork deploy FILE`")
            })?;
            let version = client.version(&name, number).await?;
            if source {
                output::write(&version.source)?;
            } else {
                output::one(format, &version, &name, |version| shown(&workflow, version))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// What differs between the file and the current version of its workflow.
async fn diff_file(client: &Client, path: &str, version: Option<i64>) -> Result<Diff> {
    if version.is_some() {
        return Err(Failure::usage("a file is compared with the current version alone")
            .hint("leave the version out, or name the workflow instead of its file"));
    }
    let file = WorkflowFile::read(Path::new(path))?;
    super::validate::show(&file);
    let Some(plan) = &file.compiled.plan else {
        return Err(Failure::failed(format!("{path} has errors")));
    };
    find(client, &plan.name).await?;
    let bundle = Deployer::new(client.clone(), None).pack(&file)?;
    let blob = client.put_blob(bundle).await?;
    let source = file.text().into_owned();
    let sent = Validate { file: path.to_owned(), source, bundle: Some(blob.digest) };
    Ok(client.diff_with(&plan.name, &sent).await?)
}

/// The longest value that is shown whole, in characters.
const SHOWN: usize = 60;

fn differing(diff: &Diff) -> String {
    let to = diff.to.map_or_else(|| "the file".to_owned(), |to| format!("version {to}"));
    let mut text = format!("{}: from version {} to {to}\n", diff.workflow, diff.from);
    for change in &diff.changes {
        let _ = writeln!(text, "{}", changed(change));
    }
    if diff.code {
        text.push_str("~ the packed files differ\n");
    }
    if diff.changes.is_empty() && !diff.code {
        text.push_str("nothing differs\n");
    }
    text
}

/// What differs, in a line.
fn changed(Difference { path, before, after }: &Difference) -> String {
    match (before.as_ref().map(brief), after.as_ref().map(brief)) {
        (Some(old), Some(new)) => format!("~ {path}  {old} → {new}").yellow().to_string(),
        (Some(old), None) => format!("- {path}  {old}").red().to_string(),
        (None, new) => format!("+ {path}  {}", new.unwrap_or_default()).green().to_string(),
    }
}

/// A value in a few words.
fn brief(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && text.chars().count() <= SHOWN {
        return text;
    }
    line.chars().take(SHOWN - 1).chain(['…']).collect()
}

/// Up to `limit` workflows by name.
async fn workflows(client: &Client, limit: usize) -> Result<Vec<Workflow>> {
    let (mut items, mut part) = (Vec::new(), Part::default());
    loop {
        part.limit = Some((limit - items.len()).min(500));
        let page = client.workflows(&part).await?;
        items.extend(page.items);
        part.cursor = page.next_cursor;
        if part.cursor.is_none() || items.len() >= limit {
            return Ok(items);
        }
    }
}

async fn versions(client: &Client, name: &str, limit: usize) -> Result<Vec<VersionItem>> {
    let (mut items, mut part) = (Vec::new(), Part::default());
    loop {
        part.limit = Some((limit - items.len()).min(500));
        let page = client.versions(name, &part).await?;
        items.extend(page.items);
        part.cursor = page.next_cursor;
        if part.cursor.is_none() || items.len() >= limit {
            return Ok(items);
        }
    }
}

/// The names of all workflows, for suggestions; none where they cannot be had.
pub(crate) async fn names(client: &Client) -> Vec<String> {
    let items = workflows(client, 1_000).await.unwrap_or_default();
    items.into_iter().map(|item| item.name).collect()
}

/// The workflow of that name.
///
/// # Errors
/// When there is none, with the nearest name.
pub(crate) async fn find(client: &Client, name: &str) -> Result<Workflow> {
    match client.workflow(name).await {
        Err(error) if error.code() == Some(Code::NotFound) => {
            let names = names(client).await;
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let failure = Failure::from(error);
            Err(if names.contains(&name) {
                failure
            } else {
                failure.hint(suggest::hint(name, &names))
            })
        }
        other => Ok(other?),
    }
}

fn table(items: &[Workflow]) -> String {
    let rows = items.iter().map(|item| {
        let version = item.current.map_or_else(|| "draft".to_owned(), |number| number.to_string());
        let about = item.description.as_deref().unwrap_or_default();
        let about = about.lines().next().unwrap_or_default().to_owned();
        vec![item.name.clone(), version, item.tags.join(","), about]
    });
    output::table(&["NAME", "VERSION", "TAGS", "DESCRIPTION"], rows)
}

fn versions_table(items: &[VersionItem]) -> String {
    let rows = items.iter().map(|item| {
        let digest = item.digest.to_string()[..12].to_owned();
        let at = super::runs::instant(item.created_at);
        vec![item.version.to_string(), digest, at, item.created_by.name.clone()]
    });
    output::table(&["VERSION", "DIGEST", "DEPLOYED", "BY"], rows)
}

fn shown(workflow: &Workflow, version: &Version) -> String {
    let mut text = format!("{} version {}\n", workflow.name, version.item.version);
    if let Some(about) = &workflow.description {
        let _ = writeln!(text, "{about}");
    }
    if let Some(owner) = &workflow.owner {
        let _ = writeln!(text, "owner   {owner}");
    }
    if !workflow.tags.is_empty() {
        let _ = writeln!(text, "tags    {}", workflow.tags.join(", "));
    }
    let labels: Vec<_> =
        workflow.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !labels.is_empty() {
        let _ = writeln!(text, "labels  {}", labels.join(", "));
    }
    if let Some(at) = workflow.deleted_at {
        let _ = writeln!(text, "deleted {}; a deploy brings it back", super::runs::instant(at));
    }
    let params = version.params.iter().map(|(name, param)| {
        let default = match (&param.default, param.required) {
            (Some(value), _) => value.to_string(),
            (None, true) => "(required)".to_owned(),
            (None, false) => "(an expression)".to_owned(),
        };
        let ty = param.ty.to_string();
        vec![name.clone(), ty, default, param.description.clone().unwrap_or_default()]
    });
    let params: Vec<_> = params.collect();
    if !params.is_empty() {
        let _ = write!(text, "\n{}", output::table(&["PARAM", "TYPE", "DEFAULT", "WHAT"], params));
    }
    let tasks = version
        .tasks
        .iter()
        .map(|task| vec![task.path.clone(), task.executor.clone(), task.upstreams.join(", ")]);
    let _ = write!(text, "\n{}", output::table(&["TASK", "BY", "AFTER"], tasks));
    text
}
