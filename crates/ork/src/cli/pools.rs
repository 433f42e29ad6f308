//! `ork pools`.

use clap::Subcommand;
use ork_api::client::Client;
use ork_api::types::{Part, Pool, SetPool};

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
  ork pools set db 0 --reason 'the database moves'")]
    Set {
        /// The pool
        name: String,
        /// How many slots it has
        slots: u32,
        /// Why, for the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Forgets how many slots a pool has; tasks that name it say so by `of` then
    #[command(after_help = "\
Examples:
  ork pools delete db")]
    Delete {
        /// The pool
        name: String,
    },
}

pub(crate) fn run(global: &Global, command: PoolsCommand) -> Result {
    let format = global.format()?;
    block_on(async {
        let session = Session::open(&global.server, Need::Answers).await?;
        let client = &session.client;
        let outcome = match command {
            PoolsCommand::List => list(client, format).await,
            PoolsCommand::Set { name, slots, reason } => {
                set(client, &name, &SetPool { slots, reason }, format).await
            }
            PoolsCommand::Delete { name } => delete(client, &name).await,
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

async fn set(client: &Client, name: &str, wanted: &SetPool, format: Format) -> Result {
    let pool = client.set_pool(name, wanted).await?;
    output::one(format, &pool, &pool.name, |pool| table(std::slice::from_ref(pool)))?;
    Ok(Exit::Ok)
}

async fn delete(client: &Client, name: &str) -> Result {
    client.delete_pool(name).await?;
    say(format_args!("{name} has no size of its own any more"));
    Ok(Exit::Ok)
}
