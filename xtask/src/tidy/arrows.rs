//! Which of our crates may know which, and what must be absent from each.

use std::path::Path;

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// A crate's wall.
struct Wall {
    name: &'static str,
    /// Our crates that it may use.
    knows: &'static [&'static str],
    /// Our crates that its tests may use besides.
    tests_know: &'static [&'static str],
    /// What must not be there.
    absent: &'static [&'static str],
}

const NETWORK: &[&str] = &["axum", "hyper", "hyper-util", "reqwest", "tower", "tower-http"];
const SQL: &[&str] = &["rusqlite", "sqlx", "postgres", "tokio-postgres"];
const CHANCE: &[&str] = &["getrandom", "rand", "fastrand"];

const WALLS: &[Wall] = &[
    Wall { name: "ork-core", knows: &[], tests_know: &[], absent: &["tokio"] },
    Wall { name: "ork-store", knows: &["ork-core"], tests_know: &[], absent: &[] },
    Wall { name: "ork-engine", knows: &["ork-core", "ork-store"], tests_know: &[], absent: &[] },
    Wall { name: "ork-api", knows: &["ork-core"], tests_know: &[], absent: &[] },
    Wall { name: "ork-worker", knows: &["ork-api", "ork-core"], tests_know: &[], absent: &[] },
    Wall {
        name: "ork-server",
        knows: &["ork-api", "ork-core", "ork-engine", "ork-store"],
        tests_know: &["ork-worker"],
        absent: &[],
    },
    Wall {
        name: "ork",
        knows: &["ork-api", "ork-core", "ork-server", "ork-worker"],
        tests_know: &["ork-store"],
        absent: &[],
    },
    Wall {
        name: "xtask",
        knows: &["ork-api", "ork-core", "ork-engine", "ork-store"],
        tests_know: &[],
        absent: &[],
    },
];

/// Crates that speak HTTP, that speak SQL and that draw randomness; nobody else may.
const ONLY: &[(&[&str], &[&str])] = &[
    (NETWORK, &["ork-api", "ork-server", "ork-worker"]),
    (SQL, &["ork-store"]),
    (CHANCE, &["ork-api", "ork-server", "ork-worker", "ork-store", "ork"]),
];

/// Every arrow that the walls do not allow.
///
/// # Errors
/// When cargo cannot describe the workspace.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut command = MetadataCommand::new();
    let metadata = command.current_dir(root).no_deps().exec().context("cargo metadata failed")?;
    Ok(metadata.packages.iter().flat_map(findings).collect())
}

fn findings(package: &Package) -> Vec<String> {
    let Some(wall) = WALLS.iter().find(|wall| package.name.as_str() == wall.name) else {
        return vec![format!(
            "{}: not in the crate table of xtask/src/tidy/arrows.rs",
            package.name
        )];
    };
    let uses = package.dependencies.iter().filter_map(|dependency| {
        let test = dependency.kind == DependencyKind::Development;
        let why = refusal(wall, &dependency.name, test)?;
        Some(format!("{}: must not depend on {}: {why}", wall.name, dependency.name))
    });
    uses.collect()
}

fn refusal(wall: &Wall, name: &str, test: bool) -> Option<&'static str> {
    let ours = WALLS.iter().any(|other| other.name == name);
    if ours && !wall.knows.contains(&name) && !(test && wall.tests_know.contains(&name)) {
        return Some("no arrow leads there");
    }
    let elsewhere =
        ONLY.iter().any(|(what, who)| what.contains(&name) && !who.contains(&wall.name));
    let absent = wall.absent.contains(&name) || elsewhere;
    (absent && !test).then_some("it is another crate's business")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arrows_of_the_table_are_let_through() {
        let (no_arrow, elsewhere) =
            (Some("no arrow leads there"), Some("it is another crate's business"));
        let cases = [
            ("ork-core", "ork-store", false, no_arrow),
            ("ork-core", "ork-store", true, no_arrow),
            ("ork-store", "ork-core", false, None),
            ("ork-server", "ork-worker", false, no_arrow),
            ("ork-server", "ork-worker", true, None),
            ("ork-core", "tokio", false, elsewhere),
            ("ork-core", "tokio", true, None),
            ("ork-core", "serde", false, None),
            ("ork-engine", "rusqlite", false, elsewhere),
            ("ork-store", "rusqlite", false, None),
            ("ork-store", "reqwest", false, elsewhere),
            ("ork-server", "axum", false, None),
            ("ork-engine", "getrandom", false, elsewhere),
            ("ork-store", "getrandom", false, None),
        ];
        for (from, to, test, expected) in cases {
            let wall = WALLS.iter().find(|wall| wall.name == from).unwrap();
            assert_eq!(refusal(wall, to, test), expected, "{from} -> {to}");
        }
    }
}
