//! The checker, asked of all that happened in a world.

use std::collections::BTreeMap;

use ork_core::check::{Rows, check_feed, check_run};

use super::world::World;

/// The checker has nothing to say of any run, whether it is over or not.
pub(crate) fn judge(world: &World) {
    for (id, run) in &world.runs {
        let rows = Rows {
            run,
            tasks: world.tasks.values().filter(|row| row.run == *id).collect(),
            attempts: world.attempts.values().filter(|row| row.run == *id).collect(),
        };
        let events = world.events.iter().filter(|event| event.run == *id);
        let violations = check_run(&world.versions[id].plan, events, &rows);
        let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
    let feed = world.events.iter().zip(1..).map(|(event, commit)| (commit, event));
    assert!(check_feed(feed, &BTreeMap::new()).is_empty());
}
