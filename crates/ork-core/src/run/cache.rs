//! The reuse of earlier successes: looked for once a generation, before an instance is queued.

use indexmap::IndexMap;

use crate::ids::InstancePath;
use crate::lang::expr::EvalError;
use crate::plan::{Cache, Task};
use crate::rows::{CacheKey, CacheNote, CachePart, CacheParts, CacheRow, Change};
use crate::run::active::{Cx, Run};
use crate::run::flow::Ending;
use crate::run::instance::{Ix, Phase};
use crate::run::rerun::{definition_digest, plain, task_digest};
use crate::run::transition::Illegal;
use crate::run::{Effect, EventKind, FailureKind, Source, TaskState};
use crate::time::Wall;
use crate::value::{Data, Digest};

impl Run {
    /// Asks for an earlier success; says whether the instance waits for the answer, or is over.
    pub(super) fn look_up(
        &mut self,
        ix: Ix,
        task: &Task,
        cache: &Cache,
        cx: &mut Cx<'_>,
    ) -> Result<bool, Illegal> {
        let rare = self.instance(ix).rare();
        if rare.looked || rare.asked {
            return Ok(rare.asked);
        }
        let value = self.view(Some(ix), cx.desk).value(&cache.key);
        let key = match value {
            Ok(key) => key,
            Err(EvalError::Failed(message)) => {
                let failed =
                    Ending::failed(FailureKind::Expression, format!("cache.key: {message}"));
                self.end(ix, TaskState::Failed, failed, cx)?;
                return Ok(true);
            }
            Err(error) => {
                self.no_value(ix, "cache.key", error, cx)?;
                return Ok(true);
            }
        };
        let facts = &self.facts;
        let instance = self.instance(ix);
        let key = CacheKey {
            task: task_digest(&self.frame(ix).plan, task, &self.frame(ix).code),
            inputs: digest(&instance.inputs),
            key: digest(&key),
        };
        let (project, workflow) = (facts.project, facts.workflow.clone());
        let path = instance.path.clone();
        let (task, run) = (plain(&path), self.id);
        cx.out.effects.push(Effect::Lookup { project, workflow, task, key, run, path });
        let rare = self.instance_mut(ix).rare_mut();
        (rare.asked, rare.cache) = (true, Some(key));
        Ok(true)
    }

    /// What there is of earlier successes.
    pub(super) fn looked_up(
        &mut self,
        path: &InstancePath,
        hit: Option<CacheRow>,
        last: Option<&CacheRow>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Illegal> {
        let Some(&ix) = self.by_path.get(path) else { return Ok(()) };
        let instance = self.instance(ix);
        let Some(key) = instance.rare().cache.filter(|_| instance.rare().asked) else {
            return Ok(());
        };
        if !matches!(instance.phase, Phase::Pending) {
            return Ok(());
        }
        if !self.may_begin(ix) {
            // Something before it is done again or has another outcome; it asks anew after that.
            self.instance_mut(ix).rare_mut().asked = false;
            self.todo.push_back(ix);
            return self.drain(cx);
        }
        let hit = hit.filter(|row| row.key == key);
        match hit.as_ref().filter(|row| self.is_fresh(ix, row, cx.now.wall)) {
            Some(row) => self.take_over(ix, row, cx)?,
            None => {
                let differs = match (&hit, last) {
                    (Some(_), _) => vec![CachePart::Age],
                    (None, Some(last)) => self.cache_parts(ix).differs(&key, last),
                    (None, None) => Vec::new(),
                };
                let than = hit.as_ref().or(last).map(|row| row.run);
                let rare = self.instance_mut(ix).rare_mut();
                (rare.asked, rare.looked) = (false, true);
                rare.note = Some(CacheNote::Missed { differs: differs.clone(), than });
                self.log_at(ix, EventKind::TaskCacheMissed { differs }, cx);
                self.todo.push_back(ix);
            }
        }
        self.drain(cx)
    }

    fn cache_parts(&self, ix: Ix) -> CacheParts {
        let (frame, inputs) = (self.frame(ix), self.instance(ix).inputs.as_deref());
        let each = inputs.into_iter().flatten().map(|(name, data)| (name.clone(), digest(data)));
        let few = inputs.is_some_and(|inputs| inputs.len() <= CacheParts::MAX_INPUTS);
        CacheParts {
            task: Some(definition_digest(&frame.plan, self.task(ix))),
            code: Some(digest(&frame.code)),
            inputs: if few { each.collect() } else { IndexMap::new() },
        }
    }

    fn is_fresh(&self, ix: Ix, row: &CacheRow, now: Wall) -> bool {
        let ttl = self.task(ix).cache.as_ref().and_then(|cache| cache.ttl);
        ttl.is_none_or(|ttl| now < row.at + ttl)
    }

    fn take_over(&mut self, ix: Ix, row: &CacheRow, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let CacheRow { run, path, output, at, .. } = row.clone();
        let rare = self.instance_mut(ix).rare_mut();
        rare.asked = false;
        rare.cache = None;
        rare.note = Some(CacheNote::Hit { run, path: path.clone(), at });
        self.end_wait(ix, output, Some(Source::Cache { run, path, at }), cx)
    }

    /// A success that may be reused later.
    pub(super) fn remember(&mut self, ix: Ix, output: Option<&Data>, cx: &mut Cx<'_>) {
        let instance = self.instance(ix);
        let Some(key) = instance.rare().cache else { return };
        let ttl = self.task(ix).cache.as_ref().and_then(|cache| cache.ttl);
        let row = CacheRow {
            project: self.facts.project,
            workflow: self.facts.workflow.to_string(),
            task: plain(&instance.path),
            key,
            parts: self.cache_parts(ix),
            run: self.id,
            path: instance.path.clone(),
            output: output.cloned(),
            at: cx.now.wall,
            expires_at: ttl.map(|ttl| cx.now.wall + ttl),
        };
        cx.out.changes.push(Change::Cache(Box::new(row)));
        self.touch(cx.desk);
    }
}

/// The digest of a value's JSON.
fn digest(value: &impl serde::Serialize) -> Digest {
    Digest::of(&serde_json::to_vec(value).unwrap_or_default())
}
