//! The parts of the agent that a build can be without, each a feature of this crate.
//!
//! A part that is left out is refused where it is asked for, in the configuration and on the command line, and where it would begin, so
//! that the linker finds no use for its code.

use host::exit::{Exit, Failure};

/// A part.
#[derive(Debug)]
pub struct Part {
    /// The feature.
    pub feature: &'static str,
    /// Whether this build has it.
    pub is_built: bool,
    /// What is missing where this part is needed.
    pub message: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

macro_rules! part {
    ($feature:literal, $message:literal) => {
        Part {
            feature: $feature,
            is_built: cfg!(feature = $feature),
            message: concat!("this build of the agent ", $message),
            advice: concat!(
                "install the full agent, or build one with the feature `",
                $feature,
                "`"
            ),
        }
    };
}

/// `agent doctor`.
pub const DOCTOR: Part = part!("doctor", "has no `agent doctor`");
/// `agent man` and `agent completions`.
pub const MANUAL: Part = part!("manual", "has no manual pages and completion scripts");
/// Services of type ssh-agent and ssh_host.
pub const SSH_AGENT: Part = part!("ssh-agent", "has no services for SSH");
/// Joins by Teleport's protocols.
pub const TELEPORT: Part = part!("teleport", "cannot join Teleport clusters");
/// The SPIFFE Workload API, and Envoy's SDS.
pub const WORKLOAD_API: Part = part!("workload-api", "has no Workload API");

/// All of them.
pub const ALL: [Part; 5] = [DOCTOR, MANUAL, SSH_AGENT, TELEPORT, WORKLOAD_API];

impl Part {
    /// The refusal of what needs this part.
    pub(crate) fn refusal(&self) -> Failure {
        Failure::new(Exit::Config, self.message, self.advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_features_are_all_parts() {
        let manifest = include_str!("../Cargo.toml");
        let names: Vec<String> = ALL.iter().map(|part| format!("{:?}", part.feature)).collect();
        assert!(manifest.contains(&format!("default = [{}]\n", names.join(", "))), "{names:?}");
    }
}
