//! `schedules`: what they become, and what is refused.

use ork_core::lang::{RunFacts, bind_scheduled};
use ork_core::plan::{Catchup, Schedule, When};
use ork_core::time::{Span, Wall};
use serde_json::json;

use super::lower::plan;
use super::traps::gallery;

fn with(schedules: &str) -> String {
    format!(
        "params: {{ day: date, n: {{ type: int, default: 1 }} }}\nschedules: {schedules}\ntasks:\n  a: {{ run: [x] }}\n"
    )
}

#[test]
fn every_form() {
    let yaml = with(
        r#"
  nightly: { cron: "0 2 * * *", timezone: Europe/Berlin, dst: once, catchup: last, params: { day: "${{ run.logical_date - days(1) }}" } }
  often: { interval: 90s, jitter: 10s, catchup: { max: 5 }, paused: true, params: { day: 2026-01-01, n: 2 } }
  listed: { at: ["2026-12-24T08:00", "2026-12-01T08:00Z"], timezone: Asia/Kathmandu, catchup: all, params: { day: 2026-01-01 } }
  once: { at: "2026-12-24T08:00", params: { day: 2026-01-01 } }"#,
    );
    let plan = plan(&yaml);
    let names: Vec<_> = plan.schedules.keys().collect();
    assert_eq!(names, ["nightly", "often", "listed", "once"]);
    let Schedule { when, timezone, catchup, jitter, paused, .. } = &plan.schedules["nightly"];
    assert_eq!(when, &When::Cron("0 2 * * *".into()));
    assert_eq!((timezone.as_str(), *catchup), ("Europe/Berlin", Catchup::Last));
    assert_eq!((*jitter, *paused), (Span::ZERO, false));
    let often = &plan.schedules["often"];
    assert_eq!(often.when, When::Interval(Span::from_secs(90)));
    assert_eq!((often.jitter, often.catchup), (Span::from_secs(10), Catchup::Max(5)));
    assert!(often.paused && often.timezone == "UTC");
    let first = Wall(1_796_112_000_000_000);
    let christmas = Wall(1_798_078_500_000_000);
    assert_eq!(plan.schedules["listed"].when, When::At(vec![first, christmas]));
    assert_eq!(plan.schedules["listed"].catchup, Catchup::All);
}

#[test]
fn a_schedule_gives_its_params_by_the_tick() {
    let yaml =
        with(r#"{ s: { cron: "@daily", params: { day: "${{ run.logical_date - days(1) }}" } } }"#);
    let plan = plan(&yaml);
    let facts = RunFacts {
        id: "i".into(),
        workflow: "flow".into(),
        project: "default".into(),
        logical_time: "2026-11-24T00:00:00+01:00".into(),
        url: String::new(),
    };
    let bound = bind_scheduled(&plan, &plan.schedules["s"].params, &facts);
    assert_eq!(bound.unwrap(), json!({ "day": "2026-11-23", "n": 1 }));
}

#[test]
fn traps() {
    let given = "params: { day: 2026-01-01 }";
    let cases = [
        ("no rule", format!("{{ s: {{ {given} }} }}")),
        ("two rules", format!("{{ s: {{ cron: '@daily', interval: 1h, {given} }} }}")),
        ("a field of cron out of range", format!("{{ s: {{ cron: '61 2 * * *', {given} }} }}")),
        ("a cron that never fires", format!("{{ s: {{ cron: '0 0 30 2 *', {given} }} }}")),
        (
            "a zone that is not there",
            format!("{{ s: {{ cron: '@daily', timezone: Europe/Berln, {given} }} }}"),
        ),
        ("an interval too short", format!("{{ s: {{ interval: 10ms, {given} }} }}")),
        ("a date without a time", format!("{{ s: {{ at: 2026-12-24, {given} }} }}")),
        (
            "the same time twice",
            format!("{{ s: {{ at: ['2026-12-24T08:00', '2026-12-24T08:00Z'], {given} }} }}"),
        ),
        ("no times", format!("{{ s: {{ at: [], {given} }} }}")),
        (
            "a catchup that is none",
            format!("{{ s: {{ cron: '@daily', catchup: some, {given} }} }}"),
        ),
        (
            "a catchup of nothing",
            format!("{{ s: {{ cron: '@daily', catchup: {{ max: 0 }}, {given} }} }}"),
        ),
        ("a word of another tool", format!("{{ s: {{ cron: '@daily', tz: UTC, {given} }} }}")),
        ("a param left out", "{ s: { cron: '@daily' } }".into()),
        (
            "a param that is not there",
            "{ s: { cron: '@daily', params: { dya: 2026-01-01 } } }".into(),
        ),
        (
            "a param of another type",
            "{ s: { cron: '@daily', params: { day: '${{ run.id }}' } } }".into(),
        ),
        (
            "a param that names a task",
            "{ s: { cron: '@daily', params: { day: '${{ tasks.a.output }}' } } }".into(),
        ),
    ];
    let cases: Vec<_> = cases.into_iter().map(|(title, yaml)| (title, with(&yaml))).collect();
    let cases: Vec<_> = cases.iter().map(|(title, yaml)| (*title, yaml.as_str())).collect();
    gallery("schedules", &cases);
}
