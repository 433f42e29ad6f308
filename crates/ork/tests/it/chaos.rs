//! Faults into the real binary while 200 runs are under way: its processes are killed, stopped and
//! restarted at moments that a seed picks. `ORK_CHAOS_SECONDS` keeps faults coming for as long
//! (none: sixteen of them), `ORK_CHAOS_SEED` takes the place of a seed from the clock.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ork_api::client::Client;
use ork_api::types::{Cancel, NewRun, RunQuery};
use ork_core::check::{Fact, Rows, check_feed, check_firings, check_run};
use ork_core::ids::{ProjectId, RunId, WorkerId};
use ork_core::rows::{AttemptRow, EventRow};
use ork_core::run::{EventKind, RunState};
use ork_store::{CommitSeq, DataDir, Page, RunFilter, Sqlite, Store as _};
use tokio::time::Interval;

use crate::Place;

const RUNS: usize = 200;
/// The signal of a process that ended itself.
const ABORTED: i32 = 6;
/// What each task does first: one line, appended whole.
const SIGN: &str =
    r#"echo "$ORK_RUN_ID $ORK_TASK $ORK_ATTEMPT $ORK_IDEMPOTENCY_KEY" >> "$WITNESS""#;

/// Each workflow's name, and the state in which its runs end.
const FLOWS: [(&str, RunState); 8] = [
    ("chain", RunState::Success),
    ("dynamic", RunState::Success),
    ("fan", RunState::Success),
    ("filed", RunState::Success),
    ("again", RunState::Success),
    ("snake", RunState::Success),
    ("mended", RunState::Failed),
    ("held", RunState::Cancelled),
];

/// Workers break all the time here, so what they had does not wait long.
const SOON: &str = r#"retries: {"max": 0, "delay": "20ms", "backoff": "constant"}"#;

fn task(name: &str, after: &str, rest: &str, shell: &str) -> String {
    let shell = serde_json::Value::from(format!("{SIGN}; {shell}"));
    let retries = if rest.contains("retries") { String::new() } else { format!("    {SOON}\n") };
    format!(
        "  {name}:\n    run: {{shell: {shell}}}\n    depends_on: [{after}]\n    lost_retries: 100\n{retries}{rest}"
    )
}

fn flow(name: &str) -> String {
    let mut tasks = String::new();
    match name {
        "chain" => {
            for (task_name, after) in [("a", ""), ("b", "a"), ("c", "b")] {
                tasks += &task(task_name, after, "", "read -rt 0.1 <> \"$HOLD\" || true");
            }
        }
        "fan" => {
            for part in 0..4 {
                tasks += &task(&format!("p{part}"), "", "", "read -rt 0.3 <> \"$HOLD\" || true");
            }
            tasks += &task("join", "p0, p1, p2, p3", "", "true");
        }
        "again" => {
            let rest = "    retries: {max: 2, delay: 20ms, backoff: constant, for: [\"exit:7\"]}\n";
            let fails_twice =
                "n=$(grep -c \"^$ORK_RUN_ID \" \"$WITNESS\"); test \"$n\" -gt 2 || exit 7";
            tasks += &task("a", "", rest, fails_twice);
        }
        "snake" => {
            let python = format!("    python: snake.py:sign\n    lost_retries: 100\n    {SOON}\n");
            let _ = write!(tasks, "  a:\n{python}  b:\n{python}    depends_on: a\n");
        }
        "filed" => {
            let makes = "echo \"$ORK_RUN_ID\" > \"$ORK_SCRATCH/made.txt\"; \
                         echo left > \"$ORK_ARTIFACTS/left.txt\"; echo '\"made.txt\"' > \"$ORK_OUTPUT\"";
            tasks += &task("make", "", "    output_type: file\n", makes);
            let read = "    env: {MADE: \"${{ tasks.make.output }}\", DIGEST: \"${{ tasks.make.output.digest }}\"}\n";
            let checks = "test \"$(sha256sum < \"$MADE\")\" = \"$DIGEST  -\" && test \"$(cat \"$MADE\")\" = \"$ORK_RUN_ID\"";
            tasks += &task("check", "make", read, checks);
        }
        "dynamic" => return dynamic(),
        "held" => tasks += &task("a", "", "", "read -rt 100 <> \"$HOLD\""),
        _ => {
            tasks += &task("a", "", "", "exit 3");
            tasks += &format!("finally:\n{}", task("sweep", "", "", "true"));
        }
    }
    tasks
}

