//! What becomes of ticks: on time, missed, paused, deployed anew, and across steps of the clock,
//! crashes and all at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use ork_core::ids::ProjectId;
use ork_core::plan::{Catchup, Param, Plan, Schedule, Scope, When};
use ork_core::rows::{Actor, Change, CodeRef, ScheduleRow, TickRow, VersionId};
use ork_core::schedule::{Declared, LATE, ScheduleKey, Schedules, Site, Timetable};
use ork_core::time::{Span, Wall};
use ork_core::types::Type;

use super::at;

const HOURLY: &str = "0 * * * *";

fn schedule(when: When, catchup: Catchup) -> Schedule {
    Schedule {
        when,
        timezone: "Europe/Berlin".into(),
        catchup,
        jitter: Span::ZERO,
        params: IndexMap::new(),
        paused: false,
    }
}

fn hourly(catchup: Catchup) -> Schedule {
    schedule(When::Cron(HOURLY.into()), catchup)
}

fn key() -> ScheduleKey {
    ScheduleKey { project: ProjectId::DEFAULT, workflow: "w".into(), name: "s".into() }
}

/// The schedules over what a store has of them.
struct World {
    schedules: Schedules,
    version: Arc<Declared>,
    row: Option<ScheduleRow>,
    ticks: BTreeMap<Wall, TickRow>,
    now: Wall,
}

impl World {
    fn new(spec: Schedule, now: &str) -> Self {
        let mut world = Self {
            schedules: Schedules::default(),
            version: version(0, None),
            row: None,
            ticks: BTreeMap::new(),
            now: at(now),
        };
        world.deploy(Some(spec));
        world
    }

    fn deploy(&mut self, spec: Option<Schedule>) {
        self.version = version(self.version.version.0 + 1, spec);
        let changes = self.schedules.deploy(&self.version, self.now);
        self.keep(changes);
    }

