//! What logs cost: 1 GiB from one task, and pages of a log of 10,000,000 lines.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ork_api::types::LogQuery;

use super::baseline::{LOG_LINE, cat_to_file};
use super::report::Row;
use super::server::Server;
use super::{Bench, block_on, proc};

const BYTES: u64 = 1 << 30;
const LINES: u64 = 10_000_000;

/// Intake of 1 GiB, memory meanwhile, then the end, a filter and a seek in 10,000,000 lines.
pub(super) fn intake_and_pages(bench: &Bench) -> Result<Vec<Row>> {
    let yaml = format!(
        "name: flood\ntasks:\n  write: {{ run: {{ shell: \"yes '{LOG_LINE}' | head -c {BYTES}\", with: sh }} }}\n"
    );
    let count = format!("name: count\ntasks:\n  write: {{ run: [seq, \"{LINES}\"] }}\n");
    let dir = bench.folder("logs", &[("flood.ork.yaml", yaml), ("count.ork.yaml", count)])?;
    let base = cat_to_file(&dir, BYTES)?;
    block_on(async {
        let server =
            Server::start_with(&bench.ork, &dir, &[("ORK_LOGS__MAX_BYTES", "4Gi")]).await?;
        let before = proc::peak(server.pid())?;
        let took = server.timed("flood").await?;
        let memory = (proc::peak(server.pid())? - before) as f64 / f64::from(1 << 20);
        let mut intake = Row::at_least("W10", "intake of 1 GiB", rate(took), "MiB/s", 100.0);
        intake.baseline = Some(rate(base));
        let mut rows = vec![intake, Row::at_most("W10", "memory while at it", memory, "MiB", 64.0)];
        rows.extend(pages(&server).await?);
        server.stop()?;
        Ok(rows)
    })
}

async fn pages(server: &Server) -> Result<Vec<Row>> {
    server.deployed("count").await?;
    let run = server.run("count").await?;
    let wanted = [
        ("the last 200 lines", LogQuery { tail: Some(200), ..LogQuery::default() }, "10000000"),
        (
            "a seek to the middle",
            LogQuery { after: Some(LINES / 2), ..LogQuery::default() },
            "5000001",
        ),
        (
            "a filter from the middle",
            LogQuery {
                after: Some(LINES / 2),
                q: Some("777777".into()),
                limit: Some(1),
                ..LogQuery::default()
            },
            "5777777",
        ),
    ];
    let mut rows = Vec::new();
    for (what, query, expected) in wanted {
        let start = Instant::now();
        let mut part = server.client.logs(run, "write", &query).await?;
        let mut longest = start.elapsed();
        // A search stops after a while, says how far it got, and goes on from there.
        while part.lines.is_empty() && !part.complete {
            let next = LogQuery { after: Some(part.scanned_to), ..query.clone() };
            let start = Instant::now();
            part = server.client.logs(run, "write", &next).await?;
            longest = longest.max(start.elapsed());
        }
        let found = part.lines.iter().any(|line| line.text == expected);
        ensure!(found, "{what}: {expected} is not among {} lines", part.lines.len());
        rows.push(Row::at_most("W10", what, longest.as_secs_f64() * 1e3, "ms", 100.0));
    }
    Ok(rows)
}

fn rate(took: Duration) -> f64 {
    BYTES as f64 / f64::from(1 << 20) / took.as_secs_f64()
}
