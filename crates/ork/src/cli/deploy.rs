//! `ork deploy`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ork_api::client::Client;
use ork_api::types::{Deploy, Deployed, Run, Validate, Validated};
use ork_core::value::Digest;

use super::{Global, block_on, validate};
use crate::bundle::Tree;
use crate::context::{Need, Session};
use crate::exit::{Exit, Failure, Result};
use crate::files::{self, Mark, WorkflowFile};
use crate::output::{self, Format, say};

/// Makes versions of workflow files current, with their code
#[derive(clap::Args)]
#[command(after_help = "\
The code is what stands in the code root: the nearest folder above the file with ork.toml, else the
file's own. .gitignore and .orkignore are honoured.

Examples:
  ork deploy                       every workflow file under this folder
  ork deploy etl.yaml --reason 'new regions'
  ork deploy flows/ --server http://127.0.0.1:7070")]
pub(crate) struct DeployArgs {
    /// Files and folders
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(crate) fn run(global: &Global, args: &DeployArgs) -> Result {
    let format = global.format()?;
    let paths = files::find(&args.paths)?;
    if paths.is_empty() {
        return Err(Failure::usage("there is no workflow file here")
            .hint("name one, or begin with `ork init`"));
    }
    let (mut ready, mut exit) = (Vec::new(), Exit::Ok);
    for path in &paths {
        let file = WorkflowFile::read(path)?;
        validate::show(&file);
        if file.compiled.is_ok() { ready.push(file) } else { exit = Exit::Failed }
    }
    if ready.is_empty() {
        return Ok(exit);
    }
    block_on(async {
        let session = Session::open(&global.server, Need::Answers).await?;
        let outcome = all(&session.client, &ready, args, format).await;
        session.close(true).await;
        outcome.map(|()| exit)
    })
}

async fn all(
    client: &Client,
    ready: &[WorkflowFile],
    args: &DeployArgs,
    format: Format,
) -> Result<()> {
    let mut deployer = Deployer::new(client.clone(), args.reason.clone());
    let mut done = Vec::new();
    for file in ready {
        done.push(deployer.deploy(file).await?);
    }
    output::list(
        format,
        &done,
        |one| one.workflow.clone(),
        |done| done.iter().map(|one| told(one) + "\n").collect(),
    )
}

/// What a deploy changed, in a line.
pub(crate) fn told(deployed: &Deployed) -> String {
    let Deployed { workflow, version, created, .. } = deployed;
    let what = if *created { "deployed" } else { "unchanged" };
    format!("{workflow}: {what}, version {version}")
}

/// Deploys files one after the other; code that several share is packed and sent once.
pub(crate) struct Deployer {
    client: Client,
    reason: Option<String>,
    trees: HashMap<Root, Tree>,
    packed: HashMap<Code, Bytes>,
}

/// A code root and what is included of it.
type Root = (PathBuf, Vec<String>);

/// A code root and what is packed of it all the same.
type Code = (Root, Vec<PathBuf>);

/// Files by which it is known whether something has changed.
type Marks = Vec<(PathBuf, Option<Mark>)>;

impl Deployer {
    pub(crate) fn new(client: Client, reason: Option<String>) -> Self {
        Self { client, reason, trees: HashMap::new(), packed: HashMap::new() }
    }

    /// Packs the file's code and makes a version of both current.
    ///
    /// # Errors
    /// When the code cannot be packed or the server refuses.
    pub(crate) async fn deploy(&mut self, file: &WorkflowFile) -> Result<Deployed> {
        let bundle = self.pack(file)?;
        self.send(file, bundle).await
    }

    /// Sends what [`Deployer::pack`] packed, and the file.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn send(&self, file: &WorkflowFile, bundle: Bytes) -> Result<Deployed> {
        let Validate { file: path, source, bundle } = self.kept(file, bundle).await?;
        let deploy = Deploy { file: path, source, bundle, reason: self.reason.clone() };
        let mut deployed = self.client.deploy(&deploy).await?;
        // What was found here has been shown; the server knows more.
        deployed.diagnostics.retain(|found| !file.compiled.diagnostics.contains(found));
        validate::show_found(file, &deployed.diagnostics);
        Ok(deployed)
    }

