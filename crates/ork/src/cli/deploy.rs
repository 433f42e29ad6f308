//! `ork deploy`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ork_api::client::Client;
use ork_api::types::{Deploy, Deployed, Run};
use ork_core::value::Digest;

use super::{Global, block_on, validate};
use crate::bundle::Tree;
use crate::context::{Need, Session};
use crate::exit::{Exit, Failure, Result};
use crate::files::{self, WorkflowFile};
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
    packed: HashMap<(Root, Vec<PathBuf>), Bytes>,
}

/// A code root and what is included of it.
type Root = (PathBuf, Vec<String>);

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
        let blob = self.client.put_blob(bundle).await?;
        let deploy = Deploy {
            file: file.path.to_string_lossy().into_owned(),
            source: file.text().into_owned(),
            bundle: Some(blob.digest),
            reason: self.reason.clone(),
        };
        let deployed = self.client.deploy(&deploy).await?;
        if deployed.created {
            say(told(&deployed));
        }
        Ok(deployed)
    }

    /// The file's code as an archive.
    ///
    /// # Errors
    /// See [`Tree::find`] and [`Tree::pack`].
    pub(crate) fn pack(&mut self, file: &WorkflowFile) -> Result<Bytes> {
        let code = file.compiled.plan.as_ref().map(|plan| &plan.code);
        let include = code.map(|code| code.include.clone()).unwrap_or_default();
        let mut always = code.map(|code| code.files.clone()).unwrap_or_default();
        always.extend(inside(&file.root, &file.path));
        let root = (file.root.clone(), include);
        let tree = match self.trees.entry(root.clone()) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(free) => free.insert(Tree::find(&root.0, &root.1)?),
        };
        match self.packed.entry((root, tree.lacks(&always))) {
            Entry::Occupied(packed) => Ok(packed.get().clone()),
            Entry::Vacant(free) => {
                let packed = Bytes::from(tree.pack(&free.key().1)?);
                Ok(free.insert(packed).clone())
            }
        }
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

/// The file's path relative to the code root, if it is in there.
fn inside(root: &Path, path: &Path) -> Option<String> {
    let full = std::fs::canonicalize(path).ok()?;
    Some(full.strip_prefix(root).ok()?.to_string_lossy().into_owned())
}

/// What was last deployed of each file, so that only what changed is deployed again.
#[derive(Default)]
pub(crate) struct Known {
    files: HashMap<PathBuf, (Digest, Option<Digest>)>,
    /// The run in place whose end is awaited before files that no workflow names are deployed.
    awaited: Option<Run>,
    hinted: bool,
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
        self.awaited.clone()
    }

    async fn one(
        &mut self,
        deployer: &mut Deployer,
        path: &Path,
        awaited: Option<&Run>,
    ) -> Result<()> {
        let file = WorkflowFile::read(path)?;
        let code = if file.compiled.is_ok() { Some(deployer.pack(&file)?) } else { None };
        let state = (file.compiled.digest, code.as_deref().map(Digest::of));
        let before = self.files.get(path).copied();
        if before == Some(state) {
            return Ok(());
        }
        let is_aside = before.is_some_and(|(named, _)| named == state.0);
        if is_aside && self.awaits(deployer, &file, awaited).await {
            return Ok(());
        }
        self.files.insert(path.to_owned(), state);
        validate::show(&file);
        let Some(code) = code else { return Ok(()) };
        let deployed = deployer.send(&file, code).await?;
        if is_aside && deployed.created && !self.hinted {
            self.hinted = true;
            say(format_args!(
                "hint: it has files that it does not name, and {} changed; if runs write it, name \
                 it in .orkignore",
                deployer.newest(&file)
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
