use super::*;
use std::collections::BTreeSet;
use std::env;

const HOLD: &str = "XTASK_TEST_HOLDS_A_TPM";

fn made(kind: Kind) -> Manufactured {
    Factory::shared().tpm(Maker::Vendor, kind).unwrap()
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// What OpenSSL says of the EK certificate at an NV index, read by tpm2-tools and verified with the
/// CA.
fn certificate(tpm: &Swtpm, ca: &Ca, index: &str) -> String {
    let directory = Scratch::new("endorse-ek").unwrap();
    let file = |name: &str| directory.path().join(name);
    let der = file("ek.der");
    tpm.tool("tpm2_nvread", &[index, "-C", index, "-o", der.to_str().unwrap()]).unwrap();
    fs::write(file("root.pem"), ca.root_pem()).unwrap();
    fs::write(file("issuer.pem"), ca.issuer_pem()).unwrap();
    let openssl = |arguments: &[&str]| {
        let output =
            Command::new("openssl").current_dir(directory.path()).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "openssl {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    openssl(&["x509", "-inform", "der", "-in", "ek.der", "-out", "ek.pem"]);
    let critical = ["-ignore_critical", "ek.pem"];
    openssl(
        &[&["verify", "-CAfile", "root.pem", "-untrusted", "issuer.pem"], &critical[..]].concat(),
    );
    openssl(&["x509", "-in", "ek.pem", "-noout", "-pubkey"])
}

/// The public key of a persistent EK, or of the one that a template makes, as tpm2-tools see it.
fn public_key(tpm: &Swtpm, handle: Option<&str>) -> String {
    let directory = Scratch::new("endorse-ek").unwrap();
    let pem = directory.path().join("ek.pem");
    let pem = pem.to_str().unwrap();
    if let Some(handle) = handle {
        tpm.tool("tpm2_readpublic", &["-c", handle, "-f", "pem", "-o", pem]).unwrap();
    } else {
        let context = directory.path().join("ek.ctx");
        let context = context.to_str().unwrap();
        let arguments = ["-c", context, "-G", "ecc256", "-u", pem, "-f", "pem"];
        tpm.tool("tpm2_createek", &arguments).unwrap();
        tpm.tool("tpm2_flushcontext", &["-t"]).unwrap();
    }
    fs::read_to_string(pem).unwrap()
}

#[test]
fn every_kind_holds_what_it_says() {
    let expected: [(Kind, &[u32], &[u32]); 6] = [
        (Kind::RsaAndP384, &[0x8101_0001, 0x8101_0016], &[0x01C0_0002, 0x01C0_0016]),
        (Kind::RsaNotPersistent, &[0x8101_0016], &[0x01C0_0002, 0x01C0_0016]),
        (Kind::P384Only, &[0x8101_0016], &[0x01C0_0016]),
        (Kind::P256, &[0x8101_000A], &[0x01C0_000A]),
        (Kind::P256NotPersistent, &[], &[0x01C0_000A]),
        (Kind::NoCertificates, &[], &[]),
    ];
    assert_eq!(expected.map(|(kind, ..)| kind), Kind::ALL);
    for (kind, persistent, indices) in expected {
        let tpm = made(kind).start().unwrap();
        let handles = tpm.handles().unwrap();
        assert_eq!(handles.persistent, persistent, "{kind:?}");
        assert_eq!(handles.nv_indices, indices, "{kind:?}");
        assert!(handles.transient.is_empty() && handles.loaded_sessions.is_empty(), "{kind:?}");
    }
}

#[test]
fn certificates_are_of_the_keys_and_of_the_ca() {
    for (kind, index, handle) in [
        (Kind::RsaAndP384, "0x1c00002", Some("0x81010001")),
        (Kind::RsaAndP384, "0x1c00016", Some("0x81010016")),
        (Kind::P384Only, "0x1c00016", Some("0x81010016")),
        (Kind::P256, "0x1c0000a", Some("0x8101000a")),
        (Kind::P256NotPersistent, "0x1c0000a", None),
    ] {
        let made = made(kind);
        let tpm = made.start_tcp().unwrap();
        let certified = certificate(&tpm, made.ca(), index);
        assert_eq!(certified, public_key(&tpm, handle), "{kind:?} {index}");
    }
}

#[test]
fn the_namesake_has_the_same_names_and_other_keys() {
    let factory = Factory::shared();
    let (ours, theirs) = (factory.ca(Maker::Vendor).unwrap(), factory.ca(Maker::Namesake).unwrap());
    let shown = |pem: &str, what: &[&str]| {
        let mut openssl = Command::new("openssl");
        openssl.arg("x509").arg("-noout").args(what);
        let mut child = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(pem.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    for (one, other) in
        [(ours.root_pem(), theirs.root_pem()), (ours.issuer_pem(), theirs.issuer_pem())]
    {
        let names = ["-subject", "-issuer"];
        assert_eq!(shown(one, &names), shown(other, &names));
        assert_ne!(shown(one, &["-pubkey"]), shown(other, &["-pubkey"]));
    }
}

#[test]
fn units_are_made_once_and_differ() {
    let factory = Factory::shared();
    let read = |number| {
        let unit = factory.unit(Maker::Vendor, Kind::NoCertificates, number).unwrap();
        fs::read(unit.state().join(STATE_FILE)).unwrap()
    };
    assert_eq!(read(1), read(1));
    assert_ne!(read(0), read(1));
}

#[test]
fn a_factory_serves_many_at_once_and_survives_a_draft_left_behind() {
    let scratch = Scratch::new("endorse-factory").unwrap();
    let factory = Factory::at(scratch.path());
    let draft = scratch.path().join("v1/draft");
    fs::create_dir_all(&draft).unwrap();
    fs::write(draft.join(STATE_FILE), "half a TPM").unwrap();
    let states: BTreeSet<Vec<u8>> = thread::scope(|scope| {
        let askers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let made = factory.tpm(Maker::Vendor, Kind::NoCertificates).unwrap();
                    fs::read(made.state().join(STATE_FILE)).unwrap()
                })
            })
            .collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    assert_eq!(states.len(), 1);
    assert!(!draft.exists());
}

#[test]
fn many_software_tpms_run_at_once_and_all_are_stopped() {
    let made = made(Kind::NoCertificates);
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(made.start().unwrap());
        all.push(made.start_tcp().unwrap());
    }
    let addresses: BTreeSet<_> = all.iter().map(Swtpm::tcti).collect();
    assert_eq!(addresses.len(), all.len());
    let traces: Vec<_> =
        all.iter().map(|tpm| (tpm.process.id(), tpm.off.scratch.path().to_path_buf())).collect();
    for tpm in &all {
        tpm.handles().unwrap();
    }
    drop(all);
    for (pid, directory) in traces {
        assert!(!alive(pid));
        assert!(!directory.exists());
    }
}

/// Not a test of its own: what the next one runs in a process that it then kills.
#[test]
fn hold_a_tpm_until_killed() {
    let Some(report) = env::var_os(HOLD) else { return };
    let tpm = made(Kind::NoCertificates).start().unwrap();
    let text = format!("{} {}", tpm.process.id(), tpm.off.scratch.path().display());
    fs::write(Path::new(&report).with_extension("draft"), text).unwrap();
    fs::rename(Path::new(&report).with_extension("draft"), report).unwrap();
    thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_process_leaves_no_tpm_behind() {
    made(Kind::NoCertificates);
    let scratch = Scratch::new("endorse-hold").unwrap();
    let report = scratch.path().join("report");
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--exact", "swtpm::tests::hold_a_tpm_until_killed"])
        .env(HOLD, &report)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + START;
    while !report.exists() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
    let text = fs::read_to_string(&report).unwrap();
    let (pid, directory) = text.split_once(' ').unwrap();
    let (pid, directory) = (pid.parse().unwrap(), Path::new(directory));
    assert!(alive(pid) && directory.exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while (alive(pid) || directory.exists()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
    assert!(!alive(pid) && !directory.exists());
}

#[test]
fn handles_agree_with_tpm2_tools() {
    let tpm = made(Kind::RsaAndP384).start_tcp().unwrap();
    let directory = Scratch::new("endorse-handles").unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    tpm.tool("tpm2_createprimary", &["-c", &file("key")]).unwrap();
    tpm.tool("tpm2_startauthsession", &["-S", &file("session")]).unwrap();
    let listed = |what: &str| -> Vec<u32> {
        let text = tpm.tool("tpm2_getcap", &[what]).unwrap();
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("- 0x"))
            .map(|digits| u32::from_str_radix(digits, 16).unwrap())
            .collect()
    };
    let handles = tpm.handles().unwrap();
    assert_eq!(handles.transient, listed("handles-transient"));
    assert_eq!(handles.loaded_sessions, listed("handles-loaded-session"));
    assert_eq!(handles.saved_sessions, listed("handles-saved-session"));
    assert_eq!(handles.persistent, listed("handles-persistent"));
    assert_eq!(handles.nv_indices, listed("handles-nv-index"));
    assert_eq!(handles.transient.len(), 1, "the key is loaded");
    assert_eq!(handles.loaded_sessions.len() + handles.saved_sessions.len(), 1);
}

#[test]
fn a_power_cycle_keeps_what_is_persistent_and_the_address() {
    for start in [Manufactured::start, Manufactured::start_tcp] {
        let made = made(Kind::P256);
        let tpm = start(&made).unwrap();
        let address = tpm.tcti();
        let key = tpm.bare().unwrap().create_p256_ek().unwrap();
        assert_eq!(tpm.handles().unwrap().transient, [key.handle]);
        tpm.bare().unwrap().evict_control(key.handle, 0x8101_00FF).unwrap();
        let off = tpm.power_off();
        assert!(off.address.connect().is_err());
        let tpm = off.power_on().unwrap();
        assert_eq!(tpm.tcti(), address);
        let handles = tpm.handles().unwrap();
        assert!(handles.transient.is_empty());
        assert_eq!(handles.persistent, [0x8101_000A, 0x8101_00FF]);
        let fresh = start(&made).unwrap();
        assert_eq!(fresh.handles().unwrap().persistent, [0x8101_000A], "copies share nothing");
        assert_eq!(tpm.power_cycle().unwrap().handles().unwrap(), handles);
    }
}

#[test]
fn a_tpm_that_cannot_start_says_why() {
    let scratch = Scratch::new("endorse-broken").unwrap();
    fs::write(scratch.path().join(STATE_FILE), "not a TPM's state").unwrap();
    assert!(Swtpm::start(scratch.path()).is_err());
    fs::remove_file(scratch.path().join(STATE_FILE)).unwrap();
    let error = format!("{:#}", Swtpm::start(scratch.path()).unwrap_err());
    assert!(error.contains("copying the TPM"), "{error}");
}

#[test]
fn tools_refuse_a_unix_socket() {
    let tpm = made(Kind::NoCertificates).start().unwrap();
    assert!(tpm.tool("tpm2_getcap", &["handles-persistent"]).is_err());
}