/// Instances that come of maps, groups, waits, another workflow and a task's output, under limits.
fn dynamic() -> String {
    let run = |rest: &str| format!("{{run: [sh, sign.sh], lost_retries: 100, {SOON}{rest}}}");
    let made = r#"{\"a\": {\"run\": [\"sh\", \"sign.sh\"], \"lost_retries\": 100}}"#;
    let plan = task("plan", "wait", "", &format!("printf '{made}'"));
    let plan = plan.replace("    run: {", "    run: {output: stdout_json, ");
    let limits = ", item_key: item, max_parallel: 2, pool: {name: well, of: 4}";
    let (item, plain, second) =
        (run(&format!(", for_each: [x, y, z]{limits}")), run(""), run(", depends_on: first"));
    format!(
        "  items: {item}\n  wait: {{wait: 20ms, depends_on: items}}\n{plan}  \
         made: {{tasks: tasks.plan.output, allow: [run]}}\n  \
         pairs:\n    for_each: [1, 2]\n    depends_on: wait\n    \
         tasks:\n      first: {plain}\n      second: {second}\n  \
         call: {{workflow: {{name: chain}}, depends_on: [made, pairs]}}\n\
         concurrency: {{max_runs: 6}}\n"
    )
}

/// What each run of `chain` that has ended starts.
const AFTER: &str = "triggers: {chained: {workflow: chain}}\n";

/// How many tasks run at a time.
const SLOTS: u32 = 4;

const SNAKE: &str = r#"import os

def sign() -> int:
    names = ("ORK_RUN_ID", "ORK_TASK", "ORK_ATTEMPT", "ORK_IDEMPOTENCY_KEY")
    line = " ".join(os.environ[name] for name in names) + "\n"
    file = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND)
    os.write(file, line.encode())
    return len(line)
"#;

/// A small generator, so that a seed is all that a failure needs to be told.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The server's process, which is gone at the end of the test.
struct Up(Child);

impl Up {
    fn start(place: &Place) -> Self {
        Self::with(place, |_| {})
    }

    /// One that dies when it comes to the point for the third time.
    #[cfg(debug_assertions)]
    fn armed(place: &Place, point: &str) -> Self {
        Self::with(place, |command| {
            command.env("ORK_FAILPOINT", format!("{point}:3"));
        })
    }

