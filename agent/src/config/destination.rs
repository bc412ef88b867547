//! Where files are put: the storage of the agent, the destinations of services, and who may read there.

use std::path::{Path, PathBuf};

use host::config::finding::{ByteRange, Source};
use host::config::section::{Given, Keys, Section, expected, parse, unknown};
use host::config::tree::{Node, Value};

use super::settings::{Account, Acls, Destination, Directory, Reader, Storage, Symlinks};

const DESTINATION_REFUSED: &[(&str, &str)] = &[
    (
        "name",
        "remove it: it belongs to destinations of type kubernetes_secret, which are not supported",
    ),
    (
        "namespace",
        "remove it: it belongs to destinations of type kubernetes_secret, which are not supported",
    ),
    (
        "labels",
        "remove it: it belongs to destinations of type kubernetes_secret, which are not supported",
    ),
];

pub(super) const DIRECTORY: Keys = Keys {
    of: "a destination",
    known: &[
        ("type", "`directory` or `memory`"),
        ("path", "the directory; every service needs its own"),
        ("symlinks", "symbolic links in the path: `try-secure` (default), `secure` or `insecure`"),
        ("acls", "access control lists: `try` (default), `off` or `required`"),
        ("readers", "a list of users and groups that may read the files"),
    ],
    refused: DESTINATION_REFUSED,
};

pub(super) const STORAGE: Keys = Keys {
    of: "storage",
    known: &[
        ("type", "`directory` or `memory`"),
        ("path", "the directory"),
        ("symlinks", "symbolic links in the path: `try-secure` (default), `secure` or `insecure`"),
        ("acls", "access control lists: `try` (default), `off` or `required`"),
    ],
    refused: &[("readers", "remove it: only the agent may read its storage")],
};

const MEMORY: Keys =
    Keys { of: "a destination of type memory", known: &[("type", "`memory`")], refused: &[] };

pub(super) const READER: Keys = Keys {
    of: "a reader",
    known: &[("user", "name or ID of a user"), ("group", "name or ID of a group")],
    refused: &[],
};

/// Where a service puts its files.
pub(super) fn destination(node: &Node, source: &Source<'_>) -> Option<Destination> {
    let section = match typed(node, "destination", &DIRECTORY, source)? {
        Typed::Memory => return Some(Destination::Memory),
        Typed::Path(path) => {
            let directory =
                Directory { path, symlinks: Symlinks::default(), acls: Acls::default() };
            return Some(Destination::Directory { directory, readers: Vec::new() });
        }
        Typed::Directory(section) => section,
    };
    let directory = directory(&section, "destination", source);
    let readers: Vec<Option<Reader>> =
        section.list("readers")?.iter().map(|node| reader(node, source)).collect();
    let readers: Vec<Reader> = readers.into_iter().collect::<Option<_>>()?;
    let directory = directory?;
    if directory.acls == Acls::Off && !readers.is_empty() {
        let range = section.key("readers");
        let message = "`readers` are set but `acls` is off";
        source.warn(
            range,
            message,
            "set `acls: try`, or give only one group: more readers need ACLs",
        );
    }
    Some(Destination::Directory { directory, readers })
}

/// Where the bot keeps its identity.
pub(super) fn storage(node: &Node, source: &Source<'_>) -> Option<Storage> {
    Some(Storage::Directory(match typed(node, "storage", &STORAGE, source)? {
        Typed::Memory => return Some(Storage::Memory),
        Typed::Path(path) => {
            Directory { path, symlinks: Symlinks::default(), acls: Acls::default() }
        }
        Typed::Directory(section) => directory(&section, "storage", source)?,
    }))
}

enum Typed<'n> {
    Path(PathBuf),
    Directory(Section<'n>),
    Memory,
}

