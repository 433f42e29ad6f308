//! Python functions.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ork_api::worker::{Prepare, ToWorker};
use ork_core::logs::Level;
use ork_core::run::{Assignment, Failure, FailureKind, Outcome};
use ork_core::value::Data;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::bed::{Bed, end_of, failure, output, processes_in};

fn call(bed: &Bed, function: &str, inputs: Value) -> Assignment {
    let (file, function) = function.split_once(':').unwrap_or(("code.py", function));
    let mut assignment = bed.assignment("python", json!({"file": file, "function": function}));
    if let Value::Object(inputs) = inputs {
        assignment.inputs = inputs.into_iter().map(|(k, v)| (k, Data::Inline(v))).collect();
    }
    assignment
}

const TYPED: &str = r#"
from __future__ import annotations
import enum, typing
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Optional, TypedDict
if TYPE_CHECKING:
    from nowhere import Unknown

class Colour(enum.Enum):
    RED = "red"

class Extract(TypedDict):
    day: date
    rows: int

@dataclass
class Part:
    at: datetime
    weights: list[float]

class Pair(NamedTuple):
    a: int
    b: date

class Model:
    def __init__(self, raw): self.raw = raw
    @classmethod
    def model_validate(cls, raw): return cls(raw)
    def model_dump(self, mode): return {"validated": self.raw, "mode": mode}

def name(value):
    if isinstance(value, list): return [name(v) for v in value]
    if isinstance(value, dict): return {k: name(v) for k, v in value.items()}
    return type(value).__name__

def kinds(day: date, at: datetime, path: Path, money: Decimal, colour: Colour, extract: Extract,
          part: Part, parts: list[Part], by_day: dict[str, date], maybe: Optional[date],
          never: date | None, pair: Pair, model: Model, word: Literal["a"], n: Annotated[int, "x"],
          ratio: float, many: tuple[date, ...], plain):
    return name([day, at, path, money, colour, extract, part, part.at, parts, by_day, maybe, never,
                 pair, pair.b, model, word, n, ratio, list(many), plain])

def unknown(x: Unknown, day: date):
    return [x, name(day) if TYPE_CHECKING else "read as it is"]

def back():
    return [date(2026, 1, 2), Path("/a"), Decimal("1.50"), Colour.RED, {1, 1},
            Part(datetime(2026, 1, 2, 3), [1]), Model(1), Pair(1, date(2026, 1, 2)), (1, 2), "é", 1.5, None]

async def later(n: int) -> int:
    import asyncio
    await asyncio.sleep(0)
    return n + 1
"#;

#[tokio::test]
async fn arguments_and_results_have_their_types() {
    let bed = Bed::new();
    bed.file("code.py", TYPED);
    let part = json!({"at": "2026-01-02T03:04:05", "weights": [1, 2.5]});
    let inputs = json!({
        "day": "2026-01-02", "at": "2026-01-02T03:04:05+01:00", "path": "a/b", "money": "1.50",
        "colour": "red", "extract": {"day": "2026-01-02", "rows": 3}, "part": part,
        "parts": [part], "by_day": {"x": "2026-01-02"}, "maybe": "2026-01-02", "never": null,
        "pair": [1, "2026-01-02"], "model": {"a": 1}, "word": "a", "n": 1, "ratio": 2,
        "many": ["2026-01-02"], "plain": "2026-01-02",
    });
    let kinds = output(&bed.run(call(&bed, "kinds", inputs)).await);
    let expected = json!([
        "date", "datetime", "PosixPath", "Decimal", "Colour", {"day": "date", "rows": "int"},
        "Part", "datetime", ["Part"], {"x": "date"}, "date", "NoneType", "Pair", "date", "Model",
        "str", "int", "float", ["date"], "str",
    ]);
    assert_eq!(kinds, expected);
    let back = output(&bed.run(call(&bed, "back", json!({}))).await);
    let expected = json!([
        "2026-01-02", "/a", "1.50", "red", [1],
        {"at": "2026-01-02T03:00:00", "weights": [1]}, {"validated": 1, "mode": "json"},
        [1, "2026-01-02"], [1, 2], "é", 1.5, null,
    ]);
    assert_eq!(back, expected);
    assert_eq!(output(&bed.run(call(&bed, "later", json!({"n": 1}))).await), json!(2));
    let unfit = failure(&bed.run(call(&bed, "kinds", json!({"day": "yesterday"}))).await);
    assert_eq!(unfit.kind, FailureKind::InputInvalid, "{unfit:?}");
    assert!(unfit.message.contains("the input `day` is no date"), "{unfit:?}");
    let unknown = call(&bed, "unknown", json!({"x": 1, "day": "2026-01-02"}));
    assert_eq!(output(&bed.run(unknown).await), json!([1, "read as it is"]));
}

