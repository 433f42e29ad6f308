//! `ork up`.

use std::path::{Path, PathBuf};

use tracing_subscriber::EnvFilter;

use super::deploy::Known;
use super::{Global, block_on};
use crate::changes::Changes;
use crate::context::{FOLDER, nearest, shown, take};
use crate::exit::{Exit, Failure, Result};
use crate::files::absolute;
use crate::host::{self, Host};
use crate::output::{is_live, say};
use crate::settings::{SettingFlags, Settings};
use crate::signals::Interrupts;

/// A server and worker here, which deploys and watches every workflow file under a folder
#[derive(clap::Args)]
#[command(after_help = "\
State is kept in the nearest .ork folder, or in a new one. Ctrl-C stops it; what is under way then is
done again at the next start. The server's own warnings go to standard error; ORK_LOG (error, warn,
info, debug, or targets as in ork_server=debug) says which.

Examples:
  ork up
  ork up flows/ --bind 127.0.0.1:8080
  ork up --slots 8")]
pub(crate) struct UpArgs {
    /// The folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Where to listen; port 0 takes a free one (127.0.0.1:7070)
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Option<String>,
    /// How many tasks run at a time (four for each core)
    #[arg(long, value_name = "N")]
    slots: Option<String>,
}

pub(crate) fn run(global: &Global, args: &UpArgs) -> Result {
    if let Some(url) = &global.server.server {
        return Err(Failure::usage(format!(
            "`ork up` starts a server; it cannot be told --server {url}"
        )));
    }
    if !args.folder.is_dir() {
        return Err(Failure::usage(format!("{} is no folder", args.folder.display())));
    }
    let root = absolute(&args.folder)?;
    let flags = SettingFlags { bind: args.bind.clone(), slots: args.slots.clone() };
    let settings = Settings::resolve(&root, &flags)?;
    speak()?;
    let state = nearest(&root).unwrap_or_else(|| root.join(FOLDER));
    block_on(serve(&args.folder, &state, &settings))
}

/// Lets the server and the worker say on standard error what is amiss with themselves.
fn speak() -> Result<()> {
    let words = std::env::var("ORK_LOG").unwrap_or_else(|_| "warn".to_owned());
    let filter = EnvFilter::try_new(&words)
        .map_err(|error| Failure::usage(format!("ORK_LOG: `{words}`: {error}")))?;
    let colours = is_live() && std::env::var_os("NO_COLOR").is_none();
    let said = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    said.with_writer(std::io::stderr).try_init().map_err(|error| Failure::failed(error.to_string()))
}

async fn serve(folder: &Path, state: &Path, settings: &Settings) -> Result {
    let recruit = host::recruit();
    let mut host = take(state, settings).await?;
    host.clear(state).await?;
    host.employ(state, settings, recruit)?;
    // Until here a signal ends the process as it ends any.
    let mut interrupts = Interrupts::new()?;
    say(format_args!("local ({})", shown(state)));
    say(format_args!("listening on {}, token in {}", host.url(), shown(&state.join("token"))));
    let outcome = tokio::select! {
        outcome = keep_deployed(&host, folder) => outcome,
        _ = interrupts.next() => Ok(()),
    };
    say("stopping; once more ends it at once");
    interrupts.end(host.close()).await;
    outcome.map(|()| Exit::Ok)
}

/// Deploys what is there, then what changes.
async fn keep_deployed(host: &Host, folder: &Path) -> Result<()> {
    let (client, mut known, mut changes) = (host.client(), Known::default(), Changes::new()?);
    changes.watch(&[folder.to_owned()])?;
    let mut awaited = known.update(&client, folder).await;
    say("ready; watching for changes");
    loop {
        tokio::select! {
            () = changes.next() => {}
            () = crate::watch::over(&client, awaited.as_ref()) => {}
        }
        if let Err(failure) = changes.watch(&[folder.to_owned()]) {
            say(format_args!("a new folder is not watched: {failure}"));
        }
        awaited = known.update(&client, folder).await;
    }
}
