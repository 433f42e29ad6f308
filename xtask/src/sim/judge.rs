//! What has to hold when a world has come to rest.

use ork_core::check::{Rows, check_feed, check_run};
use ork_core::run::{EventKind, TaskState};
use ork_engine::{Config, Core};

use super::world::{World, slots};

/// Adds what is wrong to the world's problems.
pub(super) fn judge(world: &mut World) {
    let mut problems = Vec::new();
    for (id, kept) in &world.store.runs {
        let plan = world.plans.iter().find(|plan| plan.name == kept.run.workflow);
        let Some(plan) = plan else { continue };
        let rows = Rows {
            run: &kept.run,
            tasks: kept.tasks.values().collect(),
            attempts: kept.attempts.values().collect(),
        };
        let violations = check_run(plan, world.store.events(*id), &rows);
        problems.extend(violations.iter().map(ToString::to_string));
    }
    // A batch that is cut leaves slots between runs to the next part, and a run whose changes are
    // refused holds none until it has been loaded again.
    if world.poison.is_none() && world.config.max_changes == Config::default().max_changes {
        let feed = world.store.feed.iter().map(|(commit, event)| (*commit, event));
        let violations = check_feed(feed, &slots(&world.workers));
        problems.extend(violations.iter().map(ToString::to_string));
    }
    problems.extend(facts(world));
    if let Some(machine) = world.core.as_ref().and_then(Core::machine) {
        problems.extend(machine.check().into_iter().map(|violation| violation.0));
    }
    world.problems.extend(problems);
}

/// What the events say against what the workers did.
fn facts(world: &World) -> Vec<String> {
    let mut problems = Vec::new();
    for (_, event) in &world.store.feed {
        match &event.kind {
            EventKind::TaskFinished { state: TaskState::Success, token: Some(token), .. }
                if !world.succeeded.contains(token) =>
            {
                problems.push(format!("token {token} succeeded at no worker"));
            }
            EventKind::RunQuarantined { reason } if world.poison != Some(event.run) => {
                problems.push(format!("run {} was set aside: {reason}", event.run));
            }
            _ => {}
        }
    }
    problems
}
