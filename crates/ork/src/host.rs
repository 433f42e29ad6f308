//! A server and, where wanted, a worker in this process, over a folder of this machine.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ork_api::client::Client;
use ork_core::ids::WorkerId;
use ork_server::{Config, Running, Server, StartError, WorkerLink};
use ork_worker::spawner::{self, Launched};
use ork_worker::{Dirs, Ended, Worker};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::exit::{Exit, Failure, Result};
use crate::output::say;
use crate::settings::Settings;

/// How long the process trees of an earlier boot may take to be gone.
const OLD_TREES: Duration = Duration::from_secs(30);

/// A worker that lived so long did not die of its start.
const HEALTHY: Duration = Duration::from_mins(1);

/// The rests between workers that die one after the other.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(10);

/// A free port of the loopback interface.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A spawner that starts up while the server does.
pub(crate) struct Recruit(std::thread::JoinHandle<io::Result<(WorkerId, Launched)>>);

/// Starts a spawner for a worker to be, on a thread of its own: the kernel takes a millisecond for
/// it.
pub(crate) fn recruit() -> Recruit {
    Recruit(std::thread::spawn(|| {
        let id = WorkerId::from(format!("local-{}", uuid::Uuid::now_v7().simple()).as_str());
        let launched = spawner::launch(&std::env::current_exe()?, &id)?;
        Ok((id, launched))
    }))
}

impl Recruit {
    fn join(self) -> io::Result<(WorkerId, Launched)> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the spawner's start panicked")))
    }
}

/// The server, and the worker beside it.
pub(crate) struct Host {
    running: Running,
    worker: Option<Employed>,
}

/// A worker under way, and the way to end it.
struct Employed {
    leave: watch::Sender<bool>,
    done: JoinHandle<()>,
}

impl Host {
    /// Takes the folder and starts the server, which takes new work where a worker `works`.
    ///
    /// # Errors
    /// See [`StartError`]; it is `Locked` while another process has the folder.
    pub(crate) async fn open(
        folder: &Path,
        bind: SocketAddr,
        settings: &Settings,
        works: bool,
    ) -> std::result::Result<Self, StartError> {
        let mut config = Config {
            bind,
            works,
            limits: settings.limits.clone(),
            log_bytes: settings.log_bytes,
            retention: settings.retention,
            ..Config::local(folder)
        };
        config.engine.machine.max_pending = settings.pending;
        Ok(Self { running: Server::start(config).await?, worker: None })
    }

