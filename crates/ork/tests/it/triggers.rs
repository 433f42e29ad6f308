//! Triggers on the real binary.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Place;
use crate::online::Running;

const FIRST: &str = "name: first\ntasks: { a: { run: ['true'] } }\n";
const SECOND: &str =
    "name: second\ntriggers: { t: { workflow: first } }\ntasks: { a: { run: ['true'] } }\n";
const HOOK: &str = "name: hook\ntriggers: { call: { webhook: { auth: token } } }\ntasks: { a: { run: ['true'] } }\n";

/// Calls a webhook: its address, how the sender shows who it is, its secret, the delivery's id, how
/// many seconds ago it was signed, and the body. Prints the status and the answer.
const CALL: &str = r#"
import base64, hashlib, hmac, sys, time, urllib.error, urllib.request

url, how, secret, name, age, body = sys.argv[1:]
headers, body = {"Content-Type": "application/json"}, body.encode()
if how == "token":
    headers["Authorization"] = "Bearer " + secret
    if name:
        headers["Idempotency-Key"] = name
elif how == "github":
    signed = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers["X-Hub-Signature-256"] = "sha256=" + signed
else:
    at = str(int(time.time()) - int(age))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    signed = "v1," + base64.b64encode(signed).decode()
    headers |= {"webhook-id": name, "webhook-timestamp": at, "webhook-signature": signed}
try:
    answer = urllib.request.urlopen(urllib.request.Request(url, body, headers))
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"#;

/// A webhook that is called in many ways.
struct Hook<'p> {
    place: &'p Place,
    url: String,
    secret: String,
}

impl<'p> Hook<'p> {
    fn of(place: &'p Place, name: &str) -> Self {
        let shown = place.ork(&["triggers", "show", "called", name, "-o", "json"]);
        let shown: Value = serde_json::from_str(&shown.out).unwrap();
        let rotated = place.ork(&["triggers", "rotate", "called", name]);
        assert_eq!(rotated.code, 0, "{rotated:?}");
        let url = shown["url"].as_str().unwrap().to_owned();
        Self { place, url, secret: rotated.out.trim().to_owned() }
    }

    /// The status and the answer.
    fn call(&self, how: &str, name: &str, age: &str, body: &str) -> (u16, Value) {
        self.with(&self.secret, how, name, age, body)
    }

    fn with(&self, secret: &str, how: &str, name: &str, age: &str, body: &str) -> (u16, Value) {
        let mut command = self.place.program("python3");
        let output =
            command.args(["-c", CALL, &self.url, how, secret, name, age, body]).output().unwrap();
        let said = crate::Said::from(output);
        let (status, answer) =
            said.out.trim().split_once(' ').unwrap_or_else(|| panic!("{said:?}"));
        (status.parse().unwrap(), serde_json::from_str(answer).unwrap())
    }

    /// What a call that must be refused is told, after its status.
    fn refused(&self, secret: &str, how: &str, name: &str, age: &str, body: &str) -> String {
        let (status, told) = self.with(secret, how, name, age, body);
        assert!(status >= 400, "{told}");
        format!("{status} {told}")
    }
}

fn up(place: &Place) -> Running {
    let mut up = Running::start(place, &["up", "--bind", "127.0.0.1:0"]);
    let _ = up.until("ready");
    up
}

