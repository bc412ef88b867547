//! Readers besides the owner, by POSIX access control lists or by the group.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use host::bounded;
use host::exit::{Exit, Failure};
use rustix::fs::{Gid, Mode, XattrFlags};
use rustix::io::Errno;

use crate::config::{Account, Acls, Reader};

/// linux/posix_acl_xattr.h: where an access control list is, and its form's version.
const ATTRIBUTE: &str = "system.posix_acl_access";
const VERSION: u32 = 2;

/// linux/posix_acl.h.
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const UNDEFINED: u32 = u32::MAX;

const READ: u16 = 4;
const READ_AND_ENTER: u16 = 5;

/// No list is larger: an extended attribute has at most 64 KiB.
const MAX_ACL: usize = 64 * 1024;
/// No list of accounts is larger.
const MAX_ACCOUNTS_FILE: u64 = 16 * 1024 * 1024;

/// How readers get access, depending on the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// No one else.
    Private,
    /// These, by an access control list.
    List(Vec<(Who, u32)>),
    /// A group.
    Group(u32),
}

/// The ID of a group.
///
/// # Errors
/// This host has none of the name.
pub(crate) fn group_id(account: &Account) -> Result<u32, Failure> {
    number(&Reader::Group(account.clone())).map(|(_, id)| id)
}

/// Checks that this host has a user or group.
///
/// # Errors
/// It has none of the name.
pub(crate) fn check_account(account: &Reader) -> Result<(), Failure> {
    number(account).map(drop)
}

/// A user's or a group's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    User,
    Group,
}

/// The access that a directory can give to readers, with a warning if there is no access.
pub(super) fn decide(
    dir: impl AsFd,
    acls: Acls,
    readers: &[Reader],
) -> Result<(Access, Option<String>), Failure> {
    if readers.is_empty() {
        return Ok((Access::Private, None));
    }
    let mut named = readers.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    named.sort_unstable();
    named.dedup();
    let group = match named.as_slice() {
        [(Who::Group, group)] => Some(*group),
        _ => None,
    };
    let supported = acls != Acls::Off && has_lists(dir);
    match (supported, group) {
        (true, _) => Ok((Access::List(named), None)),
        (false, _) if acls == Acls::Required => Err(Failure::new(
            Exit::Config,
            "the file system of the destination has no access control lists",
            "choose another file system, or set `acls: try` and one group as the reader",
        )),
        (false, Some(group)) => Ok((Access::Group(group), None)),
        (false, None) if acls == Acls::Off => Err(Failure::new(
            Exit::Config,
            "without access control lists there can be one reader, a group",
            "set `acls: try`, or name one group as the reader",
        )),
        (false, None) => Ok((
            Access::Private,
            Some(
                "the file system of the destination has no access control lists: \
                 the readers cannot read"
                    .to_owned(),
            ),
        )),
    }
}

impl Access {
    /// Gives a new file its permissions.
    pub(super) fn admit_to_file(&self, file: impl AsFd) -> io::Result<()> {
        let file = file.as_fd();
        rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR)?;
        match self {
            Self::Private => Ok(()),
            Self::List(named) => set(file, &Acl::new(6, named, READ)),
            Self::Group(group) => {
                give(file, *group)?;
                Ok(rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR | Mode::RGRP)?)
            }
        }
    }

    /// Gives a new directory its permissions.
    pub(super) fn admit_to_directory(&self, dir: impl AsFd) -> io::Result<()> {
        let dir = dir.as_fd();
        match self {
            Self::Private => Ok(()),
            Self::List(named) => set(dir, &Acl::new(7, named, READ_AND_ENTER)),
            Self::Group(group) => {
                give(dir, *group)?;
                Ok(rustix::fs::fchmod(dir, Mode::RWXU | Mode::RGRP | Mode::XGRP)?)
            }
        }
    }

    /// Gives the readers access to an existing directory, and takes no access away.
    pub(super) fn admit_to_existing(&self, dir: impl AsFd) -> io::Result<()> {
        let dir = dir.as_fd();
        let stat = rustix::fs::fstat(dir)?;
        if stat.st_mode & 0o005 == 0o005 {
            return Ok(());
        }
        match self {
            Self::Private => Ok(()),
            Self::List(named) => {
                let now = Acl::of(dir, stat.st_mode)?;
                let wanted = now.clone().grant(named, READ_AND_ENTER);
                if wanted == now { Ok(()) } else { set(dir, &wanted) }
            }
            Self::Group(group) if stat.st_gid == *group && stat.st_mode & 0o050 == 0o050 => Ok(()),
            Self::Group(group) if stat.st_gid == *group || stat.st_mode & 0o070 == 0 => {
                give(dir, *group)?;
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                Ok(rustix::fs::fchmod(dir, mode | Mode::RGRP | Mode::XGRP)?)
            }
            Self::Group(_) => Err(io::Error::other("it already belongs to another group")),
        }
    }
}

