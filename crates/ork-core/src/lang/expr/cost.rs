//! The static bound on what an expression costs.

use super::Problem;
use super::ast::{Each, Function, Kind, Node};
use super::value::MAX_LIST;

/// The most that an expression may cost: nodes, each times the sizes of the lists it is done for.
const MAX_COST: u64 = 100_000;
/// The size that a list counts for when the text does not show it. What it really has is bounded
/// when the expression is evaluated.
const ASSUMED_SIZE: u64 = 100;
/// How many items of a range that is made once cost as much as one step: they are counted, not
/// evaluated.
const RANGE_ITEMS: u64 = 10;
/// How deep macros may stand in each other.
const MAX_MACROS: usize = 2;

/// What is too expensive in an expression.
pub(super) fn check(node: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    macros(node, 0, &mut problems);
    ranges(node, &mut problems);
    let cost = cost(node, RANGE_ITEMS);
    if problems.is_empty() && cost > MAX_COST {
        let message = format!("the expression costs {cost} steps; {MAX_COST} is the most");
        problems.push(
            Problem::new(node.at, "expr-limit", message)
                .hint(Some("shorten it, or do this in a task")),
        );
    }
    problems
}

/// `items` of a range cost one step.
fn cost(node: &Node, items: u64) -> u64 {
    match &node.kind {
        Kind::Each(each) => {
            let only = each.only.as_ref().map_or(0, |only| cost(only, 1));
            let inner = cost(&each.body, 1).saturating_add(only);
            let times = inner.saturating_mul(size(&each.list).max(1));
            times.saturating_add(cost(&each.list, items)).saturating_add(1)
        }
        Kind::Call(Function::Range, _) => (size(node) / items).saturating_add(1),
        _ => {
            let children = node.children().into_iter();
            children.map(|child| cost(child, items)).fold(1, u64::saturating_add)
        }
    }
}

/// How many items a list may have, as far as the text shows it.
fn size(list: &Node) -> u64 {
    match &list.kind {
        Kind::List(items) => items.len() as u64,
        Kind::Map(entries) => entries.len() as u64,
        Kind::Each(each) => size(&each.list),
        Kind::Call(Function::Succeeded, args) => args.first().map_or(0, size),
        Kind::Call(Function::Range, args) => range_size(args).unwrap_or(ASSUMED_SIZE),
        Kind::Binary(_, a, b) => size(a).saturating_add(size(b)),
        Kind::Choice(_, a, b) | Kind::Default(a, b) => size(a).max(size(b)),
        _ => ASSUMED_SIZE,
    }
}

fn range_size(args: &[Node]) -> Option<u64> {
    let bounds: Option<Vec<i64>> = args
        .iter()
        .map(|arg| match arg.kind {
            Kind::Int(n) => Some(n),
            _ => None,
        })
        .collect();
    match *bounds?.as_slice() {
        [end] => Some(u64::try_from(end).unwrap_or(0)),
        [start, end] => Some(u64::try_from(end.saturating_sub(start)).unwrap_or(0)),
        _ => None,
    }
}

fn ranges(node: &Node, problems: &mut Vec<Problem>) {
    if let Kind::Call(Function::Range, args) = &node.kind
        && range_size(args).is_some_and(|size| size > MAX_LIST as u64)
    {
        let message = format!("a list has at most {MAX_LIST} items");
        problems.push(Problem::new(node.at, "expr-limit", message));
    }
    node.children().into_iter().for_each(|child| ranges(child, problems));
}

fn macros(node: &Node, depth: usize, problems: &mut Vec<Problem>) {
    let Kind::Each(each) = &node.kind else {
        return node.children().into_iter().for_each(|child| macros(child, depth, problems));
    };
    if depth == MAX_MACROS {
        let message = format!("macros over lists may stand in each other {MAX_MACROS} deep");
        let hint = Some("do this in a task");
        return problems.push(Problem::new(node.at, "expr-limit", message).hint(hint));
    }
    let Each { list, only, body, .. } = &**each;
    macros(list, depth, problems);
    only.iter().chain([body]).for_each(|node| macros(node, depth + 1, problems));
}
