//! What a caller has to be: rules of the configuration.

use super::Caller;

/// Rules, of which a caller has to match one. Without any, every caller that the socket's mode lets in does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// Whether the caller matches.
    #[must_use]
    pub fn admit(&self, caller: &Caller) -> bool {
        self.0.is_empty() || self.0.iter().any(|rule| rule.matches(caller))
    }

    /// Whether a rule is about the executable, which costs a right and time to find out.
    #[must_use]
    pub fn need_executable(&self) -> bool {
        self.0.iter().any(|rule| rule.unix.path.is_some() || rule.unix.sha256.is_some())
    }
}

/// What a caller has to have, all of it. What is not stated does not matter; what a caller was not attested to have
/// is never equal to what is stated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The process.
    pub unix: UnixRule,
    /// Its systemd unit.
    pub systemd: SystemdRule,
    /// The ID of its container.
    pub container_id: Option<String>,
    /// The UID of its pod.
    pub pod_uid: Option<String>,
}

/// What the process has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixRule {
    /// Its ID.
    pub pid: Option<i32>,
    /// Its effective user.
    pub uid: Option<u32>,
    /// Its effective group.
    pub gid: Option<u32>,
    /// One of its supplementary groups.
    pub supplementary_gid: Option<u32>,
    /// The path of its executable.
    pub path: Option<String>,
    /// The SHA-256 of its executable.
    pub sha256: Option<[u8; 32]>,
}

/// Where systemd has to have put it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemdRule {
    /// The unit of the system's service manager.
    pub unit: Option<String>,
    /// The slice.
    pub slice: Option<String>,
}

impl Rule {
    /// Whether nothing is stated: a mistake, since it would match everyone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the caller has everything that is stated; never if nothing is.
    #[must_use]
    pub fn matches(&self, caller: &Caller) -> bool {
        let systemd = &caller.systemd;
        let container_id = caller.container.as_ref().map(|container| &container.id);
        !self.is_empty()
            && self.unix.matches(caller)
            && is(self.systemd.unit.as_ref(), systemd.unit.as_ref())
            && is(self.systemd.slice.as_ref(), systemd.slice.as_ref())
            && is(self.container_id.as_ref(), container_id)
            && is(self.pod_uid.as_ref(), caller.pod_uid.as_ref())
    }
}

impl UnixRule {
    fn matches(&self, caller: &Caller) -> bool {
        let unix = &caller.unix;
        let executable = unix.executable.as_ref();
        let sha256 = executable.and_then(|executable| executable.sha256);
        // A path in another mount namespace is as good as the hash beside it.
        let path = executable.and_then(|executable| match self.sha256 {
            Some(_) => executable.any_path(),
            None => executable.host_path(),
        });
        is(self.pid, Some(unix.pid))
            && is(self.uid, Some(unix.uid))
            && is(self.gid, Some(unix.gid))
            && self.supplementary_gid.is_none_or(|gid| unix.supplementary_gids.contains(&gid))
            && is(self.path.as_deref(), path)
            && is(self.sha256, sha256)
    }
}

/// Whether what is stated, if it is, was attested.
fn is<T: PartialEq>(stated: Option<T>, attested: Option<T>) -> bool {
    stated.is_none() || stated == attested
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::cgroup::{Container, Runtime, Systemd};
    use crate::attest::{Executable, Path, Unix};

    const HASH: [u8; 32] = [7; 32];

    fn caller() -> Caller {
        let path = Some(Path::OfHost("/usr/sbin/nginx".into()));
        Caller {
            unix: Unix {
                pid: 4711,
                uid: 33,
                gid: 34,
                supplementary_gids: vec![4, 27],
                executable: Some(Executable { path, sha256: Some(HASH) }),
            },
            systemd: Systemd {
                unit: Some("nginx.service".into()),
                slice: Some("system.slice".into()),
                user_unit: None,
            },
            container: Some(Container { id: "c".into(), runtime: Some(Runtime::Docker) }),
            pod_uid: Some("p".into()),
        }
    }

    /// A rule for each thing that can be stated, as the caller has it, and as another has it.
    fn single_conditions() -> Vec<[Rule; 2]> {
        fn of(state: impl Fn(&mut Rule, bool)) -> [Rule; 2] {
            [true, false].map(|right| {
                let mut rule = Rule::default();
                state(&mut rule, right);
                rule
            })
        }
        let text = |right: bool, value: &str| Some(if right { value } else { "other" }.to_owned());
        vec![
            of(|rule, right| rule.unix.pid = Some(if right { 4711 } else { 1 })),
            of(|rule, right| rule.unix.uid = Some(if right { 33 } else { 0 })),
            of(|rule, right| rule.unix.gid = Some(if right { 34 } else { 0 })),
            of(|rule, right| rule.unix.supplementary_gid = Some(if right { 27 } else { 34 })),
            of(move |rule, right| rule.unix.path = text(right, "/usr/sbin/nginx")),
            of(|rule, right| rule.unix.sha256 = Some(if right { HASH } else { [8; 32] })),
            of(move |rule, right| rule.systemd.unit = text(right, "nginx.service")),
            of(move |rule, right| rule.systemd.slice = text(right, "system.slice")),
            of(move |rule, right| rule.container_id = text(right, "c")),
            of(move |rule, right| rule.pod_uid = text(right, "p")),
        ]
    }

    #[test]
    fn each_condition_decides_alone_and_all_have_to_hold() {
        let (caller, pairs) = (caller(), single_conditions());
        for [right, wrong] in &pairs {
            assert!(right.matches(&caller), "{right:?}");
            assert!(!wrong.matches(&caller), "{wrong:?}");
        }
        let all = Rule {
            unix: UnixRule {
                pid: Some(4711),
                uid: Some(33),
                gid: Some(34),
                supplementary_gid: Some(4),
                path: Some("/usr/sbin/nginx".into()),
                sha256: Some(HASH),
            },
            systemd: SystemdRule {
                unit: Some("nginx.service".into()),
                slice: Some("system.slice".into()),
            },
            container_id: Some("c".into()),
            pod_uid: Some("p".into()),
        };
        assert!(all.matches(&caller));
        assert!(!Rule { pod_uid: Some("q".into()), ..all }.matches(&caller));
    }

    #[test]
    fn what_was_not_attested_satisfies_nothing() {
        let bare = Caller {
            unix: Unix { supplementary_gids: Vec::new(), executable: None, ..caller().unix },
            systemd: Systemd::default(),
            container: None,
            pod_uid: None,
        };
        let always = single_conditions().iter().filter(|[right, _]| right.matches(&bare)).count();
        assert_eq!(always, 3, "only pid, uid and gid are always attested");
        assert!(!Rule::default().matches(&caller()), "an empty rule");
        assert!(Rules::default().admit(&bare));
        assert!(!Rules(vec![Rule::default()]).admit(&bare));
    }

    #[test]
    fn path_in_another_mount_namespace_needs_the_hash_beside_it() {
        let executable =
            Executable { path: Some(Path::OfNamespace("/bin/a".into())), sha256: Some(HASH) };
        let mut caller = caller();
        caller.unix.executable = Some(executable);
        let path = Some("/bin/a".to_owned());
        let rule = |sha256| Rule {
            unix: UnixRule { path: path.clone(), sha256, ..UnixRule::default() },
            ..Rule::default()
        };
        assert!(!rule(None).matches(&caller));
        assert!(rule(Some(HASH)).matches(&caller));
        assert!(!rule(Some([0; 32])).matches(&caller));
    }
}
