//! Files and artifacts, and what is told of a cache.

use std::path::Path;

use crate::Place;

fn blobs(place: &Place) -> usize {
    let count = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    let folders = std::fs::read_dir(place.path(".ork/blobs")).unwrap().flatten();
    let folders = folders.filter(|folder| folder.file_name().len() == 2);
    folders.map(|folder| count(&folder.path())).sum()
}

const PASSED: &str = "\
name: passed
params: { data: file, more: { type: \"[file]?\", default: null } }
tasks:
  copy:
    run: { shell: 'cp \"$IN\" \"$ORK_SCRATCH/copy.csv\"; echo more > \"$ORK_ARTIFACTS/note.txt\"; echo \"\\\"copy.csv\\\"\" > \"$ORK_OUTPUT\"' }
    env: { IN: \"${{ params.data }}\" }
    output_type: file
  read:
    run: { argv: [cat, \"${{ tasks.copy.output }}\", \"${{ params.data }}\"] }
output: ${{ default(tasks.copy.output.name, '') }}
";

#[test]
fn a_file_of_this_machine_goes_through_a_run_and_is_kept_once() {
    let place = Place::with(&[("w.yaml", PASSED), ("in.csv", "a,b\n")]);
    let ran = place.ork(&["run", "w.yaml", "-p", "data=@in.csv", "-p", "more=@in.csv,@w.yaml"]);
    assert_eq!((ran.code, &*ran.out), (0, "copy.csv\n"), "{}", ran.err);
    assert_eq!(place.ork(&["logs", "last", "read"]).out, "a,b\na,b\n");
    assert_eq!(blobs(&place), 3, "in.csv and its copy are one, w.yaml, note.txt");
    let listed = place.ork(&["artifacts", "list", "last", "-o", "name"]);
    assert_eq!(listed.out, "copy.csv\nnote.txt\n", "{}", listed.err);
    let get = |words: &[&str]| place.ork(&[&["artifacts", "get", "last", "copy"], words].concat());
    assert_eq!(get(&["copy.csv"]).code, 0);
    assert_eq!(place.read("copy.csv"), "a,b\n");
    let again = get(&["copy.csv"]);
    assert!(again.code == 1 && again.err.contains("--to FILE"), "{again:?}");
    assert_eq!(get(&["note.txt", "--to", "copy.csv"]).code, 0);
    assert_eq!(place.read("copy.csv"), "more\n");
    assert_eq!(get(&["copy.csv", "--to", "-"]).out, "a,b\n");
    let none = get(&["nope.txt"]);
    assert!(none.code == 4 && none.err.contains("note.txt"), "{none:?}");
    for (given, expected) in
        [("in.csv", "write `data=@FILE`"), ("@none", "No such file"), ("@.", "regular file")]
    {
        let said = place.ork(&["run", "w.yaml", "-p", &format!("data={given}")]);
        assert!(said.code != 0 && said.err.contains(expected), "{said:?}");
    }
}

const CACHED: &str = "\
name: cached
params: { day: str }
tasks:
  a:
    run: { argv: [echo, '\"made\"'], output: stdout_json }
    inputs: { day: \"${{ params.day }}\" }
    cache: { key: size(params.day) }
";

#[test]
fn a_cache_says_what_was_taken_or_what_differed() {
    let place = Place::with(&[("w.yaml", CACHED)]);
    let explained = |day: &str| {
        let ran = place.ork(&["run", "w.yaml", "-p", &format!("day={day}"), "-o", "name"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        (ran.out.trim().to_owned(), place.ork(&["explain", "last"]).out)
    };
    let (first, said) = explained("mon");
    assert!(said.contains("cache: no earlier success"), "{said}");
    let (_, said) = explained("mon");
    assert!(said.contains(&format!("cache: took the output of a in run {first} (")), "{said}");
    let (_, said) = explained("tue");
    let expected = format!("cache: nothing taken from run {first}; another is: the input `day`");
    assert!(said.contains(&expected), "{said}");
    let (_, said) = explained("thursday");
    assert!(said.contains("the input `day`, `cache.key`"), "{said}");
    place.write("w.yaml", &CACHED.replace("made", "other"));
    let (_, said) = explained("thursday");
    assert!(said.contains("another is: what the task is"), "{said}");
}
