//! One attempt: from the offer to the report.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ork_core::logs::Level;
use ork_core::run::{Assignment, Failure, FailureKind, Finished, Outcome, Report};
use ork_core::time::Span;
use ork_core::types::Type;
use ork_core::value::{Data, FileRef, INLINE_LIMIT, Value};
use tokio::time::Instant;

use crate::blame;
use crate::child::{self, Broken, Life, Output, StopWatch};
use crate::environment::{self, Env};
use crate::files::{self, Kept, Left, Local, insist};
use crate::json;
use crate::logs::Logs;
use crate::spawner::Gone;
use crate::worker::Inner;

/// How an attempt ended before its time, or badly.
pub(crate) enum End {
    /// With this failure.
    Failed(Failure),
    /// As asked.
    Stopped,
}

impl End {
    pub(crate) fn failed(kind: FailureKind, message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(kind, message))
    }

    pub(crate) fn not_started(message: impl Into<String>) -> Self {
        Self::Failed(blame::not_started(message))
    }

    /// Nothing was begun because of `error`: the worker's fault or the task's.
    pub(crate) fn not_begun(message: impl Into<String>, error: &std::io::Error) -> Self {
        Self::Failed(blame::not_begun(message, error))
    }
}

/// What came out: JSON as the task gave it, and where it gave it; none when it gave nothing.
pub(crate) struct Given {
    pub(crate) json: Vec<u8>,
    /// `standard output`, `the file that ORK_OUTPUT names`.
    pub(crate) place: &'static str,
}

/// The files of an attempt. None is there unless somebody needed it, but for the folder.
pub(crate) struct Places {
    pub(crate) input: OsString,
    pub(crate) output: OsString,
    pub(crate) heartbeat: OsString,
    pub(crate) artifacts: OsString,
    /// A folder for whatever it writes meanwhile.
    pub(crate) scratch: OsString,
    has_input: bool,
}

impl Places {
    fn of(
        inner: &Inner,
        assignment: &Assignment,
        (scratch, artifacts): (PathBuf, PathBuf),
    ) -> Self {
        let attempt = &assignment.attempt;
        let file = |end: &str| inner.config.dirs.scratch.join(format!("{}.{end}", attempt.token));
        let has_input = !assignment.inputs.is_empty();
        let empty = || inner.config.dirs.scratch.join("no-inputs.json");
        Self {
            input: if has_input { file("input.json") } else { empty() }.into(),
            output: file("output.json").into(),
            heartbeat: file("heartbeat").into(),
            artifacts: artifacts.into(),
            scratch: scratch.into(),
            has_input,
        }
    }

    /// Whether there may be artifacts.
    fn has_artifacts(&self) -> bool {
        let folder = Path::new(&self.artifacts);
        fs::read_dir(folder).map_or_else(|_| folder.is_dir(), |mut all| all.next().is_some())
    }

    async fn clear(&self, inner: &Inner) {
        let rooms = [(&inner.rooms, &self.scratch), (&inner.artifact_rooms, &self.artifacts)];
        for (rooms, folder) in rooms {
            if let Err(error) = rooms.give_back(PathBuf::from(folder)).await {
                tracing::warn!(?folder, %error, "an attempt's files are left");
            }
        }
        if self.has_input {
            let _ = fs::remove_file(&self.input);
        }
        let _ = fs::remove_file(&self.output);
        let _ = fs::remove_file(&self.heartbeat);
    }
}

/// What an executor is given for an attempt.
pub(crate) struct Attempt {
    pub(crate) inner: Arc<Inner>,
    pub(crate) assignment: Assignment,
    /// The code root.
    pub(crate) root: PathBuf,
    pub(crate) places: Places,
    /// Its inputs as one JSON object.
    pub(crate) input: Vec<u8>,
    /// The files that it was given.
    local: Local,
    /// What is kept of it already.
    kept: Kept,
    pub(crate) env: Env,
    pub(crate) logs: Logs,
    pub(crate) stop: StopWatch,
}

