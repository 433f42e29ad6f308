//! Configuration, resolved once: flag > environment > `ork.toml` > default. One table of keys
//! feeds the file, the environment and `ork config show`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ork_core::lang::{is_workflow_name, size};
use ork_core::run::EVERY_QUEUE;
use ork_server::{Limits, Retention};

use crate::exit::{Failure, Result, io};
use crate::suggest;

/// A key of `ork.toml`.
#[derive(Debug)]
struct Key {
    name: &'static str,
    env: &'static str,
    /// Other names of the variable.
    also: &'static [&'static str],
    default: &'static str,
    about: &'static str,
}

macro_rules! keys {
    ($($key:ident = $name:literal $env:literal $(or $also:literal)?, $default:literal, $about:literal;)*) => {
        $(const $key: Key = Key {
            name: $name,
            env: $env,
            also: &[$($also)?],
            default: $default,
            about: $about,
        };)*
        const KEYS: &[Key] = &[$($key),*];
    };
}

keys! {
    BIND = "server.bind" "ORK_SERVER__BIND", "127.0.0.1:7070", "where `ork up` listens";
    SLOTS = "worker.slots" "ORK_WORKER__SLOTS", "", "how many tasks run at a time";
    QUEUES = "worker.queues" "ORK_WORKER__QUEUES", "default",
        "the queues that the worker of `ork up` serves beside `default`; `*`: all";
    PYTHON = "worker.python" "ORK_WORKER__PYTHON" or "ORK_PYTHON", "",
        "the Python of tasks; without it the code's .venv, else python3";
    PASS_ENV = "worker.pass_env" "ORK_WORKER__PASS_ENV", "",
        "variables of the worker's environment that tasks see too";
    LOG_BYTES = "logs.max_bytes" "ORK_LOGS__MAX_BYTES", "64Mi",
        "what is kept of what one attempt writes";
    DAYS = "retention.days" "ORK_RETENTION__DAYS", "90",
        "how long runs are kept after their end; `none`: for ever";
    RUNS = "retention.runs" "ORK_RETENTION__RUNS", "10000",
        "how many ended runs of a workflow are kept; `none`: all";
    OUTPUT = "limits.output" "ORK_LIMITS__OUTPUT", "1Mi", "the largest output of a task";
    FILE = "limits.file" "ORK_LIMITS__FILE", "1Mi", "the largest workflow file";
    NESTING = "limits.nesting" "ORK_LIMITS__NESTING", "64",
        "how deep lists and maps of a workflow file stand inside each other";
    EXPANSION = "limits.expansion" "ORK_LIMITS__EXPANSION", "10",
        "how many times its size a workflow file's aliases may expand it to";
    TASKS = "limits.tasks" "ORK_LIMITS__TASKS", "10000", "how many tasks a workflow file has";
    BUNDLE = "limits.bundle" "ORK_LIMITS__BUNDLE", "100Mi", "the most code of a workflow";
    ARTIFACT = "limits.artifact" "ORK_LIMITS__ARTIFACT", "16Gi",
        "the largest file that a task leaves or a param gives";
    BODY = "limits.body" "ORK_LIMITS__BODY", "4Mi", "the largest JSON body of a request";
    PENDING = "limits.pending" "ORK_LIMITS__PENDING", "10000",
        "how many runs of a workflow may wait to start";
    CONNECTIONS = "limits.connections" "ORK_LIMITS__CONNECTIONS", "4096",
        "how many clients are connected at a time";
    STREAMS = "limits.streams" "ORK_LIMITS__STREAMS", "1024",
        "how many event and log streams are open at a time";
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Flag(&'static str),
    Environment(&'static str),
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// How many tasks run at a time, for each core. Most tasks wait for something else, and while one
/// ends the next is on its way.
const SLOTS_PER_CORE: usize = 4;

/// Everything that can be configured for a server and worker of this process.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the server listens.
    pub(crate) bind: SocketAddr,
    /// How many attempts the worker does at a time.
    pub(crate) slots: u32,
    /// The queues that the worker serves; `*`: all of them.
    pub(crate) queues: Vec<String>,
    /// The Python interpreter of tasks.
    pub(crate) python: Option<PathBuf>,
    /// Further variables of the worker's environment that tasks see.
    pub(crate) pass_env: Vec<String>,
    /// The most bytes of a task's output.
    pub(crate) output: usize,
    /// The most bytes that are kept of one attempt's log.
    pub(crate) log_bytes: u64,
    /// How long runs are kept.
    pub(crate) retention: Retention,
    /// What the server takes.
    pub(crate) limits: Limits,
    /// How many runs of one workflow may wait to start.
    pub(crate) pending: usize,
    rows: Vec<[String; 4]>,
}

/// What was typed.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingFlags {
    pub(crate) bind: Option<String>,
    pub(crate) slots: Option<String>,
}

impl Settings {
    /// Resolves all settings for a command that runs in `folder`.
    ///
    /// # Errors
    /// When a key is unknown or a value is not what its key takes; says where it stands.
    pub(crate) fn resolve(folder: &Path, flags: &SettingFlags) -> Result<Self> {
        check_environment()?;
        let mut from = Sources { file: ConfigFile::nearest(folder)?, rows: Vec::new() };
        let bind = from.typed(&BIND, ("--bind", flags.bind.as_deref()), |text| {
            text.parse().map_err(|_| "is not an address and port, such as 127.0.0.1:7070".into())
        })?;
        let slots = from.typed(&SLOTS, ("--slots", flags.slots.as_deref()), slots)?;
        let queues = from.value(&QUEUES, queues)?;
        let python = from.path(&PYTHON)?;
        let pass_env = from.value(&PASS_ENV, names)?;
        let log_bytes = from.value(&LOG_BYTES, |text| bytes(text, 1 << 20, 1 << 40))?;
        let retention = Retention {
            days: from.value(&DAYS, |text| count_or_none(text, 36_500))?,
            runs: from.value(&RUNS, |text| count_or_none(text, 1_000_000_000))?,
            ..Retention::default()
        };
        let output = from.bytes(&OUTPUT, 1 << 10, 1 << 30)?;
        let limits = Limits {
            language: ork_core::lang::Limits {
                bytes: from.bytes(&FILE, 1 << 10, 64 << 20)?,
                nesting: from.count(&NESTING, 128)?,
                expansion: from.count(&EXPANSION, 1_000)?,
                tasks: from.count(&TASKS, 20_000)?,
            },
            bundle: from.bytes(&BUNDLE, 1 << 10, 1 << 30)?,
            artifact: from.bytes(&ARTIFACT, 1 << 10, 1 << 40)? as u64,
            body: from.bytes(&BODY, 1 << 10, 256 << 20)?,
            connections: from.count(&CONNECTIONS, 1_000_000)?,
            streams: from.count(&STREAMS, 1_000_000)?,
            ..Limits::default()
        };
        let pending = from.count(&PENDING, 1_000_000)?;
        Ok(Self {
            bind,
            slots,
            queues,
            python,
            pass_env,
            output,
            log_bytes,
            retention,
            limits,
            pending,
            rows: from.rows,
        })
    }

    /// Every key with its value, where it comes from, and what it is for.
    pub(crate) fn rows(&self) -> Vec<[String; 4]> {
        self.rows.clone()
    }
}

/// Where values come from, and what was taken of them so far.
struct Sources {
    file: Option<ConfigFile>,
    rows: Vec<[String; 4]>,
}

type Parsed<T> = std::result::Result<T, String>;

impl Sources {
    fn value<T>(&mut self, key: &Key, read: impl FnOnce(&str) -> Parsed<T>) -> Result<T> {
        self.typed(key, ("", None), read)
    }

    fn bytes(&mut self, key: &Key, least: u64, most: u64) -> Result<usize> {
        self.value(key, |text| {
            let bytes = bytes(text, least, most)?;
            usize::try_from(bytes).map_err(|_| "is more than this machine can count".to_owned())
        })
    }

    fn count(&mut self, key: &Key, most: usize) -> Result<usize> {
        self.value(key, |text| number(text, 1, most))
    }

    fn typed<T>(
        &mut self,
        key: &Key,
        flag: (&'static str, Option<&str>),
        read: impl FnOnce(&str) -> Parsed<T>,
    ) -> Result<T> {
        let (text, origin) = self.pick(key, flag);
        let value = read(&text).map_err(|wrong| {
            Failure::usage(format!("{} ({origin}): `{text}` {wrong}", key.name))
        })?;
        self.rows.push([key.name.to_owned(), text, origin.to_string(), key.about.to_owned()]);
        Ok(value)
    }

    /// A program: a relative path is seen from the file that has it, a bare name is looked for on
    /// `PATH`.
    fn path(&mut self, key: &Key) -> Result<Option<PathBuf>> {
        let base = match self.pick(key, ("", None)).1 {
            Origin::File(file) => file.parent().map(Path::to_path_buf),
            _ => std::env::current_dir().ok(),
        };
        self.value(key, |text| {
            Ok(match text {
                "" => None,
                text if text.contains('/') => Some(base.unwrap_or_default().join(text)),
                text => Some(on_path(text).unwrap_or_else(|| text.into())),
            })
        })
    }

    fn pick(&self, key: &Key, flag: (&'static str, Option<&str>)) -> (String, Origin) {
        if let (name, Some(value)) = flag {
            return (value.to_owned(), Origin::Flag(name));
        }
        for name in std::iter::once(key.env).chain(key.also.iter().copied()) {
            if let Ok(value) = std::env::var(name) {
                return (value, Origin::Environment(name));
            }
        }
        let in_file = self.file.as_ref().and_then(|file| Some((file, file.values.get(key.name)?)));
        if let Some((file, value)) = in_file {
            return (value.clone(), Origin::File(file.path.clone()));
        }
        let default = if key.name == SLOTS.name { default_slots() } else { key.default.to_owned() };
        (default, Origin::Default)
    }
}

fn default_slots() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (SLOTS_PER_CORE * cores).to_string()
}

fn slots(text: &str) -> Parsed<u32> {
    number(text, 1, 10_000)
}

#[expect(clippy::needless_pass_by_value, reason = "plain numbers")]
fn number<T>(text: &str, least: T, most: T) -> Parsed<T>
where
    T: std::str::FromStr + PartialOrd + fmt::Display,
{
    let number = text.parse().ok().filter(|number| (&least..=&most).contains(&number));
    number.ok_or_else(|| format!("is not a number from {least} to {most}"))
}

fn count_or_none(text: &str, most: u64) -> Parsed<Option<u64>> {
    match text {
        "none" | "0" => Ok(None),
        text => number(text, 1, most).map(Some).map_err(|wrong| wrong + ", or `none`"),
    }
}

fn bytes(text: &str, least: u64, most: u64) -> Parsed<u64> {
    let bytes = size(text).map_err(|wrong| format!("is not a size: {wrong}"))?;
    if (least..=most).contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("is not from {least} to {most} bytes"))
}

fn names(text: &str) -> Parsed<Vec<String>> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<_> = names.map(str::to_owned).collect();
    match names.iter().find(|name| name.contains(['=', '\0', ' '])) {
        Some(wrong) => Err(format!("has `{wrong}`, which is no variable's name")),
        None => Ok(names),
    }
}

