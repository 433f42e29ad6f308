//! Every file of `examples/`, found and not listed, through the real binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::Place;

/// The repository's folder.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Copies a folder with all that is in it, except for what runs leave there.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if [".ork", "__pycache__", "scratch"].iter().any(|left| name == *left) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// The workflow files under a folder, as paths in it.
fn workflows(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            workflows(root, &path, found);
        } else if path.to_string_lossy().ends_with(".ork.yaml") {
            found.push(path);
        }
    }
    found.sort();
}

fn examples() -> Vec<PathBuf> {
    let mut found = Vec::new();
    workflows(&repository().join("examples"), Path::new(""), &mut found);
    assert!(found.len() > 10, "only {found:?}");
    found
}

/// Whether an example takes packages from a registry.
fn needs_registry(example: &Path) -> bool {
    let text = std::fs::read_to_string(repository().join("examples").join(example)).unwrap();
    text.contains("requirements:")
}

/// The file that an example has to have deployed first, since it calls that workflow.
fn called(example: &Path) -> Option<String> {
    let text = std::fs::read_to_string(repository().join("examples").join(example)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("# First: ork deploy "));
    line.map(str::to_owned)
}

/// Exit code, state and attempts of each task, and the result, without what differs each time.
fn end(example: &Path) -> (String, String) {
    let place = Place::with(&[]);
    copy(&repository().join("examples"), &place.path("examples"));
    let folder = Path::new("examples").join(example.parent().unwrap());
    let file = example.file_name().unwrap().to_str().unwrap();
    let ork = |words: &[&str]| {
        let mut command = place.command(words);
        command.current_dir(place.path(folder.to_str().unwrap()));
        crate::Said::from(command.output().unwrap())
    };
    if let Some(called) = called(example) {
        std::fs::create_dir(place.path(folder.to_str().unwrap()).join(".ork")).unwrap();
        let said = ork(&["deploy", &called]);
        assert_eq!(said.code, 0, "{file}: {said:?}");
    }
    let run = ork(&["run", file, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&run.out)
        .unwrap_or_else(|error| panic!("{file}: {error}\n{}\n{}", run.out, run.err));
    let shown = ork(&["runs", "show", "last"]);
    let mut text = format!("exit {}\nrun: {}\n", run.code, json["state"].as_str().unwrap());
    for line in shown.out.lines().skip_while(|line| !line.starts_with("TASK")).skip(1) {
        let words: Vec<_> = line.split_whitespace().take(3).collect();
        let attempts = words.get(2).filter(|word| word.parse::<u32>().is_ok());
        writeln!(text, "{} {} {}", words[0], words[1], attempts.unwrap_or(&"0")).unwrap();
    }
    let output = serde_json::to_string_pretty(&json["output"]).unwrap();
    writeln!(text, "result: {output}").unwrap();
    (text.replace(json["id"].as_str().unwrap(), "RUN"), run.err)
}

fn snapshot(example: &Path, end: &str) {
    let name = example.to_string_lossy().replace(".ork.yaml", "").replace('/', "-");
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "snapshots/examples" }, {
        insta::assert_snapshot!(name, end);
    });
}

#[test]
fn every_example_ends_as_it_should() {
    for example in examples().iter().filter(|example| !needs_registry(example)) {
        snapshot(example, &end(example).0);
    }
}

#[test]
fn examples_with_requirements_end_as_they_should() {
    for example in examples().iter().filter(|example| needs_registry(example)) {
        let (end, log) = end(example);
        assert!(
            end.starts_with("exit 0\n"),
            "{} installs packages from PyPI, and its run failed. If this machine cannot reach \
             https://pypi.org, connect it (or set PIP_INDEX_URL) and repeat.\n{end}{log}",
            example.display()
        );
        snapshot(example, &end);
    }
}

#[test]
fn every_example_is_valid_and_canonical() {
    let place = Place::with(&[]);
    copy(&repository().join("examples"), &place.path("examples"));
    for example in examples() {
        let path = Path::new("examples").join(&example);
        for words in [&["validate"][..], &["fmt", "--check"]] {
            let said = place.ork(&[words, &[path.to_str().unwrap()]].concat());
            assert_eq!(said.code, 0, "{words:?} {}\n{}{}", path.display(), said.out, said.err);
        }
    }
}

#[test]
fn every_example_stands_in_the_index() {
    let index = std::fs::read_to_string(repository().join("examples/README.md")).unwrap();
    for example in examples() {
        let link = format!("]({})", example.display());
        assert!(index.contains(&link), "examples/README.md has no link {link}");
    }
}
