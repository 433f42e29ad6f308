//! Files that tasks are given and leave.

use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ork_api::worker::LinkError;
use ork_core::run::{FailureKind, Finished};
use ork_core::types::Type;
use ork_core::value::{Data, Digest, FileRef};
use serde_json::{Value, json};

use crate::bed::{Bed, failure, output};

fn sh(lines: &str) -> Value {
    json!({"shell": lines, "with": "bash", "output": "file"})
}

fn ty(text: &str) -> Option<Type> {
    Some(Type::parse(text, &|_| None).unwrap())
}

fn kept(bed: &Bed, name: &str, content: &str) -> FileRef {
    let (digest, size) = (Digest::of(content.as_bytes()), content.len() as u64);
    bed.server.blobs.lock().unwrap().insert(digest, Bytes::from(content.to_owned()));
    FileRef { digest, name: name.into(), size }
}

fn artifacts(finished: &Finished) -> Vec<FileRef> {
    match &finished.artifacts {
        None => Vec::new(),
        Some(Data::Inline(Value::Array(files))) => {
            files.iter().map(|file| FileRef::of(file).unwrap()).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn content(bed: &Bed, file: &FileRef) -> String {
    let blob = bed.server.blobs.lock().unwrap()[&file.digest].clone();
    assert_eq!(blob.len() as u64, file.size);
    String::from_utf8(blob.to_vec()).unwrap()
}

#[tokio::test]
async fn paths_of_an_output_become_files() {
    let bed = Bed::new();
    let lines = "echo a > $ORK_ARTIFACTS/a.csv; mkdir $ORK_SCRATCH/d; echo b > $ORK_SCRATCH/d/b.csv
        ln -s d/b.csv $ORK_SCRATCH/link
        printf '{\"one\": \"a.csv\", \"more\": [\"d/b.csv\", \"%s/link\"], \"none\": null, \"n\": 3}' \
        $ORK_SCRATCH > $ORK_OUTPUT";
    let mut assignment = bed.assignment("run", sh(lines));
    assignment.output_type = ty("{one: file, more: [file], none: file?, n: int}");
    let finished = bed.run(assignment).await;
    let value = output(&finished);
    let file = |value: &Value| {
        let file = FileRef::of(value).unwrap();
        (file.name.clone(), content(&bed, &file))
    };
    assert_eq!(file(&value["one"]), ("a.csv".into(), "a\n".into()));
    assert_eq!(file(&value["more"][0]), ("b.csv".into(), "b\n".into()));
    assert_eq!(file(&value["more"][1]), ("link".into(), "b\n".into()));
    assert_eq!((&value["none"], &value["n"]), (&Value::Null, &json!(3)));
    assert_eq!(bed.server.streamed.load(Ordering::Relaxed), 2, "each content is read once");
    let names: Vec<_> = artifacts(&finished).into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["a.csv", "b.csv"]);
}

#[tokio::test]
async fn what_is_no_file_of_the_task_is_refused() {
    let bed = Bed::with(true, |config| config.max_artifact = 10);
    bed.file("code.txt", "x");
    let cases = [
        ("echo '\"nope.csv\"'", "`nope.csv` is neither in $ORK_ARTIFACTS nor in $ORK_SCRATCH"),
        ("echo '\"/nowhere/x\"'", "`/nowhere/x` is not there"),
        ("echo '\"/etc/passwd\"'", "`/etc/passwd` is outside of the task's folders: write it"),
        ("printf '\"%s/code.txt\"' $ORK_CODE", "is outside of the task's folders"),
        (
            "ln -s /etc/passwd $ORK_ARTIFACTS/l; echo '\"l\"'",
            "`l` is outside of the task's folders (/etc/passwd)",
        ),
        ("echo '\"../../x\"'", "`../../x` is neither in"),
        ("mkdir $ORK_SCRATCH/d; echo '\"d\"'", "`d` is a folder, not a file"),
        ("mkfifo $ORK_SCRATCH/p; echo '\"p\"'", "`p` is a pipe, not a file"),
        (
            "ln -s /dev/null $ORK_SCRATCH/n; echo '\"n\"'",
            "outside of the task's folders (/dev/null)",
        ),
        (
            "echo 12345678901 > $ORK_SCRATCH/big; echo '\"big\"'",
            "the limit (limits.artifact) is 10",
        ),
        ("echo '\"\"'", "is a folder"),
        ("echo 3", "expected file, got int 3"),
        ("echo '{\"$file\": {}}'", "a file is given by its path, not as an object"),
    ];
    for (lines, expected) in cases {
        let mut assignment = bed.assignment("run", sh(&format!("({lines}) > $ORK_OUTPUT")));
        assignment.output_type = ty("file");
        let failure = failure(&bed.run(assignment).await);
        assert_eq!(failure.kind, FailureKind::OutputInvalid, "{lines}: {failure:?}");
        assert!(failure.message.contains(expected), "{lines}: {}", failure.message);
    }
}

#[tokio::test]
async fn a_task_reads_copies_of_the_files_that_it_is_given() {
    let bed = Bed::new();
    let (a, b) = (kept(&bed, "a.csv", "A"), kept(&bed, "dir/b.csv", "B"));
    let lines = "python3 - \"$1\" <<'E' > $ORK_OUTPUT\nimport json, os, sys\n\
        inputs = json.load(open(os.environ['ORK_INPUT']))\n\
        paths = [inputs['one'], *inputs['all']['list'], os.environ['FILE'][3:], sys.argv[1][5:]]\n\
        mode = lambda p: oct(os.stat(p).st_mode & 0o777)\n\
        print(json.dumps([[os.path.basename(p), open(p).read(), mode(p)] for p in paths]))\nE\n\
        echo $FILE";
    let mut spec = json!({"argv": ["bash", "-c", lines, "x", format!("--in={}", b.mark())],
        "output": "file"});
    spec["argv"][3] = a.to_value();
    let mut assignment = bed.assignment("run", spec);
    assignment.inputs.insert("one".into(), Data::Inline(a.to_value()));
    assignment
        .inputs
        .insert("all".into(), Data::Inline(json!({"list": [a.to_value(), b.to_value()]})));
    assignment.input_type = ty("{one: file, all: json}");
    assignment.env.insert("FILE".into(), format!("at {}", a.mark()));
    let attempt = bed.assign(assignment);
    let finished = bed.finished(&attempt).await;
    let (a, b) = (json!(["a.csv", "A", "0o444"]), json!(["b.csv", "B", "0o444"]));
    assert_eq!(output(&finished), json!([a, a, b, a, b]));
    assert_eq!(bed.server.parts.load(Ordering::Relaxed), 2, "each content is fetched once");
    let path = bed.server.lines_of(&attempt)[0].text[3..].to_owned();
    assert!(!std::path::Path::new(&path).exists(), "{path}");
    assert_eq!(artifacts(&finished), []);
}

#[tokio::test]
async fn python_gets_and_gives_paths() {
    let bed = Bed::new();
    let code = "from pathlib import Path\nimport ork, os\n\ndef f(a: Path, all: list[Path]) -> Path:\n    \
        assert all[0] != a and isinstance(all[0], Path)\n    \
        to = Path(os.environ['ORK_SCRATCH']) / 'sum.txt'\n    \
        to.write_text(a.read_text() + all[0].read_text())\n    return to\n\n\
        def same(a: Path) -> Path:\n    return a\n\n\
        def join(all: list[Path]) -> str:\n    return ''.join(part.read_text() for part in all)\n";
    bed.file("code.py", code);
    let file = kept(&bed, "a.csv", "A");
    let call = |function: &str| {
        let mut call = bed.assignment("python", json!({"file": "code.py", "function": function}));
        call.inputs.insert("a".into(), Data::Inline(file.to_value()));
        call.output_type = ty("file");
        call
    };
    let mut sum = call("f");
    let other = kept(&bed, "b.csv", "B").to_value();
    sum.inputs.insert("all".into(), Data::Inline(json!([other])));
    let sum = FileRef::of(&output(&bed.run(sum).await)).unwrap();
    assert_eq!((&*sum.name, &*content(&bed, &sum)), ("sum.txt", "AB"));
    let mut join = bed.assignment("python", json!({"file": "code.py", "function": "join"}));
    join.inputs.insert("all".into(), Data::Inline(json!([file.to_value(), file.to_value()])));
    assert_eq!(output(&bed.run(join).await), json!("AA"));
    let before = bed.server.streamed.load(Ordering::Relaxed);
    let same = bed.run(call("same")).await;
    assert_eq!((FileRef::of(&output(&same)), artifacts(&same)), (Some(file.clone()), vec![]));
    assert_eq!(bed.server.streamed.load(Ordering::Relaxed), before, "nothing was read again");
}

#[tokio::test]
async fn a_copy_that_was_tampered_with_is_given_to_nobody_else() {
    let bed = Bed::new();
    let file = kept(&bed, "a.csv", "good");
    let call = |lines: &str| {
        let mut call = bed.assignment("run", sh(lines));
        call.env.insert("FILE".into(), file.mark());
        call
    };
    let harm = "chmod u+w $FILE; echo harm > $FILE; echo harmed; \
        until [ -e $ORK_CODE/go ]; do sleep 0.01; done";
    let harm = bed.assign(call(harm));
    bed.line(&harm, "harmed").await;
    let read = bed
        .run(call(
            "jq -R . < $FILE > $ORK_OUTPUT 2>/dev/null || \
        printf '\"%s\"' \"$(cat $FILE)\" > $ORK_OUTPUT",
        ))
        .await;
    assert_eq!(output(&read), json!("good"));
    bed.file("go", "");
    bed.finished(&harm).await;
    assert_eq!(content(&bed, &file), "good");
}

#[tokio::test]
async fn artifacts_are_kept_whatever_became_of_the_attempt() {
    let bed = Bed::with(true, |config| config.max_artifact = 100);
    let lines = "cd $ORK_ARTIFACTS; mkdir -p plots/deep; echo 1 > plots/deep/a.png; echo 2 > b; \
        ln -s b link; mkfifo pipe; head -c 101 /dev/zero > big; echo ${1:-} ; exit 3";
    let attempt = bed.assign(bed.assignment("run", sh(lines)));
    let finished = bed.finished(&attempt).await;
    assert_eq!(failure(&finished).exit_code, Some(3));
    let files = artifacts(&finished);
    let named: Vec<_> = files.iter().map(|file| (&*file.name, content(&bed, file))).collect();
    assert_eq!(named, [("b", "2\n".to_owned()), ("plots/deep/a.png", "1\n".to_owned())]);
    let lines = bed.server.lines_of(&attempt);
    let told: Vec<_> =
        lines.iter().map(|line| &*line.text).filter(|t| t.contains("artifact")).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    for what in ["`link` is a link", "`pipe` is a pipe", "`big` has 101 bytes; the limit"] {
        assert!(told.iter().any(|text| text.contains(what)), "{what}: {told:?}");
    }
    let none = bed.run(bed.assignment("run", sh("mkdir $ORK_ARTIFACTS/empty"))).await;
    assert_eq!(none.artifacts, None);
    let left = std::fs::read_dir(bed.dir.path().join("artifacts")).unwrap().flatten().next();
    let left = left.unwrap();
    assert_eq!(std::fs::read_dir(left.path()).unwrap().count(), 0);
    assert!(left.metadata().unwrap().nlink() >= 1);
}

#[tokio::test]
async fn a_server_that_cannot_now_is_asked_again_and_one_that_refuses_is_believed() {
    let busy = || LinkError::Retryable("busy".into());
    let no = || LinkError::Refused("the disk is read-only".into());
    let bed = Bed::new();
    let large = "(printf '\"'; head -c 100000 /dev/zero | tr '\\0' x; printf '\"') > $ORK_OUTPUT";
    bed.server.refusals.lock().unwrap().extend([busy(), busy()]);
    let finished = bed.run(bed.assignment("run", sh(large))).await;
    assert!(matches!(finished.outcome, ork_core::run::Outcome::Success { .. }), "{finished:?}");
    bed.server.refusals.lock().unwrap().push_back(no());
    let refused = failure(&bed.run(bed.assignment("run", sh(large))).await);
    assert!(refused.message.contains("could not be kept: the disk is read-only"), "{refused:?}");

    let file = kept(&bed, "a.csv", "A");
    let call = || {
        let mut call = bed.assignment("run", sh("cat $FILE | grep A"));
        call.env.insert("FILE".into(), file.mark());
        call
    };
    bed.server.refusals.lock().unwrap().extend([busy(), busy()]);
    let finished = bed.run(call()).await;
    assert!(matches!(finished.outcome, ork_core::run::Outcome::Success { .. }), "{finished:?}");
    bed.server.refusals.lock().unwrap().push_back(no());
    let refused = failure(&bed.run(call()).await);
    assert_eq!(refused.kind, FailureKind::NotStarted);
    assert!(
        refused.message.contains("`a.csv` cannot be had: the disk is read-only"),
        "{refused:?}"
    );
}