const DEFAULTS: &str = r#"
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

class Pair(NamedTuple):
    left: int
    right: str = "r"

@dataclass
class D:
    a: int
    b: list[str] = field(default_factory=list)
    c: str = "x"
    n: Optional[int] = 5
    pair: Pair = Pair(1)

def f(d: D) -> D:
    d.b.append("q")
    return d
"#;

#[tokio::test]
async fn a_field_that_is_left_out_or_null_has_its_default() {
    let bed = Bed::new();
    bed.file("code.py", DEFAULTS);
    let cases = [
        (json!({"a": 1}), json!({"a": 1, "b": ["q"], "c": "x", "n": 5, "pair": [1, "r"]})),
        (
            json!({"a": 1, "b": null, "c": null, "n": null, "pair": {"left": 2, "right": null}}),
            json!({"a": 1, "b": ["q"], "c": "x", "n": null, "pair": [2, "r"]}),
        ),
    ];
    for (given, expected) in cases {
        let made = bed.run(call(&bed, "f", json!({"d": given}))).await;
        assert_eq!(output(&made), expected);
    }
}

const BAD: &str = r#"
import os, sys

def deep():
    def inner(): raise ValueError("bad luck")
    inner()

def bare(): raise KeyError
def leaves(): os._exit(7)
def leaves_well(): os._exit(0)
def exits_well(): print("done"); sys.exit(0)
def exits_with_words(): sys.exit("no such day")
def nan(): return [1, float("nan")]
def surrogate(): return {"a": "x\ud800"}
def nul(): return "a\0"
def huge(): return "x" * 10_000_000
def nested():
    value = []
    for _ in range(10_000): value = [value]
    return value
def circular():
    value = []
    value.append(value)
    return value
def keys(): return {1: "a", "1": "b"}
def generator(): yield 1
def closes(): os.closerange(3, 1000)
def handle(): return open("/dev/null")
def beyond(): return 2 ** 70
def missing_argument(a, b): pass
number = 3
"#;

fn check(name: &str, failure: &Failure, kind: FailureKind, message: &str) {
    assert_eq!(failure.kind, kind, "{name}: {failure:?}");
    assert!(failure.message.contains(message), "{name}: {}", failure.message);
}

