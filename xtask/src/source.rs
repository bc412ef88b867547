//! Rust source as the gates read it: the syntax tree of `syn`. What is inside a macro is tokens to any parser, and is
//! searched as such.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{
    Attribute, File, ImplItem, ImplItemConst, ImplItemFn, Item, ItemConst, ItemExternCrate, ItemFn,
    ItemImpl, ItemMod, ItemStatic, ItemStruct, ItemUse, Macro, UseName, UsePath, UseRename,
    UseTree,
};

/// A name that a path takes from the crate's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootName {
    /// The name; `*` where it may be any: by `use crate::*`, or by another name for the root.
    pub name: String,
    /// Where it stands, from 1.
    pub line: usize,
}

/// The syntax tree of a file.
pub fn parse(source: &str) -> Result<File> {
    syn::parse_file(source).map_err(|error| anyhow!("line {}: {error}", error.span().start().line))
}

/// The names that a file takes from the crate's root, its tests aside: `crate::NAME`, `crate::{NAME, NAME}`, and as many
/// `super::` as lead there. The file's module lies `depth` below the root.
pub fn root_names(source: &str, depth: usize) -> Result<Vec<RootName>> {
    Ok(Paths::of(source, depth)?.found)
}

/// The lines on which a file, its tests aside, names another crate: in `use`, `extern crate` or at the beginning of a path. A
/// module of that name at the beginning of a path is taken for the crate.
pub fn crate_uses(source: &str, name: &str) -> Result<Vec<usize>> {
    let first = Paths::of(source, 1)?.first;
    Ok(first.into_iter().filter(|(first, _)| first == name).map(|(_, line)| line).collect())
}

/// The names of a file's test functions, and of the rules that a suite runs by name.
pub fn tests(source: &str) -> Result<BTreeSet<String>> {
    let mut tests = Tests(BTreeSet::new());
    tests.visit_file(&parse(source)?);
    Ok(tests.0)
}

struct Tests(BTreeSet<String>);

impl Visit<'_> for Tests {
    fn visit_item_fn(&mut self, function: &ItemFn) {
        let is_test = |attribute: &Attribute| {
            attribute.path().segments.last().is_some_and(|last| last.ident == "test")
        };
        if function.attrs.iter().any(is_test) {
            self.0.insert(function.sig.ident.to_string());
        }
        visit::visit_item_fn(self, function);
    }

    fn visit_macro(&mut self, call: &Macro) {
        if call.path.is_ident("by_name") {
            self.0.extend(call.tokens.clone().into_iter().map(|tree| tree.to_string()));
        }
    }
}

/// Collects what paths name.
struct Paths {
    /// How deep the module that is visited lies below the root.
    depth: usize,
    /// The names taken from the crate's root.
    found: Vec<RootName>,
    /// The names that stand first in a path, and their lines.
    first: Vec<(Ident, usize)>,
}

/// Where the part of a path that was read leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing was read.
    Start,
    /// To the module that lies so deep below the root.
    Level(usize),
    /// To something below a module, or to another crate.
    Elsewhere,
}

const ROOT: Place = Place::Level(0);

fn above(level: usize) -> Place {
    level.checked_sub(1).map_or(Place::Elsewhere, Place::Level)
}

impl Paths {
    fn of(source: &str, depth: usize) -> Result<Self> {
        let mut paths = Self { depth, found: Vec::new(), first: Vec::new() };
        paths.visit_file(&parse(source)?);
        Ok(paths)
    }

    fn note_first(&mut self, name: &Ident) {
        self.first.push((name.clone(), name.span().start().line));
    }

    fn note(&mut self, name: impl ToString, at: Span) {
        self.found.push(RootName { name: name.to_string(), line: at.start().line });
    }

    /// Reads one more name of a path, and notes it if it is the root's.
    fn step(&mut self, place: Place, name: &Ident) -> Place {
        match (place, name.to_string().as_str()) {
            (Place::Start, "crate") => ROOT,
            (Place::Start, "self") => Place::Level(self.depth),
            (Place::Start, "super") => above(self.depth),
            (Place::Level(_), "self") => place,
            (Place::Level(level), "super") => above(level),
            (ROOT, _) => {
                self.note(name, name.span());
                Place::Elsewhere
            }
            _ => Place::Elsewhere,
        }
    }

