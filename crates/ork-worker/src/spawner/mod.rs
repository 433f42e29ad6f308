//! The spawner: a small process that starts every program for a worker and knows its tree.
//!
//! It starts programs by `posix_spawn`, each under a mark that all its descendants inherit and in
//! a process group of its own; as the subreaper it becomes the parent of whatever a task leaves
//! behind. A tree is reported as gone only when none of it is left. When the worker's end of the
//! socket closes, by whatever death, all trees are killed at once.

mod mark;
mod process;
mod tree;
pub(crate) mod wire;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ork_core::ids::WorkerId;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use mark::Boot;
pub use wire::{Gone, Program};
use wire::{Inbox, News, Order};

/// The first argument of a process that is to be a spawner.
const WORD: &str = "--ork-spawner";

/// Becomes the spawner when the process was started as one, and then ends it; returns at once
/// otherwise. To be called first of all in `main`.
pub fn run_if_asked() {
    let mut args = std::env::args_os().skip(1);
    if args.next().as_deref() != Some(OsStr::new(WORD)) {
        return;
    }
    let boot = args.next().and_then(|arg| arg.to_str()?.parse().ok());
    let ended = match boot {
        Some(boot) => process::inherited_socket().and_then(|s| process::run(s, Boot(boot))),
        None => Err(io::Error::other("this argument is for Ork's own use")),
    };
    let code = ended.map_or_else(
        |error| {
            eprintln!("ork spawner: {error}");
            1
        },
        |()| 0,
    );
    std::process::exit(code);
}

/// A spawner that was started and that no runtime serves yet.
#[derive(Debug)]
pub struct Launched {
    socket: OwnedFd,
    boot: Boot,
}

/// Starts the spawner: `program` has to call [`run_if_asked`] first of all. It needs no runtime
/// and returns before the new process is up.
///
/// # Errors
/// When the kernel refuses the socket or the process.
pub fn launch(program: &Path, worker: &WorkerId) -> io::Result<Launched> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let boot = Boot::of(worker);
    Command::new(program)
        .arg(WORD)
        .arg(boot.0.to_string())
        .stdin(theirs)
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok(Launched { socket: ours, boot })
}

impl Launched {
    /// Serves the spawner on the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub fn attach(self) -> io::Result<Spawner> {
        let shared = Arc::new(Shared {
            socket: UnixStream::from_std(self.socket.into())?,
            boot: self.boot,
            next: AtomicU64::new(1),
            queue: Mutex::default(),
            queued: Notify::new(),
            lives: Mutex::new(Some(Lives::default())),
            ended: Notify::new(),
        });
        drop(tokio::spawn(read(Arc::clone(&shared))));
        drop(tokio::spawn(write(Arc::clone(&shared))));
        Ok(Spawner { shared })
    }
}

/// Kills whatever earlier boots left running: only their spawners' own deaths can leave anything.
/// It looks at every process of the machine, so it is for starts after an unclean end.
///
/// # Errors
/// When some of them could not be killed within `patience`; says which.
pub async fn stop_trees_of(boots: &[WorkerId], patience: Duration) -> io::Result<()> {
    let boots: Vec<Boot> = boots.iter().map(Boot::of).collect();
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let left = tree::marked(&boots);
        if left.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            let pids: Vec<String> = left.iter().map(|proc| proc.pid.to_string()).collect();
            let pids = pids.join(", ");
            return Err(io::Error::other(format!("processes of an earlier start live on: {pids}")));
        }
        tree::kill(|| tree::marked(&boots), &|group| group == tree::own_group());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A worker's way to its spawner.
#[derive(Clone, Debug)]
pub struct Spawner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    socket: UnixStream,
    boot: Boot,
    next: AtomicU64,
    /// What the socket did not take at once.
    queue: Mutex<VecDeque<(Vec<u8>, Vec<OwnedFd>)>>,
    queued: Notify,
    /// Whose trees there are; none once the spawner is gone.
    lives: Mutex<Option<Lives>>,
    /// Told when the spawner is gone, or the last tree that was let go.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Lives {
    /// Who waits for news of a tree.
    watched: HashMap<u64, UnboundedSender<Word>>,
    /// Trees that nobody waits for and that are being killed.
    let_go: HashSet<u64>,
}

