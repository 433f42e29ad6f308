//! What `RUN` means on the command line: an id, the beginning of one, or `last`.

use ork_api::client::Client;
use ork_api::stamp::Stamp;
use ork_api::types::{Run, RunQuery};
use ork_core::ids::RunId;
use ork_core::time::{Span, Wall};

use crate::exit::{Exit, Failure, Result};

/// How far a run's creation may be from the time in its id.
const SLACK: Span = Span::from_secs(60);

/// How many hexadecimal digits of a version 7 id are its time in milliseconds.
const TIME_DIGITS: usize = 12;

/// Finds the run.
///
/// # Errors
/// When there is none, or the beginning fits several; then some are named.
pub(crate) async fn find(client: &Client, text: &str) -> Result<Run> {
    if text == "last" {
        let newest = client.runs(&RunQuery { limit: Some(1), ..RunQuery::default() }).await?;
        return newest.items.into_iter().next().ok_or_else(|| {
            Failure::new(Exit::Refused, "there is no run yet").hint("start one with `ork run`")
        });
    }
    if let Ok(id) = text.parse::<RunId>() {
        return Ok(client.run(id).await?);
    }
    by_prefix(client, text).await
}

async fn by_prefix(client: &Client, text: &str) -> Result<Run> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.is_empty() || digits.len() > 32 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        let failure = Failure::new(Exit::Refused, format!("there is no run `{text}`"));
        return Err(failure.hint("give an id, the beginning of one, or `last`"));
    }
    let digits = digits.to_ascii_lowercase();
    let (after, before) = window(&digits);
    let mut query = RunQuery {
        created_after: Some(after),
        created_before: Some(before),
        limit: Some(500),
        ..RunQuery::default()
    };
    let mut found: Vec<Run> = Vec::new();
    loop {
        let page = client.runs(&query).await?;
        found.extend(page.items.into_iter().filter(|run| begins(run, &digits)));
        if page.next_cursor.is_none() || found.len() > 1 {
            break;
        }
        query.cursor = page.next_cursor;
    }
    one_of(text, found)
}

fn one_of(text: &str, mut found: Vec<Run>) -> Result<Run> {
    match found.pop() {
        None => Err(Failure::new(Exit::Refused, format!("no run's id begins with `{text}`"))
            .hint("`ork ls` lists runs")),
        Some(run) if found.is_empty() => Ok(run),
        Some(run) => {
            found.push(run);
            let ids: Vec<_> = found.iter().take(5).map(|run| run.id.to_string()).collect();
            Err(Failure::new(Exit::Refused, format!("several runs' ids begin with `{text}`"))
                .hint(format!("give more of it: {}", ids.join(", "))))
        }
    }
}

fn begins(run: &Run, digits: &str) -> bool {
    run.id.0.simple().to_string().starts_with(digits)
}

/// Between which instants a run was made whose id begins with these digits.
fn window(digits: &str) -> (Stamp, Stamp) {
    let time = &digits[..digits.len().min(TIME_DIGITS)];
    let edge = |fill: &str| {
        let full = time.to_owned() + &fill.repeat(TIME_DIGITS - time.len());
        i64::from_str_radix(&full, 16).unwrap_or(0)
    };
    let (first, last) = (edge("0"), edge("f"));
    // Years past 9999 have no stamp.
    let most = 253_402_300_000_000_i64;
    let stamp = |millis: i64| Wall(millis.min(most) * 1_000);
    let after = stamp(first).0.saturating_sub(SLACK.0).max(0);
    (Stamp(Wall(after)), Stamp(stamp(last) + SLACK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_in_an_id_bounds_the_search() {
        let (after, before) = window("01932a");
        assert_eq!(after.to_string(), "2024-11-14T09:26:43.360000Z");
        assert_eq!(before.to_string(), "2024-11-14T14:08:20.575000Z");
        let (after, before) = window("0");
        assert_eq!(after.to_string(), "1970-01-01T00:00:00.000000Z");
        assert!(before.to_string().starts_with("2527"), "{before}");
    }
}
