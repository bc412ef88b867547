//! gRPC server reflection, and the files that the agent shows by it.

use std::collections::BTreeSet;

/// `grpc.reflection.v1`: the service.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
pub mod v1 {
    include!("generated/grpc.reflection.v1.rs");
}

/// A .proto file.
#[derive(Debug)]
pub struct ProtoFile {
    /// Its name, under which others import it.
    pub name: &'static str,
    /// The names of the files that it imports.
    pub imports: &'static [&'static str],
    /// What it declares, with its package: services, methods, messages and enumerations.
    pub symbols: &'static [&'static str],
    /// It as a google.protobuf.FileDescriptorProto.
    pub descriptor: &'static [u8],
}

include!("generated/descriptors.rs");

/// The file of this name, and before it what it imports, directly or not. Empty if there is no such file.
#[must_use]
pub fn with_imports(name: &str) -> Vec<&'static ProtoFile> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    add(name, &mut known, &mut found);
    found
}

fn add(name: &str, known: &mut BTreeSet<&'static str>, found: &mut Vec<&'static ProtoFile>) {
    let Some(file) = FILES.iter().find(|file| file.name == name) else { return };
    if known.insert(file.name) {
        file.imports.iter().for_each(|import| add(import, known, found));
        found.push(file);
    }
}

/// The file that declares a symbol.
#[must_use]
pub fn declaring(symbol: &str) -> Option<&'static ProtoFile> {
    FILES.iter().find(|file| file.symbols.contains(&symbol))
}
