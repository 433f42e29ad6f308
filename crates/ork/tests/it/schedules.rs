//! Schedules on the real binary.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Place;
use crate::online::Running;

const EACH: &str = "name: each\nschedules: { second: { interval: 1s } }\ntasks:\n  a: { run: [echo, \"${{ run.logical_time }}\"] }\n";
const BERLIN: &str = "name: berlin\nschedules:\n  night: { cron: \"30 2 * * *\", timezone: Europe/Berlin, catchup: last }\n  noon: { cron: \"0 12 * * *\" }\ntasks:\n  a: { run: [x] }\n";

fn json(place: &Place, words: &[&str]) -> Value {
    let said = place.ork(&[words, &["-o", "json"]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

/// The ticks that are shown, the latest first.
fn ticks(place: &Place) -> Vec<Value> {
    json(place, &["schedules", "show", "each"])["ticks"].as_array().unwrap().clone()
}

/// Waits until the schedule has made this many runs.
fn until_runs(place: &Place, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let made: Vec<_> = json(place, &["ls", "-n", "500"]).as_array().unwrap().clone();
        if made.len() >= count {
            return made;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "{made:?}");
    }
}

fn up(place: &Place) -> Running {
    let mut up = Running::start(place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    up
}

/// Each run has a tick of its own.
fn no_tick_twice(runs: &[Value]) {
    let mut times: Vec<_> = runs.iter().map(|run| run["logical_time"].as_str().unwrap()).collect();
    times.sort_unstable();
    let count = times.len();
    times.dedup();
    assert_eq!(times.len(), count, "{times:?}");
}

#[test]
fn a_schedule_makes_runs_and_waits_while_paused_and_a_crash_repeats_none() {
    let place = Place::with(&[("each.yaml", EACH)]);
    let first = up(&place);
    let runs = until_runs(&place, 2);
    assert_eq!(runs[0]["trigger"], "schedule:second");
    drop(first);
    let second = up(&place);
    let runs = until_runs(&place, runs.len() + 2);
    no_tick_twice(&runs);
    let said = place.ork(&["schedules", "pause", "each", "--reason", "tests"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("second of each paused"), "{said:?}");
    let shown = json(&place, &["schedules", "show", "each", "second"]);
    assert_eq!((&shown["paused"], &shown["changed_by"]["reason"]), (&true.into(), &"tests".into()));
    let paused = ticks(&place);
    drop(second);
    let _third = up(&place);
    assert_eq!(ticks(&place), paused);
    let said = place.ork(&["schedules", "resume", "each"]);
    assert!(said.err.contains("second of each goes on; the next tick is 20"), "{said:?}");
    let made = json(&place, &["ls", "-n", "500"]).as_array().unwrap().len();
    no_tick_twice(&until_runs(&place, made + 1));
}

#[test]
fn a_preview_needs_no_server_and_marks_changes_of_the_clock() {
    let place = Place::with(&[("berlin.yaml", BERLIN)]);
    let preview =
        |words: &[&str]| place.ork(&[&["schedules", "preview", "berlin.yaml"], words].concat());
    let said = preview(&["night", "--after", "2026-03-28T12:00:00Z", "-n", "2"]);
    assert_eq!(said.code, 0, "{said:?}");
    let lines: Vec<_> = said.out.lines().skip(1).map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "2026-03-29T03:00:00+02:00  CEST   2026-03-29 01:00:00Z  its own time is skipped; right after",
            "2026-03-30T02:30:00+02:00  CEST   2026-03-30 00:30:00Z",
        ]
    );
    let said = preview(&["night", "--after", "2026-10-24T12:00:00Z", "-n", "2"]);
    assert!(
        said.out
            .contains("2026-10-25T02:30:00+02:00  CEST   2026-10-25 00:30:00Z  the first of two"),
        "{said:?}"
    );
    assert!(said.out.contains("the clock is CET from here"), "{said:?}");
    let said = preview(&[]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("name one of night, noon"), "{said:?}");
    let said = preview(&["nigth"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.err.contains("did you mean `night`?"), "{said:?}");
}

const DAILY: &str = "name: each\nparams: { bad: { type: str, default: \"\" } }\nschedules: { daily: { cron: \"0 2 * * *\", timezone: Europe/Berlin, paused: true } }\n\
    tasks:\n  a: { run: { shell: 'case $DAY in *-02T*) test -e mended;; esac' }, env: { DAY: \"${{ run.logical_time }}\" } }\n";

#[test]
fn a_backfill_makes_the_runs_of_a_range_and_retries_what_failed() {
    let place = Place::with(&[("each.yaml", DAILY)]);
    let first = up(&place);
    let range = ["--from", "2026-03-01", "--to", "2026-03-03"];
    let backfill =
        |more: &[&str]| place.ork(&[&["workflows", "backfill", "each"], &range[..], more].concat());
    let said = backfill(&["--dry-run", "--order", "newest"]);
    assert_eq!((said.code, said.err.contains("3 runs would be made")), (0, true), "{said:?}");
    let first_tick = said.out.lines().nth(1).unwrap().to_owned();
    assert!(first_tick.starts_with("2026-03-03T02:00:00+01:00"), "{said:?}");
    assert!(json(&place, &["ls"]).as_array().unwrap().is_empty());
    let said = backfill(&["--max-runs", "2", "-o", "name"]);
    assert_eq!(said.code, 0, "{said:?}");
    let id = said.out.trim().to_owned();
    let until = |states: [usize; 2]| {
        let begun = Instant::now();
        loop {
            let runs = json(&place, &["ls", "--trigger", &format!("backfill:{id}")]);
            let of = |state: &str| {
                runs.as_array().unwrap().iter().filter(|run| run["state"] == state).count()
            };
            let shown = json(&place, &["backfills", "show", &id]);
            if [of("success"), of("failed")] == states && shown["state"] == "done" {
                return shown;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "{runs} {shown}");
        }
    };
    assert_eq!(until([2, 1])["made"], 3);
    drop(first);
    place.write("mended", "");
    let _second = up(&place);
    let said = place.ork(&["backfills", "retry", &id]);
    assert_eq!(said.code, 0, "{said:?}");
    let begun = Instant::now();
    while json(&place, &["backfills", "show", &id])["state"] != "done" {
        assert!(begun.elapsed() < Duration::from_mins(1));
    }
    let said = place.ork(&["backfills", "pause", &id]);
    assert_eq!(said.code, 4, "{said:?}");
    let said =
        place.ork(&["workflows", "backfill", "each", "--from", "2026-03-02", "--to", "2026-03-01"]);
    assert_eq!((said.code, said.err.contains("no ticks in this range")), (4, true), "{said:?}");
}
