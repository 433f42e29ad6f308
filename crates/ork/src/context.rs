//! Which server a command talks to, and the way there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ork_api::client::{Client, ClientError};
use ork_core::run::EVERY_QUEUE;
use ork_server::{ServerFile, StartError};

use crate::exit::{Exit, Failure, Result, io};
use crate::host::{self, Host};
use crate::output::say;
use crate::settings::{SettingFlags, Settings};
use crate::signals::Interrupts;

/// The folder in which a local server keeps its state.
pub(crate) const FOLDER: &str = ".ork";

/// How long a server that holds the folder may take until it can be reached.
const TAKES_OVER: Duration = Duration::from_secs(10);

/// How long one that only answers may hold the folder until its answers are good enough.
const ANSWERS: Duration = Duration::from_secs(1);

/// How long a server of this machine may be silent when it is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(5);

/// How long between two looks at a folder that another process is taking or leaving.
const LOOK: Duration = Duration::from_millis(20);

/// Where to look for a server, as typed or as the environment says.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ServerFlags {
    /// The server's URL (`ORK_SERVER`; else the nearest .ork folder's)
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub(crate) server: Option<String>,
    /// The token to sign in with (`ORK_TOKEN`; else the .ork folder's)
    #[arg(long, global = true, value_name = "TOKEN", help_heading = "Global options")]
    pub(crate) token: Option<String>,
    /// The project (`ORK_PROJECT`; else `default`)
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub(crate) project: Option<String>,
}

impl ServerFlags {
    /// Whether a server is named on the command line.
    pub(crate) fn is_typed(&self) -> bool {
        self.server.is_some()
    }

    fn token(&self) -> Option<String> {
        self.token.clone().or_else(|| variable("ORK_TOKEN"))
    }

    fn project(&self) -> String {
        let named = self.project.clone().or_else(|| variable("ORK_PROJECT"));
        named.unwrap_or_else(|| "default".to_owned())
    }

    /// Each of them for `ork config show`, and where it comes from. No token is shown.
    pub(crate) fn rows(&self, folder: &Path) -> Vec<[String; 4]> {
        let row = |name: &str, flag: Option<&String>, env: &str, about: &str| {
            let (value, origin) = match (flag, variable(env)) {
                (Some(value), _) => (value.clone(), format!("flag --{name}")),
                (None, Some(value)) => (value, format!("environment {env}")),
                (None, None) => (String::new(), "default".to_owned()),
            };
            [name.to_owned(), value, origin, about.to_owned()]
        };
        let mut rows = vec![
            row("server", self.server.as_ref(), "ORK_SERVER", "the server that commands talk to"),
            row("token", self.token.as_ref(), "ORK_TOKEN", "how they sign in"),
            row("project", self.project.as_ref(), "ORK_PROJECT", "the project they mean"),
        ];
        if rows[0][1].is_empty()
            && let Some(found) = nearest(folder)
        {
            rows[0][1] = Place::Local(found).to_string();
            "nearest .ork folder".clone_into(&mut rows[0][2]);
        }
        if !rows[1][1].is_empty() {
            "(not shown)".clone_into(&mut rows[1][1]);
        }
        if rows[2][1].is_empty() {
            "default".clone_into(&mut rows[2][1]);
        }
        rows
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What a command needs of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// One that answers; where none runs, this process opens the state for itself.
    Answers,
    /// One that also does tasks; where none runs, this process does them.
    Works,
    /// One that runs already.
    Runs,
}

/// Where a command's server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder of this machine, absolute.
    Local(PathBuf),
    /// A URL.
    Remote(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(folder) => write!(f, "local ({})", shown(folder)),
            Self::Remote(url) => f.write_str(url),
        }
    }
}

/// A folder as its user sees it from where he stands.
pub(crate) fn shown(folder: &Path) -> String {
    let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_default();
    for (up, base) in here.ancestors().enumerate() {
        if let Ok(rest) = folder.strip_prefix(base) {
            let dots = if up == 0 { "./".to_owned() } else { "../".repeat(up) };
            return format!("{dots}{}", rest.display());
        }
    }
    folder.display().to_string()
}

