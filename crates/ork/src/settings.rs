//! Configuration, resolved once: flag > environment > `ork.toml` > default. One table of keys
//! feeds the file, the environment and `ork config show`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::exit::{Failure, Result, io};
use crate::suggest;

/// A key of `ork.toml`.
struct Key {
    name: &'static str,
    env: &'static str,
    about: &'static str,
}

const BIND: Key =
    Key { name: "server.bind", env: "ORK_SERVER__BIND", about: "where `ork up` listens" };
const SLOTS: Key =
    Key { name: "worker.slots", env: "ORK_WORKER__SLOTS", about: "how many tasks run at a time" };
const KEYS: &[Key] = &[BIND, SLOTS];

/// Where `ork up` listens unless it is told otherwise.
const DEFAULT_BIND: &str = "127.0.0.1:7070";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
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

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// How many tasks run at a time, for each core. Most tasks wait for something else, and while one
/// ends the next is on its way.
const SLOTS_PER_CORE: usize = 4;

/// Everything that can be configured for a server and worker of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where the server listens.
    pub(crate) bind: Setting<SocketAddr>,
    /// How many attempts the worker does at a time.
    pub(crate) slots: Setting<u32>,
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
        let file = ConfigFile::nearest(folder)?;
        let bind = pick(&BIND, ("--bind", flags.bind.as_deref()), file.as_ref(), DEFAULT_BIND);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let default = (SLOTS_PER_CORE * cores).to_string();
        let slots = pick(&SLOTS, ("--slots", flags.slots.as_deref()), file.as_ref(), &default);
        Ok(Self {
            bind: parse(&BIND, bind, "an address and port, such as 127.0.0.1:7070", |_| true)?,
            slots: parse(&SLOTS, slots, "a number from 1 to 10000", |n| (1..=10_000).contains(n))?,
        })
    }

    /// Every key with its value, where it comes from, and what it is for.
    pub(crate) fn rows(&self) -> Vec<[String; 4]> {
        let row = |key: &Key, value: String, origin: &Origin| {
            [key.name.to_owned(), value, origin.to_string(), key.about.to_owned()]
        };
        vec![
            row(&BIND, self.bind.value.to_string(), &self.bind.origin),
            row(&SLOTS, self.slots.value.to_string(), &self.slots.origin),
        ]
    }
}

fn pick(
    key: &Key,
    flag: (&'static str, Option<&str>),
    file: Option<&ConfigFile>,
    default: &str,
) -> Setting<String> {
    if let (name, Some(value)) = flag {
        return Setting { value: value.to_owned(), origin: Origin::Flag(name) };
    }
    if let Ok(value) = std::env::var(key.env) {
        return Setting { value, origin: Origin::Environment(key.env) };
    }
    let in_file = file.and_then(|file| Some((file, file.values.get(key.name)?)));
    in_file.map_or_else(
        || Setting { value: default.to_owned(), origin: Origin::Default },
        |(file, value)| Setting { value: value.clone(), origin: Origin::File(file.path.clone()) },
    )
}

fn parse<T: std::str::FromStr>(
    key: &Key,
    text: Setting<String>,
    wanted: &str,
    accept: impl Fn(&T) -> bool,
) -> Result<Setting<T>> {
    match text.value.parse().ok().filter(accept) {
        Some(value) => Ok(Setting { value, origin: text.origin }),
        None => Err(Failure::usage(format!(
            "{} ({}): `{}` is not {wanted}",
            key.name, text.origin, text.value
        ))),
    }
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
            other => drop(values.insert(name, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(toml: &str, flags: &SettingFlags) -> Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ork.toml"), toml).unwrap();
        Settings::resolve(folder.path(), flags)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "[server]\nbind = \"127.0.0.1:1\"\n";
        let typed = SettingFlags { bind: Some("127.0.0.1:2".into()), slots: None };
        let settings = resolve(file, &typed).unwrap();
        assert_eq!(settings.bind.value.port(), 2);
        assert_eq!(settings.bind.origin, Origin::Flag("--bind"));
        assert_eq!(settings.slots.origin, Origin::Default);
        let settings = resolve(file, &SettingFlags::default()).unwrap();
        assert_eq!(settings.bind.value.port(), 1);
        assert!(matches!(settings.bind.origin, Origin::File(_)));
    }

    #[test]
    fn what_is_not_a_setting_is_refused_with_the_nearest() {
        for (toml, part) in [
            ("[server]\nbnd = \"x\"", "did you mean `server.bind`?"),
            ("[worker]\nslots = 0", "`0` is not a number from 1 to 10000"),
            ("[server]\nbind = 7070", "`7070` is not an address and port"),
            ("[server", "ork.toml"),
        ] {
            let failure = resolve(toml, &SettingFlags::default()).unwrap_err();
            assert!(failure.message.contains(part), "{toml}: {}", failure.message);
        }
    }
}
