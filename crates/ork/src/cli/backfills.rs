//! `ork backfills`, and `ork workflows backfill`.

use std::fmt::Write as _;

use clap::Subcommand;
use ork_api::backfills::{Backfill, Backfilled, NewBackfill, SteerBackfill};
use ork_api::client::Client;
use ork_api::types::{Part, RunQuery};
use ork_core::ids::BackfillId;
use ork_core::rows::{BackfillState, Order};

use super::runs::instant;
use super::schedules::{Which, preview_table};
use super::targets::{How, tried};
use super::{Global, block_on};
use crate::context::{Need, Session};
use crate::exit::{Exit, Result};
use crate::output::{self, Format, say};

#[derive(Subcommand)]
pub(crate) enum BackfillsCommand {
    /// Backfills, newest first
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  ork backfills list
  ork backfills list -o json"
    )]
    List {
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
    /// A backfill, and its runs that failed
    #[command(after_help = "\
Examples:
  ork backfills show 0193a1c4-90f2-7d10-a34b-9f62b0d1c001")]
    Show {
        /// Its id
        id: BackfillId,
    },
    /// Makes no new runs until it is resumed
    #[command(after_help = "\
Examples:
  ork backfills pause 0193a1c4-90f2-7d10-a34b-9f62b0d1c001")]
    Pause(Steered),
    /// Goes on
    #[command(after_help = "\
Examples:
  ork backfills resume 0193a1c4-90f2-7d10-a34b-9f62b0d1c001")]
    Resume(Steered),
    /// Makes no new runs, and cancels those that go on
    #[command(after_help = "\
Examples:
  ork backfills cancel 0193a1c4-90f2-7d10-a34b-9f62b0d1c001 --reason 'wrong month'
  ork backfills cancel 0193a1c4-90f2-7d10-a34b-9f62b0d1c001 --dry-run")]
    Cancel(Steered),
    /// Does its failed runs again, within its limit
    #[command(after_help = "\
Examples:
  ork backfills retry 0193a1c4-90f2-7d10-a34b-9f62b0d1c001")]
    Retry(Steered),
}

/// Which backfill, and why.
#[derive(clap::Args)]
pub(crate) struct Steered {
    /// Its id
    id: BackfillId,
    #[command(flatten)]
    how: How,
}

/// Makes a run for each tick that a schedule has in a range
///
/// The runs are of the current version. They go on by themselves: see `ork backfills show`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork workflows backfill daily_sales --from 2026-01-01 --to 2026-01-31 --dry-run
  ork workflows backfill daily_sales --schedule nightly --from 2026-01-01 --to 2026-01-31
  ork workflows backfill daily_sales --from 2026-01-01T00:00 --to 2026-01-01T12:00 --max-runs 4 --order newest")]