/// What the worker of a server of one's own serves: `default` always, since no other would.
fn queues(text: &str) -> Parsed<Vec<String>> {
    let named = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut queues = vec!["default".to_owned()];
    queues.extend(named.filter(|name| *name != "default").map(str::to_owned));
    match queues.iter().find(|name| *name != EVERY_QUEUE && !is_workflow_name(name)) {
        Some(wrong) => Err(format!("has `{wrong}`, which cannot name a queue")),
        None => Ok(queues),
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// An environment variable that looks like a key but is none would be ignored in silence.
fn check_environment() -> Result<()> {
    let names: Vec<_> = KEYS.iter().map(|key| key.env).collect();
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("ORK_") && name.contains("__") && !names.contains(&name) {
            let failure = Failure::usage(format!("environment: `{name}` is no setting"));
            return Err(failure.hint(suggest::hint(name, &names)));
        }
    }
    Ok(())
}

/// A configuration file, its keys flattened.
struct ConfigFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl ConfigFile {
    /// The `ork.toml` of the folder or of the nearest one above it that has one.
    fn nearest(folder: &Path) -> Result<Option<Self>> {
        let candidates = folder.ancestors().map(|folder| folder.join("ork.toml"));
        let Some(path) = candidates.into_iter().find(|path| path.is_file()) else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(&path).map_err(|error| io(&path, &error))?;
        let table: toml::Table =
            text.parse().map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let mut values = BTreeMap::new();
        flatten("", &table, &mut values);
        let file = Self { path, values };
        file.check()?;
        Ok(Some(file))
    }

    fn check(&self) -> Result<()> {
        let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        let unknown = self.values.keys().find(|key| !names.contains(&key.as_str()));
        let Some(unknown) = unknown else { return Ok(()) };
        let failure = Failure::usage(format!("{}: `{unknown}` is no setting", self.path.display()));
        Err(failure.hint(suggest::hint(unknown, &names)))
    }
}

fn flatten(prefix: &str, table: &toml::Table, values: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, values),
            toml::Value::String(text) => drop(values.insert(name, text.clone())),
            toml::Value::Array(items) => drop(values.insert(name, listed(items))),
            other => drop(values.insert(name, other.to_string())),
        }
    }
}