/// The `.ork` folder of this folder or of the nearest one above it, up to the repository's root.
pub(crate) fn nearest(folder: &Path) -> Option<PathBuf> {
    for folder in folder.ancestors() {
        let candidate = folder.join(FOLDER);
        if candidate.is_dir() {
            return Some(candidate);
        }
        if folder.join(".git").exists() {
            return None;
        }
    }
    None
}

/// The way to a server, open for one command.
pub(crate) struct Session {
    /// The client.
    pub(crate) client: Client,
    /// Where the server is.
    pub(crate) place: Place,
    flags: ServerFlags,
    need: Need,
    host: Option<Host>,
}

impl Session {
    /// Opens the way to the server of the context, and says where that is.
    ///
    /// # Errors
    /// When there is none, or it cannot be reached.
    pub(crate) async fn open(flags: &ServerFlags, need: Need) -> Result<Self> {
        let place = match flags.server.clone().or_else(|| variable("ORK_SERVER")) {
            Some(url) => Place::Remote(url),
            None => Place::Local(nearest(&here()?).ok_or_else(no_server)?),
        };
        Self::at(place, flags, need).await
    }

    /// Opens the way to the nearest local server, whatever the environment says, and makes a
    /// folder for one where there is none. A server that was typed is taken.
    ///
    /// # Errors
    /// When it cannot be reached or opened.
    pub(crate) async fn open_local(flags: &ServerFlags, need: Need) -> Result<Self> {
        let place = match &flags.server {
            Some(url) => Place::Remote(url.clone()),
            None => Place::Local(local_folder()?),
        };
        Self::at(place, flags, need).await
    }

    async fn at(place: Place, flags: &ServerFlags, need: Need) -> Result<Self> {
        let (client, host) = match &place {
            Place::Remote(url) => (remote(url, flags)?, None),
            Place::Local(folder) => local(folder, flags, need).await?,
        };
        say(&place);
        Ok(Self { client, place, flags: flags.clone(), need, host })
    }

    /// Whether this process is the server.
    pub(crate) fn is_host(&self) -> bool {
        self.host.is_some()
    }

    /// After the server went away, or is about to: finds the next one, or becomes it. Only where it
    /// is local.
    ///
    /// # Errors
    /// The error itself where nothing can be done about it.
    pub(crate) async fn reopen(&mut self, error: ClientError) -> Result<()> {
        let Place::Local(folder) = &self.place else { return Err(error.into()) };
        if self.is_host() {
            return Err(error.into());
        }
        let (client, host) = local(folder, &self.flags, self.need).await?;
        (self.client, self.host) = (client, host);
        Ok(())
    }

    /// Ends the command's use of the server. Where this process is the server it first stays
    /// until nothing is under way, unless `leave`. A signal ends it at once.
    pub(crate) async fn close(self, leave: bool) {
        let Some(mut host) = self.host else { return };
        if !leave && self.need == Need::Works {
            stay(&self.client, &mut host).await;
        }
        match Interrupts::new() {
            Ok(mut interrupts) => interrupts.end(host.close()).await,
            Err(_) => host.close().await,
        }
    }
}

/// Stays until nothing is under way, and nothing more can be: what came in at the last moment is
/// done too.
async fn stay(client: &Client, host: &mut Host) {
    while crate::watch::stay(client).await && host.take_work(false).await {
        if crate::watch::is_idle(client).await || !host.take_work(true).await {
            return;
        }
    }
}

fn no_server() -> Failure {
    Failure::new(Exit::Unreachable, "there is no server here")
        .hint("start one with `ork up`, or name one with --server or ORK_SERVER")
}

fn here() -> Result<PathBuf> {
    crate::files::absolute(Path::new("."))
}