fn ids(place: &Place, workflow: &str) -> Vec<String> {
    let said = place.ork(&["ls", "-w", workflow, "-o", "name"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.out.lines().map(str::to_owned).collect()
}

#[test]
fn each_run_starts_one_after_it_though_the_server_is_killed() {
    let place = Place::with(&[("first.yaml", FIRST), ("second.yaml", SECOND)]);
    for _ in 0..3 {
        let server = up(&place);
        let said = place.ork(&["run", "first", "--detach", "-o", "name"]);
        assert_eq!(said.code, 0, "{said:?}");
        drop(server);
    }
    let server = up(&place);
    let (firsts, begun) = (ids(&place, "first"), Instant::now());
    let after = loop {
        let said = place.ork(&["ls", "-w", "second", "--state", "success", "-o", "json"]);
        let runs: Vec<Value> = serde_json::from_str(&said.out).unwrap();
        if runs.len() >= firsts.len() {
            break runs;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "{runs:?} after {firsts:?}");
    };
    let mut sources: Vec<_> = after.iter().map(|run| run["after"].as_str().unwrap()).collect();
    let mut expected: Vec<_> = firsts.iter().map(String::as_str).collect();
    sources.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sources, expected);
    assert!(after.iter().all(|run| run["trigger"] == "workflow:t"));
    drop(server);
}

#[test]
fn what_only_a_server_knows_is_said_when_deployed() {
    let place = Place::with(&[]);
    let server = up(&place);
    let apart = Place::with(&[("second.yaml", SECOND)]);
    let second = apart.path("second.yaml");
    let said = place.ork(&["deploy", second.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("there is no workflow `first` yet"), "{said:?}");
    let back = FIRST.replace("tasks", "triggers: { t: { workflow: second } }\ntasks");
    apart.write("first.yaml", &back);
    let said = place.ork(&["deploy", apart.path("first.yaml").to_str().unwrap()]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.err.contains("workflows start each other: first -> second -> first"), "{said:?}");
    drop(server);
}

#[test]
fn a_secret_is_all_that_is_printed() {
    let place = Place::with(&[("hook.yaml", HOOK)]);
    let server = up(&place);
    let said = place.ork(&["triggers", "rotate", "hook", "--reason", "new"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("orkh_") && said.out.lines().count() == 1, "{said:?}");
    assert!(said.err.contains("it is shown this once") && said.err.contains("/hooks/"), "{said:?}");
    let shown = place.ork(&["triggers", "show", "hook", "call"]);
    assert!(shown.out.contains("by local: new") && !shown.out.contains(said.out.trim()));
    let said = place.ork(&["triggers", "rotate", "hook", "cal"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.err.contains("did you mean `call`?"), "{said:?}");
    drop(server);
}

const CALLED: &str = "\
name: called
params: { k: int }
triggers:
  signed: { webhook: { auth: hmac, body: { k: int } }, params: { k: '${{ trigger.body.k }}' } }
  tokened: { webhook: { auth: token, body: { k: int } }, params: { k: '${{ trigger.body.k }}' } }
tasks: { a: { run: [echo, '${{ params.k }}'] } }
";

/// A delivery that is taken, and the same one again: one run.
fn taken_once(hook: &Hook<'_>, how: &str, name: &str, body: &str) -> String {
    let (status, first) = hook.call(how, name, "0", body);
    assert!((200..300).contains(&status) && first["repeated"] == false, "{how}: {first}");
    let (status, again) = hook.call(how, name, "0", body);
    assert!((200..300).contains(&status) && again["repeated"] == true, "{how}: {again}");
    assert_eq!(first["run"], again["run"], "{how}");
    first["run"].as_str().unwrap().to_owned()
}

#[test]
fn signed_deliveries_start_one_run_each_and_others_none() {
    let place = Place::with(&[("called.yaml", CALLED)]);
    let server = up(&place);
    let hook = Hook::of(&place, "signed");
    let listed = place.ork(&["triggers", "list", "-o", "json"]);
    assert!(listed.out.contains(&hook.url) && !listed.out.contains(&hook.secret), "{listed:?}");
    let wrong = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let own = &hook.secret;
    for (secret, how, age, body, expected) in [
        (wrong, "standard", "0", r#"{"k": 1}"#, "401 "),
        (own, "standard", "400", r#"{"k": 1}"#, "signed more than 5m from now"),
        (own, "standard", "-400", r#"{"k": 1}"#, "signed more than 5m from now"),
        (wrong, "github", "0", r#"{"k": 1}"#, "401 "),
        (own, "token", "0", r#"{"k": 1}"#, "sign the delivery"),
        (own, "standard", "0", r#"{"k": "x"}"#, "body.k"),
        (own, "github", "0", "no JSON", "JSON"),
    ] {
        let told = hook.refused(secret, how, "refused", age, body);
        assert!(told.contains(expected), "{told}");
    }
    let mut expected = vec![
        taken_once(&hook, "standard", "one", r#"{"k": 1}"#),
        taken_once(&hook, "standard", "two", r#"{"k": 1}"#),
        taken_once(&hook, "github", "", r#"{"k": 1}"#),
        taken_once(&hook, "github", "", r#"{"k": 2}"#),
    ];
    let mut runs = ids(&place, "called");
    runs.sort();
    expected.sort();
    assert_eq!(runs, expected);
    // The secret before is of no use once there is another.
    let old = Hook { url: hook.url.clone(), secret: hook.secret.clone(), place: &place };
    let new = Hook::of(&place, "signed");
    assert!(old.refused(&old.secret, "github", "", "0", r#"{"k": 3}"#).starts_with("401 "));
    taken_once(&new, "github", "", r#"{"k": 3}"#);
    drop(server);
}

#[test]
fn a_token_starts_a_run_and_a_key_one_at_most() {
    let place = Place::with(&[("called.yaml", CALLED)]);
    let server = up(&place);
    let hook = Hook::of(&place, "tokened");
    assert!(hook.refused("orkh_no", "token", "", "0", r#"{"k": 1}"#).starts_with("401 "));
    assert!(hook.refused(&hook.secret, "github", "", "0", r#"{"k": 1}"#).starts_with("401 "));
    let once = taken_once(&hook, "token", "a key", r#"{"k": 1}"#);
    let told = hook.refused(&hook.secret, "token", "a key", "0", r#"{"k": 2}"#);
    assert!(told.contains("idempotency_key_reused"), "{told}");
    for _ in 0..2 {
        let (_, answer) = hook.call("token", "", "0", r#"{"k": 1}"#);
        assert_eq!(answer["repeated"], false, "{answer}");
    }
    drop(server);
    // What has been answered is answered alike by the next server.
    let server = up(&place);
    let hook = Hook { url: Hook::of(&place, "tokened").url, ..hook };
    let rotated = Hook::of(&place, "tokened");
    let (_, again) = rotated.call("token", "a key", "0", r#"{"k": 1}"#);
    assert_eq!((&again["run"], &again["repeated"]), (&Value::from(once), &Value::from(true)));
    assert!(hook.refused(&hook.secret, "token", "", "0", r#"{"k": 1}"#).starts_with("401 "));
    assert_eq!(ids(&place, "called").len(), 3);
    drop(server);
}
