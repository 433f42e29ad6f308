//! Rows, their table, their file, and the comparison with the last file.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One measured figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The workload.
    pub(crate) id: String,
    /// What was measured.
    pub(crate) what: String,
    /// The figure.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: String,
    /// The raw baseline in the same unit, where there is one.
    pub(crate) baseline: Option<f64>,
    /// What is to be reached, in words.
    pub(crate) target: String,
    /// Whether it was.
    pub(crate) met: bool,
}

impl Row {
    /// A figure that is to be at most `limit`.
    pub(crate) fn at_most(id: &str, what: &str, value: f64, unit: &str, limit: f64) -> Self {
        let target = format!("≤ {} {unit}", short(limit));
        Self::new(id, what, value, unit, target, value <= limit)
    }

    /// A figure that is to be at least `limit`.
    pub(crate) fn at_least(id: &str, what: &str, value: f64, unit: &str, limit: f64) -> Self {
        let target = format!("≥ {} {unit}", short(limit));
        Self::new(id, what, value, unit, target, value >= limit)
    }

    /// A figure that is to be at most `factor` times the baseline.
    pub(crate) fn times(
        id: &str,
        what: &str,
        value: f64,
        unit: &str,
        base: f64,
        factor: f64,
    ) -> Self {
        let target = format!("≤ {factor} × baseline");
        Self {
            baseline: Some(base),
            ..Self::new(id, what, value, unit, target, value <= base * factor)
        }
    }

    fn new(id: &str, what: &str, value: f64, unit: &str, target: String, met: bool) -> Self {
        Self {
            id: id.into(),
            what: what.into(),
            value,
            unit: unit.into(),
            baseline: None,
            target,
            met,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Results {
    commit: String,
    machine: String,
    rustc: String,
    rows: Vec<Row>,
}

/// Prints the rows beside the last ones, and writes them to `bench/results/COMMIT.json`.
pub(crate) fn finish(root: &Path, rows: Vec<Row>) -> Result<()> {
    let folder = root.join("bench/results");
    std::fs::create_dir_all(&folder)?;
    let last = last(&folder)?;
    for row in &rows {
        println!("{}", line(row, last.as_ref()));
    }
    let results = Results {
        commit: output(root, "git", &["describe", "--always", "--dirty"])?,
        machine: machine(),
        rustc: output(root, "rustc", &["--version"])?,
        rows,
    };
    let file = folder.join(format!("{}.json", results.commit));
    std::fs::write(&file, serde_json::to_string_pretty(&results)? + "\n")?;
    println!("written to {}", file.display());
    Ok(())
}

fn line(row: &Row, last: Option<&Results>) -> String {
    let before =
        last.and_then(|last| last.rows.iter().find(|r| r.id == row.id && r.what == row.what));
    let change = before.map_or(String::new(), |before| {
        format!("{:+.0} % since the last", (row.value / before.value - 1.0) * 100.0)
    });
    let base = row
        .baseline
        .map_or(String::new(), |base| format!("{} ({:.2} ×)", short(base), row.value / base));
    let verdict = if row.met { "met" } else { "MISSED" };
    format!(
        "{:<4} {:<46} {:>10} {:<7} base {:<16} {:<18} {:<7} {change}",
        row.id,
        row.what,
        short(row.value),
        row.unit,
        base,
        row.target,
        verdict
    )
}

fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// The newest file of the folder.
fn last(folder: &Path) -> Result<Option<Results>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|ending| ending == "json"))
        .collect();
    files.sort_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok());
    let Some(newest) = files.pop() else { return Ok(None) };
    let text = std::fs::read_to_string(newest.path())?;
    serde_json::from_str(&text).with_context(|| newest.path().display().to_string())
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} × {}", model.map_or("unknown", |(_, name)| name))
}

fn output(root: &Path, program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(root)
        .output()
        .with_context(|| program.to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