/// A word of the spawner about a tree.
#[derive(Debug)]
pub enum Word {
    /// Its first process runs.
    Started(i32),
    /// It could not be started.
    Refused(io::Error),
    /// All of it is gone.
    Gone(Gone),
}

impl Word {
    /// Whether nothing is left of the tree.
    fn is_last(&self) -> bool {
        matches!(self, Self::Gone(_) | Self::Refused(_))
    }
}

/// What a program has as stdin, stdout and stderr; without a stdin it reads `/dev/null`.
#[derive(Debug)]
pub struct Stdio3 {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

impl Spawner {
    /// One whose process is the holder of the socket's other end.
    #[cfg(test)]
    pub(crate) fn of_nobody() -> (Self, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let launched = Launched { socket: ours, boot: Boot::of(&"nobody".into()) };
        (launched.attach().unwrap(), theirs)
    }

    /// Starts a program. A `keeper` serves other trees: it outlives them.
    pub fn spawn(&self, program: Program, stdio: Stdio3, keeper: bool) -> TreeHandle {
        let fds: Vec<OwnedFd> =
            stdio.stdin.into_iter().chain([stdio.stdout, stdio.stderr]).collect();
        let mut tree = self.reserve();
        tree.known = true;
        let bytes = Order::Spawn { program, keeper }.encode(tree.id, fds.len());
        self.shared.send(bytes, fds);
        tree
    }

    /// A tree whose first process another one starts, under [`TreeHandle::mark`], and that
    /// [`TreeHandle::adopt`] makes known.
    pub fn reserve(&self) -> TreeHandle {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (sender, words) = unbounded_channel();
        if let Some(lives) = lock(&self.shared.lives).as_mut() {
            lives.watched.insert(id, sender);
        }
        TreeHandle { id, words, known: false, over: false, shared: Arc::clone(&self.shared) }
    }

    /// Whether the spawner's process has ended: nothing can be started any more.
    pub fn is_gone(&self) -> bool {
        lock(&self.shared.lives).is_none()
    }

    /// Returns when the spawner's process has ended.
    pub async fn gone(&self) {
        self.shared.until(|lives| lives.is_none()).await;
    }

    /// Returns when nothing is left of the trees whose handles were dropped.
    pub async fn quiet(&self) {
        self.shared.until(|lives| lives.is_none_or(|lives| lives.let_go.is_empty())).await;
    }

    /// Kills every tree at once and ends the spawner; returns when nothing is left.
    pub async fn close(&self) {
        let _ = rustix::net::shutdown(&self.shared.socket, rustix::net::Shutdown::Write);
        self.gone().await;
    }
}

/// One tree. When it is dropped before it is gone, it is killed.
#[derive(Debug)]
pub struct TreeHandle {
    id: u64,
    words: UnboundedReceiver<Word>,
    /// Whether the spawner knows of it.
    known: bool,
    over: bool,
    shared: Arc<Shared>,
}

impl TreeHandle {
    /// The soft `RLIMIT_RTTIME` by which the tree's processes are known.
    pub fn mark(&self) -> u64 {
        self.shared.boot.mark(self.id).0
    }

    /// The next word of the tree; none when the spawner's process has died.
    pub async fn next(&mut self) -> Option<Word> {
        let word = self.words.recv().await;
        self.over |= word.as_ref().is_none_or(Word::is_last);
        word
    }

    /// Makes the first process of a reserved tree known.
    pub fn adopt(&mut self, pid: i32) {
        self.known = true;
        self.order(&Order::Adopt { pid });
    }

    /// Says that the first process of an adopted tree has ended, by `SIGKILL` if `killed`;
    /// [`Word::Gone`] follows when nothing of it is left.
    pub fn left(&self, killed: bool) {
        self.order(&Order::Left { killed });
    }

