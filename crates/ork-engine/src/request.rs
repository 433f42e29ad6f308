//! What is asked of the engine, and what it reads of the store to answer.

use std::sync::Arc;

use ork_core::catalog::{Deploy, Known, Patch};
use ork_core::ids::{AttemptRef, BackfillId, Epoch, ProjectId, RunId};
use ork_core::rows::{
    ActiveRun, Actor, AnswerRow, BackfillRow, HookSecret, ScheduleRow, VersionId,
};
use ork_core::run::{Command, Planned, Refusal, Report};
use ork_core::schedule::{Declared, NewBackfill, ScheduleKey, Steer};
use ork_core::time::Wall;
use ork_core::trigger::{Fired, TriggerKey};
use ork_core::value::Digest;
use ork_store::StoreError;
use serde::{Deserialize, Serialize};

/// One thing that is asked, in one project.
#[derive(Clone, Debug)]
pub struct Request {
    /// The project; workers' words are of none and use [`ProjectId::DEFAULT`].
    pub project: ProjectId,
    /// What is asked.
    pub ask: Ask,
    /// With a key, the answer is kept and given again.
    pub key: Option<Key>,
    /// Whether it is only told what would change. For what is asked of workflows, schedules,
    /// triggers, backfills and pools, save deploys; runs are tried by
    /// [`preview`](ork_core::run::preview).
    pub dry_run: bool,
}

/// A client's idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key, as the client sent it; unique in the project.
    pub key: String,
    /// The digest of what the client sent with it. The same key with another digest is refused.
    pub request: Digest,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Something of the run machine. A run that is over is loaded first where that is needed.
    Run(Command),
    /// To keep a workflow.
    Deploy(Box<Deploy>),
    /// To change what people read of a workflow, without a version.
    Describe {
        /// The workflow.
        workflow: String,
        /// What they will read.
        patch: Box<Patch>,
        /// Whether it is to be paused; none: that stays.
        paused: Option<bool>,
        /// The revision that is to be changed; none: whatever it is.
        expected: Option<Digest>,
        /// Who asked.
        by: Actor,
    },
    /// To delete a workflow of which no run is active. What was stays.
    Delete {
        /// The workflow.
        workflow: String,
        /// The revision that is to be deleted; none: whatever it is.
        expected: Option<Digest>,
        /// Who asked.
        by: Actor,
    },
    /// To make runs for the ticks of a range.
    Backfill(Box<NewBackfill>),
    /// To pause a backfill, and what else can be done with it.
    Steer {
        /// The backfill.
        id: BackfillId,
        /// What is to be done.
        steer: Steer,
        /// Who asked.
        by: Actor,
        /// One that is over as the store has it, where its runs are to be retried.
        over: Option<Box<(BackfillRow, Arc<Declared>)>>,
    },
    /// To give a webhook a new secret.
    RotateTrigger {
        /// The trigger.
        key: TriggerKey,
        /// Its new secret.
        secret: HookSecret,
        /// The digest of what its maker was shown.
        shown: Digest,
        /// Who asked.
        by: Actor,
    },
    /// To pause a schedule, or to resume it.
    PauseSchedule {
        /// The schedule.
        key: ScheduleKey,
        /// Whether it is to be paused.
        paused: bool,
        /// Who asked.
        by: Actor,
    },
}

impl Request {
    /// A request without a key.
    pub fn new(project: ProjectId, ask: Ask) -> Self {
        Self { project, ask, key: None, dry_run: false }
    }

    /// A request about runs, without a key.
    pub fn run(project: ProjectId, command: Command) -> Self {
        Self::new(project, Ask::Run(command))
    }

    /// A worker's word.
    pub fn worker(command: Command) -> Self {
        Self::run(ProjectId::DEFAULT, command)
    }

    /// A deploy, without a key.
    pub fn deploy(project: ProjectId, deploy: Deploy) -> Self {
        Self::new(project, Ask::Deploy(Box::new(deploy)))
    }

