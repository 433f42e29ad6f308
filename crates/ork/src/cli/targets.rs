//! What a command is given to: one run, or all that a filter finds; and how: in earnest or as a
//! try, and why.

use ork_api::client::Client;
use ork_api::stamp::Stamp;
use ork_api::types::{Preview, RunQuery};
use serde::Serialize;

use crate::exit::{Exit, Failure, Result};
use crate::output::{self, Format, say};

/// Which runs are meant.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only of this workflow
    #[arg(short, long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only of workflows with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Only of workflows with this text in their name, description or tags
    #[arg(short, long, value_name = "TEXT")]
    q: Option<String>,
    /// Only in these states, with commas between
    #[arg(short, long, value_name = "STATES", value_parser = super::runs::states)]
    state: Option<String>,
    /// Only with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only with this trigger, such as manual or schedule:NAME
    #[arg(long, value_name = "TRIGGER")]
    trigger: Option<String>,
    /// Only made at or after this date or time (midnight and UTC where they are left out)
    #[arg(long, value_name = "TIME")]
    since: Option<Stamp>,
    /// Only made before this date or time
    #[arg(long, value_name = "TIME")]
    until: Option<Stamp>,
}

/// `KEY=VALUE`.
pub(crate) fn label(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it is not KEY=VALUE".to_owned()),
    }
}

impl Filter {
    pub(crate) fn query(self) -> RunQuery {
        RunQuery {
            workflow: self.workflow,
            tag: self.tag,
            q: self.q,
            state: self.state,
            trigger: self.trigger,
            created_after: self.since,
            created_before: self.until,
            labels: self.labels,
            ..RunQuery::default()
        }
    }

    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.clone().query() == RunQuery::default()
    }
}

/// What a command on runs is given to.
#[derive(Clone, Debug)]
pub(crate) enum Whom {
    /// A run as it was typed.
    One(String),
    /// All runs that a filter finds.
    Many(Box<RunQuery>),
}

impl Whom {
    /// The run that is named, or those of the filter: the one or the other.
    pub(crate) fn of(run: Option<String>, filter: Filter) -> Result<Self> {
        match (run, filter.is_empty()) {
            (Some(run), true) => Ok(Self::One(run)),
            (None, false) => Ok(Self::Many(Box::new(filter.query()))),
            (None, true) => {
                Err(Failure::usage("name a run, or give --workflow, --state, --label or --since"))
            }
            (Some(_), false) => {
                Err(Failure::usage("name a run or give a filter such as --workflow, not both"))
            }
        }
    }

    /// The same where the run stands before `N` other words, and is left out beside a filter.
    pub(crate) fn before<const N: usize>(
        mut words: Vec<String>,
        filter: Filter,
    ) -> Result<(Self, [String; N])> {
        let run = (words.len() > N).then(|| words.remove(0));
        let whom = Self::of(run, filter)?;
        let rest = words.try_into().map_err(|_| Failure::usage("a word is missing"))?;
        Ok((whom, rest))
    }
}

/// Whether a command is only tried, and why it is given.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct How {
    /// Tell what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// Tells what a command would change: `of` is the path of what it is given to, `verb` the last
/// part of its path, and `body` what it takes.
pub(crate) async fn tried<T: Serialize>(
    client: &Client,
    of: &[&str],
    (verb, body): (&str, &T),
    format: Format,
) -> Result {
    let preview = client.preview_of(of, verb, body).await?;
    show(&preview, of.last().copied().unwrap_or_default(), format)
}

/// Shows what a command would change.
pub(crate) fn show(preview: &Preview, name: &str, format: Format) -> Result {
    output::one(format, preview, name, super::operate::changes)?;
    if preview.changes.is_empty() {
        say("nothing would change");
    }
    Ok(Exit::Ok)
}
