//! The simulator finds what is broken on purpose, and nothing where nothing is.

use ork_core::run::Sabotage;
use ork_engine::Config;

use super::simulate;

/// As many seeds as the honest build passes are as many as a broken one has to be caught.
const SEEDS: u64 = 300;

/// The first seed that finds something.
fn caught(config: &Config) -> Option<u64> {
    (0..SEEDS).find(|seed| !simulate(*seed, config, false).is_empty())
}

fn with(sabotage: Sabotage) -> Config {
    let mut config = Config::default();
    config.machine.sabotage = Some(sabotage);
    config
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
    assert_caught(&Config { dispatch_before_commit: true, ..Config::default() });
}

/// Some seed finds something, and finds nothing in the honest build: it is the sabotage.
fn assert_caught(config: &Config) {
    let seed = caught(config).expect("no seed finds it");
    assert_eq!(simulate(seed, &Config::default(), false), [] as [&str; 0], "seed {seed}");
}

/// Runs that make the machine panic are set aside, and nothing else is wrong.
#[test]
fn a_machine_that_panics_loses_the_runs_it_panics_on_alone() {
    assert_eq!(caught(&with(Sabotage::Panic)), None);
}

/// Seeds that found something once: a run that could only begin and said not why; a run that ended
/// and was read before its end was durable; attempts said to be stale by changes that were refused; a `finally` that a
/// compiler's answer began in a run that was under way again.
#[test]
fn what_was_found_once_stays_mended() {
    for seed in [2_672, 3_124, 30_709, 40_520] {
        let found = simulate(seed, &Config::default(), false);
        assert!(found.is_empty(), "replay with: cargo xtask sim --seed {seed} --trace");
    }
}
