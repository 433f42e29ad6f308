//! The simulator finds what is broken on purpose, and nothing where nothing is.

use ork_core::run::Sabotage;
use ork_engine::Config;

use super::simulate;

/// The first seed below `limit` that finds something.
fn caught(config: &Config, limit: u64) -> Option<u64> {
    (0..limit).find(|seed| !simulate(*seed, config, false).is_empty())
}

#[test]
fn an_honest_build_passes() {
    let broken = caught(&Config::default(), 300);
    assert_eq!(broken, None, "replay with: cargo xtask sim --seed N --trace");
}

/// Seeds that found something once: a run that could only begin and said not why; a run that ended
/// and was read before its end was durable.
#[test]
fn what_was_found_once_stays_mended() {
    for seed in [2_672, 3_124] {
        let found = simulate(seed, &Config::default(), false);
        assert!(found.is_empty(), "replay with: cargo xtask sim --seed {seed} --trace");
    }
}

#[test]
fn a_skipped_token_check_is_caught() {
    assert!(caught(&with(Sabotage::SkipTokenCheck), 500).is_some());
}

#[test]
fn a_slot_released_early_is_caught() {
    assert!(caught(&with(Sabotage::ReleaseEarly), 500).is_some());
}

fn with(sabotage: Sabotage) -> Config {
    let mut config = Config::default();
    config.machine.sabotage = Some(sabotage);
    config
}

#[test]
fn pools_that_are_ignored_are_caught() {
    assert!(caught(&with(Sabotage::IgnorePools), 1_000).is_some());
}

#[test]
fn places_that_are_ignored_are_caught() {
    assert!(caught(&with(Sabotage::IgnorePlaces), 1_000).is_some());
}

#[test]
fn pauses_that_are_ignored_are_caught() {
    assert!(caught(&with(Sabotage::IgnorePauses), 1_000).is_some());
}

/// Runs that make the machine panic are set aside, and nothing else is wrong.
#[test]
fn a_machine_that_panics_loses_the_runs_it_panics_on_alone() {
    let config = with(Sabotage::Panic);
    let broken = (0..300).map(|seed| (seed, simulate(seed, &config, false)));
    assert_eq!(broken.into_iter().find(|(_, problems)| !problems.is_empty()), None);
}

#[test]
fn a_dispatch_before_its_commit_is_caught() {
    let config = Config { dispatch_before_commit: true, ..Config::default() };
    assert!(caught(&config, 20).is_some());
}