    /// Says that the parent of an adopted first process is dead. [`Word::Gone`] then tells how the
    /// process itself ended, if it was not gone before.
    pub fn orphaned(&self) {
        self.order(&Order::Orphaned);
    }

    /// Stops the tree: `SIGTERM` to all of it, and after `grace` `SIGKILL` until none is left.
    pub fn stop(&self, grace: Duration) {
        self.order(&Order::Stop { grace });
    }

    fn order(&self, order: &Order) {
        self.shared.send(order.encode(self.id, 0), Vec::new());
    }
}

impl Drop for TreeHandle {
    fn drop(&mut self) {
        if !self.over {
            self.stop(Duration::ZERO);
        }
        let mut lives = lock(&self.shared.lives);
        let Some(lives) = lives.as_mut() else { return };
        lives.watched.remove(&self.id);
        while let Ok(word) = self.words.try_recv() {
            self.over |= word.is_last();
        }
        if self.known && !self.over {
            lives.let_go.insert(self.id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Sends at once when nothing waits and the socket has room, else leaves it to the writer.
    fn send(&self, mut bytes: Vec<u8>, mut fds: Vec<OwnedFd>) {
        let mut queue = lock(&self.queue);
        if queue.is_empty() {
            match wire::send(&self.socket, &bytes, &fds) {
                Ok(sent) if sent == bytes.len() => return,
                Ok(sent) => {
                    bytes.drain(..sent);
                    fds.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        queue.push_back((bytes, fds));
        self.queued.notify_one();
    }

    /// Waits until it is so, which is looked at whenever something has ended.
    async fn until(&self, holds: impl Fn(Option<&Lives>) -> bool) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if holds(lock(&self.lives).as_ref()) {
                return;
            }
            ended.await;
        }
    }

    /// Sends what has queued up, as far as the socket takes it.
    fn drain(&self) -> io::Result<()> {
        let mut queue = lock(&self.queue);
        while let Some((bytes, fds)) = queue.front_mut() {
            let sent = wire::send(&self.socket, bytes, fds)?;
            fds.clear();
            bytes.drain(..sent);
            if bytes.is_empty() {
                queue.pop_front();
            }
        }
        Ok(())
    }

    fn deliver(&self, inbox: &mut Inbox) -> io::Result<()> {
        let mut lives = lock(&self.lives);
        let Some(lives) = lives.as_mut() else { return Ok(()) };
        while let Some((kind, id, payload)) = inbox.next()? {
            let word = match News::decode(kind, payload) {
                Some(News::Started { pid }) => Word::Started(pid),
                Some(News::Refused { errno }) => Word::Refused(io::Error::from_raw_os_error(errno)),
                Some(News::Gone(gone)) => Word::Gone(gone),
                None => return Err(io::ErrorKind::InvalidData.into()),
            };
            if word.is_last() && lives.let_go.remove(&id) {
                self.ended.notify_waiters();
            }
            if let Some(sender) = lives.watched.get(&id) {
                let _ = sender.send(word);
            }
        }
        Ok(())
    }
}

/// Brings the spawner's words to those who wait for them, until it is gone.
async fn read(shared: Arc<Shared>) {
    let mut inbox = Inbox::default();
    loop {
        let socket = &shared.socket;
        let received = socket.async_io(Interest::READABLE, || inbox.receive(socket)).await;
        if !received.is_ok_and(|n| n > 0) || shared.deliver(&mut inbox).is_err() {
            break;
        }
    }
    lock(&shared.lives).take();
    shared.ended.notify_waiters();
    shared.queued.notify_one();
}

/// Sends what the socket did not take at once.
async fn write(shared: Arc<Shared>) {
    while lock(&shared.lives).is_some() {
        shared.queued.notified().await;
        let drained = shared.socket.async_io(Interest::WRITABLE, || shared.drain()).await;
        if drained.is_err() {
            return;
        }
    }
}
