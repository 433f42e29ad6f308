//! The floors: the same work without any state, by tools that everybody has.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

/// `make` over a chain of `n` targets, each the program `true`.
pub(crate) fn make_chain(dir: &Path, n: usize) -> Result<Duration> {
    let mut rules = String::from(".PHONY: ");
    for i in 0..n {
        write!(rules, "t{i} ")?;
    }
    rules += "\nt0:\n\t@true\n";
    for i in 1..n {
        writeln!(rules, "t{i}: t{}\n\t@true", i - 1)?;
    }
    let file = dir.join("chain.mk");
    std::fs::write(&file, rules)?;
    timed(Command::new("make").arg("-f").arg(&file).arg(format!("t{}", n - 1)))
}

/// `xargs -P2` starting the program `true` `n` times.
pub(crate) fn xargs(dir: &Path, n: usize) -> Result<Duration> {
    let list = dir.join("list");
    std::fs::write(&list, "x\n".repeat(n))?;
    timed(Command::new("xargs").args(["-P2", "-n1", "-a"]).arg(&list).arg("true"))
}

/// `n` cold interpreters in a row, each computing `fib(10)`.
pub(crate) fn cold_interpreters(n: usize) -> Result<Duration> {
    let program = "def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\nfib(10)";
    let start = Instant::now();
    for _ in 0..n {
        timed(Command::new("python3").args(["-c", program]))?;
    }
    Ok(start.elapsed())
}

/// From the start of a process to its first instruction: `date` tells the time at once.
pub(crate) fn process_start() -> Result<Duration> {
    let before = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let output = Command::new("date").arg("+%s%N").output().context("date")?;
    let began: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(Duration::from_nanos(began).saturating_sub(before))
}

/// `cat` of `bytes` bytes from a program that writes them to a file.
pub(crate) fn cat_to_file(dir: &Path, bytes: u64) -> Result<Duration> {
    let target = dir.join("cat.out");
    let line = format!("yes '{}' | head -c {bytes} | cat > '{}'", LOG_LINE, target.display());
    let took = timed(Command::new("sh").arg("-c").arg(line))?;
    std::fs::remove_file(target)?;
    Ok(took)
}

/// The line that log workloads write.
pub(crate) const LOG_LINE: &str =
    "2026-01-01T00:00:00Z INFO loader: wrote 4096 rows to table sales in 12.4 ms, queue depth 3";

fn timed(command: &mut Command) -> Result<Duration> {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(start.elapsed())
}
