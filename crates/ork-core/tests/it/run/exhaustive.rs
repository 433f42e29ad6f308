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

/// What the rules come to where there is one upstream: those of a class say the same.
const OF_ONE: [&[TriggerRule]; 6] = [
    &[TriggerRule::AllSuccess, TriggerRule::OneSuccess, TriggerRule::NoneFailedMinOneSuccess],
    &[TriggerRule::AllFailed, TriggerRule::OneFailed],
    &[TriggerRule::AllDone],
    &[TriggerRule::OneDone],
    &[TriggerRule::NoneFailed],
    &[TriggerRule::NoneSkipped],
];

/// All orders of four.
fn orders() -> Vec<[usize; 4]> {
    let all = tuples(4, 4).filter_map(|order| <[usize; 4]>::try_from(order).ok());
    all.filter(|order| (0..4).all(|place| order.contains(&place))).collect()
}

/// The same DAG with its tasks in another order; none where an upstream would come later.
fn reordered(dag: &Dag, order: &[usize; 4]) -> Option<Dag> {
    let mut new = vec![0; 4];
    for (task, mask) in dag.iter().enumerate() {
        for up in ups(*mask) {
            if order[up] > order[task] {
                return None;
            }
            new[order[task]] |= 1 << order[up];
        }
    }
    Some(new)
}

/// Whether each task is linked to each other: a DAG in parts is two smaller ones side by side.
fn is_one(dag: &Dag) -> bool {
    let mut reached = 1;
    for _ in 0..4 {
        for (task, mask) in dag.iter().enumerate() {
            let linked = mask | 1 << task;
            if linked & reached != 0 && *mask != 0 {
                reached |= linked;
            }
        }
    }
    reached == 0b1111
}

/// The DAGs of four tasks in one part, each shape once.
fn shapes() -> Vec<Dag> {
    let orders = orders();
    let is_least = |dag: &Dag| {
        let others = orders.iter().filter_map(|order| reordered(dag, order));
        others.min().is_none_or(|least| *dag <= least)
    };
    dags(4).into_iter().filter(|dag| is_one(dag) && is_least(dag)).collect()
}

/// The `n`-th choice of rules for a task of so many upstreams; none past the last. Which of those
/// that say the same changes with `turn`.
fn rule_of(upstreams: u32, n: usize, turn: usize) -> Option<TriggerRule> {
    match upstreams {
        0 => (n == 0).then_some(TriggerRule::AllSuccess),
        1 => OF_ONE.get(n).map(|class| class[turn % class.len()]),
        _ => Some(RULES[n]),
    }
}

/// Plays every mix of rules and outcomes on a DAG. What a task does that nobody is downstream of
/// changes from case to case, since it decides nothing.
fn play_mixes(world: &mut World, dag: &Dag, mut played: u128) -> u128 {
    let leaf = |at: usize| dag.iter().all(|mask| mask >> at & 1 == 0);
    for picks in tuples(9, 4) {
        let turn = usize::try_from(played % 6).expect("small");
        let rule = |(mask, n): (&usize, &usize)| rule_of(mask.count_ones(), *n, turn);
        let Some(rules) = dag.iter().zip(&picks).map(rule).collect::<Option<Vec<_>>>() else {
            continue;
        };
        for deeds in tuples(3, 4) {
            if (0..4).any(|at| leaf(at) && deeds[at] != 0) {
                continue;
            }
            let turn = usize::try_from(played % 3).expect("small");
            let deed = |at: usize| if leaf(at) { DOES[turn] } else { DOES[deeds[at]] };
            let mut does: Vec<_> = (0..4).map(deed).collect();
            let states = oracle(dag, &rules, &does);
            for at in (0..4).filter(|at| leaf(*at)) {
                let ups: Vec<_> = ups(dag[at]).map(|up| states[up]).collect();
                if !holds(rules[at], &ups) {
                    does[at] = Does::Succeed;
                }
            }
            if is_repeated(dag, &rules, &does) {
                continue;
            }
            played += 1;
            play(world, played, dag, &rules, &does);
        }
    }
    played
}

/// In parts, so that they run side by side.
#[rstest]
fn dags_of_four_tasks_under_every_mix_of_rules(#[values(0, 1, 2, 3, 4, 5, 6, 7)] part: usize) {
    let shapes = shapes();
    assert_eq!(shapes.len(), 24);
    let mut world = World::with_worker(4).bare();
    let mine = shapes.iter().skip(part).step_by(8);
    let played = mine.fold(0, |played, dag| play_mixes(&mut world, dag, played));
    assert!(played > 2_000, "{played} cases");
}
