//! The `use` lines that a part of an example needs, of those that its file begins with.

use std::collections::{BTreeMap, BTreeSet};

/// Columns of a line of code.
const COLUMNS: usize = 100;

/// An item that a file imports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    module: String,
    item: String,
}

impl Import {
    /// The name that the file has for it; none if it has none.
    fn name(&self) -> Option<&str> {
        if self.item == "self" {
            return self.module.rsplit("::").next();
        }
        let name = self.item.rsplit_once(" as ").map_or(self.item.as_str(), |(_, name)| name);
        (name != "_").then_some(name)
    }

    /// Whether `code` needs it: by its name or, if all of `rest` does not name it, for its methods. Readers and writers of the standard
    /// library have methods of almost the same name.
    fn is_needed(&self, code: &str, rest: &str) -> bool {
        match self.name() {
            Some(name) if has_word(rest, name) => has_word(code, name),
            _ if self.module.starts_with("std::") => {
                let item = self.item.strip_suffix(" as _").unwrap_or(&self.item);
                code.contains(&item.to_lowercase())
            }
            _ => true,
        }
    }
}

/// The imports that `code`, a part of `file`, needs.
pub(super) fn needed(file: &str, code: &str) -> BTreeSet<Import> {
    let (uses, rest) = split(file);
    let mut imports = Vec::new();
    uses.iter().for_each(|tree| flatten("", tree, &mut imports));
    imports.into_iter().filter(|import| import.is_needed(code, &rest)).collect()
}

/// As lines of code, one for each module.
pub(super) fn lines(imports: &BTreeSet<Import>) -> String {
    let mut modules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Import { module, item } in imports {
        modules.entry(module).or_default().push(item);
    }
    modules.iter().map(|(module, items)| line(module, items)).collect()
}

fn line(module: &str, items: &[&str]) -> String {
    let list = items.join(", ");
    match items {
        ["self"] => return format!("use {module};\n"),
        [item] => return format!("use {module}::{item};\n"),
        _ if module.len() + list.len() + "use ::{};".len() <= COLUMNS => {
            return format!("use {module}::{{{list}}};\n");
        }
        _ => {}
    }
    let (mut text, mut column) = (format!("use {module}::{{\n   "), 3);
    for item in items {
        if column + item.len() + " ,".len() > COLUMNS {
            text += "\n   ";
            column = 3;
        }
        text += &format!(" {item},");
        column += item.len() + " ,".len();
    }
    text + "\n};\n"
}

/// The trees of the `use` lines at the beginning of lines, and the rest.
fn split(file: &str) -> (Vec<String>, String) {
    let (mut uses, mut rest, mut open) = (Vec::new(), String::new(), None::<String>);
    for line in file.lines() {
        let begun = open.take().or_else(|| line.starts_with("use ").then(String::new));
        let Some(mut tree) = begun else {
            rest += line;
            rest.push('\n');
            continue;
        };
        tree += line.trim();
        match tree.strip_prefix("use ").and_then(|tree| tree.strip_suffix(';')) {
            Some(tree) => uses.push(tree.to_owned()),
            None => open = Some(tree + if tree_needs_space(line) { " " } else { "" }),
        }
    }
    (uses, rest)
}

/// Between the items of a list that goes over several lines.
fn tree_needs_space(line: &str) -> bool {
    line.ends_with(',')
}

/// The items of a tree such as `a::{b, c::{d, e as f}}`.
fn flatten(module: &str, tree: &str, imports: &mut Vec<Import>) {
    let tree = tree.trim();
    let join = |path: &str| match module {
        "" => path.to_owned(),
        module => format!("{module}::{path}"),
    };
    if let Some((path, list)) = tree.split_once("::{").filter(|_| tree.ends_with('}')) {
        let list = list.strip_suffix('}').unwrap_or(list);
        branches(list).into_iter().for_each(|branch| flatten(&join(path), branch, imports));
    } else if let Some((path, item)) = tree.rsplit_once("::") {
        imports.push(Import { module: join(path), item: item.to_owned() });
    } else if !tree.is_empty() {
        imports.push(Import { module: module.to_owned(), item: tree.to_owned() });
    }
}

/// The parts of a list, at the commas that are in no braces of its own.
fn branches(list: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let is_end = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    list.split(is_end).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|other| other == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "//! Doc.\n\nuse a::{\n    B, c::{D, E as F},\n    self,\n};\nuse g::H as _;\nuse i::Trait;\n\
                        use std::io::{Read, Write as _};\n\nfn main() { B; D; F; a::x() }\n";

    #[test]
    fn code_has_the_imports_that_it_names_and_traits() {
        let uses = |code: &str| lines(&needed(FILE, code));
        assert_eq!(uses("F.of(D)"), "use a::c::{D, E as F};\nuse g::H as _;\nuse i::Trait;\n");
        let written = "use a::B;\nuse g::H as _;\nuse i::Trait;\nuse std::io::Write as _;\n";
        assert_eq!(uses("B.write()"), written);
        assert_eq!(uses("a::x()"), "use a;\nuse g::H as _;\nuse i::Trait;\n");
        assert_eq!(uses("Bs"), "use g::H as _;\nuse i::Trait;\n");
    }

    #[test]
    fn long_lists_are_wrapped() {
        let items = ["x".repeat(60), "y".repeat(60)];
        let line = line("m", &[&items[0], &items[1]]);
        assert_eq!(line, format!("use m::{{\n    {},\n    {},\n}};\n", items[0], items[1]));
    }
}
