//! `ork schema`.

use crate::exit::{Exit, Result};
use crate::output;

/// The JSON Schema of workflow files, for editors
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork schema > ork.schema.json

An editor with a YAML language server takes it from a file's first line:
  # yaml-language-server: $schema=./ork.schema.json")]
pub(crate) struct SchemaArgs {}

pub(crate) fn run(_: &SchemaArgs) -> Result {
    let schema = ork_core::lang::schema();
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    output::write(&(text + "\n"))?;
    Ok(Exit::Ok)
}
