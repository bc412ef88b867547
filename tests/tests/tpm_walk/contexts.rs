//! Part 3 §28 to §30: contexts, the clock, and what a TPM says of itself.

use anyhow::{Result, ensure};
use tpm2::commands::*;
use tpm2::types::*;
use tpm2::wire::Unmarshal;

use crate::props;
use crate::stage::{Act, EMPTY, Scene, Stage, octets};

pub const ACTS: &[Act] = &[Act {
    name: "contexts",
    scenes: &[
        Scene { title: "an object saved, removed and loaded again", play: object },
        Scene { title: "a session saved and loaded again", play: session },
        Scene { title: "an object made persistent and removed", play: evict },
        Scene { title: "the clock read, set and slowed down", play: clock },
        Scene { title: "what the TPM says of itself", play: capabilities },
        Scene { title: "kinds of key that the TPM has", play: parameters },
    ],
}];

fn object(stage: &mut Stage<'_>) -> Result<()> {
    let key = stage.key(props::signer())?;
    let answer = stage.run(&ContextSave { save_handle: key.handle() }, [])?;
    let saved = octets(&answer.context)?;
    stage.run(&FlushContext { flush_handle: key.handle() }, [])?;
    let answer = stage.run(&ContextLoad { context: Context::from_bytes(&saved)? }, [])?;
    let again = answer.loaded_handle;
    let answer = stage.run(&ReadPublic { object_handle: Object::unnamed(again) }, []);
    // Only alone: under a session the Name comes first.
    if let Ok(answer) = answer {
        ensure!(Some(answer.name.octets()) == key.name().as_ref().map(NameBuf::octets));
    }
    stage.flush(&again)
}

fn session(stage: &mut Stage<'_>) -> Result<()> {
    let session = stage.policy()?.handle();
    let answer = stage.run(&ContextSave { save_handle: session.handle() }, [])?;
    let saved = octets(&answer.context)?;
    let answer = stage.run(&ContextLoad { context: Context::from_bytes(&saved)? }, [])?;
    ensure!(answer.loaded_handle == session.handle(), "{answer:?}");
    stage.run(&PolicyGetDigest { policy_session: session }, [])?;
    Ok(())
}

fn evict(stage: &mut Stage<'_>) -> Result<()> {
    let key = stage.key(props::signer())?;
    let persistent_handle = Handle(0x8100_0010);
    let command = EvictControl { auth: Provision::Owner, object_handle: key, persistent_handle };
    stage.run(&command, [EMPTY])?;
    let name = key.name().expect("a primary object has a Name");
    let object_handle = Object::named(persistent_handle, name);
    stage.run(&ReadPublic { object_handle }, [])?;
    stage.run(&EvictControl { object_handle, ..command }, [EMPTY])?;
    Ok(())
}

fn clock(stage: &mut Stage<'_>) -> Result<()> {
    let now = stage.run(&ReadClock {}, [])?.current_time.clock_info.clock;
    let later = ClockSet { auth: Provision::Owner, new_time: now + 3_600_000 };
    stage.run(&later, [EMPTY])?;
    for rate_adjust in [ClockAdjust::FINE_SLOWER, ClockAdjust::FINE_FASTER] {
        stage.run(&ClockRateAdjust { auth: Provision::Owner, rate_adjust }, [EMPTY])?;
    }
    let then = stage.run(&ReadClock {}, [])?.current_time.clock_info.clock;
    ensure!(then >= now + 3_600_000, "{then} after {now}");
    Ok(())
}

fn capabilities(stage: &mut Stage<'_>) -> Result<()> {
    for (capability, property) in [
        (Capability::ALGS, 0),
        (Capability::HANDLES, 0x0100_0000),
        (Capability::COMMANDS, 0x11f),
        (Capability::PP_COMMANDS, 0x11f),
        (Capability::AUDIT_COMMANDS, 0x11f),
        (Capability::PCRS, 0),
        (Capability::TPM_PROPERTIES, 0x100),
        (Capability::PCR_PROPERTIES, 0),
        (Capability::ECC_CURVES, 0),
        (Capability::AUTH_POLICIES, 0x4000_0000),
    ] {
        let command = GetCapability { capability, property, property_count: 254 };
        let answer = stage.run(&command, [])?;
        ensure!(answer.capability_data.selector() == capability, "{answer:?}");
    }
    Ok(())
}

fn parameters(stage: &mut Stage<'_>) -> Result<()> {
    let rsa = PublicParms::Rsa(RsaParms {
        symmetric: SymDefObject::Null,
        scheme: AsymScheme::Rsassa(props::SHA256),
        key_bits: 2048,
        exponent: 0,
    });
    let ecc = PublicParms::Ecc(EccParms {
        symmetric: props::AES,
        scheme: AsymScheme::Null,
        curve: Curve::NIST_P384,
        kdf: KdfScheme::Null,
    });
    let hmac = PublicParms::KeyedHash(KeyedHashScheme::Hmac(props::SHA256));
    for parameters in [rsa, ecc, hmac, PublicParms::SymCipher(props::AES)] {
        stage.run(&TestParms { parameters }, [])?;
    }
    Ok(())
}
