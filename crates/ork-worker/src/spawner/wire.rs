//! What worker and spawner say to each other: frames of `length kind id payload`, numbers in
//! little-endian order, over a Unix stream socket. Descriptors travel beside the first byte of the
//! frame that they belong to.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors that one frame carries.
const MAX_FDS: usize = 4;
/// The most bytes of a frame: what the kernel takes as arguments and environment, and some.
const MAX_FRAME: usize = 8 << 20;
/// How much is read at once.
const CHUNK: usize = 16 * 1024;
const HEAD: usize = 4 + 1 + 8;

/// What is started: all of it is settled, nothing is searched for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Program {
    /// The file, absolute.
    pub file: OsString,
    /// The arguments, with the name first.
    pub argv: Vec<OsString>,
    /// The working folder.
    pub cwd: OsString,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
}

/// From the worker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Start a program; stdin, stdout and stderr come along, or stdout and stderr alone.
    Spawn { program: Program, keeper: bool },
    /// A process that another started is the root of a tree of its own.
    Adopt { pid: i32 },
    /// The adopted process is gone, as its parent says; by `SIGKILL`, if `killed`.
    Left { killed: bool },
    /// The adopted process has lost its parent: the spawner itself will see how it ends.
    Orphaned,
    /// Stop the tree: politely, and after this long by force.
    Stop { grace: Duration },
}

/// From the spawner.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) enum News {
    /// It runs.
    Started { pid: i32 },
    /// The kernel refused, with this error number.
    Refused { errno: i32 },
    /// The tree is gone.
    Gone(Gone),
}

/// How a tree ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy, Default)]
pub struct Gone {
    /// The exit code of its first process. Neither this nor a signal: it was adopted, and its
    /// parent, who alone knew, is gone as well or has told its end otherwise.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed for want of memory meanwhile.
    pub out_of_memory: bool,
    /// Processes that the first one left behind and that were killed.
    pub leftovers: u32,
}

