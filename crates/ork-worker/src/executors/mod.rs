//! Executors: each knows how one kind of task runs.

mod run;

use async_trait::async_trait;
use ork_api::worker::Prepare;

use crate::attempt::{Attempt, End, Given};
use crate::config::Config;
use crate::environment::Env;
use crate::spawner::Spawner;
use crate::worker::Inner;

/// A kind of task.
#[async_trait]
pub(crate) trait Executor: Send + Sync {
    /// Its name, as its spec in the language has it.
    fn name(&self) -> &'static str;

    /// Runs an attempt to its end; when this returns, nothing of it is left.
    async fn run(&self, attempt: &mut Attempt) -> Result<Option<Given>, End>;

    /// Gets ready for attempts that will come. What fails here fails again, and is then reported.
    async fn prepare(&self, _inner: &Inner, _what: &Prepare) {}
}

/// All executors.
pub(crate) fn all(config: &Config, spawner: &Spawner, inherited: &Env) -> Vec<Box<dyn Executor>> {
    let _ = (config, spawner, inherited);
    vec![Box::new(run::Run)]
}
