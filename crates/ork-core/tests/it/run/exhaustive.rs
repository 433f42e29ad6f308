//! Every small DAG, with every outcome, under the trigger rules, against the rules written down a
//! second time.

use ork_core::ids::RunId;
use ork_core::plan::{Plan, TriggerRule};
use ork_core::run::{RunState, TaskState};
use rstest::rstest;

use super::build::{plan, task};
use super::world::World;

const RULES: [TriggerRule; 9] = [
    TriggerRule::AllSuccess,
    TriggerRule::AllDone,
    TriggerRule::AllFailed,
    TriggerRule::OneSuccess,
    TriggerRule::OneFailed,
    TriggerRule::OneDone,
    TriggerRule::NoneFailed,
    TriggerRule::NoneSkipped,
    TriggerRule::NoneFailedMinOneSuccess,
];

/// What a task does when its rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Succeed,
    Fail,
    Skip,
}

const DOES: [Does; 3] = [Does::Succeed, Does::Fail, Does::Skip];

/// A DAG: for each task the set of its upstreams, all before it, as bits.
type Dag = Vec<usize>;

fn dags(size: usize) -> Vec<Dag> {
    let mut all = vec![Vec::new()];
    for place in 0..size {
        all = all
            .into_iter()
            .flat_map(|dag: Dag| {
                (0..1 << place).map(move |ups| {
                    let mut dag = dag.clone();
                    dag.push(ups);
                    dag
                })
            })
            .collect();
    }
    all
}

/// Every list of `size` numbers below `base`.
fn tuples(base: usize, size: usize) -> impl Iterator<Item = Vec<usize>> {
    let count = base.pow(u32::try_from(size).expect("a small size"));
    (0..count).map(move |mut n| {
        let digits = (0..size).map(|_| {
            let digit = n % base;
            n /= base;
            digit
        });
        digits.collect()
    })
}

fn ups(mask: usize) -> impl Iterator<Item = usize> {
    (0..usize::BITS as usize).filter(move |bit| mask >> bit & 1 == 1)
}

/// The rules once more, as the words say it.
fn holds(rule: TriggerRule, ups: &[TaskState]) -> bool {
    let failed = |s: &TaskState| matches!(s, TaskState::Failed | TaskState::UpstreamFailed);
    let success = |s: &TaskState| *s == TaskState::Success;
    let skipped = |s: &TaskState| *s == TaskState::Skipped;
    if ups.is_empty() {
        return true;
    }
    match rule {
        TriggerRule::AllSuccess => ups.iter().all(success),
        TriggerRule::AllDone => true,
        TriggerRule::AllFailed => ups.iter().all(failed),
        TriggerRule::OneSuccess => ups.iter().any(success),
        TriggerRule::OneFailed => ups.iter().any(failed),
        TriggerRule::OneDone => ups.iter().any(|s| success(s) || *s == TaskState::Failed),
        TriggerRule::NoneFailed => !ups.iter().any(failed),
        TriggerRule::NoneSkipped => !ups.iter().any(skipped),
        TriggerRule::NoneFailedMinOneSuccess => !ups.iter().any(failed) && ups.iter().any(success),
    }
}

/// Whether the rule would rather see a success where it sees a failure.
fn minds_failures(rule: TriggerRule) -> bool {
    !matches!(rule, TriggerRule::AllFailed | TriggerRule::OneFailed | TriggerRule::NoneSkipped)
}

fn oracle(dag: &Dag, rules: &[TriggerRule], does: &[Does]) -> Vec<TaskState> {
    let mut states: Vec<TaskState> = Vec::new();
    for ((mask, rule), deed) in dag.iter().zip(rules).zip(does) {
        let ups: Vec<_> = ups(*mask).map(|up| states[up]).collect();
        let failed = ups.iter().any(|s| matches!(s, TaskState::Failed | TaskState::UpstreamFailed));
        states.push(if holds(*rule, &ups) {
            match deed {
                Does::Succeed => TaskState::Success,
                Does::Fail => TaskState::Failed,
                Does::Skip => TaskState::Skipped,
            }
        } else if failed && minds_failures(*rule) {
            TaskState::UpstreamFailed
        } else {
            TaskState::Skipped
        });
    }
    states
}

fn name(at: usize) -> String {
    format!("t{at}")
}

