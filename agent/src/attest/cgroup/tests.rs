use super::*;

const ID: &str = "b2a102854b4969b2ce98dc329c86b4fb2b06e4ad2cc8da9d8a7578c9cd2004a2";
const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000001";
const POD: &str = "72f7f152-440c-66ac-9084-e0fc1d8a910c";

/// Fills `ID`, `OTHER`, `UID` (as the kubelet has it) and `U_ID` (as systemd has it) in.
fn filled(text: &str) -> String {
    text.replace("U_ID", &POD.replace('-', "_"))
        .replace("UID", POD)
        .replace("OTHER", OTHER)
        .replace("ID", ID)
}

fn parse(text: &str) -> Result<Membership, Invalid> {
    Membership::parse(filled(text).as_bytes())
}

#[track_caller]
fn contained(path: &str) -> Option<(Option<Runtime>, Option<String>)> {
    let found = parse(&format!("0::{path}\n")).unwrap();
    let container = found.container?;
    assert_eq!(container.id, ID, "{path}");
    Some((container.runtime, found.pod_uid))
}

#[test]
fn known_forms_name_container_and_pod() {
    use Runtime::{Containerd, CriO, Docker, Podman};
    const BURSTABLE: &str =
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_ID.slice";
    const OWN_ROOT: &str = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podU_ID.slice";
    for (path, runtime) in [
        ("/docker/ID", Docker),
        ("/docker/ID/init.scope", Docker),
        ("/system.slice/docker-ID.scope", Docker),
        ("/system.slice/docker-ID.scope/payload", Docker),
        ("/docker.slice/docker-ID.scope", Docker),
        ("/machine.slice/libpod-ID.scope", Podman),
        ("/machine.slice/libpod-ID.scope/container", Podman),
        // A pod that the kubelet reads from a file has no UID.
        ("/kubepods.slice/kubepods-pod0123456789abcdef0123456789abcdef.slice/crio-ID.scope", CriO),
    ] {
        assert_eq!(contained(path), Some((Some(runtime), None)), "{path}");
    }
    for (path, runtime) in [
        ("/kubepods/burstable/podUID/ID", None),
        ("/kubepods/besteffort/podUID/ID", None),
        ("/kubepods/podUID/ID", None),
        (&format!("{BURSTABLE}/docker-ID.scope"), Some(Docker)),
        (&format!("{BURSTABLE}/cri-containerd-ID.scope"), Some(Containerd)),
        (&format!("{BURSTABLE}/crio-ID.scope"), Some(CriO)),
        (&format!("{BURSTABLE}/crio-ID.scope/container"), Some(CriO)),
        ("/kubepods.slice/kubepods-podU_ID.slice/cri-containerd-ID.scope", Some(Containerd)),
        (&format!("{OWN_ROOT}/cri-containerd-ID.scope"), Some(Containerd)),
        (&format!("{BURSTABLE}:cri-containerd:ID"), Some(Containerd)),
        ("/kubepods-besteffort-podU_ID.slice:cri-containerd:ID", Some(Containerd)),
        (
            "/system.slice/containerd.service/kubepods-burstable-podU_ID.slice:cri-containerd:ID",
            Some(Containerd),
        ),
        // A node in a container: what is innermost and has a pod counts.
        ("/docker/OTHER/kubepods/besteffort/podUID/ID", None),
        (&format!("/docker/OTHER{OWN_ROOT}/cri-containerd-ID.scope"), Some(Containerd)),
        ("/system.slice/docker-OTHER.scope/kubepods/podUID/ID", None),
    ] {
        assert_eq!(contained(path), Some((runtime, Some(POD.to_owned()))), "{path}");
    }
}