    /// Has the server check the file, which is accepted here, with its code.
    ///
    /// # Errors
    /// When the code cannot be packed, or the server does not answer.
    pub(crate) async fn check(&mut self, file: &WorkflowFile) -> Result<Validated> {
        let bundle = self.pack(file)?;
        let validate = self.kept(file, bundle).await?;
        Ok(self.client.validate(&validate).await?)
    }

    /// The file and its code, which the server now keeps.
    async fn kept(&self, file: &WorkflowFile, bundle: Bytes) -> Result<Validate> {
        let blob = self.client.put_blob(bundle).await?;
        Ok(Validate {
            file: file.path.to_string_lossy().into_owned(),
            source: file.text().into_owned(),
            bundle: Some(blob.digest),
        })
    }

    /// The file's code as an archive.
    ///
    /// # Errors
    /// See [`Tree::find`] and [`Tree::pack`].
    pub(crate) fn pack(&mut self, file: &WorkflowFile) -> Result<Bytes> {
        let (of, tree) = tree(&mut self.trees, file)?;
        let packed = match self.packed.get(&of) {
            Some(packed) => packed.clone(),
            None => Bytes::from(tree.pack(&of.1)?),
        };
        self.packed.insert(of, packed.clone());
        Ok(packed)
    }

    /// The files of the code, each with its mark.
    fn marks(&mut self, file: &WorkflowFile) -> Result<(Code, Marks)> {
        let (of, tree) = tree(&mut self.trees, file)?;
        let marks = tree.marks(&of.1);
        Ok((of, marks))
    }
}

impl Deployer {
    /// The packed file beside this one that changed last.
    fn newest(&self, file: &WorkflowFile) -> String {
        let trees = self.trees.iter().filter(|((root, _), _)| *root == file.root);
        let newest = trees.filter_map(|(_, tree)| tree.newest()).max();
        newest.map_or_else(|| "a file".to_owned(), |(_, path)| path.display().to_string())
    }
}

/// What is packed of the file's code root, and what beside.
fn tree<'t>(trees: &'t mut HashMap<Root, Tree>, file: &WorkflowFile) -> Result<(Code, &'t Tree)> {
    let code = file.compiled.plan.as_ref().map(|plan| &plan.code);
    let include = code.map(|code| code.include.clone()).unwrap_or_default();
    let named = code.map(|code| code.files.as_slice()).unwrap_or_default();
    let root = (file.root.clone(), include);
    let tree = match trees.entry(root.clone()) {
        Entry::Occupied(found) => found.into_mut(),
        Entry::Vacant(free) => free.insert(Tree::find(&root.0, &root.1)?),
    };
    Ok(((root, tree.lacks(named)), tree))
}

/// What was last deployed of each file, so that only what changed is read and deployed again.
#[derive(Default)]
pub(crate) struct Known {
    files: HashMap<PathBuf, Seen>,
    /// The code that was last packed, by which files, so that it is packed only when one changed.
    codes: HashMap<Code, (Marks, Digest)>,
    /// The run in place whose end is awaited before files that no workflow names are deployed.
    awaited: Option<Run>,
    hinted: bool,
}

/// A workflow file as it was last read.
struct Seen {
    file: WorkflowFile,
    marks: Option<Marks>,
    /// What of it and of its code was last deployed, or found to be wrong.
    state: Option<(Digest, Option<Digest>)>,
}

