//! DAGs that are made at run time: an expression's value, compiled off the loop by the compiler of
//! files.

use std::sync::Arc;

use crate::lang::expr::EvalError;
use crate::plan::{Action, Scope};
use crate::run::active::{Cx, Run};
use crate::run::flow::Ending;
use crate::run::inside::{Kind, broken};
use crate::run::instance::{Ix, Phase};
use crate::run::level::{Root, Shape};
use crate::run::transition::Illegal;
use crate::run::{Compile, Effect, Failure, FailureKind, TaskState};
use crate::value::DETAIL_LIMIT;

/// The most bytes of a generated DAG's JSON, compiled. It is part of its task's row.
const MAX_DAG: usize = DETAIL_LIMIT / 2;

impl Run {
    /// Evaluates what is to become a DAG, and has it compiled.
    pub(super) fn generate(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let task = self.held_task(ix);
        let Action::Generate { tasks, allow, .. } = &task.action else { return Ok(()) };
        if let Some(Kind::Dag { level, .. }) = self.kept(ix) {
            let count = self.levels[*level as usize].len;
            return self.enter_inside(ix, count, cx);
        }
        let evaluated =
            self.view(Some(ix), cx.desk).whole(&crate::plan::Binding::Expr(tasks.clone()));
        match evaluated {
            Ok(value) => {
                let (instance, frame) = (self.instance(ix), self.frame(ix));
                let ask = Compile {
                    run: self.id,
                    path: instance.path.clone(),
                    generation: instance.generation,
                    tasks: Arc::new(value),
                    allow: allow.clone(),
                    values: self.view(Some(ix), cx.desk).names(),
                    plan: Arc::clone(&frame.plan),
                    code: frame.code.clone(),
                };
                cx.out.effects.push(Effect::Compile(Box::new(ask)));
                self.instance_mut(ix).parked.get_or_insert_default().compiling = true;
                self.count_ready(ix, true);
                Ok(())
            }
            Err(EvalError::Need(needs)) => {
                self.park(Some(ix), needs, cx);
                Ok(())
            }
            Err(EvalError::Failed(message)) => {
                self.end(ix, TaskState::Failed, broken(format!("tasks: {message}")), cx)
            }
        }
    }

    /// The compiler's answer.
    pub(super) fn compiled(
        &mut self,
        ix: Ix,
        generation: u32,
        result: Result<Arc<Scope>, String>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let instance = self.instance(ix);
        let asked = instance.parked.as_deref().is_some_and(|parked| parked.compiling);
        if !asked || instance.generation != generation || !matches!(instance.phase, Phase::Pending)
        {
            return Ok(());
        }
        self.unpark(ix, cx.desk);
        if !self.may_begin(ix) || self.is_ended(ix) {
            // Something before it is done again or has another outcome, or it is to end.
            self.todo.push_back(ix);
            return self.drain(cx);
        }
        match result.and_then(within_limits) {
            Ok(scope) => {
                let shape = Shape::of(Root::Made(Arc::clone(&scope)));
                self.enter_dag(ix, shape, Some(scope), cx)?;
            }
            Err(told) => {
                let mut failure =
                    Failure::new(FailureKind::Expression, "what `tasks` came to is no DAG");
                failure.details = Some(told);
                let ending = Ending { failure: Some(failure.cut()), ..Ending::default() };
                self.end(ix, TaskState::Failed, ending, cx)?;
            }
        }
        self.drain(cx)
    }
}

fn within_limits(scope: Arc<Scope>) -> Result<Arc<Scope>, String> {
    if scope.tasks.is_empty() {
        return Err("it has no tasks".into());
    }
    let size = serde_json::to_vec(&*scope).map_or(usize::MAX, |json| json.len());
    if size > MAX_DAG {
        return Err(format!("compiled it has {size} bytes, more than {MAX_DAG}"));
    }
    Ok(scope)
}
