//! Objects that are put away and brought back.

use anyhow::Result;
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
    Ok(())
}
