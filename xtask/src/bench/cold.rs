//! What starting, waiting and checking cost.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ork_api::schedules::ScheduleQuery;

use super::report::Row;
use super::runs::{in_a_row, ms};
use super::server::Server;
use super::{Bench, block_on, proc};

/// `ork run FILE` without a server, from command to exit.
pub(super) fn command(bench: &Bench) -> Result<Vec<Row>> {
    let dir = bench.folder("cold", &[("one.ork.yaml", in_a_row(1, "run: [\"true\"]"))])?;
    timed(Command::new(&bench.ork).args(["run", "one.ork.yaml"]).current_dir(&dir))?;
    let mut all = Vec::new();
    for _ in 0..bench.repeat * 4 {
        all.push(timed(Command::new(&bench.ork).args(["run", "one.ork.yaml"]).current_dir(&dir))?);
    }
    all.sort();
    let median = all[all.len() / 2];
    Ok(vec![Row::at_most("W3c", "ork run one.yaml, command to exit", ms(median), "ms", 15.0)])
}

/// An idle server with 100 workflows, ten of which are scheduled.
pub(super) fn idle(bench: &Bench) -> Result<Vec<Row>> {
    let dir = bench.folder("idle", &[])?;
    for i in 0..100 {
        let yaml = in_a_row(5, "run: [\"true\"]").replace("name: chain", &format!("name: w{i}"));
        let schedule = if i < 10 { "schedules: { s: { cron: \"30 4 * * *\" } }\n" } else { "" };
        std::fs::write(dir.join(format!("w{i}.ork.yaml")), yaml + schedule)?;
    }
    block_on(async {
        let server = Server::start(&bench.ork, &dir).await?;
        server.timed("w99").await?;
        let schedules = server.client.schedules(&ScheduleQuery::default()).await?.items.len();
        ensure!(schedules == 10, "there are {schedules} schedules, and there should be ten");
        let pids = proc::tree(server.pid());
        // What a run leaves to be done (a checkpoint, threads that wait for more) is over by then.
        tokio::time::sleep(Duration::from_secs(15)).await;
        let (cpu, calls, start) = (proc::cpu_ns(&pids), proc::calls(&pids), Instant::now());
        tokio::time::sleep(Duration::from_secs(30)).await;
        let seconds = start.elapsed().as_secs_f64();
        let share = proc::used_ns(&cpu, &proc::cpu_ns(&pids)) as f64 / 1e7 / seconds;
        let calls = (proc::calls(&pids) - calls) as f64 / seconds;
        let pss = proc::pss(&pids)? as f64 / f64::from(1 << 20);
        server.stop()?;
        Ok(vec![
            Row::at_most(
                "W4",
                "idle, 100 workflows, 10 schedules: CPU of a core",
                share,
                "%",
                0.05,
            ),
            Row::at_most("W4", "idle, 100 workflows, 10 schedules: memory (PSS)", pss, "MiB", 25.0),
            Row::at_most(
                "W4",
                "idle, 100 workflows, 10 schedules: reads and writes",
                calls,
                "/s",
                0.0,
            ),
        ])
    })
}

/// From exec to `/readyz` on an existing database, and the binary's size.
pub(super) fn ready(bench: &Bench) -> Result<Vec<Row>> {
    let dir = bench.folder("ready", &[("one.ork.yaml", in_a_row(1, "run: [\"true\"]"))])?;
    let once = || {
        block_on(async {
            let start = Instant::now();
            let server = Server::start(&bench.ork, &dir).await?;
            let took = start.elapsed();
            server.timed("chain").await?;
            server.stop()?;
            Ok(took)
        })
    };
    once()?;
    let took = bench.median(once)?;
    let size = std::fs::metadata(&bench.ork)?.len() as f64 / f64::from(1 << 20);
    Ok(vec![
        Row::at_most("W5", "exec → /readyz, existing database", ms(took), "ms", 25.0),
        Row::at_most("W5", "size of the binary", size, "MiB", 40.0),
    ])
}

/// The check of 1,000 files, and of one with 5,000 tasks.
pub(super) fn check(bench: &Bench) -> Result<Vec<Row>> {
    let many = bench.folder("files", &[])?;
    let yaml = in_a_row(10, "run: [echo, \"${{ run.id }}\"], retries: 2, timeout: 1m");
    for i in 0..1000 {
        let named = yaml.replace("name: chain", &format!("name: w{i}"));
        std::fs::write(many.join(format!("w{i}.ork.yaml")), named)?;
    }
    let mut large = String::from("name: large\ntasks:\n  t0: { run: [\"true\"] }\n");
    for i in 1..5000 {
        writeln!(large, "  t{i}: {{ depends_on: [t{}, t{}], run: [\"true\"] }}", i / 2, i - 1)?;
    }
    let one = bench.folder("large", &[("large.ork.yaml", large)])?;
    let validate =
        |dir: &Path| bench.median(|| timed(Command::new(&bench.ork).arg("validate").arg(dir)));
    Ok(vec![
        Row::at_most("W11", "check of 1,000 files", ms(validate(&many)?), "ms", 1000.0),
        Row::at_most("W11", "check of one file with 5,000 tasks", ms(validate(&one)?), "ms", 50.0),
    ])
}

/// The simulator on one core.
pub(super) fn simulator(_: &Bench) -> Result<Vec<Row>> {
    let time = Duration::from_secs(10);
    let rate = crate::sim::seeds_in(time)? as f64 / time.as_secs_f64();
    Ok(vec![Row::at_least("W12", "simulator, small workflows", rate, "seeds/s", 1000.0)])
}

fn timed(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(start.elapsed())
}
