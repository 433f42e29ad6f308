//! Watching a run until it ends: live on a terminal, as plain lines elsewhere.

mod live;
mod plain;
mod progress;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ork_api::client::{Client, ClientError, EventStream, Streamed, StreamedItem};
use ork_api::types::{Approve, Cancel, Event, LogChunk, Run, RunQuery, TaskQuery};
use ork_core::ids::{InstancePath, RunId};
use ork_core::run::{EventKind, RunState, TaskState, Waiting};
use ork_core::time::Wall;
use ork_core::value::Value;
use owo_colors::OwoColorize as _;
use tokio::sync::mpsc;

use self::progress::{Progress, TaskLine};
use crate::cli::runs::{LogFilter, shown, tasks};
use crate::context::Session;
use crate::exit::{Exit, Result};
use crate::output::{self, Format, duration, is_live, say};
use crate::signals::{Interrupts, Told};

/// How often durations on a terminal are drawn anew.
const FRAME: Duration = Duration::from_millis(100);

/// How long between two looks at runs that cannot be followed just now.
const AGAIN: Duration = Duration::from_millis(200);

/// How many tasks that failed are shown at the end, and how many lines of each.
const FAILURES: usize = 5;
const LAST_WORDS: usize = 20;

/// The word for a run's state.
pub(crate) fn run_word(state: RunState) -> String {
    let word = match state {
        RunState::Pending => return "pending".to_owned(),
        RunState::Running => return "running".cyan().to_string(),
        RunState::Success => return "success".green().to_string(),
        RunState::Failed => return "failed".red().to_string(),
        RunState::Cancelled => "cancelled",
        RunState::Skipped => "skipped",
    };
    word.yellow().to_string()
}

/// The word for an instance's state.
pub(crate) fn task_word(state: TaskState) -> &'static str {
    match state {
        TaskState::Pending => "pending",
        TaskState::Queued => "queued",
        TaskState::Dispatched => "dispatched",
        TaskState::Running => "running",
        TaskState::Deferred => "deferred",
        TaskState::Stopping => "stopping",
        TaskState::Success => "success",
        TaskState::Failed => "failed",
        TaskState::Skipped => "skipped",
        TaskState::UpstreamFailed => "upstream_failed",
        TaskState::Cancelled => "cancelled",
    }
}

/// A text in the colour of a state.
pub(crate) fn style(state: TaskState, text: &str) -> String {
    match state {
        TaskState::Success => text.green().to_string(),
        TaskState::Failed | TaskState::UpstreamFailed => text.red().to_string(),
        TaskState::Running | TaskState::Deferred => text.cyan().to_string(),
        TaskState::Stopping | TaskState::Cancelled => text.yellow().to_string(),
        _ => text.dimmed().to_string(),
    }
}

/// The civil clock.
pub(crate) fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// How watching ended.
pub(crate) enum Watched {
    /// The run is over.
    Over(Box<Run>),
    /// Whoever watched left; the run goes on.
    Left,
}

impl Watched {
    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Over(run) => Exit::of(run.state),
            Self::Left => Exit::Interrupted,
        }
    }
}

/// Whose run is watched, and so what an end that nobody can be asked about means for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The command's own: it ends with the command.
    Own,
    /// Another's, which goes on.
    Others,
}

/// Watches a run until its present run attempt is over or whoever watches leaves.
///
/// # Errors
/// When the server went away for good, or refuses.
pub(crate) async fn follow(session: &mut Session, run: &Run, whose: Whose) -> Result<Watched> {
    let mut watch = Watch::new(run, whose)?;
    let mut stream = Topics::open(session, run.id, "recent").await?;
    while !watch.progress.is_over() {
        let step = tokio::select! {
            streamed = stream.next(session) => Step::Streamed(Box::new(streamed?)),
            told = watch.interrupts.next() => Step::Interrupted(told),
            Some(answer) = watch.answers.1.recv() => Step::Answered(answer),
            () = frame(watch.block.is_some()) => Step::Frame,
        };
        if watch.step(session, step).await? == Go::Leave {
            return Ok(Watched::Left);
        }
    }
    let run = last_look(session, run.id).await?;
    watch.end(&run);
    Ok(Watched::Over(Box::new(run)))
}

