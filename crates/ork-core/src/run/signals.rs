//! Signals: what is sent to a run by name, and kept until a wait takes it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::plan::{Action, Binding, Wait};
use crate::run::active::{Cx, Run, Stage};
use crate::run::control::{Answered, over};
use crate::run::flow::Ending;
use crate::run::instance::Ix;
use crate::run::machine::{Blob, Out};
use crate::run::scope::fit;
use crate::run::transition::Illegal;
use crate::run::{Answer, EventKind, FailureKind, Refusal, RefusalCode, Source, TaskState};
use crate::types::{Mismatch, Type};
use crate::value::{Data, Digest, Value};

/// The most signals of one name that a run keeps.
pub const MAX_SIGNALS: usize = 64;

/// The most signals that a run keeps. They are kept in the run's row, so this and the sizes below
/// keep that small.
pub const MAX_SIGNALS_OF_RUN: usize = 128;

/// The longest name of a signal, in bytes.
const MAX_NAME: usize = 64;

/// A payload that has to be kept stays in the run's row up to this many bytes of JSON.
const INLINE: usize = 128;

/// A signal that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Signal {
    number: u64,
    name: Arc<str>,
    payload: Data,
}

/// The signals of a run that no wait has taken, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Signals {
    /// How many have come in all.
    #[serde(default)]
    count: u64,
    #[serde(default)]
    kept: Vec<Signal>,
}

impl Signals {
    /// Whether none ever came.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether one of this name is kept.
    pub(super) fn has(&self, name: &str) -> bool {
        self.kept.iter().any(|signal| &*signal.name == name)
    }

    fn take(&mut self, name: &str) -> Option<Signal> {
        let at = self.kept.iter().position(|signal| &*signal.name == name)?;
        Some(self.kept.remove(at))
    }

    fn room(&self, name: &str) -> Result<(), Refusal> {
        let limit = |what: &str, most: usize| {
            let message = format!("{what}: {most} is the most that is kept until a wait takes one");
            Err(Refusal::new(RefusalCode::LimitReached, message))
        };
        if self.kept.iter().filter(|signal| &*signal.name == name).count() >= MAX_SIGNALS {
            return limit(&format!("signals named {name:?} of this run"), MAX_SIGNALS);
        }
        if self.kept.len() >= MAX_SIGNALS_OF_RUN {
            return limit("signals of this run", MAX_SIGNALS_OF_RUN);
        }
        Ok(())
    }
}

impl Run {
    /// A signal comes: the first instance that waits for it gets it, or it is kept.
    pub(super) fn signal(&mut self, name: &str, payload: Value, cx: &mut Cx<'_>) -> Answered {
        if let Stage::Over(state) = self.stage {
            return Ok(Err(over(self.id, state)));
        }
        let listener = self.listening.get(name).and_then(|listeners| listeners.first().copied());
        let payload = match self.check_signal(name, payload, listener) {
            Ok(payload) => payload,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.signals.count += 1;
        self.dirty = true;
        let number = self.signals.count;
        self.log(EventKind::SignalReceived { name: name.to_owned(), number }, cx);
        match listener {
            Some(ix) => self.hear(ix, number, Data::Inline(payload), cx)?,
            None => {
                let payload = keep(payload, cx.out);
                self.signals.kept.push(Signal { number, name: name.into(), payload });
            }
        }
        self.drain(cx)?;
        Ok(Ok(Answer::Done))
    }

    fn check_signal(
        &self,
        name: &str,
        payload: Value,
        listener: Option<Ix>,
    ) -> Result<Value, Refusal> {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let message = format!("a signal's name has 1 to {MAX_NAME} bytes of text");
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        if listener.is_none() {
            self.signals.room(name)?;
        }
        let types = match listener {
            Some(ix) => self.task(ix).output_type.iter().collect(),
            None => self.awaited_types(name),
        };
        types.into_iter().try_fold(payload, |payload, ty| ty.read(payload)).map_err(|mismatch| {
            let message = format!("the payload of signal {name:?} does not fit: {mismatch}");
            Refusal::new(RefusalCode::Invalid, message)
        })
    }

    /// What the tasks want that wait for this signal by a name that is written in the file.
    fn awaited_types(&self, name: &str) -> Vec<&Type> {
        let tasks = self.frames.iter().flat_map(|frame| frame.plan.all_tasks());
        let awaits = tasks.filter(|task| match &task.action {
            Action::Wait(Wait::Event(Binding::Const(Value::String(text)))) => text == name,
            _ => false,
        });
        awaits.filter_map(|task| task.output_type.as_ref()).collect()
    }

    /// Takes the oldest signal of this name.
    pub(super) fn take_signal(
        &mut self,
        ix: Ix,
        name: &str,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let Some(Signal { number, payload, .. }) = self.signals.take(name) else { return Ok(()) };
        self.dirty = true;
        self.hear(ix, number, payload, cx)
    }

    /// An instance gets a signal.
    fn hear(&mut self, ix: Ix, number: u64, payload: Data, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let source = Some(Source::Signal { number });
        let wrong = match (&payload, &self.task(ix).output_type) {
            (Data::Inline(value), Some(ty)) => ty.check(value).err(),
            _ => None,
        };
        match (wrong, fit(payload, cx.out)) {
            (None, Ok(payload)) => self.end_wait(ix, Some(payload), source, cx),
            (Some(mismatch), _) => self.unheard(ix, &mismatch, source, cx),
            (None, Err(error)) => self.no_value(ix, "signal", error, cx),
        }
    }

    fn unheard(
        &mut self,
        ix: Ix,
        mismatch: &Mismatch,
        source: Option<Source>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let message = format!("the signal's payload does not fit: {mismatch}");
        let failed = Ending::failed(FailureKind::OutputInvalid, message);
        self.end(ix, TaskState::Failed, Ending { source, ..failed }, cx)
    }
}

/// A payload in a form that fits beside many others.
fn keep(payload: Value, out: &mut Out) -> Data {
    match serde_json::to_vec(&payload) {
        Ok(content) if content.len() > INLINE => {
            let (digest, size) = (Digest::of(&content), content.len() as u64);
            out.blobs.push(Blob { digest, content });
            Data::Blob { digest, size }
        }
        _ => Data::Inline(payload),
    }
}
