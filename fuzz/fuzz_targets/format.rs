//! Formatting what was formatted changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ork_core::lang::format;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(first) = format("fuzz.yaml", bytes, false) {
        let again = format("fuzz.yaml", first.text.as_bytes(), false);
        assert_eq!(again.map(|again| again.text), Ok(first.text));
    }
});