/// Does an assignment and reports on it; a fenced one ends without a word. Nothing is started
/// unless the server takes the confirmation.
pub(crate) async fn perform(inner: Arc<Inner>, assignment: Assignment, stop: StopWatch) {
    let reference = assignment.attempt.clone();
    if let Err(error) = inner.report(&reference, Report::Confirmed).await {
        tracing::info!(path = %reference.path, %error, "the offer is void");
        return inner.forget(&reference);
    }
    let mut logs = Logs::new(Arc::clone(&inner.link), reference.clone(), inner.beats());
    let began = Instant::now();
    let mut artifacts = None;
    let outcome = match prepared(&inner, assignment, logs, stop).await {
        Ok(mut attempt) => {
            let outcome = attempt.run().await;
            if attempt.places.has_artifacts() || !attempt.kept.returned.is_empty() {
                artifacts = attempt.keep_artifacts().await;
            }
            attempt.places.clear(&attempt.inner).await;
            logs = attempt.logs;
            outcome
        }
        Err((end, empty)) => {
            logs = empty;
            outcome_of(Err(end))
        }
    };
    let took = Span(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX));
    let outcome = Finished { outcome, logs: logs.finish().await, artifacts, took };
    inner.finish(&reference, outcome).await;
}

fn outcome_of(end: Result<Option<Data>, End>) -> Outcome {
    match end {
        Ok(output) => Outcome::Success { output },
        Err(End::Stopped) => Outcome::Stopped,
        Err(End::Failed(failure)) => Outcome::Failed(failure),
    }
}

/// Does something that may take long, and ships what is written meanwhile, unless the attempt is
/// stopped first.
async fn meanwhile<T>(
    work: impl Future<Output = Result<T, End>>,
    logs: &mut Logs,
    stop: &mut StopWatch,
) -> Result<T, End> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = stopped(stop) => return Err(End::Stopped),
            () = logs.ship() => {}
        }
    }
}

/// Fetches code and inputs. Without them the logs come back, as nobody else has them.
async fn prepared(
    inner: &Arc<Inner>,
    mut assignment: Assignment,
    mut logs: Logs,
    mut stop: StopWatch,
) -> Result<Attempt, (End, Logs)> {
    let gathered = meanwhile(gather(inner, &mut assignment), &mut logs, &mut stop).await;
    let (root, input, local, places) = match gathered {
        Ok(gathered) => gathered,
        Err(end) => return Err((end, logs)),
    };
    let env = environment::of_attempt(&inner.inherited, &assignment, (&root, &places), &input);
    let inner = Arc::clone(inner);
    let kept = Kept::default();
    Ok(Attempt { inner, assignment, root, places, input, local, kept, env, logs, stop })
}

/// The code root, the inputs as JSON, the files among them, and the attempt's own places.
type Gathered = (PathBuf, Vec<u8>, Local, Places);

async fn gather(inner: &Inner, assignment: &mut Assignment) -> Result<Gathered, End> {
    let root = inner.bundles.root(&assignment.code, &*inner.link).await;
    let root = root.map_err(End::Failed)?;
    let mut inputs = inputs(inner, assignment).await?;
    let local = with_files(inner, assignment, &mut inputs).await?;
    let input = serde_json::to_vec(&inputs)
        .map_err(|error| End::failed(FailureKind::InputInvalid, error.to_string()))?;
    let scratch = inner.rooms.take().map_err(|error| {
        let folder = inner.config.dirs.temporary.display();
        End::not_begun(format!("a folder in {folder} cannot be made: {error}"), &error)
    })?;
    let artifacts = inner.artifact_rooms.take().map_err(|error| {
        End::not_begun(format!("the folder for artifacts cannot be made: {error}"), &error)
    })?;
    let places = Places::of(inner, assignment, (scratch, artifacts));
    if places.has_input {
        inner.write_scratch(Path::new(&places.input), &input).map_err(|error| {
            End::not_begun(format!("the inputs cannot be written: {error}"), &error)
        })?;
    }
    Ok((root, input, local, places))
}

