use std::sync::{Arc, Mutex};

use ork_api::client::{Client, EventStream, StreamedItem};
use ork_api::types::{Deploy, NewRun, Run};
use ork_api::worker::{FromWorker, Link, ToWorker};
use ork_core::ids::{AttemptRef, RunId};
use ork_core::logs::{Level, LogBatch, LogLine, Stream};
use ork_core::rows::LogSummary;
use ork_core::run::{
    Assignment, EventKind, Failure, FailureKind, Finished, Outcome, Report, RunState,
};
use ork_core::time::{Span, Wall};
use ork_core::value::{Data, FileRef, Value};
use ork_server::{Config, Running, Server, Storage};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A server with a worker, and a client over its socket.
pub(crate) struct Ork {
    pub running: Running,
    pub client: Client,
    /// Lets one task named `hold` go on.
    pub release: Arc<Notify>,
    /// What every attempt says that it left.
    pub artifacts: Arc<Mutex<Vec<FileRef>>>,
    pub worker: JoinHandle<()>,
    pub dir: TempDir,
}

pub(crate) const STORAGES: [Storage; 2] = [Storage::Memory, Storage::Sqlite];

impl Ork {
    pub(crate) async fn start(storage: Storage) -> Self {
        Self::with(|config| config.storage = storage).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::local(dir.path());
        change(&mut config);
        Self::on(config, dir).await
    }

    pub(crate) async fn on(config: Config, dir: TempDir) -> Self {
        let running = Server::start(config).await.unwrap();
        let client = Client::http(running.url(), Some(running.token())).unwrap();
        let release = Arc::new(Notify::new());
        let link = Arc::new(running.link());
        let hello = FromWorker::Hello {
            worker: "test/1".into(),
            slots: 64,
            queues: vec!["default".into()],
        };
        link.send(hello).await.unwrap();
        let artifacts = Arc::default();
        let worker = tokio::spawn(work(link, release.clone(), Arc::clone(&artifacts)));
        Self { running, client, release, artifacts, worker, dir }
    }

    pub(crate) fn url(&self) -> String {
        self.running.url().to_owned()
    }

    pub(crate) fn address(&self) -> String {
        self.running.url().strip_prefix("http://").unwrap().to_owned()
    }

    /// Deploys a workflow of tasks with these names, in a row.
    pub(crate) async fn deploy(&self, name: &str, tasks: &[&str]) {
        let deploy = Deploy {
            file: format!("{name}.yaml"),
            source: workflow(name, tasks),
            bundle: None,
            reason: None,
        };
        self.client.deploy(&deploy).await.unwrap();
    }

    pub(crate) async fn create(&self, name: &str) -> Run {
        self.client.create_run(&run_of(name)).await.unwrap()
    }

    /// Makes a run and waits for its end.
    pub(crate) async fn done(&self, name: &str) -> Run {
        let run = self.create(name).await;
        self.ended(run.id).await
    }

    pub(crate) async fn ended(&self, id: RunId) -> Run {
        let mut events = self.client.events(&[format!("run:{id}")], None).await.unwrap();
        until(&mut events, |kind| matches!(kind, EventKind::RunFinished { .. })).await;
        self.client.run(id).await.unwrap()
    }

    /// Makes a run whose task `hold` is under way.
    pub(crate) async fn holding(&self, name: &str) -> Run {
        let run = self.create(name).await;
        let mut events = self.client.events(&[format!("run:{}", run.id)], None).await.unwrap();
        let is_held = |kind: &EventKind| matches!(kind, EventKind::TaskStarted { .. });
        until(&mut events, is_held).await;
        run
    }
}

pub(crate) fn run_of(name: &str) -> NewRun {
    NewRun { workflow: Some(name.into()), ..NewRun::default() }
}

pub(crate) fn workflow(name: &str, tasks: &[&str]) -> String {
    let mut text = format!("name: {name}\ntasks:\n");
    let mut before = None;
    for task in tasks {
        text += &format!("  {task}:\n    run: [\"true\"]\n");
        if let Some(before) = before {
            text += &format!("    depends_on: {before}\n");
        }
        before = Some(task);
    }
    text
}

