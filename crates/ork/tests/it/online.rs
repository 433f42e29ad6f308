//! Commands that need a server: with none running, and as the client of one.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use crate::{Place, Said};

/// Waits for a file that the test makes, then ends well.
const GATE: &str = "name: gate\ntasks:\n  wait:\n    run: {shell: \"echo waiting; until test -e open; do read -t 0.02 <> hold || true; done\"}\n";
const HELLO: &str = "name: hello\nparams: {who: {type: str, default: world}, n: {type: [int], default: [1]}}\n\
    tasks:\n  greet:\n    run: [echo, \"hello ${{ params.who }}\"]\n\
    output: \"${{ params.who }}\"\n";
const FAILS: &str = "name: fails\ntasks:\n  a:\n    run: {shell: \"test -e mended\"}\n  b:\n    depends_on: a\n    run: [echo, done]\n";

/// A command that runs while the test goes on, and what it says.
pub(crate) struct Running {
    child: Child,
    err: BufReader<ChildStderr>,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(place: &Place, words: &[&str]) -> Self {
        let mut child = place.command(words).spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Self { child, err }
    }

    /// Reads what it says until a line has this in it.
    pub(crate) fn until(&mut self, part: &str) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(
                self.err.read_line(&mut line).unwrap() > 0,
                "it ended before `{part}`:\n{said}"
            );
            said.push_str(&line);
            if line.contains(part) {
                return said;
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let kill = std::process::Command::new("kill").args([format!("-{name}"), pid]).status();
        assert!(kill.unwrap().success());
    }

