//! Programs: argv or lines for a shell.

mod command;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use async_trait::async_trait;
use ork_core::lang::executors::{Legacy, RunOutput, RunSpec};
use ork_core::run::FailureKind;
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::Errno;

use super::Executor;
use crate::attempt::{Attempt, End, Given, broken, called};
use crate::child::{Capture, Keep, Output};
use crate::spawner::Stdio3;

/// What marks the output of an older task on standard output.
const OUTPUT_LINE: &str = "ORK_OUTPUT:";

pub(crate) struct Run;

#[async_trait]
impl Executor for Run {
    fn name(&self) -> &'static str {
        "run"
    }

    async fn run(&self, attempt: &mut Attempt) -> Result<Option<Given>, End> {
        let spec: RunSpec =
            serde_json::from_value(attempt.assignment.spec.take()).map_err(|error| {
                End::not_started(format!("the task's block is not usable: {error}"))
            })?;
        let legacy = spec.legacy.as_ref();
        if let Some(legacy) = legacy.filter(|legacy| !legacy.upstream.is_empty()) {
            let json = serde_json::to_string(&legacy.upstream).unwrap_or_default();
            attempt.env.insert("ORK_UPSTREAM_JSON".into(), json.into());
        }
        let program = command::program(&spec, attempt)?;
        let stdin = spec.stdin.as_deref().map(as_stdin).transpose();
        let stdin = stdin.map_err(|error| End::not_begun(format!("stdin: {error}"), &error))?;
        let limit = attempt.inner.config.max_output;
        let (mut output, ends) = Output::pipes(kept(&spec), limit)
            .map_err(|error| End::not_begun(format!("no pipe for its output: {error}"), &error))?;
        attempt.make_scratch()?;

        let what = called(&program.argv[0].to_string_lossy());
        let ends = Stdio3 { stdin, stdout: ends.stdout, stderr: ends.stderr };
        let mut tree = attempt.inner.spawner.spawn(program.clone(), ends, false);
        let watched = attempt.watch(&mut tree, &mut output).await;
        let gone =
            watched.map_err(|end| broken(end, |error| command::diagnosis(&program, error)))?;
        if let Some(failure) = attempt.failure(&what, gone) {
            return Err(End::Failed(failure));
        }
        given(&spec, attempt, output)
    }
}

fn kept(spec: &RunSpec) -> Keep {
    let line = |legacy: &Legacy| legacy.output_line;
    match spec.output {
        RunOutput::StdoutJson => Keep::All,
        _ if spec.legacy.as_ref().is_some_and(line) => Keep::LastLine(OUTPUT_LINE),
        _ => Keep::Nothing,
    }
}

fn given(spec: &RunSpec, attempt: &Attempt, output: Output) -> Result<Option<Given>, End> {
    let limit = attempt.inner.config.max_output;
    let checked = |capture: Capture, place| {
        if capture.overflow {
            let message = format!("the output in {place} is over {limit} bytes (limits.output)");
            return Err(End::failed(FailureKind::OutputInvalid, message));
        }
        Ok(Some(Given { json: capture.bytes, place }))
    };
    match (spec.output, output.kept()) {
        (RunOutput::None, _) => Ok(None),
        (RunOutput::StdoutJson, Some(all)) => checked(all, "standard output"),
        (_, Some(line)) => checked(line, "its last line `ORK_OUTPUT:`"),
        (_, None) => match written(Path::new(&attempt.places.output), limit) {
            Ok(None) => Ok(None),
            Ok(Some(capture)) => checked(capture, "the file that ORK_OUTPUT names"),
            Err(error) => {
                let message = format!("the file that ORK_OUTPUT names cannot be read: {error}");
                Err(End::failed(FailureKind::OutputInvalid, message))
            }
        },
    }
}

/// What the task wrote to a file; none when it wrote none. A pipe in its place is not waited for.
fn written(path: &Path, limit: usize) -> std::io::Result<Option<Capture>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    let overflow = bytes.len() > limit;
    Ok(Some(Capture::of(bytes, overflow)))
}

/// A text to be read: in memory, so that nobody has to feed a pipe.
fn as_stdin(text: &str) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}
