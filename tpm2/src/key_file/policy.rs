//! The policies of a key file. *ASN.1 Specification for TPM 2.0 Key Files* §5 and §6.

use super::{KeyFile, KeyFileError, PolicyStep, SignedPolicy};
use crate::client::Tpm;
use crate::commands::{
    Authorized, Command, PolicyAuthValue, PolicyAuthorize, PolicyCommandCode, PolicyCounterTimer,
    PolicyCpHash, PolicyGetDigest, PolicyLocality, PolicyNameHash, PolicyNvWritten, PolicyPassword,
    PolicyPcr, PolicyPhysicalPresence, PolicyRestart, PolicyTemplate, VerifySignature,
};
use crate::crypto::{HashAlg, policy_approval};
use crate::error::{Error, Fault};
use crate::object::{kept, load_external};
use crate::policy::{Policy, Step, StepVisitor, visit};
use crate::session::Session;
use crate::transport::Transport;
use crate::types::{
    CommandCode, Digest, DigestBuf, Entity, Handle, Hierarchy, Name, Nonce, Public, SessionHandle,
    Signature, VerifiedTicketBuf,
};
use crate::wire::{Reader, Tpm2b, Writer};

/// Stands for a session where a step is read or written, but not run.
const SESSION: Handle = Handle(0x0300_0000);

impl PolicyStep {
    /// A step as the draft lays it out: the parameters of its command, without its handles.
    ///
    /// # Errors
    /// [`KeyFileError::Step`] if its parameters do not say all that is needed to run it.
    pub fn new(step: &Step<'_>) -> Result<Self, KeyFileError> {
        let session = SessionHandle::from_handle(SESSION).map_err(KeyFileError::Part)?;
        visit(step, session, Write).flatten().ok_or(KeyFileError::Step)
    }

    /// The step, to be run or to compute its digest.
    ///
    /// # Errors
    /// [`KeyFileError::Step`] if this crate cannot run it from a file, such as `TPM2_PolicySigned`;
    /// [`KeyFileError::Part`] if its parameters are malformed.
    pub fn step(&self) -> Result<Step<'_>, KeyFileError> {
        const PCR: CommandCode = PolicyPcr::INFO.code;
        const LOCALITY: CommandCode = PolicyLocality::INFO.code;
        const COUNTER_TIMER: CommandCode = PolicyCounterTimer::INFO.code;
        const COMMAND_CODE: CommandCode = PolicyCommandCode::INFO.code;
        const PHYSICAL_PRESENCE: CommandCode = PolicyPhysicalPresence::INFO.code;
        const CP_HASH: CommandCode = PolicyCpHash::INFO.code;
        const NAME_HASH: CommandCode = PolicyNameHash::INFO.code;
        const TEMPLATE: CommandCode = PolicyTemplate::INFO.code;
        const AUTH_VALUE: CommandCode = PolicyAuthValue::INFO.code;
        const PASSWORD: CommandCode = PolicyPassword::INFO.code;
        const NV_WRITTEN: CommandCode = PolicyNvWritten::INFO.code;
        Ok(match self.command {
            PCR => {
                let PolicyPcr { pcr_digest: digest, pcrs, .. } = self.read::<PolicyPcr<'_>>()?;
                Step::Pcr { pcrs, digest }
            }
            COUNTER_TIMER => {
                let command = self.read::<PolicyCounterTimer<'_>>()?;
                let PolicyCounterTimer { operand_b: operand, offset, operation, .. } = command;
                Step::CounterTimer { operand, offset, operation }
            }
            LOCALITY => Step::Locality(self.read::<PolicyLocality>()?.locality),
            COMMAND_CODE => Step::CommandCode(self.read::<PolicyCommandCode>()?.code),
            PHYSICAL_PRESENCE => {
                self.read::<PolicyPhysicalPresence>().map(|_| Step::PhysicalPresence)?
            }
            CP_HASH => Step::CpHash(self.read::<PolicyCpHash<'_>>()?.cp_hash_a),
            NAME_HASH => Step::NameHash(self.read::<PolicyNameHash<'_>>()?.name_hash),
            TEMPLATE => Step::Template(self.read::<PolicyTemplate<'_>>()?.template_hash),
            AUTH_VALUE => self.read::<PolicyAuthValue>().map(|_| Step::AuthValue)?,
            PASSWORD => self.read::<PolicyPassword>().map(|_| Step::Password)?,
            NV_WRITTEN => Step::NvWritten(self.read::<PolicyNvWritten>()?.written_set),
            _ => return Err(KeyFileError::Step),
        })
    }

    fn read<C: Command>(&self) -> Result<C::As<'_>, KeyFileError> {
        let session = SESSION.0.to_be_bytes();
        let mut session = Reader::new(&session);
        Reader::all(&self.parameters, |parameters| C::unmarshal(&mut session, parameters))
            .map_err(KeyFileError::Part)
    }
}

/// Writes a step's command as a file has it; `None` if it does not fit.
struct Write;

impl StepVisitor for Write {
    type Output = Option<PolicyStep>;

