//! Called workflows: another workflow's DAG as the inside of an instance, with its own params,
//! environment, code, `finally` and output.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::lang::expr::EvalError;
use crate::lang::{Given, RunFacts, bind_params};
use crate::plan::{Action, Pinned, Plan};
use crate::run::active::{Cx, Run};
use crate::run::flow::Ending;
use crate::run::inside::{Kind, broken};
use crate::run::instance::Ix;
use crate::run::level::{Frame, Part, Root, Shape};
use crate::run::scope::{each, fit};
use crate::run::transition::Illegal;
use crate::run::{RunState, TaskState};
use crate::value::{DETAIL_LIMIT, Data, Value};

/// The most bytes of a call's params. They are part of its row.
const MAX_PARAMS: usize = DETAIL_LIMIT / 4;

impl Run {
    /// Evaluates the params, and begins the called workflow.
    pub(super) fn open_call(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let task = self.held_task(ix);
        let Action::Call { workflow, params, pinned } = &task.action else { return Ok(()) };
        let Some(pinned) = pinned else {
            let message =
                format!("the workflow `{workflow}` is not known; deploy it, then this one");
            return self.end(ix, TaskState::Failed, broken(message), cx);
        };
        if let Some(Kind::Call(frame)) = self.kept(ix) {
            let frame = *frame;
            let params = self.frames[frame as usize].params.clone();
            return match self.has_call_place(ix, pinned, &params, cx.desk) {
                Ok(true) => self.call_again(ix, frame, false, cx),
                Ok(false) => Ok(()),
                Err(error) => self.end(ix, TaskState::Failed, broken(error.to_string()), cx),
            };
        }
        let view = self.view(Some(ix), cx.desk);
        let given = each("params", params.iter(), |binding| view.whole(binding));
        let bound = given.and_then(|given| {
            let given = given.into_iter().map(|(name, value)| (name, Given::Json(value)));
            bind(&pinned.plan, &given.collect(), &self.run_facts())
        });
        match bound {
            Ok(values) => match self.has_call_place(ix, pinned, &values, cx.desk) {
                Ok(true) => self.call(ix, pinned, values, cx),
                Ok(false) => Ok(()),
                Err(error) => self.end(ix, TaskState::Failed, broken(error.to_string()), cx),
            },
            Err(EvalError::Need(needs)) => {
                self.park(Some(ix), needs, cx);
                Ok(())
            }
            Err(EvalError::Failed(message)) => self.end(ix, TaskState::Failed, broken(message), cx),
        }
    }

    fn call(
        &mut self,
        ix: Ix,
        pinned: &Pinned,
        params: Value,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let inputs = params.as_object().into_iter().flatten();
        let inputs = inputs
            .map(|(name, value)| Ok((name.clone(), fit(Data::Inline(value.clone()), cx.out)?)));
        let inputs: Result<IndexMap<_, _>, EvalError> = inputs.collect();
        self.instance_mut(ix).inputs = inputs.ok().map(Box::new);
        let old = self.instance(ix).inside.as_deref().map(|inside| inside.kind.clone());
        if let Some(Kind::Call(frame)) = old {
            self.frames[frame as usize].params = params;
            self.set_inside(ix, Kind::Call(frame));
            return self.call_again(ix, frame, true, cx);
        }
        let frame = self.add_frame(Some(ix), pinned.plan.clone(), params, pinned.code.clone());
        let Frame { body, finally, .. } = self.frames[frame as usize];
        self.announce_again(body, cx);
        self.announce_again(finally, cx);
        self.set_inside(ix, Kind::Call(frame));
        self.enter_call(ix, frame, cx)
    }

    /// A workflow that was called in an earlier generation is done again, all or what is left. Its
    /// `finally` always is.
    fn call_again(
        &mut self,
        ix: Ix,
        frame: u32,
        all: bool,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let Frame { body, finally, .. } = self.frames[frame as usize];
        self.frames[frame as usize].end = None;
        if all {
            self.renew_level(body, cx)?;
        }
        self.renew_level(finally, cx)?;
        self.enter_call(ix, frame, cx)
    }

