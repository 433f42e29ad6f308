//! Packs a code root into a tar archive. The same files give the same bytes.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ignore::WalkBuilder;
use ignore::overrides::OverrideBuilder;

use crate::exit::{Failure, Result, io};
use crate::files::{Mark, is_workflow, is_yaml};
use crate::settings::{SettingFlags, Settings};

/// How many of the largest files an error lists.
const LISTED: usize = 10;

/// A file to be packed.
struct Entry {
    /// Relative to the root.
    path: PathBuf,
    size: u64,
    executable: bool,
    mark: Mark,
}

/// The files of a code root that are packed, whichever of its workflows is.
pub(crate) struct Tree {
    root: PathBuf,
    entries: Vec<Entry>,
    most: usize,
}

impl Tree {
    /// Finds what is under `root`: everything but workflow files, or what matches `include`.
    /// `.gitignore` and `.orkignore` are honoured; `.git`, `.ork` and what this process writes its
    /// output to stay outside. A workflow's file goes beside its code: in there, a change of one
    /// would make new versions of all.
    ///
    /// # Errors
    /// When a file cannot be read, or is a link that leads out of the root.
    pub(crate) fn find(root: &Path, include: &[String]) -> Result<Self> {
        let settings = Settings::resolve(root, &SettingFlags::default())?;
        let entries = entries(root, include)?;
        Ok(Self { root: root.to_owned(), entries, most: settings.limits.bundle })
    }

    /// Which of these files, relative to the root, are there but not among those that were found.
    pub(crate) fn lacks(&self, always: &[String]) -> Vec<PathBuf> {
        let paths = always.iter().map(|path| Path::new(path).components().collect::<PathBuf>());
        let mut lacking: Vec<_> = paths
            .filter(|path| !self.entries.iter().any(|entry| entry.path == *path))
            .filter(|path| self.root.join(path).is_file())
            .collect();
        lacking.sort();
        lacking.dedup();
        lacking
    }

    /// The files, with these, by which it is known that none has changed.
    pub(crate) fn marks(&self, also: &[PathBuf]) -> Vec<(PathBuf, Option<Mark>)> {
        let found = self.entries.iter().map(|entry| (entry.path.clone(), Some(entry.mark)));
        let also = also.iter().map(|path| (path.clone(), Mark::of(&self.root.join(path))));
        found.chain(also).collect()
    }

    /// The file that changed last, and when.
    pub(crate) fn newest(&self) -> Option<(SystemTime, &Path)> {
        let changed =
            |entry: &Entry| std::fs::metadata(self.root.join(&entry.path)).ok()?.modified().ok();
        self.entries.iter().filter_map(|entry| Some((changed(entry)?, &*entry.path))).max()
    }

    /// Packs the files and these.
    ///
    /// # Errors
    /// When a file cannot be read, or all together are larger than `limits.bundle`; then the
    /// largest are named.
    pub(crate) fn pack(&self, also: &[PathBuf]) -> Result<Vec<u8>> {
        let also = also.iter().map(|path| entry(&self.root, path)).collect::<Result<Vec<_>>>()?;
        let mut entries: Vec<_> = self.entries.iter().chain(&also).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        check_size(&self.root, &entries, self.most)?;
        archive(&self.root, &entries)
            .map_err(|error| Failure::failed(format!("{}: {error}", self.root.display())))
    }
}

fn entries(root: &Path, include: &[String]) -> Result<Vec<Entry>> {
    let mut patterns = OverrideBuilder::new(root);
    for pattern in include {
        patterns
            .add(pattern)
            .map_err(|error| Failure::failed(format!("code.include: `{pattern}`: {error}")))?;
    }
    let patterns = patterns.build().map_err(|error| Failure::failed(error.to_string()))?;
    let walk = WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .add_custom_ignore_filename(".orkignore")
        .overrides(patterns)
        .filter_entry(|entry| entry.file_name() != ".git" && entry.file_name() != ".ork")
        .build();
    let own = own_output();
    let mut entries = Vec::new();
    for found in walk {
        let found = found.map_err(|error| Failure::failed(error.to_string()))?;
        let is_folder = found.file_type().is_some_and(|kind| kind.is_dir());
        let is_own = || found.metadata().is_ok_and(|data| own.contains(&(data.dev(), data.ino())));
        let is_beside = || include.is_empty() && is_yaml(found.path()) && is_workflow(found.path());
        if let (false, Ok(path)) = (is_folder, found.path().strip_prefix(root))
            && !is_own()
            && !is_beside()
        {
            entries.push(entry(root, path)?);
        }
    }
    Ok(entries)
}

/// The files that this process writes its own words to: were they code, each word that a version
/// is made would make another.
fn own_output() -> Vec<(u64, u64)> {
    let stats = [rustix::fs::fstat(io::stdout()), rustix::fs::fstat(io::stderr())];
    stats.into_iter().flatten().map(|stat| (stat.st_dev, stat.st_ino)).collect()
}