fn build(dag: &Dag, rules: &[TriggerRule], does: &[Does]) -> Plan {
    let tasks = dag.iter().enumerate().map(|(at, mask)| {
        let after: Vec<_> = ups(*mask).map(name).collect();
        let after: Vec<_> = after.iter().map(String::as_str).collect();
        let task = task(&name(at)).after(&after).rule(rules[at]);
        if does[at] == Does::Skip { task.when("false") } else { task }
    });
    plan(tasks.collect())
}

/// Ends what is under way, the first or the last of it first.
fn drive(world: &mut World, run: RunId, does: &[Does], last_first: bool) {
    loop {
        let rows = world.tasks.values().filter(|row| row.run == run);
        let mut open = rows.filter(|row| row.state == TaskState::Dispatched);
        let next = if last_first { open.next_back() } else { open.next() };
        let Some(at) = next.map(|row| row.ordinal as usize) else { return };
        match does[at] {
            Does::Fail => world.fail(run, &name(at)),
            Does::Succeed | Does::Skip => world.succeed(run, &name(at)),
        }
    }
}

/// Plays one case on a world, which is as good as new after it.
fn play(world: &mut World, n: u128, dag: &Dag, rules: &[TriggerRule], does: &[Does]) {
    let expected = oracle(dag, rules, does);
    let run = world.create(n, &build(dag, rules, does));
    drive(world, run, does, n % 2 == 1);
    let got: Vec<_> = world.tasks.values().map(|row| row.state).collect();
    let told = || format!("{dag:?} {rules:?} {does:?}\n");
    assert_eq!(got, expected, "{}", told());
    let failed = expected.contains(&TaskState::Failed);
    let state = if failed { RunState::Failed } else { RunState::Success };
    assert_eq!(world.runs[&run].state, state, "{}", told());
    for row in world.tasks.values() {
        let cause = row.cause.as_ref().map(|path| world.task(run, path.as_str()));
        if let Some(cause) = cause {
            assert!(cause.cause.is_none(), "{}the cause is where it began", told());
        }
        let needs_one = row.state == TaskState::UpstreamFailed;
        let cause = cause.map(|row| row.state);
        assert!(!needs_one || cause == Some(TaskState::Failed), "{}{row:?}", told());
    }
    world.clear();
}

/// All cases of DAGs of this size whose rules are among `rule_sets`.
fn play_all(size: usize, rule_sets: &[Vec<TriggerRule>]) -> u128 {
    let mut world = World::with_worker(4).bare();
    let mut played = 0;
    for dag in dags(size) {
        for rules in rule_sets {
            // Where there is no upstream all rules say the same: one of them is enough.
            let root = |at: usize| dag[at] == 0 && rules[at] != TriggerRule::AllSuccess;
            if rules.windows(2).any(|two| two[0] != two[1]) && (0..size).any(root) {
                continue;
            }
            for picks in tuples(3, size) {
                let does: Vec<_> = picks.iter().map(|pick| DOES[*pick]).collect();
                if is_repeated(&dag, rules, &does) {
                    continue;
                }
                played += 1;
                play(&mut world, played, &dag, rules, &does);
            }
        }
    }
    played
}

/// Whether the case is another one over again: a task that never starts would do something else.
fn is_repeated(dag: &Dag, rules: &[TriggerRule], does: &[Does]) -> bool {
    let states = oracle(dag, rules, does);
    (0..dag.len()).any(|at| {
        let ups: Vec<_> = ups(dag[at]).map(|up| states[up]).collect();
        does[at] != Does::Succeed && !holds(rules[at], &ups)
    })
}

#[test]
fn dags_of_up_to_three_tasks_under_every_mix_of_rules() {
    let mut played = 0;
    for size in 1..=3 {
        let mixes: Vec<Vec<_>> =
            tuples(9, size).map(|picks| picks.iter().map(|p| RULES[*p]).collect()).collect();
        played += play_all(size, &mixes);
    }
    assert!(played > 1_000, "{played} cases");
}

/// One test a rule, so that they run side by side.
#[rstest]
fn dags_of_four_tasks_under_every_rule(#[values(0, 1, 2, 3, 4, 5, 6, 7, 8)] rule: usize) {
    let played = play_all(4, &[vec![RULES[rule]; 4]]);
    assert!(played > 1_000, "{played} cases");
}
