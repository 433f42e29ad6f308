//! Workflows as a whole: their metadata, their history, their deletion.

use ork_api::client::ClientError;
use ork_api::problem::Code;
use ork_api::schedules::ScheduleQuery;
use ork_api::triggers::TriggerQuery;
use ork_api::types::{
    Deploy, DescribeWorkflow, HistoryItem, MAX_REASON, NewRun, Part, Pause, Removal, Rerun, Retry,
    RunQuery, Workflow,
};
use ork_core::difference::Difference;
use ork_core::rows::Happened;
use ork_core::run::RunState;
use ork_core::value::{Digest, Value};
use serde_json::json;

use crate::harness::{Ork, STORAGES, raw, run_of};

fn file(description: &str, tags: &str, work: &str) -> Deploy {
    let source = format!(
        "name: w\ndescription: {description}\ntags: {tags}\nlabels: {{ tier: gold }}\n\
         schedules: {{ yearly: {{ cron: '0 0 1 1 *' }} }}\n\
         triggers: {{ push: {{ webhook: {{ body: json, auth: hmac }} }} }}\n\
         tasks: {{ {work}: {{ run: [x] }} }}\n"
    );
    Deploy { file: "w.yaml".into(), source, bundle: None, reason: None }
}

fn patch(body: Value) -> DescribeWorkflow {
    serde_json::from_value(body).unwrap()
}

async fn history(ork: &Ork) -> Vec<HistoryItem> {
    ork.client.workflow_history("w", &Part::default()).await.unwrap().items
}

fn what(items: &[HistoryItem]) -> Vec<(Happened, Option<i64>)> {
    items.iter().map(|item| (item.what, item.version)).collect()
}

fn code(refused: Result<impl Sized, ClientError>) -> Option<Code> {
    refused.err().unwrap().code()
}

/// What people read of it.
fn about(workflow: &Workflow) -> Value {
    json!([workflow.description, workflow.tags, workflow.labels, workflow.owner])
}

#[tokio::test]
async fn metadata_changes_without_a_version_and_is_kept_in_history() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.client.deploy(&file("first", "[a]", "t")).await.unwrap();
        let before = ork.client.workflow("w").await.unwrap();
        let change = patch(json!({
            "description": null, "tags": ["a", "b"], "labels": {"tier": null, "k": "v"},
            "owner": "team", "paused": true, "reason": "new team",
        }));
        let preview = ork.client.preview_describe("w", &change).await.unwrap();
        let told: Vec<_> = preview.changes.iter().map(|it| it.what.clone().unwrap()).collect();
        assert_eq!(told.len(), 6, "{preview:?}");
        assert_eq!(ork.client.workflow("w").await.unwrap(), before, "a try changes nothing");
        let revision = Some(&before.revision);
        let then = ork.client.describe_workflow("w", &change, revision).await.unwrap();
        assert_eq!(about(&then), json!([null, ["a", "b"], {"k": "v"}, "team"]));
        assert!(then.paused.is_some() && then.current == Some(1));
        assert_eq!(ork.client.workflow("w").await.unwrap(), then);
        let items = history(&ork).await;
        let expected =
            [(Happened::Paused, None), (Happened::Described, None), (Happened::Deployed, Some(1))];
        assert_eq!(what(&items), expected, "{storage:?}");
        assert_eq!(items[1].by.reason.as_deref(), Some("new team"));
        let of = |path: &str, before: Value, after: Value| Difference {
            path: path.into(),
            before: Some(before).filter(|it| !it.is_null()),
            after: Some(after).filter(|it| !it.is_null()),
        };
        let changes = [
            of("description", json!("first"), Value::Null),
            of("tags", json!(["a"]), json!(["a", "b"])),
            of("labels.tier", json!("gold"), Value::Null),
            of("labels.k", Value::Null, json!("v")),
            of("owner", Value::Null, json!("team")),
        ];
        assert_eq!(items[1].changes.len(), changes.len());
        assert!(changes.iter().all(|change| items[1].changes.contains(change)), "{items:?}");
        // The same again changes nothing, and is no news.
        ork.client.describe_workflow("w", &change, None).await.unwrap();
        assert_eq!(history(&ork).await, items);
        ork.client.pause_workflow("w", false, &Pause::default()).await.unwrap();
        assert_eq!(history(&ork).await[0].what, Happened::Resumed);
    }
}

