//! What is said of the mistakes that people make: the diagnostics are part of the product.

use std::fmt::Write as _;

use super::shown;

/// Each case with what a person reads.
pub(crate) fn gallery(name: &str, cases: &[(&str, &str)]) {
    let mut out = String::new();
    for (title, yaml) in cases {
        let _ = writeln!(out, "## {title}\n{}\n", shown(yaml).trim_end());
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, out));
}

#[test]
fn yaml() {
    gallery(
        "yaml",
        &[
            (
                "an unquoted expression inside braces",
                "tasks:\n  a:\n    run: [echo]\n    inputs: { x: ${{ params.day }} }\n",
            ),
            (
                "an unquoted expression inside brackets",
                "tasks:\n  a:\n    run: [echo, ${{ params.day }}]\n",
            ),
            (
                "a bang begins a tag",
                "params: { dry_run: bool }\ntasks:\n  a:\n    when: !params.dry_run\n    run: [x]\n",
            ),
            (
                "a comment cuts an expression",
                "params: { t: str }\ntasks:\n  a:\n    when: params.t == 'release #1'\n    run: [x]\n",
            ),
            (
                "a comment cuts braces",
                "tasks:\n  a:\n    run: [x]\n    env:\n      T: ${{ 'a #1' }}\n",
            ),
            (
                "a colon inside an expression",
                "params: { t: bool }\ntasks:\n  a:\n    when: params.t ? true : false\n    run: [x]\n",
            ),
            ("an unquoted type", "params:\n  a: [str]?\ntasks: { a: { run: [x] } }\n"),
            (
                "a dict type inside braces",
                "params: { a: { type: dict[str] } }\ntasks: { a: { run: [x] } }\n",
            ),
            ("a tab", "tasks:\n\ta:\n"),
            ("a key twice", "tasks:\n  a: { run: [x] }\n  a: { run: [y] }\n"),
            ("a merge key", "x: &b { run: [y] }\ntasks:\n  a:\n    <<: *b\n"),
            ("an old bool", "tasks:\n  a:\n    run: [x]\n    allow_failure: yes\n"),
        ],
    );
}

#[test]
fn words_of_other_tools() {
    gallery(
        "words_of_other_tools",
        &[
            ("needs", "tasks:\n  a: { run: [x] }\n  b: { run: [x], needs: a }\n"),
            ("if", "params: { p: bool }\ntasks:\n  a: { run: [x], if: params.p }\n"),
            ("command", "tasks:\n  a: { command: make all }\n"),
            ("script", "tasks:\n  a: { script: make all }\n"),
            ("retry", "tasks:\n  a: { run: [x], retry: 2 }\n"),
            ("schedule", "schedule: daily\ntasks:\n  a: { run: [x] }\n"),
            ("parameters", "parameters: { a: str }\ntasks:\n  a: { run: [x] }\n"),
            (
                "string",
                "params: { a: string, b: integer, c: boolean, d: number }\ntasks:\n  a: { run: [x] }\n",
            ),
            (
                "list[str]",
                "params: { a: 'list[str]', b: 'Optional[int]', c: 'dict[str, int]' }\ntasks:\n  a: { run: [x] }\n",
            ),
            ("{{ ds }}", "tasks:\n  a: { run: [x, '{{ ds }}'] }\n"),
            (
                "{{ params.x }}",
                "params: { x: str }\ntasks:\n  a: { run: [x, 'a-{{ params.x }}'] }\n",
            ),
            (
                "always",
                "tasks:\n  a: { run: [x] }\n  b: { run: [x], depends_on: a, trigger_rule: always }\n",
            ),
            ("jobs and steps", "jobs:\n  a: { run: [x] }\n"),
        ],
    );
}

