//! Reads the advice of errors, warnings and findings from source code.

use std::path::Path;

use anyhow::{Context, Result};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Block, Expr, ExprCall, ExprLit, ExprMacro, ExprMethodCall, FieldValue, ItemMod, Lit, Local,
    Member, Pat, Stmt, Token,
};

use crate::source::{marks_test, parse, rust_files};

/// The advice in the files below a directory, each with its file. Tests are left out.
pub fn below(directory: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (path, text) in rust_files(directory)? {
        let name = path.display().to_string();
        if name.contains("/tests/") || name.ends_with("/tests.rs") {
            continue;
        }
        let advice = in_source(&text).with_context(|| name.clone())?;
        found.extend(advice.into_iter().map(|text| (name.clone(), text)));
    }
    Ok(found)
}

/// The literal third arguments of `Failure::new` and `Check::warn` and of the methods `error` and `warn`, and the
/// literal values of variables and fields with the name `advice`.
fn in_source(source: &str) -> Result<Vec<String>> {
    let mut finder = Finder(Vec::new());
    finder.visit_file(&parse(source)?);
    Ok(finder.0)
}

struct Finder(Vec<String>);

impl Finder {
    fn add(&mut self, value: &Expr) {
        match value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => self.0.push(text.value()),
            Expr::Macro(ExprMacro { mac, .. }) if mac.path.is_ident("format") => {
                let arguments =
                    mac.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated);
                if let Some(text) = arguments.ok().as_ref().and_then(Punctuated::first) {
                    self.add(text);
                }
            }
            Expr::MethodCall(call) => self.add(&call.receiver),
            Expr::Reference(reference) => self.add(&reference.expr),
            Expr::Closure(closure) => self.add(&closure.body),
            Expr::Match(all) => all.arms.iter().for_each(|arm| self.add(&arm.body)),
            Expr::Block(block) => self.add_end(&block.block),
            Expr::If(branches) => {
                self.add_end(&branches.then_branch);
                if let Some((_, other)) = &branches.else_branch {
                    self.add(other);
                }
            }
            _ => {}
        }
    }

    fn add_end(&mut self, block: &Block) {
        if let Some(Stmt::Expr(end, None)) = block.stmts.last() {
            self.add(end);
        }
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !module.attrs.iter().any(marks_test) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let (Expr::Path(function), 3) = (&*call.func, call.args.len()) {
            let path: Vec<String> =
                function.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            let is_failure = path.ends_with(&["Failure".into(), "new".into()]);
            if is_failure || path.ends_with(&["Check".into(), "warn".into()]) {
                self.add(&call.args[2]);
            }
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if (call.method == "error" || call.method == "warn") && call.args.len() == 3 {
            self.add(&call.args[2]);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        if let Member::Named(name) = &field.member
            && name == "advice"
        {
            self.add(&field.expr);
        }
        visit::visit_field_value(self, field);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        if let (Pat::Ident(name), Some(init)) = (&local.pat, &local.init)
            && name.ident == "advice"
        {
            self.add(&init.expr);
        }
        visit::visit_local(self, local);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_found_in_each_form() {
        let found = in_source(
            r#"
            fn f() {
                let advice = match x { 1 => "a", _ => { g(); "b".to_owned() } };
                Failure::new(Exit::Io, "what", "c \
                    d");
                host::exit::Failure::new(exit, format!("what"), format!("e {}", 1));
                Check::warn(topic, "what", if x { "f" } else { "g" });
                source.error(place, "what", "h");
                Failure { advice: "i".into(), ..failure };
                Failure::io(&cause, "what");
                tracing::warn(1);
            }
            #[cfg(test)] mod tests { fn g() { let advice = "in a test"; } }
            "#,
        );
        assert_eq!(found.unwrap(), ["a", "b", "c d", "e {}", "f", "g", "h", "i"]);
    }
}
