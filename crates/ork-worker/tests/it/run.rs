//! Programs.

use ork_core::logs::Stream;
use ork_core::run::{FailureKind, Finished, Outcome, Report};
use ork_core::time::Span;
use ork_core::value::{Data, INLINE_LIMIT};
use serde_json::{Value, json};

use crate::bed::{Bed, failure, output};

fn sh(lines: &str) -> Value {
    json!({"shell": lines, "with": "bash", "output": "file"})
}

#[tokio::test]
async fn outputs_come_from_where_the_block_says() {
    let bed = Bed::new();
    let cases = [
        (json!({"argv": ["echo", "[1, 2]"], "output": "stdout_json"}), json!([1, 2])),
        (sh("echo '{\"a\": 1}' > $ORK_OUTPUT"), json!({"a": 1})),
        (json!({"argv": ["cat"], "stdin": "\"é\"", "output": "stdout_json"}), json!("é")),
        (
            json!({"shell": "echo a; echo ORK_OUTPUT:1; echo ORK_OUTPUT:{\\\"n\\\":2}; echo b",
                "with": "sh", "output": "file", "legacy": {"output_line": true, "upstream": {}}}),
            json!({"n": 2}),
        ),
        (
            json!({"argv": ["sh", "-c", "echo $ORK_UPSTREAM_JSON"], "output": "stdout_json",
                "legacy": {"output_line": true, "upstream": {"a": 1, "b": null}}}),
            json!({"a": 1, "b": null}),
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(output(&bed.run(bed.assignment("run", spec)).await), expected);
    }
    let none = bed.run(bed.assignment("run", json!({"argv": ["true"], "output": "none"}))).await;
    assert_eq!(none.outcome, Outcome::Success { output: None });
}

#[tokio::test]
async fn a_large_output_becomes_a_blob() {
    let bed = Bed::new();
    let spec =
        sh("(printf '\"'; head -c 100000 /dev/zero | tr '\\0' x; printf '\"') > $ORK_OUTPUT");
    let outcome = bed.run(bed.assignment("run", spec)).await.outcome;
    let Outcome::Success { output: Some(Data::Blob { digest, size }) } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(size > INLINE_LIMIT as u64);
    assert_eq!(bed.server.blobs.lock().unwrap()[&digest].len() as u64, size);
}

#[tokio::test]
async fn outputs_that_are_no_clean_json_are_refused_with_the_place() {
    let bed = Bed::new();
    let cases = [
        ("printf '{\"a\": 1,\\n \"a\": 2}'", "the key `a` comes twice at line 2"),
        ("printf '[NaN]'", "NaN is not JSON (use null), at line 1 column 2"),
        ("printf '[-Infinity]'", "Infinity is not JSON (use null), at line 1 column 3"),
        ("printf '\"a\\\\u0000\"'", "a text holds NUL, at line 1 column 3"),
        ("printf '\"a\\000\"'", "a text holds NUL, at line 1 column 3"),
        ("printf '\"\\\\ud800\"'", "unexpected end of hex escape at line 1 column 8"),
        ("printf '\"\\377\"'", "it is not UTF-8, at line 1 column 2"),
        ("printf hello", "expected value at line 1 column 1"),
        ("printf '[1]\\n[2]'", "trailing characters at line 2 column 1"),
        ("printf ''", "EOF while parsing a value at line 1 column 0"),
        (
            "head -c 10000 /dev/zero | tr '\\0' '['",
            "nested more than 100 deep, at line 1 column 101",
        ),
        ("head -c 10000000 /dev/zero", "over 1048576 bytes (limits.output)"),
    ];
    for (lines, expected) in cases {
        let to_file = sh(&format!("{lines} > $ORK_OUTPUT"));
        refused(&bed, to_file, "the output in the file that ORK_OUTPUT names is ", expected).await;
        let plainly = json!({"shell": lines, "with": "bash", "output": "stdout_json"});
        refused(&bed, plainly, "the output in standard output is ", expected).await;
    }
    for lines in ["mkdir $ORK_OUTPUT", "mkfifo $ORK_OUTPUT"] {
        let place = "the file that ORK_OUTPUT names cannot be read";
        refused(&bed, sh(lines), place, "it is not a file").await;
    }
}

/// Runs a program whose output is not usable for this reason.
async fn refused(bed: &Bed, spec: Value, place: &str, why: &str) {
    let failure = failure(&bed.run(bed.assignment("run", spec.clone())).await);
    assert_eq!(failure.kind, FailureKind::OutputInvalid, "{spec}: {failure:?}");
    assert!(failure.message.starts_with(place), "{spec}: {}", failure.message);
    assert!(failure.message.contains(why), "{spec}: {}", failure.message);
}

#[tokio::test]
async fn what_cannot_be_started_is_told_in_a_sentence() {
    let bed = Bed::new();
    bed.file("no_interpreter", "#!/nowhere/python\n");
    bed.file("no_line", "echo hello\n");
    bed.file("folder/x", "");
    bed.file("plain", "#!/bin/sh\n");
    let plain = bed.root().join("plain");
    std::fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink("/", bed.root().join("out")).unwrap();
    let long = "x".repeat(200_000);
    let argv = |argv: &[&str]| json!({"argv": argv, "output": "none"});
    let cases = [
        (argv(&["no-such-program"]), "no program `no-such-program` on PATH (/"),
        (argv(&["./nope"]), "there is no program /"),
        (
            argv(&["./no_interpreter"]),
            "names an interpreter that is not there: `#!/nowhere/python`",
        ),
        (argv(&["./no_line"]), "a script needs a first line such as `#!/bin/sh`"),
        (argv(&["./folder"]), "`./folder` is a folder"),
        (argv(&["./plain"]), "may not be executed; `chmod +x` it"),
        (argv(&["true", &long]), "too long for the kernel"),
        (argv(&["true", "a\0b"]), "argument 1 of `true` holds NUL"),
        (argv(&["tr\0ue"]), "no program `tr\0ue` on PATH"),
        (json!({"argv": ["true"], "cwd": "nope", "output": "none"}), "the working folder /"),
        (json!({"argv": ["true"], "cwd": "out", "output": "none"}), "out of the code root"),
        (json!({"nonsense": 1}), "the task's block is not usable"),
    ];
    for (spec, expected) in cases {
        let failure = failure(&bed.run(bed.assignment("run", spec.clone())).await);
        assert_eq!(failure.kind, FailureKind::NotStarted, "{failure:?}");
        assert!(failure.message.contains(expected), "{expected}: {}", failure.message);
    }
    let unknown = failure(&bed.run(bed.assignment("telepathy", json!({}))).await);
    assert!(unknown.message.contains("no executor `telepathy`"), "{unknown:?}");
}

#[tokio::test]
async fn a_task_reads_its_inputs_and_leaves_no_file() {
    let bed = Bed::new();
    let lines = "test \"$(cat $ORK_INPUT)\" = \"$ORK_INPUT_JSON\"; cp $ORK_INPUT $ORK_OUTPUT; \
        echo kept > $ORK_ARTIFACTS/file; dirname $ORK_OUTPUT; echo $ORK_ARTIFACTS; pwd";
    let mut assignment = bed.assignment("run", sh(lines));
    assignment.inputs.insert("a".into(), Data::Inline(json!("b c")));
    let attempt = bed.assign(assignment);
    assert_eq!(output(&bed.finished(&attempt).await), json!({"a": "b c"}));
    let lines = bed.server.lines_of(&attempt);
    let left = std::fs::read_dir(&lines[0].text).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["no-inputs.json"]);
    assert!(!std::path::Path::new(&lines[1].text).exists());
    assert_eq!(lines[2].text, bed.root().to_str().unwrap());
    let without = bed.run(bed.assignment("run", sh("cp $ORK_INPUT $ORK_OUTPUT"))).await;
    assert_eq!(output(&without), json!({}));
}