#[test]
fn settings() {
    gallery(
        "settings",
        &[
            ("run given text", "tasks:\n  a: { run: ./report.sh --all }\n"),
            ("run given shell", "tasks:\n  a: { run: 'cat x | sort > y' }\n"),
            (
                "an expression in shell",
                "params: { p: str }\ntasks:\n  a: { run: { shell: 'echo ${{ params.p }}' } }\n",
            ),
            ("two executors", "tasks:\n  a: { run: [x], python: 'a.py:f' }\n"),
            ("no executor", "tasks:\n  a: { timeout: 5s }\n"),
            ("a key of a later version", "tasks:\n  a: { run: [x], resources: { gpu: 1 } }\n"),
            ("an executor of a later version", "tasks:\n  a: { container: alpine }\n"),
            ("a misspelt key", "tasks:\n  a: { run: [x], dependson: [b], timeuot: 5s }\n"),
            (
                "a misspelt task",
                "tasks:\n  extract: { run: [x] }\n  b: { run: [x], depends_on: extrat }\n",
            ),
            (
                "a cycle",
                "tasks:\n  a: { run: [x], depends_on: c }\n  b: { run: [x], depends_on: a }\n  c: { run: [x], depends_on: b }\n",
            ),
            ("a name with a hyphen", "tasks:\n  load-all: { run: [x] }\n"),
            (
                "durations",
                "timeout: 5 minutes\ntasks:\n  a: { run: [x], timeout: 10m1h, grace: 1.5s }\n  b: { run: [x], timeout: 0 }\n",
            ),
            (
                "settings of a wrong kind",
                "timeout: [5s]\ntasks:\n  a: { run: [x], grace: { s: 5 }, retries: { max: 1, multiplier: 3000000000 } }\n",
            ),
            ("a folder outside", "tasks:\n  a: { run: { argv: [x], cwd: ../other } }\n"),
            (
                "retries",
                "tasks:\n  a: { run: [x], retries: -1 }\n  b: { run: [x], retries: { delay: 5s } }\n  c: { run: [x], retries: { max: 1, for: [crash] } }\n",
            ),
            ("a number where text is wanted", "description: 12\ntasks:\n  a: { run: [x] }\n"),
            (
                "types made of themselves",
                "types: { A: { b: B }, B: [A] }\ntasks:\n  a: { run: [x] }\n",
            ),
            ("nothing to run", "name: x\n"),
            (
                "finally waits for nobody",
                "tasks:\n  a: { run: [x] }\nfinally:\n  b: { run: [x], depends_on: a }\n",
            ),
            (
                "the older form",
                "tasks:\n  a: { executor: library, file: x.so }\n  b: { executor: process, command: ls, run: [x] }\n  c: { executor: process, command: 'ls | wc' }\n",
            ),
        ],
    );
}

#[test]
fn values_and_expressions() {
    gallery(
        "values_and_expressions",
        &[
            (
                "an unknown task",
                "tasks:\n  extract: { run: [x] }\n  b: { run: [echo, '${{ tasks.extrat.output }}'] }\n",
            ),
            (
                "an unknown param",
                "params: { day: date }\ntasks:\n  b: { run: [echo, '${{ params.dya }}'] }\n",
            ),
            (
                "a field that is not there",
                "tasks:\n  a: { run: [x], output_type: { rows: int } }\n  b: { run: [echo, '${{ tasks.a.output.row }}'] }\n",
            ),
            (
                "int times float",
                "params: { a: int, b: float }\ntasks:\n  b: { run: [echo, '${{ params.a * params.b }}'] }\n",
            ),
            (
                "a list in text",
                "params: { a: [str] }\ntasks:\n  b: { run: [echo, 'x ${{ params.a }}'] }\n",
            ),
            (
                "a list in env",
                "params: { a: [str] }\ntasks:\n  b: { run: [echo], env: { A: '${{ params.a }}', B: [x] } }\n",
            ),
            (
                "an output that may not exist",
                "tasks:\n  a: { run: [x], output_type: { rows: int }, allow_failure: true }\n  b: { run: [echo, '${{ tasks.a.output.rows }}'] }\n",
            ),
            (
                "a condition that never changes",
                "tasks:\n  a: { run: [x], when: 1 == 1 }\n  b: { run: [x], when: true }\n",
            ),
            (
                "a condition that is no bool",
                "params: { n: int }\ntasks:\n  a: { run: [x], when: params.n }\n",
            ),
            (
                "a default of a wrong type",
                "params: { n: { type: int, default: many }, s: { type: str, default: 1 } }\ntasks:\n  a: { run: [x] }\n",
            ),
            (
                "an expression that does not end",
                "params: { n: int }\ntasks:\n  a: { run: [echo, '${{ params.n'] }\n",
            ),
            (
                "inputs",
                "tasks:\n  a: { run: [x], input_type: { n: int, s: str }, inputs: { n: x, t: 1 } }\n",
            ),
            (
                "secrets and vars",
                "tasks:\n  a: { run: [x], env: { K: '${{ secrets.key }}', V: '${{ vars.v }}' } }\n",
            ),
            ("run.state outside finally", "tasks:\n  a: { run: [echo, '${{ run.state }}'] }\n"),
        ],
    );
}