fn entry(root: &Path, path: &Path) -> Result<Entry> {
    use std::os::unix::fs::PermissionsExt as _;
    let full = root.join(path);
    if path.to_str().is_none() {
        let failure = Failure::failed(format!("{}: its name is not UTF-8", full.display()));
        return Err(failure.hint("rename it, or name it in .orkignore with `?` for such bytes"));
    }
    let target = std::fs::canonicalize(&full)
        .map_err(|error| io(&full, &error).hint("if it is a link to nothing, remove it"))?;
    let metadata = std::fs::metadata(&target).map_err(|error| io(&full, &error))?;
    if !metadata.is_file() || !target.starts_with(root) {
        let what =
            if metadata.is_file() { "leads out of the code root" } else { "is no plain file" };
        let failure = Failure::failed(format!("{}: {what}", full.display()));
        return Err(failure.hint("name it in .orkignore, or copy what it holds"));
    }
    let executable = metadata.permissions().mode() & 0o111 != 0;
    let mark = Mark::from(&metadata);
    Ok(Entry { path: path.to_owned(), size: metadata.len(), executable, mark })
}

fn check_size(root: &Path, entries: &[&Entry], most: usize) -> Result<()> {
    let total: u64 = entries.iter().map(|entry| entry.size + 1024).sum();
    if total <= most as u64 {
        return Ok(());
    }
    let mut largest = entries.to_vec();
    largest.sort_by_key(|entry| std::cmp::Reverse(entry.size));
    let mut message = format!(
        "{}: the code has {} MiB, more than {} MiB (limits.bundle); its largest files:",
        root.display(),
        total >> 20,
        most >> 20
    );
    for entry in largest.iter().take(LISTED) {
        let _ = write!(message, "\n  {:>8} KiB  {}", entry.size >> 10, entry.path.display());
    }
    Err(Failure::failed(message)
        .hint("name what is no code in .orkignore, or give `code: {include}`"))
}

fn archive(root: &Path, entries: &[&Entry]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let content = std::fs::read(root.join(&entry.path))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(if entry.executable { 0o755 } else { 0o644 });
        header.set_mtime(0);
        archive.append_data(&mut header, &entry.path, content.as_slice())?;
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pack(root: &Path, include: &[String], always: &[String]) -> Result<Vec<u8>> {
        let tree = Tree::find(root, include)?;
        tree.pack(&tree.lacks(always))
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap();
        entries.map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
    }

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        (folder, root)
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let files = [("b.py", "2"), ("a/x.py", "1"), (".env", "3")];
        let (one, two) = (tree(&files), tree(&files));
        let packed = pack(&one.1, &[], &[]).unwrap();
        assert_eq!(packed, pack(&two.1, &[], &[]).unwrap());
        assert_eq!(names(&packed), [".env", "a/x.py", "b.py"]);
    }

    #[test]
    fn what_is_ignored_stays_outside() {
        let (_keep, root) = tree(&[
            (".gitignore", "*.log\n"),
            (".orkignore", "data/\n"),
            (".git/config", ""),
            (".ork/ork.db", ""),
            ("data/big.csv", ""),
            ("run.log", ""),
            ("etl.py", ""),
        ]);
        assert_eq!(names(&pack(&root, &[], &[]).unwrap()), [".gitignore", ".orkignore", "etl.py"]);
    }

    #[test]
    fn only_what_is_included_and_what_the_workflow_names() {
        let (_keep, root) = tree(&[("lib/a.py", ""), ("etl.py", ""), ("notes.txt", "")]);
        let packed = pack(&root, &["lib/**".into()], &["etl.py".into()]).unwrap();
        assert_eq!(names(&packed), ["etl.py", "lib/a.py"]);
    }

    #[test]
    fn workflow_files_stay_outside_unless_they_are_named() {
        let flow = "name: a\ntasks: {}\n";
        let (_keep, root) = tree(&[
            ("a.ork.yaml", flow),
            ("flows/b.yml", flow),
            ("data.yaml", "rows: []\n"),
            ("etl.py", ""),
        ]);
        let packed = |include: &[String], always: &[String]| {
            names(&pack(&root, include, always).unwrap()).join(" ")
        };
        assert_eq!(packed(&[], &[]), "data.yaml etl.py");
        assert_eq!(packed(&[], &["flows/b.yml".into()]), "data.yaml etl.py flows/b.yml");
        assert_eq!(packed(&["*.py".into(), "a.*".into()], &[]), "a.ork.yaml etl.py");
    }

    #[test]
    fn a_link_that_leads_outside_is_refused() {
        let (_keep, root) = tree(&[("etl.py", "")]);
        std::os::unix::fs::symlink("/etc/passwd", root.join("leak")).unwrap();
        let failure = pack(&root, &[], &[]).unwrap_err();
        assert!(failure.message.contains("leak: leads out of the code root"), "{failure}");
    }

    #[test]
    fn too_much_is_an_error_that_names_the_largest() {
        let (_keep, root) = tree(&[("etl.py", "")]);
        let big = fs::File::create(root.join("model.bin")).unwrap();
        big.set_len((100 << 20) + 1).unwrap();
        let failure = pack(&root, &[], &[]).unwrap_err();
        assert!(failure.message.contains("102400 KiB  model.bin"), "{failure}");
    }
}
