//! Warm parents: interpreters that have loaded the runner alone and fork a child per attempt.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::interpreter;
use crate::child::Life;
use crate::environment::Env;
use crate::spawner::{Gone, Program, Spawner, Stdio3, TreeHandle, Word, wire};
use crate::worker::Inner;

/// How much of a parent's last words is kept.
const LAST_WORDS: usize = 4096;
/// The bytes of an answer.
const ANSWER: usize = 13;

/// One parent per project, interpreter and environment of packages.
#[derive(Default)]
pub(super) struct Pool {
    parents: Arc<Mutex<Parents>>,
}

/// What attempts must have in common to share a parent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) project: Arc<str>,
    /// The interpreter; that of a virtual environment stands for the environment.
    pub(super) interpreter: PathBuf,
}

/// A warm parent.
struct Parent {
    control: UnixStream,
    state: Mutex<State>,
    gone: AtomicBool,
}

struct State {
    children: HashMap<u64, UnboundedSender<Answer>>,
    next: u64,
    idle_since: Instant,
    /// What the parent wrote to stderr, once it has ended.
    last_words: Option<String>,
}

#[derive(Clone, Copy)]
enum Answer {
    Pid(i32),
    Status(i32),
    Refused(i32),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Makes sure that there is a parent.
    pub(super) fn warm(&self, key: &Key, inner: &Inner, package: &Path) -> io::Result<()> {
        self.parent(key, inner, package).map(drop)
    }

    fn parent(&self, key: &Key, inner: &Inner, package: &Path) -> io::Result<Arc<Parent>> {
        let mut parents = lock(&self.parents);
        if let Some(parent) = parents.get(key).filter(|parent| !parent.is_gone()) {
            return Ok(Arc::clone(parent));
        }
        let parent = Parent::start(&key.interpreter, &inner.spawner, package, &inner.inherited)?;
        parents.insert(key.clone(), Arc::clone(&parent));
        let (pool, key, kept) = (Arc::clone(&self.parents), key.clone(), Arc::clone(&parent));
        drop(tokio::spawn(retire(pool, key, kept, inner.config.python_idle)));
        Ok(parent)
    }

    /// Forks a child for an attempt, which finds its descriptors as the runner wants them.
    pub(super) fn fork(
        &self,
        key: &Key,
        inner: &Inner,
        package: &Path,
        fds: &[OwnedFd],
    ) -> io::Result<Forked> {
        let parent = self.parent(key, inner, package)?;
        Forked::ask(parent, inner.spawner.reserve(), fds)
    }
}

type Parents = HashMap<Key, Arc<Parent>>;

