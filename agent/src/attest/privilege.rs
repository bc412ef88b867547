//! CAP_SYS_PTRACE: who has it, and who gives it up. capabilities(7).
//!
//! Capabilities belong to threads: this is for a process that has one thread.

use rustix::io::Result;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};

/// Whether the capability is there to use.
pub fn is_held() -> Result<bool> {
    Ok(capabilities(None)?.effective.contains(CapabilitySet::SYS_PTRACE))
}

/// Gives it up, and every capability that systemd passes to programs that this one starts.
pub fn give_up() -> Result<()> {
    let mut held = capabilities(None)?;
    if !(held.permitted | held.inheritable).contains(CapabilitySet::SYS_PTRACE) {
        // Then it is not in the ambient set either, and the systemd unit lets the agent change nothing.
        return Ok(());
    }
    clear_ambient_capability_set()?;
    for set in [&mut held.effective, &mut held.permitted, &mut held.inheritable] {
        set.remove(CapabilitySet::SYS_PTRACE);
    }
    set_capabilities(None, held)
}

/// Gives up all others, for ever.
pub fn keep_nothing_else() -> Result<()> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    let kept = capabilities(None)?.permitted.intersection(CapabilitySet::SYS_PTRACE);
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })
}
