//! `hierarchies [TCTI]`: a context that is saved, the value of a hierarchy, and TPM2_Clear, which removes all keys of the owner.

use std::error::Error;

use tpm2::commands::{Clear, HierarchyChangeAuth};
use tpm2::object::create_primary;
use tpm2::session::Auth;
use tpm2::template::SRK_P256;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{
    AuthValue, ClearAuth, Entity, Hierarchy, Provision, ResponseCode, SensitiveCreate,
};
use tpm2::{Tpm, context};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let empty = SensitiveCreate::EMPTY;
    let (srk, _) = create_primary(tpm, Hierarchy::Owner, Auth::EMPTY, &SRK_P256, empty)?;
    // cookbook: context
    let saved = context::save(tpm, srk.object())?;
    tpm.flush(srk.handle())?;
    let again = context::load(tpm, &saved)?;
    // cookbook: end
    tpm.flush(again.handle())?;

    // cookbook: value
    let change = |new_auth| HierarchyChangeAuth { auth_handle: Provision::Owner.into(), new_auth };
    tpm.run(&change(AuthValue::from(b"value")), [Auth::EMPTY])?;
    let refused = create_primary(tpm, Hierarchy::Owner, Auth::EMPTY, &SRK_P256, empty);
    // cookbook: end
    let refusal = refused.err().and_then(|error| error.refusal());
    if refusal != Some(ResponseCode::BAD_AUTH) {
        return Err("the hierarchy has no value".into());
    }
    // cookbook: clear
    tpm.run(&Clear { auth_handle: ClearAuth::Lockout }, [Auth::EMPTY])?;
    // cookbook: end
    create_primary(tpm, Hierarchy::Owner, Auth::EMPTY, &SRK_P256, empty)?;
    Ok(tpm.flush_all()?)
}
