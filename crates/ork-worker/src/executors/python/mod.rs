//! Python functions, each call in a process of its own.

mod interpreter;
mod packages;
mod warm;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use ork_api::worker::Prepare;
use ork_core::lang::executors::{PythonSpec, PythonTarget};
use ork_core::logs::Level;
use ork_core::rows::CodeRef;
use ork_core::run::{Failure, FailureKind};
use ork_core::value::Value;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::packages::Wanted;
use self::warm::{Key, Pool};
use super::Executor;
use crate::attempt::{Attempt, End, Given};
use crate::blame;
use crate::child::{Broken, Keep, Output};
use crate::environment::Env;
use crate::spawner::{Gone, Program, Stdio3};
use crate::worker::Inner;

/// The executor, with its warm parents.
#[derive(Default)]
pub(crate) struct Python {
    pool: Pool,
}

/// What a child is asked.
#[derive(Serialize)]
struct Request<'a> {
    file: Option<&'a str>,
    module: Option<&'a str>,
    function: &'a str,
    /// How people call it.
    target: &'a str,
    root: &'a Path,
    inputs: &'a RawValue,
    /// The whole environment; none when the process has it already.
    env: Option<&'a serde_json::Map<String, Value>>,
    /// Where compiled files go when the code's folder is read-only.
    pycache: Option<PathBuf>,
}

/// What a child answers when there is no value.
#[derive(Deserialize)]
struct Answer {
    kind: String,
    message: String,
    details: Option<String>,
    exit_code: Option<i32>,
}

#[async_trait]
impl Executor for Python {
    fn name(&self) -> &'static str {
        "python"
    }

    async fn run(&self, attempt: &mut Attempt) -> Result<Option<Given>, End> {
        let spec: PythonSpec =
            serde_json::from_value(attempt.assignment.spec.take()).map_err(|error| {
                End::not_started(format!("the task's block is not usable: {error}"))
            })?;
        let target = target(&spec);
        upstream(&spec, &mut attempt.env);
        let interpreter = self.interpreter(attempt, &spec).await?;
        let cold = interpreter::needs_own(&attempt.env, &attempt.inner.inherited);
        let memo = request(attempt, &spec, &target, cold)?;
        attempt.make_scratch()?;
        let gone = if cold {
            run_cold(attempt, &interpreter, &memo).await?
        } else {
            self.run_forked(attempt, interpreter, &memo).await?
        };
        answer(attempt, &target, gone, memo)
    }

    async fn prepare(&self, inner: &Arc<Inner>, what: &Prepare) {
        if let Err(failure) = self.get_ready(inner, what).await {
            tracing::debug!(
                why = failure.message,
                "nothing could be prepared; the first attempt will say why"
            );
        }
    }
}

/// How people call a function: `etl.py:extract`.
fn target(spec: &PythonSpec) -> String {
    let (PythonTarget::File(place) | PythonTarget::Module(place)) = &spec.target;
    format!("{place}:{}", spec.function)
}

fn upstream(spec: &PythonSpec, env: &mut Env) {
    if let Some(legacy) = spec.legacy.as_ref().filter(|legacy| !legacy.upstream.is_empty()) {
        let json = serde_json::to_string(&legacy.upstream).unwrap_or_default();
        env.insert("ORK_UPSTREAM_JSON".into(), json.into());
    }
}

impl Python {
    /// The interpreter, its virtual environment built if need be.
    async fn interpreter(&self, attempt: &mut Attempt, spec: &PythonSpec) -> Result<PathBuf, End> {
        let inner = Arc::clone(&attempt.inner);
        let root = attempt.root.clone();
        let interpreter = interpreter::find(&inner, &root).map_err(End::not_started)?;
        if spec.requirements.is_empty() {
            return Ok(interpreter);
        }
        let requirements = &spec.requirements;
        let (inner, interpreter, root) = (&*inner, &*interpreter, &*root);
        let wanted = Wanted { inner, interpreter, requirements, root };
        if let Some(ready) = wanted.ready() {
            return Ok(ready);
        }
        let list = requirements.join(", ");
        attempt.logs.say(Level::Info, &format!("building a virtual environment: {list}"));
        attempt.unless_stopped(async { wanted.build().await.map_err(End::Failed) }).await
    }

