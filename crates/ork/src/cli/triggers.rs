//! `ork triggers`.

use std::fmt::Write as _;

use clap::Subcommand;
use ork_api::client::Client;
use ork_api::problem::Code;
use ork_api::triggers::{Firing, RotateTrigger, Rotated, Trigger, TriggerQuery};
use ork_api::types::Part;
use ork_core::plan::WebhookAuth;
use serde::Serialize;

use super::runs::instant;
use super::schedules::pick;
use super::targets::{How, tried};
use super::{Global, block_on};
use crate::context::{Need, Session};
use crate::exit::{Exit, Result};
use crate::output::{self, Format, say};
use crate::watch::run_word;

/// How many of a trigger's last firings are shown.
const FIRINGS: usize = 10;

#[derive(Subcommand)]
pub(crate) enum TriggersCommand {
    /// Triggers by workflow and name
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  ork triggers list
  ork triggers list --workflow build -o json"
    )]
    List {
        /// Only of this workflow
        #[arg(short, long, value_name = "NAME")]
        workflow: Option<String>,
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// A trigger: a webhook's address, or the last ends of runs that it waited for
    #[command(after_help = "\
Examples:
  ork triggers show build
  ork triggers show build push -o json")]
    Show(Which),
    /// Makes a webhook's secret and shows it, this once; an older one is of no use from then on
    ///
    /// Only the secret goes to standard output, so that it can be piped to where it is kept.
    #[command(after_help = "\
Examples:
  ork triggers rotate build push
  ork triggers rotate build push --reason 'it was in a log'
  ork triggers rotate build push -o json        with the address")]
    Rotate {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
    },
}

/// Which trigger is meant.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// The workflow
    workflow: String,
    /// The trigger (the only one)
    trigger: Option<String>,
}

pub(crate) fn run(global: &Global, command: TriggersCommand) -> Result {
    let format = global.format()?;
    block_on(async {
        let session = Session::open(&global.server, Need::Answers).await?;
        let outcome = go(&session.client, command, format).await;
        session.close(true).await;
        outcome
    })
}

async fn go(client: &Client, command: TriggersCommand, format: Format) -> Result {
    match command {
        TriggersCommand::List { workflow, limit } => {
            let items = triggers(client, workflow, limit as usize).await?;
            let name = |item: &Trigger| format!("{} {}", item.workflow, item.name);
            output::list(format, &items, name, table)?;
        }
        TriggersCommand::Show(which) => {
            let trigger = find(client, &which).await?;
            let part = Part { limit: Some(FIRINGS), cursor: None };
            let firings = client.firings(&trigger.workflow, &trigger.name, &part).await?.items;
            let name = trigger.name.clone();
            output::one(format, &Shown { trigger, firings }, &name, shown)?;
        }
        TriggersCommand::Rotate { which, how: How { dry_run, reason } } => {
            let Trigger { workflow, name, .. } = find(client, &which).await?;
            let rotate = RotateTrigger { reason };
            if dry_run {
                let of = ["triggers", &workflow, &name];
                return tried(client, &of, ("rotate", &rotate), format).await;
            }
            let rotated = client.rotate_trigger(&workflow, &name, &rotate).await?;
            output::one(format, &rotated, &rotated.secret, |it| it.secret.clone() + "\n")?;
            if format == Format::Table {
                say(told(&rotated));
            }
        }
    }
    Ok(Exit::Ok)
}

/// What the secret is for.
fn told(Rotated { workflow, name, url, auth, .. }: &Rotated) -> String {
    let how = match auth {
        WebhookAuth::Hmac => "sign deliveries with it (Standard Webhooks, or X-Hub-Signature-256)",
        WebhookAuth::Token => "send it as `Authorization: Bearer`",
    };
    format!("the secret of {name} of {workflow}; it is shown this once\n{how}, to {url}")
}

/// Up to `limit` triggers, of one workflow or of all.
async fn triggers(client: &Client, workflow: Option<String>, limit: usize) -> Result<Vec<Trigger>> {
    let mut query = TriggerQuery { workflow, ..TriggerQuery::default() };
    let mut items = Vec::new();
    loop {
        query.limit = Some((limit - items.len()).min(500));
        let page = client.triggers(&query).await?;
        items.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() || items.len() >= limit {
            return Ok(items);
        }
    }
}

/// The trigger that is named, or a workflow's only one.
async fn find(client: &Client, which: &Which) -> Result<Trigger> {
    if let Some(name) = &which.trigger {
        match client.trigger(&which.workflow, name).await {
            Err(error) if error.code() == Some(Code::NotFound) => {}
            other => return Ok(other?),
        }
    }
    super::workflows::find(client, &which.workflow).await?;
    let mut items = triggers(client, Some(which.workflow.clone()), 500).await?;
    let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
    let at = pick("trigger", &which.workflow, which.trigger.as_deref(), &names)?;
    Ok(items.swap_remove(at))
}

/// What a trigger waits for, in a few words.
fn waits_for(item: &Trigger) -> String {
    match &item.after {
        Some(workflow) => {
            let states = item.states.iter().map(|state| run_word(*state));
            format!("{workflow}: {}", states.collect::<Vec<_>>().join(", "))
        }
        None if item.has_secret == Some(false) => "a webhook (no secret yet)".to_owned(),
        None => "a webhook".to_owned(),
    }
}

fn table(items: &[Trigger]) -> String {
    let rows = items.iter().map(|item| {
        let url = item.url.clone().unwrap_or_default();
        vec![item.workflow.clone(), item.name.clone(), waits_for(item), url]
    });
    output::table(&["WORKFLOW", "TRIGGER", "WAITS FOR", "URL"], rows)
}

/// A trigger with its last firings.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    trigger: Trigger,
    firings: Vec<Firing>,
}

fn shown(Shown { trigger, firings }: &Shown) -> String {
    let mut text = format!("trigger   {} of {}\n", trigger.name, trigger.workflow);
    let _ = writeln!(text, "waits for {}", waits_for(trigger));
    if let Some(url) = &trigger.url {
        let auth = match trigger.auth {
            Some(WebhookAuth::Token) => "a token",
            _ => "a signature (HMAC-SHA256)",
        };
        let _ = writeln!(text, "url       {url}\nauth      {auth}");
    }
    if let Some(body) = &trigger.body {
        let _ = writeln!(text, "body      {body}");
    }
    if let (Some(by), Some(at)) = (&trigger.rotated_by, trigger.rotated_at) {
        let why = by.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let _ = writeln!(text, "secret    made {} by {}{why}", instant(at), by.name);
    }
    if !trigger.params.is_empty() {
        let _ = writeln!(text, "params    {}", trigger.params.join(", "));
    }
    if trigger.has_secret == Some(false) {
        let (workflow, name) = (&trigger.workflow, &trigger.name);
        let _ =
            writeln!(text, "\nIt takes nothing before `ork triggers rotate {workflow} {name}`.");
    }
    if trigger.after.is_some() {
        let rows = firings.iter().map(|firing| {
            let run = firing.run.map(|run| run.to_string());
            let why = || firing.reason.clone().unwrap_or_else(|| "is being started".to_owned());
            vec![
                firing.source.to_string(),
                run_word(firing.source_state),
                run.unwrap_or_else(why),
                instant(firing.fired_at),
            ]
        });
        let _ = write!(text, "\n{}", output::table(&["AFTER", "ENDED", "RUN", "WHEN"], rows));
    }
    text
}