#[tokio::test]
async fn a_stale_change_is_refused() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.client.deploy(&file("first", "[a]", "t")).await.unwrap();
        let seen = ork.client.workflow("w").await.unwrap().revision;
        let owner = |name: &str| patch(json!({ "owner": name }));
        ork.client.describe_workflow("w", &owner("one"), Some(&seen)).await.unwrap();
        let stale = ork.client.describe_workflow("w", &owner("two"), Some(&seen)).await;
        assert_eq!(code(stale), Some(Code::PreconditionFailed));
        let none = Digest::of(b"never");
        let none = ork.client.describe_workflow("w", &owner("two"), Some(&none)).await;
        assert_eq!(code(none), Some(Code::PreconditionFailed));
        assert_eq!(ork.client.workflow("w").await.unwrap().owner.as_deref(), Some("one"));
        let unknown = ork.client.describe_workflow("none", &owner("two"), None).await;
        assert_eq!(code(unknown), Some(Code::NotFound));
    }
}

async fn answer(ork: &Ork, method: &str, rest: &str, headers: &str, body: &str) -> String {
    let request = format!(
        "{method} /api/v1/projects/default{rest} HTTP/1.1\r\nhost: 127.0.0.1\r\n\
         authorization: Bearer {}\r\ncontent-type: application/json\r\n{headers}\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        ork.running.token(),
        body.len()
    );
    raw(&ork.address(), request.as_bytes()).await
}