    fn visit<C: Authorized<0>>(self, command: &C) -> Option<PolicyStep> {
        let mut octets = [0; 1024];
        let mut writer = Writer::new(&mut octets);
        command.marshal_parameters(&mut writer).ok()?;
        Some(PolicyStep { command: C::INFO.code, parameters: writer.into_written().to_vec() })
    }
}

impl KeyFile {
    /// Runs the file's policy in a policy session that has just been started, with the name algorithm of the key as its
    /// hash. The session then authorizes the use of the key, with its authorization value where the policy asks for it.
    ///
    /// Signed policies are tried one after the other, until one runs. Conditions that the TPM checks only when the key is
    /// used, such as the locality or the command, do not decide between them.
    ///
    /// # Errors
    /// As [`Tpm::run`], of the last signed policy if there are several; [`Fault::Unsupported`] for a step that cannot be run
    /// from a file, or is malformed.
    pub fn run_policy<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        session: &Session,
    ) -> Result<(), Error<T::Error>> {
        let Some((last, others)) = self.auth_policy.split_last() else {
            return run(tpm, session, &self.policy);
        };
        for signed in others {
            if self.run_signed(tpm, session, signed).is_ok() {
                return Ok(());
            }
            tpm.run(&PolicyRestart { session_handle: session.handle() }, [])?;
        }
        self.run_signed(tpm, session, last)
    }

    /// A signed policy ends with its approval; what the file's policy asks for comes behind. The file's policy begins with
    /// a PolicyAuthorize that has no signature. Draft §6.2.
    fn run_signed<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        session: &Session,
        signed: &SignedPolicy,
    ) -> Result<(), Error<T::Error>> {
        let unsupported = || Error::of::<PolicyAuthorize<'_>>(Fault::Unsupported("signed policy"));
        let (last, steps) = signed.steps.split_last().ok_or_else(unsupported)?;
        let approval = Approval::read(last).map_err(|_| unsupported())?;
        let (first, rest) = self.policy.split_first().ok_or_else(unsupported)?;
        if first.command != PolicyAuthorize::INFO.code {
            return Err(unsupported());
        }
        run(tpm, session, steps)?;
        approval.show(tpm, session.handle())?;
        run(tpm, session, rest)
    }
}

fn run<T: Transport>(
    tpm: &mut Tpm<T>,
    session: &Session,
    steps: &[PolicyStep],
) -> Result<(), Error<T::Error>> {
    steps.iter().try_for_each(|step| {
        let unsupported = |_| Error::new(step.command, Fault::Unsupported("policy step"));
        Policy::new(&[step.step().map_err(unsupported)?]).run(tpm, session)
    })
}

/// The last step of a signed policy: who approved it. Draft §5.2.1.
struct Approval<'a> {
    key: Public<'a>,
    policy_ref: Nonce<'a>,
    signature: Signature<'a>,
}

impl<'a> Approval<'a> {
    fn read(step: &'a PolicyStep) -> Result<Self, KeyFileError> {
        if step.command != PolicyAuthorize::INFO.code {
            return Err(KeyFileError::Step);
        }
        let read = |reader: &mut Reader<'a>| {
            let key: Tpm2b<Public<'a>> = reader.read("keySign")?;
            let (policy_ref, signature) = (reader.read("policyRef")?, reader.read("signature")?);
            Ok(Self { key: key.0, policy_ref, signature })
        };
        Reader::all(&step.parameters, read).map_err(KeyFileError::Part)
    }

    /// Has the TPM verify the signature over the session's digest, and replaces that digest by the approval of the key.
    fn show<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        policy_session: SessionHandle,
    ) -> Result<(), Error<T::Error>> {
        let hash = HashAlg::try_from(self.key.name_alg);
        let hash = hash.map_err(Error::of::<PolicyAuthorize<'_>>)?;
        let reached = tpm.run(&PolicyGetDigest { policy_session }, [])?.policy_digest;
        let approved = DigestBuf::from(reached);
        let to_sign = policy_approval(hash, Digest::from(&approved), self.policy_ref.octets());
        let key = load_external(tpm, &self.key, None, Hierarchy::Owner)?;
        let verify = VerifySignature {
            key_handle: key.object(),
            digest: Digest::from(&to_sign),
            signature: self.signature,
        };
        let ticket = tpm.run(&verify, []).map(|answer| VerifiedTicketBuf::from(answer.validation));
        let ticket = kept(tpm, key.handle(), ticket)?;
        tpm.flush(key.handle())?;
        let command = PolicyAuthorize {
            policy_session,
            approved_policy: Digest::from(&approved),
            policy_ref: self.policy_ref,
            key_sign: Name::from(key.name()),
            check_ticket: (&ticket).into(),
        };
        tpm.run(&command, []).map(drop)
    }
}
