//! authority recovery

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use host::bounded;
use host::exit::{Exit, Failure};
use host::output::write;
use p256::elliptic_curve::Generate;
use p256::{PublicKey, SecretKey};
use pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use proto::v1::get_recovery_slots_response::Slot;
use proto::v1::{GetRecoverySlotsRequest, SetRecoveryKeyRequest};
use zeroize::Zeroizing;

use super::client::{connect, refused};
use super::table::table;
use crate::cli::DataDir;
use crate::cli::authorities::{Check, Create, Recovery, Set};
use crate::data_directory::private;
use crate::issue::{CaKey, CaType, JwtAlgorithm, JwtKey};
use crate::keyring::{RECOVERY, open_slot};

/// More than a key in PEM.
const MAX_KEY_FILE: u64 = 16 * 1024;

pub(super) async fn run(command: Recovery) -> Result<(), Failure> {
    match command {
        Recovery::Create(what) => create(what).await,
        Recovery::Set(what) => set(what).await,
        Recovery::Check(what) => check(what).await,
    }
}

async fn create(create: Create) -> Result<(), Failure> {
    let shown = create.to.display();
    let failed = |cause: io::Error| Failure::io(&cause, format!("cannot write {shown}"));
    let key = SecretKey::try_generate().map_err(Failure::bug)?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(Failure::bug)?;
    let mut file = private().create_new(true).open(&create.to).map_err(failed)?;
    // Before the CA keys are wrapped to it: a key that cannot be kept is worth nothing.
    let written = file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(failed);
    let stored = match written {
        Ok(()) => store(&create.data, &key.public_key()).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = stored {
        // A file that is left over opens nothing.
        let _ = fs::remove_file(&create.to);
        return Err(failure);
    }
    write(format!("recovery key written to {shown}: keep it offline\n"))
}

async fn set(set: Set) -> Result<(), Failure> {
    let pem = read(&set.public)?;
    let key = PublicKey::from_public_key_pem(&pem).map_err(|cause| {
        let message = format!("{}: {cause}", set.public.display());
        Failure::new(Exit::Data, message, "give a public key on P-256, in PEM (PUBLIC KEY)")
    })?;
    store(&set.data, &key).await?;
    write("the CA keys are wrapped to the recovery key\n")
}

async fn store(data: &DataDir, key: &PublicKey) -> Result<(), Failure> {
    let der = key.to_public_key_der().map_err(Failure::bug)?;
    let mut authority = connect(data).await?;
    let request = SetRecoveryKeyRequest { public_key: der.into_vec() };
    authority.set_recovery_key(request).await.map_err(|cause| refused(&cause))?;
    Ok(())
}

/// The private key does not leave this process: the authority sends what is wrapped to it.
async fn check(check: Check) -> Result<(), Failure> {
    let pem = read(&check.key)?;
    let key = SecretKey::from_pkcs8_pem(&pem).map_err(|cause| {
        let message = format!("{}: {cause}", check.key.display());
        Failure::new(Exit::Data, message, "give the file of `authority recovery create`")
    })?;
    let mut authority = connect(&check.data).await?;
    let slots = authority.get_recovery_slots(GetRecoverySlotsRequest {}).await;
    let slots = slots.map_err(|cause| refused(&cause))?.into_inner().slots;
    let verdicts: Vec<_> = slots.iter().map(|slot| verdict(&key, slot)).collect();
    let row = |(slot, verdict): (&Slot, &Result<(), String>)| {
        let verdict = verdict.clone().map_or_else(|cause| cause, |()| "opened".to_owned());
        [slot.r#type.clone(), slot.state.clone(), slot.key_id.clone(), verdict]
    };
    let rows: Vec<_> = slots.iter().zip(&verdicts).map(row).collect();
    write(table(["CA", "State", "Key", "Result"], &rows))?;
    if !verdicts.is_empty() && verdicts.iter().all(Result::is_ok) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        format!("{} does not open all CA keys", check.key.display()),
        "run `authority recovery create` or `recovery set`, and keep the new key",
    ))
}

/// Whether the key opens this slot, and the slot has the key that it should have.
fn verdict(key: &SecretKey, slot: &Slot) -> Result<(), String> {
    if slot.wrapped.is_empty() {
        return Err("not wrapped to a recovery key".to_owned());
    }
    let pem = open_slot(key, &slot.key_id, RECOVERY, &slot.wrapped);
    let pem = pem.map_err(|cause| cause.to_string())?;
    let key_id = if slot.r#type == CaType::Jwt.as_str() {
        let key = JwtKey::from_pem(JwtAlgorithm::Es256, &pem);
        let key = key.or_else(|_| JwtKey::from_pem(JwtAlgorithm::Rs256, &pem));
        key.map(|key| key.public().key_id().to_owned())
    } else {
        CaKey::from_pem(&pem).and_then(|key| key.key_id())
    };
    match key_id.map_err(|cause| cause.to_string())? {
        key_id if key_id == slot.key_id => Ok(()),
        other => Err(format!("it has the key {other}")),
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |cause: io::Error| Failure::io(&cause, format!("cannot read {}", path.display()));
    let bytes = Zeroizing::new(
        bounded::read(File::open(path).map_err(failed)?, MAX_KEY_FILE).map_err(failed)?,
    );
    let text = str::from_utf8(&bytes).map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
    Ok(Zeroizing::new(text.to_owned()))
}
