//! The containers and pods that paths of control groups name, by the forms that the runtimes use.
//!
//! | runtime | path, from the root |
//! |---|---|
//! | docker | `/docker/ID`, `/SLICE../docker-ID.scope` |
//! | podman as root | `/machine.slice/libpod-ID.scope` |
//! | CRI-O, containerd, docker below the kubelet | `POD/crio-ID.scope`, `POD/cri-containerd-ID.scope`, `POD/docker-ID.scope` |
//! | containerd with another driver than the kubelet | `/..POD.slice:cri-containerd:ID` |
//! | the kubelet, without systemd | `/kubepods[/QOS]/podUID/ID` |
//! | a node in a container of docker | one of docker, and one of the kubelet below it, which counts |
//!
//! POD is `/kubepods.slice[/kubepods-QOS.slice]/kubepods[-QOS]-podUID.slice`, or the same below `kubelet.slice`; QOS is
//! `burstable` or `besteffort`. Below `user.slice` users choose the names: containers without root are none here.

use std::fmt;

use super::leading_slices;

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// Its ID: 64 hexadecimal digits.
    pub id: String,
    /// Its runtime, if the path names it.
    pub runtime: Option<Runtime>,
}

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, by the container runtime interface.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman, run by root.
    Podman,
}

impl Runtime {
    /// What scopes of containers begin with.
    const SCOPES: [(&'static str, Self); 4] = [
        ("docker-", Self::Docker),
        ("cri-containerd-", Self::Containerd),
        ("crio-", Self::CriO),
        ("libpod-", Self::Podman),
    ];
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
        })
    }
}

/// A container, and the pod that it is in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contained {
    pub(super) container: Container,
    pub(super) pod_uid: Option<String>,
}

impl Contained {
    /// What a path says.
    pub(super) fn of(path: &[&str]) -> Option<Self> {
        let (outer, below) = match path {
            ["docker", id, below @ ..] => (Self::new(id, Some(Runtime::Docker), Pod::None)?, below),
            _ => match Self::without_systemd(path) {
                Some(found) => return Some(found),
                None => Self::in_scope(path)?,
            },
        };
        if outer.container.runtime != Some(Runtime::Docker) || outer.pod_uid.is_some() {
            return Some(outer);
        }
        let inner = Self::without_systemd(below).or_else(|| Some(Self::in_scope(below)?.0));
        Some(inner.filter(|inner| inner.pod_uid.is_some()).unwrap_or(outer))
    }

    fn new(id: &str, runtime: Option<Runtime>, pod: Pod) -> Option<Self> {
        let container = Container { id: is_container_id(id).then(|| id.to_owned())?, runtime };
        Some(Self { container, pod_uid: pod.uid() })
    }

    /// Below the groups that the kubelet makes itself.
    fn without_systemd(path: &[&str]) -> Option<Self> {
        let (pod, id) = match path {
            ["kubepods", "burstable" | "besteffort", pod, id, ..] | ["kubepods", pod, id, ..] => {
                (pod, id)
            }
            _ => return None,
        };
        Self::new(id, None, Pod::parse(pod)?)
    }

    /// In a scope of systemd, or in a group that was given the name of one; and what is below.
    fn in_scope<'p, 't>(path: &'p [&'t str]) -> Option<(Self, &'p [&'t str])> {
        let (slices, rest) = leading_slices(path);
        if slices.first() == Some(&"user.slice") {
            return None;
        }
        let (group, below) = match (slices, rest) {
            // Where containerd itself runs, if it does not ask systemd for groups.
            (["system.slice"], ["containerd.service", group, below @ ..])
                if group.contains(':') =>
            {
                (group, below)
            }
            (_, [group, below @ ..]) => (group, below),
            (_, []) => return None,
        };
        if let Some((slice, id)) = group.split_once(":cri-containerd:") {
            let contained = Self::new(id, Some(Runtime::Containerd), Pod::of_slice(slice)?)?;
            return Some((contained, below));
        }
        let scope = group.strip_suffix(".scope")?;
        let named =
            |(prefix, runtime): &(&str, Runtime)| Some((scope.strip_prefix(prefix)?, *runtime));
        let (id, runtime) = Runtime::SCOPES.iter().find_map(named)?;
        Some((Self::new(id, Some(runtime), Pod::of_slices(slices))?, below))
    }
}

/// The pod of a group.
enum Pod {
    /// It is in none.
    None,
    /// A pod that the kubelet reads from a file: it has the hash of that file in place of a UID.
    Static,
    Uid(String),
}

impl Pod {
    /// `podUID`; systemd's names have `_` where the UID has `-`.
    fn parse(segment: &str) -> Option<Self> {
        let uid = segment.strip_prefix("pod")?;
        if uid.len() == 32 && is_hex(uid) {
            return Some(Self::Static);
        }
        let uid = if uid.contains('-') { uid.to_owned() } else { uid.replace('_', "-") };
        is_pod_uid(&uid).then_some(Self::Uid(uid))
    }

    /// By the leading slices of a path. A slice is in those whose names its own begins with.
    fn of_slices(slices: &[&str]) -> Self {
        let Some(last) = slices.last() else { return Self::None };
        let name = last.strip_suffix(".slice").unwrap_or(last);
        let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
        let parents = ends.filter_map(|end| Some(format!("{}.slice", name.get(..end)?)));
        match slices.iter().map(|slice| (*slice).to_owned()).eq(parents) {
            true => Self::of_slice(last).unwrap_or(Self::None),
            false => Self::None,
        }
    }

    /// By the name of a pod's slice.
    fn of_slice(slice: &str) -> Option<Self> {
        let name = slice.strip_suffix(".slice")?;
        let name = name.strip_prefix("kubelet-").unwrap_or(name).strip_prefix("kubepods-")?;
        let qos = ["burstable-", "besteffort-"].iter().find_map(|qos| name.strip_prefix(*qos));
        Self::parse(qos.unwrap_or(name))
    }

    fn uid(self) -> Option<String> {
        match self {
            Self::Uid(uid) => Some(uid),
            Self::None | Self::Static => None,
        }
    }
}

/// Whether this is the ID of a container.
#[must_use]
pub fn is_container_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Whether this is the UID of a pod, in its usual form.
#[must_use]
pub fn is_pod_uid(text: &str) -> bool {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    text.split('-').map(str::len).eq(GROUPS) && text.split('-').all(is_hex)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}
