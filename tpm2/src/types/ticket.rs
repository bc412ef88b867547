use super::{Alg, Digest, DigestBuf, Handle, Structure};
use crate::wire::macros::{structure, union};
use crate::wire::{Malformed, Marshal, Reader, TooLarge, Unmarshal, Writer};

structure! {
    /// The TPM's word that it did something, to itself. Part 2 §10.7.
    #[doc(alias("TPMT_TK_CREATION", "TPMT_TK_AUTH", "TPMT_TK_HASHCHECK"))]
    Ticket<'a> {
        /// What it says.
        tag: Structure,
        /// The hierarchy whose proof it is made with.
        hierarchy: Handle,
        /// An HMAC.
        digest: Digest<'a>,
    }
}

impl Ticket<'_> {
    /// The null ticket that stands for "not hashed by the TPM", as [`Sign`](crate::commands::Sign) wants of an
    /// unrestricted key. Part 2 §10.7.6.
    pub const NO_HASHCHECK: Self =
        Self { tag: Structure::HASHCHECK, hierarchy: Handle::NULL, digest: Digest::EMPTY };
}

/// A [`Ticket`] by value, for a later command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketBuf {
    tag: Structure,
    hierarchy: Handle,
    digest: DigestBuf,
}

impl From<Ticket<'_>> for TicketBuf {
    fn from(Ticket { tag, hierarchy, digest }: Ticket<'_>) -> Self {
        Self { tag, hierarchy, digest: digest.into() }
    }
}

impl<'a> From<&'a TicketBuf> for Ticket<'a> {
    fn from(ticket: &'a TicketBuf) -> Self {
        Self { tag: ticket.tag, hierarchy: ticket.hierarchy, digest: (&ticket.digest).into() }
    }
}

/// The TPM's word that it verified a signature, to itself. Part 2 §10.7.4.
#[doc(alias = "TPMT_TK_VERIFIED")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedTicket<'a> {
    /// The hierarchy whose proof it is made with.
    pub hierarchy: Handle,
    /// What was signed.
    pub verified: Verified,
    /// An HMAC.
    pub hmac: Digest<'a>,
}

/// A [`VerifiedTicket`] by value, for a later command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedTicketBuf {
    hierarchy: Handle,
    verified: Verified,
    hmac: DigestBuf,
}

impl From<VerifiedTicket<'_>> for VerifiedTicketBuf {
    fn from(VerifiedTicket { hierarchy, verified, hmac }: VerifiedTicket<'_>) -> Self {
        Self { hierarchy, verified, hmac: hmac.into() }
    }
}

impl<'a> From<&'a VerifiedTicketBuf> for VerifiedTicket<'a> {
    fn from(ticket: &'a VerifiedTicketBuf) -> Self {
        let VerifiedTicketBuf { hierarchy, verified, hmac } = ticket;
        Self { hierarchy: *hierarchy, verified: *verified, hmac: hmac.into() }
    }
}

union! {
    /// What a verified signature was made over. Part 2 §10.7.4.
    #[doc(alias = "TPMU_TK_VERIFIED_META")]
    Verified: Structure {
        /// A digest, as [`VerifySignature`](crate::commands::VerifySignature) takes it.
        Signature = VERIFIED,
        /// A message.
        Message = MESSAGE_VERIFIED,
        /// A digest, in a context.
        Digest(hash: Alg) = DIGEST_VERIFIED,
    }
}

impl Marshal for VerifiedTicket<'_> {
    #[inline]
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        // The hash of a digest stands between the hierarchy and the HMAC, and the tag before them.
        writer.write(&self.verified.selector())?;
        writer.write(&self.hierarchy)?;
        if let Verified::Digest(hash) = self.verified {
            writer.write(&hash)?;
        }
        writer.write(&self.hmac)
    }
}

impl<'a> Unmarshal<'a> for VerifiedTicket<'a> {
    #[inline]
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let selector = reader.read("VerifiedTicket.tag")?;
        Ok(Self {
            hierarchy: reader.read("VerifiedTicket.hierarchy")?,
            verified: Verified::unmarshal_body(selector, reader)?,
            hmac: reader.read("VerifiedTicket.hmac")?,
        })
    }
}
