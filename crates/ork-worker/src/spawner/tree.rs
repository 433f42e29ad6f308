//! Which processes there are below this one, and which belong to which tree.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::process::{
    Pid, PidfdFlags, Signal, getpgrp, getpid, kill_process_group, pidfd_open, pidfd_send_signal,
};

use super::mark::{Boot, Mark};

/// How often a tree that multiplies is looked at before it is killed in any case.
const MAX_ROUNDS: usize = 16;

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proc {
    pub(crate) pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    /// Clock ticks after boot: with `pid` it names a process for good.
    born: u64,
    /// Whether it has ended and waits to be reaped.
    dead: bool,
}

impl Proc {
    /// The process as it is now; none when it is gone.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let text = std::str::from_utf8(stat.get(end + 2..)?).ok()?;
        let mut fields = text.split(' ');
        let state = fields.next()?;
        let mut number = || fields.next()?.parse::<i32>().ok();
        let (parent, group, session) = (number()?, number()?, number()?);
        let born = fields.nth(15)?.parse().ok()?;
        Some(Self { pid, parent, group, session, born, dead: matches!(state, "Z" | "X" | "x") })
    }

    /// Sends a signal, unless the process is gone and its number is another's now.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if Self::read(self.pid).is_some_and(|now| now.born == self.born) {
            let _ = pidfd_send_signal(&fd, signal);
        }
    }
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The living processes below this one.
pub(crate) struct Snapshot {
    procs: HashMap<i32, Proc>,
    marks: HashMap<i32, Mark>,
    root: i32,
}

/// What a tree is known by.
pub(crate) struct Tree {
    pub(crate) mark: Mark,
    /// Its first process.
    pub(crate) main: Option<i32>,
    /// Whether processes that show no sign of any tree belong to it, as it is the only one.
    pub(crate) takes_strays: bool,
}

impl Snapshot {
    /// Looks at every process once.
    pub(crate) fn take() -> Self {
        let root = getpid().as_raw_nonzero().get();
        let all: HashMap<i32, Proc> =
            all_pids().filter_map(|pid| Some((pid, Proc::read(pid)?))).collect();
        let below = |pid: &i32| ancestors(&all, *pid).any(|ancestor| ancestor == root);
        let procs: HashMap<i32, Proc> =
            all.iter().filter(|(pid, _)| below(pid)).map(|(pid, proc)| (*pid, *proc)).collect();
        // A mark is inherited: what hangs deeper has its ancestor's. A keeper's children, one level
        // down, have their own.
        let near = |proc: &&Proc| {
            proc.parent == root || procs.get(&proc.parent).is_some_and(|up| up.parent == root)
        };
        let marks = procs
            .values()
            .filter(near)
            .filter_map(|proc| Some((proc.pid, Mark::of_process(proc.pid)?)))
            .collect();
        Self { procs, marks, root }
    }

    /// Everything that lives below this process.
    pub(crate) fn everything(&self) -> Vec<Proc> {
        self.procs.values().filter(|proc| !proc.dead).copied().collect()
    }

    /// What lives of a tree; `of_others` tells the marks of trees that are not over.
    pub(crate) fn members(&self, tree: &Tree, of_others: &dyn Fn(Mark) -> bool) -> Vec<Proc> {
        let living = self.procs.values().filter(|proc| !proc.dead);
        living.filter(|proc| self.belongs(proc, tree, of_others)).copied().collect()
    }

    fn belongs(&self, proc: &Proc, tree: &Tree, of_others: &dyn Fn(Mark) -> bool) -> bool {
        // The nearest sign on the way up counts: a keeper is the parent of other trees' processes.
        for pid in std::iter::once(proc.pid).chain(ancestors(&self.procs, proc.pid)) {
            let mark = self.marks.get(&pid);
            if tree.main == Some(pid) || mark == Some(&tree.mark) {
                return true;
            }
            if mark.is_some_and(|mark| of_others(*mark)) {
                return false;
            }
        }
        tree.main.is_some_and(|main| proc.group == main || proc.session == main)
            || (tree.takes_strays && proc.parent == self.root)
    }
}

/// The parents of a process, nearest first.
fn ancestors(procs: &HashMap<i32, Proc>, pid: i32) -> impl Iterator<Item = i32> {
    let parent = move |pid: &i32| procs.get(pid).map(|proc| proc.parent).filter(|pid| *pid > 0);
    // A process tree read while it changes may show a loop.
    std::iter::successors(parent(&pid), move |pid| parent(pid)).take(4096)
}

/// The living processes that carry a mark of one of these boots, wherever they hang.
pub(crate) fn marked(boots: &[Boot]) -> Vec<Proc> {
    let of_boots = |pid: &i32| Mark::of_process(*pid).is_some_and(|m| boots.contains(&m.boot()));
    all_pids().filter(of_boots).filter_map(Proc::read).filter(|proc| !proc.dead).collect()
}

/// The process group of this process: never to be stopped.
pub(crate) fn own_group() -> i32 {
    getpgrp().as_raw_nonzero().get()
}

/// Whether this process has children besides `known`; also when the kernel does not say.
pub(crate) fn has_other_children(known: &dyn Fn(i32) -> bool) -> bool {
    let pid = getpid().as_raw_nonzero();
    let Ok(list) = fs::read_to_string(format!("/proc/self/task/{pid}/children")) else {
        return true;
    };
    list.split_whitespace().any(|pid| !pid.parse().is_ok_and(known))
}

/// Stops every one of `list`, so that none of them starts another, then kills them. Process groups
/// are stopped as wholes, those excepted that `spare` names: a signal to a group also reaches the
/// children that are born meanwhile.
pub(crate) fn kill(mut list: impl FnMut() -> Vec<Proc>, spare: &dyn Fn(i32) -> bool) {
    let mut seen = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let now = list();
        let new: Vec<&Proc> =
            now.iter().filter(|proc| seen.insert((proc.pid, proc.born))).collect();
        if new.is_empty() {
            break;
        }
        let groups: HashSet<i32> = new.iter().map(|proc| proc.group).collect();
        for group in groups.into_iter().filter(|group| !spare(*group)) {
            if let Some(group) = Pid::from_raw(group) {
                let _ = kill_process_group(group, Signal::STOP);
            }
        }
        for proc in new {
            proc.signal(Signal::STOP);
        }
    }
    for proc in list() {
        proc.signal(Signal::KILL);
    }
}
