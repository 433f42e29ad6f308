//! Reruns: a new run that takes over the successes of an earlier one where nothing differs.

use std::sync::Arc;

use crate::ids::InstancePath;
use crate::lang::expr::EvalError;
use crate::plan::{Action, Plan, Task};
use crate::rows::{ActiveRun, CodeRef, TaskRow};
use crate::run::active::{Cx, Run};
use crate::run::flow::Ending;
use crate::run::instance::{Ix, Phase};
use crate::run::transition::Illegal;
use crate::run::values::Map;
use crate::run::{Effect, Source, TaskState};
use crate::value::{Data, Digest, Value};

/// The run that another one does again.
#[derive(Debug)]
pub(super) enum Earlier {
    /// There is none, or it is gone.
    None,
    /// It is being loaded; what could be copied waits for it.
    Asked,
    /// It is here.
    Here(Box<Successes>),
}

/// What succeeded in a run.
#[derive(Debug)]
pub(super) struct Successes {
    run: Arc<ActiveRun>,
    by_path: Map<InstancePath, usize>,
}

impl Successes {
    fn of(run: Arc<ActiveRun>) -> Self {
        let rows = run.tasks.iter().enumerate();
        let by_path = rows
            .filter(|(_, row)| row.state == TaskState::Success)
            .map(|(at, row)| (row.path.clone(), at))
            .collect();
        Self { run, by_path }
    }

    fn get(&self, path: &InstancePath) -> Option<&TaskRow> {
        self.by_path.get(path).map(|at| &self.run.tasks[*at])
    }

    fn task(&self, path: &InstancePath) -> Option<Digest> {
        let version = &self.run.version;
        let task = version.plan.task(&plain(path))?;
        Some(task_digest(&version.plan, task, &version.code))
    }
}

/// An instance's path without items: the task as the plan names it.
pub(super) fn plain(path: &InstancePath) -> String {
    let mut plain = String::with_capacity(path.as_str().len());
    let mut depth = 0_u32;
    for c in path.as_str().chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain
}

/// The digest of what a task is, as far as its outcome depends on it: what it does, on what types,
/// in which environment, with which code. When it starts and how often it is tried is no part.
pub(super) fn task_digest(plan: &Plan, task: &Task, code: &CodeRef) -> Digest {
    let parts = (
        (&plan.env, &task.env, &task.action),
        (&task.inputs, &task.input_type, &task.output_type),
        (code, &task.poll),
    );
    Digest::of(&serde_json::to_vec(&parts).unwrap_or_default())
}

/// The same without the code.
pub(super) fn definition_digest(plan: &Plan, task: &Task) -> Digest {
    let parts = (
        (&plan.env, &task.env, &task.action),
        (&task.inputs, &task.input_type, &task.output_type),
        &task.poll,
    );
    Digest::of(&serde_json::to_vec(&parts).unwrap_or_default())
}

impl Run {
    /// Asks for the run that this one does again.
    pub(super) fn recall(&mut self, cx: &mut Cx<'_>) {
        if let Some(earlier) = self.facts.rerun_of {
            self.earlier = Earlier::Asked;
            let project = self.facts.project;
            cx.out.effects.push(Effect::Recall { project, run: self.id, earlier });
        }
    }

    /// The earlier run is here, or gone.
    pub(super) fn recalled(
        &mut self,
        earlier: Option<Arc<ActiveRun>>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        if !matches!(self.earlier, Earlier::Asked) {
            return Ok(());
        }
        self.earlier = match earlier {
            Some(run) => Earlier::Here(Box::new(Successes::of(run))),
            None => Earlier::None,
        };
        let pending = (0..).map(Ix).zip(&self.instances);
        let pending = pending.filter(|(_, i)| matches!(i.phase, Phase::Pending));
        let pending: Vec<Ix> = pending.map(|(ix, _)| ix).collect();
        self.todo.extend(pending);
        self.drain(cx)
    }

    /// Whether an instance need not be queued: it takes over an earlier success, or waits to hear
    /// of one.
    pub(super) fn reuse(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<bool, Illegal> {
        let held = self.held_task(ix);
        let task = &*held;
        let copies = !matches!(self.earlier, Earlier::None) && self.round == 1;
        if !matches!(task.action, Action::Execute { .. }) || (!copies && task.cache.is_none()) {
            return Ok(false);
        }
        if copies && matches!(self.earlier, Earlier::Asked) {
            return Ok(true);
        }
        match self.resolve_inputs(ix, cx) {
            Ok(()) => {}
            Err(error @ EvalError::Need(_)) => {
                self.no_value(ix, "inputs", error, cx)?;
                return Ok(true);
            }
            // Its first offer fails of the same, and says so.
            Err(EvalError::Failed(_)) => return Ok(false),
        }
        if copies && let Some(output) = self.copy_of(ix, task) {
            let Some(run) = self.facts.rerun_of else { return Ok(false) };
            self.stamp(ix, cx.now.wall);
            let ending = Ending { output, source: Some(Source::Copy { run }), ..Ending::default() };
            self.end(ix, TaskState::Success, ending, cx)?;
            return Ok(true);
        }
        match &task.cache {
            Some(cache) => self.look_up(ix, task, cache, cx),
            None => Ok(false),
        }
    }

    /// The output of the earlier success of an instance, if nothing differs.
    #[expect(clippy::option_option, reason = "a success may have no output")]
    fn copy_of(&self, ix: Ix, task: &Task) -> Option<Option<Data>> {
        let Earlier::Here(earlier) = &self.earlier else { return None };
        let instance = self.instance(ix);
        if instance.generation > 1 {
            return None;
        }
        let row = earlier.get(&instance.path)?;
        let frame = self.frame(ix);
        let same = earlier.task(&instance.path)
            == Some(task_digest(&frame.plan, task, &frame.code))
            && row.inputs.clone().unwrap_or_default()
                == instance.inputs.as_deref().cloned().unwrap_or_default();
        let fits = match (&row.output, &task.output_type) {
            (Some(Data::Inline(value)), Some(ty)) => ty.check(value).is_ok(),
            (None, Some(ty)) => ty.check(&Value::Null).is_ok(),
            _ => true,
        };
        (same && fits && !row.marked).then(|| row.output.clone())
    }
}
