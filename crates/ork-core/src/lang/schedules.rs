//! `schedules`: when runs are made by themselves.

use indexmap::IndexMap;

use super::Lower;
use super::binding::Bind;
use super::given::before_a_run;
use super::keys::SCHEDULE;
use super::read::{Fields, Known};
use super::tree::{Entry, Literal, Node};
use crate::plan::{Catchup, Param, Schedule, When};
use crate::schedule::{
    CronError, MAX_CATCHUP, MAX_SCHEDULES, MAX_TIMES, MIN_INTERVAL, ScheduleError, Timetable, Zone,
};
use crate::time::{Span, Wall};

/// What other tools call the keys of a schedule.
const WORDS: &[(&str, &str)] = &[
    ("schedule", "cron"),
    ("expression", "cron"),
    ("every", "interval"),
    ("tz", "timezone"),
    ("time_zone", "timezone"),
    ("zone", "timezone"),
    ("backfill", "catchup"),
    ("inputs", "params"),
    ("parameters", "params"),
    ("enabled", "paused"),
    ("disabled", "paused"),
    ("suspend", "paused"),
];

impl Lower<'_> {
    /// The schedules of a file, by name.
    pub(crate) fn schedules(
        &mut self,
        node: &Node,
        params: &IndexMap<String, Param>,
    ) -> IndexMap<String, Schedule> {
        let mut schedules = IndexMap::new();
        let entries = self.map(node, "`schedules`").unwrap_or_default();
        if entries.len() > MAX_SCHEDULES {
            let message = format!("a workflow has at most {MAX_SCHEDULES} schedules");
            self.report.error(node.place, "schedule-limit", message);
        }
        for entry in entries {
            self.check_name(&entry.key, entry.place, "a schedule");
            if let Some(schedule) = self.schedule(entry, params) {
                schedules.insert(entry.key.clone(), schedule);
            }
        }
        schedules
    }

    fn schedule(&mut self, entry: &Entry, params: &IndexMap<String, Param>) -> Option<Schedule> {
        let known = Known { what: "a schedule", table: SCHEDULE, also: &[], words: WORDS };
        let fields = self.fields(&entry.value, &known)?;
        if let Some(node) = fields.get("dst") {
            self.word(node, "`dst`", &["once"]);
        }
        let zone = self.zone(&fields);
        let when = self.schedule_rule(entry, &fields, zone.as_ref());
        let catchup = fields.get("catchup").map(|node| self.catchup(node));
        let jitter = fields.get("jitter").map(|node| self.duration(node, "`jitter`"));
        let paused = fields.get("paused").map(|node| self.boolean(node, "`paused`"));
        let (giver, mut bind) =
            (format!("the schedule `{}`", entry.key), Bind::new(before_a_run(&[])));
        let params =
            self.given_params(fields.get("params"), params, &mut bind, (&giver, entry.place));
        Some(Schedule {
            when: when?,
            timezone: zone?.name().to_owned(),
            catchup: catchup.unwrap_or(Some(Catchup::None))?,
            jitter: jitter.unwrap_or(Some(Span::ZERO))?,
            params: params?,
            paused: paused.unwrap_or(Some(false))?,
        })
    }

    fn zone(&mut self, fields: &Fields) -> Option<Zone> {
        let Some(node) = fields.get("timezone") else { return Zone::named("UTC").ok() };
        let name = self.fixed_text(node, "`timezone`")?;
        match Zone::named(name) {
            Ok(zone) => Some(zone),
            Err(error) => {
                let hint = match &error {
                    ScheduleError::Zone { nearest: Some(near), .. } => {
                        format!("did you mean `{near}`?")
                    }
                    _ => "names are such as `Europe/Berlin` and `UTC`".to_owned(),
                };
                self.report.error(node.place, "unknown-zone", error.to_string()).hint(hint);
                None
            }
        }
    }

    /// The one rule of a schedule.
    fn schedule_rule(
        &mut self,
        entry: &Entry,
        fields: &Fields,
        zone: Option<&Zone>,
    ) -> Option<When> {
        let rules = ["cron", "interval", "at"];
        let given: Vec<_> = rules.into_iter().filter(|rule| fields.get(rule).is_some()).collect();
        match given.as_slice() {
            [rule] => {
                let node = fields.get(rule)?;
                match *rule {
                    "cron" => self.cron(node),
                    "interval" => self.interval(node),
                    _ => self.listed_times(node, zone?),
                }
            }
            [] => {
                let message = format!("the schedule `{}` does not say when", entry.key);
                self.report
                    .error(entry.place, "missing-key", message)
                    .hint("give it one of `cron`, `interval` and `at`");
                None
            }
            [first, second, ..] => {
                let message = format!("`{first}` and `{second}` cannot stand together");
                self.report
                    .error(fields.key_place(second), "two-rules", message)
                    .hint("one rule each: make them two schedules");
                None
            }
        }
    }

    fn cron(&mut self, node: &Node) -> Option<When> {
        let text = self.fixed_text(node, "`cron`")?;
        let when = When::Cron(text.to_owned());
        match Timetable::new(&when, "UTC") {
            Err(ScheduleError::Cron(error)) => {
                self.bad_cron(node, text, error);
                None
            }
            _ => Some(when),
        }
    }

    fn bad_cron(&mut self, node: &Node, text: &str, error: CronError) {
        let byte = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(i, _)| i);
        let (from, to) = (byte(error.offset), byte(error.offset + error.length));
        let place = node.part(self.report.text(), from, (to - from).max(1));
        let found = self.report.error(place, "bad-cron", error.message);
        if let Some(hint) = error.hint {
            found.hint(hint);
        }
    }

    fn interval(&mut self, node: &Node) -> Option<When> {
        let every = self.duration(node, "`interval`")?;
        if every < MIN_INTERVAL {
            let message = ScheduleError::Interval(every).to_string();
            self.report.error(node.place, "out-of-range", message);
            return None;
        }
        Some(When::Interval(every))
    }

    /// One time, or a list.
    fn listed_times(&mut self, node: &Node, zone: &Zone) -> Option<When> {
        let nodes = node.items().unwrap_or(std::slice::from_ref(node));
        if nodes.is_empty() || nodes.len() > MAX_TIMES {
            let message = format!("`at` holds from 1 to {MAX_TIMES} times, not {}", nodes.len());
            self.report.error(node.place, "out-of-range", message);
            return None;
        }
        let times: Vec<_> = nodes.iter().map(|node| self.time(node, zone)).collect();
        let mut times: Vec<Wall> = times.into_iter().collect::<Option<_>>()?;
        times.sort_unstable();
        if let Some(pair) = times.windows(2).find(|pair| pair[0] == pair[1]) {
            let message = format!("`at` holds {} twice", zone.show(pair[0]));
            self.report.error(node.place, "duplicate-time", message);
            return None;
        }
        Some(When::At(times))
    }

    fn time(&mut self, node: &Node, zone: &Zone) -> Option<Wall> {
        let text = self.fixed_text(node, "`at`")?;
        match zone.read(text) {
            Ok(at) => Some(at),
            Err(message) => {
                self.report
                    .error(node.place, "bad-time", message)
                    .hint("such as `2026-12-01T08:00`, in the schedule's zone");
                None
            }
        }
    }

    /// `none`, `last`, `all`, or `{max: N}`.
    fn catchup(&mut self, node: &Node) -> Option<Catchup> {
        if node.entries().is_none() {
            let at = self.word(node, "`catchup`", &["none", "last", "all"])?;
            return Some([Catchup::None, Catchup::Last, Catchup::All][at]);
        }
        let known = Known { what: "`catchup`", table: super::keys::CATCHUP, also: &[], words: &[] };
        let fields = self.fields(node, &known)?;
        let Some(max) = fields.get("max") else {
            self.report.error(node.place, "missing-key", "`catchup` needs `max`");
            return None;
        };
        let most = u32::try_from(MAX_CATCHUP).unwrap_or(u32::MAX);
        match max.scalar().map(super::tree::Scalar::literal) {
            Some(Literal::Int(0)) => {
                let found = self.report.error(max.place, "out-of-range", "`max` is at least 1");
                found.hint("write `catchup: none`");
                None
            }
            _ => self.integer(max, "`max`", most).map(Catchup::Max),
        }
    }
}
