//! Runs that start when runs of another workflow end.

use std::sync::Arc;

use ork_core::catalog::Deploy;
use ork_core::ids::{ProjectId, RunId};
use ork_core::lang::{Sources, compile};
use ork_core::plan::{Plan, Trigger};
use ork_core::rows::{Actor, Change, FiringRow, HookSecret, RunRow};
use ork_core::run::{Command, RetrySelection, RunState};
use ork_core::time::Wall;
use ork_core::trigger::TriggerKey;
use ork_core::value::Digest;
use ork_engine::{Answer, Ask, Request};
use ork_store::{Memory, Page, RunFilter, Store as _};

use crate::faulty::Fate;
use crate::setup::{Setup, code, create, plan, run_id, success};

struct Nothing;

impl Sources for Nothing {
    fn read(&self, _: &str) -> Result<Vec<u8>, Option<String>> {
        Err(None)
    }
}

/// The plan of `w` under another name, started by what `triggers` says in YAML.
fn started_by(name: &str, triggers: &str) -> Arc<Plan> {
    let yaml = format!(
        "name: {name}\nparams: {{ of: str }}\n{triggers}\ntasks: {{ a: {{ run: [x] }} }}\n"
    );
    let compiled = compile("v.yaml", yaml.as_bytes(), &Nothing);
    let found = compiled.plan.unwrap_or_else(|| panic!("{:?}", compiled.diagnostics));
    Arc::new(Plan { body: plan().body.clone(), ..found })
}

const AFTER: &str = "triggers: { t: { workflow: w, params: { of: '${{ trigger.run.id }}' } } }";

async fn deploy(setup: &Setup, plan: Arc<Plan>, digest: u8) -> Result<Answer, String> {
    let deploy = Deploy {
        digest: Digest([digest; 32]),
        source: String::new(),
        plan,
        code: code(),
        draft: false,
        by: Actor::default(),
    };
    let request = Request::deploy(ProjectId::DEFAULT, deploy);
    setup.engine.submit(request).await.map_err(|error| error.to_string())
}

fn page() -> Page {
    Page { limit: 100, cursor: None }
}

async fn runs_of(memory: &Memory, workflow: &str) -> Vec<RunRow> {
    let filter = RunFilter { workflows: Some(vec![workflow.to_owned()]), ..RunFilter::default() };
    memory.runs(ProjectId::DEFAULT, &filter, &page()).await.unwrap().items
}

async fn firings(memory: &Memory) -> Vec<FiringRow> {
    memory.firings(ProjectId::DEFAULT, "v", "t", &page()).await.unwrap().items
}

/// Lets the loop turn a few times: any request does.
async fn turns(setup: &Setup) {
    for _ in 0..4 {
        setup.join().await;
    }
}

/// A run of `w` that ends well.
async fn ends(setup: &mut Setup) {
    setup.engine.submit(create(1)).await.unwrap();
    let offer = setup.offer().await;
    setup.engine.submit(success(offer)).await.unwrap();
}

#[tokio::test]
async fn an_end_starts_one_run_and_again_does_not() {
    let mut setup = Setup::new().await;
    deploy(&setup, started_by("v", AFTER), 9).await.unwrap();
    ends(&mut setup).await;
    let started = setup.offer().await;
    let runs = runs_of(&setup.store.memory, "v").await;
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [started.run]);
    assert_eq!((&*runs[0].trigger, runs[0].after), ("workflow:t", Some(run_id(1))));
    assert_eq!(runs[0].params["of"], run_id(1).to_string());
    let fired = firings(&setup.store.memory).await;
    assert_eq!((fired.len(), fired[0].run), (1, Some(started.run)));
    setup.engine.submit(success(started)).await.unwrap();
    let again = Command::Retry {
        run: run_id(1),
        selection: RetrySelection::Tasks(vec!["a".into()]),
        cancel_downstream: false,
        by: Actor::default(),
    };
    setup.engine.submit(Request::run(ProjectId::DEFAULT, again)).await.unwrap();
    let offer = setup.offer().await;
    setup.engine.submit(success(offer)).await.unwrap();
    turns(&setup).await;
    assert_eq!(setup.state(run_id(1)).await, Some(RunState::Success));
    assert_eq!(firings(&setup.store.memory).await, fired);
    assert_eq!(runs_of(&setup.store.memory, "v").await.len(), 1);
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_starts_no_second_run() {
    for fates in
        [[Fate::Done, Fate::Done], [Fate::NotDone, Fate::Done], [Fate::Done, Fate::NotDone]]
    {
        let mut setup = Setup::new().await;
        deploy(&setup, started_by("v", AFTER), 9).await.unwrap();
        setup.engine.submit(create(1)).await.unwrap();
        let offer = setup.offer().await;
        setup.store.next(&fates);
        // Whether it was told may be unknown too; its worker would repeat it.
        let _ = setup.engine.submit(success(offer)).await;
        let started = loop {
            let offer = setup.offer().await;
            if offer.run != run_id(1) {
                break offer;
            }
        };
        turns(&setup).await;
        let runs = runs_of(&setup.store.memory, "v").await;
        assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [started.run], "{fates:?}");
    }
}

fn open(trigger: &str) -> FiringRow {
    FiringRow {
        project: ProjectId::DEFAULT,
        source: run_id(1),
        source_workflow: "w".into(),
        source_state: RunState::Success,
        workflow: "v".into(),
        trigger: trigger.into(),
        fired_at: Wall(0),
        run: None,
        reason: None,
        decided_at: None,
    }
}

