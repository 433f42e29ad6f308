//! `ork runs`, and the bare verbs for the daily ones.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use clap::Subcommand;
use ork_api::client::Client;
use ork_api::stamp::Stamp;
use ork_api::types::{
    Explanation, LogLine, LogQuery, MAX_LOG_LINES, Run, RunQuery, Task, TaskQuery,
};
use ork_core::logs::{Level, Stream};
use ork_core::rows::{CacheNote, CachePart};
use ork_core::run::{RunState, TaskState};

use super::targets::Filter;
use super::{Global, block_on, operate};
use crate::context::{Need, Session};
use crate::exit::{Exit, Failure, Result};
use crate::output::{self, Format, duration};
use crate::runs::find;
use crate::suggest;
use crate::watch::{Whose, now, run_word, style, task_word};

#[derive(Subcommand)]
pub(crate) enum RunsCommand {
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// A run and its tasks; exit code 0 whatever its state
    #[command(after_help = "\
Examples:
  ork runs show last
  ork runs show 01932b -o json")]
    Show {
        /// An id, the beginning of one, or `last`
        #[arg(default_value = "last")]
        run: String,
    },
    Watch(WatchArgs),
    Logs(LogsArgs),
    Cancel(operate::CancelArgs),
    Pause(operate::PauseArgs),
    Resume(operate::ResumeArgs),
    Retry(operate::RetryArgs),
    Rerun(operate::RerunArgs),
    Mark(operate::MarkArgs),
    Signal(operate::SignalArgs),
    Explain(ExplainArgs),
}

/// Runs, the newest first
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork ls
  ork ls --workflow etl --state failed,running
  ork ls --label team=finance -n 500 -o json
  ork ls --tag nightly -q sales --sort created_at
  ork ls --since 2026-11-24 --until 2026-11-25T12:00:00Z
  ork runs list -o name | head -1")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// In which order: oldest first (`created_at`) or newest first (`-created_at`)
    #[arg(long, value_name = "ORDER", default_value = "-created_at", allow_hyphen_values = true)]
    sort: String,
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Watches a run until it ends
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork watch
  ork watch 01932b")]
pub(crate) struct WatchArgs {
    /// An id, the beginning of one, or `last`
    #[arg(default_value = "last")]
    run: String,
}

/// What a run's tasks wrote
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork logs
  ork logs last extract
  ork logs 01932b -f
  ork logs last load --tail 100 --level warn
  ork logs last -q timeout -o json")]
