//! The commands of README.md and docs/*.md, executed as they are written.
//!
//! A block of three backticks and `console` holds commands (lines that begin with `$ `) and what
//! they print. Blocks of one file are one shell session, in a copy of the examples with the binary
//! on `PATH`. Where output is shown it must come; a line `...` stands for any lines. Ids, times and
//! durations may differ, and so may the port 7070 and the folder `/home/ada/etl`. A command must succeed unless the next one is
//! `echo $?`. A block that begins with `console (not run)` is not executed.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use regex::Regex;

use crate::Place;
use crate::examples::{copy, repository};

/// A command of a document, and what is shown as its output.
struct Step {
    line: usize,
    command: String,
    shown: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let command = command.to_owned();
            steps.push(Step { line: index + 1, command, shown: Vec::new() });
        } else if inside {
            let step = steps.last_mut().unwrap_or_else(|| panic!("line {}: {line}", index + 1));
            if step.command.ends_with('\\') && step.shown.is_empty() {
                write!(step.command, "\n{line}").unwrap();
            } else {
                step.shown.push(line.to_owned());
            }
        }
    }
    steps
}

/// One session for all: `cd`, variables and what runs in the background stay.
fn script(steps: &[Step]) -> String {
    let mut script = "code=0\n".to_owned();
    for (number, step) in steps.iter().enumerate() {
        let command = &step.command;
        writeln!(script, "(exit $code)\n{{ {command}\n}} >\"$TOLD/{number}.out\" 2>&1").unwrap();
        writeln!(script, "code=$?; echo $code >\"$TOLD/{number}.code\"").unwrap();
    }
    script + "kill $(jobs -p) 2>/dev/null; wait\n"
}

/// What may differ, made the same; columns lose their width.
struct Normal(Vec<(Regex, &'static str)>);

impl Normal {
    fn new() -> Self {
        let rules = [
            ("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
            ("[0-9a-f]{32,64}", "HEX"),
            ("[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}([.][0-9]+)?Z", "TIME"),
            (r"\b[0-9]+([.][0-9]+)?(s|ms)\b", "DURATION"),
            ("[ ]+", " "),
        ];
        Self(rules.map(|(rule, name)| (Regex::new(rule).unwrap(), name)).into())
    }

    fn line(&self, line: &str) -> String {
        let line = line.trim_end().to_owned();
        self.0.iter().fold(line, |line, (rule, name)| rule.replace_all(&line, *name).into_owned())
    }
}

fn matches(shown: &[String], came: &[String]) -> bool {
    match (shown, came) {
        ([], came) => came.is_empty(),
        ([any, rest @ ..], came) if any == "..." => {
            (0..=came.len()).any(|skipped| matches(rest, &came[skipped..]))
        }
        ([line, shown @ ..], [first, came @ ..]) => line == first && matches(shown, came),
        _ => false,
    }
}

fn session(place: &Place, port: u16) -> std::process::Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_ork"));
    place.write(
        "bin/cargo",
        "#!/bin/sh\n[ \"$1 $2 $3\" = \"run --release --\" ] || exit 9\nshift 3\nexec ork \"$@\"\n",
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path("bin/cargo"), mode).unwrap();
    let folders = [place.path("bin"), binary.parent().unwrap().to_owned()];
    let old = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&old)));
    let mut bash = std::process::Command::new("bash");
    for (name, value) in place.command(&[]).get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    bash.env("PATH", path.unwrap()).env("TOLD", place.path("told"));
    bash.env("ORK_SERVER__BIND", format!("127.0.0.1:{port}"));
    bash.current_dir(place.path("work")).stdin(Stdio::null());
    bash
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(document: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(document).unwrap();
    let steps = steps(&text);
    let (place, port) = (Place::with(&[]), free_port());
    copy(&repository().join("examples"), &place.path("work/examples"));
    std::fs::create_dir_all(place.path("told")).unwrap();
    let script = script(&steps).replace("7070", &port.to_string());
    let ended = session(&place, port).arg("-c").arg(script).output().unwrap();
    let told = |number: usize, kind: &str| {
        std::fs::read_to_string(place.path(&format!("told/{number}.{kind}"))).unwrap_or_default()
    };
    let normal = Normal::new();
    let mut wrong = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let (code, out) = (told(number, "code"), told(number, "out"));
        let checked_next = steps.get(number + 1).is_some_and(|next| next.command == "echo $?");
        let out = out.replace(&port.to_string(), "7070");
        let out = out.replace(place.path("work").to_str().unwrap(), "/home/ada/etl");
        let came: Vec<_> = out.lines().map(|line| normal.line(line)).collect();
        let shown: Vec<_> = step.shown.iter().map(|line| normal.line(line)).collect();
        let failed = code.trim() != "0" && !checked_next;
        if failed || (!shown.is_empty() && !matches(&shown, &came)) {
            let (file, line, command) = (document.display(), step.line, &step.command);
            wrong.push(format!("{file}:{line}: $ {command}\nexit {code}{out}"));
        }
    }
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    wrong
}

#[test]
fn the_commands_of_the_documents_do_what_they_say() {
    let mut documents: Vec<PathBuf> = vec![repository().join("README.md")];
    let docs = std::fs::read_dir(repository().join("docs")).unwrap();
    documents.extend(docs.map(|entry| entry.unwrap().path()));
    documents.retain(|path| path.extension().is_some_and(|kind| kind == "md"));
    let wrong: Vec<_> = documents.iter().flat_map(|document| run(document)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The blocks of a document that are whole workflow files, by line.
fn workflows(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = !inside && line == "```yaml";
            found.extend(inside.then(|| (index + 1, String::new())));
        } else if let Some((_, block)) = found.last_mut().filter(|_| inside) {
            *block += &format!("{line}\n");
        }
    }
    found.retain(|(_, block)| block.lines().any(|line| line == "tasks:"));
    found
}

#[test]
fn the_workflows_of_the_documents_are_valid() {
    let place = Place::with(&[]);
    copy(&repository().join("docs"), &place.path("docs"));
    let mut files = vec!["validate".to_owned()];
    for entry in std::fs::read_dir(repository().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|kind| kind != "md") {
            continue;
        }
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        for (line, block) in workflows(&std::fs::read_to_string(&path).unwrap()) {
            let file = format!("docs/{stem}-line-{line}.yaml");
            place.write(&file, &block);
            files.push(file);
        }
    }
    assert!(files.len() > 8, "only {files:?}");
    place.write(
        "docs/etl.py",
        "def extract(day=None, region=None): return {'path': '', 'rows': 1}\n",
    );
    let words: Vec<_> = files.iter().map(String::as_str).collect();
    let said = place.ork(&words);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
}

#[test]
fn a_shown_output_is_compared() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&lines("a\n...\nz"), &lines("a\nb\nc\nz")));
    assert!(!matches(&lines("a\n...\nz"), &lines("a\nb")));
    assert!(!matches(&lines("a"), &lines("a\nb")));
    let normal = Normal::new();
    assert_eq!(normal.line("x  success in 0.1s"), "x success in DURATION");
    let parsed = steps("```console\n$ one \\\n  two\nout\n```\n```console (not run)\n$ three\n```");
    assert_eq!(parsed.len(), 1);
    assert_eq!((parsed[0].command.as_str(), parsed[0].shown.len()), ("one \\\n  two", 1));
}