/// Reads events until one is of that kind; returns the ids of all, this one's too.
pub(crate) async fn until(
    events: &mut EventStream,
    is_it: impl Fn(&EventKind) -> bool,
) -> Vec<(u64, u32)> {
    let mut seen = Vec::new();
    loop {
        let streamed = events.next().await.unwrap();
        let StreamedItem::Event(event) = streamed.item else { continue };
        seen.push((event.commit_seq, event.position));
        if is_it(&event.data) {
            return seen;
        }
    }
}

async fn work(
    link: Arc<ork_server::WorkerLink>,
    release: Arc<Notify>,
    artifacts: Arc<Mutex<Vec<FileRef>>>,
) {
    // With the worker its attempts end.
    let mut attempts = tokio::task::JoinSet::new();
    while let Some(word) = link.recv().await {
        match word {
            ToWorker::Assign(assignment) => {
                let (link, release) = (link.clone(), release.clone());
                let left = artifacts.lock().unwrap().iter().map(FileRef::to_value).collect();
                attempts.spawn(async move { attempt(&*link, *assignment, &release, left).await });
            }
            ToWorker::Stop { attempt, .. } => {
                tell(&*link, &attempt, finished(Outcome::Stopped)).await;
            }
            ToWorker::Fence { .. } | ToWorker::Prepare(_) => {}
        }
    }
}

async fn attempt(link: &dyn Link, assignment: Assignment, release: &Notify, left: Vec<Value>) {
    let of = assignment.attempt;
    tell(link, &of, Report::Confirmed).await;
    tell(link, &of, Report::Started).await;
    let name = of.path.as_str().rsplit('/').next().unwrap().to_owned();
    if name.starts_with("lines") {
        for from in (1..=2_500).step_by(100) {
            link.logs(&of, batch(from..from + 100)).await.unwrap();
        }
    }
    if name.starts_with("flood") {
        for from in (1..=60_000).step_by(1_000) {
            link.logs(&of, batch(from..from + 1_000)).await.unwrap();
        }
    }
    if name.starts_with("hold") {
        link.logs(&of, batch(1..4)).await.unwrap();
        release.notified().await;
        link.logs(&of, batch(4..6)).await.unwrap();
    }
    let outcome = if name.starts_with("fail") {
        Outcome::Failed(Failure::new(FailureKind::Failure, "it was told to fail"))
    } else {
        Outcome::Success { output: Some(Data::Inline(serde_json::json!({ "n": 1 }))) }
    };
    let mut report = finished(outcome);
    if let Report::Finished(finished) = &mut report
        && !left.is_empty()
    {
        finished.artifacts = Some(Data::Inline(Value::Array(left)));
    }
    tell(link, &of, report).await;
}

fn finished(outcome: Outcome) -> Report {
    Report::Finished(Box::new(Finished {
        outcome,
        artifacts: None,
        logs: LogSummary::default(),
        took: Span::from_millis(1),
    }))
}

async fn tell(link: &dyn Link, attempt: &AttemptRef, report: Report) {
    link.send(FromWorker::Report { attempt: attempt.clone(), report, beats: 0 }).await.unwrap();
}

/// Lines with these numbers: each tenth is an error.
fn batch(numbers: std::ops::Range<u32>) -> LogBatch {
    let (mut text, mut lines) = (String::new(), Vec::new());
    for number in numbers {
        let line = format!("line {number}");
        lines.push(LogLine {
            length: u32::try_from(line.len()).unwrap(),
            cut: 0,
            at: Wall(1_000_000 * i64::from(number)),
            stream: if number % 2 == 0 { Stream::Stderr } else { Stream::Stdout },
            level: if number % 10 == 0 { Level::Error } else { Level::Info },
        });
        text += &line;
    }
    LogBatch { text: text.into(), lines }
}

pub(crate) fn ended_well(run: &Run) {
    assert_eq!(run.state, RunState::Success, "{run:#?}");
}

/// What a server answers to these bytes, until it closes or is silent after a whole answer.
pub(crate) async fn raw(address: &str, request: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read all.
    let _ = socket.write_all(request).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
