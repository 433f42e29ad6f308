//! A server of the release binary, in a folder of its own, driven through its API.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ork_api::client::{Client, EventStream, StreamedItem};
use ork_api::types::NewRun;
use ork_core::ids::RunId;
use ork_core::run::{EventKind, RunState};
use serde::Deserialize;

/// How long anything may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running `ork up`.
pub(crate) struct Server {
    child: Child,
    dir: PathBuf,
    /// A client with the token of its folder.
    pub(crate) client: Client,
}

#[derive(Deserialize)]
struct Announced {
    url: String,
    pid: u32,
}

impl Server {
    /// Starts a server over `dir`, which deploys the workflow files in it, and waits until it
    /// answers.
    pub(crate) async fn start(ork: &Path, dir: &Path) -> Result<Self> {
        Self::start_with(ork, dir, &[]).await
    }

    /// The same with these settings in the environment.
    pub(crate) async fn start_with(ork: &Path, dir: &Path, env: &[(&str, &str)]) -> Result<Self> {
        let log = fs::File::create(dir.join("up.log"))?;
        let child = Command::new(ork)
            .args(["up", "--bind", "127.0.0.1:0"])
            .arg(dir)
            .current_dir(dir)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("ork up")?;
        let announced = announced(dir, child.id())?;
        let token = fs::read_to_string(dir.join(".ork/token"))?;
        let client = Client::http(&announced.url, Some(token.trim()))?;
        client.readyz().await?;
        Ok(Self { child, dir: dir.to_owned(), client })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the workflow of the folder is deployed.
    pub(crate) async fn deployed(&self, workflow: &str) -> Result<()> {
        let start = Instant::now();
        while let Err(error) = self.client.workflow(workflow).await {
            ensure!(start.elapsed() < PATIENCE, "{workflow} is not deployed: {error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Makes a run of `workflow` and waits for its end.
    pub(crate) async fn run(&self, workflow: &str) -> Result<RunId> {
        let run = self.client.create_run(&new_run(workflow)).await?.id;
        let mut events = self.client.events(&[format!("run:{run}")], None).await?;
        self.wait(&mut events, run).await?;
        Ok(run)
    }

    /// Makes a run and times it from the request to the word of its end.
    pub(crate) async fn timed(&self, workflow: &str) -> Result<Duration> {
        self.deployed(workflow).await?;
        let mut events = self.client.events(&["project:default".to_owned()], None).await?;
        let start = Instant::now();
        let run = self.client.create_run(&new_run(workflow)).await?.id;
        self.wait(&mut events, run).await?;
        Ok(start.elapsed())
    }

    async fn wait(&self, events: &mut EventStream, run: RunId) -> Result<()> {
        let ended = self.ended(events, run);
        let state =
            tokio::time::timeout(PATIENCE, ended).await.context("the run did not end")??;
        ensure!(state == RunState::Success, "run {run} ended as {state:?}");
        Ok(())
    }

    async fn ended(&self, events: &mut EventStream, run: RunId) -> Result<RunState> {
        let row = self.client.run(run).await?;
        if row.state.is_terminal() {
            return Ok(row.state);
        }
        loop {
            match events.next().await?.item {
                StreamedItem::Event(event) if event.run == run => {
                    if let EventKind::RunFinished { state, .. } = event.data {
                        return Ok(state);
                    }
                }
                StreamedItem::Reset(reset) => bail!("the stream was reset: {}", reset.reason),
                _ => {}
            }
        }
    }

    /// Ends the server politely.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        ensure!(status.success(), "the server is gone: see {}", self.dir.join("up.log").display());
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A run of a deployed workflow without params.
pub(crate) fn new_run(workflow: &str) -> NewRun {
    NewRun { workflow: Some(workflow.to_owned()), ..NewRun::default() }
}

/// Waits until the server of process `pid` has written where it answers.
fn announced(dir: &Path, pid: u32) -> Result<Announced> {
    let file = dir.join(".ork/server.json");
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if let Ok(announced) = serde_json::from_str::<Announced>(&text)
            && announced.pid == pid
        {
            return Ok(announced);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("the server did not start: see {}", dir.join("up.log").display())
}