    fn enter_call(&mut self, ix: Ix, frame: u32, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let Frame { body, finally, .. } = self.frames[frame as usize];
        let count = self.levels[body as usize].len + self.levels[finally as usize].len;
        self.enter_inside(ix, count, cx)
    }

    /// Instantiates a workflow.
    pub(super) fn add_frame(
        &mut self,
        owner: Option<Ix>,
        plan: Arc<Plan>,
        params: Value,
        code: crate::rows::CodeRef,
    ) -> u32 {
        let first = Ix::new(self.instances.len());
        let after = Ix::new(self.instances.len() + plan.body.tasks.len());
        self.put_frame(owner, plan, params, code, [first, after])
    }

    /// [`Run::add_frame`] with the instances of its levels at certain places.
    pub(super) fn put_frame(
        &mut self,
        owner: Option<Ix>,
        plan: Arc<Plan>,
        params: Value,
        code: crate::rows::CodeRef,
        [first, after]: [Ix; 2],
    ) -> u32 {
        let number = Ix::new(self.frames.len()).0;
        let body = Shape::of(Root::Body(Arc::clone(&plan)));
        let finally = Shape::of(Root::Finally(Arc::clone(&plan)));
        self.frames.push(Frame { plan, params, code, owner, body: 0, finally: 0, end: None });
        let body = self.put_level(body, number, owner, Part::Body, first);
        let finally = self.put_level(finally, number, owner, Part::Finally, after);
        let frame = &mut self.frames[number as usize];
        (frame.body, frame.finally) = (body, finally);
        number
    }

    /// A called workflow goes to its next stage if this one is over.
    pub(super) fn go_call(&mut self, ix: Ix, frame: u32, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let Frame { body, finally, .. } = self.frames[frame as usize];
        if self.levels[body as usize].open > 0 {
            return Ok(());
        }
        if self.frames[frame as usize].end.is_none() {
            self.frames[frame as usize].end = Some(self.judge(frame, Part::Body));
            self.todo.extend(self.levels[finally as usize].all());
        }
        if self.levels[finally as usize].open > 0 {
            return Ok(());
        }
        self.leave_call(ix, frame, cx)
    }

    fn leave_call(&mut self, ix: Ix, frame: u32, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if let Some(closing) = self.closed(ix) {
            return self.end_closed(ix, &closing, cx);
        }
        let end = self.judge(frame, Part::Finally);
        if end.state != RunState::Success {
            let ending = Ending { failure: end.failure, ..Ending::default() };
            return self.end(ix, TaskState::Failed, ending, cx);
        }
        let plan = Arc::clone(&self.frames[frame as usize].plan);
        let output = match &plan.output {
            None => Ok(Data::NULL),
            Some(output) => self.view_frame(frame, cx.desk).data(output),
        };
        let output = output.and_then(|data| fit(data, cx.out));
        self.end_with(ix, output, cx)
    }

    fn run_facts(&self) -> RunFacts {
        let facts = &self.facts;
        RunFacts {
            id: self.id.to_string(),
            workflow: facts.workflow.to_string(),
            project: facts.project_name.to_string(),
            logical_time: facts.logical_time.to_string(),
            url: facts.url.clone(),
        }
    }
}

fn bind(
    plan: &Plan,
    given: &IndexMap<String, Given>,
    facts: &RunFacts,
) -> Result<Value, EvalError> {
    let params = bind_params(plan, given, facts).map_err(|errors| {
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        EvalError::Failed(told.join("; "))
    })?;
    let size = serde_json::to_vec(&params).map_or(0, |bytes| bytes.len());
    if size > MAX_PARAMS {
        let message = format!(
            "params: {size} bytes are more than {MAX_PARAMS}; pass a large value by a task"
        );
        return Err(EvalError::Failed(message));
    }
    Ok(params)
}
