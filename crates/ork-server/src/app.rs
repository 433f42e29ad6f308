//! What every handler may use.

use std::sync::Arc;

use ork_core::ids::ProjectId;
use ork_engine::{Clock, Engine};
use ork_store::Store;
use tokio::sync::{Semaphore, watch};

use crate::attempt_logs::AttemptLogs;
use crate::door::Door;
use crate::feed::Feed;
use crate::hub::Hub;
use crate::limits::Limits;
use crate::plans::Plans;
use crate::refused::{Refused, Result};
use crate::token::Known;

pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) logs: Arc<AttemptLogs>,
    pub(crate) plans: Arc<Plans>,
    pub(crate) token: Known,
    pub(crate) limits: Limits,
    pub(crate) project: Arc<str>,
    pub(crate) url: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) door: Door,
    /// Becomes true when the server stops; streams end then.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl App {
    /// The project called `name`. One that may not be seen looks as if it were not there.
    pub(crate) fn project(&self, name: &str) -> Result<ProjectId> {
        if name == &*self.project {
            return Ok(ProjectId::DEFAULT);
        }
        Err(Refused::not_found(format_args!("project `{name}` here; there is `{}`", self.project)))
    }
}
