//! Webhooks: who is let in, what is taken, and what starts no second run.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ork_api::problem::{Code, Problem};
use ork_api::triggers::{Delivered, RotateTrigger, Rotated, TriggerQuery};
use ork_api::types::{Deploy, Part, RunQuery};
use ork_core::value::Digest;
use ork_server::Storage;

use crate::harness::{Ork, raw};

const HOOKS: &str = "name: build
params: { repo: str, count: int, kind: { type: str, default: none } }
triggers:
  push:
    webhook: { body: { repo: { name: str }, count: int }, auth: hmac }
    params:
      repo: '${{ trigger.body.repo.name }}'
      count: '${{ trigger.body.count }}'
      kind: \"${{ has(trigger.headers['x-kind']) ? trigger.headers['x-kind'] : 'none' }}\"
  call:
    webhook: { body: '{ count: int }?', auth: token }
    params: { repo: none, count: 1 }
tasks: { a: { run: ['true'] } }
";

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Digest::of(&[&block.map(|byte| byte ^ 0x36)[..], message].concat());
    Digest::of(&[&block.map(|byte| byte ^ 0x5c)[..], &inner.0].concat()).0
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A webhook that somebody calls.
struct Caller<'a> {
    ork: &'a Ork,
    hook: Rotated,
}

impl<'a> Caller<'a> {
    async fn new(ork: &'a Ork, name: &str) -> Self {
        let rotate = RotateTrigger { reason: Some("first".into()) };
        let hook = ork.client.rotate_trigger("build", name, &rotate).await.unwrap();
        Self { ork, hook }
    }

    /// The headers of Standard Webhooks.
    fn signed(&self, id: &str, at: u64, body: &str) -> Vec<(String, String)> {
        let key = STANDARD.decode(self.hook.secret.strip_prefix("whsec_").unwrap()).unwrap();
        let signature = STANDARD.encode(hmac(&key, format!("{id}.{at}.{body}").as_bytes()));
        vec![
            ("webhook-id".into(), id.into()),
            ("webhook-timestamp".into(), at.to_string()),
            ("webhook-signature".into(), format!("v1,{signature}")),
        ]
    }

    async fn call(&self, headers: &[(String, String)], body: &str) -> (u16, String) {
        let path = self.hook.url.strip_prefix(&self.ork.url()).unwrap();
        let mut text = format!("POST {path} HTTP/1.1\r\nhost: example.test\r\n");
        if !headers.iter().any(|(name, _)| name == "content-type") {
            text += "content-type: application/json\r\n";
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let answer = raw(&self.ork.address(), text.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, body.to_owned())
    }

    async fn delivered(&self, headers: &[(String, String)], body: &str) -> (u16, Delivered) {
        let (status, text) = self.call(headers, body).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text}")))
    }

    async fn refused(&self, headers: &[(String, String)], body: &str) -> (u16, Problem) {
        let (status, text) = self.call(headers, body).await;
        let problem: Problem = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(problem.status, status);
        (status, problem)
    }
}

async fn deployed() -> Ork {
    let ork = Ork::start(Storage::Sqlite).await;
    deploy(&ork, HOOKS).await;
    ork
}

async fn deploy(ork: &Ork, source: &str) {
    let deploy =
        Deploy { file: "build.yaml".into(), source: source.into(), bundle: None, reason: None };
    ork.client.deploy(&deploy).await.unwrap();
}

const BODY: &str = r#"{"repo": {"name": "ork"}, "count": 3}"#;

