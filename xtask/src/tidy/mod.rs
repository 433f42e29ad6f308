//! The walls that no compiler sees. Each rule is a function from the tree to findings; a finding
//! names the place and what to do.

mod arrows;
mod source;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Checks every rule.
///
/// # Errors
/// When something was found, after printing it.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let tree = Tree::read(root)?;
    let mut findings = arrows::check(root)?;
    findings.extend(source::check(&tree)?);
    findings.extend(text::check(&tree));
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings", findings.len());
    }
    println!("tidy: {} files, nothing found", tree.files.len());
    Ok(())
}

/// The files of the tree that are text, as git knows them or would if they were added.
struct Tree {
    files: Vec<File>,
}

/// A text file.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl Tree {
    fn read(root: &Path) -> anyhow::Result<Self> {
        let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = Command::new("git").args(args).current_dir(root).output();
        let listed = listed.context("cannot start git, which lists the tree's files")?;
        let paths = String::from_utf8(listed.stdout).context("a path is not UTF-8")?;
        let files = paths.split('\0').filter(|path| !path.is_empty()).filter_map(|path| {
            let text = std::fs::read_to_string(root.join(PathBuf::from(path))).ok()?;
            Some(File { path: path.to_owned(), text })
        });
        Ok(Self { files: files.collect() })
    }

    fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is("rs"))
    }
}

impl File {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    fn is_test(&self) -> bool {
        let folder = self.path.contains("/tests/") || self.path.contains("/benches/");
        folder || self.path.ends_with("/tests.rs")
    }

    /// The folder of the crate that the file belongs to, such as `crates/ork-core/`.
    fn krate(&self) -> &str {
        let slashes = if self.path.starts_with("crates/") { 2 } else { 1 };
        let end = self.path.match_indices('/').nth(slashes - 1);
        end.map_or(self.path.as_str(), |(at, _)| &self.path[..=at])
    }
}