    fn tree(&mut self, tree: &UseTree, place: Place) {
        match tree {
            UseTree::Path(UsePath { ident, .. })
            | UseTree::Name(UseName { ident })
            | UseTree::Rename(UseRename { ident, .. })
                if place == Place::Start =>
            {
                self.note_first(ident);
            }
            _ => {}
        }
        match tree {
            UseTree::Path(path) => {
                let place = self.step(place, &path.ident);
                self.tree(&path.tree, place);
            }
            UseTree::Name(name) => {
                self.step(place, &name.ident);
            }
            UseTree::Rename(rename) => {
                let place = self.step(place, &rename.ident);
                if place == ROOT {
                    self.note("*", rename.ident.span());
                }
            }
            UseTree::Glob(glob) if place == ROOT => self.note("*", glob.star_token.span),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, place)),
            _ => {}
        }
    }

    /// The braces of a `use` among tokens. With a macro's variables in them they are no `use` yet, and may name anything.
    fn group(&mut self, group: Group, place: Place) {
        let at = group.span();
        match syn::parse2(TokenTree::from(group).into()) {
            Ok(tree) => self.tree(&tree, place),
            Err(_) if place == ROOT => self.note("*", at),
            Err(_) => {}
        }
    }
}

impl Visit<'_> for Paths {
    fn visit_item(&mut self, item: &Item) {
        let attributes = match item {
            Item::Const(ItemConst { attrs, .. })
            | Item::Fn(ItemFn { attrs, .. })
            | Item::Impl(ItemImpl { attrs, .. })
            | Item::Mod(ItemMod { attrs, .. })
            | Item::Static(ItemStatic { attrs, .. })
            | Item::Struct(ItemStruct { attrs, .. })
            | Item::Use(ItemUse { attrs, .. }) => attrs.as_slice(),
            _ => &[],
        };
        if !attributes.iter().any(marks_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &ImplItem) {
        let attributes = match item {
            ImplItem::Const(ImplItemConst { attrs, .. })
            | ImplItem::Fn(ImplItemFn { attrs, .. }) => attrs.as_slice(),
            _ => &[],
        };
        if !attributes.iter().any(marks_test) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &ItemMod) {
        self.depth += 1;
        visit::visit_item_mod(self, module);
        self.depth -= 1;
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        self.tree(&item.tree, Place::Start);
    }

    fn visit_item_extern_crate(&mut self, item: &ItemExternCrate) {
        self.note_first(&item.ident);
        if item.ident == "self" {
            self.note("*", item.ident.span());
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        if path.segments.len() > 1 {
            self.note_first(&path.segments[0].ident);
        }
        let mut place = Place::Start;
        for segment in &path.segments {
            place = self.step(place, &segment.ident);
        }
        visit::visit_path(self, path);
    }

    /// The tokens of a macro or of an attribute: a path may stand anywhere among them.
    fn visit_token_stream(&mut self, tokens: &TokenStream) {
        let mut place = Place::Start;
        // The name before.
        let mut first: Option<Ident> = None;
        // How much of a `::` was read.
        let mut colons = 0;
        for tree in tokens.clone() {
            let is_colon = matches!(&tree, TokenTree::Punct(mark) if mark.as_char() == ':');
            let before = if is_colon { None } else { first.take() };
            if !is_colon && colons != 2 {
                place = Place::Start;
            }
            colons = match tree {
                TokenTree::Punct(_) if is_colon => {
                    // A name is a path's if it goes on.
                    if colons == 1
                        && let Some(first) = first.take()
                    {
                        self.note_first(&first);
                    }
                    colons + 1
                }
                // `$crate::` is a path of whoever expands the macro.
                TokenTree::Punct(mark) if mark.as_char() == '$' => {
                    place = Place::Elsewhere;
                    2
                }
                TokenTree::Ident(name) => {
                    if before.is_some_and(|before| before == "use" || before == "crate") {
                        self.note_first(&name);
                    } else if place == Place::Start {
                        first = Some(name.clone());
                    }
                    place = self.step(place, &name);
                    0
                }
                TokenTree::Group(group)
                    if place != Place::Start && group.delimiter() == Delimiter::Brace =>
                {
                    self.group(group, place);
                    0
                }
                TokenTree::Group(group) => {
                    self.visit_token_stream(&group.stream());
                    0
                }
                TokenTree::Punct(mark) if mark.as_char() == '*' && place == ROOT => {
                    self.note("*", mark.span());
                    0
                }
                _ => 0,
            };
        }
    }
}

/// Whether an attribute is `cfg(test)`.
pub(crate) fn marks_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<Ident>().is_ok_and(|condition| condition == "test")
}

