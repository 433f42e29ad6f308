//! A run as plain lines, for logs and pipes.

use std::fmt::Write as _;

use ork_api::types::{Event, LogChunk};
use ork_core::run::{EventKind, TaskState, Waiting};
use owo_colors::OwoColorize as _;

use super::progress::Progress;
use super::{style, task_word};
use crate::lines;
use crate::output::{duration, say};

/// Says what an event changed, once `progress` has taken it in.
pub(super) fn event(progress: &Progress, event: &Event) {
    if !progress.is_current() {
        return;
    }
    if let Some(line) = line(progress, event) {
        say(line);
    }
}

fn line(progress: &Progress, event: &Event) -> Option<String> {
    let path = event.path.as_ref()?;
    let task = progress.tasks.get(path)?;
    match &event.data {
        EventKind::TaskStarted { .. } if task.attempt > 1 => {
            Some(format!("{path}: started, attempt {}", task.attempt))
        }
        EventKind::TaskStarted { .. } => Some(format!("{path}: started")),
        EventKind::TaskDeferred { wait, .. } => Some(match wait {
            Waiting::Time { at } => {
                format!("{path}: waits for {}", duration((*at - event.at.0).0))
            }
            Waiting::Event { name } => format!("{path}: waits for the signal {name}"),
            Waiting::Approval { prompt, .. } => format!("{path}: waits for approval: {prompt}"),
            Waiting::Poll { again: Some(at), .. } => {
                format!("{path}: not ready; again in {}", duration((*at - event.at.0).0))
            }
            Waiting::Poll { again: None, .. } => return None,
        }),
        EventKind::TaskRetrying { failure, not_before, .. } => {
            let wait = duration((*not_before - event.at.0).0);
            Some(format!("{path}: {}; again in {wait}", failure.message))
        }
        EventKind::TaskFinished { state, failure, cause, .. } => {
            let word = style(*state, task_word(*state));
            let took = task.took(event.at.0).map(|took| format!(" in {}", duration(took)));
            let took = took.filter(|_| *state == TaskState::Success).unwrap_or_default();
            let why = failure.as_ref().map(|failure| format!(": {}", failure.message));
            let why = why.or_else(|| cause.as_ref().map(|cause| format!(" (because of {cause})")));
            Some(format!("{path}: {word}{took}{}", why.unwrap_or_default()))
        }
        _ => None,
    }
}

/// Says lines that a task wrote.
pub(super) fn log(chunk: &LogChunk) {
    let path = chunk.path.as_str();
    let mut text = String::new();
    if chunk.skipped > 0 {
        let more =
            format!("… {} lines passed over: ork logs {} {path} …", chunk.skipped, chunk.run);
        let _ = writeln!(text, "{path} | {}", more.dimmed());
    }
    for line in &chunk.lines {
        let _ = writeln!(text, "{}", lines::shown(line, Some(path)));
    }
    say(text.strip_suffix('\n').unwrap_or(&text));
}
