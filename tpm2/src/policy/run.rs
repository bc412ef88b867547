//! Policies in sessions.

use super::{MAX_BRANCHES, Policy, Step, branches};
use crate::client::Tpm;
use crate::commands::{
    Authorized, PolicyAcSendSelect, PolicyAuthValue, PolicyAuthorize, PolicyAuthorizeNv,
    PolicyCapability, PolicyCommandCode, PolicyCounterTimer, PolicyCpHash, PolicyDuplicationSelect,
    PolicyGetDigest, PolicyLocality, PolicyNameHash, PolicyNv, PolicyNvWritten, PolicyOr,
    PolicyParameters, PolicyPassword, PolicyPcr, PolicyPhysicalPresence, PolicySecret,
    PolicySigned, PolicyTemplate, PolicyTicket, PolicyTransportSpdm,
};
use crate::crypto::{PolicyDigest, PolicyError};
use crate::error::{Error, Fault};
use crate::session::{Auth, Session};
use crate::transport::Transport;
use crate::types::{
    AnyEntity, Digest, DigestBuf, Entity, Name, Nonce, NvAuth, Object, SessionHandle, Signature,
    Ticket, TicketBuf, Timeout, TimeoutBuf, VerifiedTicketBuf,
};
use crate::wire::List;

/// What a policy asks for while it runs. Each answer has a default, which is that of [`Unaided`].
pub trait Responder {
    /// Authorizes an entity whose secret is asked for, or that may read an NV index: by default with the empty password.
    fn authorize(&mut self, entity: &AnyEntity) -> Auth<'_> {
        let _ = entity;
        Auth::EMPTY
    }

    /// Chooses among the branches of a [`Step::Or`], by number: by default the first.
    fn choose(&mut self, branches: &[Policy<'_>]) -> usize {
        let _ = branches;
        0
    }

    /// Gets the agreement of the holder of a key.
    ///
    /// # Errors
    /// [`Fault::Unanswered`], as by default, or another.
    fn sign(&mut self, request: &SignedRequest<'_>) -> Result<Consent<'_>, Fault> {
        let _ = request;
        Err(Fault::Unanswered("a signature"))
    }

    /// Takes the ticket that a signature gave whose expiration is negative: it can be the [`Consent`] to a later run. By
    /// default it is dropped.
    fn keep(&mut self, ticket: TicketBuf, timeout: TimeoutBuf) {
        let _ = (ticket, timeout);
    }

    /// Shows that the holder of a key has approved the policy with this digest: verifies a signature over
    /// [`policy_approval`](crate::crypto::policy_approval).
    ///
    /// # Errors
    /// [`Fault::Unanswered`], as by default, or another.
    fn approve<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        approved: &DigestBuf,
        key: Name<'_>,
        policy_ref: Nonce<'_>,
    ) -> Result<VerifiedTicketBuf, Error<T::Error>> {
        let _ = (tpm, approved, key, policy_ref);
        Err(Error::of::<PolicyAuthorize<'_>>(Fault::Unanswered("an approval")))
    }
}

/// A responder that has only empty passwords, and takes the first branch.
#[derive(Clone, Copy, Debug)]
pub struct Unaided;

impl Responder for Unaided {}

/// What is to be signed for [`Step::Signed`].
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'r> {
    /// The key that is to sign.
    pub key: &'r Object,
    /// What the agreement is good for.
    pub policy_ref: Nonce<'r>,
    /// The session's nonce: an agreement that includes it is good for this session only.
    pub nonce_tpm: Nonce<'r>,
}

/// The agreement of the holder of a key.
#[derive(Clone, Copy, Debug)]
pub enum Consent<'c> {
    /// A signature over [`signed_authorization`](crate::crypto::signed_authorization).
    Signature {
        /// Whether it includes the session's nonce.
        is_for_this_session: bool,
        /// Seconds from the start of the session for which it is good; 0 for ever; negative to get a ticket too.
        expiration: i32,
        /// The cpHash of the only command that it is good for; empty for all.
        cp_hash_a: Digest<'c>,
        /// The signature.
        signature: Signature<'c>,
    },
    /// The ticket that an earlier signature gave.
    Ticket {
        /// When it expires, as the TPM said with the ticket.
        timeout: Timeout<'c>,
        /// As in the signature.
        cp_hash_a: Digest<'c>,
        /// The ticket.
        ticket: Ticket<'c>,
    },
}

