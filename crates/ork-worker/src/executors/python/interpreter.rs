//! Which Python runs a task, and Ork's own Python code beside it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ork_core::value::Digest;

use crate::environment::Env;
use crate::programs::{is_program, on_path};
use crate::worker::Inner;

/// The `ork` package: what tasks may import, and the runner.
const FILES: &[(&str, &str)] = &[
    ("__init__.py", include_str!("../../../../../python/ork/__init__.py")),
    ("_convert.py", include_str!("../../../../../python/ork/_convert.py")),
    ("_runner.py", include_str!("../../../../../python/ork/_runner.py")),
];

/// The flags of every interpreter: no folder of chance on the search path, UTF-8 everywhere.
const FLAGS: &[&str] = &["-P", "-X", "utf8"];

/// The interpreter of a code root: the configured one, else its `.venv`, else `PATH`'s.
///
/// # Errors
/// One sentence that says where it was looked for.
pub(super) fn find(inner: &Inner, root: &Path) -> Result<PathBuf, String> {
    if let Some(configured) = &inner.config.python {
        if is_program(configured) {
            return Ok(configured.clone());
        }
        let shown = configured.display();
        return Err(format!("the configured Python interpreter {shown} is no program"));
    }
    let own = root.join(".venv/bin/python");
    if is_program(&own) {
        return Ok(own);
    }
    let path = inner.inherited.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    on_path("python3", &path).ok_or_else(|| {
        format!(
            "no Python interpreter: neither {} nor `python3` on PATH ({}); install Python 3.11 or \
             newer, or set ORK_PYTHON",
            own.display(),
            path.to_string_lossy()
        )
    })
}

/// The arguments of an interpreter that begins in the runner.
pub(super) fn arguments(interpreter: &Path, runner: &Path, entry: &str) -> Vec<std::ffi::OsString> {
    let boot = format!(
        "import sys; sys.path.insert(0, {:?}); import ork._runner as r; r.{entry}()",
        runner.to_string_lossy()
    );
    let flags = FLAGS.iter().map(Into::into);
    let name = [interpreter.into()].into_iter();
    name.chain(flags).chain(["-c".into(), boot.into()]).collect()
}

/// The folder that holds the `ork` package; written once per content.
pub(super) fn package(cache: &Path) -> io::Result<PathBuf> {
    static DIGEST: OnceLock<String> = OnceLock::new();
    static PARTS: AtomicU64 = AtomicU64::new(0);
    let digest = DIGEST.get_or_init(|| {
        let all: Vec<&str> = FILES.iter().map(|(_, content)| *content).collect();
        Digest::of(all.concat().as_bytes()).to_string()[..16].to_owned()
    });
    let target = cache.join("python").join(digest);
    if target.is_dir() {
        return Ok(target);
    }
    let number = PARTS.fetch_add(1, Ordering::Relaxed);
    let part = target.with_extension(format!("part-{}-{number}", std::process::id()));
    fs::create_dir_all(part.join("ork"))?;
    for (name, content) in FILES {
        fs::write(part.join("ork").join(name), content)?;
    }
    crate::bundle::sync(&part)?;
    match fs::rename(&part, &target) {
        // Another thread or process of this machine was quicker.
        Err(_) if target.is_dir() => fs::remove_dir_all(&part)?,
        renamed => renamed?,
    }
    Ok(target)
}

/// Whether a task's environment asks for what only a new interpreter can give: variables that are
/// read when it starts, by itself, the loader, or the C library.
pub(super) fn needs_own(env: &Env, inherited: &Env) -> bool {
    let read_at_start = |name: &str| {
        ["PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_"].iter().any(|start| name.starts_with(start))
            || matches!(name, "LANG" | "LANGUAGE")
    };
    env.iter().any(|(name, value)| {
        read_at_start(&name.to_string_lossy()) && inherited.get(name) != Some(value)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn the_package_is_written_by_many_at_once() {
        for _ in 0..20 {
            let (cache, together) = (tempfile::tempdir().unwrap(), Barrier::new(8));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        together.wait();
                        let package = package(cache.path()).unwrap();
                        assert!(package.join("ork/_runner.py").is_file());
                    });
                }
            });
        }
    }
}
