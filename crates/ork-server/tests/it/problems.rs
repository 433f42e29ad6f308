//! What refusals look like.

use ork_api::client::ClientError;
use ork_api::problem::{Code, Problem};
use ork_api::types::{Deploy, NewRun, Part, RunQuery};
use ork_server::Storage;
use serde_json::json;

use crate::harness::{Ork, raw, run_of, workflow};

/// Sends JSON and reads the problem that comes back.
async fn refused(ork: &Ork, method: &str, path: &str, body: &str) -> Problem {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nx-request-id: mine-1\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        ork.running.token(),
        body.len()
    );
    let answer = raw(&ork.address(), head.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/problem+json"), "{head}");
    assert!(head.contains("x-request-id: mine-1"), "{head}");
    let problem: Problem = serde_json::from_str(body).unwrap();
    assert_eq!(problem.request_id, "mine-1");
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", problem.status)), "{head}");
    problem
}

const RUNS: &str = "/api/v1/projects/default/runs";

#[tokio::test]
async fn each_has_its_code_and_a_sentence() {
    let ork = Ork::start(Storage::Memory).await;
    ork.deploy("w", &["a"]).await;
    let id = "00000000-0000-7000-8000-000000000000";
    let long_reason = format!(r#"{{"workflow":"w","reason":"{}"}}"#, "x".repeat(5_000));
    let long_label = format!(r#"{{"workflow":"w","labels":{{"team":"{}"}}}}"#, "x".repeat(300));
    for (method, path, body, code, part) in [
        ("GET", "/nope".to_owned(), "", Code::NotFound, "no such path"),
        ("DELETE", RUNS.to_owned(), "", Code::MethodNotAllowed, "method"),
        ("GET", format!("{RUNS}/{id}"), "", Code::NotFound, id),
        ("GET", format!("{RUNS}/x"), "", Code::NotFound, "/runs/x"),
        ("GET", format!("{RUNS}/{id}/tasks"), "", Code::NotFound, id),
        ("GET", format!("{RUNS}/{id}/events"), "", Code::NotFound, id),
        ("GET", format!("{RUNS}/{id}/tasks/a/logs"), "", Code::NotFound, "task `a`"),
        ("GET", format!("{RUNS}?limit=0"), "", Code::Malformed, "from 1 to 500"),
        ("GET", format!("{RUNS}?limit=x"), "", Code::Malformed, "limit"),
        ("GET", format!("{RUNS}?color=red"), "", Code::Malformed, "color"),
        ("GET", format!("{RUNS}?state=gone"), "", Code::Malformed, "gone"),
        ("GET", format!("{RUNS}?created_after=soon"), "", Code::Malformed, "created_after"),
        ("POST", RUNS.to_owned(), "{", Code::Malformed, "not JSON"),
        ("POST", RUNS.to_owned(), r#"{"colour":1}"#, Code::Invalid, "colour"),
        ("POST", RUNS.to_owned(), r#"{"workflow":"none"}"#, Code::NotFound, "workflow `none`"),
        ("POST", RUNS.to_owned(), r#"{"workflow":"w","version":9}"#, Code::NotFound, "version 9"),
        ("POST", RUNS.to_owned(), "{}", Code::Invalid, "workflow"),
        ("POST", RUNS.to_owned(), &long_reason, Code::Invalid, "reason"),
        ("POST", RUNS.to_owned(), &long_label, Code::Invalid, "labels.team"),
        (
            "POST",
            RUNS.to_owned(),
            r#"{"workflow":"w","logical_time":"x"}"#,
            Code::Invalid,
            "logical_time",
        ),
        ("POST", format!("{RUNS}/{id}/cancel"), "{}", Code::NotFound, id),
        ("GET", "/api/v1/events?topics=x".to_owned(), "", Code::Malformed, "`x`"),
        ("GET", format!("/api/v1/events?topics=run:{id}"), "", Code::NotFound, id),
    ] {
        let problem = refused(&ork, method, &path, body).await;
        assert_eq!(problem.code, code, "{method} {path}: {problem:?}");
        assert!(problem.detail.contains(part), "{method} {path}: {}", problem.detail);
    }
}

#[tokio::test]
async fn params_are_refused_field_by_field() {
    let ork = Ork::start(Storage::Memory).await;
    let source = "name: w\nparams:\n  day: { type: date }\n  n: { type: int, default: 1 }\n\
                  tasks:\n  a: { run: [\"true\"] }\n";
    let deploy =
        Deploy { file: "w.yaml".into(), source: source.into(), bundle: None, reason: None };
    ork.client.deploy(&deploy).await.unwrap();
    let params = [("n".to_owned(), json!("x")), ("nn".to_owned(), json!(1))];
    let run = NewRun { params: params.into_iter().collect(), ..run_of("w") };
    let error = ork.client.create_run(&run).await.unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!((problem.status, problem.code), (422, Code::Invalid));
    let mut fields: Vec<_> = problem.errors.iter().map(|error| &*error.field).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["params.day", "params.n", "params.nn"]);
}

#[tokio::test]
async fn a_workflow_with_errors_is_refused_with_all_of_them() {
    let ork = Ork::start(Storage::Memory).await;
    let source = "name: w\ntasks:\n  a: { rum: [x] }\n  b: { run: [x], depends_on: nope }\n";
    let deploy =
        Deploy { file: "w.yaml".into(), source: source.into(), bundle: None, reason: None };
    let error = ork.client.deploy(&deploy).await.unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!((problem.status, problem.code), (422, Code::WorkflowInvalid));
    assert!(problem.diagnostics.len() >= 2, "{:#?}", problem.diagnostics);
    assert!(ork.client.workflows(&Part::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_bundle_that_is_not_there_is_named() {
    let ork = Ork::start(Storage::Memory).await;
    let deploy = Deploy {
        file: "w.yaml".into(),
        source: workflow("w", &["a"]),
        bundle: Some(ork_core::value::Digest([7; 32])),
        reason: None,
    };
    let error = ork.client.deploy(&deploy).await.unwrap_err();
    assert_eq!(error.problem().unwrap().errors[0].field, "bundle");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let client = ork_api::client::Client::http("http://127.0.0.1:1", None).unwrap();
    let error = client.runs(&RunQuery::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(_)), "{error:?}");
}
