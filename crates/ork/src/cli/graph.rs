//! `ork graph`.

use std::path::PathBuf;

use super::validate;
use crate::exit::{Exit, Result};
use crate::files::WorkflowFile;
use crate::output;

/// A workflow's graph: as text, Mermaid or DOT
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork graph etl.yaml
  ork graph etl.yaml --as mermaid >> README.md
  ork graph etl.yaml --as dot | dot -Tsvg > etl.svg")]
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

pub(crate) fn run(args: &GraphArgs) -> Result {
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
    output::write(&ork_core::lang::graph(plan, notation))?;
    Ok(Exit::Ok)
}
