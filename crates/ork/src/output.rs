//! What goes to standard output: data, in the form that was asked for. All else goes to standard
//! error.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::Value;

use crate::exit::{Exit, Failure, Result};

/// The form of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names or ids alone, one a line.
    Name,
}

/// Writes text as it is. A reader that has gone away is no error.
pub(crate) fn write(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Ok, String::new()))
        }
        other => other.map_err(|error| Failure::failed(format!("standard output: {error}"))),
    }
}

/// A sentence for a person, on standard error.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Whether a person watches standard error.
pub(crate) fn is_live() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Items in the form that was asked for: `name` gives an item's name, `table` shows them all.
pub(crate) fn list<T: Serialize>(
    format: Format,
    items: &[T],
    name: impl Fn(&T) -> String,
    table: impl FnOnce(&[T]) -> String,
) -> Result<()> {
    match format {
        Format::Table => write(&table(items)),
        Format::Name => write(&items.iter().map(|item| name(item) + "\n").collect::<String>()),
        Format::Json | Format::Yaml => write(&structured(format, &items)),
    }
}

/// One thing in the form that was asked for.
pub(crate) fn one<T: Serialize>(
    format: Format,
    item: &T,
    name: &str,
    text: impl FnOnce(&T) -> String,
) -> Result<()> {
    match format {
        Format::Table => write(&text(item)),
        Format::Name => write(&format!("{name}\n")),
        Format::Json | Format::Yaml => write(&structured(format, item)),
    }
}

/// A value as YAML, or as JSON.
pub(crate) fn structured<T: Serialize + ?Sized>(format: Format, item: &T) -> String {
    let value = serde_json::to_value(item).unwrap_or_default();
    if format == Format::Yaml { yaml(&value) } else { format!("{value:#}\n") }
}

/// A value as YAML in block style.
fn yaml(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (i, (key, value)) in fields.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { &pad });
                out.push_str(&plain(key));
                out.push(':');
                below(value, indent + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, value) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { &pad });
                out.push_str("- ");
                block(value, indent + 2, out);
            }
        }
        Value::String(text) => out.extend([&plain(text), "\n"]),
        scalar => out.extend([&scalar.to_string(), "\n"]),
    }
}

/// A key's value: beside it if it is a scalar or empty, else on the lines below.
fn below(value: &Value, indent: usize, out: &mut String) {
    let nested = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        out.push_str(&" ".repeat(indent));
    } else {
        out.push(' ');
    }
    block(value, indent, out);
}

/// Text without quotes where it can only be read as text, else in JSON's, which are YAML's too.
fn plain(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || "_-./ ".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let reserved = reserved.contains(&text.to_ascii_lowercase().as_str());
    if begins && !reserved && !text.ends_with(' ') && text.chars().all(word) {
        return text.to_owned();
    }
    Value::from(text).to_string()
}

/// Rows under a head, in columns as wide as they need to be, two spaces between.
pub(crate) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let widest =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max();
    let widths: Vec<_> = (0..rows[0].len()).map(|at| widest(at).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, wide)| cell.clone() + &" ".repeat(wide.saturating_sub(width(cell)) + 2))
            .collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// How many columns a text takes on a terminal; colour codes take none.
fn width(text: &str) -> usize {
    let plain = anstream::adapter::strip_str(text).to_string();
    unicode_width::UnicodeWidthStr::width(plain.as_str())
}

/// A length of time as people say it: `12ms`, `1.3s`, `2m 5s`, `2h 10m`.
pub(crate) fn duration(micros: i64) -> String {
    let millis = micros.max(0) / 1_000;
    let seconds = millis / 1_000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}.{}s", millis / 100 % 10),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (micros, text) in [
            (-5, "0ms"),
            (12_900, "12ms"),
            (999_999, "999ms"),
            (1_260_000, "1.2s"),
            (59_999_999, "59.9s"),
            (185_000_000, "3m 5s"),
            (7_800_000_000, "2h 10m"),
        ] {
            assert_eq!(duration(micros), text);
        }
    }

    #[test]
    fn yaml_is_read_back_as_it_was() {
        let value = serde_json::json!({
            "plain": "a b", "empty": "", "no": "no", "number": "12", "colon": "a: b", "n": -1.5,
            "lines": "a\nb", "none": null, "list": [1, [2, {"x": []}], {"a": {"b": true}, "c": {}}],
        });
        let text = yaml(&value);
        assert_eq!(ork_core::lang::data("x.yaml", text.as_bytes()).unwrap(), value, "{text}");
    }

    #[test]
    fn a_table_has_no_frame_and_no_space_at_the_end() {
        let rows = [vec!["hello".to_owned(), "1".to_owned()], vec!["x".into(), "22".into()]];
        assert_eq!(table(&["NAME", "V"], rows), "NAME   V\nhello  1\nx      22\n");
    }
}