    fn with(place: &Place, change: impl FnOnce(&mut Command)) -> Self {
        let log = place.path("up.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let slots = SLOTS.to_string();
        let mut command =
            place.command(&["up", "flows", "--bind", "127.0.0.1:0", "--slots", &slots]);
        change(&mut command);
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    fn end(&mut self, name: &str) {
        self.signal(name);
        self.0.wait().unwrap();
    }

    /// Its child that starts the tasks' processes.
    fn spawner(&self) -> Option<u32> {
        let id = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        children.ok()?.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(pid: u32, name: &str) {
    let kill = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(kill.is_ok());
}

/// The client of whatever server is announced in the folder now.
fn client(place: &Place) -> Option<Client> {
    let file = std::fs::read_to_string(place.path("flows/.ork/server.json")).ok()?;
    let announced: serde_json::Value = serde_json::from_str(&file).ok()?;
    let token = std::fs::read_to_string(place.path("flows/.ork/token")).ok()?;
    Client::http(announced["url"].as_str()?, Some(token.trim())).ok()
}

fn signed(place: &Place) -> String {
    place.read("witness")
}

/// Asks for the run of each number until it is answered, under the number as its key.
async fn ask(place: &Place, tick: &mut Interval, number: usize) -> RunId {
    let run: NewRun =
        serde_json::from_value(serde_json::json!({"workflow": FLOWS[number % FLOWS.len()].0}))
            .unwrap();
    let key = format!("chaos-{number}");
    loop {
        if let Some(client) = client(place) {
            let once = client.create_run_once(&run, &key);
            match tokio::time::timeout(Duration::from_secs(2), once).await {
                Ok(Ok(run)) => return run.id,
                Ok(Err(error)) if error.code().is_some_and(|code| code.status() < 500) => {
                    // The first start has not deployed the file yet.
                    assert_eq!(
                        error.code().map(ork_api::problem::Code::status),
                        Some(404),
                        "{error}"
                    );
                }
                _ => {}
            }
        }
        tick.tick().await;
    }
}

/// Cancels a run of a flow that ends in no other way, once it has begun and until that is answered.
async fn cancel(place: &Place, tick: &mut Interval, number: usize, run: RunId) {
    if FLOWS[number % FLOWS.len()].1 != RunState::Cancelled {
        return;
    }
    while !signed(place).contains(&run.to_string()) {
        tick.tick().await;
    }
    loop {
        if let Some(client) = client(place) {
            let cancel = Cancel::default();
            let once = client.cancel(run, &cancel);
            match tokio::time::timeout(Duration::from_secs(2), once).await {
                Ok(Ok(_)) => return,
                // An answer was lost, and the run is over.
                Ok(Err(error)) if error.code().is_some_and(|code| code.status() == 409) => return,
                _ => {}
            }
        }
        tick.tick().await;
    }
}

/// Runs that have not ended; none while no server answers.
async fn open_runs(place: &Place) -> Option<usize> {
    let filter = RunQuery {
        state: Some("pending,running".into()),
        limit: Some(RUNS + 1),
        ..RunQuery::default()
    };
    let client = client(place)?;
    let open = tokio::time::timeout(Duration::from_secs(2), client.runs(&filter)).await;
    open.ok()?.ok().map(|open| open.items.len())
}

/// Whether each end of a run of `chain` has started its run.
async fn all_chained(place: &Place) -> bool {
    let count = async |workflow: &str| {
        let workflow = Some(workflow.to_owned());
        let filter = RunQuery { workflow, limit: Some(RUNS + 1), ..RunQuery::default() };
        Some(client(place)?.runs(&filter).await.ok()?.items.len())
    };
    let (chains, started) = (count("chain").await, count("after").await);
    chains.is_some() && chains == started
}

/// The files that tasks left can be had.
fn files_are_there(place: &Place, ids: &[RunId]) {
    let filed =
        ids.iter().enumerate().filter(|(number, _)| FLOWS[number % FLOWS.len()].0 == "filed");
    for (_, id) in filed.take(8) {
        let run = id.to_string();
        for (name, content) in [("made.txt", &*format!("{run}\n")), ("left.txt", "left\n")] {
            let mut command = place.command(&["artifacts", "get", &run, "make", name, "--to", "-"]);
            let said = command.current_dir(place.path("flows")).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout), content, "{run}: {said:?}");
        }
    }
}

/// Waits until tasks have begun `more` times, all runs have ended, or two seconds have gone by.
async fn progress(place: &Place, tick: &mut Interval, more: usize) {
    let (goal, started) = (signed(place).lines().count() + more, Instant::now());
    while signed(place).lines().count() < goal && started.elapsed() < Duration::from_secs(2) {
        tick.tick().await;
    }
}

async fn fault(place: &Place, tick: &mut Interval, up: &mut Up, kind: u64) {
    match kind {
        0..=3 => up.end("KILL"),
        4 => {
            // Nobody is left to stop the tasks' processes: the next start finds them.
            if let Some(spawner) = up.spawner() {
                signal(spawner, "KILL");
            }
            up.end("KILL");
        }
        5 | 6 => up.end("TERM"),
        7 => {
            up.signal("STOP");
            progress(place, tick, 5).await;
            return up.signal("CONT");
        }
        _ => {
            if let Some(spawner) = up.spawner() {
                signal(spawner, "KILL");
            }
            return;
        }
    }
    *up = Up::start(place);
}

async fn all(place: &Place, tick: &mut Interval, numbers: Range<usize>) -> Vec<RunId> {
    let mut ids = Vec::new();
    for number in numbers {
        let id = ask(place, tick, number).await;
        cancel(place, tick, number, id).await;
        ids.push(id);
    }
    ids
}

async fn all_end(place: &Place, tick: &mut Interval) {
    let begun = Instant::now();
    while open_runs(place).await != Some(0) || !all_chained(place).await {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_mins(2), "runs are open still: {}", place.read("up.log"));
        tick.tick().await;
    }
}

fn place() -> Place {
    let (snake, sign) = (("flows/snake.py", SNAKE), ("flows/sign.sh", SIGN));
    let place = Place::with(&[("witness", ""), snake, sign]);
    let hold = Command::new("mkfifo").arg(place.path("hold")).status();
    assert!(hold.unwrap().success());
    let (witness, hold) = (place.path("witness"), place.path("hold"));
    for (name, _) in FLOWS {
        let env = format!("env: {{WITNESS: {}, HOLD: {}}}", witness.display(), hold.display());
        let text = format!("name: {name}\n{env}\ntasks:\n{}", flow(name));
        place.write(&format!("flows/{name}.ork.yaml"), &text);
    }
    let env = format!("env: {{WITNESS: {}}}", witness.display());
    let text = format!("name: after\n{env}\n{AFTER}tasks:\n{}", task("a", "", "", "true"));
    place.write("flows/after.ork.yaml", &text);
    std::fs::create_dir(place.path("flows/.ork")).unwrap();
    place
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_is_lost_or_done_twice_whatever_is_killed() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = number("ORK_CHAOS_SEED").unwrap_or_else(|| u64::from(clock) + 1);
    let lasts = number("ORK_CHAOS_SECONDS").map(Duration::from_secs);
    println!("ORK_CHAOS_SEED={seed}");
    let place = place();
    let (chance, begun) = (&mut Chance(seed), Instant::now());
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let mut up = Up::start(&place);
    let (asking, mut faults) = (all(&place, &mut tick, 0..RUNS), 0);
    let mut own = tokio::time::interval(Duration::from_millis(3));
    let making = async {
        while lasts.map_or(faults < 16, |lasts| begun.elapsed() < lasts) {
            let more = usize::try_from(chance.below(60)).unwrap();
            progress(&place, &mut own, more).await;
            let kind = chance.below(10);
            println!("{:?}: fault {kind}", begun.elapsed());
            fault(&place, &mut own, &mut up, kind).await;
            faults += 1;
        }
    };
    let (ids, ()) = tokio::join!(asking, making);
    all_end(&place, &mut own).await;
    assert_eq!(all(&place, &mut own, 0..RUNS).await, ids, "a key has another run");
    println!("{:?}: all runs have ended", begun.elapsed());
    files_are_there(&place, &ids);
    up.end("TERM");
    assert_eq!(left(&place), BTreeSet::new(), "processes are left");
    done_once(&signed(&place));
    kept(&place, &ids).await;
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_is_lost_or_done_twice_at_any_point() {
    // Of each flow more than the times that a point is passed.
    let (place, runs) = (place(), 4 * FLOWS.len());
    let mut ids = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let mut own = tokio::time::interval(Duration::from_millis(3));
    for (round, point) in ork_server::failpoint::ALL.into_iter().enumerate() {
        let mut up = Up::armed(&place, point);
        let asking = all(&place, &mut tick, round * runs..(round + 1) * runs);
        let dying = async {
            let begun = Instant::now();
            while up.0.try_wait().unwrap().is_none() {
                assert!(begun.elapsed() < Duration::from_secs(30), "it never came to {point}");
                own.tick().await;
            }
            assert_eq!(up.0.wait().unwrap().signal(), Some(ABORTED), "{point}");
            up = Up::start(&place);
        };
        let (asked, ()) = tokio::join!(asking, dying);
        ids.extend(asked);
        all_end(&place, &mut own).await;
        up.end("TERM");
    }
    assert_eq!(left(&place), BTreeSet::new(), "processes are left");
    done_once(&signed(&place));
    kept(&place, &ids).await;
}

/// The processes that have the test's folder in their environment: those of tasks.
fn left(place: &Place) -> BTreeSet<String> {
    let mark = format!("WITNESS={}", place.path("witness").display());
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let holds = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let environment = holds("environ");
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            found.insert(String::from_utf8_lossy(&holds("cmdline")).into_owned());
        }
    }
    found
}

