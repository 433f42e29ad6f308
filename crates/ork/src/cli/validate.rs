//! `ork validate`.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use ork_api::types::Validated;
use ork_core::lang::{Diagnostic, Severity};

use super::deploy::Deployer;
use super::{Form, Global, block_on};
use crate::changes::Changes;
use crate::context::{Need, ServerFlags, Session};
use crate::exit::{Exit, Failure, Result};
use crate::files::{self, WorkflowFile};
use crate::output::{self, Format, say};

/// Checks workflow files; a server is asked too where --server names one
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ork validate                    every workflow file under this folder
  ork validate etl.yaml flows/
  ork validate --watch etl.yaml   again at each change
  ork validate --server http://127.0.0.1:7070 etl.yaml
                                  also that the names of pools, queues and workflows are known
  ork validate -o github          annotations for GitHub Actions
  ork validate -o json            findings for programs
  ork validate -o name            the files that have errors")]
pub(crate) struct ValidateArgs {
    /// Files and folders
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Check again whenever something changes
    #[arg(long)]
    watch: bool,
}

pub(crate) fn run(global: &Global, args: &ValidateArgs) -> Result {
    let form = match global.form() {
        None | Some(Form::Text | Form::Table) => Form::Text,
        Some(form) => form,
    };
    if args.watch {
        return block_on(watch(global, form, args));
    }
    // Who asks no server needs no threads.
    if global.server.is_typed() {
        return block_on(once(global, form, args));
    }
    tell(form, &read(args)?)
}

fn read(args: &ValidateArgs) -> Result<Vec<WorkflowFile>> {
    let paths = files::find(&args.paths)?;
    if paths.is_empty() {
        return Err(Failure::usage("there is no workflow file here")
            .hint("name one, or begin with `ork init`"));
    }
    paths.iter().map(|path| WorkflowFile::read(path)).collect()
}

/// What the server finds takes the place of what was found here: it knows more names. It is asked
/// of files that are accepted here.
async fn ask(server: &ServerFlags, files: &mut [WorkflowFile]) -> Result<()> {
    let session = Session::open(server, Need::Answers).await?;
    let mut deployer = Deployer::new(session.client.clone(), None);
    for file in files.iter_mut().filter(|file| file.compiled.is_ok()) {
        let Validated { ok, diagnostics } = deployer.check(file).await?;
        if !ok {
            file.compiled.plan = None;
        }
        file.compiled.diagnostics = diagnostics;
        file.compiled.unchecked.clear();
    }
    Ok(())
}

fn tell(form: Form, read: &[WorkflowFile]) -> Result {
    output::write(&report(form, read))?;
    let bad = read.iter().filter(|file| !file.compiled.is_ok()).count();
    if form == Form::Text {
        let files = if read.len() == 1 { "file" } else { "files" };
        say(format_args!("{} {files} checked, {bad} with errors", read.len()));
    }
    Ok(if bad > 0 { Exit::Failed } else { Exit::Ok })
}

/// Findings and notes, for programs.
fn all(files: &[WorkflowFile]) -> Vec<Diagnostic> {
    let of = |file: &WorkflowFile| [file.compiled.diagnostics.clone(), notes(file)].concat();
    files.iter().flat_map(of).collect()
}

/// What only a server can check.
fn notes(file: &WorkflowFile) -> Vec<Diagnostic> {
    let note = |what: &String| Diagnostic {
        severity: Severity::Note,
        code: "unchecked".into(),
        message: format!("{what} is not checked here, since only a server knows it"),
        file: file.path.to_string_lossy().into_owned(),
        line: 0,
        column: 1,
        length: 1,
        hint: None,
    };
    file.compiled.unchecked.iter().map(note).collect()
}

fn report(form: Form, files: &[WorkflowFile]) -> String {
    match form {
        Form::Json => output::structured(Format::Json, &all(files)),
        Form::Yaml => output::structured(Format::Yaml, &all(files)),
        Form::Name => {
            let bad = files.iter().filter(|file| !file.compiled.is_ok());
            bad.map(|file| format!("{}\n", file.path.display())).collect()
        }
        Form::Github => all(files).iter().map(annotation).collect(),
        _ => {
            let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let told = |found: &Diagnostic| format!("{found}\n");
            let noted = |file| notes(file).iter().map(told).collect::<String>();
            files.iter().map(|file| rendered(file, colours) + &noted(file)).collect()
        }
    }
}

/// What was found in a file, for people.
pub(crate) fn rendered(file: &WorkflowFile, colours: bool) -> String {
    rendered_of(file, &file.compiled.diagnostics, colours)
}

fn rendered_of(file: &WorkflowFile, found: &[Diagnostic], colours: bool) -> String {
    if found.is_empty() {
        return String::new();
    }
    let text = file.text();
    let name = file.path.to_string_lossy();
    let code = Code::of(file, found);
    let source = |wanted: &str| if wanted == name { Some(&*text) } else { code.text(wanted) };
    ork_core::lang::render(found, source, colours) + "\n"
}

/// The code files that findings are about.
struct Code(Vec<(String, String)>);

impl Code {
    fn of(file: &WorkflowFile, found: &[Diagnostic]) -> Self {
        let mut names: Vec<_> = found.iter().map(|found| &found.file).collect();
        names.sort();
        names.dedup();
        let read = |name: &&String| std::fs::read_to_string(file.root.join(name)).ok();
        Self(names.iter().filter_map(|name| Some(((*name).clone(), read(name)?))).collect())
    }

    fn text(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.as_str())
    }
}

/// Shows a file's findings on standard error.
pub(crate) fn show(file: &WorkflowFile) {
    show_found(file, &file.compiled.diagnostics);
}

/// Shows these findings of a file on standard error.
pub(crate) fn show_found(file: &WorkflowFile, found: &[Diagnostic]) {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = rendered_of(file, found, colours);
    if !text.is_empty() {
        say(text.trim_end());
    }
}

/// A finding as a command of GitHub Actions.
fn annotation(found: &Diagnostic) -> String {
    let kind = match found.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let mut message = found.message.clone();
    if let Some(hint) = &found.hint {
        let _ = write!(message, "\nhint: {hint}");
    }
    let end = found.column + found.length;
    format!(
        "::{kind} file={},line={},col={},endColumn={end},title={}::{}\n",
        property(&found.file),
        found.line.max(1),
        found.column,
        found.code,
        data(&message)
    )
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

async fn once(global: &Global, form: Form, args: &ValidateArgs) -> Result {
    let mut read = read(args)?;
    if global.server.is_typed() {
        ask(&global.server, &mut read).await?;
    }
    tell(form, &read)
}

async fn watch(global: &Global, form: Form, args: &ValidateArgs) -> Result {
    let mut changes = Changes::new()?;
    loop {
        changes.watch(&args.paths)?;
        if let Err(failure) = once(global, form, args).await {
            say(&failure);
        }
        say("waiting for a change");
        changes.next().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_is_one_line() {
        let found = Diagnostic {
            severity: Severity::Error,
            code: "unknown-key".into(),
            message: "50% of\nit".into(),
            file: "a,b.yaml".into(),
            line: 3,
            column: 5,
            length: 2,
            hint: Some("mend it".into()),
        };
        assert_eq!(
            annotation(&found),
            "::error file=a%2Cb.yaml,line=3,col=5,endColumn=7,title=unknown-key\
             ::50%25 of%0Ait%0Ahint: mend it\n"
        );
    }
}
