//! Fairness: what a map of 100,000 items does to those beside it.

use std::collections::{BTreeMap, BTreeSet};

use ork_core::ids::{AttemptRef, ProjectId, RunId};
use ork_core::plan::Plan;
use ork_core::run::{Effect, Outcome, TaskState};
use proptest::prelude::*;
use serde_json::json;

use super::build::{plan, task};
use super::world::{World, finished};

const ITEMS: usize = 100_000;

/// A run beside the map: in which project and of which workflow, and after how many ends of
/// attempts it comes.
#[derive(Clone, Copy, Debug)]
struct Small {
    project: i64,
    workflow: u8,
    tasks: usize,
    after: usize,
}

fn smalls() -> impl Strategy<Value = Vec<Small>> {
    let one = (1..3_i64, 0..3_u8, 1..4_usize, 0..30_usize);
    let one =
        one.prop_map(|(project, workflow, tasks, after)| Small { project, workflow, tasks, after });
    prop::collection::vec(one, 1..7)
}

fn wide() -> Plan {
    let items: Vec<usize> = (0..ITEMS).collect();
    Plan { name: "wide".into(), ..plan(vec![task("m").each(json!(items))]) }
}

struct Play {
    world: World,
    wide: RunId,
    /// How many effects have been looked at.
    seen: usize,
    /// Offers under way, the oldest first.
    open: Vec<AttemptRef>,
    /// Each ready task of a small run: how many offers others got since it was ready.
    waits: BTreeMap<(RunId, String), usize>,
    runs: BTreeSet<(i64, String, RunId)>,
}

impl Play {
    fn new(slots: u32) -> Self {
        let mut world = World::with_worker(slots).bare();
        let wide = world.create(1, &wide());
        let runs = BTreeSet::from([(1, "wide".to_owned(), wide)]);
        let (open, waits) = (Vec::new(), BTreeMap::new());
        let mut new = Self { world, wide, seen: 0, open, waits, runs };
        new.look();
        new
    }

    fn create(&mut self, n: usize, small: Small) {
        let name = format!("small{}", small.workflow);
        let tasks = (0..small.tasks).map(|n| task(&format!("t{n}"))).collect();
        let plan = Plan { name: name.clone(), ..plan(tasks) };
        let run = self.world.create_in(n as u128 + 2, ProjectId(small.project), &plan);
        self.runs.insert((small.project, name, run));
        self.look();
    }

    /// Each offer that was made counts for all that were ready before it.
    fn look(&mut self) {
        while let Some(effect) = self.world.effects.get(self.seen) {
            self.seen += 1;
            let Effect::Dispatch { assignment, .. } = effect else { continue };
            let attempt = assignment.attempt.clone();
            self.waits.remove(&(attempt.run, attempt.path.to_string()));
            for count in self.waits.values_mut() {
                *count += 1;
            }
            self.open.push(attempt);
        }
        let small = self.runs.iter().filter(|(.., run)| *run != self.wide);
        for (.., run) in small {
            let rows = self.world.tasks.range((*run, 0)..=(*run, u32::MAX));
            for row in rows.map(|(_, row)| row).filter(|row| row.state == TaskState::Queued) {
                // Within a run one task waits for another.
                if !self.waits.keys().any(|(of, _)| of == run) {
                    self.waits.insert((*run, row.path.to_string()), 0);
                }
            }
        }
    }

    fn end_one(&mut self) {
        let attempt = self.open.remove(0);
        self.world.tell(attempt, finished(Outcome::Success { output: None })).unwrap();
        self.look();
    }

    /// One round: as many offers as there are turns before one's own comes again.
    fn round(&self) -> usize {
        let count = |of: fn(&(i64, String, RunId)) -> (i64, String)| {
            let mut groups: BTreeMap<(i64, String), usize> = BTreeMap::new();
            for run in &self.runs {
                *groups.entry(of(run)).or_default() += 1;
            }
            groups
        };
        let runs = count(|(project, workflow, _)| (*project, workflow.clone()));
        let most_runs = runs.values().max().copied().unwrap_or(1);
        let projects: BTreeSet<i64> = self.runs.iter().map(|(project, ..)| *project).collect();
        let workflows = |project: &i64| runs.keys().filter(|(of, _)| of == project).count();
        let most_workflows = projects.iter().map(workflows).max().unwrap_or(1);
        projects.len() * most_workflows * most_runs
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Nobody waits longer for an offer than one round, however many items are ready.
    #[test]
    fn a_map_of_a_hundred_thousand_delays_others_by_one_round(slots in 1..5_u32, smalls in smalls()) {
        let mut play = Play::new(slots);
        for ends in 0..120 {
            for (n, small) in smalls.iter().enumerate().filter(|(_, small)| small.after == ends) {
                play.create(n, *small);
            }
            play.end_one();
            let round = play.round();
            for (who, waited) in &play.waits {
                prop_assert!(*waited < round, "{who:?} waits for {waited} offers of {round}");
            }
        }
        let small = play.runs.iter().filter(|(.., run)| *run != play.wide);
        for (.., run) in small {
            prop_assert!(play.world.runs[run].state.is_terminal(), "a small run never ends");
        }
    }
}

/// Beside one other run, every second offer is the other's.
#[test]
fn beside_a_map_a_run_gets_every_second_offer() {
    let mut play = Play::new(1);
    play.create(0, Small { project: 1, workflow: 0, tasks: 3, after: 0 });
    let before = play.seen;
    for _ in 0..6 {
        play.end_one();
    }
    let offers = play.world.effects[before..].iter().filter_map(|effect| match effect {
        Effect::Dispatch { assignment, .. } => Some(assignment.attempt.run == play.wide),
        _ => None,
    });
    assert_eq!(offers.collect::<Vec<_>>(), [true, false, true, false, true, false]);
}
