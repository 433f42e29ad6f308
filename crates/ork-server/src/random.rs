//! Random names: tokens, run ids, request ids.

use std::time::{SystemTime, UNIX_EPOCH};

use ork_core::ids::RunId;
use ork_core::time::Wall;

/// `N` random bytes of the system.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// A new run id: version 7, so that ids sort by creation.
pub(crate) fn run_id() -> Result<RunId, getrandom::Error> {
    let millis = u64::try_from(wall().0 / 1_000).unwrap_or(0);
    Ok(RunId(uuid::Builder::from_unix_timestamp_millis(millis, &bytes()?).into_uuid()))
}

/// A new request id: 32 hexadecimal digits.
pub(crate) fn request_id() -> String {
    // Without random numbers a request still gets an id, if not a unique one.
    format!("{:032x}", u128::from_be_bytes(bytes().unwrap_or_default()))
}

/// The civil clock.
pub(crate) fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
