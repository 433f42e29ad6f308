//! Executors: each knows how one kind of task runs.

mod python;
mod run;

use std::sync::Arc;

use async_trait::async_trait;
use ork_api::worker::Prepare;

use crate::attempt::{Attempt, End, Given};
use crate::worker::Inner;

/// A kind of task.
#[async_trait]
pub(crate) trait Executor: Send + Sync {
    /// Its name, as its spec in the language has it.
    fn name(&self) -> &'static str;

    /// Runs an attempt to its end; when this returns, nothing of it is left.
    async fn run(&self, attempt: &mut Attempt) -> Result<Option<Given>, End>;

    /// Gets ready for attempts that will come. What fails here fails again, and is then reported.
    async fn prepare(&self, _inner: &Arc<Inner>, _what: &Prepare) {}
}

/// All executors.
pub(crate) fn all() -> Vec<Box<dyn Executor>> {
    vec![Box::new(run::Run), Box::new(python::Python::default())]
}
