//! `ork fmt`.

use ork_core::lang::{compile, format};

use super::Files;

fn formatted(text: &str, upgrade: bool) -> String {
    let first = format("f.yaml", text.as_bytes(), upgrade).expect("it formats");
    let again = format("f.yaml", first.text.as_bytes(), upgrade).expect("it formats again");
    assert_eq!(first.text, again.text, "a second time");
    first.text
}

#[test]
fn canonical() {
    let text = "# A flow.\nname:   'daily'   # the name\n\n\n\nparams:   {day:   {type: date,  default: \"${{ run.logical_date }}\"}}\ntasks:\n    # first\n    a:\n          run: [ echo,\"x: y\",   '${{ params.day }}' ]\n          when: ${{ params.day > date('2026-01-01') }}   # never before\n          env:\n            # why\n            A: |\n               one\n               two\n            B: >-\n               folded\n               text\n    # last of tasks\n\n# end\n";
    insta::assert_snapshot!(formatted(text, false), @r#"
    # A flow.
    name: daily # the name

    params: { day: { type: date, default: "${{ run.logical_date }}" } }
    tasks:
      # first
      a:
        run: [echo, "x: y", "${{ params.day }}"]
        when: params.day > date('2026-01-01') # never before
        env:
          # why
          A: |
            one
            two
          B: >-
            folded
            text
      # last of tasks

    # end
    "#);
}

const OLDER: &str = "name: older
types:
  Out: { n: int }
  All: { out: types.Out }
tasks:
  # makes
  make:
    executor: python # which way
    file: old.py
    function: make
    timeout: 10
    input_type: { n: int, s: str }
    output_type: types.Out
    inputs:
      n: { const: 5 }
      s:
        const: 'a ${{ b'
  shell:
    executor: process
    command: cat x | sort
    depends_on: [make]
  plain:
    executor: process
    command: ./bin/plain --fast
    output_type: types.All
    inputs:
      out:
        ref: tasks.make.output
";

#[test]
fn upgrade() {
    let text = formatted(OLDER, true);
    let files = Files::new([("old.py", "def make(n: int, s: str):\n    return {'n': 1}\n")]);
    let compiled = compile("f.yaml", text.as_bytes(), &files);
    assert_eq!(compiled.diagnostics, vec![], "{text}");
    insta::assert_snapshot!(text, @r"
    name: older
    types:
      Out: { n: int }
      All: { out: Out }
    tasks:
      # makes
      make:
        python: old.py:make # which way
        timeout: 10s
        input_type: { n: int, s: str }
        output_type: Out
        inputs:
          n: 5
          s: a $${{ b
      shell:
        run: { shell: cat x | sort }
        depends_on: [make]
      plain:
        run: [./bin/plain, --fast]
        output_type: All
        inputs:
          out: ${{ tasks.make.output }}
    ");
}

#[test]
fn schedules() {
    let text = "tasks:\n  a: {run: [x]}\nschedules:\n   s:   {timezone:   Europe/Berlin,   cron: '0 2 * * *'} # at night\n";
    insta::assert_snapshot!(formatted(text, false), @"
    tasks:
      a: { run: [x] }
    schedules:
      s:
        timezone: Europe/Berlin
        cron: 0 2 * * * # at night
    ");
}