/// All Rust files below, those of the target directory and of hidden directories aside, with what is in them.
pub fn rust_files(directory: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if entry.file_type()?.is_dir() {
                let built = path.join("CACHEDIR.TAG").exists() || name == "target";
                if !hidden && !built {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path)
                    .with_context(|| format!("reading {}", path.display()))?;
                found.push((path, source));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::child::Scratch;

    fn names(source: &str) -> Vec<String> {
        root_names(source, 1).unwrap().into_iter().map(|found| found.name).collect()
    }

    #[test]
    fn every_spelling_of_a_path_from_the_root_is_seen() {
        for source in [
            "use crate::a;",
            "use crate::a::{self, b};",
            "use crate :: a as c;",
            "use crate::{a};",
            "use crate::{a::{b, c}};",
            "pub(in crate::a) fn f() {}",
            "fn f(_: &crate::a::B) -> Vec<u8> {}",
            "fn f() { assert!(x, \"{}\", crate::a::b()) }",
            "macro_rules! m { () => { crate::a!() } }",
            "use super::a;",
            "use self::super::a;",
            "use super::{a};",
            "mod inner { use super::super::a; }",
            "mod inner { } use super::a;",
            "mod inner { use crate::{super::x, a}; }",
            "macro_rules! m { () => { use crate::{a::{b, c}}; } }",
            "macro_rules! m { () => { fn f(x: super::a::B) {} } }",
            "#[attribute(crate::a)] fn f() {}",
            "struct S { #[cfg(test)] b: crate::a::B }",
        ] {
            assert_eq!(names(source), ["a"], "{source}");
        }
        assert_eq!(names("use crate::{a, b::{c, d}, e}; use crate::*;"), ["a", "b", "e", "*"]);
        for source in [
            "use crate as root;",
            "use super::{self as parent};",
            "extern crate self as root;",
            "macro_rules! m { ($a:ident) => { use crate::{$a, b}; } }",
            "macro_rules! m { () => { use crate::*; } }",
        ] {
            assert_eq!(names(source), ["*"], "{source}");
        }
    }

    #[test]
    fn other_paths_comments_and_strings_are_not_seen() {
        for source in [
            "// use crate::a;\n/* use /* crate::a */ crate::b; */",
            "//! see crate::a\n/// [`a`](crate::a)\nfn f() {}",
            "fn f<'a>(x: &'a str) { g(\"crate::a\", '\\'', b'\"', r#\"crate::a\"#, c\"crate::a\") }",
            "macro_rules! m { () => { $crate::a } }",
            "pub(crate) fn f(self) { self.a; Self::a() }",
            "use self::a; use std::a; mod inner { use super::a; }",
            "use super::super::a;",
        ] {
            assert!(names(source).is_empty(), "{source}");
        }
        assert!(root_names("use super::a;", 2).unwrap().is_empty());
    }

    #[test]
    fn another_crate_is_seen_in_macros_and_not_as_a_variable() {
        let uses = |source| crate_uses(source, "proto").unwrap();
        for source in [
            "macro_rules! m { () => { use proto as p; } }",
            "macro_rules! m { () => { extern crate proto; } }",
            "fn f() { m!(x, ::proto::v1) }",
            "#[derive(proto::Message)] struct S;",
        ] {
            assert_eq!(uses(source), [1], "{source}");
        }
        for source in [
            "macro_rules! m { () => { $crate::proto::x; self::proto::y } }",
            "fn f() { m!(proto, ::x::y); proto.x(proto); let y: proto = S { proto: 1 }; }",
            "use x::{proto, a::proto::b}; mod proto {}",
        ] {
            assert!(uses(source).is_empty(), "{source}");
        }
    }

    #[test]
    fn tests_are_left_out() {
        let source = "impl A { #[cfg(test)] const B: crate::d::C = 1; } #[cfg(test)] mod tests { use crate::a; fn f() { } } #[cfg(test)] use crate::b; \
                      #[cfg(unix)] use crate::c;";
        assert_eq!(names(source), ["c"]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let source =
            "use crate::a; /* \n */ const A: &str = \"\n\"; use crate::b;\n// \n\nuse crate::c;";
        let found = root_names(source, 1).unwrap();
        let lines: Vec<_> = found.iter().map(|found| (found.name.as_str(), found.line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 3), ("c", 6)]);
    }

    #[test]
    fn files_that_are_no_rust_are_an_error() {
        for source in ["\"abc", "r#\"abc\"", "/* /* */", "fn f() {", "b'"] {
            assert!(root_names(source, 1).is_err(), "{source}");
        }
    }

    #[test]
    fn a_name_in_words_is_no_test() {
        let source = "// fn a() {}\n#[test] fn b() {} #[tokio::test] async fn c() {} fn d() {} \
                      const E: &str = \"fn e()\"; const F: F = by_name![g];";
        assert_eq!(Vec::from_iter(tests(source).unwrap()), ["b", "c", "g"]);
    }

    #[test]
    fn what_is_built_is_not_searched() {
        let scratch = Scratch::new("endorse-gate").unwrap();
        for directory in ["target", ".git", "src"] {
            fs::create_dir(scratch.path().join(directory)).unwrap();
            fs::write(scratch.path().join(directory).join("a.rs"), "").unwrap();
        }
        let expected = (scratch.path().join("src/a.rs"), String::new());
        assert_eq!(rust_files(scratch.path()).unwrap(), [expected]);
    }
}