impl Policy<'_> {
    /// Runs all steps in a policy session that has just been started, or restarted; the session then authorizes what has
    /// this policy.
    ///
    /// # Errors
    /// As [`Tpm::run`]; [`Fault::Unanswered`] if a step needs more than [`Unaided`] has.
    pub fn run<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        session: &Session,
    ) -> Result<(), Error<T::Error>> {
        self.run_with(tpm, session, &mut Unaided)
    }

    /// As [`Self::run`], with what `responder` answers.
    ///
    /// # Errors
    /// As [`Tpm::run`]; what `responder` says; [`Fault::Policy`] if the digest of a branch cannot be computed.
    pub fn run_with<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        session: &Session,
        responder: &mut impl Responder,
    ) -> Result<(), Error<T::Error>> {
        let nonce_tpm = session.nonce_tpm();
        let mut running = Running { tpm, session: session.handle(), nonce_tpm, responder };
        running.policy(self, Ok(PolicyDigest::new(session.hash())))
    }
}

/// The digest that a session has reached, if it is known without asking the TPM.
type Reached = Result<PolicyDigest, PolicyError>;

struct Running<'r, T: Transport, R> {
    tpm: &'r mut Tpm<T>,
    session: SessionHandle,
    nonce_tpm: Nonce<'r>,
    responder: &'r mut R,
}

impl<T: Transport, R: Responder> Running<'_, T, R> {
    fn policy(&mut self, policy: &Policy<'_>, mut reached: Reached) -> Result<(), Error<T::Error>> {
        for step in policy.steps {
            self.step(step, reached)?;
            reached = reached.and_then(|digest| step.extend(digest));
        }
        Ok(())
    }

    fn step(&mut self, step: &Step<'_>, before: Reached) -> Result<(), Error<T::Error>> {
        let policy_session = self.session;
        match *step {
            Step::Or(branches) => self.either(branches, before),
            Step::Signed { key, policy_ref } => self.signed(&key, policy_ref),
            Step::Authorize { key, policy_ref } => self.authorized(key, policy_ref),
            Step::Secret { entity, policy_ref } => {
                let command =
                    PolicySecret { policy_ref, ..PolicySecret::of(entity, policy_session) };
                self.tpm.run(&command, [self.responder.authorize(&entity)]).map(drop)
            }
            Step::Nv { by: auth_handle, index: nv_index, operand, offset, operation } => {
                let operand_b = operand;
                let command = PolicyNv {
                    auth_handle,
                    nv_index,
                    policy_session,
                    operand_b,
                    offset,
                    operation,
                };
                self.by_index(&command, auth_handle)
            }
            Step::AuthorizeNv { by: auth_handle, index: nv_index } => self.by_index(
                &PolicyAuthorizeNv { auth_handle, nv_index, policy_session },
                auth_handle,
            ),
            _ => visit(step, policy_session, Run(self.tpm)).unwrap_or(Ok(())),
        }
    }

    /// Runs a command that reads an NV index.
    fn by_index(
        &mut self,
        command: &impl Authorized<1>,
        by: NvAuth,
    ) -> Result<(), Error<T::Error>> {
        let auth = self.responder.authorize(&AnyEntity::of(&by));
        self.tpm.run(command, [auth]).map(drop)
    }

    fn either(&mut self, of: &[Policy<'_>], before: Reached) -> Result<(), Error<T::Error>> {
        let fail = |error: PolicyError| Error::of::<PolicyOr<'_>>(Fault::Policy(error));
        let digests = before.and_then(|before| branches(before, of)).map_err(fail)?;
        let chosen = self.responder.choose(of);
        let branch = of.get(chosen).ok_or(fail(PolicyError::Branches(chosen)))?;
        self.policy(branch, before)?;
        let mut list = [Digest::EMPTY; MAX_BRANCHES];
        list.iter_mut().zip(&digests).for_each(|(to, digest)| *to = digest.digest());
        let p_hash_list = List::new(list.get(..of.len()).unwrap_or_default());
        self.tpm.run(&PolicyOr { policy_session: self.session, p_hash_list }, []).map(drop)
    }

    fn signed(&mut self, key: &Object, policy_ref: Nonce<'_>) -> Result<(), Error<T::Error>> {
        let policy_session = self.session;
        let request = SignedRequest { key, policy_ref, nonce_tpm: self.nonce_tpm };
        let consent = self.responder.sign(&request).map_err(Error::of::<PolicySigned<'_>>)?;
        let (ticket, timeout) = match consent {
            Consent::Ticket { timeout, cp_hash_a, ticket } => {
                let name = key.name().ok_or(Error::of::<PolicyTicket<'_>>(Fault::Unnamed))?;
                let auth_name = Name::from(&name);
                let command = PolicyTicket {
                    policy_session,
                    timeout,
                    cp_hash_a,
                    policy_ref,
                    auth_name,
                    ticket,
                };
                return self.tpm.run(&command, []).map(drop);
            }
            Consent::Signature { is_for_this_session, expiration, cp_hash_a, signature } => {
                let command = PolicySigned {
                    auth_object: *key,
                    policy_session,
                    nonce_tpm: if is_for_this_session { self.nonce_tpm } else { Nonce::EMPTY },
                    cp_hash_a,
                    policy_ref,
                    expiration,
                    auth: signature,
                };
                let answer = self.tpm.run(&command, [])?;
                (answer.policy_ticket, answer.timeout)
            }
        };
        if !ticket.digest.octets().is_empty() {
            self.responder.keep(ticket.into(), timeout.into());
        }
        Ok(())
    }

    /// The approved digest is the TPM's, so that it is known even if what PCRs hold is not.
    fn authorized(&mut self, key: Name<'_>, policy_ref: Nonce<'_>) -> Result<(), Error<T::Error>> {
        let policy_session = self.session;
        let reached = self.tpm.run(&PolicyGetDigest { policy_session }, [])?.policy_digest;
        let approved = DigestBuf::from(reached);
        let ticket = self.responder.approve(self.tpm, &approved, key, policy_ref)?;
        let command = PolicyAuthorize {
            policy_session,
            approved_policy: Digest::from(&approved),
            policy_ref,
            key_sign: key,
            check_ticket: (&ticket).into(),
        };
        self.tpm.run(&command, []).map(drop)
    }
}

/// Something to be done with the command of a step.
pub(crate) trait StepVisitor {
    type Output;

    fn visit<C: Authorized<0>>(self, command: &C) -> Self::Output;
}

struct Run<'t, T: Transport>(&'t mut Tpm<T>);

impl<T: Transport> StepVisitor for Run<'_, T> {
    type Output = Result<(), Error<T::Error>>;

    fn visit<C: Authorized<0>>(self, command: &C) -> Self::Output {
        self.0.run(command, []).map(drop)
    }
}

