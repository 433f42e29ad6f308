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

#[test]
fn a_skipped_token_check_is_caught() {
    let mut config = Config::default();
    config.machine.sabotage = Some(Sabotage::SkipTokenCheck);
    assert!(caught(&config, 500).is_some());
}

#[test]
fn a_slot_released_early_is_caught() {
    let mut config = Config::default();
    config.machine.sabotage = Some(Sabotage::ReleaseEarly);
    assert!(caught(&config, 500).is_some());
}

#[test]
fn a_dispatch_before_its_commit_is_caught() {
    let config = Config { dispatch_before_commit: true, ..Config::default() };
    assert!(caught(&config, 20).is_some());
}