#[tokio::test]
async fn an_attempt_has_a_folder_of_its_own_while_it_lasts() {
    let bed = Bed::new();
    let lines = "test \"$TMPDIR\" = \"$ORK_SCRATCH\"; test -z \"$(ls -A $TMPDIR)\"; \
        mkdir $TMPDIR/sub; echo x > $TMPDIR/sub/file; chmod 500 $TMPDIR/sub; mktemp; \
        echo $ORK_SCRATCH; stat -c %a $ORK_SCRATCH; echo $ORK_CODE; pwd";
    let attempt = bed.assign(bed.assignment("run", sh(&format!("set -e; {lines}"))));
    ended_well(&bed.finished(&attempt).await);
    let lines = bed.server.lines_of(&attempt);
    let [file, scratch, mode, code, cwd] = &*lines else { panic!("{lines:?}") };
    assert!(file.text.starts_with(&scratch.text), "{lines:?}");
    assert!(!std::path::Path::new(&scratch.text).exists());
    assert_eq!(mode.text, "700");
    assert_eq!((&*code.text, &*cwd.text), (bed.root().to_str().unwrap(), &*code.text));
    let mut assignment = bed.assignment("run", sh("test $TMPDIR = /elsewhere"));
    assignment.env.insert("TMPDIR".into(), "/elsewhere".into());
    ended_well(&bed.run(assignment).await);
}

