//! Lines of logs, as people read them.

use std::fmt::Write as _;

use ork_api::types::{Gap, LogLine};
use ork_core::logs::Level;
use owo_colors::OwoColorize as _;
use serde_json::{Map, Value};

/// A line with its task's name before it, where it is `named`; what was not kept before it or of
/// it is said in its place.
pub(crate) fn shown(line: &LogLine, named: Option<&str>) -> String {
    let name = named.map(|path| format!("{path} | ")).unwrap_or_default();
    let gap = line.gap.map(|gap| format!("{name}{}\n", not_kept(gap).dimmed()));
    let mut shown = gap.unwrap_or_default() + &name + &text(line);
    if line.cut > 0 {
        let _ = write!(shown, " {}", format!("… {} not kept", size(line.cut)).dimmed());
    }
    shown
}

fn not_kept(gap: Gap) -> String {
    let lines = if gap.lines == 1 { "line" } else { "lines" };
    format!("… {} not kept ({} {lines}) …", size(gap.bytes), gap.lines)
}

/// The line's text; a structured one as `WARN message key=value`.
pub(crate) fn text(line: &LogLine) -> String {
    structured(line).unwrap_or_else(|| line.text.clone())
}

fn structured(line: &LogLine) -> Option<String> {
    if !line.text.starts_with('{') {
        return None;
    }
    let fields: Map<String, Value> = serde_json::from_str(&line.text).ok()?;
    let (_, message) = (fields.get("level")?.as_str()?, fields.get("message")?);
    let mut text = format!("{} {}", level(line.level), word(message, false));
    for (key, value) in fields.iter().filter(|(key, _)| *key != "level" && *key != "message") {
        let _ = write!(text, " {}{}", format!("{key}=").dimmed(), word(value, true));
    }
    Some(text)
}

fn level(level: Level) -> String {
    match level {
        Level::Debug => "DEBUG".dimmed().to_string(),
        Level::Info => "INFO".green().to_string(),
        Level::Warn => "WARN".yellow().to_string(),
        Level::Error => "ERROR".red().to_string(),
    }
}

fn word(value: &Value, quoted: bool) -> String {
    match value {
        Value::String(text) if !quoted || !text.contains([' ', '"', '=', '\n']) => text.clone(),
        other => other.to_string(),
    }
}

/// A number of bytes: `12 B`, `3.4 MiB`.
fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10);
    while tenths >= 10_240 && unit < 4 {
        tenths /= 1_024;
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB"][unit];
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {name}"),
        (whole, tenth) => format!("{whole}.{tenth} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use ork_api::stamp::Stamp;
    use ork_core::logs::Stream;
    use ork_core::time::Wall;

    use super::*;

    #[test]
    fn lines_for_people() {
        let line = |level, text: &str| LogLine {
            path: None,
            seq: 1,
            at: Stamp(Wall(0)),
            stream: Stream::Stdout,
            level,
            text: text.into(),
            cut: 0,
            gap: None,
        };
        let plain =
            |line: &LogLine| anstream::adapter::strip_str(&shown(line, Some("load"))).to_string();
        let json = r#"{"level": "warning", "message": "disk is nearly full", "free": 12}"#;
        let quoted = r#"{"message": {"a": 1}, "level": "error", "path": "a b", "kind": "io"}"#;
        for (level, text, expected) in [
            (Level::Info, "hello", "load | hello"),
            (Level::Warn, json, "load | WARN disk is nearly full free=12"),
            (Level::Error, quoted, "load | ERROR {\"a\":1} path=\"a b\" kind=io"),
            (Level::Info, "{\"message\": \"no level\"}", "load | {\"message\": \"no level\"}"),
            (Level::Info, "{broken", "load | {broken"),
        ] {
            assert_eq!(plain(&line(level, text)), expected);
        }
        let gap = Some(Gap { lines: 3, bytes: 12 << 20 });
        let holed = LogLine { cut: 1_500, gap, ..line(Level::Info, "hello") };
        assert_eq!(
            plain(&holed),
            "load | … 12 MiB not kept (3 lines) …\nload | hello … 1.4 KiB not kept"
        );
    }
}
