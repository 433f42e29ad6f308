//! `ork config`.

use std::path::Path;

use clap::Subcommand;

use super::Global;
use crate::exit::{Exit, Result};
use crate::output;
use crate::settings::{SettingFlags, Settings};

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Every setting with its value and where it comes from
    #[command(after_help = "\
Every key of ork.toml can be given by an environment variable too: `server.bind` is
ORK_SERVER__BIND. A flag wins over the environment, the environment over the file.

Examples:
  ork config show
  ork config show -o json
  ORK_WORKER__SLOTS=8 ork config show")]
    Show,
}

pub(crate) fn run(global: &Global, command: &ConfigCommand) -> Result {
    let ConfigCommand::Show = command;
    let here = crate::files::absolute(Path::new("."))?;
    let mut rows = global.server.rows(&here);
    rows.extend(Settings::resolve(&here, &SettingFlags::default())?.rows());
    let items: Vec<_> = rows.into_iter().map(Item::from).collect();
    output::list(
        global.format()?,
        &items,
        |item| item.key.clone(),
        |items| {
            let rows = items.iter().map(|item| {
                vec![item.key.clone(), item.value.clone(), item.origin.clone(), item.about.clone()]
            });
            output::table(&["KEY", "VALUE", "FROM", "WHAT"], rows)
        },
    )?;
    Ok(Exit::Ok)
}

#[derive(serde::Serialize)]
struct Item {
    key: String,
    value: String,
    origin: String,
    about: String,
}

impl From<[String; 4]> for Item {
    fn from([key, value, origin, about]: [String; 4]) -> Self {
        Self { key, value, origin, about }
    }
}
