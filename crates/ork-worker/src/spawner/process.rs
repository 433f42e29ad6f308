//! The spawner's own process: one thread, one loop, no runtime.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitOptions, WaitStatus, set_child_subreaper, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::mark::{Boot, Mark};
use super::tree::{self, Proc, Snapshot, Tree};
use super::wire::{self, Gone, Inbox, News, Order, Program};

/// How long what a first process left behind may take to end by itself: readers of its output,
/// such as a `tee`, see the end of the pipe and leave.
const LEFTOVER_GRACE: Duration = Duration::from_millis(100);
/// How long the word of a start is kept back, so that a short program costs one message.
const HOLD: Duration = Duration::from_millis(2);
/// How soon after a child's end its tree is looked at: a tree of many ends as one.
const LOOK: Duration = Duration::from_millis(2);
/// How many ends of processes that nobody has claimed, and of trees, are remembered.
const REMEMBERED: usize = 256;
/// How long a worker's death may take to reach the last of its processes.
const LAST_STAND: Duration = Duration::from_secs(30);

/// Runs until the worker is gone, then kills all trees.
pub(crate) fn run(socket: OwnedFd, boot: Boot) -> io::Result<()> {
    set_child_subreaper(rustix::process::Pid::from_raw(1))?;
    // Inherited by programs; what the worker does without is not theirs to miss.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
    let (wake, waker) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGCHLD, waker)?;
    // A service manager may signal every process of the service: the worker alone decides when
    // this one ends. Handlers, unlike ignored signals, are not inherited by programs.
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let mut spawner = Spawner {
        socket,
        wake,
        boot,
        lives: HashMap::new(),
        mains: HashMap::new(),
        unclaimed: VecDeque::new(),
        finished: VecDeque::new(),
        outbox: Vec::new(),
        flush_at: None,
        look_at: None,
        to_tell: Vec::new(),
        oom_kills: oom_kills(),
    };
    let ended = spawner.serve();
    spawner.kill_everything();
    ended
}

/// One tree.
struct Life {
    /// The first process, while it lives.
    main: Option<i32>,
    /// What it left.
    gone: Gone,
    /// Whether another process is its parent.
    adopted: bool,
    /// Whether it serves other trees and so says nothing about whose a stray is.
    keeper: bool,
    phase: Phase,
}

enum Phase {
    Running,
    /// The first process is gone; others of its tree live.
    Leftovers {
        until: Instant,
    },
    /// Told to end.
    Polite {
        until: Instant,
    },
    /// Being killed.
    Killing {
        next: Instant,
        pause: Duration,
    },
}

impl Phase {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Running => None,
            Self::Leftovers { until } | Self::Polite { until } => Some(*until),
            Self::Killing { next, .. } => Some(*next),
        }
    }
}

struct Spawner {
    socket: OwnedFd,
    wake: UnixStream,
    boot: Boot,
    lives: HashMap<u64, Life>,
    /// The tree of each first process that is a child of this one.
    mains: HashMap<i32, u64>,
    /// How the last children of no known tree ended: one whose parent is dead may be adopted yet.
    unclaimed: VecDeque<(i32, Gone)>,
    /// The last trees of which nothing was left.
    finished: VecDeque<u64>,
    outbox: Vec<u8>,
    flush_at: Option<Instant>,
    /// When trees that are on their way out are looked at again, since a child has ended.
    look_at: Option<Instant>,
    /// Trees that are to be told to end.
    to_tell: Vec<u64>,
    oom_kills: u64,
}

impl Spawner {
    fn serve(&mut self) -> io::Result<()> {
        let mut inbox = Inbox::default();
        loop {
            let (orders, children) = self.wait()?;
            if children {
                self.reap();
            }
            if orders && !self.take_orders(&mut inbox)? {
                return Ok(());
            }
            if children && self.lives.values().any(|life| life.phase.deadline().is_some()) {
                self.look_at.get_or_insert_with(|| Instant::now() + LOOK);
            }
            self.tick();
            if self.flush_at.is_some_and(|at| at <= Instant::now()) {
                self.flush()?;
            }
        }
    }

