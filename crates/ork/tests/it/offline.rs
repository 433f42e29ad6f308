//! Commands that need no server.

use std::io::Write as _;
use std::process::Stdio;

use crate::Place;
use crate::online::Running;

const GOOD: &str = "name: good\ntasks:\n  a:\n    run: [echo, hi]\n";
const BAD: &str = "name: bad\ntasks:\n  a:\n    run: echo hi\n";

#[test]
fn exit_codes() {
    let place = Place::with(&[("good.yaml", GOOD), ("bad.yaml", BAD)]);
    for (words, code) in [
        (&["validate", "good.yaml"][..], 0),
        (&["validate", "bad.yaml"], 1),
        (&["validate"], 1),
        (&["validate", "none.yaml"], 2),
        (&["validate", "-o", "nothing"], 2),
        (&["graph", "good.yaml"], 0),
        (&["graph", "bad.yaml"], 1),
        (&["fmt", "--check", "good.yaml"], 0),
        (&["schema"], 0),
        (&["completions", "bash"], 0),
        (&["completions", "cmd"], 2),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["validat"], 2),
        (&[], 2),
    ] {
        let said = place.ork(words);
        assert_eq!(said.code, code, "ork {}: {said:?}", words.join(" "));
    }
}

#[test]
fn findings_in_every_form() {
    let place = Place::with(&[("good.yaml", GOOD), ("bad.yaml", BAD)]);
    let said = place.ork(&["validate"]);
    insta::assert_snapshot!(said.out, @r"
    error[run-not-list]: `run` must be a list of a program and its arguments, not text
     --> bad.yaml:4:10
      |
    4 |     run: echo hi
      |          ^^^^^^^
      |
      = help: write `run: [echo, hi]`, or `run: { shell: … }` to use a shell

    1 error
    ");
    assert_eq!(said.err, "2 files checked, 1 with errors\n");
    let said = place.ork(&["validate", "-o", "github", "bad.yaml"]);
    insta::assert_snapshot!(said.out, @"::error file=bad.yaml,line=4,col=10,endColumn=17,title=run-not-list::`run` must be a list of a program and its arguments, not text%0Ahint: write `run: [echo, hi]`, or `run: { shell: … }` to use a shell");
    let said = place.ork(&["validate", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(found[0]["code"], "run-not-list");
    assert_eq!(said.err, "");
}

#[test]
fn what_only_a_server_knows_is_noted() {
    let calls = "name: calls\ntasks:\n  a:\n    workflow: other\n  \
                 b: {run: [x], pool: db, worker_queue: gpu}\n";
    let place = Place::with(&[("calls.yaml", calls)]);
    let said = place.ork(&["validate"]);
    let names = ["workflow `other`", "queue `gpu`", "pool `db`"];
    let words =
        names.map(|name| format!("the {name} is not checked here, since only a server knows it"));
    let noted = words.iter().map(|words| format!("calls.yaml: note[unchecked]: {words}\n"));
    assert_eq!((said.code, said.out), (0, noted.collect()));
    let said = place.ork(&["validate", "-o", "json"]);
    let found: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&found[0]["severity"], &found[0]["message"]),
        (&"note".into(), &words[0].clone().into())
    );
    let said = place.ork(&["validate", "-o", "github"]);
    assert!(said.out.starts_with("::notice file=calls.yaml,line=1,"), "{said:?}");
}

#[test]
fn a_name_that_is_nearly_right_is_suggested() {
    let place = Place::with(&[("hello.ork.yaml", GOOD)]);
    let said = place.ork(&["validate", "helo.ork.yaml"]);
    insta::assert_snapshot!(said.err, @r"
    error: helo.ork.yaml: there is no such file
      hint: did you mean `hello.ork.yaml`?
    ");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let place = Place::with(&[("folder.yaml/x", "")]);
    let made = place.program("mkfifo").arg("pipe.yaml").status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("loop.yaml", place.path("loop.yaml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.path("zero.yaml")).unwrap();
    for (file, words) in [
        ("pipe.yaml", "this is a pipe, not a file"),
        ("zero.yaml", "this is a device, not a file"),
        ("loop.yaml", "the link leads back to itself"),
    ] {
        for command in ["validate", "fmt", "run"] {
            let said = place.ork(&[command, file]);
            assert_ne!(said.code, 0, "ork {command} {file}: {said:?}");
            assert_eq!(said.err, format!("error: {file}: {words}\n"), "ork {command}");
        }
    }
    let said = place.ork(&["run", "folder.yaml"]);
    assert_eq!(said.err, "error: folder.yaml: this is a folder, not a file\n");
}

#[test]
fn init_writes_what_is_valid_and_canonical_and_overwrites_nothing() {
    let place = Place::with(&[(".gitignore", "target")]);
    let said = place.ork(&["init"]);
    assert_eq!(said.code, 0, "{said:?}");
    insta::assert_snapshot!(said.err, @r"
    wrote hello.ork.yaml
    wrote hello.py
    wrote ork.schema.json
    wrote .gitignore

    next:
      ork run hello.ork.yaml -p name=you
      ork up
    ");
    assert_eq!(place.read(".gitignore"), "target\n.ork/\n__pycache__/\n");
    assert_eq!(place.ork(&["validate"]).code, 0, "{:?}", place.ork(&["validate"]));
    assert_eq!(place.ork(&["fmt", "--check"]).out, "");
    let said = place.ork(&["init"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.contains("hello.ork.yaml is there already"), "{said:?}");
}

#[test]
fn fmt_changes_files_or_passes_through() {
    let crooked = "name:   crooked # why\ntasks:\n    a: {run: [echo, hi]}\n";
    let place = Place::with(&[("crooked.yaml", crooked)]);
    let said = place.ork(&["fmt", "--check"]);
    assert_eq!((said.code, said.out.as_str()), (1, "crooked.yaml\n"));
    assert_eq!(place.read("crooked.yaml"), crooked);
    let mut child = place.command(&["fmt", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(crooked.as_bytes()).unwrap();
    let through = child.wait_with_output().unwrap();
    assert_eq!(place.ork(&["fmt"]).code, 0);
    assert_eq!(place.read("crooked.yaml").as_bytes(), through.stdout);
    assert!(place.read("crooked.yaml").contains("# why"));
    assert_eq!(place.ork(&["fmt", "--check"]).code, 0);
}

#[test]
fn what_git_ignores_is_not_looked_for() {
    let place = Place::with(&[
        (".gitignore", "old/\n"),
        ("old/bad.yaml", BAD),
        ("flows/good.yaml", GOOD),
        ("compose.yaml", "services: {}\n"),
    ]);
    let said = place.ork(&["validate"]);
    assert_eq!((said.code, said.err.as_str()), (0, "1 file checked, 0 with errors\n"));
}

#[test]
fn what_changes_is_checked_again() {
    let place = Place::with(&[("flow.yaml", BAD)]);
    let mut watch = Running::start(&place, &["validate", "--watch", "flow.yaml"]);
    let said = watch.until("waiting for a change");
    assert!(said.contains("1 file checked, 1 with errors"), "{said}");
    place.write("flow.yaml", GOOD);
    let said = watch.until("0 with errors");
    assert!(!said.contains("no such file"), "{said}");
}
