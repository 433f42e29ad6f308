//! The simulator: the real machine and the real engine core in a world that one seed decides.

mod chance;
mod judge;
mod plans;
mod store;
#[cfg(test)]
mod tests;
mod workers;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::bail;
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
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = options.seed {
        let problems = simulate(seed, &Config::default(), options.trace);
        return report(seed, &problems);
    }
    let start = Instant::now();
    let mut seed = options.from;
    while start.elapsed() < Duration::from_secs(options.seconds) {
        report(seed, &simulate(seed, &Config::default(), options.trace))?;
        seed += 1;
    }
    let count = seed - options.from;
    let rate = count.checked_div(start.elapsed().as_secs().max(1)).unwrap_or(0);
    println!("{count} seeds, {rate} seeds/s on one core, no problem");
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
