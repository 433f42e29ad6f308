//! What tasks and runs cost: chains, fans, many runs, and the wait before a task begins.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use ork_api::client::StreamedItem;
use ork_api::types::{LogQuery, RunQuery};
use ork_core::run::{EventKind, RunState};

use super::report::Row;
use super::server::{Server, new_run};
use super::{Bench, baseline, block_on};

/// One run, 40 × `true` in a row.
pub(super) fn chain(bench: &Bench) -> Result<Vec<Row>> {
    let dir = bench.folder("chain", &[("chain.ork.yaml", in_a_row(40, "run: [\"true\"]"))])?;
    let base = bench.median(|| baseline::make_chain(&dir, 40))?;
    let took = repeated(bench, &dir, "chain")?;
    Ok(vec![Row::times("W1", "40 × true in a row", ms(took), "ms", ms(base), 2.5)])
}

/// One run, 40 Python functions in a row.
pub(super) fn python_chain(bench: &Bench) -> Result<Vec<Row>> {
    let code = "def task() -> int:\n    return fib(10)\n\n\ndef fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n";
    let files =
        [("chain.ork.yaml", in_a_row(40, "python: fib.py:task")), ("fib.py", code.to_owned())];
    let dir = bench.folder("python", &files)?;
    let base = bench.median(|| baseline::cold_interpreters(40))?;
    // A server of its own for each, so that the start of the warm parent counts.
    let took = bench.median(|| {
        block_on(async {
            let server = Server::start(&bench.ork, &dir).await?;
            let took = server.timed("chain").await?;
            server.stop()?;
            Ok(took)
        })
    })?;
    Ok(vec![Row::times("W1p", "40 Python functions in a row", ms(took), "ms", ms(base), 0.15)])
}

/// One run, 1 → 1,000 → 1.
pub(super) fn fan(bench: &Bench) -> Result<Vec<Row>> {
    let mut yaml = String::from("name: fan\ntasks:\n  first: { run: [\"true\"] }\n");
    let mut names = String::new();
    for i in 0..1000 {
        writeln!(yaml, "  t{i}: {{ depends_on: first, run: [\"true\"] }}")?;
        write!(names, "t{i}, ")?;
    }
    writeln!(yaml, "  last: {{ depends_on: [{names}], run: [\"true\"] }}")?;
    let dir = bench.folder("fan", &[("fan.ork.yaml", yaml)])?;
    let base = bench.median(|| baseline::xargs(&dir, 1002))?;
    let took = repeated(bench, &dir, "fan")?;
    Ok(vec![Row::times("W2", "1 → 1,000 × true → 1", ms(took), "ms", ms(base), 1.0 / 0.75)])
}

/// 500 one-task runs through the API, until all are done.
pub(super) fn throughput(bench: &Bench) -> Result<Vec<Row>> {
    let dir = bench.folder("many", &[("one.ork.yaml", in_a_row(1, "run: [\"true\"]"))])?;
    let base = bench.median(|| baseline::xargs(&dir, 500))?;
    let took = block_on(async {
        let server = Server::start(&bench.ork, &dir).await?;
        let mut all = Vec::new();
        for _ in 0..bench.repeat {
            all.push(many(&server, 500).await?);
        }
        server.stop()?;
        all.sort();
        Ok(all[all.len() / 2])
    })?;
    let rate = 500.0 / took.as_secs_f64();
    let mut row = Row::at_least("W3", "one-task runs through the API", rate, "runs/s", 1000.0);
    row.baseline = Some(500.0 / base.as_secs_f64());
    Ok(vec![row])
}

/// Requests over 8 connections; the stream says when all have ended.
async fn many(server: &Server, n: usize) -> Result<Duration> {
    server.deployed("chain").await?;
    let mut events = server.client.events(&["project:default".to_owned()], None).await?;
    let start = Instant::now();
    let asking = (0..8).map(|_| async {
        for _ in 0..n.div_ceil(8) {
            server.client.create_run(&new_run("chain")).await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    let (asked, ended) = tokio::join!(futures_util::future::try_join_all(asking), async {
        let mut left = n.div_ceil(8) * 8;
        while left > 0 {
            if let StreamedItem::Event(event) = events.next().await?.item
                && let EventKind::RunFinished { state, .. } = event.data
            {
                ensure!(state == RunState::Success, "a run ended as {state:?}");
                left -= 1;
            }
        }
        Ok(())
    });
    asked?;
    ended?;
    Ok(start.elapsed().mul_f64(n as f64 / (n.div_ceil(8) * 8) as f64))
}

/// Paced single runs: from the request to the first instruction of the task.
pub(super) fn latency(bench: &Bench) -> Result<Vec<Row>> {
    let dir = bench.folder("latency", &[("one.ork.yaml", in_a_row(1, "run: [date, +%s%N]"))])?;
    let base = bench.median(baseline::process_start)?;
    let mut waits = block_on(async {
        let server = Server::start(&bench.ork, &dir).await?;
        server.deployed("chain").await?;
        let mut waits = Vec::new();
        for _ in 0..bench.repeat * 60 {
            let before = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let run = server.run("chain").await?;
            waits.push(began(&server, run).await?.saturating_sub(before));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let listed =
            server.client.runs(&RunQuery { limit: Some(1), ..RunQuery::default() }).await?;
        ensure!(!listed.items.is_empty(), "the runs are not listed");
        server.stop()?;
        Ok(waits)
    })?;
    waits.sort();
    let at = |share: f64| ms(waits[((waits.len() - 1) as f64 * share) as usize]);
    let mut median = Row::at_most("W3l", "request → first instruction, p50", at(0.5), "ms", 2.0);
    median.baseline = Some(ms(base));
    Ok(vec![median, Row::at_most("W3l", "request → first instruction, p99", at(0.99), "ms", 5.0)])
}

/// When the task says that it began.
pub(super) async fn began(server: &Server, run: ork_core::ids::RunId) -> Result<Duration> {
    let part = server.client.logs(run, "t0", &LogQuery::default()).await?;
    let line = part.lines.first().context("the task wrote nothing")?;
    Ok(Duration::from_nanos(line.text.trim().parse()?))
}

/// The median of several runs on one server, after one that does not count.
fn repeated(bench: &Bench, dir: &std::path::Path, workflow: &str) -> Result<Duration> {
    block_on(async {
        let server = Server::start(&bench.ork, dir).await?;
        server.timed(workflow).await?;
        let mut all = Vec::new();
        for _ in 0..bench.repeat {
            all.push(server.timed(workflow).await?);
        }
        server.stop()?;
        all.sort();
        Ok(all[all.len() / 2])
    })
}

/// A workflow `chain` of `n` tasks in a row.
pub(super) fn in_a_row(n: usize, action: &str) -> String {
    let mut yaml = format!("name: chain\ntasks:\n  t0: {{ {action} }}\n");
    for i in 1..n {
        yaml += &[
            "  t",
            &i.to_string(),
            ": { depends_on: t",
            &(i - 1).to_string(),
            ", ",
            action,
            " }\n",
        ]
        .concat();
    }
    yaml
}

pub(super) fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
