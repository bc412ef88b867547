//! `authority ca`, declared.

use clap::{Args, Subcommand, ValueEnum};

use super::{DataDir, ListFormat};
use crate::issue::CaType;

/// What comes after `authority ca rotate`, below its help.
const ROTATE_HELP: &str = "\
Creates and publishes the next CA. It signs as soon as every live authority and every bot instance with a valid certificate has it, and \
the old one is removed 24 hours and 5 minutes later. `authority ca status` shows how far it is.";

/// Whom `authority ca activate --force` cuts off, below its help.
const ACTIVATE_HELP: &str = "\
From now on servers show certificates of the new CA. A host that does not know it verifies nothing and must be given the new CA pin, so this \
refuses until all hosts with a valid certificate have renewed since `prepare`.";

/// What follows `authority ca taint`, below its help.
const TAINT_HELP: &str = "\
A new CA signs from now on, and nothing waits for it. The tainted one stays trusted, so that hosts can fetch the new one and renew; \
`authority ca status` shows how many have not. Remove it then with `authority ca revoke`. See docs/disaster.md.";

/// Whom `authority ca revoke` cuts off, below its help.
const REVOKE_HELP: &str = "\
Refuses until all hosts with a valid certificate have renewed since `taint`. After the X.509 CA was revoked, a host that has not renewed, or \
that is installed with the old CA pin, must be given the new one (`authority status`); it then proves its TPM again.";

/// `authority ca`
#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Show the CAs with their states, and who does not have the next ones yet
    Status(Status),
    /// Create and publish the next CA, which signs nothing yet
    Prepare(Prepare),
    /// Let the next CA sign
    #[command(after_help = ACTIVATE_HELP)]
    Activate(Step),
    /// Remove CAs that no longer sign from the trust bundle
    Retire(Step),
    /// Replace a CA: prepare now, the other steps follow by themselves
    #[command(after_help = ROTATE_HELP)]
    Rotate(Prepare),
    /// Replace a CA at once, because others may have its key: all hosts renew at their next contact
    #[command(after_help = TAINT_HELP)]
    Taint(Prepare),
    /// Remove tainted CAs from the trust bundle, once all hosts have renewed
    #[command(after_help = REVOKE_HELP)]
    Revoke(Step),
    /// Print the public keys of all trusted CAs of a type
    Export(Export),
}

/// The CAs of one type, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Types {
    /// X.509 certificates
    X509,
    /// SSH certificates of users
    Ssh,
    /// SSH certificates of hosts
    SshHost,
    /// JWTs
    Jwt,
    /// All of them
    All,
}

impl Types {
    /// The types that are meant.
    pub fn all(self) -> Vec<CaType> {
        match self {
            Self::X509 => vec![CaType::X509],
            Self::Ssh => vec![CaType::Ssh],
            Self::SshHost => vec![CaType::SshHost],
            Self::Jwt => vec![CaType::Jwt],
            Self::All => CaType::ALL.to_vec(),
        }
    }
}

/// `authority ca status`
#[derive(Debug, Args)]
pub struct Status {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `authority ca prepare`, `rotate` and `taint`
#[derive(Debug, Args)]
pub struct Prepare {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// What the CA is for
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    pub types: Types,
}

/// `authority ca activate`, `retire` and `revoke`
#[derive(Debug, Args)]
pub struct Step {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// What the CA is for
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    pub types: Types,
    /// Do not wait for those whom it cuts off; shows them unless --yes is given
    #[arg(long)]
    pub force: bool,
    /// Confirm --force
    #[arg(long, requires = "force")]
    pub yes: bool,
}

/// `authority ca export`
#[derive(Debug, Args)]
pub struct Export {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// What the CA is for: x509 prints PEM, ssh and ssh_host a line of authorized_keys each, jwt a JWKS
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    pub types: Types,
}