async fn last_look(session: &mut Session, id: RunId) -> Result<Run> {
    match session.client.run(id).await {
        Err(error @ ClientError::Unreachable(_)) => {
            session.reopen(error).await?;
            Ok(session.client.run(id).await?)
        }
        other => Ok(other?),
    }
}

async fn frame(live: bool) {
    if live { tokio::time::sleep(FRAME).await } else { std::future::pending().await }
}

/// The event stream of a run. When a local server goes away it goes on at the next one.
struct Topics {
    stream: EventStream,
    names: [String; 2],
    last_id: Option<String>,
}

impl Topics {
    /// The events of a run and its `logs`, or the `recent` ones among them.
    async fn open(session: &Session, run: RunId, lines: &str) -> Result<Self> {
        let names = [format!("run:{run}"), format!("{lines}:{run}")];
        let stream = session.client.events(&names, None).await?;
        Ok(Self { stream, names, last_id: None })
    }

    async fn next(&mut self, session: &mut Session) -> Result<Streamed> {
        loop {
            match self.stream.next().await {
                Ok(streamed) => {
                    self.last_id = Some(streamed.id.clone());
                    return Ok(streamed);
                }
                Err(error @ ClientError::Unreachable(_)) => {
                    session.reopen(error).await?;
                    let id = self.last_id.as_deref();
                    self.stream = session.client.events(&self.names, id).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

enum Step {
    Streamed(Box<Streamed>),
    Interrupted(Told),
    Answered(String),
    Frame,
}

#[derive(PartialEq, Eq)]
enum Go {
    On,
    Leave,
}

/// What whoever watches has asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    /// Was asked whether to cancel or to leave.
    Choice,
    /// Was asked whether to approve what the first of the approvals asks.
    Approval,
    Cancel,
    Force,
}

struct Watch {
    run: RunId,
    whose: Whose,
    title: live::Title,
    progress: Progress,
    block: Option<live::Block>,
    interrupts: Interrupts,
    answers: (mpsc::Sender<String>, mpsc::Receiver<String>),
    asked: Asked,
    /// Approvals that wait, with what they ask.
    approvals: VecDeque<(InstancePath, String)>,
    /// Whether somebody reads a line of standard input.
    reading: bool,
}

impl Watch {
    fn new(run: &Run, whose: Whose) -> Result<Self> {
        let title = live::Title { workflow: run.workflow.clone(), id: run.id };
        let block = is_live().then(live::Block::default);
        if block.is_none() {
            say(format_args!("run {} of {}", run.id, run.workflow));
        }
        Ok(Self {
            run: run.id,
            whose,
            title,
            progress: Progress::new(run),
            block,
            interrupts: Interrupts::new()?,
            answers: mpsc::channel(1),
            asked: Asked::Nothing,
            approvals: VecDeque::new(),
            reading: false,
        })
    }

    async fn step(&mut self, session: &Session, step: Step) -> Result<Go> {
        match step {
            Step::Streamed(streamed) => self.streamed(session, streamed.item).await?,
            Step::Interrupted(told) => return self.interrupted(session, told).await,
            Step::Answered(answer) => {
                self.reading = false;
                return self.answered(session, &answer).await;
            }
            Step::Frame => self.draw(),
        }
        Ok(Go::On)
    }

    async fn streamed(&mut self, session: &Session, item: StreamedItem) -> Result<()> {
        match item {
            StreamedItem::Event(event) => {
                self.progress.apply(&event);
                if self.block.is_none() {
                    plain::event(&self.progress, &event);
                } else if self.whose == Whose::Own {
                    self.notice_approval(&event);
                }
            }
            StreamedItem::Log(chunk) => {
                // Lines come where they were written among the events.
                let is_new = self.progress.log(&chunk) && self.progress.is_current();
                if is_new && self.block.is_none() {
                    plain::log(&chunk);
                }
            }
            StreamedItem::Reset(_) => reread(&mut self.progress, &session.client, self.run).await?,
        }
        Ok(())
    }

    fn draw(&mut self) {
        let asks = matches!(self.asked, Asked::Choice | Asked::Approval);
        if let Some(block) = self.block.as_mut().filter(|_| !asks) {
            block.draw(&self.progress, &self.title, now());
        }
    }

    /// On a terminal the first Ctrl-C asks, the next cancels; elsewhere, and when the system ends
    /// the command, the first cancels the command's own run and leaves another's. One more ends
    /// `finally` too, and one more leaves.
    async fn interrupted(&mut self, session: &Session, told: Told) -> Result<Go> {
        match self.asked {
            Asked::Nothing | Asked::Approval if self.block.is_some() && told == Told::Interrupt => {
                self.ask();
                Ok(Go::On)
            }
            Asked::Nothing | Asked::Approval if self.whose == Whose::Others => Ok(Go::Leave),
            Asked::Choice if self.whose == Whose::Others && told == Told::Terminate => {
                Ok(Go::Leave)
            }
            Asked::Nothing | Asked::Approval | Asked::Choice => self.cancel(session, false).await,
            Asked::Cancel => self.cancel(session, true).await,
            Asked::Force => Ok(Go::Leave),
        }
    }

    fn ask(&mut self) {
        self.asked = Asked::Choice;
        if let Some(block) = &mut self.block {
            block.clear();
        }
        say("cancel the run (c), leave it (l), or go on watching (Enter)? Ctrl-C cancels");
        self.read_line();
    }

    /// Reads a line of standard input, unless one is being read.
    fn read_line(&mut self) {
        if std::mem::replace(&mut self.reading, true) {
            return;
        }
        let to = self.answers.0.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            if std::io::stdin().read_line(&mut line).is_ok() {
                let _ = to.blocking_send(line.trim().to_lowercase());
            }
        });
    }

    /// An approval began to wait, or is over.
    fn notice_approval(&mut self, event: &Event) {
        let Some(path) = &event.path else { return };
        let first = self.approvals.front().is_some_and(|(waits, _)| waits == path);
        self.approvals.retain(|(waits, _)| waits != path);
        if let EventKind::TaskDeferred { wait: Waiting::Approval { prompt, .. }, .. } = &event.data
        {
            self.approvals.push_back((path.clone(), prompt.clone()));
        } else if first && self.asked == Asked::Approval {
            self.asked = Asked::Nothing;
        }
        self.ask_approval();
    }

    /// Asks whether to approve, if nothing else is asked.
    fn ask_approval(&mut self) {
        let Some((path, prompt)) = self.approvals.front() else { return };
        if self.asked != Asked::Nothing {
            return;
        }
        self.asked = Asked::Approval;
        if let Some(block) = &mut self.block {
            block.clear();
        }
        say(format_args!("{path} asks: {prompt}\napprove (y), reject (n), or later (Enter)?"));
        self.read_line();
    }

    async fn decide(&mut self, session: &Session, answer: &str) {
        self.asked = Asked::Nothing;
        let Some((path, _)) = self.approvals.pop_front() else { return };
        let approved = match answer.chars().next() {
            Some('y') => true,
            Some('n') => false,
            _ => {
                return say(format_args!("later: ork approvals approve {} {path}", self.run));
            }
        };
        let wanted = Approve { approved, comment: None, form: Value::Null, reason: None };
        if let Err(error) = session.client.approve(self.run, path.as_str(), &wanted).await {
            say(format_args!("{error}; ork approvals approve {} {path} -f NAME=VALUE", self.run));
        }
    }

    async fn answered(&mut self, session: &Session, answer: &str) -> Result<Go> {
        match self.asked {
            Asked::Choice => {}
            Asked::Approval => {
                self.decide(session, answer).await;
                self.ask_approval();
                return Ok(Go::On);
            }
            _ => return Ok(Go::On),
        }
        self.asked = Asked::Nothing;
        match answer.chars().next() {
            Some('c') => self.cancel(session, false).await,
            Some('l') => Ok(Go::Leave),
            _ => Ok(Go::On),
        }
    }

    async fn cancel(&mut self, session: &Session, force: bool) -> Result<Go> {
        self.asked = if force { Asked::Force } else { Asked::Cancel };
        let next = if force { "leave it" } else { "end `finally` too" };
        if let Some(block) = &mut self.block {
            block.clear();
        }
        say(format_args!("cancelling; once more to {next}"));
        let cancel = Cancel { force, ..Cancel::default() };
        tokio::select! {
            answer = session.client.cancel(self.run, &cancel) => Ok(answer.map(|_| Go::On)?),
            told = self.interrupts.next() => Box::pin(self.interrupted(session, told)).await,
        }
    }

    /// The last picture, and what a person needs to know of a run that did not succeed.
    fn end(&mut self, run: &Run) {
        if let Some(block) = &mut self.block {
            block.draw(&self.progress, &self.title, now());
        }
        self.failures();
        let took = run.started_at.zip(run.finished_at).map(|(from, to)| (to.0 - from.0).0);
        let took = took.map(|took| format!(" in {}", duration(took))).unwrap_or_default();
        let why = run.failure.as_ref().map(|failure| format!(": {}", failure.message));
        if self.block.is_none() || why.is_some() {
            let why = why.unwrap_or_default();
            say(format_args!("{} {}{why}", run.workflow, run_word(run.state)));
        }
        say(format_args!("{}{took}", self.progress.summary()));
    }

    /// What is known of each task that failed, and how to see more of it.
    fn failures(&self) {
        let failed = self.progress.tasks.iter().filter(|(_, task)| task.state == TaskState::Failed);
        for (path, task) in failed.clone().take(FAILURES) {
            let message = task.failure.as_ref().map(|failure| failure.message.as_str());
            say(format_args!("\n{} {}", path.bold(), message.unwrap_or("failed").red()));
            for line in self.last_words(task) {
                say(format_args!("  {line}"));
            }
            say(format_args!("  {}", format!("more: ork logs {} {path}", self.run).dimmed()));
        }
        match failed.count() {
            0 => {}
            n if n > FAILURES => say(format_args!("\n… and {} more that failed\n", n - FAILURES)),
            _ => say(""),
        }
    }

    /// The traceback of a task that failed, else what it wrote last. Where its lines stand above,
    /// they are not repeated.
    fn last_words<'t>(&self, task: &'t TaskLine) -> Vec<&'t str> {
        let details = task.failure.as_ref().and_then(|failure| failure.details.as_deref());
        let details: Vec<_> = details.unwrap_or_default().trim_end().lines().collect();
        let recent = task.recent.iter().map(String::as_str);
        let is_above = self.block.is_none()
            && details.last().is_none_or(|last| recent.clone().any(|line| line == *last));
        if is_above {
            return Vec::new();
        }
        let lines = if details.is_empty() { recent.collect() } else { details };
        lines[lines.len().saturating_sub(LAST_WORDS)..].to_vec()
    }
}