#[tokio::test]
async fn whatever_goes_wrong_is_told_with_its_place() {
    use FailureKind::{Failure, NotStarted, OutputInvalid};
    let bed = Bed::new();
    bed.file("code.py", BAD);
    bed.file("syntax.py", "def f():\n    return (1,\n\ndef g(:\n");
    bed.file("imports.py", "import pandas_of_nowhere\ndef f(): pass\n");
    bed.file("top.py", "x = 1\nraise RuntimeError('at the top')\n");
    bed.file("uses.py", "def f():\n    import syntax\n");
    let cases = [
        ("deep", Failure, "ValueError: bad luck (code.py:5 in inner)"),
        ("bare", Failure, "KeyError (code.py:8 in bare)"),
        ("leaves", Failure, "`code.py:leaves` exited with code 7"),
        ("leaves_well", Failure, "ended its process with code 0 before it returned (os._exit)"),
        ("exits_with_words", Failure, "`code.py:exits_with_words` exited with code 1"),
        ("nan", OutputInvalid, "NaN is not JSON"),
        ("surrogate", OutputInvalid, "a lone surrogate) after"),
        ("nul", OutputInvalid, "a text holds NUL, at line 1 column 3"),
        ("huge", OutputInvalid, "the limit (limits.output) is 1048576"),
        ("nested", OutputInvalid, "nested"),
        ("circular", OutputInvalid, "Circular reference"),
        ("keys", OutputInvalid, "the key 1 is of type int, and keys are texts"),
        ("generator", OutputInvalid, "`code.py:generator` is a generator: return a value"),
        ("closes", Failure, "`code.py:closes` exited with code 70"),
        ("handle", OutputInvalid, "a _io.TextIOWrapper has no form in JSON"),
        ("missing_argument", Failure, "missing 2 required positional arguments: 'a' and 'b'"),
        ("number", NotStarted, "`number` in code.py:number is of type int, no function"),
        ("dep", NotStarted, "has no `dep`; did you mean `deep`?"),
        ("syntax.py:f", NotStarted, "SyntaxError at syntax.py:4:"),
        ("uses.py:f", NotStarted, "SyntaxError at syntax.py:4:"),
        ("imports.py:f", NotStarted, "no module named `pandas_of_nowhere`"),
        ("top.py:f", Failure, "RuntimeError: at the top (top.py:2 in <module>)"),
        ("nowhere.py:f", NotStarted, "there is no file /"),
    ];
    for (name, kind, message) in cases {
        check(name, &failure(&bed.run(call(&bed, name, json!({}))).await), kind, message);
    }
    let well = bed.run(call(&bed, "exits_well", json!({}))).await.outcome;
    assert_eq!(well, Outcome::Success { output: None });
    for (name, message) in [
        ("exits_well", "ended by sys.exit(0) before it returned, and should give int"),
        ("beyond", "which is more than an int of 64 bits holds"),
    ] {
        let mut typed = call(&bed, name, json!({}));
        typed.output_type = Some(ork_core::types::Type::Int);
        check(name, &failure(&bed.run(typed).await), OutputInvalid, message);
    }
    let told = failure(&bed.run(call(&bed, "closes", json!({}))).await).details.unwrap();
    assert!(told.contains("the code closed descriptors that it had not opened"), "{told}");
    let attempt = bed.assign(call(&bed, "deep", json!({})));
    let details = failure(&bed.finished(&attempt).await).details.unwrap();
    assert!(details.starts_with("Traceback (most recent call last):\n  File \""), "{details}");
    assert!(details.contains("code.py\", line 6, in deep\n    inner()"), "{details}");
    assert!(!details.contains("_runner.py"), "{details}");
    assert_eq!(bed.line(&attempt, "ValueError").await, "ValueError: bad luck");
}

#[tokio::test]
async fn modules_are_found_from_the_code_root_and_from_their_folder() {
    let bed = Bed::new();
    bed.file("pkg/__init__.py", "");
    bed.file("pkg/one.py", "from .two import two\ndef one(): return [__name__, two()]\n");
    bed.file("pkg/two.py", "def two(): return 2\n");
    bed.file("jobs/json.py", "import beside\ndef f(): return [beside.x, __name__]\n");
    bed.file("jobs/beside.py", "x = 1\n");
    let one = bed.run(call(&bed, "pkg/one.py:one", json!({}))).await;
    assert_eq!(output(&one), json!(["pkg.one", 2]));
    let spec = json!({"module": "pkg.one", "function": "one"});
    assert_eq!(output(&bed.run(bed.assignment("python", spec)).await), json!(["pkg.one", 2]));
    assert_eq!(
        output(&bed.run(call(&bed, "jobs/json.py:f", json!({}))).await),
        json!([1, "_json"])
    );
}

const ASKS: &str = r#"
import os, sys
import ork

def asks(n):
    context = ork.context()
    ork.heartbeat()
    ork.log.warning("careful", rows=n)
    ork.log.debug("detail")
    (context.artifacts / "chart").write_text("x")
    assert sys.stdin.read() == ""
    return [context.task, context.attempt, context.workflow, os.path.exists(os.environ["ORK_HEARTBEAT"]),
            os.getcwd(), os.environ["MINE"], sys.argv]

def flags():
    return [sys.flags.dev_mode, "TZ" in os.environ, __import__("time").tzname[0]]
"#;

