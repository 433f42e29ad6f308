//! What has to hold when a world has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use ork_core::check::{
    Fact, Rows, check_copies, check_feed, check_firings, check_run, check_ticks,
};
use ork_core::ids::{BackfillId, InstancePath, RunId};
use ork_core::plan::{Action, Binding, TriggerRule};
use ork_core::rows::{BackfillState, TickRow};
use ork_core::run::{EventKind, Source, TaskState};
use ork_core::schedule::Timetable;
use ork_engine::{Config, Core};

use super::store::Kept;
use super::world::{World, slots};

/// Adds what is wrong to the world's problems.
pub(super) fn judge(world: &mut World) {
    let mut problems = Vec::new();
    for kept in world.store.runs.values() {
        problems.extend(of_run(world, kept));
    }
    // A batch that is cut leaves slots between runs to the next part, and a run whose changes are
    // refused holds none until it has been loaded again.
    if world.poison.is_none() && world.config.max_changes == Config::default().max_changes {
        let facts = world.store.feed.iter();
        let facts = facts.filter_map(|(commit, change)| Some((*commit, Fact::of(change)?)));
        let violations = check_feed(facts, &slots(&world.workers));
        problems.extend(violations.iter().map(ToString::to_string));
    }
    let runs = world.store.runs.values().map(|kept| &kept.run);
    let broken = check_ticks(&world.store.ticks, runs);
    problems.extend(broken.iter().map(ToString::to_string));
    problems.extend(ends(world));
    problems.extend(unanswered(world));
    problems.extend(world.store.backfills.keys().filter_map(|id| of_backfill(world, *id)));
    problems.extend(facts(world));
    if let Some(machine) = world.core.as_ref().and_then(Core::machine) {
        problems.extend(machine.check().into_iter().map(|violation| violation.0));
    }
    world.problems.extend(problems);
}

fn of_run(world: &World, kept: &Kept) -> Vec<String> {
    let id = kept.run.id;
    let Some(version) = world.store.versions.get(&(kept.run.workflow.clone(), kept.run.version))
    else {
        return vec![format!("run {id} has no version")];
    };
    let tasks: Vec<_> = kept.tasks.values().collect();
    let earlier = world.recalled.get(&id).into_iter().flatten();
    let earlier: Vec<_> = earlier.map(|active| &**active).collect();
    let mut violations = check_copies(version, world.store.events(id), &tasks, &earlier);
    let attempts = kept.attempts.values().collect();
    let rows = Rows { run: &kept.run, tasks, attempts };
    violations.extend(check_run(&version.plan, world.store.events(id), &rows));
    let marks = marks(world, kept);
    let files = world.files.is_some().then(|| files(world, kept)).into_iter().flatten();
    violations.iter().map(ToString::to_string).chain(marks).chain(files).collect()
}

/// A task has the files that what is before it gave, as long as that was done once. What a cache
/// gave is of any task that is defined alike.
fn files(world: &World, kept: &Kept) -> Vec<String> {
    let mut found = Vec::new();
    for row in kept.tasks.values() {
        let (run, path) = (row.run, &row.path);
        let version = world.store.versions.get(&(kept.run.workflow.clone(), kept.run.version));
        let task = version.and_then(|version| version.plan.task(path.as_str()));
        let Some(task) = task else { continue };
        let own = matches!(task.action, Action::Execute { .. }) && task.cache.is_none();
        if let Some(digest) = world.strange_file(row).filter(|_| own) {
            found.push(format!("{path} of {run} has the file {digest} of another task"));
        }
        let Some(Binding::Expr(source)) = task.inputs.get("x") else { continue };
        if early(task.trigger_rule) {
            continue;
        }
        let given = row.inputs.as_ref().and_then(|inputs| inputs.get("x"));
        let before = source.source.trim_matches(['[', ']']).split('.').nth(1).unwrap_or_default();
        let before = kept.tasks.get(&InstancePath::from(before));
        if let (Some(given), Some(before)) = (given, before.filter(|row| row.generation == 1))
            && world.files_of(Some(given)) != world.files_of(before.output.as_ref())
        {
            found.push(format!("{path} of {run} has other files than {} gave", before.path));
        }
    }
    found
}

/// Whether a task may start before all that is before it is over.
fn early(rule: TriggerRule) -> bool {
    matches!(rule, TriggerRule::OneSuccess | TriggerRule::OneFailed | TriggerRule::OneDone)
}

/// The ends of runs against what they started.
fn ends(world: &World) -> Vec<String> {
    let store = &world.store;
    let mut found = Vec::new();
    let cut = world.poison.is_some() || world.config.max_changes != Config::default().max_changes;
    // A batch that is cut takes what becomes of a trigger apart from the ends beside it.
    if !cut || store.triggers.keys().all(|(workflow, _)| world.deploys(workflow) < 2) {
        let facts = store.feed.iter();
        let facts = facts.filter_map(|(commit, change)| Some((*commit, Fact::of(change)?)));
        let runs = store.runs.values().map(|kept| &kept.run);
        let broken = check_firings(facts, store.firings.values(), runs);
        found.extend(broken.iter().map(ToString::to_string));
    }
    for row in store.firings.values() {
        let Some(reason) = &row.reason else { continue };
        let changed = world.deploys(&row.workflow) > 1 && reason.contains("no longer waits");
        let lost = cut && reason.contains("the store will not keep") || world.panics();
        if !changed && !lost {
            found.push(format!("the end of {} started nothing: {reason}", row.source));
        }
    }
    found
}