/// Has the files at hand that an attempt is given, and puts their paths where they stand.
async fn with_files(
    inner: &Inner,
    assignment: &mut Assignment,
    inputs: &mut serde_json::Map<String, Value>,
) -> Result<Local, End> {
    let mut files = Vec::new();
    inputs.values().for_each(|value| files::named(value, &mut files));
    files::named(&assignment.spec, &mut files);
    assignment.env.values().for_each(|text| files::named_in(text, &mut files));
    if files.is_empty() {
        return Ok(Local::default());
    }
    let local = inner.copies.give(files, &*inner.link).await.map_err(End::Failed)?;
    inputs.values_mut().for_each(|value| local.put_paths(value));
    local.put_paths(&mut assignment.spec);
    assignment.env.values_mut().for_each(|text| local.put_paths_in(text));
    Ok(local)
}

/// Passes on signs of life of user code, a few times as often as they have to come; never ends.
fn beats(
    inner: Arc<Inner>,
    assignment: &Assignment,
    file: &OsString,
) -> impl Future<Output = ()> + use<> {
    let (heartbeat, attempt, file) =
        (assignment.heartbeat, assignment.attempt.clone(), PathBuf::from(file));
    async move {
        let Some(heartbeat) = heartbeat else { return std::future::pending().await };
        let pause = (heartbeat.to_std() / LOOKS_PER_BEAT).max(LEAST_LOOK);
        let mut seen = None;
        loop {
            tokio::time::sleep(pause).await;
            let touched = fs::metadata(&file).and_then(|file| file.modified()).ok();
            if touched.is_some() && touched != seen {
                seen = touched;
                // A beat that is lost is followed by another, or by the end of the attempt.
                let _ = inner.report(&attempt, Report::Beat).await;
            }
        }
    }
}

/// How often a worker looks for a sign of life while one has to come; the machine allows for it.
const LOOKS_PER_BEAT: u32 = 4;

/// The shortest wait between two such looks.
const LEAST_LOOK: Duration = Duration::from_millis(50);

