//! Starting and stopping.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::{Router, middleware};
use http_body_util::BodyExt as _;
use ork_api::client::{self, Client, Transport, TransportError};
use ork_api::problem::Code;
use ork_core::ids::WorkerId;
use ork_core::run::{Command, Departure};
use ork_core::schedule::Site;
use ork_engine::{Clock, Engine, SystemClock};
use ork_store::{DataDir, DirError, Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::app::App;
use crate::attempt_logs::AttemptLogs;
use crate::door::Door;
use crate::feed::Feed;
use crate::guard::{Origin, guard};
use crate::hub::{Hub, Outlet, Served, WorkerLink};
use crate::limits::Limits;
use crate::listen::listen;
use crate::plans::Plans;
use crate::refused::Refused;
use crate::retention::{Retention, Sweeper};
use crate::token::{self, Known};
use crate::{random, routes};

/// How a server starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is kept: the store, logs, blobs, the token. Made where it is not there.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The project's name.
    pub project: String,
    /// What keeps the rows.
    pub storage: Storage,
    /// What one client and all may take.
    pub limits: Limits,
    /// The most bytes that are kept of what one attempt writes.
    pub log_bytes: u64,
    /// What is removed with time.
    pub retention: Retention,
    /// Whether new work is taken from the start; see [`Running::take_work`].
    pub works: bool,
    /// The engine's settings.
    pub engine: ork_engine::Config,
}

impl Config {
    /// The settings of a local server: on the loopback interface, `SQLite` in `data_dir`.
    pub fn local(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            project: "default".to_owned(),
            storage: Storage::Sqlite,
            limits: Limits::default(),
            log_bytes: ork_store::Limits::default().attempt,
            retention: Retention::default(),
            works: true,
            engine: ork_engine::Config::default(),
        }
    }
}

/// What keeps the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// `SQLite`, in `ork.db`.
    Sqlite,
    /// Memory: all is gone when the server ends.
    Memory,
}

/// What `server.json` says of the server that holds a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFile {
    /// Where it listens.
    pub url: String,
    /// Its process.
    pub pid: u32,
    /// This boot of it.
    pub boot: String,
    /// Whether it takes new work.
    #[serde(default)]
    pub works: bool,
}

impl ServerFile {
    /// What the data directory says; none where no server has said anything, or the one that has
    /// does not hold the directory any more: whoever answers at its address now is another.
    ///
    /// # Errors
    /// Where the file is there but cannot be read.
    pub fn read(data_dir: &Path) -> io::Result<Option<Self>> {
        let file: Self = match fs::read(data_dir.join(SERVER_FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let holder = DataDir::holder(data_dir);
        Ok(Some(file).filter(|file| holder == Some(file.pid)))
    }
}

const SERVER_FILE: &str = "server.json";

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one holds the data directory.
    #[error("{}", locked(directory, holder.as_ref()))]
    Locked {
        /// The data directory.
        directory: PathBuf,
        /// Who holds it, where it has said so already.
        holder: Option<ServerFile>,
    },
    /// A file or folder of the data directory.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The address.
    #[error("cannot listen on {bind}: {error}")]
    Bind {
        /// Which.
        bind: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The store.
    #[error("the store in {directory} cannot be opened: {error}")]
    Store {
        /// The data directory.
        directory: PathBuf,
        /// What the store says.
        error: StoreError,
    },
}

fn locked(directory: &Path, holder: Option<&ServerFile>) -> String {
    let by = match holder {
        Some(file) => format!("the server at {} (process {})", file.url, file.pid),
        None => "another process".to_owned(),
    };
    format!("{} is in use by {by}; use that server, or stop it first", directory.display())
}

/// Starts servers.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Opens the data directory, starts the engine, and listens. The server is ready when this
    /// returns; workers come by [`Running::link`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let directory = open_directory(&config.data_dir)?;
        let token =
            token::read_or_make(&config.data_dir).map_err(at(&config.data_dir.join("token")))?;
        let bind_error = |error| StartError::Bind { bind: config.bind, error };
        let listener = TcpListener::bind(config.bind).await.map_err(bind_error)?;
        let url = format!("http://{}", listener.local_addr().map_err(bind_error)?);
        let (stop, stopping) = watch::channel(false);
        let parts = Parts::open(&config, &directory, stopping.clone()).await?;
        let (app, engine_task) = parts.start(&config, &token, &url, stopping.clone()).await?;
        let app = Arc::new(app);
        let router = router(&app);
        let (pid, boot) = (std::process::id(), random::request_id());
        let file = ServerFile { url, pid, boot, works: config.works };
        announce(&directory, &file)?;
        let sockets = tokio::spawn(listen(listener, router.clone(), config.limits, stopping));
        let sweeper = Sweeper { app: app.clone(), retention: config.retention };
        let sweeper = tokio::spawn(sweeper.run());
        Ok(Running { app, router, token, file, directory, stop, sockets, sweeper, engine_task })
    }
}