fn ended_well(finished: &Finished) {
    assert!(matches!(finished.outcome, Outcome::Success { .. }), "{finished:?}");
}

#[tokio::test]
async fn many_short_lines_go_in_batches_of_few() {
    let bed = Bed::with(false, |_| ());
    let finished = bed.run(bed.assignment("run", sh("yes '' | head -n 1000000"))).await;
    assert_eq!(finished.logs.lines, 1_000_000);
    let most = bed.server.most_lines.load(std::sync::atomic::Ordering::Relaxed);
    assert!(most < 100_000, "a batch of {most} lines");
}

#[tokio::test]
async fn output_that_passes_through_a_helper_is_not_lost() {
    let bed = Bed::new();
    bed.file("tasks.sh", include_str!("tasks.sh"));
    let spec = json!({"argv": ["bash", "tasks.sh", "tee"], "output": "none"});
    let attempt = bed.assign(bed.assignment("run", spec));
    bed.finished(&attempt).await;
    let lines = bed.server.lines_of(&attempt);
    let lines: Vec<_> = lines.iter().map(|line| (line.stream, line.text.as_str())).collect();
    assert_eq!(lines, [(Stream::Stdout, "through the pipe")]);
}

/// One that stays empty goes to the next attempt; one in which something was goes away.
#[tokio::test]
async fn the_folder_for_artifacts_is_there_and_empty() {
    let bed = Bed::new();
    let script =
        "test -d $ORK_ARTIFACTS && ls -A $ORK_ARTIFACTS && echo $ORK_ARTIFACTS; eval \"$1\"";
    bed.file("look.sh", script);
    let mut folders = Vec::new();
    for leaves in ["true", "echo x > $ORK_ARTIFACTS/x", "true"] {
        let spec = json!({"argv": ["sh", "look.sh", leaves], "output": "none"});
        let attempt = bed.assign(bed.assignment("run", spec));
        let finished = bed.finished(&attempt).await;
        assert!(matches!(finished.outcome, Outcome::Success { .. }), "{finished:?}");
        let lines = bed.server.lines_of(&attempt);
        assert_eq!(lines.len(), 1, "there was something in it: {lines:?}");
        let folder = std::path::PathBuf::from(&lines[0].text);
        assert_eq!(folder.is_dir(), leaves == "true");
        folders.push(folder);
    }
    assert_eq!(folders[0], folders[1]);
    assert_ne!(folders[1], folders[2]);
}

