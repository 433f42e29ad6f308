//! Rules over the syntax tree: long functions, empty names, executors named outside their places,
//! sleeps in tests.

use std::collections::BTreeSet;

use anyhow::Context as _;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::{File, Tree};

/// The most lines of a function, from its signature to its closing brace. A list that is written
/// out, such as the cases of a test, counts as one line, and so does a snapshot: they are data.
const MAX_LINES: usize = 70;

const EMPTY_ENDINGS: &[&str] = &["Manager", "Helper", "Util", "Utils", "Service", "Impl"];

/// Where an executor's name belongs: its spec and its driver.
const SPECS: &str = "crates/ork-core/src/lang/executors/";
const DRIVERS: &str = "crates/ork-worker/src/executors/";

/// Every finding of this module's rules.
///
/// # Errors
/// When a file is not Rust.
pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let executors = executors(tree);
    let mut findings = Vec::new();
    for file in tree.rust() {
        let syntax = syn::parse_file(&file.text).with_context(|| file.path.clone())?;
        let home = file.path.starts_with(SPECS) || file.path.starts_with(DRIVERS);
        let ours = file.path.starts_with("crates/") && !home;
        let names = if ours { executors.clone() } else { BTreeSet::new() };
        let mut walk = Walk { file, names, in_test: file.is_test(), findings: Vec::new() };
        walk.visit_file(&syntax);
        findings.extend(walk.findings);
    }
    Ok(findings)
}

/// Executors whose name is also a word of the language or the API, where it says something else:
/// `run` is what expressions and topics call a run.
const ORDINARY: &[&str] = &["run"];

/// The executors are the files of the folder of specs.
fn executors(tree: &Tree) -> BTreeSet<String> {
    let specs = tree.files.iter().filter_map(|file| file.path.strip_prefix(SPECS));
    let stems = specs.filter_map(|rest| rest.split(['/', '.']).next());
    stems.filter(|stem| *stem != "mod" && !ORDINARY.contains(stem)).map(str::to_owned).collect()
}

struct Walk<'a> {
    file: &'a File,
    /// Executors that must not be named here.
    names: BTreeSet<String>,
    in_test: bool,
    findings: Vec<String>,
}

impl Walk<'_> {
    fn found(&mut self, span: proc_macro2::Span, what: &str) {
        self.findings.push(format!("{}:{}: {what}", self.file.path, span.start().line));
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = lines(signature.span(), block.span()) - Lists::of(block);
        if lines > MAX_LINES {
            let name = &signature.ident;
            let what = format!("`{name}` has {lines} lines, more than {MAX_LINES}; split it");
            self.found(signature.span(), &what);
        }
    }

    fn type_name(&mut self, ident: &syn::Ident) {
        let name = ident.to_string();
        if EMPTY_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            self.found(ident.span(), &format!("`{name}` says nothing; name what it is"));
        }
    }

    fn called(&mut self, function: &syn::Ident) {
        if self.in_test && (function == "sleep" || function == "sleep_until") {
            self.found(function.span(), "a sleep in a test; wait for an event");
        }
    }

    fn text(&mut self, literal: &syn::LitStr) {
        if !self.in_test && self.names.contains(&literal.value()) {
            let what = format!("names the executor {:?} outside its two places", literal.value());
            self.found(literal.span(), &what);
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let mut before = None;
        for token in tokens {
            match &token {
                TokenTree::Group(group) => {
                    let call = group.delimiter() == Delimiter::Parenthesis;
                    if let Some(TokenTree::Ident(function)) = before.filter(|_| call) {
                        self.called(&function);
                    }
                    self.tokens(group.stream());
                }
                TokenTree::Literal(literal) => {
                    if let syn::Lit::Str(text) = syn::Lit::new(literal.clone()) {
                        self.text(&text);
                    }
                }
                _ => {}
            }
            before = Some(token);
        }
    }

    fn scope(&mut self, attributes: &[syn::Attribute], go: impl FnOnce(&mut Self)) {
        let before = self.in_test;
        self.in_test |= attributes.iter().any(is_test_attribute);
        go(self);
        self.in_test = before;
    }
}

/// The lines from the start of one span to the end of another.
fn lines(from: proc_macro2::Span, to: proc_macro2::Span) -> usize {
    to.end().line - from.start().line + 1
}

/// The lines of written-out lists and snapshots past the first of each.
#[derive(Default)]
struct Lists(usize);

impl Lists {
    fn of(block: &syn::Block) -> usize {
        let mut lists = Self::default();
        lists.visit_block(block);
        lists.0
    }
}

impl<'ast> Visit<'ast> for Lists {
    fn visit_expr_array(&mut self, list: &'ast syn::ExprArray) {
        self.0 += lines(list.span(), list.span()) - 1;
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let name = call.path.segments.last().map(|segment| segment.ident.to_string());
        if name.is_some_and(|name| name.ends_with("snapshot")) {
            self.0 += lines(call.span(), call.span()) - 1;
        }
    }
}

/// `#[test]`, `#[tokio::test]`, `#[rstest]` and `#[cfg(test)]`.
fn is_test_attribute(attribute: &syn::Attribute) -> bool {
    let path = attribute.path();
    let last = path.segments.last().map(|segment| segment.ident.to_string());
    match last.as_deref() {
        Some("test" | "rstest") => true,
        Some("cfg") => attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test")),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        self.scope(&item.attrs, |walk| visit::visit_item_fn(walk, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.scope(&item.attrs, |walk| visit::visit_item_mod(walk, item));
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.type_name(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.type_name(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.type_name(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func
            && let Some(last) = function.path.segments.last()
        {
            self.called(&last.ident);
        }
        visit::visit_expr_call(self, call);
    }

    /// What stands in a macro is no syntax yet: texts and calls are looked for among its tokens.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.text(literal);
    }
}
