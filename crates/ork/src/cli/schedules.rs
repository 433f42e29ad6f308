//! `ork schedules`.

use std::fmt::Write as _;
use std::path::Path;

use clap::Subcommand;
use ork_api::client::Client;
use ork_api::problem::Code;
use ork_api::schedules::{
    DEFAULT_PREVIEW, MAX_PREVIEW, Note, PauseSchedule, PreviewQuery, Schedule, ScheduleQuery,
    Ticked, Upcoming, upcoming,
};
use ork_api::stamp::Stamp;
use ork_api::types::{List, Part};
use ork_core::schedule::Timetable;
use owo_colors::OwoColorize as _;
use serde::Serialize;

use super::runs::instant;
use super::targets::{How, tried};
use super::{Global, block_on};
use crate::context::{Need, Session};
use crate::exit::{Exit, Failure, Result};
use crate::files::{self, WorkflowFile};
use crate::output::{self, Format, say};
use crate::suggest;
use crate::watch::now;

/// How many of a schedule's last ticks are shown.
const TICKS: usize = 10;

#[derive(Subcommand)]
pub(crate) enum SchedulesCommand {
    /// Schedules by workflow and name
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  ork schedules list
  ork schedules list --workflow daily_sales -o json"
    )]
    List {
        /// Only of this workflow
        #[arg(short, long, value_name = "NAME")]
        workflow: Option<String>,
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// A schedule, and what became of its last ticks
    #[command(after_help = "\
Examples:
  ork schedules show daily_sales
  ork schedules show daily_sales nightly -o json")]
    Show(Which),
    /// Makes no runs until it is resumed
    #[command(after_help = "\
Examples:
  ork schedules pause daily_sales nightly --reason 'the source is down'
  ork schedules pause daily_sales --dry-run")]
    Pause(Change),
    /// Lets it go on; what it missed follows its `catchup`
    #[command(after_help = "\
Examples:
  ork schedules resume daily_sales nightly")]
    Resume(Change),
    /// The ticks that are to come, with changes of the clock marked; of a file without a server
    #[command(after_help = "\
Examples:
  ork schedules preview daily_sales
  ork schedules preview ./daily_sales.yaml nightly -n 20
  ork schedules preview daily_sales nightly --after 2026-10-24 -o json")]
    Preview {
        /// The workflow, or a file of it
        #[arg(value_name = "NAME|FILE")]
        what: String,
        /// The schedule (the only one)
        schedule: Option<String>,
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = DEFAULT_PREVIEW as u32,
              value_parser = clap::value_parser!(u32).range(1..=MAX_PREVIEW as i64))]
        count: u32,
        /// Those after this date or time (now)
        #[arg(long, value_name = "TIME")]
        after: Option<Stamp>,
    },
}

/// Which schedule is meant.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// The workflow
    pub(crate) workflow: String,
    /// The schedule (the only one)
    pub(crate) schedule: Option<String>,
}

/// Which schedule is changed, and why.
#[derive(clap::Args)]
pub(crate) struct Change {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
}

pub(crate) fn run(global: &Global, command: SchedulesCommand) -> Result {
    let format = global.format()?;
    if let SchedulesCommand::Preview { what, schedule, count, after } = &command
        && files::is_file(what)
    {
        let items = preview_file(what, schedule.as_deref(), *count as usize, *after)?;
        output::list(format, &items, |item| item.logical_time.clone(), preview_table)?;
        return Ok(Exit::Ok);
    }
    block_on(async {
        let session = Session::open(&global.server, Need::Answers).await?;
        let outcome = go(&session.client, command, format).await;
        session.close(true).await;
        outcome
    })
}

async fn go(client: &Client, command: SchedulesCommand, format: Format) -> Result {
    match command {
        SchedulesCommand::List { workflow, limit } => {
            let items = schedules(client, workflow, limit as usize).await?;
            let name = |item: &Schedule| format!("{} {}", item.workflow, item.name);
            output::list(format, &items, name, table)?;
        }
        SchedulesCommand::Show(which) => {
            let schedule = find(client, &which).await?;
            let part = Part { limit: Some(TICKS), cursor: None };
            let ticks = client.ticks(&schedule.workflow, &schedule.name, &part).await?.items;
            let name = schedule.name.clone();
            output::one(format, &Shown { schedule, ticks }, &name, shown)?;
        }
        SchedulesCommand::Pause(change) => return set_paused(client, change, true, format).await,
        SchedulesCommand::Resume(change) => return set_paused(client, change, false, format).await,
        SchedulesCommand::Preview { what, schedule, count, after } => {
            let found = find(client, &Which { workflow: what, schedule }).await?;
            let wanted = PreviewQuery { count: Some(count as usize), after };
            let List { items, .. } =
                client.preview_schedule(&found.workflow, &found.name, &wanted).await?;
            output::list(format, &items, |item| item.logical_time.clone(), preview_table)?;
        }
    }
    Ok(Exit::Ok)
}

async fn set_paused(client: &Client, change: Change, paused: bool, format: Format) -> Result {
    let Schedule { workflow, name, .. } = find(client, &change.which).await?;
    let body = PauseSchedule { reason: change.how.reason };
    if change.how.dry_run {
        let verb = if paused { "pause" } else { "resume" };
        return tried(client, &["schedules", &workflow, &name], (verb, &body), format).await;
    }
    let schedule = if paused {
        client.pause_schedule(&workflow, &name, &body).await?
    } else {
        client.resume_schedule(&workflow, &name, &body).await?
    };
    output::one(format, &schedule, &schedule.name, |_| String::new())?;
    let next = schedule.next.as_ref().map(|next| format!("; the next tick is {next}"));
    let word = if paused { "paused" } else { "goes on" };
    say(format_args!("{name} of {workflow} {word}{}", next.unwrap_or_default()));
    Ok(Exit::Ok)
}