    /// The request with an idempotency key.
    #[must_use]
    pub fn with_key(self, key: impl Into<Option<Key>>) -> Self {
        Self { key: key.into(), ..self }
    }

    /// Whether its commit may wait a little for another one to ride with.
    pub(crate) fn can_ride(&self) -> bool {
        matches!(
            &self.ask,
            Ask::Run(
                Command::Report { report: Report::Confirmed | Report::Started | Report::Beat, .. }
                    | Command::WorkerBeat { .. }
            )
        )
    }

    /// Whether it may be applied again when nobody knows if it has been.
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(
            &self.ask,
            Ask::Run(
                Command::Report { .. }
                    | Command::WorkerJoined { .. }
                    | Command::WorkerBeat { .. }
                    | Command::WorkerGone { .. }
                    | Command::WorkerLeaving { .. }
                    | Command::Recalled { .. }
                    | Command::Found { .. }
                    | Command::Quarantine { .. }
            )
        )
    }
}

/// What a request came to. Kept as JSON with its idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, or was so already.
    Done,
    /// A beat was heard.
    Beat {
        /// What the worker has no current token for: it stops that at once and reports nothing.
        stale: Vec<AttemptRef>,
    },
    /// The run was made.
    Created {
        /// The run; with a key it may be one that was made before.
        run: RunId,
        /// When it was made.
        at: Wall,
    },
    /// The webhook has a new secret.
    Rotated {
        /// The digest of what its maker was shown; with a key that may have been before.
        shown: Digest,
    },
    /// The backfill has begun.
    Backfill {
        /// Which; with a key it may be one that was made before.
        id: BackfillId,
    },
    /// What would change.
    Preview(Vec<Planned>),
    /// The workflow is kept.
    Deployed {
        /// The version that has this content.
        version: VersionId,
        /// Whether this deploy made it.
        created: bool,
    },
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It was refused and changed nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store will not keep it; it changed nothing and never will.
    #[error("the store will not keep this: {0}")]
    Rejected(String),
    /// The engine does not lead just now. The request may or may not have been done: repeat it,
    /// with the same idempotency key, after a short while.
    #[error("the engine is not ready: {0}; repeat the request")]
    Unavailable(String),
    /// The engine has been stopped, and this request was not done.
    #[error("the engine is stopping")]
    Stopped,
}

/// Something of the store that a request needs first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    /// The answer kept for a key.
    Answer {
        /// The project.
        project: ProjectId,
        /// The key.
        key: String,
    },
    /// What is known of a workflow.
    Workflow {
        /// The project.
        project: ProjectId,
        /// Its name.
        name: String,
        /// The content whose version is sought; none for metadata.
        digest: Option<Digest>,
        /// Whether among drafts.
        draft: bool,
    },
    /// Whether the attempt of this token has ended, otherwise than by being lost.
    Ended {
        /// The project.
        project: ProjectId,
        /// The attempt.
        attempt: AttemptRef,
    },
    /// All schedules.
    Schedules {
        /// The epoch that asks; the answer means nothing to another.
        epoch: Epoch,
    },
    /// The ends of runs that have to start other runs.
    Firings {
        /// The epoch that asks; the answer means nothing to another.
        epoch: Epoch,
    },
    /// A run that is not in memory.
    Run {
        /// The project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
}

/// What a read found.
#[derive(Clone, Debug)]
pub enum Found {
    /// For [`Read::Answer`].
    Answer(Option<AnswerRow>),
    /// For [`Read::Workflow`].
    Workflow(Box<Known>),
    /// For [`Read::Ended`].
    Ended(bool),
    /// For [`Read::Schedules`]: the schedules, the backfills that are not over, and the versions
    /// that declare them.
    Schedules(Vec<ScheduleRow>, Vec<BackfillRow>, Vec<Arc<Declared>>),
    /// For [`Read::Firings`].
    Firings(Vec<Fired>),
    /// For [`Read::Run`].
    Run(Option<Box<ActiveRun>>),
    /// The store could not read.
    Failed(StoreError),
}