/// Lets `visitor` visit the command of a step that needs nothing but its session; `None` if it needs more.
pub(crate) fn visit<V: StepVisitor>(
    step: &Step<'_>,
    policy_session: SessionHandle,
    visitor: V,
) -> Option<V::Output> {
    Some(match *step {
        Step::Pcr { pcrs, digest } => {
            visitor.visit(&PolicyPcr { policy_session, pcr_digest: digest, pcrs })
        }
        Step::CounterTimer { operand: operand_b, offset, operation } => {
            visitor.visit(&PolicyCounterTimer { policy_session, operand_b, offset, operation })
        }
        Step::Capability { operand: operand_b, offset, operation, capability, property } => {
            let command = PolicyCapability {
                policy_session,
                operand_b,
                offset,
                operation,
                capability,
                property,
            };
            visitor.visit(&command)
        }
        Step::Locality(locality) => visitor.visit(&PolicyLocality { policy_session, locality }),
        Step::CommandCode(code) => visitor.visit(&PolicyCommandCode { policy_session, code }),
        Step::PhysicalPresence => visitor.visit(&PolicyPhysicalPresence { policy_session }),
        Step::CpHash(cp_hash_a) => visitor.visit(&PolicyCpHash { policy_session, cp_hash_a }),
        Step::NameHash(name_hash) => visitor.visit(&PolicyNameHash { policy_session, name_hash }),
        Step::Template(template_hash) => {
            visitor.visit(&PolicyTemplate { policy_session, template_hash })
        }
        Step::Parameters(p_hash) => visitor.visit(&PolicyParameters { policy_session, p_hash }),
        Step::AuthValue => visitor.visit(&PolicyAuthValue { policy_session }),
        Step::Password => visitor.visit(&PolicyPassword { policy_session }),
        Step::NvWritten(written_set) => {
            visitor.visit(&PolicyNvWritten { policy_session, written_set })
        }
        _ => return visit_names(step, policy_session, visitor),
    })
}

/// As [`visit`], of the steps that are about Names.
fn visit_names<V: StepVisitor>(
    step: &Step<'_>,
    policy_session: SessionHandle,
    visitor: V,
) -> Option<V::Output> {
    let name = Option::unwrap_or_default;
    match *step {
        Step::DuplicationSelect { object, new_parent: new_parent_name } => {
            let (object_name, include_object) = (name(object), object.is_some());
            Some(visitor.visit(&PolicyDuplicationSelect {
                policy_session,
                object_name,
                new_parent_name,
                include_object,
            }))
        }
        Step::TransportSpdm { requester, tpm } => {
            let (req_key_name, tpm_key_name) = (name(requester), name(tpm));
            let command = PolicyTransportSpdm { policy_session, req_key_name, tpm_key_name };
            Some(visitor.visit(&command))
        }
        Step::AcSendSelect { object, auth_handle: auth_handle_name, ac: ac_name } => {
            let (object_name, include_object) = (name(object), object.is_some());
            Some(visitor.visit(&PolicyAcSendSelect {
                policy_session,
                object_name,
                auth_handle_name,
                ac_name,
                include_object,
            }))
        }
        _ => None,
    }
}
