//! What the kernel says of a process and its children.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result};

/// The process and everything below it.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while next < all.len() {
        let tasks =
            fs::read_dir(format!("/proc/{}/task", all[next])).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}

/// Processor time of each thread so far in nanoseconds, from the scheduler's own account: finer
/// than ticks.
pub(crate) fn cpu_ns(pids: &[u32]) -> HashMap<OsString, u64> {
    let threads = pids
        .iter()
        .flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten());
    threads
        .filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((task.file_name(), text.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

/// What the threads that live `after` used since `before`.
pub(crate) fn used_ns(before: &HashMap<OsString, u64>, after: &HashMap<OsString, u64>) -> u64 {
    after.iter().map(|(thread, ns)| ns - before.get(thread).copied().unwrap_or(0)).sum()
}

/// Proportional set size of the processes, in bytes.
pub(crate) fn pss(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum()
}

/// The most memory that the process ever had resident, in bytes.
pub(crate) fn peak(pid: u32) -> Result<u64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// Reads and writes that the processes asked for so far.
pub(crate) fn calls(pids: &[u32]) -> u64 {
    pids.iter()
        .flat_map(|pid| ["syscr:", "syscw:"].map(|name| (pid, name)))
        .filter_map(|(pid, name)| {
            let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
            number(&text, name)
        })
        .sum()
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    Ok(number(&text, name).with_context(|| format!("no {name} in {path}"))? * 1024)
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
