//! The simulator finds what is broken on purpose, and nothing where nothing is.

use ork_core::run::Sabotage;
use ork_engine::Config;

use super::simulate;

/// As many seeds as the honest build passes are as many as a broken one has to be caught.
const SEEDS: u64 = 800;

/// The first seed that finds something.
fn caught(config: &Config) -> Option<u64> {
    (0..SEEDS).find(|seed| !simulate(*seed, config, false).is_empty())
}

fn with(sabotage: Sabotage) -> Config {
    let mut config = Config::default();
    config.machine.sabotage = Some(sabotage);
    config
}

fn spoilt(sabotage: ork_engine::Sabotage) -> Config {
    Config { sabotage: Some(sabotage), ..Config::default() }
}

#[test]
fn an_honest_build_passes() {
    assert_eq!(caught(&Config::default()), None, "replay with: cargo xtask sim --seed N --trace");
}

#[test]
fn a_skipped_token_check_is_caught() {
    assert_caught(&with(Sabotage::SkipTokenCheck));
}

#[test]
fn a_slot_released_early_is_caught() {
    assert_caught(&with(Sabotage::ReleaseEarly));
}

#[test]
fn pools_that_are_ignored_are_caught() {
    assert_caught(&with(Sabotage::IgnorePools));
}

#[test]
fn places_that_are_ignored_are_caught() {
    assert_caught(&with(Sabotage::IgnorePlaces));
}

#[test]
fn pauses_that_are_ignored_are_caught() {
    assert_caught(&with(Sabotage::IgnorePauses));
}

#[test]
fn a_dispatch_before_its_commit_is_caught() {
    assert_caught(&spoilt(ork_engine::Sabotage::DispatchBeforeCommit));
}

#[test]
fn a_max_parallel_that_is_ignored_is_caught() {
    assert_caught(&with(Sabotage::IgnoreMaxParallel));
}

#[test]
fn a_tick_that_is_answered_again_after_a_restart_is_caught() {
    assert_caught(&spoilt(ork_engine::Sabotage::RepeatTicks));
}

#[test]
fn a_tick_that_is_lost_by_a_restart_is_caught() {
    assert_caught(&spoilt(ork_engine::Sabotage::LoseTicks));
}

#[test]
fn an_end_that_starts_a_run_again_is_caught() {
    assert_caught(&spoilt(ork_engine::Sabotage::RepeatEnds));
}

#[test]
fn an_end_that_is_lost_by_a_restart_is_caught() {
    assert_caught(&spoilt(ork_engine::Sabotage::LoseEnds));
}

/// Some seed finds something, and finds nothing in the honest build: it is the sabotage.
fn assert_caught(config: &Config) {
    let seed = caught(config).expect("no seed finds it");
    assert_eq!(simulate(seed, &Config::default(), false), [] as [&str; 0], "seed {seed}");
}

/// Runs that make the machine panic are set aside, and nothing else is wrong.
#[test]
fn a_machine_that_panics_loses_the_runs_it_panics_on_alone() {
    let found = (0..300).map(|seed| (seed, simulate(seed, &with(Sabotage::Panic), false)));
    let wrong: Vec<_> = found.filter(|(_, problems)| !problems.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Seeds that found something once.
#[test]
fn what_was_found_once_stays_mended() {
    let seeds = [
        2_672,     // A run that could only begin said not why.
        3_124,     // A run that ended was read before its end was durable.
        30_709,    // Attempts were called stale by changes that were refused.
        40_520,    // A compiler's answer began a `finally` though the body was under way again.
        51_992,    // An order to stop had not left when its time was taken to be over.
        122_170,   // A backfill forgot a run of which a later change was refused.
        251_978,   // A compiler's answer was thrown away, and nobody decided the task again.
        345_464,   // A retry of an attempt that was being stopped did not say who asked.
        724_978,   // A mark left a task open inside an item that was over.
        1_113_642, // What stood ready inside a map of a DAG was not counted after a restart.
        1_337_131, // What waited for a pause was said to wait for values.
        1_431_029, // A backfill took a run that was being set aside to be over.
        2_034_790, // A run was set aside twice.
    ];
    for seed in seeds {
        let found = simulate(seed, &Config::default(), false);
        assert!(found.is_empty(), "replay with: cargo xtask sim --seed {seed} --trace");
    }
}
