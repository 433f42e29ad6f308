//! Whether new work is taken. What is accepted will be done, so a server beside which nothing
//! works, or which is about to end, takes none.

use ork_api::problem::Code;
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::refused::{Refused, Result};

/// Open while new work is taken.
#[derive(Debug)]
pub(crate) struct Door(RwLock<bool>);

/// Somebody is in the door: it is not shut before they are gone.
pub(crate) type Entered<'a> = RwLockReadGuard<'a, bool>;

impl Door {
    pub(crate) fn new(open: bool) -> Self {
        Self(RwLock::new(open))
    }

    /// Holds the door for one request that brings work; to be kept until it is accepted.
    pub(crate) async fn enter(&self) -> Result<Entered<'_>> {
        let open = self.0.read().await;
        if *open {
            return Ok(open);
        }
        Err(Refused::new(
            Code::Unavailable,
            "this server takes no new work: it has no worker, or is about to end; start `ork up`",
        ))
    }

    /// Opens or shuts it. When this returns, all who came in before have been served.
    pub(crate) async fn set(&self, open: bool) {
        *self.0.write().await = open;
    }
}
