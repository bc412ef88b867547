//! The control groups of a caller: the kernel's text, with names in it that users choose.

use agent::attest::cgroup::{Membership, is_container_id, is_pod_uid};

use crate::{Verdict, assert_harmless};

/// The input is the content of `/proc/PID/cgroup`.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let found = match Membership::parse(data) {
        Ok(found) => found,
        Err(error) => {
            assert_harmless(&error.to_string());
            return Verdict::Refused;
        }
    };
    let text = std::str::from_utf8(data).expect("it was read");
    if let Some(container) = &found.container {
        assert!(is_container_id(&container.id) && text.contains(&container.id));
    }
    if let Some(uid) = &found.pod_uid {
        assert!(is_pod_uid(uid) && found.container.is_some());
        assert!(text.contains(uid) || text.contains(&uid.replace('-', "_")));
    }
    let systemd = &found.systemd;
    for name in [&systemd.unit, &systemd.slice, &systemd.user_unit].into_iter().flatten() {
        assert!(text.contains(name.as_str()) || name == "-.slice", "{name}");
        assert!(name.is_ascii() && !name.contains('/'), "{name}");
    }
    // The same below what a user or a service may name says no more than that.
    let below = |root: &str| {
        let line = |line: &str| {
            let fields: Vec<&str> = line.splitn(3, ':').collect();
            let [hierarchy, controllers, path] = fields[..] else { panic!("it was read") };
            format!("{hierarchy}:{controllers}:{root}{path}\n")
        };
        let text: String = text.lines().map(line).collect();
        Membership::parse(text.as_bytes())
    };
    let manager = "/user.slice/user-1000.slice/user@1000.service";
    for (root, unit) in [(manager, "user@1000.service"), ("/system.slice/x.service", "x.service")] {
        let claimed = below(root).expect("what is no evidence does not contradict");
        assert_eq!((claimed.container, claimed.pod_uid), (None, None), "{text}");
        assert!(claimed.systemd.unit.is_none_or(|claimed| claimed == unit), "{text}");
    }
    assert_eq!(below("/.."), Ok(Membership::default()), "{text}");
    Verdict::Accepted
}
