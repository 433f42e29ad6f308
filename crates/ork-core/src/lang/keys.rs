//! The keys of the language: one table feeds the lowering (what is known, what is not supported
//! yet, what other tools call it), the JSON Schema and the order that `ork fmt` writes.

/// A key of a map.
#[derive(Debug)]
pub(crate) struct Key {
    /// The key.
    pub(crate) name: &'static str,
    /// What may stand there.
    pub(crate) shape: Shape,
    /// One sentence for people and editors.
    pub(crate) doc: &'static str,
    /// Whether this version enforces it. A key that is not is an error.
    pub(crate) supported: bool,
}

/// What may stand as a value.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Text.
    Text,
    /// A workflow's name.
    WorkflowName,
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds.
    Int(i64, i64),
    /// A number from a bound on.
    Number(f64),
    /// A length of time.
    Duration,
    /// A type.
    Type,
    /// An expression.
    Expression,
    /// A value with `${{ }}` in it.
    Binding,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// A list with at least one item.
    Some(&'static Shape),
    /// A map from names.
    Names(&'static Shape),
    /// A map from any text.
    Map(&'static Shape),
    /// A map of these keys.
    Object(&'static [Key]),
    /// One of these.
    OneOf(&'static [Shape]),
    /// A definition of the schema by its name.
    Ref(&'static str),
}

const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, doc, supported: true }
}

const fn later(name: &'static str) -> Key {
    Key { name, shape: Shape::Binding, doc: "", supported: false }
}

const TEXT: Shape = Shape::Text;
const TYPE: Shape = Shape::Type;
const BINDING: Shape = Shape::Binding;
const PARAM: Shape = Shape::Ref("param");
const TASK: Shape = Shape::Ref("task");
const COUNT: Shape = Shape::Int(0, 1_000);

/// The keys of a file.
pub(crate) const FILE: &[Key] = &[
    key("name", Shape::WorkflowName, "Unique in its project; the file's stem when left out."),
    key("description", Shape::Text, "For people."),
    key("owner", Shape::Text, "Who answers for it."),
    key("tags", Shape::List(&TEXT), "Words to filter by."),
    key("labels", Shape::Map(&TEXT), "Keys and values to filter by."),
    key("params", Shape::Names(&PARAM), "Typed run parameters; without a default one is required."),
    key("types", Shape::Names(&TYPE), "Names for types."),
    key(
        "schedules",
        Shape::Names(&Shape::Object(SCHEDULE)),
        "When runs are made by themselves, by name.",
    ),
    key(
        "triggers",
        Shape::Names(&Shape::Object(TRIGGER)),
        "What else starts a run, by name: a webhook, or the end of another workflow's run.",
    ),
    key("concurrency", Shape::Object(CONCURRENCY), "How many runs there may be at a time."),
    key("defaults", Shape::Ref("defaults"), "Settings of every task here that runs something."),
    key("env", Shape::Map(&BINDING), "Environment for every task."),
    key("timeout", Shape::Duration, "How long a run may take."),
    key("code", Shape::Object(CODE), "What is packed as code."),
    key("tasks", Shape::Names(&TASK), "The tasks: at least one."),
    key("finally", Shape::Names(&TASK), "Tasks that run after all else is terminal."),
    key("output", Shape::Binding, "The run's result."),
];

/// The keys of a schedule.
pub(crate) const SCHEDULE: &[Key] = &[
    key("cron", Shape::Text, "A cron expression: 5 fields, or 6 with seconds first, or `@daily`."),
    key("interval", Shape::Duration, "Every so long, counted from a Monday's midnight in UTC."),
    key("at", Shape::OneOf(&[TEXT, Shape::Some(&TEXT)]), "One time, or a list of times."),
    key("timezone", Shape::Text, "The zone of its local times, such as `Europe/Berlin` (UTC)."),
    key("dst", Shape::Words(&["once"]), "What fixed hours do where clocks are changed (once)."),
    key(
        "catchup",
        Shape::OneOf(&[Shape::Words(&["none", "last", "all"]), Shape::Object(CATCHUP)]),
        "What becomes of ticks that were missed (none).",
    ),
    key("jitter", Shape::Duration, "By how much later a run may be made, to spread load (0s)."),
    key("params", Shape::Names(&BINDING), "The params of its runs."),
    key("paused", Shape::Bool, "Whether it waits to be resumed (false)."),
];

/// The keys of the long form of `catchup`.
pub(crate) const CATCHUP: &[Key] =
    &[key("max", Shape::Int(1, 1_000), "The last so many make their runs.")];

/// The keys of `code`.
pub(crate) const CODE: &[Key] = &[
    key("root", Shape::Text, "The folder, relative to this file."),
    key("include", Shape::List(&TEXT), "Patterns of what is packed."),
];

/// The keys of a param's long form.
pub(crate) const PARAM_KEYS: &[Key] = &[
    key("type", Shape::Type, "Its type."),
    key("default", Shape::Binding, "What it is when not given."),
    key("enum", Shape::Some(&TEXT), "The values it may have."),
    key("description", Shape::Text, "For people."),
];

/// The common keys of a task. The keys of executors stand beside them.
pub(crate) const TASK_KEYS: &[Key] = &[
    key(
        "depends_on",
        Shape::OneOf(&[TEXT, Shape::List(&TEXT)]),
        "Tasks to wait for; references add theirs by themselves.",
    ),
    key("when", Shape::Expression, "A condition; false skips the task."),
    key("trigger_rule", Shape::Words(RULES), "Which outcomes of the upstreams let it start."),
    key("inputs", Shape::Names(&BINDING), "Named, typed arguments."),
    key("input_type", Shape::Type, "What the inputs must be."),
    key("output_type", Shape::Type, "What the output must be."),
    key(
        "retries",
        Shape::OneOf(&[COUNT, Shape::Ref("retries")]),
        "Attempts after the first, on failure.",
    ),
    key(
        "lost_retries",
        Shape::Int(0, 1_000),
        "Attempts after those lost with their worker, or failed by its fault (3).",
    ),
    key("timeout", Shape::Duration, "How long one attempt may take."),
    key("grace", Shape::Duration, "The time between the polite stop and the kill (10s)."),
    key("allow_failure", Shape::Bool, "Its failure does not fail the run."),
    key("env", Shape::Map(&BINDING), "Environment."),
    key(
        "for_each",
        Shape::OneOf(&[Shape::Expression, Shape::List(&BINDING), Shape::Object(FOR_EACH)]),
        "Makes it a map: one instance an item.",
    ),
    key("item_key", Shape::Expression, "Names the instances of a map; the index when left out."),
    key("max_parallel", Shape::Int(1, MAX_ITEMS), "The most instances of a map at a time."),
    key(
        "tolerate",
        Shape::OneOf(&[Shape::Int(0, MAX_ITEMS), TEXT]),
        "How many items of a map may fail: a count, `5%` or `all` (0).",
    ),
    key("fail_fast", Shape::Bool, "Whether running items are stopped once too many have failed."),
    key("poll", Shape::Object(POLL), "Makes it a sensor: an attempt may say `not yet`."),
    key("heartbeat_timeout", Shape::Duration, "How often the task must give a sign of life (off)."),
    key("start_within", Shape::Duration, "How long it may be queued before it fails (no limit)."),
    key("priority", Shape::Int(-100, 100), "The higher goes first within its run (0)."),
    key("worker_queue", Shape::WorkflowName, "Which workers may take it (`default`)."),
    key("pool", POOL_USE, "A semaphore of the project that an attempt holds."),
    later("resources"),
    later("isolation"),
    key("cache", Shape::Object(CACHE), "Reuses the output of an earlier success."),
    key("output", Shape::Binding, "The output of a group."),
];

/// The most items of a map.
pub(crate) const MAX_ITEMS: i64 = 100_000;

const POOL_USE: Shape = Shape::OneOf(&[TEXT, Shape::Object(POOL)]);

/// The ways to do a task that are not executors: a key each.
pub(crate) const FORMS: &[Key] = &[
    key("tasks", Shape::OneOf(&[Shape::Names(&TASK), TEXT]), "A group: a DAG of its own."),
    key(
        "workflow",
        Shape::OneOf(&[Shape::WorkflowName, Shape::Object(CALL)]),
        "Another workflow's DAG as a group.",
    ),
    key("approval", Shape::OneOf(&[TEXT, Shape::Object(APPROVAL)]), "A person's decision."),
    key("wait", Shape::OneOf(&[Shape::Duration, Shape::Object(WAIT)]), "A time or an event."),
];

/// The keys of a group, a generated DAG and a called workflow, beside their form.
pub(crate) const GROUP_KEYS: &[&str] = &[
    "depends_on",
    "when",
    "trigger_rule",
    "for_each",
    "item_key",
    "max_parallel",
    "tolerate",
    "fail_fast",
    "allow_failure",
    "timeout",
    "output",
];

/// The keys of an approval and of a wait, beside their form.
pub(crate) const WAIT_KEYS: &[&str] = &[
    "depends_on",
    "when",
    "trigger_rule",
    "for_each",
    "item_key",
    "max_parallel",
    "tolerate",
    "fail_fast",
    "allow_failure",
    "timeout",
    "output_type",
];

/// The keys of the long form of `for_each`.
pub(crate) const FOR_EACH: &[Key] = &[
    key("in", Shape::OneOf(&[Shape::Expression, Shape::List(&BINDING)]), "The items."),
    key("as", TEXT, "What an item is called, beside `item`."),
    key(
        "matrix",
        Shape::Names(&Shape::OneOf(&[Shape::Expression, Shape::List(&BINDING)])),
        "Lists whose every combination is an item.",
    ),
    key("include", Shape::List(&Shape::Map(&BINDING)), "Items that are added to a matrix."),
    key("exclude", Shape::List(&Shape::Map(&BINDING)), "What is left out of a matrix."),
];

/// The keys of `poll`.
pub(crate) const POLL: &[Key] = &[
    key("every", Shape::Duration, "The wait between two attempts."),
    key("timeout", Shape::Duration, "How long it may take in all (no limit)."),
    key("until", Shape::Expression, "A condition over `output`; false means not yet."),
];

/// The keys of the long form of `pool`.
pub(crate) const POOL: &[Key] = &[
    key("name", TEXT, "Its name, which may be an expression."),
    key("slots", Shape::Int(1, MAX_SLOTS), "How many of its slots an attempt takes (1)."),
    key("of", Shape::Int(1, MAX_SLOTS), "How many it has where the project does not say."),
];

/// The most slots of a pool.
pub const MAX_SLOTS: i64 = 1_000_000;

/// The keys of `cache`.
pub(crate) const CACHE: &[Key] = &[
    key("key", Shape::Expression, "What must be equal beside the task and its inputs."),
    key("ttl", Shape::Duration, "How long a success may be reused (as long as it is kept)."),
];

/// The keys of the long form of `workflow`.
pub(crate) const CALL: &[Key] = &[
    key("name", Shape::WorkflowName, "The workflow."),
    key("params", Shape::Names(&BINDING), "Its params."),
];

/// The keys of the long form of `approval`.
pub(crate) const APPROVAL: &[Key] = &[
    key("prompt", Shape::Text, "What is asked."),
    key("approvers", Shape::Some(&TEXT), "Who may decide: users, `group:G`, `role:R`."),
    key("form", Shape::Names(&PARAM), "What is to be filled in."),
    key("on_reject", Shape::Words(ON_REJECT), "What a rejection comes to (skip)."),
    key("on_timeout", Shape::Words(ON_TIMEOUT), "What the timeout comes to (fail)."),
];

/// The words of `on_reject`.
pub(crate) const ON_REJECT: &[&str] = &["skip", "fail", "continue"];

/// The words of `on_timeout`.
pub(crate) const ON_TIMEOUT: &[&str] = &["fail", "approve", "reject"];

/// The keys of the long form of `wait`.
pub(crate) const WAIT: &[Key] = &[
    key("for", Shape::Duration, "How long."),
    key("until", Shape::Binding, "Until when: a datetime."),
    key("event", TEXT, "The name of the signal."),
];

/// The keys of `concurrency`.
pub(crate) const CONCURRENCY: &[Key] = &[
    key("max_runs", Shape::Int(1, 100_000), "The most runs with the same key."),
    key("key", Shape::Expression, "What tells runs apart."),
    key("on_limit", Shape::Words(ON_LIMIT), "What becomes of a run that finds no place (queue)."),
];

/// The words of `on_limit`.
pub(crate) const ON_LIMIT: &[&str] = &["queue", "skip", "cancel_oldest"];

/// The keys of a trigger.
pub(crate) const TRIGGER: &[Key] = &[
    key("webhook", Shape::Object(WEBHOOK), "A request to the trigger's own address."),
    key("workflow", Shape::WorkflowName, "The end of another workflow's run."),
    key("states", Shape::Some(&Shape::Words(END_STATES)), "How that run must end (success)."),
    key("params", Shape::Names(&BINDING), "The run's params, from `trigger`."),
];

/// The keys of `webhook`.
pub(crate) const WEBHOOK: &[Key] = &[
    key("body", Shape::Type, "What the body must be (json)."),
    key("auth", Shape::Words(WEBHOOK_AUTH), "How the sender shows who it is."),
];

/// The words of `auth`.
pub(crate) const WEBHOOK_AUTH: &[&str] = &["hmac", "token"];

/// The words of `states`.
pub(crate) const END_STATES: &[&str] = &["success", "failed", "cancelled", "skipped"];

/// The words of `trigger_rule`.
pub(crate) const RULES: &[&str] = &[
    "all_success",
    "all_done",
    "all_failed",
    "one_success",
    "one_failed",
    "one_done",
    "none_failed",
    "none_skipped",
    "none_failed_min_one_success",
];

const FOR: Shape = Shape::Text;

/// The keys of the long form of `retries`.
pub(crate) const RETRIES: &[Key] = &[
    key("max", Shape::Int(0, 1_000), "Retries after the first attempt."),
    key("delay", Shape::Duration, "The wait before the first retry (10s)."),
    key(
        "backoff",
        Shape::Words(&["constant", "linear", "exponential"]),
        "How the wait grows (exponential).",
    ),
    key("multiplier", Shape::Number(1.0), "By what it grows exponentially (2)."),
    key("max_delay", Shape::Duration, "The longest wait (10m)."),
    key("jitter", Shape::Bool, "Whether the wait is spread (true)."),
    key("for", Shape::Some(&FOR), "What is retried: failure, timeout, \"exit:75\" (all)."),
    key("if", Shape::Expression, "A condition over error and attempt."),
];

/// The keys of `defaults` beside those of executors.
pub(crate) const DEFAULTS: &[Key] = &[
    key(
        "retries",
        Shape::OneOf(&[COUNT, Shape::Ref("retries")]),
        "Attempts after the first, on failure.",
    ),
    key("timeout", Shape::Duration, "How long one attempt may take."),
    key("grace", Shape::Duration, "The time between the polite stop and the kill (10s)."),
    key("worker_queue", Shape::WorkflowName, "Which workers may take them (`default`)."),
    key("pool", POOL_USE, "A semaphore of the project that an attempt holds."),
    key("priority", Shape::Int(-100, 100), "The higher goes first within its run (0)."),
    later("resources"),
    later("isolation"),
];

/// What other tools call the keys of a file.
pub(crate) const FILE_WORDS: &[(&str, &str)] = &[
    ("schedule", "schedules"),
    ("cron", "schedules"),
    ("on", "schedules"),
    ("parameters", "params"),
    ("inputs", "params"),
    ("variables", "params"),
    ("jobs", "tasks"),
    ("steps", "tasks"),
    ("nodes", "tasks"),
    ("dag", "tasks"),
    ("environment", "env"),
    ("outputs", "output"),
    ("default_args", "defaults"),
    ("always", "finally"),
    ("on_exit", "finally"),
];

/// What other tools call the keys of a task.
pub(crate) const TASK_WORDS: &[(&str, &str)] = &[
    ("needs", "depends_on"),
    ("depends", "depends_on"),
    ("dependencies", "depends_on"),
    ("upstream", "depends_on"),
    ("if", "when"),
    ("condition", "when"),
    ("retry", "retries"),
    ("retry_policy", "retries"),
    ("with", "inputs"),
    ("arguments", "inputs"),
    ("params", "inputs"),
    ("parameters", "inputs"),
    ("environment", "env"),
    ("continue_on_error", "allow_failure"),
    ("continue-on-error", "allow_failure"),
    ("timeout_seconds", "timeout"),
    ("timeout-minutes", "timeout"),
    ("execution_timeout", "timeout"),
    ("foreach", "for_each"),
    ("matrix", "for_each"),
    ("queue", "worker_queue"),
    ("loop", "for_each"),
    ("with_items", "for_each"),
    ("map", "for_each"),
    ("concurrency", "max_parallel"),
    ("parallelism", "max_parallel"),
];

/// The key that `table` has under a name.
pub(crate) fn find(table: &'static [Key], name: &str) -> Option<&'static Key> {
    table.iter().find(|key| key.name == name)
}

/// What this language calls another tool's word.
pub(crate) fn translate(words: &[(&str, &'static str)], word: &str) -> Option<&'static str> {
    words.iter().find(|(other, _)| *other == word).map(|(_, ours)| *ours)
}