    /// Waits for orders, for a child's end, or for the next deadline.
    fn wait(&mut self) -> io::Result<(bool, bool)> {
        let deadlines = self.lives.values().filter_map(|life| life.phase.deadline());
        let next = deadlines.chain(self.flush_at).chain(self.look_at).min();
        let timeout = next.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        let mut fds =
            [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((false, true)),
            Err(error) => return Err(error.into()),
        }
        let [orders, children] = fds.map(|fd| !fd.revents().is_empty());
        if children {
            let mut sink = [0; 64];
            while io::Read::read(&mut self.wake, &mut sink).is_ok_and(|n| n == sink.len()) {}
        }
        Ok((orders, children))
    }

    /// Reads once and does what was read; false when the worker is gone.
    fn take_orders(&mut self, inbox: &mut Inbox) -> io::Result<bool> {
        match inbox.receive(&self.socket) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        }
        while let Some((kind, id, payload)) = inbox.next()? {
            let order = Order::decode(kind, payload);
            let (order, fds) =
                order.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "unknown order"))?;
            let fds: Vec<OwnedFd> = inbox.fds.drain(..fds.min(inbox.fds.len())).collect();
            self.obey(id, order, fds);
        }
        Ok(true)
    }

    fn obey(&mut self, id: u64, order: Order, fds: Vec<OwnedFd>) {
        match order {
            Order::Spawn { program, keeper } => self.spawn(id, &program, keeper, fds),
            Order::Adopt { pid } => self.adopt(id, pid),
            Order::Left { killed } => {
                let out_of_memory = killed && self.oom_killed();
                if let Some(life) = self.lives.get_mut(&id) {
                    life.main = None;
                    life.gone.out_of_memory = out_of_memory;
                    self.first_is_gone(id);
                }
            }
            Order::Orphaned => self.orphaned(id),
            Order::Stop { grace } => self.stop(id, grace),
        }
    }

    fn spawn(&mut self, id: u64, program: &Program, keeper: bool, fds: Vec<OwnedFd>) {
        self.boot.mark(id).put_on_self();
        match start(program, fds) {
            Ok(pid) => {
                self.mains.insert(pid, id);
                self.lives.insert(id, Life::new(pid, false, keeper));
                self.tell(id, &News::Started { pid });
            }
            Err(error) => {
                self.tell(id, &News::Refused { errno: error.raw_os_error().unwrap_or(0) });
                self.flush_at = Some(Instant::now());
            }
        }
    }

    fn adopt(&mut self, id: u64, pid: i32) {
        self.lives.insert(id, Life::new(pid, true, false));
        let at = self.unclaimed.iter().position(|(ended, _)| *ended == pid);
        let Some((_, gone)) = at.and_then(|at| self.unclaimed.remove(at)) else { return };
        // The number may be another process's by now.
        if Proc::read(pid).is_none() {
            self.first_ended(id, gone);
        }
    }

    /// An adopted first process that lives, or waits to be reaped, becomes a child of this one.
    fn orphaned(&mut self, id: u64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        if life.main.take_if(|pid| Proc::read(*pid).is_none()).is_some() {
            self.first_is_gone(id);
        }
    }

    /// The tree of an adopted first process.
    fn adopted(&self, pid: i32) -> Option<u64> {
        let mut lives = self.lives.iter();
        lives.find(|(_, life)| life.adopted && life.main == Some(pid)).map(|(id, _)| *id)
    }

    fn stop(&mut self, id: u64, grace: Duration) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let now = Instant::now();
        let until = now + grace.min(Duration::from_hours(24 * 365));
        match &mut life.phase {
            Phase::Killing { .. } => {}
            Phase::Polite { until: old } => *old = until.min(*old),
            phase => {
                *phase = Phase::Polite { until };
                if !grace.is_zero() {
                    self.to_tell.push(id);
                }
            }
        }
    }

    /// Takes notice of every child that has ended.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let out_of_memory = status.terminating_signal() == Some(9) && self.oom_killed();
            let gone = Gone { out_of_memory, ..ended(status) };
            if let Some(id) = self.mains.remove(&pid).or_else(|| self.adopted(pid)) {
                self.first_ended(id, gone);
                continue;
            }
            remember(&mut self.unclaimed, (pid, gone));
        }
    }

    fn first_ended(&mut self, id: u64, gone: Gone) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.main = None;
            life.gone = gone;
            self.first_is_gone(id);
        }
    }

    fn oom_killed(&mut self) -> bool {
        let before = std::mem::replace(&mut self.oom_kills, oom_kills());
        self.oom_kills > before
    }

    fn first_is_gone(&mut self, id: u64) {
        let running = self.lives.get(&id).is_some_and(|life| matches!(life.phase, Phase::Running));
        if !running {
            // Those that end together are looked at together.
            self.look_at = Some(Instant::now());
            return;
        }
        let has_others = tree::has_other_children(&|pid| self.mains.contains_key(&pid));
        if !has_others || self.members(id, &Snapshot::take()).is_empty() {
            self.finish(id);
        } else if let Some(life) = self.lives.get_mut(&id) {
            life.phase = Phase::Leftovers { until: Instant::now() + LEFTOVER_GRACE };
        }
    }

    /// Moves every tree that is on its way out. All of them share one look at the processes, and
    /// without such a tree there is none.
    fn tick(&mut self) {
        let now = Instant::now();
        let look = self.look_at.take_if(|at| *at <= now).is_some();
        let due = |life: &Life| life.phase.deadline().is_some_and(|at| look || at <= now);
        let ids: Vec<u64> =
            self.lives.iter().filter(|(_, life)| due(life)).map(|(id, _)| *id).collect();
        let to_tell = std::mem::take(&mut self.to_tell);
        if ids.is_empty() && to_tell.is_empty() {
            return;
        }
        let snapshot = Snapshot::take();
        for id in to_tell {
            self.members(id, &snapshot).iter().for_each(|proc| proc.signal(Signal::TERM));
        }
        let doomed: Vec<u64> =
            ids.into_iter().filter(|id| self.step(*id, now, &snapshot)).collect();
        self.kill(&doomed);
    }

    /// Moves one tree; true when it is to be killed.
    fn step(&mut self, id: u64, now: Instant, snapshot: &Snapshot) -> bool {
        let members = self.members(id, snapshot);
        if members.is_empty() {
            self.finish(id);
            return false;
        }
        let Some(life) = self.lives.get_mut(&id) else { return false };
        if life.phase.deadline().is_some_and(|at| at > now) {
            return false;
        }
        let pause = match life.phase {
            Phase::Leftovers { .. } => {
                life.gone.leftovers = u32::try_from(members.len()).unwrap_or(u32::MAX);
                Duration::from_millis(5)
            }
            Phase::Killing { pause, .. } => (pause * 2).min(Duration::from_secs(1)),
            _ => Duration::from_millis(5),
        };
        life.phase = Phase::Killing { next: now + pause, pause };
        true
    }

    fn kill(&self, doomed: &[u64]) {
        if doomed.is_empty() {
            return;
        }
        let mains: HashSet<i32> = doomed.iter().filter_map(|id| self.lives.get(id)?.main).collect();
        let spare = |group| {
            group == tree::own_group()
                || (!mains.contains(&group) && self.mains.contains_key(&group))
        };
        let members = || {
            let snapshot = Snapshot::take();
            doomed.iter().flat_map(|id| self.members(*id, &snapshot)).collect()
        };
        tree::kill(members, &spare);
    }

    /// What lives of a tree. Strays are its own when no other tree is under way.
    fn members(&self, id: u64, snapshot: &Snapshot) -> Vec<Proc> {
        let Some(life) = self.lives.get(&id) else { return Vec::new() };
        let alone =
            !life.keeper && !self.lives.iter().any(|(other, life)| *other != id && !life.keeper);
        let tree = Tree { mark: self.boot.mark(id), main: life.main, takes_strays: alone };
        let keepers = |pid: i32| self.mains.contains_key(&pid);
        // A tree that is not known yet is about to be adopted.
        let of_others = |mark: Mark| {
            let is_over = || self.finished.iter().any(|other| self.boot.mark(*other) == mark);
            mark.boot() == self.boot && !is_over()
        };
        let mut members = snapshot.members(&tree, &of_others);
        members.retain(|proc| life.main == Some(proc.pid) || !keepers(proc.pid));
        members
    }

    fn finish(&mut self, id: u64) {
        let Some(life) = self.lives.remove(&id) else { return };
        if let Some(main) = life.main.filter(|_| !life.adopted) {
            self.mains.remove(&main);
        }
        remember(&mut self.finished, id);
        self.tell(id, &News::Gone(life.gone));
        self.flush_at = Some(Instant::now());
    }

    fn tell(&mut self, id: u64, news: &News) {
        self.outbox.extend(news.encode(id));
        self.flush_at.get_or_insert_with(|| Instant::now() + HOLD);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_at = None;
        let outbox = std::mem::take(&mut self.outbox);
        let mut rest = &outbox[..];
        while !rest.is_empty() {
            match wire::send(&self.socket, rest, &[]) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
                    let _ = poll(&mut fds, None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The worker is gone: the next read says so.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Kills all that is below this process, until nothing is left.
    fn kill_everything(&mut self) {
        let give_up = Instant::now() + LAST_STAND;
        let mut pause = Duration::from_millis(2);
        while Instant::now() < give_up {
            if is_childless() {
                return;
            }
            tree::kill(|| Snapshot::take().everything(), &|group| group == tree::own_group());
            let mut fds = [PollFd::new(&self.wake, PollFlags::IN)];
            let _ = poll(&mut fds, Some(&timespec(pause)));
            let mut sink = [0; 64];
            let _ = io::Read::read(&mut self.wake, &mut sink);
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

impl Life {
    fn new(pid: i32, adopted: bool, keeper: bool) -> Self {
        Self { main: Some(pid), gone: Gone::default(), adopted, keeper, phase: Phase::Running }
    }
}

/// Keeps the newest of a list.
fn remember<T>(list: &mut VecDeque<T>, new: T) {
    list.truncate(REMEMBERED - 1);
    list.push_front(new);
}

/// Reaps what has ended, and says whether nothing is left below this process: as the subreaper it
/// is the parent of whatever else has lost its own.
fn is_childless() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(error) => return error == rustix::io::Errno::CHILD,
        }
    }
}

/// Starts a program in a process group of its own, by `posix_spawn`.
fn start(program: &Program, fds: Vec<OwnedFd>) -> io::Result<i32> {
    let mut fds = fds.into_iter().rev();
    let (Some(stderr), Some(stdout)) = (fds.next(), fds.next()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let mut command = Command::new(&program.file);
    if let Some((name, args)) = program.argv.split_first() {
        command.arg0(name).args(args);
    }
    command
        .env_clear()
        .envs(program.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&program.cwd)
        .process_group(0)
        .stdin(fds.next().map_or_else(Stdio::null, Stdio::from))
        .stdout(stdout)
        .stderr(stderr);
    let child = command.spawn()?;
    i32::try_from(child.id()).map_err(io::Error::other)
}

fn ended(status: WaitStatus) -> Gone {
    Gone { code: status.exit_status(), signal: status.terminating_signal(), ..Gone::default() }
}

/// How many processes the kernel has killed for want of memory since it started.
fn oom_kills() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

fn timespec(span: Duration) -> Timespec {
    // Rounded up: a wait that ends early would spin.
    let span = span + Duration::from_micros(50);
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}

/// The socket as the worker left it on standard input.
pub(crate) fn inherited_socket() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}