/// Reads the run and its tasks, after events were missed.
async fn reread(progress: &mut Progress, client: &Client, run: RunId) -> Result<()> {
    let found = client.run(run).await?;
    let tasks = tasks(client, &found, &TaskQuery::default()).await?;
    progress.reread(&found, tasks);
    Ok(())
}

/// Stays until no run is under way, for a process that is the server of others too; false where
/// it was told to end before.
pub(crate) async fn stay(client: &Client) -> bool {
    let Ok(mut interrupts) = Interrupts::new() else { return false };
    tokio::select! {
        () = until_idle(client) => true,
        _ = interrupts.next() => false,
    }
}

/// Whether no run is under way.
pub(crate) async fn is_idle(client: &Client) -> bool {
    open(client).await.is_ok_and(|open| open.is_empty())
}

async fn open(client: &Client) -> Result<Vec<Run>> {
    let query =
        RunQuery { state: Some("pending,running".into()), limit: Some(500), ..RunQuery::default() };
    Ok(client.runs(&query).await?.items)
}

/// What goes wrong on the way is no end of the runs: it looks again.
async fn until_idle(client: &Client) {
    let mut said = 0;
    loop {
        match open(client).await {
            Ok(open) if open.is_empty() => return,
            Ok(open) => {
                let (count, first) = (open.len(), &open[0]);
                if count != said {
                    let runs = if count == 1 { "run ends" } else { "runs end" };
                    say(format_args!("staying until {count} more {runs} here"));
                    said = count;
                }
                if until_over(client, first).await.is_ok() {
                    continue;
                }
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A run of a file in place that is under way, if there is one.
pub(crate) async fn in_place(client: &Client) -> Option<Run> {
    open(client).await.ok()?.into_iter().find(|run| run.version < 0)
}

/// Waits for the run's end; for ever where there is none.
pub(crate) async fn over(client: &Client, run: Option<&Run>) {
    let Some(run) = run else { return std::future::pending().await };
    if until_over(client, run).await.is_err() {
        tokio::time::sleep(AGAIN).await;
    }
}

async fn until_over(client: &Client, run: &Run) -> Result<()> {
    let mut progress = Progress::new(run);
    let mut stream = client.events(&[format!("run:{}", run.id)], None).await?;
    while !progress.is_over() {
        match stream.next().await?.item {
            StreamedItem::Event(event) => progress.apply(&event),
            StreamedItem::Reset(_) => reread(&mut progress, client, run.id).await?,
            StreamedItem::Log(_) => {}
        }
    }
    Ok(())
}

/// Prints the lines of a run's tasks as they come, until the run ends.
///
/// # Errors
/// When the server goes away for good, or standard output cannot be written.
pub(crate) async fn logs(
    session: &mut Session,
    run: &Run,
    filter: &LogFilter,
    format: Format,
) -> Result {
    let mut progress = Progress::new(run);
    let mut interrupts = Interrupts::new()?;
    let mut topics = Topics::open(session, run.id, "logs").await?;
    while !progress.is_over() {
        let streamed = tokio::select! {
            streamed = topics.next(session) => streamed?,
            _ = interrupts.next() => return Ok(Exit::Interrupted),
        };
        match streamed.item {
            StreamedItem::Event(event) => progress.apply(&event),
            StreamedItem::Log(chunk) => print(&chunk, filter, format)?,
            StreamedItem::Reset(_) => reread(&mut progress, &session.client, run.id).await?,
        }
    }
    Ok(Exit::Ok)
}

fn print(chunk: &LogChunk, filter: &LogFilter, format: Format) -> Result<()> {
    let path = chunk.path.as_str();
    if filter.task.as_deref().is_some_and(|task| task != path) {
        return Ok(());
    }
    let named = filter.task.is_none().then_some(path);
    let lines = chunk.lines.iter().filter(|line| filter.takes(line));
    output::write(&lines.map(|line| shown(line, named, path, format)).collect::<String>())
}

#[cfg(test)]
mod tests {
    use ork_api::types::{Deploy, NewRun};
    use ork_server::{Config, Server, Storage};

    use super::*;

    #[tokio::test]
    async fn who_stays_outlasts_a_stream_that_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { storage: Storage::Memory, ..Config::local(folder.path()) };
        config.limits.streams = 1;
        let running = Server::start(config).await.unwrap();
        let client = running.client();
        let source = "name: w\ntasks: {a: {run: [echo, hi]}}\n".to_owned();
        let deploy = Deploy { file: "w.yaml".into(), source, bundle: None, reason: None };
        client.deploy(&deploy).await.unwrap();
        let new = NewRun { workflow: Some("w".into()), ..NewRun::default() };
        let run = client.create_run(&new).await.unwrap();
        let only = client.events(&[format!("run:{}", run.id)], None).await.unwrap();
        let others = async {
            for _ in 0..50 {
                client.run(run.id).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(only);
            client.cancel(run.id, &Cancel::default()).await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = until_idle(&client) => {}
            () = others => {}
        }
        assert!(is_idle(&client).await);
        running.shutdown().await;
    }
}