/// No attempt has signed twice, and the key is that of its instance.
fn done_once(signed: &str) {
    let mut seen = BTreeSet::new();
    for line in signed.lines() {
        let [run, path, _attempt, key] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not a line of a task: {line}");
        };
        assert!(seen.insert(line), "done twice: {line}");
        assert_eq!(key, format!("{run}/{path}@1"));
    }
}

/// Every run that was acknowledged is there and has ended as it must, its successes were done, and
/// its history keeps every promise.
async fn kept(place: &Place, ids: &[RunId]) {
    let dir = DataDir::open(Path::new(&place.path("flows/.ork"))).unwrap();
    let store = Sqlite::open(dir).unwrap();
    let signed = signed(place);
    let signed: HashSet<(&str, &str)> = signed
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            (words.next().unwrap(), words.next().unwrap())
        })
        .collect();
    for (number, id) in ids.iter().enumerate() {
        let kept = store.load_run(ProjectId::DEFAULT, *id).await.unwrap().unwrap();
        let (name, state) = FLOWS[number % FLOWS.len()];
        assert_eq!(kept.run.state, state, "{name} {id}: {:?}", kept.run.failure);
        let mut attempts = Vec::new();
        for task in &kept.tasks {
            let own = attempts_of(&store, *id, task).await;
            let begun = state != RunState::Cancelled && !own.is_empty();
            attempts.extend(own);
            let (id, path) = (id.to_string(), task.path.to_string());
            assert!(!begun || signed.contains(&(&*id, &*path)), "{name} {id} {path}: never begun");
        }
        let events = store.events(ProjectId::DEFAULT, *id, 0, 1_000).await.unwrap();
        let events: Vec<EventRow> =
            events.into_iter().map(|committed| (*committed.event).clone()).collect();
        let tasks = kept.tasks.iter().collect();
        let rows = Rows { run: &kept.run, tasks, attempts: attempts.iter().collect() };
        assert_eq!(check_run(&kept.version.plan, &events, &rows), [], "{name} {id}");
    }
    feed_is_sound(&store).await;
}