/// Lets a parent go once it has had no work for so long.
async fn retire(pool: Arc<Mutex<Parents>>, key: Key, parent: Arc<Parent>, idle: Duration) {
    while !parent.is_gone() {
        let until = parent.idle_since().unwrap_or_else(Instant::now) + idle;
        if until <= Instant::now() && let_go(&mut lock(&pool), &key, &parent) {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

/// Sends a parent away that has no work; false when it has some after all.
fn let_go(parents: &mut Parents, key: &Key, parent: &Arc<Parent>) -> bool {
    if parent.idle_since().is_none() {
        return false;
    }
    if parents.get(key).is_some_and(|current| Arc::ptr_eq(current, parent)) {
        parents.remove(key);
    }
    let _ = rustix::net::shutdown(&parent.control, rustix::net::Shutdown::Write);
    true
}

impl Parent {
    fn start(
        interpreter: &Path,
        spawner: &Spawner,
        package: &Path,
        env: &Env,
    ) -> io::Result<Arc<Self>> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let (words, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&words, true)?;
        let program = Program {
            file: interpreter.into(),
            argv: interpreter::arguments(interpreter, package, "warm"),
            cwd: "/".into(),
            env: env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        };
        let stdout = stderr.try_clone()?;
        let stdio = Stdio3 { stdin: Some(theirs), stdout, stderr };
        let tree = spawner.spawn(program, stdio, true);
        let state = State {
            children: HashMap::new(),
            next: 0,
            idle_since: Instant::now(),
            last_words: None,
        };
        let parent = Arc::new(Self {
            control: UnixStream::from_std(ours.into())?,
            state: Mutex::new(state),
            gone: AtomicBool::new(false),
        });
        let words = Receiver::from_owned_fd_unchecked(words)?;
        drop(tokio::spawn(serve(Arc::clone(&parent), tree, words)));
        Ok(parent)
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Since when it has had no work; none while it has some.
    fn idle_since(&self) -> Option<Instant> {
        let state = lock(&self.state);
        state.children.is_empty().then_some(state.idle_since)
    }

    fn forget(&self, id: u64) {
        let mut state = lock(&self.state);
        state.children.remove(&id);
        state.idle_since = Instant::now();
    }

    /// Nothing is left of it: whoever waits for it learns so, and what it said.
    fn end(&self, said: &[u8]) {
        self.gone.store(true, Ordering::Release);
        let mut state = lock(&self.state);
        state.last_words = Some(String::from_utf8_lossy(said).trim().to_owned());
        state.children.clear();
    }

    /// Delivers the whole answers of what was read.
    fn deliver_all(&self, inbox: &mut Vec<u8>) {
        let whole = inbox.len() - inbox.len() % ANSWER;
        inbox.drain(..whole).as_slice().chunks(ANSWER).for_each(|answer| self.deliver(answer));
    }

    /// Delivers what the parent and its children answered before the socket's last end is closed:
    /// a child whose parent is dead may still be about to give its pid.
    async fn last_answers(&self, mut inbox: Vec<u8>) {
        while self.control.readable().await.is_ok() {
            match self.control.try_read_buf(&mut inbox) {
                Ok(0) => return,
                Ok(_) => self.deliver_all(&mut inbox),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    fn deliver(&self, answer: &[u8]) {
        let (Some(id), Some(number)) = (answer[1..].first_chunk(), answer[9..].first_chunk())
        else {
            return;
        };
        let number = i32::from_le_bytes(*number);
        let answer = match answer[0] {
            b'P' => Answer::Pid(number),
            b'S' => Answer::Status(number),
            _ => Answer::Refused(number),
        };
        if let Some(child) = lock(&self.state).children.get(&u64::from_le_bytes(*id)) {
            let _ = child.send(answer);
        }
    }
}

/// Brings a parent's answers to its attempts, until its tree is gone.
async fn serve(parent: Arc<Parent>, mut tree: TreeHandle, mut words: Receiver) {
    let (mut inbox, mut said) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            word = tree.next() => match word {
                Some(Word::Started(_)) => {}
                Some(Word::Refused(error)) => {
                    said = error.to_string().into_bytes();
                    break;
                }
                Some(Word::Gone(_)) | None => break,
            },
            Ok(()) = parent.control.readable() => {
                match parent.control.try_read_buf(&mut inbox) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
                parent.deliver_all(&mut inbox);
            }
            Ok(n) = words.read_buf(&mut said), if said.len() < LAST_WORDS => {
                if n == 0 {
                    said.resize(said.len().max(LAST_WORDS), b' ');
                }
            }
        }
    }
    parent.last_answers(inbox).await;
    if said.len() < LAST_WORDS {
        let mut rest = [0; LAST_WORDS];
        let n = rustix::io::read(&words, &mut rest).unwrap_or(0);
        said.extend_from_slice(&rest[..n]);
    }
    parent.end(&said);
}

/// The child of a warm parent that does an attempt.
pub(super) struct Forked {
    id: u64,
    parent: Arc<Parent>,
    tree: TreeHandle,
    answers: UnboundedReceiver<Answer>,
    pid: Option<i32>,
    /// How it ended, as `wait` has it.
    status: Option<i32>,
    /// Whether the parent is dead, so that the spawner sees how the child ends.
    orphaned: bool,
    /// An order to stop that came before the child was known.
    stop: Option<Duration>,
}

impl Forked {
    /// Asks a parent for a child. One that is dead already says so by [`Life::next`], with its last
    /// words, as one does that dies then.
    fn ask(parent: Arc<Parent>, tree: TreeHandle, fds: &[OwnedFd]) -> io::Result<Self> {
        let (sender, answers) = unbounded_channel();
        let id = {
            let mut state = lock(&parent.state);
            state.next += 1;
            let id = state.next;
            if state.last_words.is_none() {
                state.children.insert(id, sender);
            }
            id
        };
        let forked = Self {
            id,
            parent,
            tree,
            answers,
            pid: None,
            status: None,
            orphaned: false,
            stop: None,
        };
        if let Err(error) = forked.request(fds) {
            // Its end may not have been read yet: the next request gets another.
            forked.parent.gone.store(true, Ordering::Release);
            if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
                return Err(error);
            }
        }
        Ok(forked)
    }

    fn request(&self, fds: &[OwnedFd]) -> io::Result<()> {
        let mut request = [0; 17];
        request[0] = b'F';
        request[1..9].copy_from_slice(&self.id.to_le_bytes());
        request[9..].copy_from_slice(&self.tree.mark().to_le_bytes());
        let control = &self.parent.control;
        let sent = control.try_io(Interest::WRITABLE, || wire::send(control, &request, fds));
        // A socket that is new is writable, whether the runtime has seen it or not.
        let sent = match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wire::send(control, &request, fds)
            }
            sent => sent,
        }?;
        if sent == request.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Takes what the parent said about the child.
    fn take(&mut self, answer: Option<Answer>) -> Option<Word> {
        match answer {
            Some(Answer::Pid(pid)) => {
                self.pid = Some(pid);
                self.tree.adopt(pid);
                if let Some(grace) = self.stop {
                    self.tree.stop(grace);
                }
                Some(Word::Started(pid))
            }
            Some(Answer::Status(_)) if self.pid.is_none() => {
                let error = "its process was killed before it began";
                Some(Word::Refused(io::Error::other(error)))
            }
            Some(Answer::Status(status)) => {
                self.status = Some(status);
                self.tree.left(status & 0x7f == 9);
                None
            }
            Some(Answer::Refused(errno)) => {
                Some(Word::Refused(io::Error::from_raw_os_error(errno)))
            }
            None if self.pid.is_none() => {
                let said = lock(&self.parent.state).last_words.clone().unwrap_or_default();
                Some(Word::Refused(io::Error::other(said)))
            }
            None => {
                self.orphaned = true;
                self.tree.orphaned();
                None
            }
        }
    }

    fn ended(&self, gone: Gone) -> Gone {
        let Some(status) = self.status else { return gone };
        let signal = status & 0x7f;
        let code = (signal == 0).then_some((status >> 8) & 0xff);
        let signal = (signal != 0).then_some(signal);
        Gone { code, signal, ..gone }
    }
}

impl Life for Forked {
    async fn next(&mut self) -> Option<Word> {
        loop {
            tokio::select! {
                answer = self.answers.recv(), if self.status.is_none() && !self.orphaned => {
                    if let Some(word) = self.take(answer) {
                        return Some(word);
                    }
                }
                word = self.tree.next() => return match word {
                    Some(Word::Gone(gone)) => Some(Word::Gone(self.ended(gone))),
                    word => word,
                },
            }
        }
    }

    fn stop(&mut self, grace: Duration) {
        self.stop = Some(grace);
        if self.pid.is_some() {
            self.tree.stop(grace);
        }
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        self.parent.forget(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UnixStream, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        (UnixStream::from_std(ours.into()).unwrap(), theirs)
    }

    #[tokio::test]
    async fn the_last_words_of_a_parent_that_was_dead_before_it_was_asked_are_told() {
        let (spawner, _other_end) = Spawner::of_nobody();
        for its_end_was_read in [false, true] {
            let (control, theirs) = pair();
            let state = State {
                children: HashMap::new(),
                next: 0,
                idle_since: Instant::now(),
                last_words: None,
            };
            let (state, gone) = (Mutex::new(state), AtomicBool::new(false));
            let parent = Arc::new(Parent { control, state, gone });
            drop(theirs);
            if its_end_was_read {
                parent.end(b"too old\n");
            }
            let fds = [pair().1];
            let mut forked = Forked::ask(Arc::clone(&parent), spawner.reserve(), &fds).unwrap();
            assert!(parent.is_gone());
            parent.end(b"too old\n");
            let Some(Word::Refused(error)) = forked.next().await else { panic!() };
            assert_eq!(error.to_string(), "too old");
        }
    }
}
