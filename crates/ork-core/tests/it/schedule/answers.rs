//! Every form of a cron field, and the days on which clocks are changed, against what other
//! implementations answered (`tests/fixtures/cron/generate.py`).

use ork_core::time::Wall;
use serde::Deserialize;

use super::{at, cron};

#[derive(Deserialize)]
struct Row {
    cron: String,
    zone: String,
    after: String,
    ticks: Vec<String>,
}

#[test]
fn as_other_implementations_say() {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("../../fixtures/cron/answers.json")).unwrap();
    assert!(rows.len() > 500);
    let mut wrong = Vec::new();
    for row in rows {
        let (after, last) = (at(&row.after), at(row.ticks.last().unwrap()));
        let table = cron(&row.cron, &row.zone);
        let ours: Vec<Wall> = table.ticks(after, last).map(|tick| tick.at).collect();
        let theirs: Vec<Wall> = row.ticks.iter().map(|text| at(text)).collect();
        if ours != theirs {
            let ours: Vec<_> =
                table.ticks(after, last).take(12).map(|tick| tick.logical_time()).collect();
            wrong.push(format!(
                "`{}` in {} after {}:\n ours {ours:?}\n theirs {:?}",
                row.cron, row.zone, row.after, row.ticks
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}