    fn keep(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Schedule(row, _) => self.row = Some(*row),
                Change::Tick(row) => {
                    let twice = self.ticks.insert(row.tick, *row);
                    assert!(twice.is_none(), "answered twice: {twice:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn pause(&mut self, paused: bool) {
        let change = self.schedules.pause(&key(), paused, &Actor::default(), self.now);
        self.keep(change.unwrap().into_iter().collect());
    }

    /// Another process takes over.
    fn restart(&mut self) {
        self.schedules
            .load(self.row.clone().into_iter().collect(), std::slice::from_ref(&self.version));
    }

    /// Answers at most so many ticks; their local times, those skipped with their number.
    fn answer(&mut self, most: usize) -> Vec<String> {
        let site = Site { project_name: "p".into(), url: "http://x".into() };
        let mut said = Vec::new();
        while said.len() < most {
            let Some(due) = self.schedules.due(self.now, &site) else { break };
            let made = due.run.as_ref().map(|run| run.id).map_err(Clone::clone);
            let time = due.tick.logical_time();
            said.push(match &made {
                Ok(_) => time[5..16].to_owned(),
                Err(why) => format!("{} ×{} {why}", &time[5..16], due.count),
            });
            let changes = self.schedules.settle(&due, made, self.now);
            self.keep(changes);
        }
        said
    }

    fn goes_to(&mut self, now: &str) -> Vec<String> {
        self.now = at(now);
        self.answer(usize::MAX)
    }
}

fn version(number: i64, spec: Option<Schedule>) -> Arc<Declared> {
    let mut plan = Plan::new("w", Scope::default());
    plan.schedules.extend(spec.map(|spec| ("s".to_owned(), spec)));
    Arc::new(Declared {
        project: ProjectId::DEFAULT,
        workflow: "w".into(),
        version: VersionId(number),
        plan: Arc::new(plan),
        code: CodeRef::InPlace { root: "/".into(), digest: ork_core::value::Digest::of(&[]) },
    })
}

#[test]
fn on_time_each_tick_makes_its_run() {
    let mut world = World::new(hourly(Catchup::None), "2026-11-24T10:00Z");
    assert!(world.goes_to("2026-11-24T10:59:59Z").is_empty(), "a deploy makes no past tick");
    assert_eq!(world.goes_to("2026-11-24T11:00Z"), ["11-24T12:00"]);
    assert!(world.goes_to("2026-11-24T11:00:01Z").is_empty());
    world.restart();
    assert_eq!(world.goes_to("2026-11-24T12:00:59Z"), ["11-24T13:00"], "a restart is no downtime");
    assert_eq!(world.schedules.next_wakeup(), Some(at("2026-11-24T13:00Z")));
}

#[test]
fn missed_ticks_follow_catchup() {
    let none = "11-24T12:00 ×5 missed, and `catchup` is none";
    let last = "11-24T12:00 ×4 missed, and `catchup` is for the last alone";
    let max = "11-24T12:00 ×3 missed, and older than those that `catchup` is for";
    let all = ["11-24T12:00", "11-24T13:00", "11-24T14:00", "11-24T15:00", "11-24T16:00"];
    for (catchup, expected) in [
        (Catchup::None, &[none][..]),
        (Catchup::Last, &[last, "11-24T16:00"]),
        (Catchup::Max(2), &[max, "11-24T15:00", "11-24T16:00"]),
        (Catchup::All, &all),
    ] {
        let mut down = World::new(hourly(catchup), "2026-11-24T10:30Z");
        down.restart();
        assert_eq!(down.goes_to("2026-11-24T15:30Z"), expected, "down, {catchup:?}");
        let mut paused = World::new(hourly(catchup), "2026-11-24T10:30Z");
        paused.pause(true);
        assert!(paused.goes_to("2026-11-24T15:00:05Z").is_empty());
        paused.pause(false);
        assert_eq!(paused.answer(9), expected, "paused, {catchup:?}");
        assert_eq!(paused.goes_to("2026-11-24T16:00Z"), ["11-24T17:00"]);
    }
}

#[test]
fn catching_up_is_bounded_and_survives_crashes() {
    let mut world = World::new(hourly(Catchup::All), "2026-01-01T00:30Z");
    world.now = at("2026-11-24T10:30Z");
    let skipped = world.answer(1);
    assert_eq!(skipped, ["01-01T02:00 ×6858 missed, and more than catch-up makes up for"]);
    let mut runs = 0;
    loop {
        world.restart();
        let some = world.answer(97).len();
        if some == 0 {
            break;
        }
        runs += some;
    }
    assert_eq!(runs, 1_000);
    let seconds = schedule(When::Interval(Span::from_secs(1)), Catchup::None);
    let mut world = World::new(seconds, "2026-01-01T00:00Z");
    world.now = at("2026-11-24T10:30Z");
    assert!(world.answer(1)[0].contains("×10000 "), "a large number is counted in part");
}

#[test]
fn a_clock_that_is_set_back_repeats_nothing() {
    let mut world = World::new(hourly(Catchup::All), "2026-11-24T10:30Z");
    assert_eq!(world.goes_to("2026-11-24T11:00Z"), ["11-24T12:00"]);
    assert!(world.goes_to("2026-11-24T10:10Z").is_empty());
    assert!(world.goes_to("2026-11-24T11:30Z").is_empty());
    assert_eq!(world.goes_to("2026-11-24T12:00Z"), ["11-24T13:00"]);
}

#[test]
fn a_schedule_is_known_by_its_name() {
    let mut world = World::new(hourly(Catchup::All), "2026-11-24T10:30Z");
    assert_eq!(world.goes_to("2026-11-24T11:00Z"), ["11-24T12:00"]);
    world.now = at("2026-11-24T12:30Z");
    world.deploy(Some(hourly(Catchup::All)));
    assert_eq!(world.answer(9), ["11-24T13:00"], "what is as it was goes on");
    world.now = at("2026-11-24T13:30Z");
    world.deploy(Some(schedule(When::Cron("15 * * * *".into()), Catchup::All)));
    assert!(world.answer(9).is_empty(), "what is new begins now");
    world.deploy(None);
    assert!(world.goes_to("2026-11-24T14:30Z").is_empty());
    assert_eq!(world.schedules.pause(&key(), true, &Actor::default(), world.now), None);
    world.deploy(Some(hourly(Catchup::All)));
    assert!(world.answer(9).is_empty(), "what comes back begins now");
    world.now = at("2026-11-24T10:59Z");
    world.deploy(Some(hourly(Catchup::None)));
    assert!(world.goes_to("2026-11-24T11:00Z").is_empty(), "its ticks were answered before");
    assert_eq!(world.goes_to("2026-11-24T15:00Z"), ["11-24T16:00"]);
    let mut asleep = Schedule { paused: true, ..hourly(Catchup::All) };
    world.deploy(Some(asleep.clone()));
    assert!(world.goes_to("2026-11-24T16:00Z").is_empty());
    asleep.paused = false;
    world.deploy(Some(asleep));
    assert!(world.answer(9).is_empty(), "a deploy makes no past tick");
}

#[test]
fn a_tick_whose_params_cannot_be_had_says_why() {
    let mut world = World::new(hourly(Catchup::None), "2026-11-24T10:30Z");
    let mut plan = (*world.version.plan).clone();
    let param = Param { ty: Type::Date, default: None, description: None };
    plan.params.insert("day".into(), param);
    world.version = Arc::new(Declared {
        version: VersionId(2),
        plan: Arc::new(plan),
        ..(*world.version).clone()
    });
    let changes = world.schedules.deploy(&world.version, world.now);
    world.keep(changes);
    let said = world.goes_to("2026-11-24T11:00Z");
    assert_eq!(said, ["11-24T12:00 ×1 param `day`: it is required (date)"]);
}

/// A small generator, so that a seed is a history.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn spec(&mut self) -> Schedule {
        let crons = [HOURLY, "30 2 * * *", "*/20 1-3 * * *", "0 0 * * MON", "15 */6 * * *"];
        let when = match self.below(6) {
            5 => When::Interval(Span::from_secs(600 + self.below(9_000).cast_signed())),
            n => When::Cron(crons[usize::try_from(n).unwrap()].into()),
        };
        let catchups = [Catchup::None, Catchup::Last, Catchup::All, Catchup::Max(3)];
        let catchup = catchups[usize::try_from(self.below(4)).unwrap()];
        let jitter = Span::from_secs(if self.below(3) == 0 { 500 } else { 0 });
        Schedule { jitter, ..schedule(when, catchup) }
    }
}