/// Reads a destination or a storage: a path, or a section with a `type`.
fn typed<'n>(node: &'n Node, key: &str, keys: &Keys, source: &'n Source<'n>) -> Option<Typed<'n>> {
    if let Value::Sequence(_) = node.value {
        expected(
            source,
            node,
            &format!("`{key}` must be a path, or a section with keys"),
            &node.value,
        );
        return None;
    }
    let Value::Mapping(entries) = &node.value else {
        return parse(node, key, source, path).map(|path| {
            relative(&path, &node.range, source);
            Typed::Path(path)
        });
    };
    let stated = entries.iter().find(|entry| entry.key == "type").map(|entry| &entry.node);
    let Some(stated) = stated else {
        let message = format!("`{key}` has no `type`");
        source.error(Some(&node.range), message, "add `type: directory` or `type: memory`");
        return None;
    };
    let memory = parse(stated, "type", source, |text| match text {
        "directory" => Ok(false),
        "memory" => Ok(true),
        "kubernetes_secret" => Err("Kubernetes secrets are not supported".to_owned()),
        other => Err(unknown(other, &["directory", "memory"])),
    })?;
    if memory {
        return Section::open(node, &MEMORY, source).map(|_| Typed::Memory);
    }
    Section::open(node, keys, source).map(Typed::Directory)
}

fn directory(section: &Section<'_>, key: &str, source: &Source<'_>) -> Option<Directory> {
    const SYMLINKS: [(&str, Symlinks); 3] = [
        ("try-secure", Symlinks::TrySecure),
        ("secure", Symlinks::Secure),
        ("insecure", Symlinks::Insecure),
    ];
    const ACLS: [(&str, Acls); 3] =
        [("try", Acls::Try), ("off", Acls::Off), ("required", Acls::Required)];
    let path = section.parse("path", path);
    if path.is_absent() && !section.meant("path") {
        source.error(section.range.as_ref(), format!("`{key}` has no path"), "add `path: /...`");
    }
    if let Given::Here(path, Some(range)) = &path {
        relative(path, range, source);
    }
    let symlinks = section.word("symlinks", &SYMLINKS).or(Given::Here(Symlinks::default(), None));
    let acls = section.word("acls", &ACLS).or(Given::Here(Acls::default(), None));
    Some(Directory { path: path.value()?, symlinks: symlinks.value()?, acls: acls.value()? })
}

/// A path of the file system.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            Err(format!("it must be a path, not a URL: try `/{}`", rest.trim_start_matches('/')))
        }
        _ => Ok(text.into()),
    }
}

/// Warns of a relative path, which depends on the agent's working directory.
pub(super) fn relative(path: &Path, range: &ByteRange, source: &Source<'_>) {
    if path.is_relative() {
        let message = "a relative path depends on the agent's working directory";
        source.warn(Some(range), message, "write an absolute path");
    }
}

fn reader(node: &Node, source: &Source<'_>) -> Option<Reader> {
    let section = Section::open(node, &READER, source)?;
    match (section.parse("user", account), section.parse("group", account)) {
        (Given::Here(user, _), Given::Absent) => Some(Reader::User(user)),
        (Given::Absent, Given::Here(group, _)) => Some(Reader::Group(group)),
        (Given::Wrong, Given::Absent) | (Given::Absent, Given::Wrong) => None,
        _ => {
            let message = "a reader needs either `user` or `group`";
            source.error(section.range.as_ref(), message, "");
            None
        }
    }
}

/// A name or, as for useradd, a number.
pub(super) fn account(text: &str) -> Result<Account, &'static str> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest is reserved: it means "unchanged" to the kernel.
        let id = text.parse().ok().filter(|id| *id != u32::MAX);
        return id.map(Account::Id).ok_or("the ID is too large");
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '$' | '@' | '\\');
    match text.len() <= 256 && !text.starts_with('-') && text.chars().all(allowed) {
        true => Ok(Account::Name(text.to_owned())),
        false => Err("this is not the name of a user or group"),
    }
}
