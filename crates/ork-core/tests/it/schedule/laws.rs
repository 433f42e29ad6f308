//! What holds for every schedule.

use ork_core::plan::When;
use ork_core::schedule::Timetable;
use ork_core::time::{Span, Wall};
use proptest::prelude::*;

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Africa/Cairo",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Europe/Dublin",
];

const CRONS: &[&str] = &[
    "* * * * *",
    "*/15 * * * *",
    "30 2 * * *",
    "0,30 0-3 * * *",
    "0 */2 * * *",
    "*/20 30 1,2 * * *",
    "0 0 L * *",
    "45 23 * * 1-5",
    "0 0 29 2 *",
    "0 0 13 * FRI#2",
];

fn timetable() -> impl Strategy<Value = Timetable> {
    let when = prop_oneof![
        4 => prop::sample::select(CRONS).prop_map(|text| When::Cron(text.into())),
        1 => (1..200_000_i64).prop_map(|n| When::Interval(Span::from_secs(n))),
        1 => prop::collection::vec(1_750_000_000..1_790_000_000_i64, 1..9)
            .prop_map(|at| When::At(at.into_iter().map(|s| Wall(s * 1_000_000)).collect())),
    ];
    (when, prop::sample::select(ZONES))
        .prop_map(|(when, zone)| Timetable::new(&when, zone).unwrap())
}

/// Microseconds about the year 2026, many of them near to where a clock is changed.
fn instant() -> impl Strategy<Value = Wall> {
    let near = prop::sample::select(vec![
        1_774_746_000_i64,      // Berlin forward
        1_792_890_000,          // Berlin back
        1_772_953_200,          // New York forward
        1_777_032_000 - 50_400, // Cairo forward
        1_775_316_000,          // Lord Howe back
        1_788_667_200,          // Santiago forward
    ]);
    let anywhere = 1_767_225_600_000_000..1_798_761_600_000_000_i64;
    prop_oneof![
        anywhere,
        (near, -10_800_000_000..10_800_000_000_i64).prop_map(|(at, by)| at * 1_000_000 + by),
    ]
    .prop_map(Wall)
}

proptest! {
    #[test]
    fn ticks_increase_and_none_is_between(table in timetable(), after in instant(), part in 0.0..1.0_f64) {
        let Some(next) = table.next(after) else { return Ok(()) };
        prop_assert!(next.at > after);
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let between = Wall(after.0 + ((next.at - after).0 as f64 * part) as i64);
        if between < next.at {
            prop_assert_eq!(table.next(between), Some(next));
        }
        let later = table.next(next.at);
        prop_assert!(later.is_none_or(|later| later.at > next.at));
    }

    #[test]
    fn the_last_ones_are_the_end_of_all(table in timetable(), after in instant(), hours in 0..50_i64, most in 0..6_usize) {
        let until = after + Span::from_secs(hours * 3_600);
        let all: Vec<_> = table.ticks(after, until).collect();
        prop_assert_eq!(table.last(after, until), all.last().copied());
        let from = all.len().saturating_sub(most);
        prop_assert_eq!(table.latest(after, until, most), &all[from..]);
    }

    #[test]
    fn jitter_stays_before_the_next_tick(table in timetable(), after in instant(), jitter in 0..100_000_i64) {
        let Some(tick) = table.next(after) else { return Ok(()) };
        let due = table.due(&tick, Span::from_secs(jitter), "1/w/s");
        prop_assert_eq!(due, table.due(&tick, Span::from_secs(jitter), "1/w/s"));
        prop_assert!(due >= tick.at && due.0 - tick.at.0 <= jitter * 1_000_000);
        if let Some(next) = table.next(tick.at) {
            prop_assert!(due < next.at);
        }
    }
}

#[test]
fn jitter_spreads() {
    let table = Timetable::new(&When::Cron("0 0 * * *".into()), "UTC").unwrap();
    let tick = table.next(Wall(0)).unwrap();
    let due = |n: i32| table.due(&tick, Span::from_secs(100), &format!("1/w/{n}")).0 - tick.at.0;
    let parts: std::collections::BTreeSet<i64> = (0..1_000).map(|n| due(n) / 1_000_000).collect();
    assert!(parts.len() > 90, "{} of 100 seconds were drawn", parts.len());
}
