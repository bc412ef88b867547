//! Files that we and tpm2-tools exchange: contexts, handles, and the halves of an object.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use testkit::child::Scratch;
use testkit::swtpm::{Kind, Swtpm};
use tests::tpm::{client, hmac_session, sign, start_tcp};
use tpm2::session::Auth;
use tpm2::template::{SRK_P256, ecc_signing};
use tpm2::types::{Alg, Curve, Handle, Hierarchy, Provision, SensitiveCreate};
use tpm2::{Fault, object, tools};

/// A TPM, and a directory for files.
struct Bench {
    swtpm: Swtpm,
    directory: Scratch,
}

impl Bench {
    fn new() -> Result<Self> {
        let swtpm = start_tcp(Kind::NoCertificates)?;
        Ok(Self { swtpm, directory: Scratch::new("endorse-tools")? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.path(name))?)
    }

    /// Runs a tool in the directory, and nothing stays in the TPM.
    fn tool(&self, line: &str) -> Result<String> {
        let mut words = line.split(' ');
        let run = |name: &str, arguments: &[&str]| {
            let mut command = self.swtpm.tool_command(name)?;
            let output = command.args(arguments).current_dir(self.directory.path()).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{name}: {said}");
            Ok(String::from_utf8(output.stdout)?)
        };
        let name = words.next().unwrap_or_default();
        let said = run(name, &words.collect::<Vec<_>>())?;
        run("tpm2_flushcontext", &["-t"])?;
        Ok(said)
    }
}

fn write(path: &Path, octets: Vec<u8>) -> Result<()> {
    Ok(fs::write(path, octets)?)
}

#[test]
fn what_tpm2_tools_create_is_loaded_here() -> Result<()> {
    let bench = Bench::new()?;
    bench.tool("tpm2_createprimary -C o -G ecc -c parent.ctx")?;
    bench.tool("tpm2_create -C parent.ctx -G ecc256:ecdsa-sha256 -p pin -u key.pub -r key.priv")?;
    bench.tool("tpm2_load -C parent.ctx -u key.pub -r key.priv -c key.ctx")?;
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign";
    let make = "tpm2_createprimary -C o -G ecc256:ecdsa-sha256:null -c own.ctx -a";
    bench.tool(&format!("{make} {attributes}"))?;
    bench.tool("tpm2_evictcontrol -C o -c own.ctx 0x81000005 -o own.handle")?;
    bench.tool("tpm2_startauthsession -S session.ctx")?;

    let mut tpm = client(&bench.swtpm)?;
    let parent = tools::load(&mut tpm, &bench.read("parent.ctx")?)?;
    let wrapped = tools::read_wrapped(&bench.read("key.pub")?, &bench.read("key.priv")?)?;
    assert_eq!(tools::write_public(&wrapped)?, bench.read("key.pub")?);
    assert_eq!(tools::write_private(&wrapped)?, bench.read("key.priv")?);
    // A session proves that the Names are right.
    let mut session = hmac_session(&mut tpm)?;
    let key = object::load(&mut tpm, parent.object(), session.auth(b""), &wrapped)?;
    tpm.run(&sign(key.object(), &[1; 32]), [session.auth(b"pin")])?;
    tpm.flush(key.handle())?;
    let again = tools::load(&mut tpm, &bench.read("key.ctx")?)?;
    assert_eq!(again.name(), key.name());
    tpm.run(&sign(again.object(), &[1; 32]), [session.auth(b"pin")])?;

    let persistent = tools::load(&mut tpm, &bench.read("own.handle")?)?;
    assert_eq!(persistent.handle(), Handle(0x8100_0005));
    tpm.run(&sign(persistent.object(), &[1; 32]), [session.auth(b"")])?;
    assert_eq!(tools::write_persistent(&persistent)?, bench.read("own.handle")?);

    let error = tools::load(&mut tpm, &bench.read("session.ctx")?).unwrap_err();
    assert!(matches!(error.fault(), Fault::Input(_)), "{error}");
    assert!(format!("{error:#}").contains("version"), "{error:#}");
    Ok(())
}

#[test]
fn what_is_created_here_is_loaded_by_tpm2_tools() -> Result<()> {
    let bench = Bench::new()?;
    let mut tpm = client(&bench.swtpm)?;
    let (owner, auth, empty) = (Hierarchy::Owner, Auth::EMPTY, SensitiveCreate::EMPTY);
    let parent = object::create_primary(&mut tpm, owner, auth, &SRK_P256, empty)?.0;
    let template = ecc_signing(Curve::NIST_P256, Alg::SHA256);
    let (key, _) = object::create(&mut tpm, parent.object(), Auth::EMPTY, &template, empty)?;
    write(&bench.path("parent.ctx"), tools::save_context(&mut tpm, &parent)?)?;
    write(&bench.path("key.pub"), tools::write_public(&key)?)?;
    write(&bench.path("key.priv"), tools::write_private(&key)?)?;
    let loaded = object::load(&mut tpm, parent.object(), Auth::EMPTY, &key)?;
    write(&bench.path("key.ctx"), tools::save_context(&mut tpm, &loaded)?)?;
    let (handle, auth) = (Handle(0x8100_0007), Auth::EMPTY);
    let kept = object::persist(&mut tpm, &parent, handle, Provision::Owner, auth)?;
    write(&bench.path("parent.handle"), tools::write_persistent(&kept)?)?;
    drop(tpm);

    fs::write(bench.path("message"), "message")?;
    let name = bench.tool("tpm2_readpublic -c key.ctx -n key.name")?;
    assert!(name.contains("ecdsa"), "{name}");
    assert_eq!(bench.read("key.name")?, loaded.name().octets());
    for parent in ["parent.ctx", "parent.handle"] {
        let load = format!("tpm2_load -C {parent} -u key.pub -r key.priv -c again.ctx");
        bench.tool(&load)?;
        for key in ["key.ctx", "again.ctx"] {
            bench.tool(&format!("tpm2_sign -c {key} -g sha256 -o signature message"))?;
            bench.tool(&format!("tpm2_verifysignature -c {key} -m message -s signature"))?;
        }
    }
    Ok(())
}