async fn attempts_of(
    store: &Sqlite,
    run: RunId,
    task: &ork_core::rows::TaskRow,
) -> Vec<AttemptRow> {
    let page = Page { limit: 1_000, cursor: None };
    store.attempts(ProjectId::DEFAULT, run, &task.path, &page).await.unwrap().items
}

/// What spans runs is sound: slots, limits, and the runs that ends of others started.
async fn feed_is_sound(store: &Sqlite) {
    let mut feed = Vec::new();
    let mut place = (CommitSeq(0), 0);
    loop {
        let part = store.feed(place, 1_000).await.unwrap();
        let Some(last) = part.last() else { break };
        place = (last.commit, last.position);
        feed.extend(part);
    }
    let events = feed.iter().map(|committed| (committed.commit.0, &*committed.event));
    let slots: BTreeMap<WorkerId, u32> = feed
        .iter()
        .filter_map(|committed| match &committed.event.kind {
            EventKind::TaskDispatched { worker, .. } => Some((worker.clone(), SLOTS)),
            _ => None,
        })
        .collect();
    assert_eq!(check_feed(events.clone(), &slots), []);
    let row = store.trigger(ProjectId::DEFAULT, "after", "chained").await.unwrap().unwrap();
    let page = Page { limit: 1_000, cursor: None };
    let fired = store.firings(ProjectId::DEFAULT, "after", "chained", &page).await.unwrap().items;
    let runs = store.runs(ProjectId::DEFAULT, &RunFilter::default(), &page).await.unwrap().items;
    let events = events.map(|(commit, event)| (commit, Fact::Event(event)));
    let facts = std::iter::once((0, Fact::Trigger(&row))).chain(events);
    assert_eq!(check_firings(facts, &fired, &runs), []);
    let refused: Vec<_> = fired.iter().filter(|fired| fired.run.is_none()).collect();
    assert!(refused.is_empty() && !fired.is_empty(), "{refused:?}");
}