    /// Stops what the workers of earlier boots left running, and says that they are gone: their
    /// attempts are lost at once, and done again while nothing of the old ones is left.
    ///
    /// # Errors
    /// When something of them cannot be stopped.
    pub(crate) async fn clear(&self, folder: &Path) -> Result<()> {
        let old = self.running.old_workers().await.map_err(failed)?;
        if !old.is_empty() {
            spawner::stop_trees_of(&old, OLD_TREES).await.map_err(failed)?;
            remove_scratch(&old, folder).await;
            self.running.workers_are_gone(&old).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Starts a worker; to be called after [`Host::clear`].
    ///
    /// # Errors
    /// When the worker cannot be started.
    pub(crate) fn employ(
        &mut self,
        folder: &Path,
        settings: &Settings,
        recruit: Recruit,
    ) -> Result<()> {
        let desk = Desk { folder: folder.to_owned(), settings: settings.clone() };
        let (leave, leaving) = watch::channel(false);
        let link = Arc::new(self.running.link());
        let worker = desk.worker(&link, recruit).map_err(failed)?;
        let done = tokio::spawn(desk.work(worker, link, leaving));
        self.worker = Some(Employed { leave, done });
        Ok(())
    }

    /// Takes new work, or refuses it; false, and said, where that cannot be made known.
    pub(crate) async fn take_work(&mut self, works: bool) -> bool {
        let told = self.running.take_work(works).await;
        if let Err(error) = &told {
            say(error);
        }
        told.is_ok()
    }

    /// A client within the process.
    pub(crate) fn client(&self) -> Client {
        self.running.client()
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        self.running.url()
    }

    /// Ends the worker, then the server. What is under way is stopped, and done again at the next
    /// start.
    pub(crate) async fn close(self) {
        if let Some(Employed { leave, done }) = self.worker {
            leave.send_replace(true);
            if let Err(error) = done.await {
                say(format_args!("the worker failed: {error}"));
            }
        }
        self.running.shutdown().await;
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let message = error.to_string();
        match error {
            StartError::Bind { .. } => {
                Self::usage(message).hint("give another address by --bind or ORK_SERVER__BIND")
            }
            StartError::Locked { .. } => Self::new(Exit::Refused, message),
            StartError::File { .. } | StartError::Store { .. } => Self::failed(message),
        }
    }
}

/// What every worker of this process is made from.
struct Desk {
    folder: PathBuf,
    settings: Settings,
}

impl Desk {
    fn worker(&self, link: &Arc<WorkerLink>, recruit: Recruit) -> io::Result<Worker> {
        let (id, launched) = recruit.join()?;
        let spawner = launched.attach()?;
        let config = ork_worker::Config {
            dirs: Dirs::of(&id, &self.folder, cache(&self.folder)),
            worker: id,
            slots: self.settings.slots,
            queues: self.settings.queues.clone(),
            python: self.settings.python.clone(),
            python_idle: ork_worker::PYTHON_IDLE,
            pass_env: self.settings.pass_env.clone(),
            max_output: self.settings.output,
            max_artifact: self.settings.limits.artifact,
        };
        Ok(Worker::new(config, spawner, link.clone()))
    }

    /// Works until the server is gone or the worker is to leave. A worker whose spawner died, or
    /// that panicked, is followed by another, over a link of its own: what was said to the dead one
    /// is not for it. When they die one after the other, it takes longer and longer.
    async fn work(
        self,
        mut worker: Worker,
        mut link: Arc<WorkerLink>,
        leaving: watch::Receiver<bool>,
    ) {
        let mut deaths = 0;
        loop {
            let leave = left(leaving.clone());
            let began = Instant::now();
            let end = worker.run(async {
                leave.await;
                Duration::ZERO
            });
            match end.await {
                Ended::SpawnerGone | Ended::Panicked => link = Arc::new(link.another()),
                Ended::ServerGone | Ended::Left => return,
            }
            if began.elapsed() > HEALTHY {
                deaths = 0;
            }
            worker = tokio::select! {
                next = self.follow(&link, &mut deaths) => next,
                () = left(leaving.clone()) => return,
            };
        }
    }

    /// Another worker, as soon as one can be started.
    async fn follow(&self, link: &Arc<WorkerLink>, deaths: &mut u32) -> Worker {
        let mut told = false;
        loop {
            tokio::time::sleep(rest(*deaths)).await;
            *deaths = deaths.saturating_add(1);
            match self.worker(link, recruit()) {
                Ok(worker) => return worker,
                Err(error) if !told => {
                    say(format_args!("the worker cannot be started again: {error}; trying on"));
                    told = true;
                }
                Err(_) => {}
            }
        }
    }
}

/// Waits until the worker is to leave.
async fn left(mut leaving: watch::Receiver<bool>) {
    // Where nobody can say so any more the server ends the worker.
    if leaving.wait_for(|leave| *leave).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How long to wait before a worker follows after so many deaths in a row: the first one is
/// followed at once.
fn rest(deaths: u32) -> Duration {
    match deaths {
        0 => Duration::ZERO,
        n => LONGEST_REST.min(SHORTEST_REST * 2_u32.saturating_pow(n.min(16) - 1)),
    }
}

/// Removes the short-lived files of workers of which nothing is left.
async fn remove_scratch(old: &[WorkerId], folder: &Path) {
    let dirs = old.iter().map(|worker| Dirs::of(worker, folder, cache(folder)));
    let dirs: Vec<Dirs> = dirs.collect();
    let removed = tokio::task::spawn_blocking(move || {
        // One that ended in order has none.
        dirs.iter().for_each(Dirs::remove);
    });
    let _ = removed.await;
}

/// Where what can be made again is kept: bundles, environments.
fn cache(folder: &Path) -> PathBuf {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    base.map_or_else(|| folder.join("cache"), |base| base.join("ork"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_die_one_after_the_other_come_less_and_less_often() {
        let rests: Vec<_> = (0..10).map(|deaths| rest(deaths).as_millis()).collect();
        assert_eq!(rests, [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(rest(u32::MAX), LONGEST_REST);
    }
}