    fn end(mut self) -> i32 {
        let mut rest = String::new();
        while self.err.read_line(&mut rest).unwrap() > 0 {}
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn place() -> Place {
    let place = Place::with(&[
        ("gate.yaml", GATE),
        ("hello.yaml", HELLO),
        ("fails.yaml", FAILS),
        (".orkignore", "hold\n.cache\n"),
    ]);
    let pipe = std::process::Command::new("mkfifo").arg(place.path("hold")).status();
    assert!(pipe.unwrap().success());
    place
}

/// Another process, by which the store takes no commits until it is dropped.
struct Lock(Child);

impl Lock {
    fn hold(place: &Place) -> Self {
        let code = "import sqlite3, sys\n\
                    db = sqlite3.connect('.ork/ork.db', timeout=60, isolation_level=None)\n\
                    db.execute('BEGIN IMMEDIATE')\n\
                    print('held', flush=True)\n\
                    sys.stdin.read()";
        let mut command = place.program("python3");
        let mut child = command.args(["-c", code]).stdin(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        Self(child)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long an ordered end waits for a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn id(said: &Said) -> String {
    said.out.trim().to_owned()
}

#[test]
fn a_run_without_a_server_and_what_is_remembered() {
    let place = place();
    let said = place.ork(&["run", "hello.yaml", "-p", "who=you", "-p", "n=1,2"]);
    assert_eq!((said.code, said.out.as_str()), (0, "you\n"), "{said:?}");
    assert!(said.err.starts_with("local (./.ork)\nrun "), "{said:?}");
    assert!(said.err.contains("greet: started\ngreet | hello you\ngreet: success in"), "{said:?}");
    let said = place.ork(&["ls", "-o", "json"]);
    let runs: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(runs[0]["state"], "success");
    assert_eq!(runs[0]["params"], serde_json::json!({"who": "you", "n": [1, 2]}));
    let run = runs[0]["id"].as_str().unwrap();
    for word in ["last", run, &run[..14]] {
        assert_eq!(place.ork(&["logs", word, "greet"]).out, "hello you\n", "{word}");
    }
    assert_eq!(id(&place.ork(&["ls", "-o", "name"])), run);
}

#[test]
fn exit_codes() {
    let place = place();
    for (words, code) in [
        (&["ls"][..], 3),
        (&["run", "gone"], 3),
        (&["run", "hello.yaml", "--detach"], 2),
        (&["run", "hello.yaml", "-p", "n=x"], 2),
        (&["run", "hello.yaml", "-p", "x"], 2),
        (&["run", "hello.yaml", "--version", "1"], 2),
        (&["run", "hello.yaml"], 0),
        (&["run", "hello.yaml", "-p", "nobody=x"], 2),
        (&["run", "fails.yaml"], 1),
        (&["runs", "show", "last"], 0),
        (&["watch", "last"], 1),
        (&["run", "gone"], 4),
        (&["logs", "last", "nothing"], 4),
        (&["explain", "ffffff"], 4),
        (&["explain", "xyz"], 4),
        (&["cancel", "last"], 4),
        (&["ls", "--server", "http://127.0.0.1:9"], 3),
        (&["ls", "--server", "nonsense"], 2),
        (&["workflows", "show", "fails"], 4),
        (&["ls", "-o", "github"], 2),
    ] {
        let said = place.ork(words);
        assert_eq!(said.code, code, "ork {}: {said:?}", words.join(" "));
    }
}

#[test]
fn a_second_one_becomes_the_client_of_the_first_which_stays() {
    let place = place();
    let mut first = Running::start(&place, &["run", "hello.yaml"]);
    let _ = first.until("hello success");
    assert_eq!(first.end(), 0);
    let mut first = Running::start(&place, &["run", "fails.yaml", "-p", "x"]);
    let _ = first.until("is not NAME=VALUE");
    assert_eq!(first.end(), 2);
    let mut first = Running::start(&place, &["run", "gate.yaml"]);
    let _ = first.until("wait | waiting");
    let said = place.ork(&["run", "hello.yaml"]);
    assert_eq!((said.code, said.out.as_str()), (0, "world\n"), "{said:?}");
    let detached = place.ork(&["run", "gate.yaml", "--detach"]);
    assert_eq!(detached.code, 0, "{detached:?}");
    place.write("open", "");
    assert_eq!(first.end(), 0);
    let said = place.ork(&["runs", "show", &id(&detached), "--json"]);
    assert!(said.out.contains("\"state\": \"success\""), "{said:?}");
}

#[test]
fn a_command_whose_run_is_over_says_why_it_stays() {
    let place = place();
    place.write("gate2.yaml", &GATE.replace("name: gate", "name: gate2").replace("open", "open2"));
    let mut first = Running::start(&place, &["run", "gate.yaml"]);
    let _ = first.until("wait | waiting");
    assert_eq!(place.ork(&["run", "gate2.yaml", "--detach"]).code, 0);
    place.write("open", "");
    let _ = first.until("staying until 1 more run ends here");
    place.write("open2", "");
    assert_eq!(first.end(), 0);
}

/// Names what only a server knows.
const NAMES: &str = "name: names\ntasks:\n  a: {run: [echo, hi], pool: db}\n  \
    b: {run: [echo, hi], worker_queue: gpu}\n  c: {workflow: other}\n";

#[test]
fn a_server_that_is_named_is_asked_for_what_only_it_knows() {
    let place = place();
    place.write("names.yaml", NAMES);
    place.write("bad.yaml", "name: bad\ntasks: {a: {run: [echo, \"${{ params.x }}\"]}}\n");
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    let server: serde_json::Value = serde_json::from_str(&place.read(".ork/server.json")).unwrap();
    let url = server["url"].as_str().unwrap();
    let check = |words: &[&str]| place.ork(&[&["validate", "--server", url], words].concat());
    let said = check(&["names.yaml"]);
    assert_eq!(said.code, 0, "{said:?}");
    insta::assert_snapshot!(said.out, @r"
    warning[unknown-pool]: there is no pool `db` yet
     --> names.yaml:3:30
      |
    3 |   a: {run: [echo, hi], pool: db}
      |                              ^^
      |
      = help: make it with `ork pools set db SLOTS`, or write its size beside its name (`of`)

    warning[unknown-queue]: no worker serves the queue `gpu`
     --> names.yaml:4:38
      |
    4 |   b: {run: [echo, hi], worker_queue: gpu}
      |                                      ^^^
      |
      = help: its tasks wait until one does: `worker.queues` of ork.toml names them

    warning[unknown-workflow]: there is no workflow `other` yet
     --> names.yaml:5:17
      |
    5 |   c: {workflow: other}
      |                 ^^^^^
      |
      = help: deploy it before this one, which then calls that version

    3 warnings
    ");
    assert_eq!(place.ork(&["pools", "set", "db", "1"]).code, 0);
    place.write("other.yaml", &HELLO.replace("hello", "other"));
    assert_eq!(place.ork(&["deploy", "other.yaml"]).code, 0);
    let said = check(&["names.yaml", "-o", "json"]);
    let found: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &found[0]["code"], &found[1]), (0, &"unknown-queue".into(), &().into()));
    // Only the server knows what the callee's params are.
    place.write(
        "names.yaml",
        &NAMES.replace("workflow: other", "workflow: {name: other, params: {x: 1}}"),
    );
    let said = check(&["names.yaml", "-o", "name"]);
    assert_eq!((said.code, said.out.as_str()), (1, "names.yaml\n"), "{said:?}");
    assert_eq!(check(&["bad.yaml"]).code, 1);
    let said = place.ork(&["validate", "--server", "http://127.0.0.1:9", "names.yaml"]);
    assert_eq!(said.code, 3, "{said:?}");
    let said = place.ork(&["validate", "names.yaml"]);
    assert_eq!(said.out.matches("note[unchecked]").count(), 3, "{said:?}");
}

#[test]
fn the_environment_says_which_server_and_project_for_names_and_not_for_files() {
    let (served, place) = (place(), place());
    let mut up = Running::start(&served, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    let server: serde_json::Value = serde_json::from_str(&served.read(".ork/server.json")).unwrap();
    let url = server["url"].as_str().unwrap();
    let token = served.read(".ork/token");
    let ork = |words: &[&str], variables: &[(&str, &str)]| {
        let mut command = place.command(words);
        Said::from(command.envs(variables.iter().copied()).output().unwrap())
    };
    let all = [("ORK_SERVER", url), ("ORK_TOKEN", token.trim()), ("ORK_PROJECT", "default")];
    let said = ork(&["run", "hello", "-p", "who=you"], &all);
    assert_eq!((said.code, said.out.as_str()), (0, "you\n"), "{said:?}");
    assert!(said.err.starts_with(url), "{said:?}");
    assert_eq!(ork(&["ls"], &all[..1]).code, 4);
    assert_eq!(ork(&["ls"], &[all[0], ("ORK_TOKEN", "wrong")]).code, 4);
    let said = ork(&["ls"], &[all[0], all[1], ("ORK_PROJECT", "other")]);
    assert!(said.code == 4 && said.err.contains("project `other`"), "{said:?}");
    let said = ork(&["ls", "--project", "default"], &[all[0], all[1], ("ORK_PROJECT", "other")]);
    assert_eq!(said.code, 0, "{said:?}");
    // A file runs here, whatever the environment names.
    let said = ork(&["run", "hello.yaml"], &all[..2]);
    assert_eq!((said.code, said.out.as_str()), (0, "world\n"), "{said:?}");
    assert!(said.err.starts_with("local (./.ork)\n"), "{said:?}");
    assert_eq!(served.ork(&["ls", "-o", "name"]).out.lines().count(), 1);
}

#[test]
fn params_are_taken_from_files_and_a_run_is_for_the_time_that_is_given() {
    let place = place();
    place.write("who.txt", "me");
    place.write("params.yaml", "who: you\nn: [4]\n");
    let words = ["run", "hello.yaml", "--params", "params.yaml", "--at", "2026-02-28"];
    let said = place.ork(&words);
    assert_eq!((said.code, said.out.as_str()), (0, "you\n"), "{said:?}");
    let said = place.ork(&[&words[..4], &["-p", "who=@who.txt"]].concat());
    assert_eq!((said.code, said.out.as_str()), (0, "me\n"), "{said:?}");
    let runs: serde_json::Value =
        serde_json::from_str(&place.ork(&["ls", "-o", "json"]).out).unwrap();
    assert_eq!(runs[0]["params"], serde_json::json!({"who": "me", "n": [4]}));
    assert_eq!(runs[1]["params"], serde_json::json!({"who": "you", "n": [4]}));
    assert_eq!(runs[1]["logical_time"], "2026-02-28T00:00:00.000000Z");
    place.write("params.yaml", "- who\n");
    let said = place.ork(&words);
    assert!(said.code == 2 && said.err.contains("not a map of params"), "{said:?}");
    let said = place.ork(&["run", "hello.yaml", "-p", "who=@gone.txt"]);
    assert!(said.code == 1 && said.err.contains("gone.txt"), "{said:?}");
}

#[test]
fn a_retry_says_no_line_of_the_attempt_before() {
    let place = Place::with(&[(
        "two.yaml",
        "name: two\ntasks:\n  ok: {run: [echo, one]}\n  \
         bad: {run: {shell: 'echo out; test -e mended'}}\n",
    )]);
    assert_eq!(place.ork(&["run", "two.yaml"]).code, 1);
    place.write("mended", "");
    let said = place.ork(&["retry", "last"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.err.contains("ok | one"), "{said:?}");
    assert_eq!(said.err.matches("bad | out").count(), 1, "{said:?}");
}

#[test]
fn logs_as_yaml_are_documents() {
    let place = Place::with(&[(
        "two.yaml",
        "name: two\ntasks: {a: {run: {shell: 'echo \"x: 1\"; echo two'}}}\n",
    )]);
    assert_eq!(place.ork(&["run", "two.yaml"]).code, 0);
    let said = place.ork(&["logs", "last", "-o", "yaml"]).out;
    let texts = said.split("---\n").skip(1).map(|document| {
        let line = ork_core::lang::data("log.yaml", document.as_bytes()).unwrap();
        line["text"].as_str().unwrap().to_owned()
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["x: 1", "two"], "{said}");
}

#[test]
fn what_never_began_in_a_run_that_is_over_is_not_pending() {
    let place = Place::with(&[(
        "many.yaml",
        "name: many\nconcurrency: {max_runs: 1, on_limit: skip}\ntasks:\n  \
         m: {for_each: \"[1, 2, 3]\", max_parallel: 1, run: [\"false\"]}\n",
    )]);
    let said = place.ork(&["run", "many.yaml"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(!said.err.contains("pending") && said.err.contains("2 not begun"), "{said:?}");
}

#[test]
fn a_success_is_marked_with_its_output_and_the_project_is_paused() {
    let place = place();
    place.write(
        "typed.yaml",
        "name: typed\ntasks:\n  a: {run: [\"false\"], output_type: int}\n  \
         b: {run: [echo, \"${{ tasks.a.output + 1 }}\"]}\n",
    );
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    assert_eq!(place.ork(&["run", "typed"]).code, 1);
    let said = place.ork(&["runs", "mark", "last", "a", "success", "--value", "3", "-o", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("\"result\": \"done\""), "{said:?}");
    assert_eq!(place.ork(&["retry", "last"]).code, 0);
    assert_eq!(place.ork(&["logs", "last", "b"]).out, "4\n");

    let said = place.ork(&["workflows", "pause", "--all", "--dry-run", "-o", "json"]);
    assert_eq!((said.code, said.err.contains("would pause the project")), (0, true), "{said:?}");
    assert_eq!(place.ork(&["workflows", "pause", "--all", "--reason", "tests"]).code, 0);
    assert_eq!(place.ork(&["run", "hello", "--detach"]).code, 0);
    let said = place.ork(&["explain", "last"]);
    assert!(said.out.contains("its project was paused by local"), "{said:?}");
    assert_eq!(place.ork(&["workflows", "resume", "--all"]).code, 0);
    assert_eq!(place.ork(&["watch", "last"]).code, 0);
    up.signal("INT");
    assert_eq!(up.end(), 0);
}

#[test]
fn an_interrupt_that_is_not_typed_cancels() {
    let place = place();
    let mut run = Running::start(&place, &["run", "gate.yaml"]);
    let _ = run.until("wait | waiting");
    run.signal("INT");
    let _ = run.until("cancelling");
    assert_eq!(run.end(), 5);
}

#[test]
fn what_was_under_way_when_the_process_was_killed_goes_on_at_the_next_start() {
    let place = place();
    let mut run = Running::start(&place, &["run", "gate.yaml"]);
    let _ = run.until("wait | waiting");
    run.signal("KILL");
    assert_eq!(run.end(), -1);
    place.write("open", "");
    let said = place.ork(&["watch", "last"]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn what_a_killed_server_kept_for_attempts_is_removed_at_the_next_start() {
    let (place, outside) = (place(), Place::with(&[]));
    let told = outside.path("told");
    assert!(outside.program("mkfifo").arg(&told).status().unwrap().success());
    let lines = format!("dirname $ORK_OUTPUT $ORK_SCRATCH > {}; exec sleep 60", told.display());
    place.write(
        "held.yaml",
        &format!("name: held\ntasks: {{a: {{run: {{shell: \"{lines}\"}}}}}}\n"),
    );
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    assert_eq!(place.ork(&["run", "held", "--detach"]).code, 0);
    let folders = std::fs::read_to_string(&told).unwrap();
    let folders: Vec<_> = folders.lines().map(std::path::Path::new).collect();
    up.signal("KILL");
    assert_eq!(up.end(), -1);
    assert!(folders.len() == 2 && folders.iter().all(|folder| folder.is_dir()), "{folders:?}");
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    assert!(!folders.iter().any(|folder| folder.exists()), "{folders:?}");
    up.signal("INT");
    assert_eq!(up.end(), 0);
}

#[test]
fn a_client_goes_on_when_its_server_is_killed() {
    let place = place();
    let mut first = Running::start(&place, &["run", "gate.yaml"]);
    let _ = first.until("wait | waiting");
    let mut second = Running::start(&place, &["watch", "last"]);
    let _ = second.until("wait | waiting");
    first.signal("KILL");
    assert_eq!(first.end(), -1);
    place.write("open", "");
    assert_eq!(second.end(), 0);
}

#[test]
fn a_failed_run_is_explained_and_retried() {
    let place = place();
    assert_eq!(place.ork(&["run", "fails.yaml"]).code, 1);
    let said = place.ork(&["explain"]);
    assert!(said.out.contains("b upstream_failed because of a"), "{said:?}");
    place.write("mended", "");
    let said = place.ork(&["retry", "last"]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn what_waits_is_explained() {
    let place = Place::with(&[(
        "w.yaml",
        "name: w\ntasks:\n  a: {run: [\"false\"], retries: {max: 1, delay: 1h, jitter: false}}\n  \
         b: {depends_on: a, run: [echo, hi]}\nfinally:\n  c: {run: [echo, bye]}\n",
    )]);
    let mut run = Running::start(&place, &["run", "w.yaml"]);
    let _ = run.until("again in 1h 0m");
    let said = place.ork(&["explain"]);
    let steady = said.out.lines().map(|line| match line.find("20") {
        Some(at) if line.ends_with('Z') => format!("{}TIME", &line[..at]),
        _ => line.to_owned(),
    });
    let steady: Vec<_> = steady.skip(1).collect();
    insta::assert_snapshot!(steady.join("\n"), @r"
      a queued: `false` exited with code 1
        is tried again at TIME
      b pending
        waits for `a`, which is queued
      finally/c pending
        it belongs to `finally`, and 2 tasks are not over yet
    the next thing that is due: TIME
    ");
    run.signal("INT");
    assert_eq!(run.end(), 5);
}

#[test]
fn one_task_alone() {
    let place = Place::with(&[(
        "two.yaml",
        "name: two\ntasks:\n  a:\n    run: {argv: [echo, '{\"n\": 1}'], output: stdout_json}\n    output_type: {n: int}\n  \
         b:\n    inputs: {n: \"${{ tasks.a.output.n }}\"}\n    run: {shell: 'cat $ORK_INPUT'}\n",
    )]);
    let said = place.ork(&["test", "two.yaml", "b"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.err.contains("the input `n` of `b` comes from another task"), "{said:?}");
    assert_eq!(place.ork(&["test", "two.yaml", "b", "-i", "n=7"]).code, 0);
    assert_eq!(place.ork(&["logs", "last", "b"]).out.trim(), "{\"n\":7}");
    assert_eq!(place.ork(&["run", "two.yaml"]).code, 0);
    assert_eq!(place.ork(&["test", "two.yaml", "b", "--from-run", "last"]).code, 0);
    assert_eq!(place.ork(&["logs", "last", "b"]).out.trim(), "{\"n\":1}");
    assert_eq!(place.ork(&["test", "two.yaml", "c"]).code, 2);
}

#[test]
fn up_deploys_watches_and_serves() {
    let place = place();
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    let said = up.until("ready");
    assert!(said.contains("listening on http://127.0.0.1:"), "{said}");
    assert!(said.contains("hello: deployed, version 1"), "{said}");
    assert_eq!(place.ork(&["run", "hello", "-p", "who=you"]).out, "you\n");
    place.write("hello.yaml", &HELLO.replace("world", "moon"));
    let _ = up.until("hello: deployed, version 2");
    assert_eq!(place.ork(&["run", "hello"]).out, "moon\n");
    place.write("hello.yaml", "name: hello\ntasks: {}\n");
    let _ = up.until("1 error");
    assert_eq!(place.ork(&["workflows", "versions", "hello", "-o", "name"]).out, "2\n1\n");
    let said = place.ork(&["run", "helo"]);
    assert!(said.code == 4 && said.err.contains("did you mean `hello`?"), "{said:?}");
    let said = place.ork(&["up", "--bind", "127.0.0.1:0"]);
    assert!(said.code == 4 && said.err.contains("is in use by the server at"), "{said:?}");
    up.signal("INT");
    let _ = up.until("stopping");
    assert_eq!(up.end(), 0);
}

#[test]
fn a_second_signal_ends_a_server_whose_store_does_not_answer() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let place = place();
        let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
        let _ = up.until("ready");
        let mut run = Running::start(&place, &["run", "gate"]);
        let _ = run.until("wait | waiting");
        let _lock = Lock::hold(&place);
        up.signal(name);
        let _ = up.until("once more ends it at once");
        let begun = Instant::now();
        up.signal(name);
        assert_eq!(up.end(), code);
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[test]
fn a_signal_ends_a_server_whose_store_does_not_open() {
    for words in [&["up", "--bind", "127.0.0.1:0"][..], &["run", "hello.yaml"]] {
        let place = place();
        assert_eq!(place.ork(&["run", "hello.yaml"]).code, 0);
        let _lock = Lock::hold(&place);
        let up = Running::start(&place, words);
        while ork_store::DataDir::holder(&place.path(".ork")) != Some(up.child.id()) {
            std::thread::yield_now();
        }
        up.signal("INT");
        assert_eq!(up.end(), -1, "{words:?}: it ended by itself");
    }
}

#[test]
fn signals_end_a_run_whose_store_does_not_answer() {
    let place = place();
    let mut run = Running::start(&place, &["run", "gate.yaml"]);
    let _ = run.until("wait | waiting");
    let _lock = Lock::hold(&place);
    for said in ["to end `finally` too", "to leave it", "left "] {
        run.signal("INT");
        let _ = run.until(said);
    }
    let begun = Instant::now();
    run.signal("INT");
    assert_eq!(run.end(), 130);
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn runs_are_found_by_what_is_known_of_their_workflow() {
    let tagged =
        HELLO.replace("name: hello\n", "name: sales\ntags: [nightly]\ndescription: Money in\n");
    let place = Place::with(&[("sales.yaml", &tagged), ("hello.yaml", HELLO)]);
    for file in ["sales.yaml", "hello.yaml", "sales.yaml"] {
        assert_eq!(place.ork(&["run", file]).code, 0);
    }
    let found = |words: &[&str]| place.ork(&[&["ls", "-o", "name"], words].concat()).out;
    let newest = found(&[]);
    let mut ids: Vec<_> = newest.lines().collect();
    assert_eq!(ids.len(), 3, "{newest}");
    assert_eq!(found(&["--sort", "-created_at"]), newest);
    let sales = format!("{}\n{}\n", ids[0], ids[2]);
    for words in [&["--tag", "nightly"][..], &["-q", "mOney"], &["-q", "sal", "--tag", "nightly"]] {
        assert_eq!(found(words), sales, "{words:?}");
    }
    for words in [&["--tag", "night"][..], &["-q", "hello", "--tag", "nightly"], &["-q", "%"]] {
        assert_eq!(found(words), "", "{words:?}");
    }
    ids.reverse();
    assert_eq!(found(&["--sort", "created_at"]).lines().collect::<Vec<_>>(), ids);
    assert_eq!(found(&["--sort", "created_at", "-n", "1"]).lines().collect::<Vec<_>>(), ids[..1]);
    let said = place.ork(&["ls", "--sort", "size"]);
    assert!(said.code == 4 && said.err.contains("`size` is no order of runs"), "{said:?}");
}

/// Tasks that fail in each way that a filter of retries tells apart.
const FILTERED: &str = "name: filtered
defaults: { retries: { max: 2, delay: 1ms, jitter: false } }
tasks:
  busy:
    run: { shell: exit 75 }
    retries: { for: [timeout, \"exit:75\"] }
  slow:
    run: [sleep, \"60\"]
    timeout: 100ms
    retries: { for: [timeout, \"exit:75\"] }
  other:
    run: { shell: exit 1 }
    retries: { for: [timeout, \"exit:75\"] }
  guarded:
    run: { shell: exit 3 }
    retries: { if: error.exit_code == 3 && attempt < 2 }
  doubly:
    run: { shell: exit 75 }
    retries: { for: [\"exit:75\"], if: attempt > 5 }
";

#[test]
fn only_what_a_filter_names_is_tried_again() {
    let place = Place::with(&[("filtered.yaml", FILTERED)]);
    let said = place.ork(&["run", "filtered.yaml"]);
    assert_eq!(said.code, 1, "{said:?}");
    let shown = place.ork(&["runs", "show", "last"]).out;
    let attempts = |task: &str| {
        let line = shown.lines().find(|line| line.split_whitespace().next() == Some(task));
        let words = line.map(|line| line.split_whitespace().nth(2).unwrap_or_default());
        words.unwrap_or_else(|| panic!("no {task} in {shown}")).to_owned()
    };
    let tasks = ["busy", "slow", "other", "guarded", "doubly"];
    assert_eq!(tasks.map(attempts), ["3", "3", "1", "2", "1"], "{shown}");
}

#[test]
fn a_workflow_that_changes_makes_no_version_of_the_one_beside_it() {
    let place = place();
    place.write("other.yaml", "name: other\ntasks: {a: {run: [cat, data.txt]}}\n");
    place.write("data.txt", "one\n");
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    let versions =
        |name: &str| place.ork(&["workflows", "versions", name, "-o", "name"]).out.lines().count();
    let before = versions("other");
    place.write("hello.yaml", &HELLO.replace("world", "moon"));
    let said = up.until("hello: deployed, version 2");
    assert!(!said.contains("other: deployed"), "{said}");
    let said = place.ork(&["workflows", "diff", "./other.yaml"]);
    assert_eq!(said.out, "other: from version 1 to the file\nnothing differs\n");
    assert_eq!(versions("other"), before);
    // What is code to both makes versions of both.
    place.write("data.txt", "another\n");
    let said = up.until("other: deployed, version 2");
    assert!(said.contains("hello: deployed, version 3"), "{said}");
    assert_eq!(place.ork(&["run", "other"]).code, 0);
}

#[test]
fn what_a_killed_server_said_of_itself_is_not_believed() {
    let place = place();
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    let said = place.read(".ork/server.json");
    up.signal("KILL");
    assert_eq!(up.end(), -1);
    // Another listens at the old address: it must never be given the token.
    let url = said.split("http://").nth(1).unwrap().split('"').next().unwrap();
    let listener = std::net::TcpListener::bind(url).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(place.ork(&["run", "hello.yaml"]).code, 0);
    assert!(listener.accept().is_err(), "it was asked");
}

#[test]
fn the_state_folder_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    assert_eq!(place.ork(&["run", "--detach", "hello.yaml"]).code, 2);
    assert!(!place.path(".ork").exists());
    assert_eq!(place.ork(&["run", "hello.yaml"]).code, 0);
    let mode = std::fs::metadata(place.path(".ork")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn what_a_command_writes_into_the_folder_is_no_code() {
    let place = place();
    assert_eq!(place.ork(&["run", "hello.yaml"]).code, 0);
    for expected in ["hello: deployed, version 1\n", "hello: unchanged, version 1\n"] {
        let log = std::fs::File::options().append(true).create(true).open(place.path("deploy.txt"));
        let said = place.command(&["deploy", "hello.yaml"]).stderr(log.unwrap()).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), expected);
    }
    assert!(place.read("deploy.txt").contains("local (./.ork)"));
}

#[test]
fn deploy_says_what_changed() {
    let place = place();
    assert_eq!(place.ork(&["run", "hello.yaml"]).code, 0);
    let said = place.ork(&["deploy", "hello.yaml"]);
    assert_eq!((said.code, said.out.as_str()), (0, "hello: deployed, version 1\n"), "{said:?}");
    assert!(!said.err.contains("deployed"), "{said:?}");
    let said = place.ork(&["deploy", "hello.yaml"]);
    assert_eq!((said.code, said.out.as_str()), (0, "hello: unchanged, version 1\n"), "{said:?}");
}

/// Writes more than a pipe holds.
const LOUD: &str = "name: loud\ntasks: {a: {run: {shell: \"seq 100000\"}}}\n";

#[test]
fn a_server_that_only_answers_takes_no_run() {
    let place = place();
    place.write("loud.yaml", LOUD);
    assert_eq!(place.ork(&["run", "loud.yaml"]).code, 0);
    // Nobody reads what it prints, so it stays and holds the folder.
    let mut logs = Running::start(&place, &["logs", "last"]);
    let _ = logs.until("local (./.ork)");
    for words in [&["run", "hello.yaml", "--detach"][..], &["retry", "last", "--detach"]] {
        let said = place.ork(words);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains("nothing would run it: start `ork up` first"), "{said:?}");
    }
    assert_eq!(place.ork(&["ls", "-o", "name"]).out.lines().count(), 1);
    let mut run = Running::start(&place, &["run", "hello.yaml"]);
    logs.signal("KILL");
    let _ = run.until("hello success");
    assert_eq!(run.end(), 0);
}

#[test]
fn commands_at_the_same_time_do_not_lose_their_server() {
    let place = place();
    assert_eq!(place.ork(&["run", "hello.yaml"]).code, 0);
    let started: Vec<_> = (0..6).map(|_| place.command(&["ls"]).spawn().unwrap()).collect();
    for child in started {
        let said: Said = child.wait_with_output().unwrap().into();
        assert_eq!(said.code, 0, "{said:?}");
    }
}

#[test]
fn the_system_ends_a_run_that_is_ones_own_and_leaves_anothers() {
    let place = place();
    let mut run = Running::start(&place, &["run", "gate.yaml"]);
    let _ = run.until("wait | waiting");
    let mut watch = Running::start(&place, &["watch", "last"]);
    let _ = watch.until("wait | waiting");
    watch.signal("TERM");
    let _ = watch.until("it goes on");
    assert_eq!(watch.end(), 130);
    run.signal("TERM");
    let _ = run.until("cancelling");
    assert_eq!(run.end(), 5);
}

#[test]
fn files_that_only_one_workflow_names_are_packed_with_it_though_git_ignores_them() {
    let one = |name: &str| {
        format!(
            "name: {name}\ntasks: {{a: {{python: \"{name}.py:f\"}}}}\noutput: \"${{{{ tasks.a.output }}}}\"\n"
        )
    };
    let code = |name: &str| format!("def f() -> str:\n    return '{name}'\n");
    let place = Place::with(&[
        ("one.yaml", &one("one")),
        ("two.yaml", &one("two")),
        ("one.py", &code("one")),
        ("two.py", &code("two")),
        (".gitignore", "*.py\n"),
    ]);
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    for name in ["one", "two"] {
        let said = place.ork(&["run", name]);
        assert_eq!((said.code, said.out.as_str()), (0, &*format!("{name}\n")), "{said:?}");
    }
}

#[test]
fn what_differs_is_told_by_its_structure() {
    let place = place();
    assert_eq!(place.ork(&["run", "hello.yaml"]).code, 0);
    assert_eq!(place.ork(&["deploy", "hello.yaml"]).code, 0);
    let said = place.ork(&["workflows", "diff", "hello"]);
    assert!(said.code == 4 && said.err.contains("version 1 is the first"), "{said:?}");
    let said = place.ork(&["workflows", "diff", "hello.yaml"]);
    assert_eq!(said.out, "hello: from version 1 to the file\nnothing differs\n");
    let more = HELLO.replace("world", "moon") + "timeout: 1h\n";
    place.write("hello.yaml", &more);
    let file = place.ork(&["workflows", "diff", "hello.yaml"]);
    assert_eq!(
        file.out,
        "hello: from version 1 to the file\n~ params.who.default  world → moon\n+ timeout  1h\n"
    );
    assert_eq!(place.ork(&["deploy", "hello.yaml"]).code, 0);
    let said = place.ork(&["workflows", "diff", "hello"]);
    assert_eq!(said.out, file.out.replace("the file\n", "version 2\n"));
    let said = place.ork(&["workflows", "diff", "hello", "1", "2", "-o", "json"]);
    let diff: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&diff["from"], &diff["to"]), (&1.into(), &2.into()));
    assert_eq!(diff["changes"][1], serde_json::json!({"path": "timeout", "after": "1h"}));
    assert_eq!(place.ork(&["workflows", "diff", "hello", "7"]).code, 4);
    assert_eq!(place.ork(&["workflows", "diff", "hello.yaml", "1"]).code, 2);
}

#[test]
fn what_a_run_in_place_writes_makes_one_version_and_one_hint() {
    let place = Place::with(&[
        (
            "n.yaml",
            "name: n\ntasks:\n  a: {run: {shell: \"for i in 1 2 3; do echo $i >> out.csv; \
        until test -e go$i; do read -t 0.02 <> hold || true; done; done\"}}\n",
        ),
        (".orkignore", "hold\n.cache\ngo*\n"),
    ]);
    let pipe = std::process::Command::new("mkfifo").arg(place.path("hold")).status();
    assert!(pipe.unwrap().success());
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    let mut run = Running::start(&place, &["run", "./n.yaml"]);
    let _ = up.until("out.csv changed; waits for the end of run");
    for go in ["go1", "go2", "go3"] {
        place.write(go, "");
    }
    let said = up.until("hint: it has files that it does not name, and out.csv changed");
    assert_eq!(said.matches("n: deployed, version 2").count(), 1, "{said}");
    let _ = run.until("n success");
    assert_eq!(run.end(), 0);
    assert_eq!(place.ork(&["workflows", "versions", "n", "-o", "name"]).out, "2\n1\n");
    place.write(".orkignore", "hold\n.cache\ngo*\nout.csv\n");
    let _ = up.until("n: deployed, version 3");
    assert_eq!(place.ork(&["run", "./n.yaml"]).code, 0);
    place.write("n.yaml", &(place.read("n.yaml") + "timeout: 1h\n"));
    let said = up.until("n: deployed, version 4");
    assert!(!said.contains("hint"), "{said}");
}

#[test]
fn a_task_of_the_older_form_is_given_what_its_upstreams_gave() {
    let place = Place::with(&[(
        "old.yaml",
        "name: old\ntasks:\n  a:\n    executor: process\n    command: printf 'ORK_OUTPUT:{\"n\":1}\\n'\n    \
         output_type: {n: int}\n  b:\n    executor: process\n    depends_on: [a]\n    \
         command: echo \"it is $ORK_UPSTREAM_JSON\"\n",
    )]);
    let said = place.ork(&["test", "old.yaml", "b"]);
    assert!(said.code == 4 && said.err.contains("give it as the input `a`"), "{said:?}");
    assert_eq!(place.ork(&["test", "old.yaml", "b", "-i", "a={\"n\": 7}"]).code, 0);
    assert_eq!(place.ork(&["logs", "last", "b"]).out, "it is {\"a\":{\"n\":7}}\n");
    assert_eq!(place.ork(&["run", "old.yaml"]).code, 0);
    assert_eq!(place.ork(&["test", "old.yaml", "b", "--from-run", "last"]).code, 0);
    assert_eq!(place.ork(&["logs", "last", "b"]).out, "it is {\"a\":{\"n\":1}}\n");
    assert_eq!(place.ork(&["test", "old.yaml", "b", "-i", "c=1"]).code, 2);
}

/// Files as earlier versions had them.
const OLDER: [(&str, &str, &str); 3] = [
    (
        "daily",
        "name: daily\ndescription: counts and reports\nparams:\n  day: {type: str, default: monday}\ntasks:\n  \
         count:\n    executor: python\n    file: daily.py\n    function: count\n    \
         inputs:\n      day: {ref: params.day}\n    output_type: types.Counted\n    retries: 1\n    timeout: 30\n  \
         report:\n    executor: process\n    command: echo counted\n    depends_on: [count]\n\
         types:\n  Counted: {rows: int}\n",
        "counted\n",
    ),
    (
        "piped",
        "name: piped\ntasks:\n  report:\n    executor: process\n    command: printf 'b\\na\\n' | sort | head -n 1\n",
        "a\n",
    ),
    (
        "mixed",
        "name: mixed\ntasks:\n  make:\n    executor: python\n    module: daily\n    function: count\n    \
         inputs: {day: {const: monday}}\n    output_type: {rows: int}\n  \
         report:\n    run: [echo, \"${{ tasks.make.output.rows }} rows\"]\n",
        "6 rows\n",
    ),
];

#[test]
fn files_of_the_older_form_run_unchanged() {
    let place = Place::with(&[("daily.py", "def count(day):\n    return {'rows': len(day)}\n")]);
    for (name, text, report) in OLDER {
        let file = format!("{name}.yaml");
        place.write(&file, text);
        let said = place.ork(&["run", &file]);
        assert_eq!(said.code, 0, "{name}: {said:?}");
        assert_eq!(place.ork(&["logs", "last", "report"]).out, report, "{name}");
        let said = place.ork(&["fmt", "--upgrade", &file]);
        assert_eq!(said.code, 0, "{name}: {said:?}");
        assert!(!place.read(&file).contains("executor:"), "{name}:\n{}", place.read(&file));
        assert_eq!(place.ork(&["run", &file]).code, 0, "{name}:\n{}", place.read(&file));
        assert_eq!(place.ork(&["logs", "last", "report"]).out, report, "{name}");
    }
}

#[test]
fn what_a_person_mistypes_is_told_in_plain_words() {
    let place = place();
    assert_eq!(place.ork(&["run", "hello.yaml"]).code, 0);
    for (words, code, part) in [
        (&["ls", "--state", "success,runing"][..], 2, "`runing` is not one of pending,"),
        (&["cancel", "--state", "runing"], 2, "`runing` is not one of pending,"),
        (
            &["ls", "--since", "yesterday"],
            2,
            "`yesterday` is no date and no time; write 2026-11-24",
        ),
        (&["run", "hello.yaml", "--at", "soon"], 2, "`soon` is no date and no time"),
        (&["run", "hello.yaml", "--at", "2026-02-30"], 2, "`2026-02-30` is no date and no time"),
        (&["logs", "last", "greet", "--attempt", "9"], 4, "there is no attempt 9 of task `greet`"),
        (&["fmt", "hello.yaml", "-o", "json"], 2, "it prints no data"),
        (&["schema", "-o", "name"], 2, "one of json, yaml"),
    ] {
        let said = place.ork(words);
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.err.contains(part), "{said:?}");
    }
    assert_eq!(place.ork(&["ls", "--since", "2020-01-01", "-o", "name"]).out.lines().count(), 1);
    assert_eq!(place.ork(&["ls", "--until", "2020-01-01", "-o", "name"]).out, "");
    assert_eq!(place.ork(&["ls", "--trigger", "manual", "-o", "name"]).out.lines().count(), 1);
    assert_eq!(place.ork(&["graph", "fails.yaml", "-o", "name"]).out, "a\nb\n");
    assert!(
        place.ork(&["graph", "fails.yaml", "-o", "yaml"]).out.contains("upstreams:\n    - a\n")
    );
    assert!(place.ork(&["schema", "-o", "yaml"]).out.starts_with("type: object\n"));
    assert_eq!(place.ork(&["validate", "hello.yaml", "-o", "yaml"]).out, "[]\n");
}

/// Holds a slot of the pool until the test makes a file of its name.
const POOLED: &str = "name: pooled\nparams: {gate: str}\ntasks:\n  a:\n    pool: db\n    env: {GATE: \"${{ params.gate }}\"}\n    run: {shell: 'echo waiting; until test -e \"$GATE\"; do read -t 0.02 <> hold || true; done'}\n";

#[test]
fn a_pool_of_one_slot_makes_two_runs_wait_for_each_other() {
    let place = place();
    place.write("pooled.yaml", POOLED);
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    up.until("ready");
    let set = place.ork(&["pools", "set", "db", "1", "--reason", "it is small"]);
    assert_eq!(set.code, 0, "{}", set.err);
    let start = |gate: &str| {
        let gate = format!("gate={gate}");
        let made = place.ork(&["run", "pooled.yaml", "-p", &gate, "--detach", "-o", "name"]);
        assert_eq!(made.code, 0, "{}", made.err);
        made.out.trim().to_owned()
    };
    let (first, second) = (start("one"), start("two"));
    let mut explained = place.ork(&["explain", &second]).out;
    while !explained.contains("pool `db`") {
        explained = place.ork(&["explain", &second]).out;
    }
    assert!(explained.contains("needs 1 of the 1 slots of the pool `db`"), "{explained}");
    assert!(explained.contains(&first), "{explained}");
    let listed = place.ork(&["pools", "list", "-o", "json"]).out;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let pool = serde_json::json!({"name": "db", "slots": 1, "used": 1, "waiting": 1});
    assert_eq!(listed, serde_json::json!([pool]));
    place.write("one", "");
    assert_eq!(place.ork(&["watch", &first]).code, 0);
    place.write("two", "");
    assert_eq!(place.ork(&["watch", &second]).code, 0);
    assert_eq!(place.ork(&["pools", "delete", "db"]).code, 0);
    let again = place.ork(&["pools", "delete", "db"]);
    assert_eq!(again.code, 4, "{}", again.err);
    assert!(again.err.contains("`db`"), "{}", again.err);
    assert_eq!(place.ork(&["pools", "set", &"x".repeat(201), "1"]).code, 4);
}

#[test]
fn a_server_that_says_nothing_is_named() {
    let place = place();
    let mut up = Running::start(&place, &["up", "--bind", "127.0.0.1:0"]);
    up.until("ready");
    up.signal("STOP");
    let said = place.ork(&["ls"]);
    up.signal("CONT");
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains(&format!("process {}", up.child.id())), "{}", said.err);
    assert!(said.err.contains("kill -CONT"), "{}", said.err);
    let said = place.ork(&["runs", "show", "zzz"]);
    assert_eq!((said.code, said.err.contains("`zzz`")), (4, true), "{}", said.err);
    let said = place.ork(&["run", "hello.yaml", "-p", "whom=x", "--detach"]);
    assert_eq!((said.code, said.err.contains("`whom`")), (2, true), "{}", said.err);
}