/// Up to `limit` schedules, of one workflow or of all.
async fn schedules(
    client: &Client,
    workflow: Option<String>,
    limit: usize,
) -> Result<Vec<Schedule>> {
    let mut query = ScheduleQuery { workflow, ..ScheduleQuery::default() };
    let mut items = Vec::new();
    loop {
        query.limit = Some((limit - items.len()).min(500));
        let page = client.schedules(&query).await?;
        items.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() || items.len() >= limit {
            return Ok(items);
        }
    }
}

/// The schedule that is named, or a workflow's only one.
pub(crate) async fn find(client: &Client, which: &Which) -> Result<Schedule> {
    if let Some(name) = &which.schedule {
        match client.schedule(&which.workflow, name).await {
            Err(error) if error.code() == Some(Code::NotFound) => {}
            other => return Ok(other?),
        }
    }
    super::workflows::find(client, &which.workflow).await?;
    let mut items = schedules(client, Some(which.workflow.clone()), 500).await?;
    let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
    let at = pick("schedule", &which.workflow, which.schedule.as_deref(), &names)?;
    Ok(items.swap_remove(at))
}

/// The place of the name that is meant among those of a workflow's schedules or triggers.
pub(crate) fn pick(
    what: &str,
    workflow: &str,
    name: Option<&str>,
    names: &[&str],
) -> Result<usize> {
    match (name, names) {
        (None, [_]) => Ok(0),
        (None, []) => {
            Err(Failure::new(Exit::Refused, format!("workflow `{workflow}` has no {what}s"))
                .hint(format!("it declares them under `{what}s`")))
        }
        (None, several) => Err(Failure::usage(format!("`{workflow}` has several {what}s"))
            .hint(format!("name one of {}", several.join(", ")))),
        (Some(name), _) => names.iter().position(|other| *other == name).ok_or_else(|| {
            let message = format!("workflow `{workflow}` has no {what} `{name}`");
            Failure::new(Exit::Refused, message).hint(suggest::hint(name, names))
        }),
    }
}

fn preview_file(
    path: &str,
    schedule: Option<&str>,
    count: usize,
    after: Option<Stamp>,
) -> Result<Vec<Upcoming>> {
    let file = WorkflowFile::read(Path::new(path))?;
    super::validate::show(&file);
    let Some(plan) = &file.compiled.plan else {
        return Err(Failure::failed(format!("{path} has errors")));
    };
    let names: Vec<_> = plan.schedules.keys().map(String::as_str).collect();
    let spec = &plan.schedules[pick("schedule", &plan.name, schedule, &names)?];
    let table = Timetable::new(&spec.when, &spec.timezone)
        .map_err(|error| Failure::failed(error.to_string()))?;
    Ok(upcoming(&table, after.map_or_else(now, |after| after.0), count))
}

fn table(items: &[Schedule]) -> String {
    let rows = items.iter().map(|item| {
        let next = if item.paused { Some("paused") } else { item.next.as_deref() };
        vec![
            item.workflow.clone(),
            item.name.clone(),
            item.rule.clone(),
            item.timezone.clone(),
            next.unwrap_or("no more").to_owned(),
            item.last.clone().unwrap_or_default(),
        ]
    });
    output::table(&["WORKFLOW", "SCHEDULE", "RULE", "ZONE", "NEXT", "LAST"], rows)
}

/// A schedule with its last ticks.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    schedule: Schedule,
    ticks: Vec<Ticked>,
}

fn shown(Shown { schedule, ticks }: &Shown) -> String {
    let mut text = format!("schedule  {} of {}\n", schedule.name, schedule.workflow);
    let _ = writeln!(text, "rule      {} ({})", schedule.rule, schedule.timezone);
    let _ = writeln!(text, "catchup   {}", schedule.catchup);
    if schedule.jitter != "0s" {
        let _ = writeln!(text, "jitter    {}", schedule.jitter);
    }
    let next = if schedule.paused { Some("paused") } else { schedule.next.as_deref() };
    let _ = writeln!(text, "next      {}", next.unwrap_or("no more"));
    if let Some(by) = &schedule.changed_by {
        let word = if schedule.paused { "paused" } else { "resumed" };
        let why = by.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let _ = writeln!(text, "{word:9} by {}{why}", by.name);
    }
    let rows = ticks.iter().map(|tick| {
        let run = tick.run.map(|run| run.to_string());
        let more =
            if tick.count > 1 { format!(" and {} more", tick.count - 1) } else { String::new() };
        vec![
            tick.logical_time.clone() + &more,
            run.unwrap_or_else(|| tick.reason.clone().unwrap_or_default()),
            instant(tick.decided_at),
        ]
    });
    let _ = write!(text, "\n{}", output::table(&["TICK", "RUN", "DECIDED"], rows));
    text
}

pub(crate) fn preview_table(items: &[Upcoming]) -> String {
    let rows = items.iter().map(|item| {
        let note = match item.note {
            None => String::new(),
            Some(Note::Changed) => {
                format!("the clock is {} from here", item.clock).yellow().to_string()
            }
            Some(Note::Moved) => "its own time is skipped; right after".yellow().to_string(),
            Some(Note::First) => "the first of two".yellow().to_string(),
            Some(Note::Second) => "the second of two".yellow().to_string(),
        };
        vec![item.logical_time.clone(), item.clock.clone(), instant(item.tick), note]
    });
    output::table(&["TICK", "CLOCK", "UTC", ""], rows)
}