/// What a server leaves that is killed between the end and the start.
async fn left_open(firing: FiringRow) -> Memory {
    let mut setup = Setup::new().await;
    ends(&mut setup).await;
    deploy(&setup, started_by("v", AFTER), 9).await.unwrap();
    let memory = setup.store.memory.clone();
    drop(setup);
    let epoch = memory.lead().await.unwrap();
    memory.commit(epoch, Arc::new([Change::Firing(Box::new(firing))])).await.unwrap();
    memory
}

#[tokio::test]
async fn a_restart_between_end_and_start_loses_nothing_and_repeats_nothing() {
    let memory = left_open(open("t")).await;
    let mut started: Option<RunId> = None;
    for _ in 0..2 {
        let mut setup = Setup::over(memory.clone()).await;
        setup.join().await;
        let offer = setup.offer().await;
        assert_eq!(*started.get_or_insert(offer.run), offer.run);
        assert_eq!(runs_of(&memory, "v").await.len(), 1);
    }
    assert_eq!(firings(&memory).await[0].run, started);
}

#[tokio::test]
async fn an_end_that_can_start_nothing_says_why() {
    let memory = left_open(open("t")).await;
    let epoch = memory.lead().await.unwrap();
    let mut row = memory.trigger(ProjectId::DEFAULT, "v", "t").await.unwrap().unwrap();
    row.removed = true;
    memory.commit(epoch, Arc::new([Change::Trigger(Box::new(row))])).await.unwrap();
    let setup = Setup::over(memory.clone()).await;
    turns(&setup).await;
    let fired = firings(&memory).await;
    assert_eq!(fired[0].reason.as_deref(), Some("the trigger no longer waits for `w`"));
    assert!(runs_of(&memory, "v").await.is_empty());
}

#[tokio::test]
async fn other_ends_drafts_and_workflows_that_wait_no_more_start_nothing() {
    let mut setup = Setup::new().await;
    let failed = "triggers: { t: { workflow: w, states: [failed, cancelled], params: { of: x } } }";
    deploy(&setup, started_by("v", failed), 9).await.unwrap();
    ends(&mut setup).await;
    deploy(&setup, started_by("v", AFTER), 10).await.unwrap();
    deploy(&setup, started_by("v", ""), 11).await.unwrap();
    setup.engine.submit(create(2)).await.unwrap();
    let offer = setup.offer().await;
    setup.engine.submit(success(offer)).await.unwrap();
    turns(&setup).await;
    assert!(firings(&setup.store.memory).await.is_empty());
    assert!(runs_of(&setup.store.memory, "v").await.is_empty());
}

#[tokio::test]
async fn workflows_that_start_each_other_are_refused() {
    let setup = Setup::new().await;
    let after =
        |name: &str| format!("triggers: {{ t: {{ workflow: {name}, params: {{ of: x }} }} }}");
    deploy(&setup, started_by("b", &after("c")), 20).await.unwrap();
    deploy(&setup, started_by("c", &after("d")), 21).await.unwrap();
    let refused = deploy(&setup, started_by("d", &after("b")), 22).await.unwrap_err();
    assert_eq!(refused, "workflows start each other: d -> b -> c -> d");
    assert!(setup.store.memory.workflow(ProjectId::DEFAULT, "d").await.unwrap().is_none());
    deploy(&setup, started_by("b", ""), 23).await.unwrap();
    deploy(&setup, started_by("d", &after("b")), 22).await.unwrap();
}

#[tokio::test]
async fn a_webhook_keeps_its_address_and_its_secret() {
    let setup = Setup::new().await;
    let hook = "triggers: { t: { webhook: { auth: hmac }, params: { of: x } } }";
    deploy(&setup, started_by("v", hook), 9).await.unwrap();
    let row = || async { setup.store.memory.trigger(ProjectId::DEFAULT, "v", "t").await };
    let made = row().await.unwrap().unwrap();
    assert!(made.secret.is_none() && made.hook.as_ref().is_some_and(|hook| hook.len() == 32));
    let rotate = |secret: HookSecret, name: &str| {
        let key =
            TriggerKey { project: ProjectId::DEFAULT, workflow: "v".into(), name: name.into() };
        let shown = Digest::of(b"s");
        let ask = Ask::RotateTrigger { key, secret, shown, by: Actor::default() };
        setup.engine.submit(Request::new(ProjectId::DEFAULT, ask))
    };
    let secret = HookSecret::Hmac { key: "s".into() };
    rotate(secret.clone(), "t").await.unwrap();
    let refused = rotate(secret.clone(), "u").await.unwrap_err().to_string();
    assert_eq!(refused, "workflow `v` has no webhook `u`; see `ork triggers list`");
    rotate(HookSecret::Token { digest: Digest::of(b"s") }, "t").await.unwrap_err();
    deploy(&setup, started_by("v", ""), 10).await.unwrap();
    assert!(row().await.unwrap().unwrap().removed);
    deploy(&setup, started_by("v", hook), 9).await.unwrap();
    let back = row().await.unwrap().unwrap();
    assert_eq!((&back.hook, &back.secret, back.removed), (&made.hook, &Some(secret), false));
    deploy(&setup, started_by("v", &hook.replace("hmac", "token")), 11).await.unwrap();
    let other = row().await.unwrap().unwrap();
    assert_eq!((&other.hook, &other.secret), (&made.hook, &None));
    assert!(matches!(other.spec, Trigger::Webhook { .. }));
}