fn frame(kind: u8, id: u64, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.push(kind);
    out.extend_from_slice(&id.to_le_bytes());
    fill(&mut out);
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

impl Order {
    /// The order as a frame about `id`, with `fds` descriptors beside it.
    pub(crate) fn encode(&self, id: u64, fds: usize) -> Vec<u8> {
        match self {
            Self::Spawn { program, keeper } => frame(1, id, |out| {
                out.extend([u8::from(*keeper), u8::try_from(fds).unwrap_or(0)]);
                put(out, program.file.as_bytes());
                put(out, program.cwd.as_bytes());
                put_count(out, program.argv.len());
                program.argv.iter().for_each(|arg| put(out, arg.as_bytes()));
                put_count(out, program.env.len());
                for (key, value) in &program.env {
                    put(out, key.as_bytes());
                    put(out, value.as_bytes());
                }
            }),
            Self::Adopt { pid } => frame(2, id, |out| out.extend(pid.to_le_bytes())),
            Self::Left { killed } => frame(3, id, |out| out.push(u8::from(*killed))),
            Self::Orphaned => frame(5, id, |_| {}),
            Self::Stop { grace } => frame(4, id, |out| {
                let millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                out.extend(millis.to_le_bytes());
            }),
        }
    }

    /// Reads a frame; the second number says how many descriptors belong to it.
    pub(crate) fn decode(kind: u8, payload: &[u8]) -> Option<(Self, usize)> {
        let mut input = Input(payload);
        match kind {
            1 => {
                let keeper = input.byte()? != 0;
                let fds = usize::from(input.byte()?);
                Some((Self::Spawn { program: input.program()?, keeper }, fds))
            }
            2 => Some((Self::Adopt { pid: i32::from_le_bytes(input.array()?) }, 0)),
            3 => Some((Self::Left { killed: input.byte()? != 0 }, 0)),
            4 => {
                let grace = Duration::from_millis(u64::from_le_bytes(input.array()?));
                Some((Self::Stop { grace }, 0))
            }
            5 => Some((Self::Orphaned, 0)),
            _ => None,
        }
    }
}

impl News {
    /// Appends the news as a frame about `id`.
    pub(crate) fn encode(&self, id: u64) -> Vec<u8> {
        match self {
            Self::Started { pid } => frame(1, id, |out| out.extend(pid.to_le_bytes())),
            Self::Refused { errno } => frame(2, id, |out| out.extend(errno.to_le_bytes())),
            Self::Gone(gone) => frame(3, id, |out| {
                out.extend(gone.code.unwrap_or(-1).to_le_bytes());
                out.extend(gone.signal.unwrap_or(-1).to_le_bytes());
                out.push(u8::from(gone.out_of_memory));
                out.extend(gone.leftovers.to_le_bytes());
            }),
        }
    }

    /// Reads a frame.
    pub(crate) fn decode(kind: u8, payload: &[u8]) -> Option<Self> {
        let mut input = Input(payload);
        match kind {
            1 => Some(Self::Started { pid: i32::from_le_bytes(input.array()?) }),
            2 => Some(Self::Refused { errno: i32::from_le_bytes(input.array()?) }),
            3 => Some(Self::Gone(Gone {
                code: Some(i32::from_le_bytes(input.array()?)).filter(|n| *n >= 0),
                signal: Some(i32::from_le_bytes(input.array()?)).filter(|n| *n >= 0),
                out_of_memory: input.byte()? != 0,
                leftovers: u32::from_le_bytes(input.array()?),
            })),
            _ => None,
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn text(&mut self) -> Option<OsString> {
        let length = self.count()?;
        self.take(length).map(|bytes| OsString::from_vec(bytes.to_vec()))
    }

    fn program(&mut self) -> Option<Program> {
        let (file, cwd) = (self.text()?, self.text()?);
        let argv = (0..self.count()?).map(|_| self.text()).collect::<Option<_>>()?;
        let env = (0..self.count()?)
            .map(|_| Some((self.text()?, self.text()?)))
            .collect::<Option<_>>()?;
        Some(Program { file, argv, cwd, env })
    }
}

/// Sends what the socket takes of `bytes`, with the descriptors beside the first byte.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("too many descriptors in one frame"));
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(sent)
}

/// Puts frames together from what a socket gives.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    /// Descriptors that came and were not yet claimed, in order.
    pub(crate) fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Reads once; 0 means that the other side is gone.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let mut chunk = [0; CHUNK];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut chunk)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                self.fds.extend(fds);
            }
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(&chunk[..message.bytes]);
        Ok(message.bytes)
    }

    /// The next whole frame: its kind, id and payload.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u8, u64, &[u8])>> {
        let rest = &self.bytes[self.start..];
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if !(HEAD..=MAX_FRAME).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of a wrong length"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.start += length;
        let frame = &self.bytes[self.start - length..self.start];
        let mut id = [0; 8];
        id.copy_from_slice(&frame[5..HEAD]);
        Ok(Some((frame[4], u64::from_le_bytes(id), &frame[HEAD..])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_news_survive_the_wire() {
        let program = Program {
            file: "/bin/true".into(),
            argv: vec!["true".into(), "a b".into()],
            cwd: "/".into(),
            env: vec![("K".into(), "v".into())],
        };
        let orders = [
            Order::Spawn { program, keeper: true },
            Order::Adopt { pid: 7 },
            Order::Left { killed: true },
            Order::Orphaned,
            Order::Stop { grace: Duration::from_secs(3) },
        ];
        for order in orders {
            let bytes = order.encode(9, 2);
            assert_eq!(Order::decode(bytes[4], &bytes[HEAD..]).map(|(o, _)| o), Some(order));
        }
        let news = [
            News::Started { pid: 3 },
            News::Refused { errno: 2 },
            News::Gone(Gone { code: Some(3), leftovers: 2, ..Gone::default() }),
            News::Gone(Gone { signal: Some(9), out_of_memory: true, ..Gone::default() }),
        ];
        for item in news {
            let bytes = item.encode(9);
            assert_eq!(News::decode(bytes[4], &bytes[HEAD..]), Some(item));
        }
    }
}
