//! Maps: one instance an item. Items that have not begun are a range, not instances; one is made
//! when it may begin.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::lang::expr::EvalError;
use crate::plan::{Binding, ForEach, Items};
use crate::run::active::{Cx, Desk, Run};
use crate::run::flow::{BURST, Ending};
use crate::run::inside::{Kind, broken};
use crate::run::instance::{Closing, Instance, ItemOf, Ix, Phase};
use crate::run::level::Shape;
use crate::run::machine::{Blocker, Holder};
use crate::run::pools::HOLDERS;
use crate::run::scope::{View, fit_within};
use crate::run::transition::Illegal;
use crate::run::{EventKind, Failure, FailureKind, StopReason, TaskState};
use crate::types::{Type, describe};
use crate::value::{Data, Value};

/// The most items of a map.
pub(super) const MAX_ITEMS: usize = 100_000;

/// The longest key of an item, in bytes.
const MAX_KEY: usize = 200;

/// A list of items whose JSON is longer is kept as a blob: it is part of its map's row, which is
/// written more than once.
const INLINE_ITEMS: usize = 4096;

/// How many of a map's instances may stand in the queue for a slot, or wait for the compiler,
/// before no more are made.
const AHEAD: u32 = 200;

/// How many names of items a message lists.
const NAMES: usize = 5;

/// The items of a map.
#[derive(Clone, Debug)]
pub(super) struct Map {
    /// The list, as it is kept.
    pub(super) data: Data,
    /// The list; after a restart it may have to be loaded first.
    pub(super) items: Option<Arc<Value>>,
    /// How many there are.
    pub(super) total: u32,
    /// The instances of the first of them, in order; the rest has not begun.
    pub(super) made: Vec<Ix>,
    /// How many of those are not over.
    pub(super) open: u32,
    /// Those of the open ones that are to be done again and wait for one of the places that
    /// `max_parallel` leaves.
    pub(super) waiting: BTreeSet<Ix>,
    pub(super) failed: u32,
    pub(super) skipped: u32,
    /// How many instances in it, at any depth, stand in the queue for a slot or wait for the
    /// compiler.
    pub(super) ready: u32,
    /// Whether it is among what is to be decided.
    pub(super) listed: bool,
    /// The DAG of the group that it maps, shared by the items.
    pub(super) shape: Option<Arc<Shape>>,
    /// The type of its output.
    pub(super) ty: Option<Box<Type>>,
}

impl Map {
    /// Items of which none has begun.
    pub(super) fn new(data: Data, items: Option<Arc<Value>>, total: u32) -> Self {
        Self {
            data,
            items,
            total,
            made: Vec::new(),
            open: 0,
            waiting: BTreeSet::new(),
            failed: 0,
            skipped: 0,
            ready: 0,
            listed: false,
            shape: None,
            ty: None,
        }
    }

    /// Counts an item that is not over any more, or was over.
    pub(super) fn count(&mut self, state: TaskState, add: bool) {
        let step = |n: &mut u32| *n = if add { *n + 1 } else { n.saturating_sub(1) };
        match state {
            TaskState::Success => {}
            TaskState::Skipped => step(&mut self.skipped),
            _ => step(&mut self.failed),
        }
    }

    /// How many have not begun.
    pub(super) fn left(&self) -> u32 {
        self.total - Ix::new(self.made.len()).0
    }

    /// Whether as many items are under way as may be.
    pub(super) fn is_full(&self, each: &ForEach) -> bool {
        let under_way = self.open - Ix::new(self.waiting.len()).0;
        each.max_parallel.is_some_and(|most| under_way >= most)
    }

    /// Whether another one may begin.
    fn may_begin(&self, each: &ForEach) -> bool {
        self.left() > 0
            && self.failed <= each.tolerate.of(self.total)
            && self.ready < AHEAD
            && self.waiting.is_empty()
            && !self.is_full(each)
    }

    /// Whether the map is to be looked at, since there is room in the queue again.
    pub(super) fn has_room(&self) -> bool {
        self.ready == AHEAD / 2 && self.left() > 0
    }
}