/// An access control list, in the order that the kernel demands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Acl {
    owner: u16,
    named: Vec<(Who, u32, u16)>,
    group: u16,
    other: u16,
}

impl Acl {
    fn new(owner: u16, named: &[(Who, u32)], permissions: u16) -> Self {
        Self { owner, named: Vec::new(), group: 0, other: 0 }.grant(named, permissions)
    }

    /// The list of a file, or what its mode says as a list. The mask is applied.
    fn of(file: impl AsFd, mode: u32) -> io::Result<Self> {
        match list(file)? {
            Some(bytes) => Self::parse(&bytes)
                .ok_or_else(|| io::Error::other("its access control list is malformed")),
            None => {
                let class = |shift: u32| u16::try_from((mode >> shift) & 7).unwrap_or(0);
                Ok(Self { owner: class(6), named: Vec::new(), group: class(3), other: class(0) })
            }
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first_chunk()?;
        let (entries, []) = entries.as_chunks::<8>() else { return None };
        if u32::from_le_bytes(*version) != VERSION {
            return None;
        }
        let mut acl = Self { owner: 0, named: Vec::new(), group: 0, other: 0 };
        let mut mask = 7;
        for &[t0, t1, p0, p1, i0, i1, i2, i3] in entries {
            let permissions = u16::from_le_bytes([p0, p1]) & 7;
            let id = u32::from_le_bytes([i0, i1, i2, i3]);
            match u16::from_le_bytes([t0, t1]) {
                USER_OBJ => acl.owner = permissions,
                USER => acl.named.push((Who::User, id, permissions)),
                GROUP_OBJ => acl.group = permissions,
                GROUP => acl.named.push((Who::Group, id, permissions)),
                MASK => mask = permissions,
                OTHER => acl.other = permissions,
                _ => return None,
            }
        }
        acl.group &= mask;
        acl.named.iter_mut().for_each(|(_, _, permissions)| *permissions &= mask);
        Some(acl)
    }

    fn grant(mut self, named: &[(Who, u32)], permissions: u16) -> Self {
        for &(who, id) in named {
            match self.named.iter_mut().find(|entry| (entry.0, entry.1) == (who, id)) {
                Some(entry) => entry.2 |= permissions,
                None => self.named.push((who, id, permissions)),
            }
        }
        self.named.sort_unstable();
        self
    }

    fn to_octets(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        let mut entry = |tag: u16, permissions: u16, id: u32| {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        };
        let of = |wanted| self.named.iter().filter(move |(who, _, _)| *who == wanted);
        entry(USER_OBJ, self.owner, UNDEFINED);
        of(Who::User).for_each(|&(_, id, permissions)| entry(USER, permissions, id));
        entry(GROUP_OBJ, self.group, UNDEFINED);
        of(Who::Group).for_each(|&(_, id, permissions)| entry(GROUP, permissions, id));
        let mask = self.named.iter().fold(self.group, |mask, entry| mask | entry.2);
        entry(MASK, mask, UNDEFINED);
        entry(OTHER, self.other, UNDEFINED);
        bytes
    }
}

/// The access control list of a file as the kernel has it; `None` if it has none.
pub(super) fn list(file: impl AsFd) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(MAX_ACL);
    match rustix::fs::fgetxattr(file, ATTRIBUTE, rustix::buffer::spare_capacity(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn set(file: impl AsFd, acl: &Acl) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, ATTRIBUTE, &acl.to_octets(), XattrFlags::empty())?)
}

