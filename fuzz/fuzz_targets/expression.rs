//! Any text as an expression: the checker always answers.
#![no_main]

use indexmap::IndexMap;
use libfuzzer_sys::fuzz_target;
use ork_core::lang::expr::{CheckScope, Name, TaskType, check};
use ork_core::plan::Param;
use ork_core::types::Type;

fuzz_target!(|source: &str| {
    let param = Param { ty: Type::list(Type::Int), default: None, description: None };
    let params = IndexMap::from([("p".to_owned(), param)]);
    let task = TaskType { output: Some(Type::Json), allow_failure: true };
    let tasks = IndexMap::from([("t".to_owned(), task)]);
    let names = [Name::Params, Name::Tasks, Name::Run];
    let scope =
        CheckScope { params: &params, tasks: &tasks, names: &names, certain: true, proven: &[] };
    let _ = check(source, &scope);
});
