//! The simulator: the real machine and the real engine core in a world that one seed decides.

mod judge;
mod plans;
mod store;
#[cfg(test)]
mod tests;
mod workers;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ork_engine::Config;

use world::World;

/// How long and from where.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long to go on.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Go on after a seed that finds something, and tell of each the first thing it found.
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = options.seed {
        let problems = simulate(seed, &Config::default(), options.trace);
        return report(seed, &problems);
    }
    let time = Duration::from_secs(options.seconds);
    if options.all {
        return survey(options.from, time);
    }
    let count = seeds_from(options.from, time)?;
    let rate = count / options.seconds.max(1);
    println!("{count} seeds, {rate} seeds/s on one core, no problem");
    Ok(())
}

/// How many seeds the release build lives through in this time, on one core.
///
/// # Errors
/// A build that fails, and a seed that finds something.
pub(crate) fn seeds_in(time: Duration) -> anyhow::Result<u64> {
    if !cfg!(debug_assertions) {
        return seeds_from(0, time);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--release", "--quiet", "--package", "xtask", "--", "sim", "--seconds"])
        .arg(time.as_secs().to_string())
        .current_dir(crate::root()?)
        .stderr(Stdio::inherit())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the simulator found something: {said}");
    let count = said.split(' ').next().and_then(|count| count.parse().ok());
    count.with_context(|| format!("the simulator said {said:?}"))
}

/// How many seeds are lived through in this time.
///
/// # Errors
/// A seed that finds something.
fn seeds_from(first: u64, time: Duration) -> anyhow::Result<u64> {
    let start = Instant::now();
    let mut seed = first;
    while start.elapsed() < time {
        report(seed, &simulate(seed, &Config::default(), false))?;
        seed += 1;
    }
    Ok(seed - first)
}

/// Lives through seeds for this time, and says what each found first.
fn survey(first: u64, time: Duration) -> anyhow::Result<()> {
    let (start, mut seed, mut broken) = (Instant::now(), first, 0);
    while start.elapsed() < time {
        if let Some(problem) = simulate(seed, &Config::default(), false).first() {
            println!("seed {seed}: {problem}");
            broken += 1;
        }
        seed += 1;
    }
    ensure!(broken == 0, "{broken} of {} seeds found something", seed - first);
    println!("{} seeds, no problem", seed - first);
    Ok(())
}

fn report(seed: u64, problems: &[String]) -> anyhow::Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    for problem in problems {
        println!("seed {seed}: {problem}");
    }
    bail!("replay with: cargo xtask sim --seed {seed} --trace");
}

/// Lives through one seed and says what went wrong.
pub(crate) fn simulate(seed: u64, config: &Config, trace: bool) -> Vec<String> {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, config, trace);
        world.run();
        judge::judge(&mut world);
        world.problems
    }));
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        vec![format!("a panic: {}", text.unwrap_or_default())]
    })
}
