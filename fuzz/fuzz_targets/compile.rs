//! Any bytes as a workflow file and as its one code file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ork_core::lang::{Severity, Sources, compile};

struct Same<'b>(&'b [u8]);

impl Sources for Same<'_> {
    fn read(&self, _path: &str) -> Result<Vec<u8>, Option<String>> {
        Ok(self.0.to_vec())
    }
}

fuzz_target!(|input: (&[u8], &[u8])| {
    let (file, code) = input;
    let compiled = compile("fuzz.yaml", file, &Same(code));
    let errors = compiled.diagnostics.iter().any(|found| found.severity == Severity::Error);
    assert_eq!(compiled.plan.is_none(), errors);
});
