//! Bytes at random, and good files with random harm done to them: `compile` and `format` always
//! come back.

use ork_core::lang::{compile, format};
use proptest::prelude::*;

use super::Files;

const GOOD: &str = "name: daily
params:
  day: { type: date, default: \"${{ run.logical_date - days(1) }}\" }
  regions: { type: [str], default: [eu, us] }
types: { Extract: { path: str, rows: int } }
defaults: { retries: 2, timeout: 10m }
tasks:
  extract:
    python: etl.py:extract
    inputs: { region: \"${{ params.regions[0] }}\", day: \"${{ params.day }}\" }
  report:
    when: tasks.extract.output.rows > 0 && has(params.day)
    run: [./report.sh, \"${{ tasks.extract.output.path }}\", 'n ${{ 1 + 2 }}']
    env: { A: $${{ no }} }
  old: { executor: process, command: 'ls -l', inputs: { a: { ref: tasks.report.output } } }
finally:
  clean: { run: { shell: \"rm -rf x\" }, when: run.state == 'failed' }
output: { n: \"${{ default(tasks.report.output, 1) }}\" }
";

/// Nothing is said of what comes out, but that something does.
fn survive(bytes: &[u8]) {
    let files = Files::new([("etl.py", "def extract(region: str, day):\n  return {}\n")]);
    let compiled = compile("f.yaml", bytes, &files);
    assert_eq!(
        compiled.plan.is_none(),
        compiled.diagnostics.iter().any(|d| d.severity == ork_core::lang::Severity::Error)
    );
    for upgrade in [false, true] {
        if let Ok(formatted) = format("f.yaml", bytes, upgrade) {
            let again = format("f.yaml", formatted.text.as_bytes(), upgrade);
            assert_eq!(again.map(|again| again.text), Ok(formatted.text));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survive(&bytes);
    }

    #[test]
    fn harmed_files(
        cuts in prop::collection::vec((0..GOOD.len(), 0_usize..12, "[\\PC\n]{0,6}"), 1..5)
    ) {
        let mut text = GOOD.to_owned();
        for (at, length, put) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, &put);
            }
        }
        survive(text.as_bytes());
    }
}