#[tokio::test]
async fn an_etag_guards_a_change_and_a_key_makes_it_once() {
    let ork = Ork::start(STORAGES[0]).await;
    ork.client.deploy(&file("first", "[a]", "t")).await.unwrap();
    let shown = answer(&ork, "GET", "/workflows/w", "", "").await;
    let revision = ork.client.workflow("w").await.unwrap().revision;
    assert!(shown.contains(&format!("etag: \"{revision}\"")), "{shown}");
    let headers = format!("if-match: \"{revision}\"\r\nidempotency-key: k\r\n");
    let change = r#"{"owner": "one"}"#;
    let first = answer(&ork, "PATCH", "/workflows/w", &headers, change).await;
    assert!(first.starts_with("HTTP/1.1 200") && first.contains("etag: "), "{first}");
    let again = answer(&ork, "PATCH", "/workflows/w", &headers, change).await;
    assert!(again.starts_with("HTTP/1.1 200"), "{again}");
    let other = answer(&ork, "PATCH", "/workflows/w", &headers, r#"{"owner": "two"}"#).await;
    assert!(other.contains("idempotency_key_reused"), "{other}");
    let headers = format!("if-match: \"{revision}\"\r\n");
    for (headers, body, status) in [
        (&*headers, r#"{"owner": "two"}"#, "412"),
        ("if-match: W/\"x\"\r\n", "{}", "400"),
        ("if-match: \"x\"\r\n", "{}", "412"),
        ("if-match: *\r\n", "{}", "200"),
        ("", r#"{"name": "other"}"#, "422"),
        ("", r#"{"tags": [""]}"#, "422"),
        ("", r#"{"labels": {"": "x"}}"#, "422"),
    ] {
        let said = answer(&ork, "PATCH", "/workflows/w", headers, body).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{headers} {body}: {said}");
    }
    let long = json!({ "description": "x".repeat(20_000) }).to_string();
    let said = answer(&ork, "PATCH", "/workflows/w", "", &long).await;
    assert!(said.starts_with("HTTP/1.1 422"), "{said}");
    let long = json!({ "owner": "x", "reason": "x".repeat(MAX_REASON + 1) }).to_string();
    let said = answer(&ork, "PATCH", "/workflows/w", "", &long).await;
    assert!(said.starts_with("HTTP/1.1 422"), "{said}");
}

#[tokio::test]
async fn a_deploy_changes_back_only_what_its_file_says_anew() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.client.deploy(&file("first", "[a]", "t")).await.unwrap();
        let change = patch(json!({"description": "by a person", "tags": ["p"], "owner": "team"}));
        ork.client.describe_workflow("w", &change, None).await.unwrap();
        // The same file, and one whose work is another: what people said stays.
        for (work, created) in [("t", false), ("u", true)] {
            let deployed = ork.client.deploy(&file("first", "[a]", work)).await.unwrap();
            assert_eq!(deployed.created, created);
            let then = ork.client.workflow("w").await.unwrap();
            assert_eq!(about(&then), json!(["by a person", ["p"], {"tier": "gold"}, "team"]));
        }
        // A file that says another thing of one part changes that part, without a version.
        let deployed = ork.client.deploy(&file("second", "[a]", "u")).await.unwrap();
        assert_eq!((deployed.version, deployed.created), (2, false), "{storage:?}");
        let then = ork.client.workflow("w").await.unwrap();
        assert_eq!(about(&then), json!(["second", ["p"], {"tier": "gold"}, "team"]));
        let items = history(&ork).await;
        assert_eq!(what(&items)[0], (Happened::Deployed, None));
        assert_eq!(items[0].changes.len(), 1);
        ork.client.deploy(&file("second", "[b]", "u")).await.unwrap();
        assert_eq!(ork.client.workflow("w").await.unwrap().tags, ["b"]);
    }
}

#[tokio::test]
async fn a_deleted_workflow_starts_nothing_until_it_is_deployed_again() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        let client = &ork.client;
        client.deploy(&file("first", "[a]", "hold")).await.unwrap();
        let run = ork.holding("w").await;
        let how = Removal { dry_run: false, reason: Some("old".into()) };
        let refused = client.delete_workflow("w", &how).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Conflict));
        assert!(refused.to_string().contains(&run.id.to_string()), "{refused}");
        ork.release.notify_one();
        ork.ended(run.id).await;
        let tried = Removal { dry_run: true, ..how.clone() };
        let preview = client.delete_workflow("w", &tried).await.unwrap();
        let told: Vec<_> =
            preview.changes.iter().map(|it| (it.what.as_deref().unwrap(), &*it.to)).collect();
        let expected = [
            ("workflow w", "deleted"),
            ("schedule yearly of w", "gone"),
            ("trigger push of w", "gone"),
        ];
        assert_eq!(told, expected);
        assert!(client.schedule("w", "yearly").await.is_ok(), "a try changes nothing");
        assert_eq!(client.delete_workflow("w", &how).await.unwrap(), preview);

        assert!(client.workflows(&Part::default()).await.unwrap().items.is_empty());
        assert!(client.workflow("w").await.unwrap().deleted_at.is_some());
        assert!(client.schedules(&ScheduleQuery::default()).await.unwrap().items.is_empty());
        assert!(client.triggers(&TriggerQuery::default()).await.unwrap().items.is_empty());
        let gone = Some(Code::WorkflowDeleted);
        assert_eq!(code(client.create_run(&run_of("w")).await), gone);
        let first = NewRun { version: Some(1), ..run_of("w") };
        assert_eq!(code(client.create_run(&first).await), gone);
        assert_eq!(code(client.rerun(run.id, &Rerun::default()).await), gone);
        assert_eq!(code(client.retry(run.id, &Retry::default()).await), gone);
        assert_eq!(code(client.pause_workflow("w", true, &Pause::default()).await), gone);
        assert_eq!(code(client.delete_workflow("w", &how).await), gone);
        let owner = patch(json!({ "owner": "x" }));
        assert_eq!(code(client.describe_workflow("w", &owner, None).await), gone);
        // What was can be read.
        assert_eq!(client.run(run.id).await.unwrap().state, RunState::Success);
        assert_eq!(client.runs(&RunQuery::default()).await.unwrap().items.len(), 1);
        assert!(client.version("w", 1).await.is_ok());
        let items = history(&ork).await;
        assert_eq!(what(&items)[0], (Happened::Deleted, None));
        assert_eq!(items[0].by.reason.as_deref(), Some("old"));

        let deployed = client.deploy(&file("first", "[a]", "hold")).await.unwrap();
        assert_eq!((deployed.version, deployed.created), (1, false));
        assert!(client.workflow("w").await.unwrap().deleted_at.is_none());
        assert!(client.schedule("w", "yearly").await.is_ok());
        assert_eq!(what(&history(&ork).await)[0], (Happened::Deployed, Some(1)));
        ork.release.notify_one();
        ork.done("w").await;
    }
}
