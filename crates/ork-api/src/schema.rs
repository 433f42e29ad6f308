//! Schemas of the core's types for the `OpenAPI` document.

use utoipa::openapi::schema::{Array, ArrayBuilder, Object, ObjectBuilder, Type};

fn words(words: &[&str]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.to_vec())).build()
}

pub(crate) fn run_state() -> Object {
    words(&["pending", "running", "success", "failed", "cancelled", "skipped"])
}

pub(crate) fn run_states() -> Array {
    ArrayBuilder::new().items(run_state()).build()
}

pub(crate) fn webhook_auth() -> Object {
    words(&["hmac", "token"])
}

pub(crate) fn task_state() -> Object {
    words(&[
        "pending",
        "queued",
        "dispatched",
        "running",
        "deferred",
        "stopping",
        "success",
        "failed",
        "skipped",
        "upstream_failed",
        "cancelled",
    ])
}

pub(crate) fn attempt_state() -> Object {
    words(&[
        "dispatched",
        "running",
        "stopping",
        "success",
        "not_ready",
        "failed",
        "cancelled",
        "lost",
    ])
}

pub(crate) fn trigger_rule() -> Object {
    words(&[
        "all_success",
        "all_done",
        "all_failed",
        "one_success",
        "one_failed",
        "one_done",
        "none_failed",
        "none_skipped",
        "none_failed_min_one_success",
    ])
}

pub(crate) fn order() -> Object {
    words(&["oldest", "newest"])
}

pub(crate) fn backfill_state() -> Object {
    words(&["running", "paused", "cancelled", "done"])
}

pub(crate) fn tick_note() -> Object {
    words(&["changed", "moved", "first", "second"])
}

pub(crate) fn happened() -> Object {
    words(&["deployed", "described", "paused", "resumed", "deleted"])
}

pub(crate) fn result() -> Object {
    words(&["done", "tried", "refused"])
}

pub(crate) fn stream() -> Object {
    words(&["stdout", "stderr", "system"])
}

pub(crate) fn level() -> Object {
    words(&["debug", "info", "warn", "error"])
}

/// A list of [`ork_core::lang::Diagnostic`].
pub(crate) fn diagnostics() -> Array {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let number = |what| ObjectBuilder::new().schema_type(Type::Integer).description(Some(what));
    let mut finding = ObjectBuilder::new()
        .property("severity", words(&["note", "warning", "error"]))
        .property("code", text().description(Some("A stable name: `unknown-key`.")))
        .property("message", text().description(Some("One sentence that names the thing.")))
        .property("file", text().description(Some("The file.")))
        .property("line", number("From 1; 0 when the finding is about the file as a whole."))
        .property("column", number("From 1, in characters."))
        .property("length", number("How many characters are meant; at least 1."))
        .property("hint", text().description(Some("How to mend it.")));
    for name in ["severity", "code", "message", "file", "line", "column", "length"] {
        finding = finding.required(name);
    }
    ArrayBuilder::new().items(finding).description(Some("All findings, by place.")).build()
}

#[cfg(test)]
mod tests {
    use ork_core::plan::TriggerRule;
    use ork_core::rows::Happened;
    use ork_core::run::{AttemptState, RunState, TaskState};
    use serde::de::DeserializeOwned;

    use super::*;
    use ork_core::logs::{Level, Stream};

    fn all_are<T: DeserializeOwned>(schema: &Object) {
        let words = schema.enum_values.as_ref().unwrap();
        for word in words {
            serde_json::from_value::<T>(word.clone()).unwrap();
        }
        let error = serde_json::from_str::<T>("\"no such word\"").err().unwrap().to_string();
        let known = error.matches('`').count() / 2 - 1;
        assert_eq!(known, words.len(), "{error}");
    }

    #[test]
    fn the_words_are_those_of_the_core() {
        all_are::<RunState>(&run_state());
        all_are::<TaskState>(&task_state());
        all_are::<AttemptState>(&attempt_state());
        all_are::<TriggerRule>(&trigger_rule());
        all_are::<Happened>(&happened());
        all_are::<crate::types::ToldResult>(&result());
        all_are::<Stream>(&stream());
        all_are::<Level>(&level());
    }
}
