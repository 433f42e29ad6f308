//! What instances cost that start no process: durable no-op tasks, large maps, and how long small
//! runs wait beside them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::report::Row;
use super::runs::{began, in_a_row, ms};
use super::server::{Server, new_run};
use super::{Bench, block_on, proc};

/// Durable no-op tasks: this many in a workflow, and this many runs of it at once.
const NOOPS: usize = 5_000;
const NOOP_RUNS: usize = 4;

/// The items of the large map, and of the small one for the slope.
const ITEMS: usize = 100_000;
const FEWER: usize = 10_000;

/// Small runs beside the large map, and the rest between two.
const SMALL: usize = 200;
const PACE: Duration = Duration::from_millis(10);

/// Tasks that start no process, as fast as they go.
pub(super) fn noops(bench: &Bench) -> Result<Vec<Row>> {
    let mut yaml = String::from("name: noops\ntasks:\n");
    for i in 0..NOOPS {
        writeln!(yaml, "  t{i}: {{ wait: 0s }}")?;
    }
    let dir = bench.folder("noops", &[("noops.ork.yaml", yaml)])?;
    check(bench, &dir)?;
    let took = block_on(async {
        let server = Server::start(&bench.ork, &dir).await?;
        server.timed("noops").await?;
        let mut all = Vec::new();
        for _ in 0..bench.repeat {
            all.push(at_once(&server, "noops", NOOP_RUNS).await?);
        }
        server.stop()?;
        all.sort();
        Ok(all[all.len() / 2])
    })?;
    let rate = (NOOPS * NOOP_RUNS) as f64 / took.as_secs_f64();
    Ok(vec![Row::at_least("W6", "durable no-op tasks, SQLite", rate, "tasks/s", 20_000.0)])
}

/// One run of 100,000 items, and one of 10,000 for the slope.
pub(super) fn map(bench: &Bench) -> Result<Vec<Row>> {
    let dir = bench.folder("map", &[("many.ork.yaml", mapped("many", ITEMS))])?;
    std::fs::write(dir.join("fewer.ork.yaml"), mapped("fewer", FEWER))?;
    check(bench, &dir)?;
    let fewer = one_map(bench, &dir, "fewer")?.0;
    let (many, peak) = one_map(bench, &dir, "many")?;
    let each = |took: Duration, items: usize| took.as_secs_f64() * 1e6 / items as f64;
    let (slope, base) = (each(many, ITEMS), each(fewer, FEWER));
    Ok(vec![
        Row::at_most("W7", "a map of 100,000 no-op items", many.as_secs_f64(), "s", 8.0),
        Row::at_most("W7", "peak memory of its server", peak, "MiB", 300.0),
        Row::times("W7", "an item of 100,000 beside one of 10,000", slope, "µs", base, 1.1),
    ])
}

/// Small runs while the large map is under way: from the request to the first instruction.
pub(super) fn beside(bench: &Bench) -> Result<Vec<Row>> {
    let small = in_a_row(1, "run: [date, +%s%N]");
    let files = [("many.ork.yaml", mapped("many", ITEMS)), ("one.ork.yaml", small)];
    let dir = bench.folder("beside", &files)?;
    check(bench, &dir)?;
    let mut waits = block_on(async {
        let server = Server::start(&bench.ork, &dir).await?;
        server.deployed("many").await?;
        server.run("chain").await?;
        let mut waits = Vec::new();
        while waits.len() < SMALL {
            let map = server.client.create_run(&new_run("many")).await?.id;
            while waits.len() < SMALL && !server.client.run(map).await?.state.is_terminal() {
                let before = SystemTime::now().duration_since(UNIX_EPOCH)?;
                let run = server.run("chain").await?;
                waits.push(began(&server, run).await?.saturating_sub(before));
                tokio::time::sleep(PACE).await;
            }
        }
        server.stop()?;
        Ok(waits)
    })?;
    waits.sort();
    let p99 = ms(waits[(waits.len() - 1) * 99 / 100]);
    Ok(vec![Row::at_most("W8", "200 small runs beside W7: start, p99", p99, "ms", 20.0)])
}

/// The median of several runs of a map and the most memory that any of their servers had: one
/// server each, so that no run pays for another.
fn one_map(bench: &Bench, dir: &Path, workflow: &str) -> Result<(Duration, f64)> {
    let (mut all, mut most) = (Vec::new(), 0);
    for _ in 0..bench.repeat {
        block_on(async {
            let server = Server::start(&bench.ork, dir).await?;
            all.push(server.timed(workflow).await?);
            most = most.max(proc::peak(server.pid())?);
            server.stop()
        })?;
    }
    all.sort();
    Ok((all[all.len() / 2], most as f64 / f64::from(1 << 20)))
}

/// Several runs of one workflow, from the first request to the last end.
async fn at_once(server: &Server, workflow: &str, runs: usize) -> Result<Duration> {
    let start = Instant::now();
    futures_util::future::try_join_all((0..runs).map(|_| server.run(workflow))).await?;
    Ok(start.elapsed())
}

fn mapped(name: &str, items: usize) -> String {
    format!(
        "name: {name}\nparams: {{ n: {{ type: int, default: {items} }} }}\n\
         tasks:\n  each: {{ for_each: range(params.n), wait: 0s }}\n"
    )
}

/// Refuses workloads whose keys the binary does not know.
fn check(bench: &Bench, dir: &Path) -> Result<()> {
    let mut command = Command::new(&bench.ork);
    command.arg("validate").arg(dir).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "not yet: this binary refuses the workload:\n{said}");
    Ok(())
}
