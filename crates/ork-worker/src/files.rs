//! Files between tasks: local copies for those that read them, and what tasks leave behind.

mod incoming;
mod left;

use std::time::Duration;

use ork_api::worker::LinkError;

pub(crate) use self::incoming::{Copies, Local, named, named_in};
pub(crate) use self::left::{Kept, Left};

/// How long before a server that cannot do something now is asked again; doubled each time, up to
/// [`LONGEST`].
const PAUSE: Duration = Duration::from_millis(50);

/// The longest of these waits.
const LONGEST: Duration = Duration::from_secs(5);

/// How much of a file is fetched at a time.
const PART: u64 = 4 << 20;

/// Asks the server until it says yes or no; whoever asks gives up where that takes too long.
///
/// # Errors
/// When it says no, or is gone.
pub(crate) async fn insist<T, F: Future<Output = Result<T, LinkError>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T, LinkError> {
    let mut pause = PAUSE;
    loop {
        match ask().await {
            Err(LinkError::Retryable(why)) => tracing::info!(what, why, "it is tried again"),
            said => return said,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}