    async fn get_ready(&self, inner: &Arc<Inner>, what: &Prepare) -> Result<(), Failure> {
        let spec: PythonSpec = serde_json::from_value(what.spec.clone())
            .map_err(|error| blame::not_started(error.to_string()))?;
        let root = inner.bundles.root(&what.code, &*inner.link).await?;
        let mut interpreter = interpreter::find(inner, &root).map_err(blame::not_started)?;
        if !spec.requirements.is_empty() {
            let requirements = &spec.requirements;
            let wanted = Wanted { inner, interpreter: &interpreter, requirements, root: &root };
            interpreter = match wanted.ready() {
                Some(ready) => ready,
                None => wanted.build().await?,
            };
        }
        let package = package(inner)?;
        let key = Key { project: Arc::clone(&what.project), interpreter };
        let warm = self.pool.warm(&key, inner, &package);
        warm.map_err(|error| blame::not_begun(error.to_string(), &error))
    }

    /// Runs the function in a child of a warm parent. A parent that has just died is replaced once.
    async fn run_forked(
        &self,
        attempt: &mut Attempt,
        interpreter: PathBuf,
        memo: &OwnedFd,
    ) -> Result<Gone, End> {
        let shown = interpreter.display().to_string();
        let key = Key { project: Arc::clone(&attempt.assignment.project), interpreter };
        let mut watched = self.fork(attempt, &key, memo).await?;
        if matches!(watched, Err(Broken::Refused(_))) {
            watched = self.fork(attempt, &key, memo).await?;
        }
        watched.map_err(|end| end_of(end, &shown))
    }

    async fn fork(
        &self,
        attempt: &mut Attempt,
        key: &Key,
        memo: &OwnedFd,
    ) -> Result<Result<Gone, Broken>, End> {
        let inner = Arc::clone(&attempt.inner);
        let package = package(&inner).map_err(End::Failed)?;
        let (mut output, ends) = Output::pipes(Keep::Nothing, 0).map_err(|e| no_pipes(&e))?;
        let fds = [ends.stdout, ends.stderr, memo.try_clone().map_err(|e| no_pipes(&e))?];
        let forked = self.pool.fork(key, &inner, &package, &fds);
        drop(fds);
        match forked {
            Ok(mut forked) => Ok(attempt.watch(&mut forked, &mut output).await),
            Err(error) => Ok(Err(Broken::Refused(error))),
        }
    }
}

/// Runs the function in an interpreter of its own.
async fn run_cold(attempt: &mut Attempt, interpreter: &Path, memo: &OwnedFd) -> Result<Gone, End> {
    let package = package(&attempt.inner).map_err(End::Failed)?;
    let (mut output, ends) = Output::pipes(Keep::Nothing, 0).map_err(|e| no_pipes(&e))?;
    let program = Program {
        file: interpreter.into(),
        argv: interpreter::arguments(interpreter, &package, "cold"),
        cwd: "/".into(),
        env: attempt.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    };
    let stdin = Some(memo.try_clone().map_err(|e| no_pipes(&e))?);
    let ends = Stdio3 { stdin, stdout: ends.stdout, stderr: ends.stderr };
    let mut tree = attempt.inner.spawner.spawn(program, ends, false);
    let watched = attempt.watch(&mut tree, &mut output).await;
    watched.map_err(|end| end_of(end, &interpreter.display().to_string()))
}

fn package(inner: &Inner) -> Result<PathBuf, Failure> {
    interpreter::package(&inner.config.dirs.cache).map_err(|error| {
        let cache = inner.config.dirs.cache.display();
        let message = format!(
            "Ork's Python package cannot be written in {cache}: {error}; \
             XDG_CACHE_HOME names another folder"
        );
        blame::not_begun(message, &error)
    })
}

fn not_started(interpreter: &str, error: &std::io::Error) -> End {
    let said = error.to_string();
    let mut failure = blame::not_begun(
        format!("the Python interpreter {interpreter} did not start (Ork needs 3.11 or newer)"),
        error,
    );
    failure.details = Some(said);
    End::Failed(failure)
}

