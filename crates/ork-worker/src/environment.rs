//! The environment of a task: a few variables of the worker's own, the workflow's and the task's,
//! and Ork's.
//!
//! Of the worker's environment a task sees [`ALLOWED`] and every `LC_…`, and what
//! [`crate::Config::pass_env`] names. Nothing else: what a service was given as secrets stays with
//! it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use ork_core::ids::AttemptRef;
use ork_core::run::Assignment;

use crate::attempt::Places;

/// The variables of the worker's environment that every task sees.
pub const ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// Inputs up to this many bytes of JSON are in `ORK_INPUT_JSON` too.
const MAX_INPUT_JSON: usize = 32 * 1024;
/// `PATH` where the worker has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A whole environment, by name.
pub(crate) type Env = BTreeMap<OsString, OsString>;

/// What of the worker's environment tasks see.
pub(crate) fn inherited(pass: &[String]) -> Env {
    let allowed = |name: &OsString| {
        let name = name.to_string_lossy();
        ALLOWED.contains(&&*name) || name.starts_with("LC_") || pass.iter().any(|p| *p == name)
    };
    let mut env: Env = std::env::vars_os().filter(|(name, _)| allowed(name)).collect();
    env.entry("PATH".into()).or_insert_with(|| PATH.into());
    env
}

/// The trace context of an attempt, as W3C Trace Context writes it: the run is the trace, the offer
/// the span, so that whoever knows both finds it.
fn traceparent(attempt: &AttemptRef) -> String {
    format!("00-{:032x}-{:016x}-01", attempt.run.0.as_u128(), attempt.token.0)
}

/// The environment of an attempt: Ork's variables win over the task's, those over the worker's.
/// Temporary files go to the attempt's own folder, unless the task says where.
pub(crate) fn of_attempt(
    inherited: &Env,
    assignment: &Assignment,
    (root, places): (&Path, &Places),
    input: &[u8],
) -> Env {
    let mut env = inherited.clone();
    env.insert("TMPDIR".into(), places.scratch.clone());
    env.extend(assignment.env.iter().map(|(name, value)| (name.into(), value.into())));
    let mut set = |name: &str, value: OsString| env.insert(name.into(), value);
    let attempt = &assignment.attempt;
    set("ORK_RUN_ID", attempt.run.to_string().into());
    set("ORK_TASK", attempt.path.as_str().into());
    set("ORK_ATTEMPT", assignment.number.to_string().into());
    set("ORK_WORKFLOW", (&*assignment.workflow).into());
    set("ORK_PROJECT", (&*assignment.project).into());
    set("ORK_LOGICAL_TIME", (&*assignment.logical_time).into());
    if let Some(index) = assignment.map_index {
        set("ORK_MAP_INDEX", index.to_string().into());
    }
    set("TRACEPARENT", traceparent(attempt).into());
    let key = format!("{}/{}@{}", attempt.run, attempt.path, assignment.generation);
    set("ORK_IDEMPOTENCY_KEY", key.into());
    set("ORK_INPUT", places.input.clone());
    set("ORK_OUTPUT", places.output.clone());
    set("ORK_ARTIFACTS", places.artifacts.clone());
    set("ORK_SCRATCH", places.scratch.clone());
    set("ORK_CODE", root.into());
    set("ORK_HEARTBEAT", places.heartbeat.clone());
    if input.len() < MAX_INPUT_JSON {
        set("ORK_INPUT_JSON", String::from_utf8_lossy(input).into_owned().into());
    }
    if let Some(id) = &assignment.request_id {
        set("ORK_REQUEST_ID", id.into());
    }
    env
}