impl Run {
    pub(super) fn map(&self, ix: Ix) -> Option<&Map> {
        match &self.instance(ix).inside.as_deref()?.kind {
            Kind::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(super) fn map_mut(&mut self, ix: Ix) -> Option<&mut Map> {
        match &mut self.instance_mut(ix).inside.as_deref_mut()?.kind {
            Kind::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The map that counts an item; none where it has been made anew without that one.
    pub(super) fn map_of(&mut self, item: ItemOf) -> Option<&mut Map> {
        let inside = self.instance_mut(item.map).inside.as_deref_mut()?;
        match &mut inside.kind {
            Kind::Map(map) if inside.series == item.series => Some(map),
            _ => None,
        }
    }

    /// Evaluates the items, and begins.
    pub(super) fn open_map(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let task = self.held_task(ix);
        let Some(each) = task.for_each.as_deref() else { return Ok(()) };
        if self.kept(ix).is_none() {
            match self.take_items(ix, each, cx) {
                Ok(()) => {}
                Err(EvalError::Need(needs)) => {
                    self.park(Some(ix), needs, cx);
                    return Ok(());
                }
                Err(EvalError::Failed(message)) => {
                    return self.end(ix, TaskState::Failed, broken(message), cx);
                }
            }
        }
        let total = self.map(ix).map_or(0, |map| map.total);
        self.enter_inside(ix, total, cx)
    }

    fn take_items(&mut self, ix: Ix, each: &ForEach, cx: &mut Cx<'_>) -> Result<(), EvalError> {
        let named = |error| match error {
            EvalError::Failed(message) => EvalError::Failed(format!("for_each: {message}")),
            need @ EvalError::Need(_) => need,
        };
        let view = self.view(Some(ix), cx.desk);
        let (data, items) = list_of(&view, &each.items).map_err(named)?;
        let total = items.as_array().map_or(0, Vec::len);
        let data = match data {
            Some(data) => data,
            None => fit_within(Data::Inline(Value::clone(&items)), INLINE_ITEMS, cx.out)?,
        };
        let before = self.instance(ix).inside.clone();
        self.set_inside(ix, Kind::Map(Map::new(data, Some(items), Ix::new(total).0)));
        self.set_output_type(ix);
        if let Err(error) = self.check_keys(ix, each, total, cx.desk) {
            self.instance_mut(ix).inside = before;
            return Err(error);
        }
        Ok(())
    }

    /// The type of a map's output, from that of its items'.
    pub(super) fn set_output_type(&mut self, ix: Ix) {
        let task = self.task(ix);
        let item = task.output_type.clone();
        let strict = task.for_each.as_deref().is_some_and(|each| {
            each.when.is_none() && each.tolerate == crate::plan::Tolerate::Count(0)
        });
        let item = item.map(|ty| if strict { ty } else { ty.nullable() });
        let ty = item.map(|ty| Box::new(Type::list(ty)));
        if let Some(map) = self.map_mut(ix) {
            map.ty = ty;
        }
    }

    /// All keys are fit and no two are the same.
    fn check_keys(
        &self,
        ix: Ix,
        each: &ForEach,
        total: usize,
        desk: &Desk,
    ) -> Result<(), EvalError> {
        if each.key.is_none() {
            return Ok(());
        }
        let mut known = HashSet::with_capacity(total);
        for index in 0..Ix::new(total).0 {
            let key = self.key_of(ix, each, index, desk)?;
            if let Some(key) = known.replace(key) {
                let message = format!("item_key: two items have the key `{key}`");
                return Err(EvalError::Failed(message));
            }
        }
        Ok(())
    }

    fn key_of(&self, ix: Ix, each: &ForEach, index: u32, desk: &Desk) -> Result<String, EvalError> {
        let Some(key) = &each.key else { return Ok(index.to_string()) };
        let failed = |why: String| EvalError::Failed(format!("item_key: item {index}: {why}"));
        let view = self.view_item(ix, index, desk);
        let text = match view.value(key) {
            Ok(Value::String(text)) => text,
            Ok(Value::Number(number)) => number.to_string(),
            Ok(other) => return Err(failed(format!("{} is no text", describe(&other)))),
            Err(EvalError::Failed(why)) => return Err(failed(why)),
            Err(need) => return Err(need),
        };
        let unfit = |c: char| c.is_control() || matches!(c, '/' | '[' | ']');
        if text.is_empty() || text.len() > MAX_KEY || text.contains(unfit) {
            let why = "a key has 1 to 200 bytes, without `/`, `[`, `]` and control characters";
            return Err(failed(format!("{} cannot be a key: {why}", describe(&text.into()))));
        }
        Ok(text)
    }

    /// A map goes on: items begin, or it ends.
    pub(super) fn go_map(&mut self, ix: Ix, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        let task = self.held_task(ix);
        let Some(each) = task.for_each.as_deref() else { return Ok(()) };
        let Some(map) = self.map(ix) else { return Ok(()) };
        let spoilt = map.failed > each.tolerate.of(map.total);
        if self.closed(ix).is_none() {
            if spoilt && each.fail_fast && map.open > 0 {
                let failure = self.items_failed(ix, each);
                let reason = StopReason::Cancelled;
                return self.close(ix, &Closing { reason, failure, forced: false }, cx);
            }
            if !self.begin_items(ix, each, cx)? {
                return Ok(());
            }
        }
        match self.map(ix) {
            Some(map) if map.open == 0 => self.leave_map(ix, each, cx),
            _ => Ok(()),
        }
    }

    /// Makes items while they may begin. Whether the map may be over.
    fn begin_items(&mut self, ix: Ix, each: &ForEach, cx: &mut Cx<'_>) -> Result<bool, Illegal> {
        #[cfg(feature = "sabotage")]
        let boundless;
        #[cfg(feature = "sabotage")]
        let each = if cx.desk.config.sabotage == Some(crate::run::Sabotage::IgnoreMaxParallel) {
            boundless = ForEach { max_parallel: None, ..each.clone() };
            &boundless
        } else {
            each
        };
        while let Some(map) = self.map(ix)
            && let Some(item) = map.waiting.first().copied().filter(|_| !map.is_full(each))
        {
            self.decide(item, cx)?;
        }
        while self.map(ix).is_some_and(|map| map.may_begin(each)) {
            if self.decided >= BURST {
                self.wake(ix);
                return Ok(false);
            }
            match self.make_item(ix, each, cx) {
                Ok(item) => {
                    self.decided += 1;
                    self.decide(item, cx)?;
                }
                Err(EvalError::Need(needs)) => {
                    self.park(Some(ix), needs, cx);
                    return Ok(false);
                }
                Err(EvalError::Failed(message)) => {
                    self.give_up_inside(ix, &message, cx)?;
                    return Ok(false);
                }
            }
        }
        let spoilt = |map: &Map| map.failed > each.tolerate.of(map.total);
        Ok(self.map(ix).is_some_and(|map| map.left() == 0 || spoilt(map)))
    }

    fn make_item(&mut self, ix: Ix, each: &ForEach, cx: &mut Cx<'_>) -> Result<Ix, EvalError> {
        let index = self.map(ix).map_or(0, |map| Ix::new(map.made.len()).0);
        self.hold_items(ix, cx.desk)?;
        let key = self.key_of(ix, each, index, cx.desk)?;
        let path: Arc<str> = format!("{}[{key}]", self.instance(ix).path).into();
        let series = self.instance(ix).inside.as_deref().map_or(1, |inside| inside.series);
        let of = ItemOf { map: ix, index, series };
        let old = self.by_path.get(&*path).copied();
        let own = |old: &Ix| self.instance(*old).item.is_some_and(|item| item.map == ix);
        let item = match old.filter(own) {
            Some(old) => {
                self.renew_item(old, of, cx)?;
                old
            }
            None => {
                self.has_place(cx.desk).map_err(EvalError::Failed)?;
                self.push_item(path, of, cx)
            }
        };
        if let Some(map) = self.map_mut(ix) {
            map.made.push(item);
            map.open += 1;
        }
        self.mark(item, cx.desk);
        Ok(item)
    }

    fn push_item(&mut self, path: Arc<str>, of: ItemOf, cx: &mut Cx<'_>) -> Ix {
        let (item, map) = (Ix::new(self.instances.len()), self.instance(of.map));
        let path = crate::ids::InstancePath(path);
        let mut instance = Instance::new(path.clone(), map.level, map.task, 0);
        instance.item = Some(of);
        instance.generation = self.move_in(path, item);
        let again = instance.generation > 1;
        self.instances.push(instance);
        if self.unwritten == item.at() {
            // Its row is written with what happens to it.
            self.unwritten += 1;
        }
        if again {
            self.log_at(item, EventKind::TaskReset { token: None }, cx);
        }
        item
    }

    /// An instance that an earlier generation of the map left is this item now.
    fn renew_item(&mut self, old: Ix, of: ItemOf, cx: &mut Cx<'_>) -> Result<(), EvalError> {
        let again = match self.instance(old).state() {
            state if state.is_terminal() => self.renew(old, false, cx),
            _ => Ok(()),
        };
        again.map_err(|illegal| EvalError::Failed(illegal.to_string()))?;
        self.instance_mut(old).item = Some(of);
        Ok(())
    }

    /// Whether an item that is done again has to wait for a place among those of its map. It has
    /// one from here on if not.
    pub(super) fn takes_place(&mut self, ix: Ix) -> bool {
        let Some(item) = self.instance(ix).item else { return true };
        let task = self.held_task(ix);
        let Some((map, each)) = self.map_of(item).zip(task.for_each.as_deref()) else {
            return true;
        };
        !map.waiting.contains(&ix) || !map.is_full(each) && map.waiting.remove(&ix)
    }

    /// Whether an item waits for a place among those of its map.
    pub(super) fn awaits_place(&self, ix: Ix) -> bool {
        let item = self.instance(ix).item;
        item.and_then(|item| self.map(item.map)).is_some_and(|map| map.waiting.contains(&ix))
    }

    /// An item that is to be done again waits until there is a place for it.
    pub(super) fn await_place(&mut self, ix: Ix) {
        let limited =
            self.task(ix).for_each.as_ref().is_some_and(|each| each.max_parallel.is_some());
        let Some(item) = self.instance(ix).item.filter(|_| limited) else { return };
        if let Some(map) = self.map_of(item) {
            map.waiting.insert(ix);
        }
    }

    /// What items of a map that have not begun wait for; asked of the map, or of such an item.
    pub(super) fn items_blocker(&self, ix: Ix) -> Option<Blocker> {
        let ix = self.instance(ix).item.map_or(ix, |item| item.map);
        let (map, each) = (self.map(ix)?, self.task(ix).for_each.as_deref()?);
        let under_way = |item: &&Ix| {
            !self.instance(**item).state().is_terminal() && !map.waiting.contains(item)
        };
        let holder =
            |item: &Ix| Holder { run: self.id, path: Some(self.instance(*item).path.clone()) };
        Some(Blocker::Items {
            path: self.instance(ix).path.clone(),
            left: map.left() + Ix::new(map.waiting.len()).0,
            max_parallel: each.max_parallel.filter(|_| map.is_full(each)),
            holders: map.made.iter().filter(under_way).take(HOLDERS).map(holder).collect(),
        })
    }

    /// Has the list at hand.
    fn hold_items(&mut self, ix: Ix, desk: &Desk) -> Result<(), EvalError> {
        let Some(map) = self.map_mut(ix) else { return Ok(()) };
        if map.items.is_none() {
            map.items = Some(match &map.data {
                Data::Inline(value) => Arc::new(value.clone()),
                Data::Blob { digest, .. } => match desk.values.get(digest) {
                    Some(value) => value,
                    None => return Err(EvalError::Need(vec![*digest])),
                },
            });
        }
        Ok(())
    }

    fn items_failed(&self, ix: Ix, each: &ForEach) -> Failure {
        let Some(map) = self.map(ix) else { return Failure::new(FailureKind::TaskFailed, "") };
        let failed = map.made.iter().filter(|item| {
            matches!(
                self.instance(**item).phase,
                Phase::Over(TaskState::Failed | TaskState::Cancelled)
            )
        });
        let first: Vec<Ix> = failed.take(NAMES).copied().collect();
        let names: Vec<_> = first.iter().map(|item| &*self.instance(*item).path.0).collect();
        let why = first.first().and_then(|item| self.instance(*item).failure.as_deref());
        let why = why.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        let more = match map.failed as usize - names.len().min(map.failed as usize) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (failed, total, most) = (map.failed, map.total, each.tolerate.of(map.total));
        let names = names.join(", ");
        let message =
            format!("{failed} of {total} items failed, {most} tolerated ({names}{more}){why}");
        Failure::new(FailureKind::TaskFailed, message)
    }

    /// All items that began are over and no other will begin.
    fn leave_map(&mut self, ix: Ix, each: &ForEach, cx: &mut Cx<'_>) -> Result<(), Illegal> {
        if let Some(closing) = self.closed(ix) {
            return self.end_closed(ix, &closing, cx);
        }
        let Some(map) = self.map(ix) else { return Ok(()) };
        if map.failed > each.tolerate.of(map.total) {
            let failure = Some(self.items_failed(ix, each));
            return self.end(ix, TaskState::Failed, Ending { failure, ..Ending::default() }, cx);
        }
        if map.total > 0 && map.skipped == map.total {
            return self.end(ix, TaskState::Skipped, Ending::default(), cx);
        }
        let output = self.gather_items(ix, cx);
        self.end_with(ix, output, cx)
    }
}

/// The items, and where they are kept already.
fn list_of(view: &View<'_>, items: &Items) -> Result<(Option<Data>, Arc<Value>), EvalError> {
    let (data, list) = match items {
        Items::List(binding) => match view.data(binding)? {
            Data::Inline(value) => (None, Arc::new(value)),
            data @ Data::Blob { digest, .. } => (Some(data), view.loaded(&digest)?),
        },
        Items::Matrix { axes, include, exclude } => {
            (None, Arc::new(matrix(view, axes, include, exclude)?))
        }
    };
    let Some(all) = list.as_array() else {
        return Err(EvalError::Failed(format!("{} is no list", describe(&list))));
    };
    if all.len() > MAX_ITEMS {
        let size = all.len();
        return Err(EvalError::Failed(format!(
            "{size} items are more than the {MAX_ITEMS} of a map"
        )));
    }
    Ok((data, list))
}

/// Every combination of the axes' values, the last axis the fastest.
fn matrix(
    view: &View<'_>,
    axes: &IndexMap<String, Binding>,
    include: &[Binding],
    exclude: &[Binding],
) -> Result<Value, EvalError> {
    let whole = |bindings: &[Binding]| {
        bindings.iter().map(|binding| view.whole(binding)).collect::<Result<Vec<_>, _>>()
    };
    let excluded = whole(exclude)?;
    let mut rows = vec![serde_json::Map::new()];
    for (name, binding) in axes {
        let Value::Array(values) = view.whole(binding)? else {
            return Err(EvalError::Failed(format!("matrix: `{name}` is no list")));
        };
        let size = rows.len().saturating_mul(values.len());
        if size > MAX_ITEMS {
            let message = format!("matrix: {size} combinations are more than {MAX_ITEMS}");
            return Err(EvalError::Failed(message));
        }
        let with = |row: &serde_json::Map<String, Value>, value: &Value| {
            let mut row = row.clone();
            row.insert(name.clone(), value.clone());
            row
        };
        rows = rows.iter().flat_map(|row| values.iter().map(|value| with(row, value))).collect();
    }
    if axes.is_empty() {
        rows.clear();
    }
    rows.retain(|row| !excluded.iter().any(|out| agrees(row, out)));
    let mut items: Vec<Value> = rows.into_iter().map(Value::Object).collect();
    items.extend(whole(include)?);
    Ok(Value::Array(items))
}

/// Whether a combination has all that the object says.
fn agrees(row: &serde_json::Map<String, Value>, out: &Value) -> bool {
    let fields = out.as_object();
    fields.is_some_and(|fields| fields.iter().all(|(name, value)| row.get(name) == Some(value)))
}
