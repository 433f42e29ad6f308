//! Figures, not tests: `cargo test --release -p ork-worker costs -- --ignored --nocapture`.

use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use crate::bed::Bed;

/// Processor time in seconds of this process and of the children that it has waited for.
fn cpu() -> f64 {
    let ticks = |text: &str| text.parse::<f64>().unwrap_or(0.0) / 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11..15].iter().map(|field| ticks(field)).sum()
}

fn show(what: &str, count: u32, began: Instant, used: f64) {
    let each = began.elapsed().as_secs_f64() * 1e3 / f64::from(count);
    let used = used * 1e3 / f64::from(count);
    println!("{what}: {count} took {:.3} s, {each:.3} ms each", began.elapsed().as_secs_f64());
    println!("    processor time of this process and its children: {used:.3} ms each");
}

#[tokio::test]
#[ignore = "prints figures"]
async fn programs_in_a_row() {
    const COUNT: u32 = 400;
    let (began, used) = (Instant::now(), cpu());
    for _ in 0..COUNT {
        let mut command = Command::new("/bin/true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    }
    show("posix_spawn of `true`", COUNT, began, cpu() - used);
    let mut bed = Bed::new();
    let spec = json!({"argv": ["true"], "output": "file"});
    bed.run(bed.assignment("run", spec.clone())).await;
    let (began, used) = (Instant::now(), cpu());
    for _ in 0..COUNT {
        bed.run(bed.assignment("run", spec.clone())).await;
    }
    show("attempts of `true`, without the spawner's time", COUNT, began, cpu() - used);
    let began = Instant::now();
    for _ in 0..COUNT / 4 {
        let four = [0; 4].map(|_| bed.assign(bed.assignment("run", spec.clone())));
        for attempt in four {
            bed.finished(&attempt).await;
        }
    }
    show("the same, four at a time", COUNT, began, 0.0);
    bed.leave(std::time::Duration::ZERO).await;
}

#[tokio::test]
#[ignore = "prints figures"]
async fn functions_in_a_row() {
    const COUNT: u32 = 40;
    let began = Instant::now();
    for _ in 0..COUNT {
        let mut command = Command::new("python3");
        command.args(["-c", "pass"]).stdin(Stdio::null()).status().unwrap();
    }
    show("cold interpreters", COUNT, began, 0.0);
    let bed = Bed::new();
    bed.file(
        "code.py",
        "def fib(n: int) -> int:\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n",
    );
    let began = Instant::now();
    for _ in 0..COUNT {
        let spec = json!({"file": "code.py", "function": "fib"});
        let mut assignment = bed.assignment("python", spec);
        assignment.inputs.insert("n".into(), ork_core::value::Data::Inline(json!(10)));
        assert_eq!(crate::bed::output(&bed.run(assignment).await), json!(55));
    }
    show("functions, the warm parent's start included", COUNT, began, 0.0);
}