/// One history: whatever happens, each tick since the last change of the rule has one answer, and
/// answers strictly increase.
fn history(seed: u64) -> usize {
    let mut chance = Chance(seed);
    let mut spec = chance.spec();
    let mut world = World::new(spec.clone(), "2026-10-20T10:30Z");
    let mut since = world.row.clone().unwrap().decided;
    for _ in 0..40 {
        match chance.below(10) {
            0 => world.pause(chance.below(2) == 0),
            1 => world.restart(),
            2 => {
                let before = (spec.when.clone(), spec.paused);
                if chance.below(2) == 0 {
                    spec = chance.spec();
                }
                world.deploy(Some(spec.clone()));
                if before != (spec.when.clone(), spec.paused) {
                    since = world.row.clone().unwrap().decided;
                }
            }
            3 => world.now = world.now + Span::from_secs(-chance.below(7_200).cast_signed()),
            4 => world.now = world.now + Span::from_secs(chance.below(500_000).cast_signed()),
            _ => world.now = world.now + Span::from_secs(chance.below(4_000).cast_signed()),
        }
        let most = if chance.below(4) == 0 { 1 } else { usize::MAX };
        world.answer(most);
    }
    let row = world.row.clone().unwrap();
    let table = Timetable::new(&row.spec.when, &row.spec.timezone).unwrap();
    let answers: Vec<_> = world.ticks.values().filter(|answer| answer.tick > since).collect();
    assert!(answers.windows(2).all(|pair| pair[0].until < pair[1].tick), "seed {seed}");
    let answered: u64 = answers.iter().map(|answer| answer.count).sum();
    let ticks = table.ticks(since, row.decided).count() as u64;
    assert_eq!(answered, ticks, "seed {seed}: {answers:#?}");
    if let (false, Some(next)) = (row.paused, table.next(row.decided)) {
        let late = world.now.0 - next.at.0 - row.spec.jitter.0;
        world.answer(usize::MAX);
        let left = world.schedules.next_wakeup();
        assert!(left.is_none_or(|at| at > world.now), "seed {seed}: left undone, {late} µs late");
    }
    world.ticks.len()
}

#[test]
fn histories() {
    let answers: usize = (0..400).map(history).sum();
    assert!(answers > 5_000, "{answers} answers");
    assert_eq!(LATE, Span::from_secs(60));
}
