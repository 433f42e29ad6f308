//! `ork artifacts`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use futures_util::StreamExt as _;
use ork_api::client::Client;
use ork_api::types::{Artifact, ArtifactQuery, Part};

use super::{Global, block_on};
use crate::context::{Need, Session};
use crate::exit::{Exit, Failure, Result, io as failed};
use crate::output::{self, Format, say};
use crate::runs::find;
use crate::suggest;

#[derive(Subcommand)]
pub(crate) enum ArtifactsCommand {
    /// The files that the tasks of a run left in `$ORK_ARTIFACTS`, or returned
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  ork artifacts list last
  ork artifacts list 01932b report
  ork artifacts list last report --attempt 1 -o json"
    )]
    List(ListArgs),
    /// Writes one of them to a file here, or to standard output
    #[command(after_help = "\
Examples:
  ork artifacts get last report chart.png
  ork artifacts get last report plots/a.png --to a.png
  ork artifacts get last report rows.csv --to - | head")]
    Get(GetArgs),
}

#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// An id, the beginning of one, or `last`
    run: String,
    /// Of this task alone
    task: Option<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(clap::Args)]
pub(crate) struct GetArgs {
    /// An id, the beginning of one, or `last`
    run: String,
    /// The task
    task: String,
    /// The file's name, as it is listed
    name: String,
    /// Where to write it; `-`: standard output (its own name, in this folder)
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

/// Which attempt is meant.
#[derive(clap::Args)]
struct Which {
    /// The attempt (the newest)
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// The generation (the newest)
    #[arg(long, value_name = "N")]
    generation: Option<u32>,
}

impl Which {
    fn query(&self) -> ArtifactQuery {
        let (generation, attempt) = (self.generation, self.attempt);
        ArtifactQuery { generation, attempt, limit: Some(500), cursor: None }
    }
}

pub(crate) fn run(global: &Global, command: ArtifactsCommand) -> Result {
    block_on(async {
        let session = Session::open(&global.server, Need::Answers).await?;
        let outcome = match command {
            ArtifactsCommand::List(args) => match global.format() {
                Ok(format) => list(&session.client, &args, format).await,
                Err(failure) => Err(failure),
            },
            ArtifactsCommand::Get(args) => match global.no_form() {
                Ok(()) => get(&session.client, &args).await,
                Err(failure) => Err(failure),
            },
        };
        session.close(true).await;
        outcome
    })
}

async fn list(client: &Client, args: &ListArgs, format: Format) -> Result {
    let run = find(client, &args.run).await?;
    let items = match &args.task {
        Some(task) => of_task(client, &run, task, &args.which).await?,
        None if args.which.attempt.or(args.which.generation).is_some() => {
            return Err(Failure::usage("--attempt and --generation are those of one TASK"));
        }
        None => of_run(client, &run).await?,
    };
    output::list(
        format,
        &items,
        |artifact| artifact.name.clone(),
        |items| {
            let rows = items.iter().map(|artifact| {
                let Artifact { path, attempt, name, size, .. } = artifact;
                vec![path.to_string(), attempt.to_string(), size.to_string(), name.clone()]
            });
            output::table(&["TASK", "ATTEMPT", "BYTES", "NAME"], rows)
        },
    )?;
    Ok(Exit::Ok)
}

async fn of_run(client: &Client, run: &ork_api::types::Run) -> Result<Vec<Artifact>> {
    let (mut items, mut part) = (Vec::new(), Part { limit: Some(500), cursor: None });
    loop {
        let page = client.artifacts(run.id, &part).await?;
        items.extend(page.items);
        part.cursor = page.next_cursor;
        if part.cursor.is_none() {
            return Ok(items);
        }
    }
}

async fn of_task(
    client: &Client,
    run: &ork_api::types::Run,
    task: &str,
    which: &Which,
) -> Result<Vec<Artifact>> {
    let (mut items, mut query) = (Vec::new(), which.query());
    loop {
        let page = client.task_artifacts(run.id, task, &query).await?;
        items.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return Ok(items);
        }
    }
}

async fn get(client: &Client, args: &GetArgs) -> Result {
    let run = find(client, &args.run).await?;
    let all = of_task(client, &run, &args.task, &args.which).await?;
    let Some(artifact) = all.iter().find(|artifact| artifact.name == args.name) else {
        let names: Vec<_> = all.iter().map(|artifact| artifact.name.as_str()).collect();
        let message = format!("`{}` left no `{}` in {}", args.task, args.name, run.id);
        let hint = suggest::hint(&args.name, &names);
        return Err(Failure::new(Exit::Refused, message).hint(hint));
    };
    let to = match &args.to {
        Some(to) => to.clone(),
        None => Path::new(&artifact.name).file_name().map(PathBuf::from).unwrap_or_default(),
    };
    if to == Path::new("-") {
        fetch(client, artifact, &mut io::stdout().lock(), &to).await?;
        return Ok(Exit::Ok);
    }
    // What is there already is not lost by a name of somebody else's choice.
    let mut options = std::fs::OpenOptions::new();
    let mut options = options.write(true);
    options = match args.to {
        Some(_) => options.create(true).truncate(true),
        None => options.create_new(true),
    };
    let mut file = options.open(&to).map_err(|error| {
        let failure = failed(&to, &error);
        if args.to.is_none() { failure.hint("say where with `--to FILE`") } else { failure }
    })?;
    fetch(client, artifact, &mut file, &to).await?;
    say(format_args!("{} bytes in {}", artifact.size, to.display()));
    Ok(Exit::Ok)
}

/// Writes what comes, part by part, and sees to it that all has come.
async fn fetch(
    client: &Client,
    artifact: &Artifact,
    to: &mut dyn Write,
    place: &Path,
) -> Result<()> {
    let mut parts = client.blob_stream(&artifact.digest).await?;
    let mut size = 0;
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| {
            Failure::new(Exit::Unreachable, format!("the answer broke off: {error}"))
        })?;
        size += part.len() as u64;
        match to.write_all(&part) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(Failure::new(Exit::Ok, String::new()));
            }
            written => written.map_err(|error| failed(place, &error))?,
        }
    }
    to.flush().map_err(|error| failed(place, &error))?;
    if size != artifact.size {
        let message = format!("{} of {} bytes came; try again", size, artifact.size);
        return Err(Failure::new(Exit::Unreachable, message));
    }
    Ok(())
}