pub(crate) struct LogsArgs {
    /// An id, the beginning of one, or `last`
    #[arg(default_value = "last")]
    run: String,
    /// Only of this task
    task: Option<String>,
    /// Go on with new lines until the run ends
    #[arg(short, long, conflicts_with_all = ["tail", "search", "attempt"])]
    follow: bool,
    /// Only the last so many lines of each task
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Only lines that matter at least so much: debug, info, warn, error
    #[arg(long, value_parser = level)]
    level: Option<Level>,
    /// Only of stdout, stderr or system
    #[arg(long, value_parser = stream)]
    stream: Option<Stream>,
    /// Only lines with this text in them
    #[arg(short = 'q', long = "search", value_name = "TEXT")]
    search: Option<String>,
    /// Of this attempt (the newest)
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

/// Why a run does not go on, or how it ended
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork explain
  ork explain 01932b -o json")]
pub(crate) struct ExplainArgs {
    /// An id, the beginning of one, or `last`
    #[arg(default_value = "last")]
    run: String,
}

fn level(text: &str) -> std::result::Result<Level, String> {
    word(text, "debug, info, warn, error")
}

fn stream(text: &str) -> std::result::Result<Stream, String> {
    word(text, "stdout, stderr, system")
}

/// Run states with commas between, as the server takes them.
pub(super) fn states(text: &str) -> std::result::Result<String, String> {
    let words = "pending, running, success, failed, cancelled, skipped";
    for state in text.split(',') {
        word::<RunState>(state, words).map_err(|words| format!("`{state}` is not {words}"))?;
    }
    Ok(text.to_owned())
}

fn word<T: serde::de::DeserializeOwned>(text: &str, words: &str) -> std::result::Result<T, String> {
    let value = serde_json::Value::String(text.to_owned());
    serde_json::from_value(value).map_err(|_| format!("one of {words}"))
}

pub(crate) fn run(global: &Global, command: RunsCommand) -> Result {
    let need = match &command {
        RunsCommand::Retry(args) if !args.watches() => Need::Runs,
        RunsCommand::Rerun(args) if !args.watches() => Need::Runs,
        RunsCommand::Retry(_) | RunsCommand::Rerun(_) | RunsCommand::Watch(_) => Need::Works,
        RunsCommand::Logs(args) if args.follow => Need::Works,
        _ => Need::Answers,
    };
    let format = global.format()?;
    block_on(async {
        let mut session = Session::open(&global.server, need).await?;
        let outcome = go(&mut session, command, format).await;
        if need == Need::Works {
            return super::run::close(session, outcome).await;
        }
        session.close(true).await;
        outcome
    })
}

async fn go(session: &mut Session, command: RunsCommand, format: Format) -> Result {
    match command {
        RunsCommand::List(args) => list(&session.client, args, format).await,
        RunsCommand::Show { run } => show(&session.client, &run, format).await,
        RunsCommand::Logs(args) => logs(session, args, format).await,
        RunsCommand::Cancel(args) => operate::cancel(&session.client, args, format).await,
        RunsCommand::Pause(args) => operate::pause(&session.client, args, format).await,
        RunsCommand::Resume(args) => operate::resume(&session.client, args, format).await,
        RunsCommand::Mark(args) => operate::mark(&session.client, args, format).await,
        RunsCommand::Signal(args) => operate::signal(&session.client, args, format).await,
        RunsCommand::Rerun(args) => operate::rerun(session, args, format).await,
        RunsCommand::Explain(args) => explain(&session.client, &args, format).await,
        RunsCommand::Watch(args) => {
            let run = find(&session.client, &args.run).await?;
            super::run::watch_to_end(session, &run, Whose::Others, format).await
        }
        RunsCommand::Retry(args) => operate::retry(session, args, format).await,
    }
}

async fn list(client: &Client, args: ListArgs, format: Format) -> Result {
    let mut query = RunQuery { sort: Some(args.sort), ..args.filter.query() };
    let (mut items, limit) = (Vec::new(), args.limit as usize);
    loop {
        query.limit = Some((limit - items.len()).min(500));
        let page = client.runs(&query).await?;
        items.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() || items.len() >= limit {
            break;
        }
    }
    output::list(format, &items, |run| run.id.to_string(), table)?;
    Ok(Exit::Ok)
}

fn table(items: &[Run]) -> String {
    let rows = items.iter().map(|run| {
        vec![
            run.id.to_string(),
            run.workflow.clone(),
            run_word(run.state),
            instant(run.created_at),
            took(run).unwrap_or_default(),
        ]
    });
    output::table(&["RUN", "WORKFLOW", "STATE", "CREATED", "TOOK"], rows)
}

fn took(run: &Run) -> Option<String> {
    let end = run.finished_at.map_or_else(now, |at| at.0);
    Some(duration((end - run.started_at?.0).0))
}

/// An instant for people: to the second, in UTC.
pub(crate) fn instant(stamp: Stamp) -> String {
    let text = stamp.to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ") + "Z"
}

async fn show(client: &Client, run: &str, format: Format) -> Result {
    let run = find(client, run).await?;
    if format != Format::Table {
        output::one(format, &run, &run.id.to_string(), |_| String::new())?;
        return Ok(Exit::Ok);
    }
    let mut text = format!("run       {}\nworkflow  {}", run.id, run.workflow);
    let version =
        if run.version < 0 { "a draft".to_owned() } else { format!("version {}", run.version) };
    let _ = writeln!(text, " ({version})\nstate     {}", run_word(run.state));
    let _ = writeln!(text, "created   {} by {}", instant(run.created_at), run.created_by.name);
    if run.trigger != "manual" {
        let _ = writeln!(text, "trigger   {} at {}", run.trigger, run.logical_time);
    }
    if let Some(after) = &run.after {
        let _ = writeln!(text, "after     {after}");
    }
    if let Some(took) = took(&run) {
        let _ = writeln!(text, "took      {took}");
    }
    if run.params.as_object().is_some_and(|params| !params.is_empty()) {
        let _ = writeln!(text, "params    {}", run.params);
    }
    if let Some(failure) = &run.failure {
        let _ = writeln!(text, "failure   {}", failure.message);
    }
    let tasks = tasks(client, &run, &TaskQuery::default()).await?;
    let _ = write!(text, "\n{}", tasks_table(&tasks));
    output::write(&text)?;
    Ok(Exit::Ok)
}

pub(crate) async fn tasks(client: &Client, run: &Run, query: &TaskQuery) -> Result<Vec<Task>> {
    let mut query = TaskQuery { limit: Some(500), ..query.clone() };
    let mut items = Vec::new();
    loop {
        let page = client.tasks(run.id, &query).await?;
        items.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return Ok(items);
        }
    }
}

