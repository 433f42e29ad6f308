//! `ork approvals`.

use clap::Subcommand;
use ork_api::client::Client;
use ork_api::types::{Approve, OpenApproval, Part};
use serde_json::Value;

use super::runs::instant;
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
  ork approvals approve 01932b publish -f amount=3 --comment 'looks right'")]
    Approve(DecideArgs),
    /// Says no
    #[command(after_help = "\
Examples:
  ork approvals reject last publish --comment 'wrong day'")]
    Reject(DecideArgs),
}

#[derive(clap::Args)]
pub(crate) struct DecideArgs {
    /// An id, the beginning of one, or `last`
    run: String,
    /// The task
    task: String,
    /// A field of its form
    #[arg(short, long = "form", value_name = "NAME=VALUE")]
    form: Vec<String>,
    /// What is said to it
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

pub(crate) fn run(global: &Global, command: ApprovalsCommand) -> Result {
    let format = global.format()?;
    block_on(async {
        let session = Session::open(&global.server, Need::Answers).await?;
        let client = &session.client;
        let outcome = match command {
            ApprovalsCommand::List { limit } => list(client, limit as usize, format).await,
            ApprovalsCommand::Approve(args) => decide(client, args, true).await,
            ApprovalsCommand::Reject(args) => decide(client, args, false).await,
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

async fn decide(client: &Client, args: DecideArgs, approved: bool) -> Result {
    let run = find(client, &args.run).await?;
    let mut part = Part { limit: Some(500), ..Part::default() };
    let asked = loop {
        let page = client.approvals(&part).await?;
        let mut items = page.items.into_iter();
        let mine = items.find(|open| open.run == run.id && open.path.as_str() == args.task);
        part.cursor = page.next_cursor;
        if mine.is_some() || part.cursor.is_none() {
            break mine;
        }
    };
    let form = asked.map(|open| open.form).unwrap_or_default();
    let given = read_pairs(&args.form, |name| form.get(name).map(|param| param.ty.clone()))?;
    let given = given.kept(client).await?;
    let form =
        if given.is_empty() { Value::Null } else { Value::Object(given.into_iter().collect()) };
    let wanted = Approve { approved, comment: args.comment, form, reason: None };
    client.approve(run.id, &args.task, &wanted).await?;
    let word = if approved { "approved" } else { "rejected" };
    say(format_args!("{word} {} of {}", args.task, run.id));
    Ok(Exit::Ok)
}