#[tokio::test]
async fn lines_outlast_a_busy_server_and_what_is_given_up_is_told() {
    for (busy, expected, dropped) in [
        (3, vec!["one"], 0),
        (9, vec!["1 lines (3 bytes) before could not be kept: the disk is full"], 1),
    ] {
        let bed = Bed::new();
        bed.server.busy.store(busy, std::sync::atomic::Ordering::Relaxed);
        let spec = json!({"argv": ["echo", "one"], "output": "none"});
        let attempt = bed.assign(bed.assignment("run", spec));
        let logs = bed.finished(&attempt).await.logs;
        let lines = bed.server.lines_of(&attempt);
        let lines: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(lines, expected);
        assert_eq!((logs.lines, logs.dropped_lines, logs.bytes), (1, dropped, 4));
    }
}

#[tokio::test]
async fn a_stop_after_the_end_does_not_overtake_the_result() {
    let bed = Bed::new();
    let attempt = bed.assign(bed.assignment("run", sh("true")));
    bed.finished(&attempt).await;
    bed.stop(&attempt, Span::ZERO);
    let ends = bed.until("the end again", |server| {
        let ends = server.reports_of(&attempt).into_iter().filter_map(|report| match report {
            Report::Finished(finished) => Some(finished.outcome),
            _ => None,
        });
        Some(ends.collect::<Vec<_>>()).filter(|ends| ends.len() == 2)
    });
    let ends = ends.await;
    assert!(matches!(ends[1], Outcome::Success { .. }), "{ends:?}");
}

#[tokio::test]
async fn a_task_sees_every_variable_that_is_promised() {
    let bed = Bed::new();
    bed.file(
        "code.py",
        "import os\n\ndef f(a):\n    open(os.environ['ORK_HEARTBEAT'], 'w').close()\n    \
         assert os.path.isdir(os.environ['ORK_ARTIFACTS'])\n    return dict(os.environ)\n",
    );
    let python = json!({"file": "code.py", "function": "f"});
    let shell = sh("touch $ORK_HEARTBEAT; test -d $ORK_ARTIFACTS\n\
        python3 -c 'import json, os; print(json.dumps(dict(os.environ)))' > $ORK_OUTPUT");
    for (executor, spec) in [("run", shell), ("python", python)] {
        let mut assignment = bed.assignment(executor, spec);
        assignment.inputs.insert("a".into(), Data::Inline(json!("b c")));
        (assignment.number, assignment.generation) = (3, 2);
        (assignment.map_index, assignment.request_id) = (Some(7), Some("request-1".into()));
        let (run, token) = (assignment.attempt.run, assignment.attempt.token);
        let seen = output(&bed.run(assignment.clone()).await);
        let expected = [
            ("ORK_RUN_ID", run.to_string()),
            ("ORK_TASK", "task".into()),
            ("ORK_ATTEMPT", "3".into()),
            ("ORK_WORKFLOW", "flow".into()),
            ("ORK_PROJECT", "default".into()),
            ("ORK_MAP_INDEX", "7".into()),
            ("ORK_LOGICAL_TIME", "2026-11-24T00:00:00+00:00".into()),
            ("ORK_IDEMPOTENCY_KEY", format!("{run}/task@2")),
            ("ORK_INPUT_JSON", r#"{"a":"b c"}"#.into()),
            ("ORK_REQUEST_ID", "request-1".into()),
            ("TRACEPARENT", format!("00-{}-{:016x}-01", run.0.simple(), token.0)),
        ];
        for (name, value) in expected {
            assert_eq!(seen[name], value, "{executor}: {name}");
        }
        for name in ["ORK_INPUT", "ORK_OUTPUT", "ORK_ARTIFACTS", "ORK_HEARTBEAT"] {
            assert!(seen[name].as_str().unwrap().starts_with('/'), "{executor}: {name}");
        }
        assignment.attempt.token = ork_core::ids::Token(token.0 + (1 << 40));
        (assignment.map_index, assignment.request_id) = (None, None);
        let seen = output(&bed.run(assignment).await);
        assert!(seen.get("ORK_MAP_INDEX").is_none() && seen.get("ORK_REQUEST_ID").is_none());
    }
}