/// Pends until the attempt is to be stopped.
pub(crate) async fn stopped(stop: &mut StopWatch) {
    if stop.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The inputs, those by reference loaded, checked against their type.
async fn inputs(
    inner: &Inner,
    assignment: &Assignment,
) -> Result<serde_json::Map<String, Value>, End> {
    let mut inputs = serde_json::Map::with_capacity(assignment.inputs.len());
    for (name, data) in &assignment.inputs {
        inputs.insert(name.clone(), load(inner, name, data).await?);
    }
    let Some(ty) = &assignment.input_type else { return Ok(inputs) };
    let inputs = Value::Object(inputs);
    ty.check(&inputs).map_err(|mismatch| {
        let message = format!("the inputs do not fit their type: {mismatch}");
        End::failed(FailureKind::InputInvalid, message)
    })?;
    match inputs {
        Value::Object(inputs) => Ok(inputs),
        _ => Ok(serde_json::Map::new()),
    }
}

async fn load(inner: &Inner, name: &str, data: &Data) -> Result<Value, End> {
    let digest = match data {
        Data::Inline(value) => return Ok(value.clone()),
        Data::Blob { digest, .. } => digest,
    };
    let why = |why: String| End::not_started(format!("the input `{name}` cannot be had: {why}"));
    let bytes = insist("an input", || inner.link.get_blob(digest)).await;
    let bytes = bytes.map_err(|error| why(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| why(format!("blob {digest}: {error}")))
}

impl Attempt {
    /// Runs the executor, then checks and keeps what came out.
    async fn run(&mut self) -> Outcome {
        let inner = Arc::clone(&self.inner);
        let name = Arc::clone(&self.assignment.executor);
        let given = match inner.executor(&name) {
            Some(executor) => {
                let beats = beats(Arc::clone(&inner), &self.assignment, &self.places.heartbeat);
                tokio::select! {
                    given = executor.run(self) => given,
                    () = beats => Ok(None),
                }
            }
            None => Err(End::not_started(format!(
                "this worker has no executor `{name}`; it has {}",
                inner.executor_names()
            ))),
        };
        let kept = match given {
            Ok(given) => self.keep(given).await,
            Err(end) => Err(end),
        };
        if self.stop.borrow().is_some() {
            return Outcome::Stopped;
        }
        outcome_of(kept)
    }

    /// Checks the output against its type; large ones become blobs.
    async fn keep(&mut self, given: Option<Given>) -> Result<Option<Data>, End> {
        let ty = self.assignment.output_type.clone();
        let ty = ty.as_ref();
        let Some(given) = given else { return missing(ty) };
        let limit = self.inner.config.max_output;
        if given.json.len() > limit {
            let message = format!(
                "the output in {} is {} bytes; the limit (limits.output) is {limit}",
                given.place,
                given.json.len()
            );
            return Err(End::failed(FailureKind::OutputInvalid, message));
        }
        let mut value = json::read(&given.json).map_err(|what| {
            let message = format!("the output in {} is not usable JSON: {what}", given.place);
            End::failed(FailureKind::OutputInvalid, message)
        })?;
        if let Some(ty) = ty {
            if ty.has_file() {
                value = self.take_files(ty, value).await?;
            }
            ty.check(&value).map_err(|mismatch| {
                let message = format!("the output does not fit its type: {mismatch}");
                End::failed(FailureKind::OutputInvalid, message)
            })?;
        }
        self.store(value).await.map(Some)
    }

    async fn store(&mut self, value: Value) -> Result<Data, End> {
        let json = value.to_string();
        if json.len() <= INLINE_LIMIT {
            return Ok(Data::Inline(value));
        }
        let (size, json) = (json.len() as u64, Bytes::from(json));
        let inner = Arc::clone(&self.inner);
        let kept = async move {
            let kept = insist("an output", || inner.link.put_blob(json.clone())).await;
            kept.map_err(|error| {
                let message = format!("the output ({size} bytes) could not be kept: {error}");
                End::failed(FailureKind::Failure, message)
            })
        };
        let digest = self.unless_stopped(kept).await?;
        Ok(Data::Blob { digest, size })
    }

    /// Keeps the files whose paths stand in the output.
    async fn take_files(&mut self, ty: &Type, mut value: Value) -> Result<Value, End> {
        let Self { inner, places, local, kept, logs, stop, .. } = self;
        let mut left = left(inner, places, local, std::mem::take(kept));
        let taken = async {
            left.take(ty, &mut value).await.map_err(|what| {
                let message = format!("the output cannot be kept: {what}");
                End::failed(FailureKind::OutputInvalid, message)
            })
        };
        let taken = meanwhile(taken, logs, stop).await;
        *kept = left.kept;
        taken.map(|()| value)
    }

    /// Keeps what is in the folder for artifacts, whatever became of the attempt; once it is to be
    /// stopped it has [`LAST_WORK`] for that.
    async fn keep_artifacts(&mut self) -> Option<Data> {
        let Self { inner, places, local, kept, logs, stop, .. } = self;
        let mut left = left(inner, places, local, std::mem::take(kept));
        let given_up = async {
            stopped(stop).await;
            tokio::time::sleep(LAST_WORK).await;
        };
        let (files, lost) = tokio::select! {
            kept = left.artifacts() => kept,
            () = given_up => {
                (Vec::new(), vec!["the artifacts were not kept: the attempt was stopped".into()])
            }
        };
        for what in &lost {
            logs.say(Level::Warn, what);
        }
        if files.is_empty() {
            return None;
        }
        let index = Value::Array(files.iter().map(FileRef::to_value).collect());
        match self.store(index).await {
            Ok(index) => Some(index),
            Err(_) => {
                self.logs.say(Level::Warn, "the list of artifacts could not be kept");
                None
            }
        }
    }

    /// Makes the folder that its small files go to.
    pub(crate) fn make_scratch(&self) -> Result<(), End> {
        self.inner.make_scratch().map_err(|error| {
            let folder = self.inner.config.dirs.scratch.display();
            End::not_begun(format!("the folder {folder} cannot be made: {error}"), &error)
        })
    }

    /// Sees a tree through to its end.
    pub(crate) async fn watch(
        &mut self,
        tree: &mut impl Life,
        output: &mut Output,
    ) -> Result<Gone, Broken> {
        child::watch(tree, output, &mut self.logs, &mut self.stop).await
    }

    /// Does something that may take long, unless the attempt is stopped meanwhile.
    pub(crate) async fn unless_stopped<T>(
        &mut self,
        work: impl Future<Output = Result<T, End>>,
    ) -> Result<T, End> {
        meanwhile(work, &mut self.logs, &mut self.stop).await
    }

    /// The failure that an end of a first process means; none when it ended well.
    pub(crate) fn failure(&self, what: &str, gone: Gone) -> Option<Failure> {
        let (kind, message) = match (gone.code, gone.signal) {
            (Some(0), _) => return None,
            (Some(code), _) => (FailureKind::Failure, format!("{what} exited with code {code}")),
            (None, Some(_)) if gone.out_of_memory => (
                FailureKind::OutOfMemory,
                format!("{what} was killed by the kernel for want of memory"),
            ),
            (None, Some(signal)) => (
                FailureKind::Signal,
                format!("{what} was ended by signal {signal}{}", signal_name(signal)),
            ),
            (None, None) => (FailureKind::Failure, format!("{what} ended, nobody knows how")),
        };
        let mut failure = Failure::new(kind, message);
        failure.exit_code = gone.code;
        failure.signal = gone.signal;
        failure.details = self.logs.tail();
        Some(failure)
    }
}

fn left<'a>(inner: &'a Inner, places: &'a Places, given: &'a Local, kept: Kept) -> Left<'a> {
    let (artifacts, scratch) = (Path::new(&places.artifacts), Path::new(&places.scratch));
    Left { link: &*inner.link, artifacts, scratch, given, most: inner.config.max_artifact, kept }
}