/// A list as it is written in an environment variable.
fn listed(items: &[toml::Value]) -> String {
    let text = |item: &toml::Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
    items.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(toml: &str, flags: &SettingFlags) -> Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ork.toml"), toml).unwrap();
        Settings::resolve(folder.path(), flags)
    }

    fn origin(settings: &Settings, key: &Key) -> String {
        let row = settings.rows.iter().find(|row| row[0] == key.name).unwrap();
        row[2].clone()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "[server]\nbind = \"127.0.0.1:1\"\n";
        let typed = SettingFlags { bind: Some("127.0.0.1:2".into()), slots: None };
        let settings = resolve(file, &typed).unwrap();
        assert_eq!(settings.bind.port(), 2);
        assert_eq!(origin(&settings, &BIND), "flag --bind");
        assert_eq!(origin(&settings, &SLOTS), "default");
        let settings = resolve(file, &SettingFlags::default()).unwrap();
        assert_eq!(settings.bind.port(), 1);
        assert!(origin(&settings, &BIND).ends_with("ork.toml"));
    }

    #[test]
    fn the_worker_serves_default_and_what_is_named() {
        for (file, expected) in [
            ("", Some(&["default"][..])),
            ("queues = [\"gpu\", \"default\"]", Some(&["default", "gpu"])),
            ("queues = \"*\"", Some(&["default", "*"])),
            ("queues = [\"no good\"]", None),
        ] {
            let settings = resolve(&format!("[worker]\n{file}\n"), &SettingFlags::default());
            let queues = settings.map(|settings| settings.queues).ok();
            let expected: Option<Vec<String>> =
                expected.map(|names| names.iter().map(ToString::to_string).collect());
            assert_eq!(queues, expected, "{file}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_crates() {
        let settings = resolve("", &SettingFlags::default()).unwrap();
        assert_eq!(settings.limits, Limits::default());
        assert_eq!(settings.retention, Retention::default());
        assert_eq!(settings.pending, ork_core::run::Config::default().max_pending);
        assert_eq!(settings.output, ork_worker::MAX_OUTPUT);
        assert_eq!(settings.rows.len(), KEYS.len());
    }

    #[test]
    fn values_of_every_kind() {
        let settings = resolve(
            "[worker]\npython = \"venv/bin/python\"\npass_env = [\"A\", \"B_C\"]\n\
             [logs]\nmax_bytes = \"4Gi\"\n[retention]\ndays = 7\nruns = \"none\"\n\
             [limits]\noutput = \"2Mi\"\nbody = 100_000\n",
            &SettingFlags::default(),
        )
        .unwrap();
        let python = settings.python.unwrap();
        assert!(python.is_absolute() && python.ends_with("venv/bin/python"), "{python:?}");
        assert_eq!(settings.pass_env, ["A", "B_C"]);
        assert_eq!(settings.log_bytes, 4 << 30);
        assert_eq!(
            settings.retention,
            Retention { days: Some(7), runs: None, ..Retention::default() }
        );
        assert_eq!((settings.output, settings.limits.body), (2 << 20, 100_000));
    }

    #[test]
    fn what_is_not_a_setting_is_refused_with_the_nearest() {
        for (toml, part) in [
            ("[server]\nbnd = \"x\"", "did you mean `server.bind`?"),
            ("[worker]\nslots = 0", "`0` is not a number from 1 to 10000"),
            ("[server]\nbind = 7070", "`7070` is not an address and port"),
            ("[logs]\nmax_bytes = \"64m\"", "write `64Mi` or `64M`"),
            ("[logs]\nmax_bytes = 1", "`1` is not from 1048576 to"),
            ("[retention]\ndays = -1", "`-1` is not a number from 1 to 36500, or `none`"),
            ("[worker]\npass_env = [\"A=b\"]", "has `A=b`, which is no variable's name"),
            ("[server", "ork.toml"),
        ] {
            let failure = resolve(toml, &SettingFlags::default()).unwrap_err();
            assert!(failure.message.contains(part), "{toml}: {}", failure.message);
        }
    }
}
