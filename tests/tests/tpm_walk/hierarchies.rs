//! Part 3 §24 to §26: hierarchies, the protection against guessing, miscellaneous management.

use anyhow::{Result, bail, ensure};
use tpm2::commands::*;
use tpm2::types::*;
use tpm2::wire::List;

use crate::props;
use crate::stage::{Act, EMPTY, Scene, Stage, password};

/// Those that take something from the TPM have one for themselves.
pub const ACTS: &[Act] = &[
    Act {
        name: "hierarchies",
        scenes: &[
            Scene { title: "a primary object under each hierarchy", play: primaries },
            Scene { title: "an authorization value set and taken away", play: change_auth },
            Scene { title: "a policy set", play: policy },
            Scene { title: "a hierarchy switched off and on", play: control },
            Scene { title: "clearing forbidden and allowed", play: clear_control },
            Scene { title: "the protection against guessing", play: dictionary },
            Scene { title: "the set of algorithms that there is", play: algorithm_set },
            Scene { title: "a command that needs physical presence", play: presence },
        ],
    },
    Act { name: "hierarchies", scenes: &[Scene { title: "cleared", play: clear }] },
    Act { name: "hierarchies", scenes: &[Scene { title: "another platform seed", play: pps }] },
    Act { name: "hierarchies", scenes: &[Scene { title: "another endorsement seed", play: eps }] },
];

fn primaries(stage: &mut Stage<'_>) -> Result<()> {
    for hierarchy in
        [Hierarchy::Owner, Hierarchy::Endorsement, Hierarchy::Platform, Hierarchy::Null]
    {
        let command = tests::tpm::create(hierarchy, props::signer(), SensitiveCreate::EMPTY);
        let handle = stage.run(&command, [EMPTY])?.object_handle.handle();
        stage.flush(&handle)?;
    }
    Ok(())
}

fn change_auth(stage: &mut Stage<'_>) -> Result<()> {
    for auth_handle in [HierarchyAuth::Owner, HierarchyAuth::Lockout] {
        let command = HierarchyChangeAuth { auth_handle, new_auth: AuthValue::from(b"value") };
        stage.run(&command, [EMPTY])?;
        let back = HierarchyChangeAuth { new_auth: AuthValue::EMPTY, ..command };
        stage.run(&back, [password(b"value")])?;
    }
    Ok(())
}

fn policy(stage: &mut Stage<'_>) -> Result<()> {
    let command = SetPrimaryPolicy {
        auth_handle: HierarchyPolicy::Owner,
        auth_policy: Digest::from(&[0x55; 32]),
        hash_alg: Alg::SHA256,
    };
    stage.run(&command, [EMPTY])?;
    let none = SetPrimaryPolicy { auth_policy: Digest::EMPTY, hash_alg: Alg::NULL, ..command };
    stage.run(&none, [EMPTY])?;
    Ok(())
}

fn control(stage: &mut Stage<'_>) -> Result<()> {
    for state in [false, true] {
        let command = HierarchyControl {
            auth_handle: BaseHierarchy::Platform,
            enable: Enables::Owner,
            state,
        };
        stage.run(&command, [EMPTY])?;
    }
    Ok(())
}

fn clear_control(stage: &mut Stage<'_>) -> Result<()> {
    for disable in [true, false] {
        stage.run(&ClearControl { auth: ClearAuth::Platform, disable }, [EMPTY])?;
    }
    Ok(())
}

fn dictionary(stage: &mut Stage<'_>) -> Result<()> {
    let command = DictionaryAttackParameters {
        lock_handle: Lockout,
        new_max_tries: 5,
        new_recovery_time: 1000,
        lockout_recovery: 1000,
    };
    stage.run(&command, [EMPTY])?;
    stage.run(&DictionaryAttackLockReset { lock_handle: Lockout }, [EMPTY])?;
    Ok(())
}

fn algorithm_set(stage: &mut Stage<'_>) -> Result<()> {
    let command = SetAlgorithmSet { auth_handle: Platform, algorithm_set: 0 };
    stage.run(&command, [EMPTY])?;
    Ok(())
}

/// swtpm cannot assert physical presence, and so refuses.
const CLEAR: [CommandCode; 1] = [<Clear as Command>::INFO.code];

/// One more command that needs physical presence.
fn presence_needed() -> PpCommands<'static> {
    PpCommands { auth: Platform, set_list: List::new(&CLEAR), clear_list: List::new(&[]) }
}

pub fn physical_presence_is_refused(stage: &mut Stage<'_>) -> Result<()> {
    stage.refused(&presence_needed(), [EMPTY], ResponseCode::PP)
}

fn presence(stage: &mut Stage<'_>) -> Result<()> {
    stage.run(&presence_needed(), [EMPTY])?;
    let ask =
        GetCapability { capability: Capability::PP_COMMANDS, property: 0, property_count: 64 };
    let answer = stage.run(&ask, [])?;
    let CapabilityData::PpCommands(list) = answer.capability_data else {
        bail!("another capability: {answer:?}");
    };
    ensure!(list.iter().any(|code| code == CLEAR[0]), "{list:?}");
    let command =
        PpCommands { auth: Platform, set_list: List::new(&[]), clear_list: List::new(&CLEAR) };
    stage.run(&command, [EMPTY])?;
    Ok(())
}

fn clear(stage: &mut Stage<'_>) -> Result<()> {
    let key = stage.key(props::signer())?;
    stage.run(&Clear { auth_handle: ClearAuth::Lockout }, [EMPTY])?;
    let object_handle = Object::unnamed(key.handle());
    ensure!(stage.bare().run(&ReadPublic { object_handle }, []).is_err(), "still there");
    Ok(())
}

fn pps(stage: &mut Stage<'_>) -> Result<()> {
    stage.run(&ChangePps { auth_handle: Platform }, [EMPTY])?;
    Ok(())
}

fn eps(stage: &mut Stage<'_>) -> Result<()> {
    stage.run(&ChangeEps { auth_handle: Platform }, [EMPTY])?;
    Ok(())
}