/// How long an attempt that is stopped may take to keep its artifacts.
const LAST_WORK: Duration = Duration::from_secs(10);

/// No output is null.
fn missing(ty: Option<&Type>) -> Result<Option<Data>, End> {
    let Some(ty) = ty else { return Ok(None) };
    if ty.check(&Value::Null).is_ok() {
        return Ok(Some(Data::NULL));
    }
    let message = format!(
        "the task gave no output and should give {ty}: write one JSON value to the file that \
         ORK_OUTPUT names"
    );
    Err(End::failed(FailureKind::OutputInvalid, message))
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return String::new(),
    };
    format!(" ({name})")
}

/// What a program is called by people: its file's name.
pub(crate) fn called(program: &str) -> String {
    let name = Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned());
    format!("`{}`", name.unwrap_or_else(|| program.to_owned()))
}

/// The failure that a broken watch means.
pub(crate) fn broken(broken: Broken, diagnose: impl FnOnce(&std::io::Error) -> String) -> End {
    match broken {
        Broken::Refused(error) => End::not_begun(diagnose(&error), &error),
        Broken::SpawnerGone => End::failed(
            FailureKind::WorkerFailed,
            "the process that starts programs for this worker has died",
        ),
    }
}

/// How long a stop may take when nobody says.
pub(crate) const AT_ONCE: Duration = Duration::ZERO;
