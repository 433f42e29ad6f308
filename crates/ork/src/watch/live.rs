//! A run as a block of lines at the foot of a terminal, drawn anew as it changes.

use std::fmt::Write as _;
use std::io::Write as _;

use anstream::ColorChoice;
use ork_core::ids::{InstancePath, RunId};
use ork_core::run::TaskState;
use ork_core::time::Wall;
use owo_colors::OwoColorize as _;
use unicode_width::UnicodeWidthChar as _;

use super::progress::{Progress, TaskLine};
use super::{style, task_word};
use crate::output::duration;

/// Which run it is.
pub(super) struct Title {
    pub(super) workflow: String,
    pub(super) id: RunId,
}

/// The block, and how many lines of it stand on the terminal.
#[derive(Default)]
pub(super) struct Block {
    drawn: usize,
}

impl Block {
    /// Draws the run as it stands.
    pub(super) fn draw(&mut self, progress: &Progress, run: &Title, now: Wall) {
        let (width, height) = size();
        let lines = lines(progress, run, now, height.saturating_sub(2).max(4));
        let mut text = self.home();
        let plain = anstream::AutoStream::choice(&std::io::stderr()) == ColorChoice::Never;
        for line in &lines {
            let line = fit(line, width);
            if plain {
                text.extend(anstream::adapter::strip_str(&line));
            } else {
                text.push_str(&line);
            }
            text.push('\n');
        }
        self.drawn = lines.len();
        write(&text);
    }

    /// Takes the block away, so that other lines can be written.
    pub(super) fn clear(&mut self) {
        let text = self.home();
        self.drawn = 0;
        write(&text);
    }

    /// To the block's first line, and all below it away: also the `^C` that a terminal echoes.
    fn home(&self) -> String {
        match self.drawn {
            0 => "\r\x1b[J".to_owned(),
            lines => format!("\r\x1b[{lines}A\x1b[J"),
        }
    }
}

/// Writes to the terminal as it is: where no colours are wanted, the cursor moves all the same.
fn write(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// The terminal's columns and rows.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// The block's lines: a head, then what matters most if not all instances fit.
fn lines(progress: &Progress, run: &Title, now: Wall, most: usize) -> Vec<String> {
    let mut lines = vec![head(progress, run, now)];
    let mut tasks: Vec<_> = progress.tasks.iter().collect();
    let hidden = tasks.len().saturating_sub(most - 2);
    if hidden > 0 {
        tasks.sort_by_key(|(_, task)| rank(task.state));
        tasks.truncate(most - 2);
        tasks.sort_by_key(|(path, _)| progress.tasks.get_index_of(*path));
    }
    let widest = tasks.iter().map(|(path, _)| path.as_str().chars().count()).max().unwrap_or(0);
    lines.extend(tasks.iter().map(|(path, task)| row(path, task, now, widest.min(40))));
    if hidden > 0 {
        let counts = progress.counts();
        let counts: Vec<_> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
        lines.push(format!("  {}", format!("… {hidden} more; {}", counts.join(", ")).dimmed()));
    }
    lines
}

fn head(progress: &Progress, run: &Title, now: Wall) -> String {
    let took = progress.started.map(|at| duration((progress.finished.unwrap_or(now) - at).0));
    let state = super::run_word(progress.state);
    let mut line = format!("{} {state}", run.workflow.bold());
    for word in took.into_iter().chain([run.id.to_string()]) {
        let _ = write!(line, " {}", word.dimmed());
    }
    line
}

/// Which instances are shown first.
fn rank(state: TaskState) -> u8 {
    match state {
        TaskState::Running | TaskState::Stopping | TaskState::Deferred => 0,
        TaskState::Failed => 1,
        TaskState::Dispatched | TaskState::Queued | TaskState::Cancelled => 2,
        TaskState::UpstreamFailed => 3,
        TaskState::Pending => 4,
        TaskState::Skipped | TaskState::Success => 5,
    }
}

fn row(path: &InstancePath, task: &TaskLine, now: Wall, widest: usize) -> String {
    let mark = style(task.state, mark(task.state));
    let word = style(task.state, task_word(task.state));
    let mut line = format!("  {mark} {:<widest$}  {word}", path.as_str());
    if let Some(took) = task.took(now) {
        let _ = write!(line, " {}", duration(took).dimmed());
    }
    if task.attempt > 1 {
        let _ = write!(line, " (attempt {})", task.attempt);
    }
    let failure = task.failure.as_ref().map(|failure| failure.message.as_str());
    if let Some(cause) = &task.cause {
        let _ = write!(line, "  {}", format!("because of {cause}").dimmed());
    } else if let Some(text) = failure.or(task.recent.last().map(String::as_str)) {
        let _ = write!(line, "  {}", text.lines().next().unwrap_or_default().dimmed());
    }
    line
}

fn mark(state: TaskState) -> &'static str {
    match state {
        TaskState::Success => "✓",
        TaskState::Failed | TaskState::UpstreamFailed => "✗",
        TaskState::Running | TaskState::Stopping | TaskState::Deferred => "▸",
        TaskState::Skipped | TaskState::Cancelled => "–",
        TaskState::Pending | TaskState::Queued | TaskState::Dispatched => "·",
    }
}

/// As much of a line as fits the columns. Colour codes have no width; other control characters
/// are left out, so that a task's output cannot move the cursor.
fn fit(line: &str, width: usize) -> String {
    let mut out = String::with_capacity(line.len());
    let (mut used, mut chars) = (0, line.chars().peekable());
    while let Some(c) = chars.next() {
        if c == '\x1b' && chars.peek() == Some(&'[') {
            let code: String = chars.by_ref().take_while_inclusive(|c| !c.is_ascii_alphabetic());
            if code.ends_with('m') {
                out.push(c);
                out.push_str(&code);
            }
            continue;
        }
        let Some(columns) = c.width() else { continue };
        used += columns;
        if used > width {
            break;
        }
        out.push(c);
    }
    out.push_str("\x1b[0m");
    out
}

trait TakeInclusive: Iterator<Item = char> {
    /// Everything up to the first character for which `more` is false, and that one.
    fn take_while_inclusive(self, more: impl Fn(&char) -> bool) -> String;
}

impl<I: Iterator<Item = char>> TakeInclusive for I {
    fn take_while_inclusive(self, more: impl Fn(&char) -> bool) -> String {
        let mut out = String::new();
        for c in self {
            out.push(c);
            if !more(&c) {
                break;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_its_columns() {
        for (line, width, fitted) in [
            ("hello", 3, "hel\x1b[0m"),
            ("\x1b[31mred\x1b[39m!", 3, "\x1b[31mred\x1b[39m\x1b[0m"),
            ("日本語", 5, "日本\x1b[0m"),
            ("a\x1b[2Jb\rc\x07", 9, "abc\x1b[0m"),
        ] {
            assert_eq!(fit(line, width), fitted, "{line:?}");
        }
    }
}
