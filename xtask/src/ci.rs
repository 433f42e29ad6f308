//! The gate. CI runs exactly this.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;

use crate::{tidy, tools};

/// A step of the gate, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Step {
    /// `cargo fmt --check`.
    Fmt,
    /// Our own walls.
    Tidy,
    /// Licences, bans and sources of dependencies.
    Deny,
    /// Clippy over every target; warnings are errors.
    Clippy,
    /// Unit and integration tests.
    Test,
    /// Examples in documentation comments.
    Doctest,
    /// Documentation; warnings are errors.
    Doc,
}

/// Runs the steps in `only`, or all of them, and prints how each went and how long it took. A
/// failed step does not keep the later ones from running.
///
/// # Errors
/// When a step failed.
pub(crate) fn run(root: &Path, only: &[Step]) -> anyhow::Result<()> {
    let chosen = Step::value_variants().iter().filter(|s| only.is_empty() || only.contains(s));
    let outcomes: Vec<_> = chosen.map(|step| timed(root, *step)).collect();
    println!();
    for (step, took, outcome) in &outcomes {
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!(
            "{:>8}  {:<7} {:.1} s",
            format!("{step:?}").to_lowercase(),
            word,
            took.as_secs_f64()
        );
    }
    let failed = outcomes.iter().filter(|(_, _, outcome)| outcome.is_err()).count();
    if failed > 0 {
        bail!("{failed} of {} steps failed", outcomes.len());
    }
    Ok(())
}

fn timed(root: &Path, step: Step) -> (Step, Duration, anyhow::Result<()>) {
    println!("\n── {} ──", format!("{step:?}").to_lowercase());
    let began = Instant::now();
    let outcome = step.run(root);
    if let Err(error) = &outcome {
        eprintln!("{error:#}");
    }
    (step, began.elapsed(), outcome)
}

impl Step {
    fn run(self, root: &Path) -> anyhow::Result<()> {
        match self {
            Self::Fmt => cargo(root, &["fmt", "--all", "--check"]),
            Self::Tidy => tidy::run(root),
            Self::Deny => deny(root),
            Self::Clippy => cargo(
                root,
                &["clippy", "--workspace", "--all-targets", "--locked", "--", "-Dwarnings"],
            ),
            Self::Test => test(root),
            Self::Doctest => cargo(root, &["test", "--workspace", "--locked", "--doc", "--quiet"]),
            Self::Doc => doc(root),
        }
    }
}

fn cargo(root: &Path, args: &[&str]) -> anyhow::Result<()> {
    succeed(Command::new("cargo").args(args).current_dir(root))
}

fn test(root: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(tools::CARGO_NEXTEST.path(root)?);
    command.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    succeed(command.current_dir(root))
}

fn doc(root: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command.args(["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"]);
    succeed(command.env("RUSTDOCFLAGS", "-Dwarnings").current_dir(root))
}

fn deny(root: &Path) -> anyhow::Result<()> {
    let program = tools::CARGO_DENY.path(root)?;
    let args = [
        "--workspace",
        "--locked",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ];
    succeed(Command::new(program).args(args).current_dir(root))
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
