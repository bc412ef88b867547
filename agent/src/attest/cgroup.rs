//! What the control groups of a process say about it: the systemd unit, the container, the pod.
//!
//! The kernel writes `/proc/PID/cgroup`, and nobody without privileges moves a process to a group that is not theirs. But
//! whoever was given a subtree of the groups names what is in it as they like: a user's service manager, the processes of a
//! service with `Delegate=`. So paths are matched from the root by whole segments, and what comes below such a subtree's
//! root is no evidence. A form that is not known here says nothing; forms that contradict each other are refused.

mod container;
mod unit_name;

use std::fmt;

pub use container::{Container, Runtime, is_container_id, is_pod_uid};

use self::container::Contained;
use self::unit_name::{is_slice, unit, user_manager};

/// What the groups say; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Where systemd has put the process.
    pub systemd: Systemd,
    /// The container.
    pub container: Option<Container>,
    /// The UID of the pod, in its usual form.
    pub pod_uid: Option<String>,
}

/// Units of systemd that a process belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Systemd {
    /// The unit of the system's service manager, such as `nginx.service` or `session-2.scope`.
    pub unit: Option<String>,
    /// The slice that it is in.
    pub slice: Option<String>,
    /// The unit of a user's service manager. Its user chose the name: it means something only together with the uid.
    pub user_unit: Option<String>,
}

/// Why the text is no evidence of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It is not what the kernel writes.
    Malformed,
    /// Two hierarchies name different containers or pods.
    Contradictory,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed list of control groups",
            Self::Contradictory => "control groups that name different containers",
        })
    }
}

impl std::error::Error for Invalid {}

impl Membership {
    /// Reads the content of `/proc/PID/cgroup`. cgroups(7).
    ///
    /// # Errors
    /// The text is malformed, or its lines contradict each other.
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        let text = str::from_utf8(text).map_err(|_| Invalid::Malformed)?;
        let lines: Vec<Line<'_>> =
            text.lines().map(Line::parse).collect::<Option<_>>().ok_or(Invalid::Malformed)?;
        let mut contained: Option<Contained> = None;
        for found in lines.iter().filter_map(|line| Contained::of(&segments(line.path)?)) {
            if contained.as_ref().is_some_and(|other| *other != found) {
                return Err(Invalid::Contradictory);
            }
            contained = Some(found);
        }
        let systemd = systemd_line(&lines)?.and_then(segments);
        let (container, pod_uid) =
            contained.map_or((None, None), |found| (Some(found.container), found.pod_uid));
        let systemd = systemd.map(|path| Systemd::of(&path)).unwrap_or_default();
        Ok(Self { systemd, container, pod_uid })
    }
}

/// A hierarchy and the path of the process in it.
struct Line<'t> {
    hierarchy: &'t str,
    controllers: &'t str,
    path: &'t str,
}

impl<'t> Line<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        let mut fields = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_number = !hierarchy.is_empty() && hierarchy.bytes().all(|c| c.is_ascii_digit());
        (is_number && path.starts_with('/')).then_some(Self { hierarchy, controllers, path })
    }
}

/// The path in the hierarchy that is systemd's: its own of version 1 where there is one, else that of version 2.
fn systemd_line<'t>(lines: &[Line<'t>]) -> Result<Option<&'t str>, Invalid> {
    let one = |is_meant: &dyn Fn(&Line<'t>) -> bool| {
        let mut meant = lines.iter().filter(|line| is_meant(line)).map(|line| line.path);
        match (meant.next(), meant.next()) {
            (path, None) => Ok(path),
            (_, Some(_)) => Err(Invalid::Malformed),
        }
    };
    let own = one(&|line| line.controllers == "name=systemd")?;
    let unified = one(&|line| line.hierarchy == "0" && line.controllers.is_empty())?;
    Ok(own.or(unified))
}

/// The segments of a path. None if it leads out of the namespace that we see, or to a group that was removed.
fn segments(path: &str) -> Option<Vec<&str>> {
    let path = path.strip_prefix('/')?;
    if path.is_empty() {
        return Some(Vec::new());
    }
    let segments: Vec<&str> = path.split('/').collect();
    let is_normal = |segment: &&str| !matches!(*segment, "" | "." | "..");
    (segments.iter().all(is_normal) && !path.ends_with(" (deleted)")).then_some(segments)
}

impl Systemd {
    /// By the rules of systemd: after the leading slices comes the unit, or the process is in none.
    fn of(path: &[&str]) -> Self {
        const ROOT_SLICE: &str = "-.slice";
        let (slices, rest) = leading_slices(path);
        let unit = rest.first().and_then(|segment| unit(segment));
        let root = unit.is_some().then_some(ROOT_SLICE);
        let slice = slices.last().copied().or(root).map(str::to_owned);
        Self { unit: unit.map(str::to_owned), slice, user_unit: user_unit(path) }
    }
}

/// The leading slices, and what follows them.
fn leading_slices<'p, 't>(path: &'p [&'t str]) -> (&'p [&'t str], &'p [&'t str]) {
    let count = path.iter().take_while(|segment| is_slice(segment)).count();
    path.split_at_checked(count).unwrap_or((path, &[]))
}

/// The unit of a user's service manager, which is itself a unit of the system's.
fn user_unit(path: &[&str]) -> Option<String> {
    let ["user.slice", slice, manager, below @ ..] = path else { return None };
    let uid = user_manager(manager)?;
    if *slice != format!("user-{uid}.slice") {
        return None;
    }
    let (_, rest) = leading_slices(below);
    rest.first().and_then(|segment| unit(segment)).map(str::to_owned)
}

#[cfg(test)]
mod tests;
