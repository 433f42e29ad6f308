//! From a task's block to a program that can be started, or a sentence that says why not.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ork_core::lang::executors::{Program as Spelled, RunSpec, Shell};

use crate::attempt::{Attempt, End};
use crate::programs::on_path;
use crate::spawner::Program;

/// What is to be started.
pub(super) fn program(spec: &RunSpec, attempt: &Attempt) -> Result<Program, End> {
    let argv = argv(&spec.program);
    let Some(name) = argv.first().cloned() else {
        return Err(End::not_started("`argv` is empty: it needs at least a program"));
    };
    let cwd = folder(&attempt.root, spec.cwd.as_deref())?;
    let path = attempt.env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let file = find(&name, &cwd, &path).map_err(End::not_started)?;
    no_nul(&argv, attempt)?;
    Ok(Program {
        file: file.into(),
        argv: argv.into_iter().map(OsString::from).collect(),
        cwd: cwd.into(),
        env: attempt.env.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    })
}

/// No program can be given a NUL: the kernel's texts end with one.
fn no_nul(argv: &[String], attempt: &Attempt) -> Result<(), End> {
    if let Some(place) = argv.iter().position(|argument| argument.contains('\0')) {
        let message = format!("argument {place} of `{}` holds NUL; pass it as an input", argv[0]);
        return Err(End::not_started(message));
    }
    let holds = |text: &OsStr| text.as_encoded_bytes().contains(&0);
    match attempt.env.iter().find(|(name, value)| holds(name) || holds(value)) {
        Some((name, _)) => Err(End::not_started(format!(
            "the variable `{}` holds NUL; pass it as an input",
            name.to_string_lossy()
        ))),
        None => Ok(()),
    }
}

fn argv(program: &Spelled) -> Vec<String> {
    let words = |words: &[&str], text: &str| {
        words.iter().copied().chain([text]).map(str::to_owned).collect()
    };
    match program {
        Spelled::Argv { argv } => argv.clone(),
        Spelled::Shell { shell, with: Shell::Bash } => {
            words(&["bash", "-euo", "pipefail", "-c"], shell)
        }
        Spelled::Shell { shell, with: Shell::Sh } => words(&["sh", "-eu", "-c"], shell),
    }
}

/// The working folder: the code root or a folder in it, whatever links say.
fn folder(root: &Path, cwd: Option<&str>) -> Result<PathBuf, End> {
    let Some(cwd) = cwd else { return Ok(root.to_owned()) };
    let wanted = root.join(cwd);
    let real = |path: &Path| {
        fs::canonicalize(path).map_err(|error| {
            End::not_started(format!("the working folder {} is not there: {error}", path.display()))
        })
    };
    let (real_root, real) = (real(root)?, real(&wanted)?);
    if !real.starts_with(&real_root) {
        let (cwd, root) = (real.display(), real_root.display());
        return Err(End::not_started(format!("`cwd` leads to {cwd}, out of the code root {root}")));
    }
    Ok(real)
}

/// The file that a program's name means: a path from the working folder, else on `PATH`.
fn find(name: &str, cwd: &Path, path: &OsStr) -> Result<PathBuf, String> {
    if name.contains('/') {
        let file = cwd.join(name);
        return match fs::metadata(&file) {
            Ok(meta) if meta.is_dir() => Err(format!("`{name}` is a folder: {}", file.display())),
            Ok(_) => Ok(file),
            Err(_) => Err(format!("there is no program {}", file.display())),
        };
    }
    on_path(name, path).ok_or_else(|| {
        let path = path.to_string_lossy();
        format!("no program `{name}` on PATH ({path}); install it, or give a path with `/`")
    })
}

/// Why the kernel refused a program.
pub(super) fn diagnosis(program: &Program, error: &io::Error) -> String {
    let file = Path::new(&program.file);
    let shown = file.display();
    if !Path::new(&program.cwd).is_dir() {
        return format!("the working folder {} is not there", Path::new(&program.cwd).display());
    }
    match error.kind() {
        io::ErrorKind::NotFound if file.exists() => match interpreter(file) {
            Some(line) => format!("{shown} names an interpreter that is not there: `{line}`"),
            None => format!("{shown} needs a loader or library that is not there"),
        },
        io::ErrorKind::PermissionDenied => {
            format!("{shown} may not be executed; `chmod +x` it, or name its interpreter in `argv`")
        }
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            format!("{shown} is no program: a script needs a first line such as `#!/bin/sh`")
        }
        io::ErrorKind::ArgumentListTooLong => format!(
            "the arguments and environment of {shown} are too long for the kernel; pass large \
             values as inputs"
        ),
        _ => format!("{shown} cannot be started: {error}"),
    }
}

/// The first line of a script.
fn interpreter(file: &Path) -> Option<String> {
    let mut head = Vec::new();
    fs::File::open(file).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.split(|byte| *byte == b'\n').next()?;
    line.starts_with(b"#!").then(|| String::from_utf8_lossy(line).trim_end().to_owned())
}