/// What is inside a task stands below it; else the order stays.
fn in_tree_order(items: &[Task]) -> Vec<&Task> {
    let paths: HashSet<&str> = items.iter().map(|task| task.path.as_str()).collect();
    let mut inside: HashMap<Option<&str>, Vec<&Task>> = HashMap::new();
    for task in items {
        let parent = task.path.parent().filter(|parent| paths.contains(parent));
        inside.entry(parent).or_default().push(task);
    }
    let mut left = inside.remove(&None).unwrap_or_default();
    left.reverse();
    let mut ordered = Vec::with_capacity(items.len());
    while let Some(task) = left.pop() {
        ordered.push(task);
        left.extend(inside.remove(&Some(task.path.as_str())).unwrap_or_default().into_iter().rev());
    }
    ordered
}

fn tasks_table(items: &[Task]) -> String {
    let rows = in_tree_order(items).into_iter().map(|task| {
        let end = task.finished_at.map_or_else(now, |at| at.0);
        let took = task.started_at.map(|from| duration((end - from.0).0));
        let why = task.failure.as_ref().map(|failure| failure.message.clone());
        let why = why.or_else(|| task.cause.as_ref().map(|cause| format!("because of {cause}")));
        let attempt = if task.attempt == 0 { String::new() } else { task.attempt.to_string() };
        vec![
            task.path.to_string(),
            style(task.state, task_word(task.state)),
            attempt,
            took.unwrap_or_default(),
            why.unwrap_or_default().lines().next().unwrap_or_default().to_owned(),
        ]
    });
    output::table(&["TASK", "STATE", "ATTEMPT", "TOOK", "WHY"], rows)
}

async fn explain(client: &Client, args: &ExplainArgs, format: Format) -> Result {
    let run = find(client, &args.run).await?;
    let explanation = client.explain(run.id).await?;
    output::one(format, &explanation, &run.id.to_string(), |it| explained(&run, it))?;
    Ok(Exit::Ok)
}

fn explained(run: &Run, explanation: &Explanation) -> String {
    let mut text = format!("{} of {} is {}", run.id, run.workflow, run_word(explanation.state));
    if run.trigger != "manual" {
        let after = run.after.map(|after| format!(" after run {after}")).unwrap_or_default();
        let _ = write!(text, " ({}{after} at {})", run.trigger, run.logical_time);
    }
    if let Some(failure) = &explanation.failure {
        let _ = write!(text, ": {}", failure.message);
    }
    text.push('\n');
    // Each task that waits says the same.
    let told = explanation.tasks.iter().any(|task| !task.blockers.is_empty());
    for blocker in explanation.blockers.iter().filter(|_| !told) {
        let _ = writeln!(text, "  {}", blocker.message);
    }
    for task in &explanation.tasks {
        let _ = write!(text, "  {} {}", task.path, style(task.state, task_word(task.state)));
        if let Some(failure) = &task.failure {
            let _ = write!(text, ": {}", failure.message);
        }
        if let Some(cause) = &task.cause {
            let _ = write!(text, " because of {cause}");
        }
        text.push('\n');
        for blocker in &task.blockers {
            let _ = writeln!(text, "    {}", blocker.message);
        }
        if let Some(note) = &task.cache {
            let _ = writeln!(text, "    cache: {}", cache_words(note));
        }
    }
    if explanation.truncated {
        text.push_str("  … and more\n");
    }
    let over = explanation.tasks.iter().all(|task| task.state == TaskState::Success);
    if explanation.state == RunState::Running && over {
        text.push_str("  nothing waits\n");
    }
    if let Some(at) = explanation.next_wakeup {
        let _ = writeln!(text, "the next thing that is due: {}", instant(at));
    }
    text
}

