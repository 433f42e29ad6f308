//! `ork schema`.

use super::Global;
use crate::exit::{Exit, Failure, Result};
use crate::output::{self, Format};

/// The JSON Schema of workflow files, for editors
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork schema > ork.schema.json

An editor with a YAML language server takes it from a file's first line:
  # yaml-language-server: $schema=./ork.schema.json")]
pub(crate) struct SchemaArgs {}

pub(crate) fn run(global: &Global, _: &SchemaArgs) -> Result {
    let schema = ork_core::lang::schema();
    match global.format()? {
        Format::Name => return Err(Failure::usage("-o here is one of json, yaml")),
        Format::Table | Format::Json => output::one(Format::Json, &schema, "", |_| String::new())?,
        Format::Yaml => output::one(Format::Yaml, &schema, "", |_| String::new())?,
    }
    Ok(Exit::Ok)
}
