//! `ork run` on a real terminal.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use crate::Place;

const SLOW: &str = "name: slow\ntasks:\n  wait: {run: {shell: \"echo waiting for what never comes, in a line that is far longer than the terminal is wide; exec sleep 60\"}}\n  \
    next: {depends_on: wait, run: [echo, never]}\n\
    finally:\n  clean: {run: [echo, cleaned]}\n";

/// The columns and rows of the terminal.
const WIDTH: usize = 80;
const HEIGHT: usize = 12;

/// A command on a pseudo-terminal, and the picture that it has drawn.
struct Terminal {
    child: Child,
    written: Vec<u8>,
}

impl Terminal {
    fn start(place: &Place, words: &str, colours: bool) -> Self {
        let ork = env!("CARGO_BIN_EXE_ork");
        let line = format!("stty cols {WIDTH} rows {HEIGHT}; exec {ork} {words}");
        let mut command = place.program("script");
        command.args(["-qefc", &line, "/dev/null"]).env("TERM", "xterm").env("SHELL", "/bin/sh");
        if colours {
            command.env_remove("NO_COLOR");
        }
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        Self { child, written: Vec::new() }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Reads until the picture has this in it.
    fn until(&mut self, part: &str) {
        while !self.picture().join("\n").contains(part) {
            self.read(part);
        }
    }

    /// Reads until a line with this in it is drawn to its end. A key that interrupts makes the
    /// terminal throw away what it has not passed on yet: before one this is the way to wait.
    fn until_line(&mut self, part: &str) {
        let is_whole = |picture: &[String]| {
            let at = picture.iter().position(|line| line.contains(part));
            at.is_some_and(|at| at + 1 < picture.len())
        };
        while !is_whole(&self.picture()) {
            self.read(part);
        }
    }

    fn read(&mut self, part: &str) {
        let mut bytes = [0; 4096];
        let count = self.child.stdout.as_mut().unwrap().read(&mut bytes).unwrap();
        assert!(count > 0, "it ended before `{part}`:\n{}", self.picture().join("\n"));
        self.written.extend_from_slice(&bytes[..count]);
    }

    fn end(&mut self) -> i32 {
        self.child.stdout.as_mut().unwrap().read_to_end(&mut self.written).unwrap();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// The lines as a person sees them.
    fn picture(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.written);
        let (mut lines, mut at, mut column) = (vec![Vec::new()], 0, 0);
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => column = 0,
                '\n' => at += 1,
                '\x1b' => match code(&mut chars) {
                    (n, 'A') => at -= n,
                    (_, 'J') => {
                        lines.truncate(at + 1);
                        lines[at].truncate(column);
                    }
                    (_, 'm') => {}
                    other => panic!("{other:?} in {text:?}"),
                },
                c => {
                    if column == WIDTH {
                        (at, column) = (at + 1, 0);
                        lines.resize(lines.len().max(at + 1), Vec::new());
                    }
                    let line = &mut lines[at];
                    line.resize(line.len().max(column + 1), ' ');
                    line[column] = c;
                    column += 1;
                }
            }
            lines.resize(lines.len().max(at + 1), Vec::new());
        }
        lines.into_iter().map(|line| line.into_iter().collect()).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number and the letter of a control sequence.
fn code(chars: &mut std::str::Chars<'_>) -> (usize, char) {
    assert_eq!(chars.next(), Some('['));
    let mut number = String::new();
    loop {
        match chars.next() {
            Some(c) if c.is_ascii_digit() || c == ';' => number.push(c),
            Some(c) => return (number.parse().unwrap_or(0), c),
            None => return (0, 'm'),
        }
    }
}

/// A line without what differs from run to run.
fn steady(line: &str) -> String {
    let word = |word: &str| {
        let is_time = word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with('s');
        let is_id = word.len() > 30 || word.starts_with("01");
        if is_time {
            "TIME"
        } else if is_id {
            "RUN"
        } else {
            word
        }
        .to_owned()
    };
    line.trim_end().split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_interrupt_asks_and_the_next_one_cancels_and_no_line_is_garbled() {
    for colours in [true, false] {
        let place = Place::with(&[("slow.yaml", SLOW)]);
        let mut terminal = Terminal::start(&place, "run slow.yaml", colours);
        terminal.until_line("  waiting");
        terminal.press("\x03");
        terminal.until_line("Ctrl-C cancels");
        terminal.press("\x03");
        terminal.until("cancelling");
        assert_eq!(terminal.end(), 5);
        let picture: Vec<_> = terminal.picture().iter().map(|line| steady(line)).collect();
        insta::allow_duplicates!(insta::assert_snapshot!(picture.join("\n"), @r"
        local (./.ork)
        cancel the run (c), leave it (l), or go on watching (Enter)? Ctrl-C cancels
        cancelling; once more to end `finally` too
        slow cancelled TIME RUN
          – wait           cancelled TIME  the run was cancelled
          – next           cancelled  the run was cancelled
          ✓ finally/clean  success TIME  cleaned
        slow cancelled: the run was cancelled
        3 tasks: 2 cancelled, 1 success in TIME
        more: ork explain RUN
        "));
    }
}

#[test]
fn whoever_leaves_is_told_that_the_run_goes_on() {
    let place = Place::with(&[("slow.yaml", SLOW)]);
    let mut terminal = Terminal::start(&place, "run slow.yaml", true);
    terminal.until_line("  waiting");
    terminal.press("\x03");
    terminal.until("leave it (l)");
    terminal.press("l\n");
    assert_eq!(terminal.end(), 130);
    assert!(terminal.picture().join("\n").contains("it goes on when `ork up`"));
}

#[test]
fn the_system_asks_no_question() {
    let place = Place::with(&[("slow.yaml", SLOW)]);
    let mut terminal = Terminal::start(&place, "run slow.yaml", false);
    terminal.until_line("  waiting");
    let server: serde_json::Value = serde_json::from_str(&place.read(".ork/server.json")).unwrap();
    let pid = server["pid"].to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(terminal.end(), 5);
    let picture = terminal.picture().join("\n");
    assert!(!picture.contains("cancel the run (c)") && picture.contains("cancelling"), "{picture}");
}

/// What stands on the terminal at the end, without what differs from run to run.
fn last_picture(terminal: &Terminal) -> String {
    let picture: Vec<_> = terminal.picture().iter().map(|line| steady(line)).collect();
    picture.join("\n")
}

#[test]
fn a_run_that_succeeds_ends_with_its_tasks_and_its_result() {
    let place = Place::with(&[(
        "good.yaml",
        "name: good\ntasks:\n  a: {run: {shell: 'echo one; echo two'}}\n  \
         b: {depends_on: a, when: tasks.a.state != 'success', run: [x]}\n\
         finally:\n  clean: {run: [echo, cleaned]}\noutput: done\n",
    )]);
    let mut terminal = Terminal::start(&place, "run good.yaml", true);
    terminal.until_line("good success");
    assert_eq!(terminal.end(), 0);
    insta::assert_snapshot!(last_picture(&terminal), @r"
    local (./.ork)
    good success TIME RUN
      ✓ a              success TIME  two
      – b              skipped
      ✓ finally/clean  success TIME  cleaned
    3 tasks: 2 success, 1 skipped in TIME
    done
    ");
}

#[test]
fn a_run_that_fails_ends_with_the_last_lines_of_what_failed() {
    let place = Place::with(&[(
        "bad.yaml",
        "name: bad\ntasks:\n  a: {run: {shell: 'seq 30; echo broken >&2; exit 3'}}\n  \
         b: {depends_on: a, run: [x]}\n",
    )]);
    let mut terminal = Terminal::start(&place, "run bad.yaml", false);
    terminal.until_line("bad failed");
    assert_eq!(terminal.end(), 1);
    insta::assert_snapshot!(last_picture(&terminal), @r"
    local (./.ork)
    bad failed TIME RUN
      ✗ a  failed TIME  `bash` exited with code 3
      ✗ b  upstream_failed  because of a

    a `bash` exited with code 3
      broken
      more: ork logs RUN a

    bad failed: a failed: `bash` exited with code 3
    2 tasks: 1 failed, 1 upstream_failed in TIME
    more: ork explain RUN
    ");
}

#[test]
fn a_map_with_more_items_than_the_terminal_has_rows_is_drawn_in_part() {
    let place = Place::with(&[(
        "many.yaml",
        "name: many\ntasks:\n  m:\n    for_each: range(30)\n    \
         run: {shell: 'until test -e open; do read -t 0.02 <> hold || true; done'}\n",
    )]);
    assert!(place.program("mkfifo").arg("hold").status().unwrap().success());
    let mut terminal = Terminal::start(&place, "run many.yaml", true);
    terminal.until("▸ m[0] ");
    terminal.until_line(" more; ");
    let picture = terminal.picture();
    assert!(picture.len() <= HEIGHT, "{}", picture.join("\n"));
    assert!(picture.iter().any(|line| line.starts_with("many running")), "{picture:?}");
    assert!(picture.iter().any(|line| line.contains("▸ m[0] ")), "{picture:?}");
    place.write("open", "");
    assert_eq!(terminal.end(), 0);
    insta::assert_snapshot!(last_picture(&terminal), @r"
    local (./.ork)
    many success TIME RUN
      ✓ m     success TIME
      ✓ m[0]  success TIME
      ✓ m[1]  success TIME
      ✓ m[2]  success TIME
      ✓ m[3]  success TIME
      ✓ m[4]  success TIME
      ✓ m[5]  success TIME
      ✓ m[6]  success TIME
      … 23 more; 31 success
    31 tasks: 31 success in TIME
    ");
}
