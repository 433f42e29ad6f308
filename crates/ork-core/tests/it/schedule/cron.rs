//! What is no schedule, and what is said of it.

use ork_core::plan::When;
use ork_core::schedule::{Cron, ScheduleError, Timetable, Zone};
use ork_core::time::Span;

use super::{at, cron};

#[test]
fn what_is_said_of_expressions_that_are_wrong() {
    let texts = [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "a * * * *",
        "0 0 * FOO *",
        "0 0 * * MOND",
        "*/0 * * * *",
        "*/99 * * * *",
        "5- * * * *",
        "22-2 0 * * *",
        "0 22-2 * * *",
        "0 0 * * FRI-TUE",
        "1,,2 * * * *",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 W * *",
        "0 0 40W * *",
        "0 0 * * 5#6",
        "0 0 * * L",
        "@reboot",
        "@every 5m",
        "@dailly",
        "ä * * * *",
        "0 0 1/-1 * *",
    ];
    let said: Vec<String> = texts
        .iter()
        .map(|text| match Cron::parse(text) {
            Ok(_) => format!("{text:?}: fine"),
            Err(e) => {
                let hint = e.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                format!("{text:?} {}+{}: {}{hint}", e.offset, e.length, e.message)
            }
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn aliases_and_letters_of_any_case_mean_the_same() {
    for (one, other) in [
        ("@daily", "0 0 * * *"),
        ("@Weekly", "0 0 * * sun"),
        ("@yearly", "0 0 1 JAN *"),
        (" 0\t0 * * * ", "0 0 ? * ?"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 l * fril", "0 0 L * 5L"),
        ("0 0 12 * * *", "0 12 * * *"),
    ] {
        let ticks = |text| {
            let table = cron(text, "UTC");
            let ticks = table.ticks(at("2026-01-01T00:00Z"), at("2027-01-01T00:00Z"));
            ticks.map(|tick| tick.at).collect::<Vec<_>>()
        };
        assert_eq!(ticks(one), ticks(other), "{one} and {other}");
    }
}

#[test]
fn zones_are_called_by_their_names() {
    for (name, nearest) in [
        ("Europe/Belin", Some("Europe/Berlin")),
        ("europe/berlin", Some("Europe/Berlin")),
        ("New York", Some("America/New_York")),
        ("Kathmandu", Some("Asia/Kathmandu")),
        ("utc", Some("UTC")),
        ("+02:00", None),
        ("Middle/Earth", None),
        ("", None),
    ] {
        let nearest = nearest.map(str::to_owned);
        let expected = ScheduleError::Zone { name: name.into(), nearest };
        assert_eq!(Zone::named(name).unwrap_err(), expected, "{name}");
    }
    for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "EST5EDT", "Etc/GMT+3"] {
        assert_eq!(Zone::named(name).unwrap().name(), name);
    }
}

#[test]
fn intervals_are_counted_from_a_monday() {
    let ticks = |every: Span, zone: &str, n: usize| {
        let table = Timetable::new(&When::Interval(every), zone).unwrap();
        let ticks = table.ticks(at("2026-03-28T23:59:59Z"), at("2030-01-01T00:00Z"));
        ticks.take(n).map(|tick| tick.logical_time()).collect::<Vec<_>>()
    };
    assert_eq!(
        ticks(Span::from_secs(7 * 86_400), "UTC", 2),
        ["2026-03-30T00:00:00Z", "2026-04-06T00:00:00Z"]
    );
    assert_eq!(
        ticks(Span::from_secs(3_600), "Europe/Berlin", 3),
        ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"]
    );
    let short = Timetable::new(&When::Interval(Span::from_millis(999)), "UTC").unwrap_err();
    assert_eq!(short.to_string(), "an interval is at least 1s, not 999ms");
}

#[test]
fn times_that_are_listed() {
    let zone = Zone::named("Europe/Berlin").unwrap();
    for (text, instant) in [
        ("2026-12-01T08:00", "2026-12-01T07:00:00Z"),
        ("2026-12-01T08:00:00+05:45", "2026-12-01T02:15:00Z"),
        ("2026-12-01T08:00Z", "2026-12-01T08:00:00Z"),
        ("2026-03-29T02:30", "2026-03-29T01:00:00Z"),
        ("2026-10-25T02:30", "2026-10-25T00:30:00Z"),
    ] {
        assert_eq!(zone.read(text), Ok(at(instant)), "{text}");
    }
    assert_eq!(
        zone.read("2026-12-01").unwrap_err(),
        "`2026-12-01` has no time: write `2026-12-01T00:00`"
    );
    assert_eq!(zone.read("noon").unwrap_err(), "`noon` is no date and time");
    let times = ["2026-12-02T00:00Z", "2026-12-01T00:00Z", "2026-12-02T00:00Z"].map(at).to_vec();
    let table = Timetable::new(&When::At(times), "UTC").unwrap();
    let all: Vec<_> = table.ticks(at("2026-01-01T00:00Z"), at("2027-01-01T00:00Z")).collect();
    assert_eq!(
        all.iter().map(|tick| tick.at).collect::<Vec<_>>(),
        ["2026-12-01T00:00Z", "2026-12-02T00:00Z"].map(at)
    );
    assert_eq!(table.next(all[1].at), None);
}