/// What a person set keeps the output that they gave it, and nothing is done for it.
fn marks(world: &World, kept: &Kept) -> Vec<String> {
    let mut found = Vec::new();
    for event in world.store.events(kept.run.id) {
        let EventKind::TaskFinished { state, source: Some(Source::Mark), .. } = &event.kind else {
            continue;
        };
        let row = event.path.as_ref().and_then(|path| kept.tasks.get(path));
        let Some(row) = row.filter(|row| Some(row.generation) == event.generation) else {
            continue;
        };
        let set = event.actor.request_id.as_ref().and_then(|request| world.marks.get(request));
        let given = row.output.clone().map(|data| match data {
            ork_core::value::Data::Inline(value) => value,
            ork_core::value::Data::Blob { .. } => serde_json::Value::Null,
        });
        // A mark that waits for an attempt to end is set by whoever tells of that end.
        let kept_output = set.is_none() || given.as_ref() == set;
        if row.state != *state || !row.marked || row.attempt > 0 || !kept_output {
            found.push(format!("{} of {} is not as it was marked: {row:?}", row.path, row.run));
        }
    }
    found
}

/// Ticks that nobody answered between others that were, of schedules that nobody changed.
fn unanswered(world: &World) -> Vec<String> {
    let mut by_name: BTreeMap<(&str, &str), Vec<&TickRow>> = BTreeMap::new();
    for row in &world.store.ticks {
        by_name.entry((&row.workflow, &row.schedule)).or_default().push(row);
    }
    let mut found = Vec::new();
    for ((workflow, name), mut rows) in by_name {
        let Some(schedule) = world.store.schedules.get(&(workflow.to_owned(), name.to_owned()))
        else {
            found.push(format!("schedule {name} of {workflow} is not there"));
            continue;
        };
        let Ok(table) = Timetable::new(&schedule.spec.when, &schedule.spec.timezone) else {
            continue;
        };
        if world.deploys(workflow) > 1 {
            continue;
        }
        rows.sort_by_key(|row| row.tick);
        let next = |row: &TickRow| table.next(row.until).map(|tick| tick.at);
        let gap = rows.windows(2).find(|two| next(two[0]) != Some(two[1].tick));
        if let Some(two) = gap {
            let (from, to) = (two[0].until, two[1].tick);
            found.push(format!(
                "{workflow}/{name}: ticks between {from:?} and {to:?} have no answer"
            ));
        }
    }
    found
}

/// What is wrong with a backfill: it makes a run for each tick, no more at a time than it may.
fn of_backfill(world: &World, id: BackfillId) -> Option<String> {
    let row = world.store.backfills.get(&id)?;
    let trigger = format!("backfill:{id}");
    let runs = world.store.runs.values().map(|kept| &kept.run);
    let runs: Vec<_> = runs.filter(|run| run.trigger == trigger).collect();
    let ticks: BTreeSet<&str> = runs.iter().map(|run| &*run.logical_time).collect();
    if ticks.len() != runs.len() || row.made != runs.len() as u64 {
        return Some(format!("backfill {id} made {} runs, and there are {}", row.made, runs.len()));
    }
    let all = row.made + row.skipped;
    if row.state == BackfillState::Done && all != row.total || all > row.total {
        return Some(format!("backfill {id} has {} ticks and answered {all}", row.total));
    }
    let mine: BTreeSet<_> = runs.iter().map(|run| run.id).collect();
    let mut open = BTreeSet::new();
    for event in world.store.all_events().filter(|event| mine.contains(&event.run)) {
        match event.kind {
            EventKind::RunCreated { .. } => {
                open.insert(event.run);
                if open.len() > row.max_runs as usize {
                    return Some(format!("backfill {id} has {} runs at a time", open.len()));
                }
            }
            EventKind::RunFinished { .. } => {
                open.remove(&event.run);
            }
            _ => {}
        }
    }
    None
}

/// What the events say against what the workers did.
fn facts(world: &World) -> Vec<String> {
    let mut problems = Vec::new();
    for event in world.store.all_events() {
        match &event.kind {
            EventKind::TaskFinished { state: TaskState::Success, token: Some(token), .. }
                if !world.succeeded.contains(token) =>
            {
                problems.push(format!("token {token} succeeded at no worker"));
            }
            EventKind::RunQuarantined { reason }
                if world.poison != Some(event.run) && !explodes(world, event.run) =>
            {
                problems.push(format!("run {} was set aside: {reason}", event.run));
            }
            _ => {}
        }
    }
    problems
}

/// Whether the machine panics on a run.
fn explodes(world: &World, run: RunId) -> bool {
    let kept = world.store.runs.get(&run);
    world.panics() && kept.is_some_and(|kept| kept.tasks.keys().any(|path| &*path.0 == "boom"))
}
