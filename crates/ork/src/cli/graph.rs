//! `ork graph`.

use std::path::PathBuf;

use ork_core::plan::Plan;
use serde::Serialize;

use super::{Global, validate};
use crate::exit::{Exit, Result};
use crate::files::WorkflowFile;
use crate::output;

/// A workflow's graph: as text, Mermaid or DOT
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork graph etl.yaml
  ork graph etl.yaml --as mermaid >> README.md
  ork graph etl.yaml --as dot | dot -Tsvg > etl.svg
  ork graph etl.yaml -o json      tasks and their upstreams")]
pub(crate) struct GraphArgs {
    /// The workflow's file
    file: PathBuf,
    /// The notation
    #[arg(long = "as", value_enum, default_value = "text", value_name = "NOTATION")]
    notation: Notation,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Notation {
    Text,
    Mermaid,
    Dot,
}

pub(crate) fn run(global: &Global, args: &GraphArgs) -> Result {
    let format = global.format()?;
    let file = WorkflowFile::read(&args.file)?;
    let Some(plan) = &file.compiled.plan else {
        validate::show(&file);
        return Ok(Exit::Failed);
    };
    let notation = match args.notation {
        Notation::Text => ork_core::lang::GraphFormat::Text,
        Notation::Mermaid => ork_core::lang::GraphFormat::Mermaid,
        Notation::Dot => ork_core::lang::GraphFormat::Dot,
    };
    let name = |task: &Node| task.path.clone();
    output::list(format, &nodes(plan), name, |_| ork_core::lang::graph(plan, notation))?;
    Ok(Exit::Ok)
}

/// A task in the graph, for programs.
#[derive(Serialize)]
struct Node {
    path: String,
    executor: String,
    upstreams: Vec<String>,
}

/// The tasks in the order of the file; those of `finally` last.
fn nodes(plan: &Plan) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (scope, prefix) in [(&plan.body, ""), (&plan.finally, "finally/")] {
        let path = |at: usize| format!("{prefix}{}", scope.tasks[at].name);
        nodes.extend(scope.tasks.iter().enumerate().map(|(at, task)| Node {
            path: path(at),
            executor: task.action.word().to_owned(),
            upstreams: task.upstreams.iter().map(|up| path(*up)).collect(),
        }));
    }
    nodes
}
