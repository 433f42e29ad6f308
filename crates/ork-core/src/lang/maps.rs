//! `for_each`: the items of a map, what they are called and what may fail.

use indexmap::IndexMap;

use super::Lower;
use super::binding::{Bind, collect_map};
use super::expr::unify;
use super::keys::{FOR_EACH, MAX_ITEMS};
use super::read::{Fields, Known, is_name};
use super::tree::{Literal, Node};
use crate::plan::{Binding, Expr, ForEach, Items, Tolerate};
use crate::types::Type;

/// What an item is called beside what `as` says.
pub(crate) const ITEM: &str = "item";
/// What the place of an item is called.
pub(crate) const INDEX: &str = "index";

/// Keys that mean nothing without `for_each`.
const WITH_ITEMS: &[&str] = &["item_key", "max_parallel", "tolerate", "fail_fast"];

/// A map's items as the rest of its task sees them.
pub(crate) struct Mapped {
    pub(crate) for_each: ForEach,
    /// The names that it adds, with their types.
    pub(crate) values: Vec<(String, Type)>,
}

impl Lower<'_> {
    /// The map that a task is, without what each item asks.
    pub(crate) fn for_each(&mut self, fields: &Fields, bind: &mut Bind) -> Option<Mapped> {
        let Some(node) = fields.get("for_each") else {
            for key in WITH_ITEMS {
                if fields.get(key).is_some() {
                    self.report
                        .error(
                            fields.key_place(key),
                            "without-items",
                            format!("`{key}` goes with `for_each`"),
                        )
                        .hint("a task without `for_each` has one instance");
                }
            }
            return None;
        };
        let (items, item, name) = self.items(node, bind)?;
        let mut values = vec![(ITEM.to_owned(), item.clone()), (INDEX.to_owned(), Type::Int)];
        values.extend(name.clone().map(|name| (name, item.clone())));
        let max_parallel = fields.get("max_parallel").and_then(|node| self.max_parallel(node));
        let tolerate = fields.get("tolerate").and_then(|node| self.tolerate(node));
        let fail_fast = fields.get("fail_fast").and_then(|node| self.boolean(node, "`fail_fast`"));
        let for_each = ForEach {
            items,
            name,
            item_type: Some(item).filter(|ty| *ty != Type::Json),
            key: None,
            when: None,
            max_parallel,
            tolerate: tolerate.unwrap_or(Tolerate::Count(0)),
            fail_fast: fail_fast.unwrap_or(false),
        };
        Some(Mapped { for_each, values })
    }

    /// What names a map's instances: text or a whole number.
    pub(crate) fn item_key(&mut self, fields: &Fields, bind: &mut Bind) -> Option<Expr> {
        let node = fields.get("item_key")?;
        let (expr, typed) = self.expression(node, "`item_key`", None, bind)?;
        if matches!(typed.ty, Type::Str | Type::Enum(_) | Type::Int | Type::Date | Type::Json) {
            return Some(expr);
        }
        let message = format!("`item_key` is {}, not text or a whole number", typed.ty);
        self.report.error(node.place, "type-mismatch", message);
        None
    }

    fn items(&mut self, node: &Node, bind: &mut Bind) -> Option<(Items, Type, Option<String>)> {
        let Some(_) = node.entries() else {
            let (binding, item) = self.item_list(node, "`for_each`", bind)?;
            return Some((Items::List(binding), item, None));
        };
        let known = Known {
            what: "`for_each`",
            table: FOR_EACH,
            also: &[],
            words: &[("items", "in"), ("list", "in"), ("name", "as"), ("var", "as")],
        };
        let fields = self.fields(node, &known)?;
        let name = match fields.get("as") {
            Some(node) => Some(self.item_name(node)?),
            None => None,
        };
        match (fields.get("in"), fields.get("matrix")) {
            (Some(node), None) => {
                for key in ["include", "exclude"] {
                    if fields.get(key).is_some() {
                        let message = format!("`{key}` goes with `matrix`");
                        self.report.error(fields.key_place(key), "without-matrix", message);
                    }
                }
                let (binding, item) = self.item_list(node, "`in`", bind)?;
                Some((Items::List(binding), item, name))
            }
            (None, Some(node)) => {
                let (items, item) = self.matrix(node, &fields, bind)?;
                Some((items, item, name))
            }
            (Some(_), Some(_)) => {
                let message = "`for_each` has both `in` and `matrix`";
                self.report.error(fields.key_place("matrix"), "two-lists", message);
                None
            }
            (None, None) => {
                self.report
                    .error(node.place, "missing-key", "`for_each` names no items")
                    .hint("give it `in` or `matrix`");
                None
            }
        }
    }

    fn item_name(&mut self, node: &Node) -> Option<String> {
        let name = self.fixed_text(node, "`as`")?;
        if !is_name(name) || super::expr::is_taken(name) || [ITEM, INDEX].contains(&name) {
            let message = format!("`{name}` cannot name an item");
            self.report.error(node.place, "bad-name", message).hint(
                "a letter or `_`, then letters, digits or `_`, and no name that is known already",
            );
            return None;
        }
        Some(name.to_owned())
    }

    /// A list of items, and what one of them is.
    fn item_list(&mut self, node: &Node, what: &str, bind: &mut Bind) -> Option<(Binding, Type)> {
        let (binding, ty) = if node.items().is_some() {
            let most = usize::try_from(MAX_ITEMS).unwrap_or(usize::MAX);
            if node.items().is_some_and(|items| items.len() > most) {
                let message = format!("{what} has more than {MAX_ITEMS} items");
                self.report.error(node.place, "item-limit", message);
                return None;
            }
            self.binding(node, None, bind)?
        } else {
            let (expr, typed) = self.any_expression(node, what, None, bind)?;
            (Binding::Expr(expr), typed.ty)
        };
        match ty {
            Type::List(item) => Some((binding, Type::clone(&item))),
            Type::Json => Some((binding, Type::Json)),
            other => {
                let hint = match &other {
                    Type::Nullable(inner) if matches!(**inner, Type::List(_)) => {
                        "it may be null: write `default(x, [])`"
                    }
                    Type::Int => "for a number of items write `range(n)`",
                    Type::Object(_) | Type::Dict(_) => "its keys are `x.map(k, k)`",
                    _ => "a list literal stands in brackets",
                };
                let message = format!("{what} is {other}, not a list");
                self.report.error(node.place, "type-mismatch", message).hint(hint);
                None
            }
        }
    }

    fn matrix(&mut self, node: &Node, fields: &Fields, bind: &mut Bind) -> Option<(Items, Type)> {
        let (mut axes, mut types) = (IndexMap::new(), IndexMap::new());
        let entries = self.map(node, "`matrix`")?;
        for entry in entries {
            self.check_name(&entry.key, entry.place, "an axis");
            let (binding, item) =
                self.item_list(&entry.value, &format!("the axis `{}`", entry.key), bind)?;
            axes.insert(entry.key.clone(), binding);
            types.insert(entry.key.clone(), item);
        }
        if axes.is_empty() {
            self.report.error(node.place, "empty-matrix", "`matrix` has no axes");
            return None;
        }
        let mut exclude = Vec::new();
        for node in self.objects(fields, "exclude") {
            exclude.push(self.excluded(node, &types, bind)?);
        }
        let (mut include, mut item) = (Vec::new(), Type::object(types));
        for node in self.objects(fields, "include") {
            let (binding, ty) = self.included(node, bind)?;
            item = unify(&item, &ty).unwrap_or(Type::Json);
            include.push(binding);
        }
        Some((Items::Matrix { axes, include, exclude }, item))
    }

    fn objects<'n>(&mut self, fields: &Fields<'n>, key: &str) -> &'n [Node] {
        let Some(node) = fields.get(key) else { return &[] };
        let items = node.items();
        if items.is_none() {
            self.wrong(node, &format!("`{key}` must be a list of maps"));
        }
        items.unwrap_or_default()
    }

    /// Some axes with a value of each.
    fn excluded(
        &mut self,
        node: &Node,
        types: &IndexMap<String, Type>,
        bind: &mut Bind,
    ) -> Option<Binding> {
        let mut fields = IndexMap::new();
        for entry in self.map(node, "an item of `exclude`")? {
            let Some(ty) = types.get(&entry.key) else {
                let hint = self.report.nearest(&entry.key, types.keys().map(String::as_str));
                let message = format!("`matrix` has no axis `{}`", entry.key);
                let found = self.report.error(entry.place, "unknown-axis", message);
                if let Some(hint) = hint {
                    found.hint(hint);
                }
                return None;
            };
            let (binding, _) = self.binding(&entry.value, Some(ty), bind)?;
            fields.insert(entry.key.clone(), binding);
        }
        Some(collect_map(fields))
    }

    /// An item of its own.
    fn included(&mut self, node: &Node, bind: &mut Bind) -> Option<(Binding, Type)> {
        let (mut fields, mut types) = (IndexMap::new(), IndexMap::new());
        for entry in self.map(node, "an item of `include`")? {
            self.check_name(&entry.key, entry.place, "a field");
            let (binding, ty) = self.binding(&entry.value, None, bind)?;
            fields.insert(entry.key.clone(), binding);
            types.insert(entry.key.clone(), ty);
        }
        Some((collect_map(fields), Type::object(types)))
    }

    fn max_parallel(&mut self, node: &Node) -> Option<u32> {
        self.whole(node, "`max_parallel`", 1, MAX_ITEMS).and_then(|n| u32::try_from(n).ok())
    }

    fn tolerate(&mut self, node: &Node) -> Option<Tolerate> {
        let scalar = node.scalar();
        match scalar.map(super::tree::Scalar::literal) {
            Some(Literal::Int(_)) => {
                let most = u32::try_from(MAX_ITEMS).unwrap_or(u32::MAX);
                return self.integer(node, "`tolerate`", most).map(Tolerate::Count);
            }
            Some(Literal::Str("all")) => return Some(Tolerate::All),
            Some(Literal::Str(text)) => {
                let percent = text.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
                if let Some(percent) = percent.filter(|n| (0.0..=100.0).contains(n)) {
                    return Some(Tolerate::Percent(percent));
                }
            }
            _ => {}
        }
        self.report
            .error(
                node.place,
                "wrong-kind",
                "`tolerate` must be a count, a share such as `5%`, or `all`",
            )
            .hint("a percentage is from 0% to 100%");
        None
    }

    /// A whole number within bounds.
    pub(crate) fn whole(&mut self, node: &Node, what: &str, least: i64, most: i64) -> Option<i64> {
        let Some(Literal::Int(n)) = node.scalar().map(super::tree::Scalar::literal) else {
            self.wrong(node, &format!("{what} must be a whole number"));
            return None;
        };
        if (least..=most).contains(&n) {
            return Some(n);
        }
        let message = format!("{what} must be from {least} to {most}, not {n}");
        self.report.error(node.place, "out-of-range", message);
        None
    }
}
