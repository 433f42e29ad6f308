//! `ork pools`.

use clap::Subcommand;
use ork_api::client::Client;
use ork_api::types::{Part, Pool, Removal, SetPool};

use super::targets::{How, show};
use super::{Global, block_on};
use crate::context::{Need, Session};
use crate::exit::{Exit, Result};
use crate::output::{self, Format, say};

#[derive(Subcommand)]
pub(crate) enum PoolsCommand {
    /// Pools that are declared or in use
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  ork pools list
  ork pools list -o json"
    )]
    List,
    /// Sets how many slots a pool has; attempts that hold some keep them
    #[command(after_help = "\
Examples:
  ork pools set db 4
  ork pools set db 0 --reason 'the database moves'
  ork pools set db 8 --dry-run")]
    Set {
        /// The pool
        name: String,
        /// How many slots it has
        slots: u32,
        #[command(flatten)]
        how: How,
    },
    /// Forgets how many slots a pool has; tasks that name it say so by `of` then
    #[command(after_help = "\
Examples:
  ork pools delete db")]
    Delete {
        /// The pool
        name: String,
        #[command(flatten)]
        how: How,
    },
}

pub(crate) fn run(global: &Global, command: PoolsCommand) -> Result {
    let format = global.format()?;
    block_on(async {
        let session = Session::open(&global.server, Need::Answers).await?;
        let client = &session.client;
        let outcome = match command {
            PoolsCommand::List => list(client, format).await,
            PoolsCommand::Set { name, slots, how } => set(client, &name, slots, how, format).await,
            PoolsCommand::Delete { name, how } => delete(client, &name, how, format).await,
        };
        session.close(true).await;
        outcome
    })
}

async fn list(client: &Client, format: Format) -> Result {
    let mut items: Vec<Pool> = Vec::new();
    let mut part = Part { limit: Some(500), ..Part::default() };
    loop {
        let page = client.pools(&part).await?;
        items.extend(page.items);
        part.cursor = page.next_cursor;
        if part.cursor.is_none() {
            break;
        }
    }
    output::list(format, &items, |pool| pool.name.clone(), table)?;
    Ok(Exit::Ok)
}

fn table(pools: &[Pool]) -> String {
    let rows = pools.iter().map(|pool| {
        let slots = pool.slots.map_or("by task".to_owned(), |slots| slots.to_string());
        vec![pool.name.clone(), slots, pool.used.to_string(), pool.waiting.to_string()]
    });
    output::table(&["POOL", "SLOTS", "USED", "WAITING"], rows)
}

async fn set(client: &Client, name: &str, slots: u32, how: How, format: Format) -> Result {
    let wanted = SetPool { slots, reason: how.reason };
    if how.dry_run {
        return show(&client.preview_pool(name, &wanted).await?, name, format);
    }
    let pool = client.set_pool(name, &wanted).await?;
    output::one(format, &pool, &pool.name, |pool| table(std::slice::from_ref(pool)))?;
    Ok(Exit::Ok)
}

async fn delete(client: &Client, name: &str, how: How, format: Format) -> Result {
    let How { dry_run, reason } = how;
    let preview = client.delete_pool(name, &Removal { dry_run, reason }).await?;
    if dry_run {
        return show(&preview, name, format);
    }
    say(format_args!("{name} has no size of its own any more"));
    Ok(Exit::Ok)
}