impl Known {
    /// Deploys every workflow file under the folder that is new or has changed, shows the
    /// findings of those, and goes on after one that is refused. Where only files changed that a
    /// workflow does not name, and a run is under way in place that may be writing them, it is
    /// deployed when that has ended: the run is returned.
    pub(crate) async fn update(&mut self, client: &Client, folder: &Path) -> Option<Run> {
        let mut deployer = Deployer::new(client.clone(), None);
        let before = self.awaited.take();
        let paths = files::under(folder);
        for path in &paths {
            if let Err(failure) = self.one(&mut deployer, path, before.as_ref()).await {
                say(format_args!("{}: {failure}", path.display()));
            }
        }
        self.files.retain(|path, _| {
            let there = paths.contains(path);
            if !there {
                say(format_args!("{}: gone; what it deployed stays", path.display()));
            }
            there
        });
        self.codes.retain(|code, _| deployer.trees.contains_key(&code.0));
        self.awaited.clone()
    }

    /// The file as it was read before, or read again where one of its files has changed.
    fn read(&mut self, path: &Path) -> Result<Seen> {
        let before = self.files.remove(path);
        let same = |seen: &Seen| {
            let marks = seen.marks.as_ref();
            marks.is_some_and(|marks| marks.iter().all(|(file, mark)| Mark::of(file) == *mark))
        };
        if before.as_ref().is_some_and(same)
            && let Some(seen) = before
        {
            return Ok(seen);
        }
        let mark = Mark::of(path);
        let file = WorkflowFile::read(path)?;
        // What was written while it was read is read again.
        let marks = file.marks().filter(|_| Mark::of(path) == mark);
        Ok(Seen { marks, file, state: before.and_then(|seen| seen.state) })
    }

    async fn one(
        &mut self,
        deployer: &mut Deployer,
        path: &Path,
        awaited: Option<&Run>,
    ) -> Result<()> {
        let mut seen = self.read(path)?;
        let outcome = self.bring(deployer, &mut seen, awaited).await;
        self.files.insert(path.to_owned(), seen);
        outcome
    }

    /// Deploys the file where it or its code has changed.
    async fn bring(
        &mut self,
        deployer: &mut Deployer,
        seen: &mut Seen,
        awaited: Option<&Run>,
    ) -> Result<()> {
        let Seen { file, state, .. } = seen;
        let named = file.compiled.digest;
        if !file.compiled.is_ok() {
            if state.replace((named, None)) != Some((named, None)) {
                validate::show(file);
            }
            return Ok(());
        }
        let (code, marks) = deployer.marks(file)?;
        let packed = self.codes.get(&code).filter(|(before, _)| *before == marks);
        let packed = packed.map(|(_, digest)| *digest);
        if packed.is_some() && *state == Some((named, packed)) {
            return Ok(());
        }
        let is_aside = state.is_some_and(|(before, _)| before == named);
        if is_aside && self.awaits(deployer, file, awaited).await {
            return Ok(());
        }
        let content = deployer.pack(file)?;
        let digest = Digest::of(&content);
        self.codes.insert(code, (marks, digest));
        if *state == Some((named, Some(digest))) {
            return Ok(());
        }
        *state = Some((named, Some(digest)));
        validate::show(file);
        let deployed = deployer.send(file, content).await?;
        if deployed.created {
            say(told(&deployed));
        }
        if is_aside && deployed.created && !self.hinted {
            self.hinted = true;
            say(format_args!(
                "hint: it has files that it does not name, and {} changed; if runs write it, name \
                 it in .orkignore",
                deployer.newest(file)
            ));
        }
        Ok(())
    }

    /// Whether a run is under way in place that may still be writing.
    async fn awaits(
        &mut self,
        deployer: &Deployer,
        file: &WorkflowFile,
        awaited: Option<&Run>,
    ) -> bool {
        if self.awaited.is_none() {
            self.awaited = crate::watch::in_place(&deployer.client).await;
            let is_new = self.awaited.as_ref().map(|run| run.id) != awaited.map(|run| run.id);
            if let (true, Some(run)) = (is_new, &self.awaited) {
                let newest = deployer.newest(file);
                say(format_args!("{newest} changed; waits for the end of run {}", run.id));
            }
        }
        self.awaited.is_some()
    }
}
