//! Objects that are put away and brought back, by us and by tpm2-tools.

use std::fs;

use anyhow::{Context as _, Result};
use testkit::swtpm::Kind;
use tests::tpm::{client, hmac_session, sign, start_tcp};
use tpm2::commands::ContextSave;
use tpm2::crypto::HashAlg;
use tpm2::session::Auth;
use tpm2::types::*;
use tpm2::wire::Writer;
use tpm2::{context, object};
use verifier::JoinKey;

#[test]
fn an_object_is_put_away_and_brought_back() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let unique = [5; 32];
    let template = JoinKey::template(&unique);
    let (owner, empty) = (Hierarchy::Owner, SensitiveCreate::EMPTY);
    let key = object::create_primary(&mut tpm, owner, Auth::EMPTY, &template, empty)?.0;
    let saved = context::save(&mut tpm, key.object())?;
    tpm.flush(key.handle())?;
    let back = context::load(&mut tpm, &saved)?;
    // Its Name came with it, so that it can be used under a session.
    let mut session = hmac_session(&mut tpm)?;
    tpm.run(&sign(back, &[1; 32]), [session.auth(b"")])?;
    for position in 20..saved.context().len() {
        let mut changed = saved.context().to_vec();
        changed[position] ^= 1;
        let changed = context::Saved::new(changed, saved.name().copied());
        assert!(context::load(&mut tpm, &changed).is_err(), "{position}");
    }
    let started = tpm.start_session(SessionType::HMAC, HashAlg::Sha256)?.handle();
    let of_session = ContextSave { save_handle: started.handle() };
    let answer = tpm.run(&of_session, [])?;
    let mut octets = [0; 4096];
    let mut writer = Writer::new(&mut octets);
    writer.write(&answer.context)?;
    let saved = context::Saved::new(writer.into_written().to_vec(), None);
    assert!(context::load(&mut tpm, &saved).is_err(), "a session is no object");
    drop(tpm);

    // A context that tpm2-tools wrote: the same structure in another order, its body in an envelope of tpm2-tss's.
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("key.ctx").display().to_string();
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign|noda";
    let make = ["-C", "o", "-G", "ecc256:ecdsa-sha256:null", "-a", attributes, "-c", &file];
    swtpm.tool("tpm2_createprimary", &make)?;
    swtpm.tool("tpm2_flushcontext", &["-t"])?;
    let octets = fs::read(&file)?;
    let length = usize::from(u16::from_be_bytes([octets[30], octets[31]]));
    let [hierarchy, saved_handle, sequence, blob] =
        [&octets[8..12], &octets[12..16], &octets[16..24], &octets[30..32 + length]];
    let saved = context::Saved::new([sequence, saved_handle, hierarchy, blob].concat(), None);
    let mut tpm = client(&swtpm)?;
    let key = context::load(&mut tpm, &saved)?;
    tpm.run(&sign(key, &[1; 32]), [Auth::EMPTY]).context("the key of tpm2-tools signs")?;
    Ok(())
}
