//! Settings: shown, and kept.

use crate::Place;

const FLOW: &str = "name: flow\ntasks:\n  a:\n    run: {shell: \"SCRIPT\"}\n";

fn flow(script: &str) -> String {
    FLOW.replace("SCRIPT", script)
}

#[test]
fn all_are_shown_with_where_they_come_from() {
    let place = Place::with(&[("ork.toml", "[retention]\ndays = 7\n")]);
    let mut command = place.command(&["config", "show", "-o", "json"]);
    let said = command.env("ORK_LOGS__MAX_BYTES", "4Gi").env("ORK_PYTHON", "/py").output().unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&said.stdout).unwrap();
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap();
    for (key, value, origin) in [
        ("logs.max_bytes", "4Gi", "environment ORK_LOGS__MAX_BYTES"),
        ("worker.python", "/py", "environment ORK_PYTHON"),
        ("retention.runs", "10000", "default"),
        ("limits.output", "1Mi", "default"),
    ] {
        assert_eq!((&row(key)["value"], &row(key)["origin"]), (&value.into(), &origin.into()));
    }
    assert_eq!(row("retention.days")["value"], "7");
    assert!(row("retention.days")["origin"].as_str().unwrap().ends_with("ork.toml"));
}

#[test]
fn variables_are_passed_to_tasks_where_they_are_named() {
    let place = Place::with(&[("f.yaml", &flow("echo it is ${MINE:-none}"))]);
    for (pass, expected) in [("", "it is none\n"), ("OTHER,MINE", "it is set\n")] {
        let mut command = place.command(&["run", "f.yaml"]);
        let said = command.env("MINE", "set").env("ORK_WORKER__PASS_ENV", pass).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        assert_eq!(place.ork(&["logs", "last", "a"]).out, expected);
    }
}

#[test]
fn the_configured_python_is_taken() {
    let place = Place::with(&[
        ("ork.toml", "[worker]\npython = \"./no/python\"\n"),
        ("f.yaml", "name: f\ntasks:\n  a: {python: f.py:go}\n"),
        ("f.py", "def go():\n    pass\n"),
    ]);
    let said = place.ork(&["run", "f.yaml"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("no/python is no program"), "{said:?}");
}

#[test]
fn past_its_cap_a_log_says_what_was_not_kept() {
    let place = Place::with(&[
        ("ork.toml", "[logs]\nmax_bytes = \"1Mi\"\n"),
        ("f.yaml", &flow("echo first; yes $(printf %01000d 0) | head -n 15000 || true; echo end")),
    ]);
    assert_eq!(place.ork(&["run", "f.yaml"]).code, 0);
    let said = place.ork(&["logs", "last", "a"]);
    assert!(said.out.starts_with("first\n000") && said.out.ends_with("000\nend\n"));
    assert!(said.out.len() < 8 << 20, "{}", said.out.len());
    assert!(said.out.contains(" MiB not kept ("));
}

#[test]
fn limits_are_kept_and_named() {
    let place = Place::with(&[
        (
            "ork.toml",
            "[limits]\noutput = \"1Ki\"\nfile = \"2Ki\"\nnesting = 6\ntasks = 2\nexpansion = 1\n",
        ),
        ("f.yaml", &flow("head -c 2000 /dev/zero > $ORK_OUTPUT")),
        ("g.yaml", &(flow("true") + &"#".repeat(2_100))),
        ("nesting.yaml", &format!("{}output: [[[[[[[1]]]]]]]\n", flow("true"))),
        ("tasks.yaml", &(flow("true") + "  b: {run: [id]}\n  c: {run: [id]}\n")),
        (
            "expansion.yaml",
            &(flow("true") + "    env: &e {A: b}\n" + "  b: {run: [id], env: *e}\n"),
        ),
    ]);
    for (file, part) in [
        ("g.yaml", "more than 2048 bytes (limits.file)"),
        ("nesting.yaml", "more than 6 deep (limits.nesting)"),
        ("tasks.yaml", "more than 2 tasks (limits.tasks)"),
    ] {
        for verb in ["validate", "deploy", "run"] {
            let said = place.ork(&[verb, file]);
            let words = said.out.clone() + &said.err;
            assert!(said.code == 1 && words.contains(part), "{verb}: {said:?}");
        }
    }
    assert_eq!(place.ork(&["validate", "expansion.yaml"]).code, 0);
    let said = place.ork(&["run", "f.yaml"]);
    assert!(said.code == 1 && said.err.contains("limits.output"), "{said:?}");
    let said = place.ork(&["run", "g.yaml"]);
    assert!(said.code == 1 && said.err.contains("more than 2048"), "{said:?}");
}