/// The nearest `.ork` folder; where there is none, the one that a server here makes.
pub(crate) fn local_folder() -> Result<PathBuf> {
    let here = here()?;
    if let Some(found) = nearest(&here) {
        return Ok(found);
    }
    Ok(here.join(FOLDER))
}

fn remote(url: &str, flags: &ServerFlags) -> Result<Client> {
    let kept = || {
        let folder = nearest(&here().ok()?)?;
        let found = ServerFile::read(&folder).ok()??;
        let same = found.url.trim_end_matches('/') == url.trim_end_matches('/');
        same.then(|| kept_token(&folder))?
    };
    let token = flags.token().or_else(kept);
    let client = Client::http(url, token.as_deref());
    let client = client.map_err(|error| Failure::usage(error.to_string()))?;
    Ok(client.in_project(&flags.project()))
}

/// A client of the folder's server; where none runs, this process becomes it, if that is what
/// the command needs.
async fn local(folder: &Path, flags: &ServerFlags, need: Need) -> Result<(Client, Option<Host>)> {
    let began = tokio::time::Instant::now();
    let mut recruit = None;
    let mut settings = Settings::resolve(folder, &SettingFlags::default())?;
    // No other worker will come for what this command waits for.
    settings.queues = vec![EVERY_QUEUE.to_owned()];
    loop {
        if let Some((client, works)) = running(folder, flags).await?
            && (works || need == Need::Answers && began.elapsed() >= ANSWERS)
        {
            return Ok((client.in_project(&flags.project()), None));
        }
        if need == Need::Runs {
            return Err(Failure::usage("nothing would run it: start `ork up` first"));
        }
        if need == Need::Works && recruit.is_none() {
            recruit = Some(host::recruit());
        }
        match Host::open(folder, host::any_port(), &settings, need == Need::Works).await {
            Ok(mut host) => {
                host.clear(folder).await?;
                if let Some(recruit) = recruit {
                    host.employ(folder, &settings, recruit)?;
                }
                return Ok((host.client().in_project(&flags.project()), Some(host)));
            }
            Err(StartError::Locked { .. }) if began.elapsed() < TAKES_OVER => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A client of the server that the folder says is running, if it is, and whether that does tasks.
async fn running(folder: &Path, flags: &ServerFlags) -> Result<Option<(Client, bool)>> {
    let found =
        ServerFile::read(folder).map_err(|error| io(&folder.join("server.json"), &error))?;
    let Some(found) = found else { return Ok(None) };
    let token = flags.token().or_else(|| kept_token(folder));
    let client = Client::http(&found.url, token.as_deref())?;
    match tokio::time::timeout(SILENCE, client.healthz()).await {
        Ok(answer) => Ok(answer.ok().map(|_| (client, found.works))),
        Err(_) => Err(silent(folder, found.pid)),
    }
}

fn silent(folder: &Path, pid: u32) -> Failure {
    let message = format!(
        "the server of {} (process {pid}) does not answer within {} s",
        shown(folder),
        SILENCE.as_secs()
    );
    Failure::new(Exit::Unreachable, message).hint(format_args!(
        "if it is stopped, `kill -CONT {pid}` lets it go on; `kill -KILL {pid}` ends it, and the \
         next `ork up` goes on with what it left"
    ))
}

/// Takes the folder for `ork up`, after those that hold it only for a moment.
///
/// # Errors
/// See [`Host::open`].
pub(crate) async fn take(folder: &Path, settings: &Settings) -> Result<Host> {
    let began = tokio::time::Instant::now();
    loop {
        match Host::open(folder, settings.bind, settings, true).await {
            Err(StartError::Locked { holder, .. })
                if began.elapsed() < TAKES_OVER && holder.as_ref().is_none_or(|it| !it.works) => {}
            other => return Ok(other?),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The token that the folder's server made at its first start; its owner alone can read it.
fn kept_token(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("token")).ok()?;
    Some(text.trim().to_owned())
}