#[tokio::test]
async fn tasks_may_ask_ork() {
    let bed = Bed::new();
    bed.file("code.py", ASKS);
    let mut asks = call(&bed, "asks", json!({"n": 3}));
    asks.env.insert("MINE".into(), "1".into());
    let attempt = bed.assign(asks);
    let root = bed.root();
    let said = output(&bed.finished(&attempt).await);
    assert_eq!(said, json!(["task", 1, "flow", true, root, "1", ["code.py:asks"]]));
    let lines = bed.server.lines_of(&attempt);
    let lines: Vec<_> = lines.iter().map(|line| (line.level, line.text.as_str())).collect();
    let careful = r#"{"level": "warn", "message": "careful", "rows": 3}"#;
    let detail = r#"{"level": "debug", "message": "detail"}"#;
    assert_eq!(lines, [(Level::Warn, careful), (Level::Debug, detail)]);
}

#[tokio::test]
async fn an_environment_that_a_fork_cannot_honour_gets_an_interpreter_of_its_own() {
    let bed = Bed::new();
    bed.file("code.py", ASKS);
    let mut cold = call(&bed, "flags", json!({}));
    cold.env.insert("PYTHONDEVMODE".into(), "1".into());
    cold.env.insert("TZ".into(), "Asia/Tokyo".into());
    assert_eq!(output(&bed.run(cold).await), json!([true, true, "JST"]));
    let mut warm = call(&bed, "flags", json!({}));
    warm.env.insert("TZ".into(), "Asia/Tokyo".into());
    assert_eq!(output(&bed.run(warm).await), json!([false, true, "JST"]));
}

#[tokio::test]
async fn a_missing_or_old_interpreter_is_told_in_a_sentence() {
    let bed = Bed::with(true, |config| config.python = Some("/nowhere/python".into()));
    let missing = failure(&bed.run(call(&bed, "f", json!({}))).await);
    check("missing", &missing, FailureKind::NotStarted, "/nowhere/python is no program");

    let bed = Bed::new();
    bed.file(".venv/bin/python", "#!/bin/sh\necho 'Unknown option: -P' >&2\nexit 2\n");
    let old = failure(&bed.run(call(&bed, "f", json!({}))).await);
    check("old", &old, FailureKind::NotStarted, "did not start (Ork needs 3.11 or newer)");
    assert!(old.details.as_ref().unwrap().contains("Unknown option: -P"), "{old:?}");
}

fn prepare(bed: &Bed) {
    let assignment = call(bed, "f", json!({}));
    let (project, executor) = (assignment.project, assignment.executor);
    let (spec, code) = (assignment.spec, assignment.code);
    bed.send(ToWorker::Prepare(Box::new(Prepare { project, executor, spec, code })));
}

#[tokio::test]
async fn one_warm_parent_serves_all_and_a_killed_one_is_replaced() {
    let bed = Bed::new();
    bed.file("code.py", "import os\ndef parent(): return os.getppid()\n");
    prepare(&bed);
    let first = output(&bed.run(call(&bed, "parent", json!({}))).await);
    let second = output(&bed.run(call(&bed, "parent", json!({}))).await);
    assert_eq!(first, second);
    let pid = Pid::from_raw(i32::try_from(first.as_i64().unwrap()).unwrap()).unwrap();
    let fd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&fd, rustix::process::Signal::KILL).unwrap();
    assert_ne!(output(&bed.run(call(&bed, "parent", json!({}))).await), first);
}

const WAITS: &str = r#"
import os
def waits():
    print("parent", os.getppid(), flush=True)
    open("pipe").read()
    return os.getppid()
"#;

#[tokio::test]
async fn a_warm_parent_leaves_once_it_is_idle_and_the_next_task_gets_another() {
    // Shorter than it takes a line to come here: without work it would be gone by then.
    let bed = Bed::with(true, |config| config.python_idle = Duration::from_millis(1));
    bed.file("code.py", WAITS);
    let pipe = bed.root().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut parents = Vec::new();
    for _ in 0..2 {
        let attempt = bed.assign(call(&bed, "waits", json!({})));
        let line = bed.line(&attempt, "parent ").await;
        let parent: i32 = line["parent ".len()..].parse().unwrap();
        let fd = pidfd_open(Pid::from_raw(parent).unwrap(), PidfdFlags::empty()).unwrap();
        std::fs::write(&pipe, "x").unwrap();
        assert_eq!(output(&bed.finished(&attempt).await), json!(parent));
        end_of(fd).await;
        parents.push(parent);
    }
    assert_ne!(parents[0], parents[1]);
}

