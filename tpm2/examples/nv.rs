//! `nv [TCTI]`: an NV index that counts, and one that is written once.

use std::error::Error;

use tpm2::Tpm;
use tpm2::nv::{Access, By, Index};
use tpm2::session::Auth;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{Alg, AuthValue, Digest, Handle, NvAttributes, NvPublic, NvType, Provision};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let (owner, value) = (Provision::Owner, AuthValue::from(b"PIN"));
    // cookbook: counter
    let attributes = NvAttributes::AUTHREAD | NvAttributes::AUTHWRITE | NvAttributes::NO_DA;
    let mut access = Access::by_password(By::Index, b"PIN");
    let counter = NvPublic {
        index: Handle(0x0150_0010),
        name_alg: Alg::SHA256,
        attributes: attributes.with_type(NvType::COUNTER),
        auth_policy: Digest::EMPTY,
        data_size: 8,
    };
    let mut index = Index::define(tpm, owner, Auth::EMPTY, &counter, value)?;
    index.increment(tpm, &mut access)?;
    let first = index.counter(tpm, &mut access)?;
    // cookbook: end
    index.increment(tpm, &mut access)?;
    let second = index.counter(tpm, &mut access)?;
    index.undefine(tpm, owner, Auth::EMPTY)?;

    // cookbook: once
    let attributes = attributes | NvAttributes::WRITEDEFINE;
    let once = NvPublic { index: Handle(0x0150_0011), attributes, data_size: 5, ..counter };
    let mut index = Index::define(tpm, owner, Auth::EMPTY, &once, value)?;
    index.write(tpm, &mut access, b"state")?;
    index.lock_writing(tpm, &mut access)?;
    let refused = index.write(tpm, &mut access, b"other").is_err();
    let kept = index.read(tpm, &mut access)?;
    // cookbook: end
    index.undefine(tpm, owner, Auth::EMPTY)?;
    if second != first + 1 || !refused || kept != b"state" {
        return Err("not as defined".into());
    }
    Ok(())
}