fn give(file: impl AsFd, group: u32) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, None, Some(Gid::from_raw(group)))?)
}

fn has_lists(dir: impl AsFd) -> bool {
    !matches!(rustix::fs::fgetxattr_query(dir, ATTRIBUTE), Err(Errno::OPNOTSUPP | Errno::NOSYS))
}

fn number(reader: &Reader) -> Result<(Who, u32), Failure> {
    let (who, account, what, file) = match reader {
        Reader::User(account) => (Who::User, account, "user", "/etc/passwd"),
        Reader::Group(account) => (Who::Group, account, "group", "/etc/group"),
    };
    let id = match account {
        Account::Id(id) => *id,
        Account::Name(name) => {
            let text = File::open(file)
                .and_then(|file| bounded::read_text(file, MAX_ACCOUNTS_FILE))
                .map_err(|cause| Failure::io(&cause, file))?;
            find(&text, name).ok_or_else(|| {
                Failure::new(
                    Exit::Config,
                    format!("the {what} {name:?} is not in {file}"),
                    "create it, or give its number",
                )
            })?
        }
    };
    if id == UNDEFINED {
        return Err(Failure::new(
            Exit::Config,
            format!("{id} is not a valid user or group ID"),
            "",
        ));
    }
    Ok((who, id))
}

/// passwd(5), group(5): the name first, the number third.
fn find(accounts: &str, name: &str) -> Option<u32> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name() {
        let text = "root:x:0:0:root:/root:/bin/sh\n# x\nbroken\nnginx:x:101:102::/:/bin/false\n";
        assert_eq!(find(text, "nginx"), Some(101));
        assert_eq!(find(text, "root"), Some(0));
        for name in ["", "broken", "ngin", "x"] {
            assert_eq!(find(text, name), None, "{name:?}");
        }
        assert_eq!(number(&Reader::User(Account::Name("root".into()))).unwrap(), (Who::User, 0));
        let failure = number(&Reader::Group(Account::Name("no-such-group".into()))).unwrap_err();
        assert_eq!(failure.exit, Exit::Config);
        assert!(failure.message.contains("/etc/group"), "{failure}");
        number(&Reader::User(Account::Id(u32::MAX))).unwrap_err();
    }

    #[test]
    fn a_list_survives_its_octets_and_loses_only_what_the_mask_hid() {
        let acl = Acl::new(7, &[(Who::Group, 5), (Who::User, 9), (Who::User, 3)], 5);
        assert_eq!(Acl::parse(&acl.to_octets()), Some(acl.clone()));
        let mut masked = acl.to_octets();
        let mask = masked.len() - 8 - 8 + 2;
        assert_eq!(masked[mask], 5);
        masked[mask] = 0;
        let parsed = Acl::parse(&masked).unwrap();
        assert!(parsed.named.iter().all(|entry| entry.2 == 0));
        assert_eq!(parsed.clone().grant(&[(Who::User, 3)], 5).named[0], (Who::User, 3, 5));
        assert_eq!(parsed.grant(&[(Who::User, 3)], 5).named[1], (Who::User, 9, 0));
        for bytes in [&[][..], &[2, 0, 0], &[1, 0, 0, 0], &[2, 0, 0, 0, 1], &masked[..30]] {
            assert_eq!(Acl::parse(bytes), None, "{bytes:?}");
        }
    }
}