#[test]
fn forms_that_others_can_make_name_no_container() {
    const SHORT: &str = "b2a102854b4969b2ce98dc329c86b4fb2b06e4ad2cc8da9d8a7578c9cd2004a";
    for path in [
        "/",
        "/ID",
        "/elsewhere/ID",
        "/lxc/ID",
        // Another namespace than ours.
        "/../ID",
        "/../crio-ID.scope",
        "/../docker/ID",
        "/docker/../docker/ID",
        // The process that watches a container is not in it.
        "/system.slice/crio-conmon-ID.scope",
        "/machine.slice/libpod-conmon-ID.scope",
        "/kubepods.slice/kubepods-podU_ID.slice/crio-conmon-ID.scope",
        // Where users and services choose the names.
        "/user.slice/docker-ID.scope",
        "/user.slice/user-1000.slice/docker-ID.scope",
        "/user.slice/user-1000.slice/user@1000.service/docker-ID.scope",
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod/ID",
        "/user.slice/user-1000.slice/user@1000.service/kubepods/podUID/ID",
        "/user.slice/user-1000.slice/user@1000.service/kubepods-podU_ID.slice:cri-containerd:ID",
        "/system.slice/own.service/docker/ID",
        "/system.slice/own.service/docker-ID.scope",
        "/system.slice/own.service/kubepods.slice/kubepods-podU_ID.slice/crio-ID.scope",
        "/system.slice/own.service/kubepods-podU_ID.slice:cri-containerd:ID",
        "/x/system.slice/docker-ID.scope",
        "/x/docker/ID",
        "/x/kubepods/podUID/ID",
        // Not whole segments.
        "/docker/xID",
        "/docker/IDx",
        "/docker/ID-x",
        "/system.slice/docker-IDx.scope",
        "/system.slice/docker-ID",
        "/system.slice/docker-ID.service",
        "/system.slice/xdocker-ID.scope",
        "/docker-ID.scope (deleted)",
        "/docker//ID",
        "/docker/./ID",
        "/docker/ID/",
        "/kubepods/burstable/podx/ID",
        "/kubepods/guaranteed/podUID/ID",
        "/kubepods/burstable/UID/ID",
        "/kubepods/podUID",
        "/kubepods-podU_ID.slice:cri-containerd:",
        "/kubepods-podU_ID.slice:other:ID",
        "/x:cri-containerd:ID",
    ] {
        assert_eq!(contained(path), None, "{path}");
    }
    for id in [SHORT, &ID.to_uppercase(), &ID.replace('b', "g"), &ID.replace("b2", "é")] {
        let text = format!("0::/docker/{id}\n");
        assert_eq!(Membership::parse(text.as_bytes()), Ok(Membership::default()), "{id}");
    }
}

#[test]
fn pod_needs_the_whole_chain_of_slices() {
    for slices in [
        "/kubepods-podU_ID.slice",
        "/other.slice/kubepods-podU_ID.slice",
        "/kubepods.slice/kubepods-burstable-podU_ID.slice",
        "/kubepods.slice/kubepods-other.slice/kubepods-other-podU_ID.slice",
        "/other.slice/other-kubepods.slice/other-kubepods-podU_ID.slice",
        "/kubepods.slice/kubepods-podx.slice",
    ] {
        let found = contained(&format!("{slices}/crio-ID.scope"));
        assert_eq!(found, Some((Some(Runtime::CriO), None)), "{slices}");
    }
    // Nothing but a container with a pod is believed below a container.
    let found = parse("0::/docker/ID/docker/OTHER\n").unwrap();
    assert_eq!(found.container.unwrap().id, ID);
    let found = parse("0::/docker/ID/system.slice/docker-OTHER.scope\n").unwrap();
    assert_eq!(found.container.unwrap().id, ID);
    let found = parse("0::/machine.slice/libpod-ID.scope/kubepods/podUID/OTHER\n").unwrap();
    assert_eq!((found.container.unwrap().id.as_str(), found.pod_uid), (ID, None));
}