#[tokio::test]
async fn a_signed_delivery_starts_one_run() {
    let ork = deployed().await;
    let caller = Caller::new(&ork, "push").await;
    let mut headers = caller.signed("msg_1", now(), BODY);
    headers.push(("X-Kind".into(), "push".into()));
    let (status, first) = caller.delivered(&headers, BODY).await;
    assert_eq!((status, first.repeated), (201, false));
    let run = ork.ended(first.run).await;
    let params = serde_json::json!({ "repo": "ork", "count": 3, "kind": "push" });
    assert_eq!(
        (run.params, &*run.trigger, &*run.created_by.name),
        (params, "webhook:push", "webhook")
    );
    assert!(run.created_by.request_id.is_some());
    for at in [now(), now() - 60] {
        let again = caller.signed("msg_1", at, BODY);
        let (status, again) = caller.delivered(&again, BODY).await;
        assert_eq!((status, again.run, again.repeated), (200, first.run, true));
    }
    let other = r#"{"repo": {"name": "other"}, "count": 3}"#;
    let (status, problem) = caller.refused(&caller.signed("msg_1", now(), other), other).await;
    assert_eq!((status, problem.code), (422, Code::IdempotencyKeyReused));
    let (_, second) = caller.delivered(&caller.signed("msg_2", now(), BODY), BODY).await;
    assert_ne!(second.run, first.run);
    assert_eq!(ork.client.runs(&RunQuery::default()).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_delivery_of_github_is_known_by_its_body() {
    let ork = deployed().await;
    let caller = Caller::new(&ork, "push").await;
    let signature = Digest(hmac(caller.hook.secret.as_bytes(), BODY.as_bytes()));
    let headers = |delivery: &str| {
        vec![
            ("X-Hub-Signature-256".to_owned(), format!("sha256={signature}")),
            ("X-GitHub-Delivery".to_owned(), delivery.to_owned()),
        ]
    };
    let (_, first) = caller.delivered(&headers("1"), BODY).await;
    let (status, again) = caller.delivered(&headers("2"), BODY).await;
    assert_eq!((status, again.run, again.repeated), (200, first.run, true));
    let (status, _) = caller.refused(&headers("1"), &BODY.replace('3', "4")).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn who_does_not_know_the_secret_is_refused() {
    let ork = deployed().await;
    let caller = Caller::new(&ork, "push").await;
    let good = caller.signed("m", now(), BODY);
    let without = |name: &str| -> Vec<_> {
        good.iter().filter(|(other, _)| other != name).cloned().collect()
    };
    let with = |name: &str, value: &str| {
        let mut headers = without(name);
        headers.push((name.to_owned(), value.to_owned()));
        headers
    };
    let token = vec![("authorization".to_owned(), format!("Bearer {}", caller.hook.secret))];
    for (headers, part) in [
        (vec![], "sign the delivery"),
        (token, "sign the delivery"),
        (without("webhook-id"), "needs `webhook-id`"),
        (without("webhook-timestamp"), "needs `webhook-timestamp`"),
        (with("webhook-id", "n"), "not one of this delivery"),
        (with("webhook-timestamp", "soon"), "seconds since 1970"),
        (with("webhook-signature", "v1,AAAA"), "not one of this delivery"),
        (with("webhook-signature", "v1a,AAAA"), "not one of this delivery"),
        (caller.signed("m", now() - 301, BODY), "more than 5m from now"),
        (caller.signed("m", now() + 310, BODY), "more than 5m from now"),
        (caller.signed("m", now(), "{}"), "not one of this delivery"),
    ] {
        let (status, problem) = caller.refused(&headers, BODY).await;
        assert_eq!(status, 401, "{headers:?}");
        assert!(problem.detail.contains(part), "{}", problem.detail);
        assert!(!problem.detail.contains(&caller.hook.secret));
    }
    assert_eq!(ork.client.runs(&RunQuery::default()).await.unwrap().items, []);
}

#[tokio::test]
async fn a_body_of_another_type_is_refused_with_its_place() {
    let ork = deployed().await;
    let caller = Caller::new(&ork, "push").await;
    for (body, status, place) in [
        (r#"{"repo": {"name": 3}, "count": 3}"#, 422, "body.repo.name"),
        (r#"{"repo": {"name": "x"}, "count": "many"}"#, 422, "body.count"),
        (r#"{"repo": {"name": "x"}}"#, 422, "body.count"),
        (r#"{"repo": {"name": "x"}, "count": 1, "more": 1}"#, 422, "body.more"),
        ("[]", 422, "body"),
        ("{\"repo\": ", 400, ""),
        ("", 400, ""),
        (r#"{"count": 1, "count": 2}"#, 400, ""),
    ] {
        let (got, problem) = caller.refused(&caller.signed("m", now(), body), body).await;
        assert_eq!(got, status, "{body}: {}", problem.detail);
        let field = problem.errors.first().map_or("", |error| &*error.field);
        assert_eq!(field, place, "{body}: {}", problem.detail);
    }
    let mut form = caller.signed("m", now(), BODY);
    form.push(("content-type".into(), "application/x-www-form-urlencoded".into()));
    assert_eq!(caller.refused(&form, BODY).await.0, 415);
    // What was refused can be sent again when it is right.
    assert_eq!(caller.delivered(&caller.signed("m", now(), BODY), BODY).await.0, 201);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let ork = Ork::with(|config| config.limits.body = 2_000).await;
    deploy(&ork, HOOKS).await;
    let caller = Caller::new(&ork, "push").await;
    let body = format!("{{\"a\": \"{}\"}}", "x".repeat(2_000));
    let (status, problem) = caller.refused(&caller.signed("m", now(), &body), &body).await;
    assert_eq!(status, 413);
    assert!(problem.detail.contains("limits.body"), "{}", problem.detail);
}

#[tokio::test]
async fn a_token_is_shown_once_and_the_old_one_is_of_no_use() {
    let ork = deployed().await;
    let unknown = Caller {
        ork: &ork,
        hook: Rotated {
            url: ork.client.trigger("build", "call").await.unwrap().url.unwrap(),
            ..Caller::new(&ork, "push").await.hook
        },
    };
    let (status, problem) = unknown.refused(&[], "null").await;
    assert_eq!(status, 401);
    assert!(problem.detail.contains("ork triggers rotate"), "{}", problem.detail);
    let old = Caller::new(&ork, "call").await;
    let bearer = |caller: &Caller, name: &str| {
        vec![(name.to_owned(), format!("Bearer {}", caller.hook.secret))]
    };
    assert_eq!(old.delivered(&bearer(&old, "Authorization"), "null").await.0, 201);
    let new = Caller::new(&ork, "call").await;
    assert_eq!(old.hook.url, new.hook.url);
    assert_eq!(old.refused(&bearer(&old, "Authorization"), "null").await.0, 401);
    let mut headers = bearer(&new, "Authorization");
    headers.push(("Idempotency-Key".into(), "k".into()));
    let (_, first) = new.delivered(&headers, "null").await;
    let (status, again) = new.delivered(&headers, "null").await;
    assert_eq!((status, again.run), (200, first.run));
    headers.pop();
    assert_ne!(new.delivered(&headers, "null").await.1.run, first.run);
    let gitlab = vec![("X-Gitlab-Token".to_owned(), new.hook.secret.clone())];
    assert_eq!(new.delivered(&gitlab, "null").await.0, 201);
    let file = std::fs::read(ork.dir.path().join("ork.db"));
    if let Ok(content) = file {
        let text = String::from_utf8_lossy(&content);
        assert!(!text.contains(&new.hook.secret));
    }
}

#[tokio::test]
async fn triggers_are_shown_without_their_secrets() {
    let ork = deployed().await;
    let caller = Caller::new(&ork, "push").await;
    deploy(
        &ork,
        "name: after\ntriggers: { b: { workflow: build } }\ntasks: { a: { run: ['true'] } }\n",
    )
    .await;
    let all = ork.client.triggers(&TriggerQuery::default()).await.unwrap().items;
    let names: Vec<_> =
        all.iter().map(|one| (&*one.workflow, &*one.name, one.has_secret)).collect();
    assert_eq!(
        names,
        [("after", "b", None), ("build", "call", Some(false)), ("build", "push", Some(true))]
    );
    assert_eq!((all[0].after.as_deref(), all[0].states.len()), (Some("build"), 1));
    assert_eq!(all[2].rotated_by.as_ref().unwrap().reason.as_deref(), Some("first"));
    assert!(!serde_json::to_string(&all).unwrap().contains(&caller.hook.secret));
    let (_, made) = caller.delivered(&caller.signed("m", now(), BODY), BODY).await;
    ork.ended(made.run).await;
    let fired = loop {
        let found = ork.client.firings("after", "b", &Part::default()).await.unwrap().items;
        if let Some(run) = found.first().and_then(|one| one.run) {
            break run;
        }
        tokio::task::yield_now().await;
    };
    let run = ork.client.run(fired).await.unwrap();
    assert_eq!((&*run.trigger, run.after), ("workflow:b", Some(made.run)));
    let gone = ork.client.rotate_trigger("after", "b", &RotateTrigger::default()).await;
    assert_eq!(gone.unwrap_err().problem().unwrap().status, 409);
}