#[tokio::test]
async fn a_killed_parent_harms_no_other_task() {
    let bed = Bed::new();
    let pipe = bed.root().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let code = format!(
        "import os, sys\n\
         def waits(): print('waits', flush=True); return open({pipe:?}).read()\n\
         def leaves(): print('waits', flush=True); open({pipe:?}).read(); os._exit(7)\n\
         def kills():\n    os.kill(os.getppid(), 9)\n    return os.getppid()\n\
         def tells():\n    open({pipe:?}, 'w').write('x')\n    return 1\n"
    );
    bed.file("code.py", &code);
    let ends = [("waits", None), ("leaves", Some("exited with code 7"))];
    for (name, fails) in ends {
        let other = bed.assign(call(&bed, name, json!({})));
        bed.line(&other, "waits").await;
        let killer = output(&bed.run(call(&bed, "kills", json!({}))).await);
        assert!(killer.is_number());
        assert_eq!(output(&bed.run(call(&bed, "tells", json!({}))).await), json!(1));
        let ended = bed.finished(&other).await;
        match fails {
            None => assert_eq!(output(&ended), json!("x")),
            Some(message) => check(name, &failure(&ended), FailureKind::Failure, message),
        }
    }
    let doomed = bed.assign(call(&bed, "waits", json!({})));
    bed.line(&doomed, "waits").await;
    output(&bed.run(call(&bed, "kills", json!({}))).await);
    bed.stop(&doomed, ork_core::time::Span::from_secs(1));
    assert_eq!(bed.finished(&doomed).await.outcome, Outcome::Stopped);
}

#[tokio::test]
async fn requirements_make_an_environment_once() {
    let bed = Bed::new();
    let mut wanted = local_package(&bed);
    let attempt = bed.assign(wanted.clone());
    assert_eq!(output(&bed.finished(&attempt).await), json!(1));
    bed.line(&attempt, "building a virtual environment").await;
    wanted.attempt.token = ork_core::ids::Token(1 << 40);
    let again = bed.assign(wanted);
    assert_eq!(output(&bed.finished(&again).await), json!(1));
    assert!(bed.server.lines_of(&again).is_empty());
    assert!(processes_in(&bed.root()).is_empty());

    let mut impossible = call(&bed, "f", json!({}));
    impossible.spec["requirements"] = json!(["./no-such-folder"]);
    let failed = failure(&bed.run(impossible).await);
    let message = "the requirements (./no-such-folder) cannot be installed";
    check("impossible", &failed, FailureKind::NotStarted, message);
    assert!(failed.details.unwrap().contains("no-such-folder"));
}

/// An `uv` that notes how it is called, and has Python do what is wanted.
const UV: &str = r#"#!/bin/sh
set -e
echo "$UV_CACHE_DIR $*" >> "${0%/uv}/calls"
case "$1" in
venv) exec "$4" -m venv "$5" ;;
pip) grep -q local "$6" || { echo "no solution for $(cat "$6")" >&2; exit 1; }
     exec "$4" -m pip install --no-input -r "$6" ;;
esac
"#;

