//! Points at which a debug build can be told to die as if it had been killed, for tests that
//! restart it and look at what is left. A release build has none.

/// Every point, in the order in which a run passes them first.
pub const ALL: [&str; 8] = [
    "commit.before",
    "commit.after",
    "events.before",
    "dispatch.before",
    "dispatch.after",
    "finish.before",
    "finish.after",
    "stop.before",
];

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<(String, AtomicU64)> = OnceLock::new();

    /// Arms one point of [`ALL`](super::ALL), named as in `POINT:N`: the process aborts when it
    /// comes there for the `N`-th time. Only the first call of a process counts.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn arm(text: &str) -> Result<(), String> {
        let (point, nth) = text.split_once(':').ok_or("it is not POINT:N")?;
        if !super::ALL.contains(&point) {
            return Err(format!("there is no point `{point}`, only {}", super::ALL.join(", ")));
        }
        let nth = nth.parse().map_err(|error| format!("`{nth}`: {error}"))?;
        let _ = ARMED.set((point.to_owned(), AtomicU64::new(nth)));
        Ok(())
    }

    /// A point is reached.
    pub fn hit(point: &str) {
        let Some((armed, left)) = ARMED.get() else { return };
        if armed == point && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }
}

#[cfg(debug_assertions)]
pub use armed::{arm, hit};

/// A point is reached.
#[cfg(not(debug_assertions))]
#[inline]
pub fn hit(_point: &str) {}
