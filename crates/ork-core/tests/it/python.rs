//! Signatures of Python functions.

use std::collections::HashMap;

use ork_core::lang::Sources;
use ork_core::lang::python::{Reader, SignatureError, Target, signature, specialise};

use crate::expr_world::ty;

struct Files(HashMap<&'static str, Vec<u8>>);

impl Sources for Files {
    fn read(&self, path: &str) -> Result<Vec<u8>, Option<String>> {
        match path {
            "locked.py" => Err(Some("permission denied".into())),
            _ => self.0.get(path).cloned().ok_or(None),
        }
    }
}

fn files(files: &[(&'static str, &str)]) -> Files {
    Files(files.iter().map(|(path, text)| (*path, text.as_bytes().to_vec())).collect())
}

fn show(sources: &Files, target: Target<'_>, function: &str) -> String {
    match signature(sources, target, function) {
        Ok(signature) => {
            let mut params: Vec<String> = signature
                .params
                .iter()
                .map(|p| format!("{}{}: {}", p.name, if p.required { "" } else { "?" }, p.ty))
                .collect();
            params.extend(signature.any_keyword.then(|| "**".to_string()));
            let returns = signature.returns.map(|ty| format!(" -> {ty}")).unwrap_or_default();
            format!("{}:{function}({}){returns}", signature.file, params.join(", "))
        }
        Err(error) => shown(&error),
    }
}

fn shown(error: &SignatureError) -> String {
    let place = error.place.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("✗ {} {}{place} {}{hint}", error.code, error.file, error.message)
}

const MODELS: &str = r#"
from __future__ import annotations
import datetime as dt
from dataclasses import dataclass, field
from enum import Enum, StrEnum, IntEnum, auto
from typing import Any, ClassVar, NamedTuple, NewType, NotRequired, Required, TypedDict
from pydantic import BaseModel

class Extract(TypedDict):
    """Rows of one region."""
    path: str
    rows: int
    note: NotRequired[str]

class Loose(TypedDict, total=False):
    a: int
    b: Required[str]

class More(Extract):
    when: dt.date

@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0
    tags: list[str] = field(default_factory=list)
    count: ClassVar[int] = 0

class Model(BaseModel):
    model_config = {}
    point: "Point"
    parts: dict[str, Extract]

class Child(Model):
    extra: int | None = None

class Pair(NamedTuple):
    left: int
    right: str

class Mode(str, Enum):
    FAST = "fast"
    SLOW = "slow"

class Colour(StrEnum):
    RED = auto()
    BLUE = "navy"

class Level(IntEnum):
    LOW = 1
    HIGH = 2

class Mixed(Enum):
    A = 1
    B = "b"

class Node:
    pass

@dataclass
class Tree:
    value: int
    children: list["Tree"]

UserId = NewType("UserId", str)
Ints = list[int]
type Pairs = list[Pair]
if True:
    Inner = Ints
"#;

#[test]
fn annotations_become_types() {
    let rows = [
        "str",
        "int",
        "float",
        "bool",
        "None",
        "Any",
        "object",
        "bytes",
        "date",
        "datetime",
        "datetime.date",
        "dt.datetime",
        "list[int]",
        "List[int]",
        "list",
        "dict[str, float]",
        "dict[int, str]",
        "dict",
        "Mapping[str, Any]",
        "Sequence[str]",
        "tuple[int, ...]",
        "tuple[int, str]",
        "set[int]",
        "int | None",
        "None | str",
        "Optional[list[str]]",
        "Union[int, None]",
        "Union[int, float]",
        "int | str",
        "int | str | None",
        "Literal['a', 'b']",
        "Literal['a', None]",
        "Literal[1, 2]",
        "Literal['a'] | Literal['b']",
        "'list[int]'",
        "\"Extract | None\"",
        "Annotated[int, Field(gt=0)]",
        "Path",
        "Decimal",
        "Extract",
        "Loose",
        "More",
        "Point",
        "Model",
        "Child",
        "Pair",
        "Mode",
        "Colour",
        "Level",
        "Mixed",
        "Node",
        "Tree",
        "UserId",
        "Ints",
        "Pairs",
        "Inner",
        "list[Extract]",
        "models.Point",
        "m.Mode",
        "Unknown",
        "unknown.Thing[int]",
        "Callable[[int], str]",
        "lambda: 1",
        "np.ndarray",
        "(int | None)",
        "list[ # comment\n  int ]",
    ];
    let header = "import datetime, dt\nimport models, models as m\nfrom datetime import date, datetime\nfrom models import *\nfrom models import (\n    Extract, Loose, More, Point, Model, Child, Pair, Mode, Colour, Level,\n    Mixed, Node, Tree, UserId, Ints, Pairs, Inner,\n)\n";
    let shown = rows.map(|row| {
        let sources =
            files(&[("models.py", MODELS), ("etl.py", &format!("{header}def f(x: {row}): ...\n"))]);
        format!("{row}  →  {}", show(&sources, Target::File("etl.py"), "f"))
    });
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn fields_with_defaults_may_be_left_out_of_what_is_given() {
    let text = "from dataclasses import KW_ONLY, dataclass, field\n\
        from pydantic import BaseModel, Field\n\
        @dataclass\nclass D:\n    a: int\n    b: list[str] = field(default_factory=list)\n    \
        _: KW_ONLY\n    c: str = 'x'\n    d: int = field(repr=False)\n    \
        e: int = field(init=False, default=3)\n\
        class M(BaseModel):\n    a: int = Field(...)\n    b: int = Field(3, gt=0)\n    \
        c: int = Field(gt=0)\n    d: int = Field(default=3)\n\
        def takes(d: D, m: M): ...\n\
        def gives() -> D: ...\n";
    let sources = files(&[("etl.py", text)]);
    let shown = ["takes", "gives"].map(|name| show(&sources, Target::File("etl.py"), name));
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn parameters_and_returns() {
    let text = r"
import functools
from datetime import date
def plain(region: str, day: date, n=1, *, loud: bool = False, limit: int = None) -> list[int]: ...
def bare(a, b=2, *args, **kwargs): ...
def typed_rest(*args: int, **kwargs: str) -> None: ...
def by_place(a, b, /, c): ...
def by_place_with_default(a=1, /, c=2): ...
@functools.cache
@retry(times=3)
def decorated(x: int) -> str: ...
async def later(x: int): ...
class Klass: ...
partial = functools.partial(plain, n=2)
try:
    def guarded(x: float) -> float: return x
except ImportError:
    pass
def twice(x: int): ...
def twice(y: str): ...
def nested():
    def inner(): ...
";
    let sources = files(&[("etl.py", text)]);
    let names = [
        "plain",
        "bare",
        "typed_rest",
        "by_place",
        "by_place_with_default",
        "decorated",
        "later",
        "Klass",
        "partial",
        "guarded",
        "twice",
        "nested",
        "inner",
        "plian",
        "date",
    ];
    insta::assert_snapshot!(
        names.map(|name| show(&sources, Target::File("etl.py"), name)).join("\n")
    );
}

#[test]
fn imports_are_followed_within_the_code_root() {
    let sources = files(&[
        ("models.py", "class M(TypedDict):\n    root: int\n"),
        ("jobs/__init__.py", "from .impl import run as main\n"),
        (
            "jobs/impl.py",
            "from .types.shapes import Shape\nfrom . import local\nfrom ..models import M\nfrom models import M as N\nimport jobs.local\ndef run(s: Shape, l: local.L, m: M, n: N, j: jobs.local.L): ...\n",
        ),
        ("jobs/local.py", "class L(TypedDict):\n    l: str\n"),
        ("jobs/types/shapes.py", "from ..local import L\nclass Shape(TypedDict):\n    l: L\n"),
        ("a.py", "from b import X\ndef f(x: X): ...\n"),
        ("b.py", "from a import X\n"),
        ("script/main.py", "from helper import H\ndef f(h: H): ...\n"),
        ("script/helper.py", "H = list[str]\n"),
        ("broken.py", "def (\n"),
        ("uses_broken.py", "from broken import T\ndef f(t: T): ...\n"),
        ("up.py", "from ....nowhere import T\ndef f(t: T): ...\n"),
    ]);
    let shown = [
        show(&sources, Target::Module("jobs"), "main"),
        show(&sources, Target::Module("jobs.impl"), "run"),
        show(&sources, Target::File("a.py"), "f"),
        show(&sources, Target::File("script/main.py"), "f"),
        show(&sources, Target::File("uses_broken.py"), "f"),
        show(&sources, Target::File("up.py"), "f"),
    ];
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_cannot_be_read_is_explained() {
    let mut sources = files(&[
        ("syntax.py", "x = 1\ndef f(é: int, b: str:\n    pass\n"),
        ("open.py", "def f(x):\n    return (1\n"),
        ("empty.py", ""),
        ("bom.py", "\u{feff}def f(x: int): ...\n"),
    ]);
    sources.0.insert("latin.py", b"# \xe9\ndef f(): ...\n".to_vec());
    sources.0.insert("huge.py", vec![b'#'; 3 * 1024 * 1024]);
    let shown = [
        "syntax.py",
        "open.py",
        "empty.py",
        "bom.py",
        "latin.py",
        "huge.py",
        "locked.py",
        "none.py",
    ]
    .map(|file| show(&sources, Target::File(file), "f"));
    insta::assert_snapshot!(shown.join("\n"));
    assert!(
        show(&sources, Target::Module("no.where"), "f")
            .contains("no/where.py and no/where/__init__.py")
    );
}

#[test]
fn hostile_files_end() {
    let deep = format!("def f(x: {}int{}): ...\n", "list[".repeat(5_000), "]".repeat(5_000));
    let cycle = "A = B\nB = A\nclass C(D): ...\nclass D(C): ...\ndef f(a: A, c: C): ...\n";
    let wide: String = (0..200)
        .map(|i| format!("class T{i}(TypedDict):\n    a: T{}\n    b: T{}\n", i + 1, i + 1))
        .collect();
    let blocks = (0..3_000).map(|i| format!("{}if x:\n", " ".repeat(i))).collect::<String>()
        + &" ".repeat(3_000)
        + "pass\ndef f(): ...\n";
    let wide = wide + "def f(t: T0): ...\n";
    let sources = files(&[
        ("deep.py", &deep),
        ("cycle.py", cycle),
        ("wide.py", &wide),
        ("blocks.py", &blocks),
    ]);
    let deep = signature(&sources, Target::File("deep.py"), "f").unwrap();
    assert!(deep.params[0].ty.to_string().matches('[').count() <= 40);
    assert_eq!(show(&sources, Target::File("cycle.py"), "f"), "cycle.py:f(a: json, c: json)");
    assert!(show(&sources, Target::File("wide.py"), "f").len() < 1_000_000);
    let _ = show(&sources, Target::File("blocks.py"), "f");
}

#[test]
fn a_reader_parses_a_file_once() {
    let sources = files(&[("etl.py", "def a(x: int): ...\ndef b(y: str): ...\n")]);
    let mut reader = Reader::new(&sources);
    assert_eq!(reader.signature(Target::File("etl.py"), "a").unwrap().params[0].ty, ty("int"));
    assert_eq!(reader.signature(Target::Module("etl"), "b").unwrap().params[0].ty, ty("str"));
}

#[test]
fn a_datetime_takes_the_kind_it_is_given() {
    let rows = [
        ("datetime_notz", "datetime_tz", "datetime_tz"),
        ("datetime_notz?", "datetime_utc", "datetime_utc?"),
        ("[datetime_notz]", "[datetime_tz]", "[datetime_tz]"),
        ("{a: datetime_notz, b: int}", "{a: datetime_utc, b: int}", "{a: datetime_utc, b: int}"),
        ("dict[datetime_notz]", "json", "dict[datetime_notz]"),
        ("datetime_notz", "date", "datetime_notz"),
        ("date", "datetime_tz", "date"),
    ];
    for (annotation, given, expected) in rows {
        assert_eq!(specialise(&ty(annotation), &ty(given)), ty(expected));
    }
}
