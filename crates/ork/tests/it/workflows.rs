//! Workflows as a whole, and commands on many runs, by the real binary.

use serde_json::{Value, json};

use crate::online::Running;
use crate::{Place, Said};

const JOB: &str = "name: job\ndescription: first\ntags: [a]\n\
    schedules: { yearly: { cron: '0 0 1 1 *' } }\n\
    tasks:\n  a: { run: ['false'] }\n  b: { run: ['true'], depends_on: a }\n";

fn up(place: &Place) -> Running {
    let mut up = Running::start(place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    up
}

fn ok(place: &Place, words: &[&str]) -> Said {
    let said = place.ork(words);
    assert_eq!(said.code, 0, "{words:?}: {said:?}");
    said
}

fn data(place: &Place, words: &[&str]) -> Value {
    serde_json::from_str(&ok(place, &[words, &["-o", "json"]].concat()).out).unwrap()
}

#[test]
fn a_workflow_is_described_told_of_deleted_and_brought_back() {
    let place = Place::with(&[("job.yaml", JOB)]);
    let _up = up(&place);
    let set = ["workflows", "set", "job", "--description", "by hand", "--tag", "b", "--untag", "a"];
    let more = ["--label", "tier=gold", "--owner", "team", "--reason", "new team"];
    let tried = ok(&place, &[&set[..], &more, &["--dry-run"]].concat());
    assert!(tried.out.contains("workflow job: owner: none → team"), "{tried:?}");
    ok(&place, &[&set[..], &more].concat());
    let shown = ok(&place, &["workflows", "show", "job"]).out;
    for part in ["by hand", "owner   team", "tags    b", "labels  tier=gold"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert_eq!(place.ork(&["workflows", "set", "job"]).code, 2);
    ok(&place, &["workflows", "set", "job", "--no-owner", "--unlabel", "tier"]);
    ok(&place, &["workflows", "pause", "job", "--reason", "full"]);
    ok(&place, &["workflows", "resume", "job"]);
    let history = data(&place, &["workflows", "history", "job"]);
    let what: Vec<_> = history.as_array().unwrap().iter().map(|item| &item["what"]).collect();
    assert_eq!(json!(what), json!(["resumed", "paused", "described", "described", "deployed"]));
    assert_eq!(history[3]["by"]["reason"], "new team");
    let told = ok(&place, &["workflows", "history", "job"]).out;
    assert!(
        told.contains("changed by local: new team") && told.contains("+ owner  team"),
        "{told}"
    );

    let tried = ok(&place, &["workflows", "delete", "job", "--dry-run"]);
    assert!(tried.out.contains("schedule yearly of job: not paused → gone"), "{tried:?}");
    ok(&place, &["workflows", "delete", "job", "--reason", "old"]);
    let gone = place.ork(&["run", "job", "--detach"]);
    assert_eq!(gone.code, 4, "{gone:?}");
    assert!(gone.err.contains("was deleted at"), "{gone:?}");
    assert_eq!(place.ork(&["workflows", "delete", "job"]).code, 4);
    assert_eq!(data(&place, &["workflows", "list"]), json!([]));
    ok(&place, &["deploy", "job.yaml"]);
    let back = data(&place, &["workflows", "list"]);
    assert_eq!((&back[0]["name"], &back[0]["tags"]), (&json!("job"), &json!(["b"])));
}

#[test]
fn commands_on_many_runs_and_tries_of_them() {
    let place = Place::with(&[("job.yaml", JOB)]);
    let _up = up(&place);
    for _ in 0..2 {
        assert_eq!(place.ork(&["run", "job"]).code, 1);
    }
    let failed = ["--workflow", "job", "--state", "failed", "--since", "2020-01-01"];
    let mark = [&["runs", "mark"], &failed[..], &["a", "success"]].concat();
    let tried = ok(&place, &[&mark[..], &["--dry-run"]].concat()).out;
    assert_eq!(tried.matches("would change").count(), 2, "{tried}");
    assert!(tried.contains("a: failed → success, anew"), "{tried}");
    let marked = data(&place, &mark);
    assert_eq!(marked.as_array().unwrap().len(), 2);
    let run = marked[0]["run"].as_str().unwrap();
    assert_eq!(marked[0]["result"], "done");
    let tasks = ok(&place, &["runs", "show", run]).out;
    let is_marked = |line: &str| line.starts_with("a ") && line.contains("success");
    assert!(tasks.lines().any(is_marked), "{tasks}");
    let both = place.ork(&["runs", "mark", "last", "a", "success", "--workflow", "job"]);
    assert_eq!(both.code, 2, "{both:?}");
    assert_eq!(place.ork(&["runs", "mark", "a", "success"]).code, 2);
    assert_eq!(place.ork(&["runs", "mark", "last", "a", "well"]).code, 2);
    // One that ended well is not to be cancelled: it is answered for, and the code says so.
    let refused = place.ork(&["cancel", "--workflow", "job"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    let rerun = [&["runs", "rerun", "--latest"], &failed[..], &["--dry-run"]].concat();
    assert_eq!(data(&place, &rerun).as_array().unwrap().len(), 2);
    let signal = ok(&place, &["runs", "signal", "--workflow", "none", "go"]);
    assert!(signal.err.contains("the filter finds no run"), "{signal:?}");
    let none = place.ork(&["approvals", "approve", "last", "a", "--dry-run"]);
    assert_eq!(none.code, 4, "{none:?}");

    let pause = ok(&place, &["schedules", "pause", "job", "--dry-run"]).out;
    assert_eq!(pause, "  schedule yearly of job: not paused → paused\n");
    assert_eq!(data(&place, &["schedules", "show", "job"])["paused"], false);
    let set = ok(&place, &["pools", "set", "db", "4", "--dry-run"]).out;
    assert_eq!(set, "  pool db: no size → 4 slots\n");
    ok(&place, &["pools", "set", "db", "4"]);
    let gone = ok(&place, &["pools", "delete", "db", "--dry-run"]).out;
    assert_eq!(gone, "  pool db: 4 slots → no size\n");
    ok(&place, &["pools", "delete", "db", "--reason", "moved"]);
}
