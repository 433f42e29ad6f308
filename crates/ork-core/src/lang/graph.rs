//! A plan's graph as text: a tree for people, Mermaid and DOT for tools.

use std::fmt::Write as _;

use crate::plan::{Action, Binding, Items, Plan, Scope, Task, TriggerRule};

/// How a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphFormat {
    /// Each task under the upstream that it waits for longest, for people.
    Text,
    /// Mermaid's `flowchart`.
    Mermaid,
    /// Graphviz.
    Dot,
}

/// The graph of a plan.
pub fn graph(plan: &Plan, format: GraphFormat) -> String {
    match format {
        GraphFormat::Text => text(plan),
        GraphFormat::Mermaid => mermaid(plan),
        GraphFormat::Dot => dot(plan),
    }
}

fn text(plan: &Plan) -> String {
    let mut out = format!("{}\n", plan.name);
    tree(&plan.body, "", &mut out);
    if !plan.finally.tasks.is_empty() {
        out.push_str("finally\n");
        tree(&plan.finally, "", &mut out);
    }
    out
}

/// How deep each task stands: one more than the deepest of its upstreams.
fn levels(scope: &Scope) -> Vec<usize> {
    let tasks = &scope.tasks;
    let mut downstream = vec![Vec::new(); tasks.len()];
    let mut open: Vec<_> = tasks.iter().map(|task| task.upstreams.len()).collect();
    for (at, task) in tasks.iter().enumerate() {
        task.upstreams.iter().for_each(|up| downstream[*up].push(at));
    }
    let mut level = vec![0; tasks.len()];
    let mut ready: Vec<_> = (0..tasks.len()).filter(|at| open[*at] == 0).collect();
    while let Some(at) = ready.pop() {
        for next in &downstream[at] {
            level[*next] = level[*next].max(level[at] + 1);
            open[*next] -= 1;
            if open[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    level
}

/// Writes each task once, under the deepest of its upstreams; the others are named beside it. The
/// tasks of a group stand below it behind a dotted line.
fn tree(scope: &Scope, before: &str, out: &mut String) {
    let level = levels(scope);
    let parent = |task: &Task| task.upstreams.iter().copied().max_by_key(|up| level[*up]);
    let mut children = vec![Vec::new(); scope.tasks.len() + 1];
    for (at, task) in scope.tasks.iter().enumerate() {
        children[parent(task).unwrap_or(scope.tasks.len())].push(at);
    }
    // Each entry: a task, the lines before it, whether it is the last of its siblings.
    let mut open: Vec<(usize, String, bool)> = Vec::new();
    let push = |open: &mut Vec<_>, of: usize, prefix: &str| {
        for (i, at) in children[of].iter().enumerate().rev() {
            open.push((*at, prefix.to_owned(), i + 1 == children[of].len()));
        }
    };
    push(&mut open, scope.tasks.len(), before);
    while let Some((at, prefix, last)) = open.pop() {
        let task = &scope.tasks[at];
        let arm = if last { "└─ " } else { "├─ " };
        let others = task.upstreams.iter().filter(|up| Some(**up) != parent(task));
        let others: Vec<_> = others.map(|up| scope.tasks[*up].name.as_str()).collect();
        let also = if others.is_empty() {
            String::new()
        } else {
            format!(", after {}", others.join(", "))
        };
        let _ = writeln!(out, "{prefix}{arm}{}{}{also}", task.name, remarks(task));
        let below = format!("{prefix}{}", if last { "   " } else { "│  " });
        if let Action::Group { tasks, .. } = &task.action {
            tree(tasks, &format!("{below}┊ "), out);
        }
        push(&mut open, at, &below);
    }
}

/// What is worth knowing of a task beside its name.
fn remarks(task: &Task) -> String {
    let mut out = String::new();
    match &task.action {
        Action::Execute { .. } | Action::Group { .. } => {}
        Action::Generate { .. } => out.push_str(" (made at run time)"),
        Action::Call { workflow, .. } => {
            let _ = write!(out, " (workflow {workflow})");
        }
        Action::Approval(_) => out.push_str(" (approval)"),
        Action::Wait(_) => out.push_str(" (wait)"),
    }
    if let Some(for_each) = &task.for_each {
        let _ = match &for_each.items {
            Items::List(Binding::Expr(expr)) => write!(out, " for each of {}", expr.source),
            Items::List(Binding::Const(serde_json::Value::Array(items))) => {
                write!(out, " for each of {}", items.len())
            }
            Items::List(_) => write!(out, " for each"),
            Items::Matrix { axes, .. } => {
                let names: Vec<_> = axes.keys().map(String::as_str).collect();
                write!(out, " for each {}", names.join(" × "))
            }
        };
    }
    if let Some(when) = &task.when {
        let _ = write!(out, " when {}", when.source.replace('\n', " "));
    }
    if task.trigger_rule != TriggerRule::AllSuccess {
        let _ = write!(out, " ({})", rule(task.trigger_rule));
    }
    out
}

fn rule(rule: TriggerRule) -> String {
    match serde_json::to_value(rule) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn mermaid(plan: &Plan) -> String {
    let mut out = String::from("flowchart LR\n");
    for (prefix, scope) in scopes(plan) {
        if !prefix.is_empty() {
            let _ = writeln!(out, "  subgraph finally");
        }
        mermaid_scope(scope, prefix, &mut out);
        if !prefix.is_empty() {
            let _ = writeln!(out, "  end");
        }
    }
    out
}

fn mermaid_scope(scope: &Scope, prefix: &str, out: &mut String) {
    for task in &scope.tasks {
        // A prefix keeps a task called `end` from being a word of Mermaid's.
        let id = format!("{prefix}t_{}", task.name);
        if let Action::Group { tasks, .. } = &task.action {
            let _ = writeln!(out, "  subgraph {id}[\"{}\"]", task.name);
            mermaid_scope(tasks, &format!("{id}_"), out);
            let _ = writeln!(out, "  end");
        } else {
            let _ = writeln!(out, "  {id}[\"{}\"]", task.name);
        }
    }
    for (from, to) in edges(scope) {
        let _ = writeln!(out, "  {prefix}t_{from} --> {prefix}t_{to}");
    }
}

fn dot(plan: &Plan) -> String {
    let mut out = format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box];\n", plan.name);
    for (prefix, scope) in scopes(plan) {
        if !prefix.is_empty() {
            let _ = writeln!(out, "  subgraph cluster_finally {{\n  label=\"finally\";");
        }
        dot_scope(scope, prefix, &mut out);
        if !prefix.is_empty() {
            out.push_str("  }\n");
        }
    }
    out.push_str("}\n");
    out
}

fn dot_scope(scope: &Scope, prefix: &str, out: &mut String) {
    for task in &scope.tasks {
        let _ = writeln!(out, "  \"{prefix}{}\" [label=\"{}\"];", task.name, task.name);
        if let Action::Group { tasks, .. } = &task.action {
            let _ = writeln!(out, "  subgraph \"cluster_{prefix}{}\" {{", task.name);
            let _ = writeln!(out, "  label=\"{}\";", task.name);
            dot_scope(tasks, &format!("{prefix}{}/", task.name), out);
            out.push_str("  }\n");
        }
    }
    for (from, to) in edges(scope) {
        let _ = writeln!(out, "  \"{prefix}{from}\" -> \"{prefix}{to}\";");
    }
}

fn scopes(plan: &Plan) -> impl Iterator<Item = (&'static str, &Scope)> {
    let finally = Some(("finally_", &plan.finally)).filter(|(_, scope)| !scope.tasks.is_empty());
    std::iter::once(("", &plan.body)).chain(finally)
}

fn edges(scope: &Scope) -> impl Iterator<Item = (&str, &str)> {
    scope.tasks.iter().flat_map(|task| {
        task.upstreams.iter().map(|up| (scope.tasks[*up].name.as_str(), task.name.as_str()))
    })
}
