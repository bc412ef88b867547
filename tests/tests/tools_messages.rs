//! What tpm2-tools send for the commands of this project: golden messages from other people's software, in
//! `tpm2/testdata/golden/tools.txt`, where the crate `tpm2` reads and writes them again.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use testkit::bus::{command_code, response_code};
use testkit::child::Scratch;
use testkit::swtpm::Kind;
use testkit::tap::Tap;
use tests::golden::{Entry, Golden};
use tests::tpm::start_tcp;
use tpm2::transport::Exchange;
use tpm2::types::ResponseCode;

/// The release whose messages are on record.
const RELEASE: &str = "5.4";

/// What is run, in order, in one directory.
const SCRIPT: &str = "\
    tpm2_getrandom --hex 16
    tpm2_getcap properties-fixed
    tpm2_getcap algorithms
    tpm2_pcrread sha256:0,7
    tpm2_pcrextend 16:sha256=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    tpm2_pcrreset 16
    tpm2_hash -C o -g sha256 -o hash.bin -t ticket.bin data.txt
    tpm2_createprimary -C o -G ecc -c parent.ctx
    tpm2_flushcontext -t
    tpm2_createpolicy --policy-pcr -l sha256:0 -L policy.bin
    tpm2_create -C parent.ctx -i data.txt -u seal.pub -r seal.priv -L policy.bin
    tpm2_create -C parent.ctx -G ecc -u key.pub -r key.priv
    tpm2_load -C parent.ctx -u key.pub -r key.priv -c key.ctx
    tpm2_readpublic -c key.ctx
    tpm2_sign -c key.ctx -g sha256 -o signature.bin data.txt
    tpm2_verifysignature -c key.ctx -g sha256 -m data.txt -s signature.bin
    tpm2_certify -C key.ctx -c key.ctx -g sha256 -o attest.bin -s certify.bin
    tpm2_quote -c key.ctx -l sha256:0,7 -q 0102030405 -m quote.bin -s quote.sig
    tpm2_load -C parent.ctx -u seal.pub -r seal.priv -c seal.ctx
    tpm2_startauthsession --policy-session -S policy.ctx
    tpm2_policypcr -S policy.ctx -l sha256:0
    tpm2_unseal -c seal.ctx -p session:policy.ctx
    tpm2_policyrestart -S policy.ctx
    tpm2_policyauthvalue -S policy.ctx
    tpm2_flushcontext policy.ctx
    tpm2_create -C parent.ctx -G hmac -u hmac.pub -r hmac.priv
    tpm2_load -C parent.ctx -u hmac.pub -r hmac.priv -c hmac.ctx
    tpm2_hmac -c hmac.ctx -o hmac.bin data.txt
    tpm2_evictcontrol -C o -c parent.ctx 0x81000010
    tpm2_evictcontrol -C o -c 0x81000010
    tpm2_nvdefine -C o -s 8 -a ownerread|ownerwrite|authread|authwrite -p value 0x1800010
    tpm2_nvwrite -C o -i data.txt 0x1800010
    tpm2_nvread -C 0x1800010 -P value 0x1800010
    tpm2_nvreadpublic 0x1800010
    tpm2_nvundefine -C o 0x1800010
    tpm2_readclock
    tpm2_testparms ecc256
    tpm2_dictionarylockout -s -n 5 -t 1000 -l 1000
    tpm2_changeauth -c o value
    tpm2_changeauth -c o -p value
    tpm2_shutdown -c";

#[test]
fn messages_of_tpm2_tools_are_recorded() -> Result<()> {
    let swtpm = start_tcp(Kind::RsaAndP384)?;
    let tap = Tap::tcp(&swtpm)?;
    let home = Scratch::new("endorse-tools")?;
    std::fs::write(home.path().join("data.txt"), b"message")?;
    let mut entries = Vec::new();
    let mut known = BTreeSet::new();
    for line in SCRIPT.lines().map(str::trim) {
        let before = tap.recording().exchanges().len();
        let (tool, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let output = Command::new(tool)
            .args(arguments.split_whitespace())
            .env("TPM2TOOLS_TCTI", tap.tcti())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {tool}"))?;
        ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        // Necessary: the TPM has three slots and no resource manager.
        swtpm.tool("tpm2_flushcontext", &["-t"])?;
        let exchanges = tap.recording().exchanges().split_off(before);
        ensure!(!exchanges.is_empty(), "{line} asks the TPM nothing");
        for exchange in exchanges {
            let Exchange { command, response } = &exchange;
            let code = response_code(response);
            // What was not executed is sent again.
            if code.base() != ResponseCode::RETRY
                && known.insert((command_code(command), code.0, command.len()))
            {
                let title = tool.to_owned();
                let provenance = format!("sent by tpm2-tools {RELEASE}");
                entries.push(Entry { title, provenance, exchange });
            }
        }
    }
    assert!(entries.len() >= 40, "{}", entries.len());
    let version = Command::new("tpm2_getrandom").arg("--version").output()?;
    if !String::from_utf8_lossy(&version.stdout).contains(&format!("version=\"{RELEASE}\"")) {
        println!("this is another release than {RELEASE}: nothing is compared");
        return Ok(());
    }
    let golden = Golden {
        file: "golden/tools.txt",
        about: "What tpm2-tools send, recorded between them and a software TPM.",
        again: "UPDATE=1 cargo test -p tests --test tools_messages",
    };
    golden.agree(&entries)
}