/// Not a test: what [`uv_makes_environments_where_it_is_on_the_path`] does with `uv` on its path.
#[tokio::test]
#[ignore = "run by another test"]
async fn with_uv() {
    let Some(bin) = std::env::var_os("ORK_TEST_UV").map(PathBuf::from) else { return };
    let cache = bin.join("cache");
    let bed = Bed::with(true, |config| config.dirs.cache.clone_from(&cache));
    let mut wanted = local_package(&bed);
    assert_eq!(output(&bed.run(wanted.clone()).await), json!(1));
    let calls = std::fs::read_to_string(bin.join("calls")).unwrap();
    let calls: Vec<Vec<&str>> = calls.lines().map(|line| line.split(' ').collect()).collect();
    let [make, fill] = &*calls else { panic!("{calls:?}") };
    let [seen, "venv", "--quiet", "--python", python, dir] = **make else { panic!("{make:?}") };
    assert_eq!(seen, "/passed/on");
    assert!(python.ends_with("/python3"), "{python}");
    assert!(dir.starts_with(cache.join("environments").to_str().unwrap()), "{dir}");
    let (inside, list) = (format!("{dir}/bin/python"), format!("{dir}.txt"));
    let fills = [seen, "pip", "install", "--python", inside.as_str(), "-r", list.as_str()];
    assert_eq!(*fill, fills);
    wanted.attempt.token = ork_core::ids::Token(1 << 40);
    assert_eq!(output(&bed.run(wanted.clone()).await), json!(1));
    wanted.attempt.token = ork_core::ids::Token(1 << 41);
    wanted.spec["requirements"] = json!(["orks-nowhere==1"]);
    let failed = failure(&bed.run(wanted).await);
    let message = "the requirements (orks-nowhere==1) cannot be installed";
    check("uv", &failed, FailureKind::NotStarted, message);
    assert_eq!(failed.details.unwrap(), "no solution for orks-nowhere==1");
    let calls = std::fs::read_to_string(bin.join("calls")).unwrap();
    assert_eq!(calls.lines().count(), 4, "{calls}");
}

#[test]
fn uv_makes_environments_where_it_is_on_the_path() {
    let bin = tempfile::tempdir().unwrap();
    let uv = bin.path().join("uv");
    std::fs::write(&uv, UV).unwrap();
    std::fs::set_permissions(&uv, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "python::with_uv", "--ignored", "--nocapture"])
        .env("ORK_TEST_UV", bin.path())
        .env("UV_CACHE_DIR", "/passed/on")
        .env("PATH", format!("{}:{path}", bin.path().display()))
        .status()
        .unwrap();
    assert!(done.success());
    assert!(bin.path().join("calls").exists());
}

#[tokio::test]
async fn a_stop_ends_the_building_of_an_environment_and_all_that_it_started() {
    let bed = Bed::new();
    bed.file("local/pyproject.toml", PROJECT);
    let pipe = bed.root().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let backend = format!(
        "import subprocess\ndef build_wheel(*_, **__):\n    pipe = open({pipe:?}, 'w')\n    \
         pipe.write('x')\n    pipe.flush()\n    \
         subprocess.run(['sleep', '300'], pass_fds=[pipe.fileno()])\n"
    );
    bed.file("local/backend.py", &backend);
    bed.file("code.py", "def f(): pass\n");
    let mut wanted = call(&bed, "f", json!({}));
    wanted.spec["requirements"] = json!([bed.root().join("local")]);
    let attempt = bed.assign(wanted);
    bed.line(&attempt, "building a virtual environment").await;
    let read = |mut file: std::fs::File, mut bytes: Vec<u8>| {
        tokio::task::spawn_blocking(move || {
            let read = std::io::Read::read(&mut file, &mut bytes).unwrap();
            (file, read)
        })
    };
    let open = tokio::task::spawn_blocking(move || std::fs::File::open(pipe).unwrap());
    let (file, read_first) = read(open.await.unwrap(), vec![0; 1]).await.unwrap();
    assert_eq!(read_first, 1, "the installer is at work");
    bed.stop(&attempt, ork_core::time::Span::from_secs(1));
    assert_eq!(bed.finished(&attempt).await.outcome, Outcome::Stopped);
    let (_, rest) = read(file, vec![0; 1]).await.unwrap();
    assert_eq!(rest, 0, "nobody holds the other end any more");
}

/// A call of code that requires a package which lies beside it.
fn local_package(bed: &Bed) -> Assignment {
    bed.file("local/pyproject.toml", PROJECT);
    bed.file("local/backend.py", BACKEND);
    bed.file("code.py", "import orks_test_package\ndef f(): return orks_test_package.x\n");
    let mut wanted = call(bed, "f", json!({}));
    wanted.spec["requirements"] = json!([bed.root().join("local")]);
    wanted
}

const PROJECT: &str = "[project]\nname = 'local'\nversion = '1'\n\
    [build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n";

/// Builds a wheel without any other package.
const BACKEND: &str = r#"
import zipfile, os
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "local-1-py3-none-any.whl"
    info = "local-1.dist-info/"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("orks_test_package.py", "x = 1\n")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: local\nVersion: 1\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(info + "RECORD", "orks_test_package.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n")
    return name
"#;
