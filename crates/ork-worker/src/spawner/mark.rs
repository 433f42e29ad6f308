//! How the processes of an attempt are known, whatever they do to their environment, session or
//! parents.
//!
//! Every tree is started under a soft `RLIMIT_RTTIME` of its own, around 2⁶² microseconds. The
//! limit concerns real-time scheduling alone and is never reached; it is inherited by every
//! descendant, through `env -i`, `setsid` and double forks, and anyone may read it in
//! `/proc/PID/limits`.

use ork_core::ids::WorkerId;
use ork_core::value::Digest;
use rustix::process::{Resource, Rlimit, setrlimit};

const BASE: u64 = 1 << 62;

/// The mark of one tree: which boot of a worker started it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark(pub(crate) u64);

/// The part of a mark that all trees of one boot share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boot(pub(crate) u32);

impl Boot {
    /// The boot of this worker: 29 bits of its id's digest.
    pub(crate) fn of(worker: &WorkerId) -> Self {
        let digest = Digest::of(worker.0.as_bytes());
        let [a, b, c, d, ..] = digest.0;
        Self(u32::from_le_bytes([a, b, c, d]) >> 3)
    }

    /// The mark of the tree `id`.
    pub(crate) fn mark(self, id: u64) -> Mark {
        Mark(BASE | u64::from(self.0) << 32 | (id & 0xffff_ffff))
    }
}

impl Mark {
    /// The boot that made the mark.
    pub(crate) fn boot(self) -> Boot {
        Boot(((self.0 & (BASE - 1)) >> 32) as u32)
    }

    /// Puts the mark on this process, for its children to inherit. Where the hard limit is below
    /// it there is no mark, and trees are known by parents, groups and sessions alone.
    pub(crate) fn put_on_self(self) {
        let _ = setrlimit(Resource::Rttime, Rlimit { current: Some(self.0), maximum: None });
    }

    /// The mark that a process carries; none when it has none or is gone.
    pub(crate) fn of_process(pid: i32) -> Option<Self> {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let line = limits.lines().rfind(|line| line.starts_with("Max realtime timeout"))?;
        let soft: u64 = line.split_whitespace().nth(3)?.parse().ok()?;
        (soft & BASE != 0).then_some(Self(soft))
    }
}
