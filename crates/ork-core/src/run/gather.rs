//! The outputs of what is inside, as one value: written once, item by item.

use crate::lang::expr::EvalError;
use crate::run::TaskState;
use crate::run::active::{Cx, Run};
use crate::run::instance::{Instance, Ix, Phase};
use crate::run::machine::{Blob, Out};
use crate::run::values::Values;
use crate::value::{Data, Digest, INLINE_LIMIT};

/// The most bytes of a map's or a group's output.
const MAX_OUTPUT: usize = 64 << 20;

impl Run {
    /// `[output, …]` of a map, in the order of its items; null for one without success.
    pub(super) fn gather_items(&self, ix: Ix, cx: &mut Cx<'_>) -> Result<Data, EvalError> {
        let made = self.map(ix).map_or(&[][..], |map| &map.made);
        let mut list = Gathered::new(&cx.desk.values, b'[');
        for item in made {
            list.add(output_of(self.instance(*item)))?;
        }
        list.end(b']', cx.out)
    }

    /// `{member: output}` of a DAG; null for one without success.
    pub(super) fn gather_members(&self, level: u32, cx: &mut Cx<'_>) -> Result<Data, EvalError> {
        let level = &self.levels[level as usize];
        let mut fields = Gathered::new(&cx.desk.values, b'{');
        for (ix, task) in level.all().zip(&level.shape.scope().tasks) {
            fields.key(&task.name)?;
            fields.add(output_of(self.instance(ix)))?;
        }
        fields.end(b'}', cx.out)
    }
}

fn output_of(instance: &Instance) -> Option<&Data> {
    let done = matches!(instance.phase, Phase::Over(TaskState::Success));
    instance.output.as_deref().filter(|_| done)
}

/// A value that is being written.
struct Gathered<'v> {
    values: &'v Values,
    json: Vec<u8>,
    /// How long it is to be, with what is not at hand.
    size: usize,
    missing: Vec<Digest>,
    /// Whether a comma is due.
    more: bool,
}

impl<'v> Gathered<'v> {
    fn new(values: &'v Values, open: u8) -> Self {
        Self { values, json: vec![open], size: 0, missing: Vec::new(), more: false }
    }

    fn key(&mut self, name: &str) -> Result<(), EvalError> {
        self.comma();
        self.write(name)?;
        self.json.push(b':');
        self.more = false;
        Ok(())
    }

    fn comma(&mut self) {
        if std::mem::replace(&mut self.more, true) {
            self.json.push(b',');
        }
    }

    fn write(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), EvalError> {
        let before = self.json.len();
        serde_json::to_writer(&mut self.json, value)
            .map_err(|error| EvalError::Failed(error.to_string()))?;
        self.size += self.json.len() - before;
        Ok(())
    }

    fn add(&mut self, data: Option<&Data>) -> Result<(), EvalError> {
        self.comma();
        match data {
            None => self.json.extend(b"null"),
            Some(Data::Inline(value)) => self.write(value)?,
            Some(Data::Blob { digest, size }) => match self.values.get(digest) {
                Some(value) => self.write(&*value)?,
                None => {
                    self.size += usize::try_from(*size).unwrap_or(usize::MAX / 2);
                    self.missing.push(*digest);
                }
            },
        }
        if self.size > MAX_OUTPUT {
            let message = format!(
                "all outputs together have more than {MAX_OUTPUT} bytes; give out less, or files"
            );
            return Err(EvalError::Failed(message));
        }
        Ok(())
    }

    fn end(mut self, close: u8, out: &mut Out) -> Result<Data, EvalError> {
        if !self.missing.is_empty() {
            return Err(EvalError::Need(self.missing));
        }
        self.json.push(close);
        let content = self.json;
        if content.len() <= INLINE_LIMIT {
            let value = serde_json::from_slice(&content);
            return value.map(Data::Inline).map_err(|e| EvalError::Failed(e.to_string()));
        }
        let (digest, size) = (Digest::of(&content), content.len() as u64);
        out.blobs.push(Blob { digest, content });
        Ok(Data::Blob { digest, size })
    }
}