pub(crate) struct BackfillArgs {
    /// The workflow
    workflow: String,
    /// The schedule (the only one)
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// A date or time in the schedule's zone: no tick before
    #[arg(long, value_name = "TIME")]
    from: String,
    /// A date, taken to its end, or time: no tick after
    #[arg(long, value_name = "TIME")]
    to: String,
    /// How many runs may go on at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    max_runs: u32,
    /// Which ticks come first
    #[arg(long, value_enum, default_value_t = First::Oldest)]
    order: First,
    /// Only list the ticks
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Which ticks come first.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum First {
    Oldest,
    Newest,
}

pub(crate) async fn create(client: &Client, args: BackfillArgs, format: Format) -> Result {
    let which = Which { workflow: args.workflow, schedule: args.schedule };
    let found = super::schedules::find(client, &which).await?;
    let order = match args.order {
        First::Oldest => Order::Oldest,
        First::Newest => Order::Newest,
    };
    let new = NewBackfill {
        schedule: found.name,
        from: args.from,
        to: args.to,
        max_runs: args.max_runs,
        order,
        dry_run: args.dry_run,
        reason: args.reason,
    };
    let done = client.backfill(&found.workflow, &new).await?;
    let name = done.backfill.as_ref().map(|made| made.id.to_string()).unwrap_or_default();
    output::one(format, &done, &name, backfilled)?;
    match &done.backfill {
        Some(made) => {
            say(format_args!("{} runs; see `ork backfills show {}`", made.total, made.id));
        }
        None => say(format_args!("{} runs would be made", done.total)),
    }
    Ok(Exit::Ok)
}

fn backfilled(done: &Backfilled) -> String {
    match &done.backfill {
        Some(made) => format!("{}\n", made.id),
        None => {
            let more = done.total - done.ticks.len() as u64;
            let more = if more > 0 { format!("… and {more} more\n") } else { String::new() };
            preview_table(&done.ticks) + &more
        }
    }
}

pub(crate) fn run(global: &Global, command: BackfillsCommand) -> Result {
    let format = global.format()?;
    block_on(async {
        let session = Session::open(&global.server, Need::Answers).await?;
        let outcome = go(&session.client, command, format).await;
        session.close(true).await;
        outcome
    })
}

async fn go(client: &Client, command: BackfillsCommand, format: Format) -> Result {
    let (verb, steered) = match command {
        BackfillsCommand::List { limit } => {
            let part = Part { limit: Some(limit as usize), cursor: None };
            let items = client.backfills(&part).await?.items;
            output::list(format, &items, |item| item.id.to_string(), table)?;
            return Ok(Exit::Ok);
        }
        BackfillsCommand::Show { id } => {
            let backfill = client.show_backfill(id).await?;
            let query = RunQuery {
                trigger: Some(format!("backfill:{id}")),
                state: Some("failed".into()),
                limit: Some(20),
                ..RunQuery::default()
            };
            let failed = client.runs(&query).await?.items;
            let failed: Vec<_> = failed.iter().map(|run| (run.id, &run.logical_time)).collect();
            output::one(format, &backfill, &id.to_string(), |backfill| {
                let mut text = shown(backfill);
                for (run, time) in failed {
                    let _ = writeln!(text, "failed    {run} for {time}");
                }
                text
            })?;
            return Ok(Exit::Ok);
        }
        BackfillsCommand::Pause(steered) => ("pause", steered),
        BackfillsCommand::Resume(steered) => ("resume", steered),
        BackfillsCommand::Cancel(steered) => ("cancel", steered),
        BackfillsCommand::Retry(steered) => ("retry", steered),
    };
    let How { dry_run, reason } = steered.how;
    let body = SteerBackfill { reason };
    if dry_run {
        let id = steered.id.to_string();
        return tried(client, &["backfills", &id], (verb, &body), format).await;
    }
    let backfill = client.steer_backfill(steered.id, verb, &body).await?;
    output::one(format, &backfill, &backfill.id.to_string(), |_| String::new())?;
    say(format_args!("{} is {}", backfill.id, word(backfill.state)));
    Ok(Exit::Ok)
}

fn word(state: BackfillState) -> &'static str {
    match state {
        BackfillState::Running => "running",
        BackfillState::Paused => "paused",
        BackfillState::Cancelled => "cancelled",
        BackfillState::Done => "done",
    }
}

fn table(items: &[Backfill]) -> String {
    let rows = items.iter().map(|item| {
        vec![
            item.id.to_string(),
            item.workflow.clone(),
            item.schedule.clone(),
            word(item.state).to_owned(),
            format!("{}/{}", item.made + item.skipped, item.total),
            instant(item.created_at),
        ]
    });
    output::table(&["BACKFILL", "WORKFLOW", "SCHEDULE", "STATE", "RUNS", "CREATED"], rows)
}

fn shown(item: &Backfill) -> String {
    let mut text = format!("backfill  {}\n", item.id);
    let _ =
        writeln!(text, "of        {} of {} version {}", item.schedule, item.workflow, item.version);
    let _ = writeln!(text, "range     {} to {}", item.from, item.to);
    let _ = writeln!(text, "state     {}", word(item.state));
    let _ = writeln!(
        text,
        "runs      {} of {} made, at most {} at a time",
        item.made, item.total, item.max_runs
    );
    if let Some(reason) = &item.reason {
        let _ = writeln!(text, "skipped   {}: {reason}", item.skipped);
    }
    let _ = writeln!(text, "created   {} by {}", instant(item.created_at), item.created_by.name);
    if let Some(at) = item.finished_at {
        let _ = writeln!(text, "finished  {}", instant(at));
    }
    text
}
