//! Who waits for whom: names to positions, and the cycles among them.

use super::Lower;
use super::tree::Place;
use crate::plan::Task;

impl Lower<'_> {
    /// Reports each group of tasks that wait for each other, once, as the way round.
    pub(crate) fn cycles(&mut self, tasks: &[Task], places: &[Place]) {
        let mut state = vec![State::New; tasks.len()];
        for start in 0..tasks.len() {
            if let Some(cycle) = search(tasks, start, &mut state) {
                let names: Vec<_> = cycle.iter().map(|i| tasks[*i].name.as_str()).collect();
                let way = shorten(&names);
                let at = cycle[0];
                self.report
                    .error(places[at], "cycle", format!("tasks wait for each other: {way}"))
                    .hint("an arrow reads `waits for`");
            }
        }
    }
}

/// A way round, at most a dozen names of it.
fn shorten(names: &[&str]) -> String {
    match names {
        [first, .., last] if names.len() > 13 => {
            let rest = names.len() - 12;
            format!("{} -> … {rest} more … -> {last} (from {first})", names[..11].join(" -> "))
        }
        _ => names.join(" -> "),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

/// A depth-first search without recursion; the first way back to an open task is a cycle.
fn search(tasks: &[Task], start: usize, state: &mut [State]) -> Option<Vec<usize>> {
    if state[start] != State::New {
        return None;
    }
    let mut path = vec![(start, 0)];
    let mut cycle = None;
    state[start] = State::Open;
    while let Some((task, next)) = path.last_mut() {
        let Some(up) = tasks[*task].upstreams.get(*next).copied() else {
            state[*task] = State::Done;
            path.pop();
            continue;
        };
        *next += 1;
        match state[up] {
            State::New => {
                state[up] = State::Open;
                path.push((up, 0));
            }
            State::Open if cycle.is_none() => {
                let from = path.iter().position(|(on, _)| *on == up).unwrap_or(0);
                let way = path[from..].iter().map(|(on, _)| *on);
                cycle = Some(way.chain([up]).collect());
            }
            State::Open | State::Done => {}
        }
    }
    cycle
}