/// Whose success was reused, or what kept that of the last run from being.
fn cache_words(note: &CacheNote) -> String {
    let (differs, than) = match note {
        CacheNote::Hit { run, path, at } => {
            return format!("took the output of {path} in run {run} ({})", instant(Stamp(*at)));
        }
        CacheNote::Missed { differs, than } => (differs, than),
    };
    let than = than.map_or_else(|| "the last success".to_owned(), |run| format!("run {run}"));
    let words: Vec<_> = differs
        .iter()
        .map(|part| match part {
            CachePart::Task => "what the task is".to_owned(),
            CachePart::Code => "the code".to_owned(),
            CachePart::Input(name) => format!("the input `{name}`"),
            CachePart::Inputs => "the inputs".to_owned(),
            CachePart::Key => "`cache.key`".to_owned(),
            CachePart::Age => "the age, which is over `cache.ttl`".to_owned(),
        })
        .collect();
    match &words[..] {
        [] => "no earlier success".to_owned(),
        words => format!("nothing taken from {than}; another is: {}", words.join(", ")),
    }
}

async fn logs(session: &mut Session, args: LogsArgs, format: Format) -> Result {
    let run = find(&session.client, &args.run).await?;
    if args.follow {
        return crate::watch::logs(session, &run, &args.filter(), format).await;
    }
    let mut paths = Vec::new();
    for task in tasks(&session.client, &run, &TaskQuery::default()).await? {
        let wanted = args.task.as_deref().is_none_or(|name| name == task.path.as_str());
        let wanted_attempt = args.attempt.is_none_or(|number| number <= task.attempt);
        let began = (task.attempt > 0 || task.state == TaskState::Failed) && wanted_attempt;
        if args.task.is_some() && !wanted {
            paths.push((task.path.to_string(), false));
        } else if began || args.task.is_some() {
            paths.push((task.path.to_string(), true));
        }
    }
    if let Some(name) = args.task.as_deref().filter(|_| !paths.iter().any(|(_, wanted)| *wanted)) {
        let names: Vec<_> = paths.iter().map(|(path, _)| path.as_str()).collect();
        return Err(Failure::new(Exit::Refused, format!("{} has no task `{name}`", run.id))
            .hint(suggest::hint(name, &names)));
    }
    for (path, _) in paths.iter().filter(|(_, wanted)| *wanted) {
        one_log(&session.client, &run, path, &args, format).await?;
    }
    Ok(Exit::Ok)
}

/// Prints a task's log part by part, so that a long one needs no memory.
async fn one_log(
    client: &Client,
    run: &Run,
    path: &str,
    args: &LogsArgs,
    format: Format,
) -> Result<()> {
    let mut query = LogQuery {
        attempt: args.attempt,
        tail: args.tail,
        level: args.level,
        stream: args.stream,
        q: args.search.clone(),
        limit: args.tail.is_none().then_some(MAX_LOG_LINES),
        ..LogQuery::default()
    };
    loop {
        let part = client.logs(run.id, path, &query).await?;
        let named = args.task.is_none().then_some(path);
        let text: String = part.lines.iter().map(|line| shown(line, named, path, format)).collect();
        output::write(&text)?;
        let at_the_end = part.lines.is_empty() && Some(part.scanned_to) <= query.after.or(Some(0));
        if part.complete || args.tail.is_some() || at_the_end {
            return Ok(());
        }
        query.after = Some(part.scanned_to);
    }
}

/// A line of a log in the form that was asked for.
pub(crate) fn shown(line: &LogLine, named: Option<&str>, path: &str, format: Format) -> String {
    let whole = || LogLine { path: Some(path.into()), ..line.clone() };
    match format {
        Format::Json => serde_json::to_string(&whole()).unwrap_or_default() + "\n",
        Format::Yaml => format!("---\n{}", output::structured(format, &whole())),
        Format::Table | Format::Name => crate::lines::shown(line, named) + "\n",
    }
}

/// Which lines are shown while a run's log is followed.
pub(crate) struct LogFilter {
    pub(crate) task: Option<String>,
    level: Option<Level>,
    stream: Option<Stream>,
}

impl LogFilter {
    /// Whether the line is wanted.
    pub(crate) fn takes(&self, line: &LogLine) -> bool {
        self.level.is_none_or(|least| line.level >= least)
            && self.stream.is_none_or(|stream| line.stream == stream)
    }
}

impl LogsArgs {
    fn filter(&self) -> LogFilter {
        LogFilter { task: self.task.clone(), level: self.level, stream: self.stream }
    }
}