fn no_pipes(error: &std::io::Error) -> End {
    End::not_begun(format!("no pipe for its output: {error}"), error)
}

fn end_of(broken: Broken, interpreter: &str) -> End {
    match broken {
        Broken::Refused(error) => not_started(interpreter, &error),
        gone @ Broken::SpawnerGone => crate::attempt::broken(gone, ToString::to_string),
    }
}

/// The request, in a file in memory, where the answer will be too.
fn request(attempt: &Attempt, spec: &PythonSpec, target: &str, cold: bool) -> Result<OwnedFd, End> {
    let env = (!cold).then(|| as_json(&attempt.env));
    let (file, module) = match &spec.target {
        PythonTarget::File(file) => (Some(file.as_str()), None),
        PythonTarget::Module(module) => (None, Some(module.as_str())),
    };
    let inputs = std::str::from_utf8(&attempt.input).ok();
    let inputs = inputs.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
    let read_only = matches!(attempt.assignment.code, CodeRef::Bundle { .. });
    let request = Request {
        file,
        module,
        function: &spec.function,
        target,
        root: &attempt.root,
        inputs: inputs.unwrap_or(RawValue::NULL),
        env: env.as_ref(),
        pycache: read_only.then(|| attempt.inner.config.dirs.cache.join("pycache")),
    };
    let written = serde_json::to_vec(&request).map_err(std::io::Error::other).and_then(|json| {
        let mut file = File::from(memfd_create("attempt", MemfdFlags::CLOEXEC)?);
        file.write_all(&json)?;
        Ok(OwnedFd::from(file))
    });
    written
        .map_err(|error| End::not_begun(format!("the request cannot be written: {error}"), &error))
}

fn as_json(env: &Env) -> serde_json::Map<String, Value> {
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    env.iter().map(|(name, value)| (text(name), Value::String(text(value)))).collect()
}

/// What the child left in the attempt's file.
fn answer(
    attempt: &Attempt,
    target: &str,
    gone: Gone,
    memo: OwnedFd,
) -> Result<Option<Given>, End> {
    if gone.code.is_none() && gone.signal.is_none() {
        let message = "the interpreter that Python tasks are forked from was killed, and with it \
                       the knowledge of how this one ended";
        return Err(End::failed(FailureKind::WorkerFailed, message));
    }
    let limit = attempt.inner.config.max_output;
    let what = format!("`{target}`");
    let mut file = File::from(memo);
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(limit as u64 + 2).read_to_end(&mut bytes));
    let kind = bytes.first().copied().filter(|_| read.is_ok() && gone.signal.is_none());
    match kind {
        Some(b'V') if gone.code == Some(0) => {
            bytes.remove(0);
            Ok(Some(Given { json: bytes, place: "the returned value" }))
        }
        Some(b'E') => {
            let given = failed(&bytes[1..], attempt.logs.tail())?;
            let ty = attempt.assignment.output_type.as_ref();
            match ty.filter(|ty| ty.check(&Value::Null).is_err()) {
                None => Ok(given),
                Some(ty) => Err(End::failed(
                    FailureKind::OutputInvalid,
                    format!("{what} ended by sys.exit(0) before it returned, and should give {ty}"),
                )),
            }
        }
        _ => Err(End::Failed(attempt.failure(&what, gone).unwrap_or_else(|| {
            Failure::new(
                FailureKind::Failure,
                format!("{what} ended its process with code 0 before it returned (os._exit)"),
            )
        }))),
    }
}

fn failed(json: &[u8], tail: Option<String>) -> Result<Option<Given>, End> {
    let answer: Answer = serde_json::from_slice(json).map_err(|error| {
        End::failed(FailureKind::Failure, format!("the function failed unreadably: {error}"))
    })?;
    let kind = match answer.kind.as_str() {
        "exited" => return Ok(None),
        "not_started" => FailureKind::NotStarted,
        "input_invalid" => FailureKind::InputInvalid,
        "output_invalid" => FailureKind::OutputInvalid,
        _ => FailureKind::Failure,
    };
    let mut failure = Failure::new(kind, answer.message);
    failure.details = answer.details.or(tail);
    failure.exit_code = answer.exit_code;
    Err(End::Failed(failure))
}