#[test]
fn units_are_those_that_systemd_says() {
    let long = format!("/system.slice/{}.service", "x".repeat(248));
    for (path, unit, slice, user_unit) in [
        ("/system.slice/nginx.service", Some("nginx.service"), Some("system.slice"), None),
        ("/system.slice/foo.service/payload", Some("foo.service"), Some("system.slice"), None),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            Some("getty@tty1.service"),
            Some("system-getty.slice"),
            None,
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service",
            Some("user@1000.service"),
            Some("user-1000.slice"),
            Some("foo.service"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/server.service",
            Some("user@1000.service"),
            Some("user-1000.slice"),
            Some("server.service"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/piff",
            Some("user@1000.service"),
            Some("user-1000.slice"),
            None,
        ),
        (
            "/user.slice/user-1000.slice/session-2.scope",
            Some("session-2.scope"),
            Some("user-1000.slice"),
            None,
        ),
        ("/init.scope", Some("init.scope"), Some("-.slice"), None),
        ("/init.scope/x.service", Some("init.scope"), Some("-.slice"), None),
        ("/system.slice/piff", None, Some("system.slice"), None),
        ("/system.slice/user@.service", None, Some("system.slice"), None),
        ("/system.slice/@x.service", None, Some("system.slice"), None),
        ("/system.slice/x.timer", None, Some("system.slice"), None),
        ("/system.slice/x y.service", None, Some("system.slice"), None),
        ("/system.slice/é.service", None, Some("system.slice"), None),
        ("/system.slice/.service", None, Some("system.slice"), None),
        ("/system.slice", None, Some("system.slice"), None),
        // Escaped: a name that a file of the kernel could have.
        ("/system.slice/_cgroup.service", Some("cgroup.service"), Some("system.slice"), None),
        ("/system.slice/__x.service", Some("_x.service"), Some("system.slice"), None),
        (&long, None, Some("system.slice"), None),
        // Another user's name, and one of no user's manager.
        (
            "/user.slice/user-1000.slice/user@1001.service/foo.service",
            Some("user@1001.service"),
            Some("user-1000.slice"),
            None,
        ),
        ("/user@1000.service/foo.service", Some("user@1000.service"), Some("-.slice"), None),
        (
            "/user.slice/user-01.slice/user@01.service/foo.service",
            Some("user@01.service"),
            Some("user-01.slice"),
            None,
        ),
        ("/piff/nginx.service", None, None, None),
        ("/../nginx.service", None, None, None),
        ("/", None, None, None),
        ("/docker/ID", None, None, None),
        ("/system.slice/nginx.service (deleted)", None, None, None),
    ] {
        let found = parse(&format!("0::{path}\n")).unwrap().systemd;
        let found = (found.unit.as_deref(), found.slice.as_deref(), found.user_unit.as_deref());
        assert_eq!(found, (unit, slice, user_unit), "{path}");
    }
}

#[test]
fn hierarchy_of_systemd_goes_before_that_of_version_2() {
    let found = parse(
        "12:pids:/\n4:memory:/elsewhere.slice/x.service\n1:name=systemd:/system.slice/a.service\n0::/b.service\n",
    );
    assert_eq!(found.unwrap().systemd.unit.as_deref(), Some("a.service"));
    let found = parse("1:name=other:/system.slice/a.service\n0::/b.service\n");
    assert_eq!(found.unwrap().systemd.unit.as_deref(), Some("b.service"));
    let found = parse("1:name=other:/system.slice/a.service\n2:cpu:/b.service\n");
    assert_eq!(found.unwrap().systemd, Systemd::default());
    // A list of processes in no group of systemd: what version 2 says is not what systemd says.
    let found = parse("1:name=systemd:/\n0::/system.slice/b.service\n").unwrap();
    assert_eq!(found.systemd, Systemd::default());
}

#[test]
fn contradictions_are_refused() {
    let of_all =
        "4:memory:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/containerd.service\n";
    assert_eq!(parse(of_all).unwrap().container.unwrap().id, ID);
    for text in [
        "4:memory:/docker/ID\n1:name=systemd:/docker/OTHER\n",
        "4:memory:/docker/ID\n0::/system.slice/crio-ID.scope\n",
        "4:memory:/kubepods/podUID/ID\n0::/kubepods.slice/kubepods-podU_ID.slice/crio-ID.scope\n",
        "4:memory:/docker/ID\n0::/docker/ID/kubepods/podUID/ID\n",
    ] {
        assert_eq!(parse(text), Err(Invalid::Contradictory), "{text}");
    }
}

#[test]
fn what_the_kernel_does_not_write_is_refused() {
    for text in [
        "x",
        "0:",
        "0::",
        "0::x",
        "::/",
        "x::/",
        "0:/",
        "\n",
        "0::/\n\n0::/",
        "-1::/",
        "0::/\n0::/",
        "1:name=systemd:/\n2:name=systemd:/",
    ] {
        assert_eq!(parse(text), Err(Invalid::Malformed), "{text:?}");
    }
    assert_eq!(Membership::parse(b"0::/\xff\n"), Err(Invalid::Malformed));
    assert_eq!(parse(""), Ok(Membership::default()));
    assert_eq!(parse("0::/docker/ID"), parse("0::/docker/ID\n"));
}
