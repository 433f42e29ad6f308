//! How long compiling takes: 1,000 small files, and one with 5,000 tasks. Run it with `--release`.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::fmt::Write as _;
use std::time::Instant;

use ork_core::lang::{Sources, compile};

struct NoFiles;

impl Sources for NoFiles {
    fn read(&self, _path: &str) -> Result<Vec<u8>, Option<String>> {
        Err(None)
    }
}

const SMALL: &str = "name: small
params: { day: { type: date, default: \"${{ run.logical_date }}\" }, n: int }
tasks:
  extract: { run: [./extract.sh, \"${{ params.day }}\"], output_type: { rows: int, path: str } }
  load: { run: [./load.sh, \"${{ tasks.extract.output.path }}\"], when: tasks.extract.output.rows > params.n }
  report: { run: [./report.sh], depends_on: [load], trigger_rule: all_done, retries: 2 }
";

fn main() {
    let start = Instant::now();
    let good = (0..1_000).filter(|_| compile("a.yaml", SMALL.as_bytes(), &NoFiles).is_ok()).count();
    println!("{good} small files: {:?}", start.elapsed());
    let mut large = String::from("tasks:\n  t0: { run: [x], output_type: { n: int } }\n");
    for i in 1..5_000 {
        let up = i - 1;
        let _ = writeln!(
            large,
            "  t{i}: {{ run: [x, \"${{{{ tasks.t{up}.output.n }}}}\"], output_type: {{ n: int }} }}"
        );
    }
    let start = Instant::now();
    let compiled = compile("a.yaml", large.as_bytes(), &NoFiles);
    println!("5,000 tasks, {} findings: {:?}", compiled.diagnostics.len(), start.elapsed());
}
