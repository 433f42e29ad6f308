//! DAGs that are made at run time: compiled here, off the engine's loop, with the code of the
//! workflow that they are made in.

use std::sync::Arc;

use ork_core::lang::{self, Sources};
use ork_core::plan::Scope;
use ork_core::rows::CodeRef;
use ork_core::run::Compile;
use ork_store::Blobs as _;

use crate::attempt_logs::AttemptLogs;
use crate::code::{Bundle, Folder};

/// The DAG, or all that is wrong with it.
pub(crate) async fn compile(logs: &AttemptLogs, ask: Compile) -> Result<Arc<Scope>, String> {
    let sources: Box<dyn Sources + Send> = match &ask.code {
        CodeRef::InPlace { root, .. } => Box::new(Folder(root.into())),
        CodeRef::Bundle { digest } => {
            let content = logs.blobs().get(digest).await.map_err(|error| error.to_string())?;
            let content = content.ok_or_else(|| format!("there is no bundle {digest}"))?;
            Box::new(Bundle::open(content)?)
        }
    };
    let compiling = tokio::task::spawn_blocking(move || {
        lang::generated(&ask.tasks, &ask.allow, &ask.plan, &ask.values, &*sources)
    });
    let compiled = compiling.await.map_err(|error| error.to_string())?;
    compiled.map(Arc::new).map_err(|found| {
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}
