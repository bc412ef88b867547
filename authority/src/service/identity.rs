//! Tells a caller who its certificate says that it is.

use std::fmt;
use std::sync::Arc;

use const_oid::db::rfc4519::{COMMON_NAME, ORGANIZATION_NAME};
use der::Decode;
use der::asn1::Utf8StringRef;
use proto::v1::identity_service_server::IdentityService;
use proto::v1::{IssueRequest, IssuedCredentials, RenewRequest, WhoAmIRequest, WhoAmIResponse};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::Authority;
use crate::issue::{serial_text, spiffe_id, user_name};
use crate::resource::Name;
use crate::server::Connection;

/// The identity service of an authority.
pub struct Identity(pub Arc<Authority>);

#[tonic::async_trait]
impl IdentityService for Identity {
    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        let connection = request.extensions().get::<Connection>();
        let leaf = connection.and_then(|connection| connection.peer.as_ref()?.first());
        let leaf = leaf.ok_or_else(|| Unauthenticated::new("no client certificate"))?;
        let caller = Caller::of(leaf, &self.0)?;
        Ok(Response::new(WhoAmIResponse {
            cluster: self.0.issuer.cluster().to_string(),
            bot: caller.bot.to_string(),
            roles: caller.roles,
            spiffe_id: caller.spiffe_id,
            certificate_serial: caller.serial,
            not_after: caller.not_after.unix_timestamp(),
        }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<IssuedCredentials>, Status> {
        Err(Status::unimplemented("renewals are not served yet"))
    }

    async fn issue(&self, _: Request<IssueRequest>) -> Result<Response<IssuedCredentials>, Status> {
        Err(Status::unimplemented("issues are not served yet"))
    }
}

/// Why a caller is nobody.
#[derive(Debug, PartialEq, Eq)]
pub struct Unauthenticated(String);

impl Unauthenticated {
    fn new(cause: impl fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

impl fmt::Display for Unauthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unauthenticated: {}", self.0)
    }
}

/// Who calls, as a certificate says that the TLS handshake verified.
#[derive(Debug)]
struct Caller {
    bot: Name,
    roles: Vec<String>,
    spiffe_id: String,
    serial: String,
    not_after: OffsetDateTime,
}

impl Caller {
    fn of(leaf: &CertificateDer<'_>, authority: &Authority) -> Result<Self, Unauthenticated> {
        let certificate = Certificate::from_der(leaf).map_err(Unauthenticated::new)?;
        let tbs = certificate.tbs_certificate();
        let not_after: OffsetDateTime = tbs.validity().not_after.to_system_time().into();
        // The handshake has looked at the clock too, but a connection may outlive a certificate.
        if not_after <= authority.clock.now() {
            return Err(Unauthenticated::new("the client certificate has expired"));
        }
        let mut names = Vec::new();
        let mut roles = Vec::new();
        for attribute in tbs.subject().iter() {
            let text = attribute.value.decode_as::<Utf8StringRef<'_>>();
            let text = text.map_err(Unauthenticated::new)?.as_str().to_owned();
            match attribute.oid {
                COMMON_NAME => names.push(text),
                ORGANIZATION_NAME => roles.push(text),
                _ => return Err(Unauthenticated::new("the certificate is not a bot's")),
            }
        }
        let bot = match names.as_slice() {
            [name] => name.strip_prefix("bot-").and_then(|name| name.parse::<Name>().ok()),
            _ => None,
        };
        let bot = bot.ok_or_else(|| Unauthenticated::new("the certificate is not a bot's"))?;
        let spiffe_id = spiffe_id(authority.issuer.cluster(), &bot);
        let alternative = tbs.get_extension::<SubjectAltName>().map_err(Unauthenticated::new)?;
        match alternative.as_ref().map(|(_, SubjectAltName(names))| names.as_slice()) {
            Some([GeneralName::UniformResourceIdentifier(uri)]) if uri.as_str() == spiffe_id => {}
            _ => {
                return Err(Unauthenticated::new(format!(
                    "{} is not {spiffe_id}",
                    user_name(&bot)
                )));
            }
        }
        let serial = tbs.serial_number().as_bytes();
        let serial = serial_text(serial.strip_prefix(&[0]).unwrap_or(serial));
        Ok(Self { bot, roles, spiffe_id, serial, not_after })
    }
}