fn open_directory(path: &Path) -> Result<Arc<DataDir>, StartError> {
    DataDir::open(path).map_err(|error| match error {
        DirError::Held { .. } => StartError::Locked {
            directory: path.to_owned(),
            holder: ServerFile::read(path).ok().flatten(),
        },
        DirError::Io { path, error } => StartError::File { path: path.into(), error },
    })
}

fn announce(directory: &DataDir, file: &ServerFile) -> Result<(), StartError> {
    let path = directory.path().join(SERVER_FILE);
    let json = serde_json::to_vec_pretty(file).map_err(io::Error::other);
    json.and_then(|json| token::write_private(&path, &json)).map_err(at(&path))
}

fn withdraw(directory: &DataDir) {
    if let Err(error) = fs::remove_file(directory.path().join(SERVER_FILE)) {
        tracing::warn!(%error, "{SERVER_FILE} cannot be removed");
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> StartError {
    let path = path.to_owned();
    move |error| StartError::File { path: path.clone(), error }
}

/// What the engine and the handlers stand on.
struct Parts {
    store: Arc<dyn Store>,
    feed: Arc<Feed>,
    logs: Arc<AttemptLogs>,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
}

impl Parts {
    async fn open(
        config: &Config,
        directory: &Arc<DataDir>,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store = open_store(config, directory).map_err(of_store(config))?;
        let feed = Arc::new(Feed::new(store.last_commit().await.map_err(of_store(config))?));
        let logs =
            Arc::new(AttemptLogs::open(directory, config.log_bytes).map_err(of_store(config))?);
        let hub = Arc::new(Hub::new(feed.clone(), logs.clone(), stopping));
        Ok(Self { store, feed, logs, hub, clock })
    }

    async fn start(
        self,
        config: &Config,
        token: &str,
        url: &str,
        stopping: watch::Receiver<bool>,
    ) -> Result<(App, JoinHandle<()>), StartError> {
        let project: Arc<str> = config.project.as_str().into();
        let site = Site { project_name: project.clone(), url: url.to_owned() };
        let (engine, task) = Engine::start(
            self.store.clone(),
            self.logs.blobs().clone(),
            Arc::new(Outlet(self.hub.clone())),
            self.clock.clone(),
            ork_engine::Config { site, ..config.engine.clone() },
        )
        .await
        .map_err(of_store(config))?;
        let plans = Arc::new(Plans::default());
        self.hub.serve(Served {
            engine: engine.clone(),
            store: self.store.clone(),
            plans: plans.clone(),
            project: project.clone(),
        });
        let app = App {
            engine,
            store: self.store,
            hub: self.hub,
            feed: self.feed,
            logs: self.logs,
            plans,
            token: Known::new(token),
            limits: config.limits.clone(),
            project,
            url: url.to_owned(),
            clock: self.clock,
            streams: Arc::new(Semaphore::new(config.limits.streams)),
            door: Door::new(config.works),
            stopping,
        };
        Ok((app, task))
    }
}

/// Waits until the server stops.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Where the sender is gone the server is too.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

fn of_store(config: &Config) -> impl Fn(StoreError) -> StartError {
    let directory = config.data_dir.clone();
    move |error| StartError::Store { directory: directory.clone(), error }
}

fn open_store(config: &Config, directory: &Arc<DataDir>) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match config.storage {
        Storage::Memory => Arc::new(ork_store::Memory::new()),
        Storage::Sqlite => Arc::new(ork_store::Sqlite::open(directory.clone())?),
    })
}

fn router(app: &Arc<App>) -> Router {
    routes::router()
        .fallback(|| async { Refused::not_found("such path; see /api/v1/openapi.json") })
        .method_not_allowed_fallback(|| async {
            Refused::new(Code::MethodNotAllowed, "this path does not take that method")
        })
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app.clone())
}

