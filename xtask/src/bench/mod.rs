//! `cargo xtask bench`: what a task, a run, an idle second and a line of log cost, beside raw
//! baselines measured in the same minute.

// Figures for people: a rounded one is as good.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod baseline;
mod cold;
mod logs;
mod maps;
mod proc;
mod report;
mod runs;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use report::Row;

/// What is measured, and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these rows (W1, W1p, W2, …).
    rows: Vec<String>,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// This binary instead of a fresh release build.
    #[arg(long)]
    ork: Option<PathBuf>,
}

/// What the workloads need.
struct Bench {
    ork: PathBuf,
    repeat: usize,
    scratch: tempfile::TempDir,
}

impl Bench {
    /// A new folder for one workload, with these files.
    fn folder(&self, name: &str, files: &[(&str, String)]) -> Result<PathBuf> {
        let dir = self.scratch.path().join(name);
        std::fs::create_dir_all(&dir)?;
        for (file, content) in files {
            std::fs::write(dir.join(file), content)?;
        }
        Ok(dir)
    }

    /// The median of several measurements.
    fn median(&self, mut once: impl FnMut() -> Result<Duration>) -> Result<Duration> {
        let mut all = (0..self.repeat).map(|_| once()).collect::<Result<Vec<_>>>()?;
        all.sort();
        Ok(all[all.len() / 2])
    }
}

type Workload = fn(&Bench) -> Result<Vec<Row>>;

const WORKLOADS: &[(&str, Workload)] = &[
    ("W1", runs::chain),
    ("W1p", runs::python_chain),
    ("W2", runs::fan),
    ("W3", runs::throughput),
    ("W3l", runs::latency),
    ("W3c", cold::command),
    ("W4", cold::idle),
    ("W5", cold::ready),
    ("W6", maps::noops),
    ("W7", maps::map),
    ("W8", maps::beside),
    ("W10", logs::intake_and_pages),
    ("W11", cold::check),
    ("W12", cold::simulator),
];

/// Measures, prints a table, writes a file, and compares with the last one.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    let ork = match &args.ork {
        Some(path) => path.canonicalize()?,
        None => build(root)?,
    };
    let bench = Bench { ork, repeat: args.repeat.max(1), scratch: tempfile::tempdir()? };
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    let named = |id: &str| args.rows.iter().any(|wanted| wanted == id);
    let wanted = WORKLOADS.iter().filter(|(id, _)| args.rows.is_empty() || named(id));
    for (id, workload) in wanted {
        eprintln!("{id} …");
        match workload(&bench) {
            Ok(measured) => rows.extend(measured),
            Err(error) => failed.push(format!("workload {id}: {error:#}")),
        }
    }
    ensure!(!rows.is_empty() || !failed.is_empty(), "no such row; there are {}", ids());
    // What was measured is told, whatever became of the others.
    let finished = report::finish(root, rows);
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    finished
}

fn ids() -> String {
    WORKLOADS.iter().map(|(id, _)| *id).collect::<Vec<_>>().join(", ")
}

/// The release binary.
fn build(root: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["build", "--release", "--package", "ork"])
        .current_dir(root)
        .status()?;
    ensure!(status.success(), "the release build failed");
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root).no_deps().exec()?;
    Ok(metadata.target_directory.join("release/ork").into_std_path_buf())
}

/// A runtime for driving a server.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
