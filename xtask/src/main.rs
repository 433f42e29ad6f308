//! Ork's own chores: `cargo xtask ci` is the gate, the other commands are its parts and what is
//! too long for it.

mod bench;
mod chance;
mod ci;
mod fuzz;
mod sim;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;

/// Ork's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_version_flag = true)]
enum Chore {
    /// The gate: format, lints, tidy, tests, documentation, licences.
    Ci {
        /// Only these steps.
        #[arg(value_enum)]
        only: Vec<ci::Step>,
    },
    /// The walls that no compiler sees.
    Tidy,
    /// Measures what a task, a run, an idle second and a line of log cost, beside raw baselines.
    Bench(bench::Args),
    /// Does harm to real files and holds the language to its promises, seed after seed.
    Fuzz(fuzz::Options),
    /// Simulates the machine and the engine in bad weather, seed after seed.
    Sim(sim::Options),
}

fn main() -> anyhow::Result<()> {
    let root = root()?;
    match Chore::parse() {
        Chore::Ci { only } => ci::run(&root, &only),
        Chore::Tidy => tidy::run(&root),
        Chore::Bench(args) => bench::run(&root, &args),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Sim(options) => sim::run(&options),
    }
}

/// The workspace's folder.
fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).context("xtask has no parent folder")
}