/// A server that runs.
pub struct Running {
    app: Arc<App>,
    router: Router,
    token: String,
    file: ServerFile,
    directory: Arc<DataDir>,
    stop: watch::Sender<bool>,
    sockets: JoinHandle<()>,
    sweeper: JoinHandle<()>,
    engine_task: JoinHandle<()>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Running {
    /// Where it listens: `http://ADDRESS:PORT`.
    pub fn url(&self) -> &str {
        &self.file.url
    }

    /// The local token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What `server.json` says.
    pub fn file(&self) -> &ServerFile {
        &self.file
    }

    /// A client within the process, without a socket.
    pub fn client(&self) -> Client {
        let transport = Arc::new(InProcess(self.router.clone()));
        Client::new(transport, Some(&self.token)).in_project(&self.app.project)
    }

    /// A way to this server for a worker in the same process.
    pub fn link(&self) -> WorkerLink {
        self.app.hub.link()
    }

    /// The workers of earlier boots whose attempts are still theirs. Once nothing is left of their
    /// process trees, say so by [`Running::workers_are_gone`].
    ///
    /// # Errors
    /// Where the engine has stopped.
    pub async fn old_workers(&self) -> Result<Vec<WorkerId>, ork_engine::Error> {
        let workers = self.app.engine.inspect(ork_core::run::Machine::workers).await?;
        Ok(workers.into_iter().filter(|view| !view.joined).map(|view| view.worker).collect())
    }

    /// Tells the engine that these workers are gone and their process trees are stopped, so that
    /// their attempts are lost at once.
    ///
    /// # Errors
    /// Where the engine has stopped.
    pub async fn workers_are_gone(&self, workers: &[WorkerId]) -> Result<(), ork_engine::Error> {
        for worker in workers {
            let (worker, departure) = (worker.clone(), Departure::Crashed);
            let gone = Command::WorkerGone { worker, departure };
            self.app.engine.enqueue(ork_engine::Request::worker(gone)).await?.answer().await?;
        }
        Ok(())
    }

    /// Takes new work from now on, or refuses it, and says so in `server.json`. When this returns,
    /// what was accepted before can be seen.
    ///
    /// # Errors
    /// See [`StartError::File`].
    pub async fn take_work(&mut self, works: bool) -> Result<(), StartError> {
        self.app.door.set(works).await;
        self.file.works = works;
        announce(&self.directory, &self.file)
    }

    /// Stops: takes no more connections, ends streams, lets requests under way finish for
    /// `drain`, commits what the engine has, and gives the data directory back. Workers in this
    /// process are to be stopped before, so that their last words are kept.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.sockets.await {
            tracing::error!(%error, "the listener failed");
        }
        if let Err(error) = self.sweeper.await {
            tracing::error!(%error, "the removal of old runs failed");
        }
        self.app.engine.stop();
        if let Err(error) = self.engine_task.await {
            tracing::error!(%error, "the engine failed");
        }
        withdraw(&self.directory);
    }
}

/// The server as a client within the process reaches it.
struct InProcess(Router);

#[async_trait]
impl Transport for InProcess {
    async fn send(
        &self,
        request: Request<client::Body>,
    ) -> Result<Response<client::Body>, TransportError> {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Origin { local: true });
        let Ok(response) = self.0.clone().oneshot(request).await;
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }

    fn may_lose_answers(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn post_run(running: &Running, local: bool, body: &str) -> u16 {
        let mut request = Request::post("/api/v1/projects/default/runs")
            .header("authorization", format!("Bearer {}", running.token))
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        request.extensions_mut().insert(Origin { local });
        running.router.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn drafts_are_run_for_this_machine_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { storage: Storage::Memory, ..Config::local(dir.path()) };
        let running = Server::start(config).await.unwrap();
        let source = "name: w\ntasks: { a: { run: [\"true\"] } }\n";
        let draft = json!({"draft": {"file": "w.yaml", "source": source, "root": dir.path()}});
        let by_number = json!({"workflow": "w", "version": -1});
        for body in [draft.to_string(), by_number.to_string()] {
            assert_eq!(post_run(&running, true, &body).await, 201, "{body}");
            assert_eq!(post_run(&running, false, &body).await, 403, "{body}");
        }
    }
}
