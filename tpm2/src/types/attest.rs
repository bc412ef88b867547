use core::fmt;

use super::{
    Alg, AttestData, ClockInfo, Data, Digest, MaxNvBuffer, Name, PcrSelections, Structure, TimeInfo,
};
use crate::wire::macros::{structure, union};
use crate::wire::{Malformed, Marshal, Reader, TooLarge, Unmarshal, Why, Writer};

/// What a TPM attests: that it is a TPM which says so, in which state, to whom, and what. Part 2 §10.12.12.
///
/// Its first number, `TPM_GENERATED_VALUE`, has no field: it is written, and anything else is refused. A restricted key
/// signs nothing that begins with it unless the TPM itself has made it.
#[doc(alias = "TPMS_ATTEST")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attest<'a> {
    /// Qualified Name of the key that signs.
    pub qualified_signer: Name<'a>,
    /// What the asker said: a nonce.
    pub extra_data: Data<'a>,
    /// The clock and the counts of resets.
    pub clock_info: ClockInfo,
    /// The version of the firmware; obfuscated, as are the counts of resets, unless the key is in the endorsement or the
    /// platform hierarchy.
    pub firmware_version: u64,
    /// What is attested.
    pub attested: Attested<'a>,
}

impl Attest<'_> {
    /// What only a TPM says. Part 2 §6.2.
    #[doc(alias = "TPM_GENERATED_VALUE")]
    pub const GENERATED: u32 = 0xff54_4347;
}

impl<'a> AttestData<'a> {
    /// What the octets say.
    ///
    /// # Errors
    /// They are not an [`Attest`].
    pub fn read(self) -> Result<Attest<'a>, Malformed> {
        Attest::from_bytes(self.octets())
    }
}

/// What the octets say.
impl fmt::Debug for AttestData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.read() {
            Ok(attest) => f.debug_tuple("AttestData").field(&attest).finish(),
            Err(_) => write!(f, "AttestData({} octets)", self.octets().len()),
        }
    }
}

union! {
    /// What is attested. Part 2 §10.12.11.
    #[doc(alias = "TPMU_ATTEST")]
    Attested<'a>: Structure {
        /// That an object is loaded.
        Certify(info: CertifyInfo<'a>) = ATTEST_CERTIFY,
        /// That the TPM created an object.
        Creation(info: CreationInfo<'a>) = ATTEST_CREATION,
        /// The values of PCRs.
        Quote(info: QuoteInfo<'a>) = ATTEST_QUOTE,
        /// Which commands ran that are under audit.
        CommandAudit(info: CommandAuditInfo<'a>) = ATTEST_COMMAND_AUDIT,
        /// Which commands ran in a session.
        SessionAudit(info: SessionAuditInfo<'a>) = ATTEST_SESSION_AUDIT,
        /// The time.
        Time(info: TimeAttestInfo) = ATTEST_TIME,
        /// The content of an NV index.
        Nv(info: NvCertifyInfo<'a>) = ATTEST_NV,
        /// The digest of the content of an NV index.
        NvDigest(info: NvDigestCertifyInfo<'a>) = ATTEST_NV_DIGEST,
    }
}

structure! {
    /// A loaded object. Part 2 §10.12.3.
    #[doc(alias = "TPMS_CERTIFY_INFO")]
    CertifyInfo<'a> {
        /// Its Name.
        name: Name<'a>,
        /// Its qualified Name.
        qualified_name: Name<'a>,
    }

    /// An object that the TPM created. Part 2 §10.12.7.
    #[doc(alias = "TPMS_CREATION_INFO")]
    CreationInfo<'a> {
        /// Its Name.
        object_name: Name<'a>,
        /// The digest of its creation data.
        creation_hash: Digest<'a>,
    }

    /// Values of PCRs. Part 2 §10.12.4.
    #[doc(alias = "TPMS_QUOTE_INFO")]
    QuoteInfo<'a> {
        /// The PCRs.
        pcr_select: PcrSelections<'a>,
        /// The digest of their values, in order, by the hash of the signature.
        pcr_digest: Digest<'a>,
    }

    /// Commands under audit. Part 2 §10.12.5.
    #[doc(alias = "TPMS_COMMAND_AUDIT_INFO")]
    CommandAuditInfo<'a> {
        /// How often auditing has restarted.
        audit_counter: u64,
        /// The hash of the audit.
        digest_alg: Alg,
        /// The audit digest.
        audit_digest: Digest<'a>,
        /// Digest of the command codes under audit.
        command_digest: Digest<'a>,
    }

    /// Commands in a session. Part 2 §10.12.6.
    #[doc(alias = "TPMS_SESSION_AUDIT_INFO")]
    SessionAuditInfo<'a> {
        /// Whether no other command has run since the audit began.
        exclusive_session: bool,
        /// The audit digest.
        session_digest: Digest<'a>,
    }

    /// The time. Part 2 §10.12.2.
    #[doc(alias = "TPMS_TIME_ATTEST_INFO")]
    TimeAttestInfo {
        /// Time and clock.
        time: TimeInfo,
        /// The version of the firmware.
        firmware_version: u64,
    }

    /// Content of an NV index. Part 2 §10.12.8.
    #[doc(alias = "TPMS_NV_CERTIFY_INFO")]
    NvCertifyInfo<'a> {
        /// Name of the index.
        index_name: Name<'a>,
        /// Where in the index the content begins.
        offset: u16,
        /// The content.
        nv_contents: MaxNvBuffer<'a>,
    }

    /// Digest of the content of an NV index. Part 2 §10.12.9.
    #[doc(alias = "TPMS_NV_DIGEST_CERTIFY_INFO")]
    NvDigestCertifyInfo<'a> {
        /// Name of the index.
        index_name: Name<'a>,
        /// Digest of all of the content.
        nv_digest: Digest<'a>,
    }
}

impl Marshal for Attest<'_> {
    #[inline]
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        writer.write(&Self::GENERATED)?;
        self.attested.marshal_around(writer, |writer| {
            writer.write(&self.qualified_signer)?;
            writer.write(&self.extra_data)?;
            writer.write(&self.clock_info)?;
            writer.write(&self.firmware_version)
        })
    }
}

impl<'a> Unmarshal<'a> for Attest<'a> {
    #[inline]
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let at = reader.position();
        if reader.read::<u32>("Attest.magic")? != Self::GENERATED {
            return Err(Malformed::new(Why::Value, at).named("Attest.magic"));
        }
        let selector = reader.read("Attest.type")?;
        Ok(Self {
            qualified_signer: reader.read("Attest.qualified_signer")?,
            extra_data: reader.read("Attest.extra_data")?,
            clock_info: reader.read("Attest.clock_info")?,
            firmware_version: reader.read("Attest.firmware_version")?,
            attested: Attested::unmarshal_body(selector, reader)?,
        })
    }
}
