//! Harm done to real files, seed after seed: whatever comes in, parser, checker, formatter,
//! expressions and Python signatures come back soon, and what they say has a place in the file.

mod harm;
mod targets;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use walkdir::WalkDir;

use self::targets::TARGETS;
use crate::chance::Chance;

/// How long one input may take on a processor of its own. A debug build is some ten times slower.
const MOST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 1 });

/// After this, an input is taken to never end.
const HANGS: Duration = Duration::from_mins(2);

/// The stack of a thread that compiles in the server.
const STACK: usize = 2 << 20;

/// How long and from where.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long to go on.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only this seed; its input is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let corpus = Arc::new(Corpus::read(&crate::root()?)?);
    if let Some(seed) = options.seed {
        let (name, input) = Case::of(&corpus, seed).show();
        println!("{name}:\n{input}");
        return one(&corpus, seed).map(drop);
    }
    let (start, time) = (Instant::now(), Duration::from_secs(options.seconds));
    let (mut seed, mut slowest) = (options.from, (Duration::ZERO, 0));
    while start.elapsed() < time {
        slowest = slowest.max((one(&corpus, seed)?, seed));
        seed += 1;
    }
    let count = seed - options.from;
    println!("{count} inputs, no problem; the slowest took {:?}, seed {}", slowest.0, slowest.1);
    Ok(())
}

/// The files that harm is done to.
pub(crate) struct Corpus {
    workflows: Vec<Vec<u8>>,
    code: Vec<Vec<u8>>,
    expressions: Vec<Vec<u8>>,
}

impl Corpus {
    /// The examples, and the expressions in them.
    ///
    /// # Errors
    /// When there are none.
    fn read(root: &Path) -> anyhow::Result<Self> {
        let files = |ending: &str| -> anyhow::Result<Vec<Vec<u8>>> {
            let entries = WalkDir::new(root.join("examples")).sort_by_file_name().into_iter();
            let paths = entries.filter_map(Result::ok).map(walkdir::DirEntry::into_path);
            let paths = paths.filter(|path| path.extension().is_some_and(|e| e == ending));
            paths.map(|path| Ok(std::fs::read(path)?)).collect()
        };
        let (workflows, code) = (files("yaml")?, files("py")?);
        ensure!(!workflows.is_empty() && !code.is_empty(), "there are no examples to begin with");
        let expressions = workflows.iter().flat_map(|text| expressions(text)).collect();
        Ok(Self { workflows, code, expressions })
    }
}

/// What stands between `${{` and `}}`, and after `when:`.
fn expressions(text: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(text);
    let inside = text.split("${{").skip(1).filter_map(|rest| rest.split("}}").next());
    let bare = text.lines().filter_map(|line| line.trim_start().strip_prefix("when: "));
    inside.chain(bare).map(|found| found.trim().as_bytes().to_vec()).collect()
}

/// One input, made of a seed.
pub(crate) struct Case {
    target: &'static targets::Target,
    file: Vec<u8>,
    /// The code file that a workflow names.
    code: Vec<u8>,
}

impl Case {
    fn of(corpus: &Corpus, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let target = &TARGETS[chance.below(TARGETS.len())];
        let file = (target.make)(&mut chance, corpus);
        let code = targets::code(&mut chance, corpus);
        Self { target, file, code }
    }

    fn show(&self) -> (&'static str, String) {
        (self.target.name, String::from_utf8_lossy(&self.file).into_owned())
    }
}

/// Does one input and says how long its thread worked.
///
/// # Errors
/// A panic, a broken promise, too long a time.
fn one(corpus: &Arc<Corpus>, seed: u64) -> anyhow::Result<Duration> {
    let (send, done) = channel();
    let corpus = Arc::clone(corpus);
    // An overflow of the stack ends the process and names the thread.
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).stack_size(STACK);
    let running = thread.spawn(move || {
        let case = Case::of(&corpus, seed);
        let before = worked();
        let outcome = (case.target.run)(&case.file, &case.code);
        let took = worked().saturating_sub(before);
        send.send((case.target.name, outcome, took)).ok();
    })?;
    let again = format!("replay with: cargo xtask fuzz --seed {seed}");
    match done.recv_timeout(HANGS) {
        Ok((name, Err(why), _)) => bail!("{name}: {why}\n{again}"),
        Ok((name, Ok(()), took)) if took > MOST => bail!("{name}: took {took:?}\n{again}"),
        Ok((_, Ok(()), took)) => Ok(took),
        Err(RecvTimeoutError::Timeout) => bail!("no end after {HANGS:?}\n{again}"),
        Err(RecvTimeoutError::Disconnected) => {
            let panic = running.join().err();
            let text = panic.as_ref().and_then(|panic| panic.downcast_ref::<String>());
            bail!("a panic: {}\n{again}", text.map_or("", String::as_str))
        }
    }
}

/// How long this thread has had a processor; the machine may be busy with others.
fn worked() -> Duration {
    let read = || -> anyhow::Result<u64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
        Ok(text.split(' ').next().context("an empty file")?.parse()?)
    };
    Duration::from_nanos(read().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_inputs() {
        let corpus = Arc::new(Corpus::read(&crate::root().unwrap()).unwrap());
        for seed in 0..1_000 {
            one(&corpus, seed).unwrap();
        }
    }
}
