//! A layout as text.

use super::super::tree::{Literal, Scalar, Style};
use super::layout::{Above, Layout, Line, Value};

/// What stays within brackets must fit within this many columns.
const WIDTH: usize = 100;

pub(super) fn document(layout: &Layout) -> String {
    let mut out = String::new();
    match &layout.value {
        value @ Value::Lines { lines, .. } if lines.is_empty() => {
            out.push_str(&inline(value).unwrap_or_default());
            out.push('\n');
        }
        Value::Lines { lines, tail, .. } => block(lines, tail, 0, &mut out),
        value => {
            out.push_str(&inline(value).unwrap_or_default());
            out.push('\n');
        }
    }
    out
}

fn block(lines: &[Line], tail: &[Above], indent: usize, out: &mut String) {
    for line in lines {
        comments(&line.above, indent, out);
        pad(indent, out);
        entry(line, indent, out);
    }
    comments(tail, indent, out);
}

fn comments(lines: &[Above], indent: usize, out: &mut String) {
    for line in lines {
        if let Some(text) = line {
            pad(indent, out);
            out.push_str(text);
        }
        out.push('\n');
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// An entry whose indent has been written.
fn entry(line: &Line, indent: usize, out: &mut String) {
    match &line.key {
        Some(key) => {
            out.push_str(&quoted(key, true));
            out.push(':');
        }
        None => out.push('-'),
    }
    match &line.value {
        Value::Scalar(scalar) if as_block(scalar) => {
            header(&format!("|{}", chomp(&scalar.text)), line, out);
            text_lines(scalar.text.trim_end_matches('\n').split('\n'), indent + 2, out);
            let more = scalar.text.len() - scalar.text.trim_end_matches('\n').len();
            out.extend(std::iter::repeat_n('\n', more.saturating_sub(1)));
        }
        Value::Folded(lines, text) => {
            header(&format!(">{}", chomp(text)), line, out);
            text_lines(lines.iter().map(String::as_str), indent + 2, out);
        }
        Value::Lines { lines, tail, map, flow } => {
            let width = out.len() - out.rfind('\n').map_or(0, |n| n + 1);
            let fits = inline(&line.value).filter(|text| width + 1 + text.chars().count() <= WIDTH);
            match fits {
                Some(text) if *flow || lines.is_empty() && tail.is_empty() => {
                    header(&text, line, out);
                }
                _ => nested(line, lines, tail, *map, indent, out),
            }
        }
        Value::Scalar(scalar) => header(&plain(scalar, false), line, out),
    }
}

/// What follows a key on its line.
fn header(text: &str, line: &Line, out: &mut String) {
    if !text.is_empty() {
        out.push(' ');
        out.push_str(text);
    }
    if let Some(comment) = &line.right {
        out.push(' ');
        out.push_str(comment);
    }
    out.push('\n');
}

fn text_lines<'l>(lines: impl Iterator<Item = &'l str>, indent: usize, out: &mut String) {
    for line in lines {
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// A block below its key, or beside its dash.
fn nested(line: &Line, lines: &[Line], tail: &[Above], map: bool, indent: usize, out: &mut String) {
    let beside = line.key.is_none() && line.right.is_none() && map;
    match lines.split_first() {
        Some((first, rest)) if beside && first.above.is_empty() => {
            out.push(' ');
            entry(first, indent + 2, out);
            block(rest, tail, indent + 2, out);
        }
        _ => {
            header("", line, out);
            block(lines, tail, indent + 2, out);
        }
    }
}

/// Whether a scalar is written after `|`.
fn as_block(scalar: &Scalar) -> bool {
    let text = &scalar.text;
    let first = text.trim_start_matches('\n');
    scalar.style == Style::Block
        && !text.trim_end_matches('\n').is_empty()
        && !first.starts_with([' ', '\t'])
        && text.chars().all(|c| c == '\n' || c == '\t' || printable(c))
}

/// How a block's last line ends.
pub(super) fn chomp(text: &str) -> &'static str {
    match text.len() - text.trim_end_matches('\n').len() {
        0 => "-",
        1 => "",
        _ => "+",
    }
}

/// A value on one line; none for what holds comments or a block.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Scalar(scalar) => Some(plain(scalar, true)),
        Value::Folded(_, text) => Some(quoted(text, true)),
        Value::Lines { lines, map, .. } => {
            let parts: Vec<_> = lines.iter().map(inline_entry).collect::<Option<_>>()?;
            Some(match (*map, parts.is_empty()) {
                (true, true) => "{}".into(),
                (true, false) => format!("{{ {} }}", parts.join(", ")),
                (false, _) => format!("[{}]", parts.join(", ")),
            })
        }
    }
}

fn inline_entry(line: &Line) -> Option<String> {
    if line.right.is_some() || line.above.iter().any(Option::is_some) {
        return None;
    }
    let value = inline(&line.value)?;
    Some(match &line.key {
        Some(key) if value.is_empty() => format!("{}:", quoted(key, true)),
        Some(key) => format!("{}: {value}", quoted(key, true)),
        None if value.is_empty() => "null".into(),
        None => value,
    })
}

/// A scalar on one line: words that mean null, numbers and bools as they are, text quoted where it
/// must be.
fn plain(scalar: &Scalar, flow: bool) -> String {
    match scalar.literal() {
        Literal::Str(text) => quoted(text, flow),
        _ => scalar.text.clone(),
    }
}

/// Text with quotes where YAML needs them.
fn quoted(text: &str, flow: bool) -> String {
    if safe(text, flow) {
        return text.to_owned();
    }
    let single = text.contains(['"', '\\']) && !text.contains('\'') && text.chars().all(printable);
    if single { format!("'{text}'") } else { double(text) }
}

fn double(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push_str(&format!("\\U{:08X}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Whether YAML takes a character as it is, and people can see it.
fn printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{FEFF}' | '\u{2028}' | '\u{2029}' | '\u{FFFE}' | '\u{FFFF}')
}

/// Words that older YAML takes for bools.
const OLD_BOOLS: &[&str] = &["yes", "no", "on", "off"];

/// Whether text means itself without quotes.
fn safe(text: &str, flow: bool) -> bool {
    let scalar = Scalar { text: text.to_owned(), style: Style::Plain };
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    let indicator = match first {
        None => true,
        Some('-' | '?' | ':') => second.is_none_or(|c| c == ' ' || ",[]{}".contains(c)),
        Some(c) => ",[]{}#&*!|>'\"%@`".contains(c),
    };
    matches!(scalar.literal(), Literal::Str(_))
        && !indicator
        && text.trim() == text
        && text.chars().all(printable)
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with(':')
        && !text.starts_with("---")
        && !text.starts_with("...")
        && text != "<<"
        && !(flow && text.contains([',', '[', ']', '{', '}']))
        && !OLD_BOOLS.contains(&text.to_ascii_lowercase().as_str())
}
