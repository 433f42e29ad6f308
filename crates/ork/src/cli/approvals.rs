//! `ork approvals`.

use clap::Subcommand;
use ork_api::client::Client;
use ork_api::types::{Approve, ApproveEach, OpenApproval, Part};
use serde_json::Value;

use super::operate::listed;
use super::runs::instant;
use super::targets::{Filter, How, Whom, tried};
use super::{Global, block_on};
use crate::context::{Need, Session};
use crate::exit::{Exit, Result};
use crate::output::{self, Format, say};
use crate::params::read_pairs;
use crate::runs::find;

#[derive(Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// What waits for a person's decision
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  ork approvals list
  ork approvals list -o json"
    )]
    List {
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Says yes
    #[command(after_help = "\
Examples:
  ork approvals approve last publish
  ork approvals approve 01932b publish -f amount=3 --comment 'looks right'
  ork approvals approve --workflow release --state running publish --dry-run")]
    Approve(DecideArgs),
    /// Says no
    #[command(after_help = "\
Examples:
  ork approvals reject last publish --comment 'wrong day'")]
    Reject(DecideArgs),
}

#[derive(clap::Args)]
pub(crate) struct DecideArgs {
    /// The run (an id, the beginning of one, or `last`; left out beside a filter) and the task
    #[arg(value_names = ["RUN", "TASK"], num_args = 1..=2, required = true)]
    words: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// A field of its form
    #[arg(short, long = "form", value_name = "NAME=VALUE")]
    form: Vec<String>,
    /// What is said to it
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    #[command(flatten)]
    how: How,
}

pub(crate) fn run(global: &Global, command: ApprovalsCommand) -> Result {
    let format = global.format()?;
    block_on(async {
        let session = Session::open(&global.server, Need::Answers).await?;
        let client = &session.client;
        let outcome = match command {
            ApprovalsCommand::List { limit } => list(client, limit as usize, format).await,
            ApprovalsCommand::Approve(args) => decide(client, args, true, format).await,
            ApprovalsCommand::Reject(args) => decide(client, args, false, format).await,
        };
        session.close(true).await;
        outcome
    })
}

/// The approvals that wait, at most `limit`.
async fn open(client: &Client, limit: usize) -> Result<Vec<OpenApproval>> {
    let mut items = Vec::new();
    let mut part = Part::default();
    loop {
        part.limit = Some((limit - items.len()).min(500));
        let page = client.approvals(&part).await?;
        items.extend(page.items);
        part.cursor = page.next_cursor;
        if part.cursor.is_none() || items.len() >= limit {
            return Ok(items);
        }
    }
}

async fn list(client: &Client, limit: usize, format: Format) -> Result {
    let items = open(client, limit).await?;
    output::list(
        format,
        &items,
        |open| format!("{} {}", open.run, open.path),
        |items| {
            let rows = items.iter().map(|open| {
                vec![
                    open.run.to_string(),
                    open.workflow.clone(),
                    open.path.to_string(),
                    open.prompt.lines().next().unwrap_or_default().to_owned(),
                    open.approvers.join(", "),
                    open.until.map(instant).unwrap_or_default(),
                ]
            });
            output::table(&["RUN", "WORKFLOW", "TASK", "PROMPT", "WHO", "UNTIL"], rows)
        },
    )?;
    Ok(Exit::Ok)
}

async fn decide(client: &Client, args: DecideArgs, approved: bool, format: Format) -> Result {
    let DecideArgs { words, filter, form, comment, how: How { dry_run, reason } } = args;
    let (whom, [task]) = Whom::before(words, filter)?;
    match whom {
        Whom::Many(query) => {
            let form = read_form(client, &form, |open| {
                open.path.as_str() == task
                    && query.workflow.as_ref().is_none_or(|name| *name == open.workflow)
            });
            let form = form.await?;
            let wanted = ApproveEach { task, approved, comment, form, reason };
            let told = client.each("approve", &query, &wanted, dry_run).await?;
            listed(&told.items, dry_run, format)
        }
        Whom::One(run) => {
            let run = find(client, &run).await?.id;
            let own = |open: &OpenApproval| open.run == run && open.path.as_str() == task;
            let form = read_form(client, &form, own).await?;
            let wanted = Approve { approved, comment, form, reason };
            if dry_run {
                let of = ["runs", &run.to_string(), "tasks", &task];
                return tried(client, &of, ("approve", &wanted), format).await;
            }
            client.approve(run, &task, &wanted).await?;
            let word = if approved { "approved" } else { "rejected" };
            say(format_args!("{word} {task} of {run}"));
            Ok(Exit::Ok)
        }
    }
}

/// What was filled in, read by the form of the approval that is meant.
async fn read_form(
    client: &Client,
    given: &[String],
    is_meant: impl Fn(&OpenApproval) -> bool,
) -> Result<Value> {
    if given.is_empty() {
        return Ok(Value::Null);
    }
    let asked = open(client, usize::MAX).await?.into_iter().find(is_meant);
    let form = asked.map(|open| open.form).unwrap_or_default();
    let given = read_pairs(given, |name| form.get(name).map(|param| param.ty.clone()))?;
    let given = given.kept(client).await?;
    Ok(Value::Object(given.into_iter().collect()))
}
