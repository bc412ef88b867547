//! The SPIFFE Workload API.

use std::collections::HashMap;
use std::sync::Arc;

use proto::spiffe::spiffe_workload_api_server::SpiffeWorkloadApi;
use proto::spiffe::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse,
    ValidateJwtsvidRequest, ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse,
    WitsvidRequest, WitsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid,
    X509svidRequest, X509svidResponse,
};
use proto::spiffe::{ListValue, Struct, Value as ProtoValue, value::Kind};
use serde_json::{Map, Value};
use tonic::{Request, Response, Status};

use super::server::{Peer, Served, peer};
use super::updates::{self, Messages, messages};
use super::{Identities, Subscription};
use crate::credential::svid::Bundle;

/// Audiences of one token.
const MAX_AUDIENCES: usize = 32;

/// Bytes of an audience, as the authority limits them.
const MAX_AUDIENCE: usize = 512;

/// Bytes of a SPIFFE ID in a request.
const MAX_NAME: usize = 2048;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Served {
    type FetchX509SVIDStream = Messages<X509svidResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let (peer, subscription) = self.subscription(&request).await?;
        let whole = |identities: &Arc<Identities>| Whole(Arc::clone(identities));
        Ok(Response::new(messages(peer, subscription, whole, |whole| x509_svids(&whole.0))))
    }

    type FetchX509BundlesStream = Messages<X509BundlesResponse>;

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let (peer, subscription) = self.subscription(&request).await?;
        Ok(Response::new(messages(peer, subscription, X509Part::of, |part| X509BundlesResponse {
            crl: Vec::new(),
            bundles: of_domain(&part.0, part.0.x509.concat()),
        })))
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        let peer = peer(&request)?;
        let JwtsvidRequest { audience, spiffe_id } = request.into_inner();
        check_audiences(&audience)?;
        let spiffe_id = (!spiffe_id.is_empty()).then_some(spiffe_id.as_str());
        if let Some(id) = spiffe_id
            && (!id.starts_with("spiffe://") || id.len() > MAX_NAME)
        {
            return Err(Status::invalid_argument("spiffe_id is not a SPIFFE ID"));
        }
        let caller = peer.attest().await?;
        let svids = self.source.jwt_svids(caller.as_ref(), &audience, spiffe_id).await?;
        let svids = svids.into_iter().map(|svid| Jwtsvid {
            spiffe_id: svid.spiffe_id,
            svid: svid.token,
            hint: svid.hint,
        });
        Ok(Response::new(JwtsvidResponse {
            svids: unique_hints(svids.collect(), |svid| &mut svid.hint),
        }))
    }

    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let (peer, subscription) = self.subscription(&request).await?;
        Ok(Response::new(messages(peer, subscription, JwtPart::of, |part| JwtBundlesResponse {
            bundles: of_domain(&part.0, part.0.jwks().into_bytes()),
        })))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let (_, mut subscription) = self.subscription(&request).await?;
        let ValidateJwtsvidRequest { audience, svid } = request.into_inner();
        check_audiences(std::slice::from_ref(&audience))?;
        let identities = updates::first(&mut subscription).await?;
        let now = host::clock::now().unix_timestamp();
        let valid = identities.bundle.validate_jwt(&svid, &audience, now);
        let (spiffe_id, claims) = valid.map_err(Status::invalid_argument)?;
        let claims = structure(claims);
        Ok(Response::new(ValidateJwtsvidResponse { spiffe_id, claims: Some(claims) }))
    }

    type FetchWITSVIDStream = Messages<WitsvidResponse>;

    async fn fetch_witsvid(
        &self,
        _: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        Err(no_wit())
    }

    type FetchWITBundlesStream = Messages<WitBundlesResponse>;

    async fn fetch_wit_bundles(
        &self,
        _: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        Err(no_wit())
    }
}

impl Served {
    /// Who calls, attested now, and what it may have.
    pub(super) async fn subscription<T>(
        &self,
        request: &Request<T>,
    ) -> Result<(Arc<Peer>, Subscription), Status> {
        let peer = peer(request)?;
        let caller = peer.attest().await?;
        Ok((peer, self.source.subscribe(caller.as_ref())))
    }
}

/// All identities, which are the same only if nothing was issued since.
struct Whole(Arc<Identities>);

impl PartialEq for Whole {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What X.509 peers are verified with.
struct X509Part(Arc<Bundle>);

impl X509Part {
    fn of(identities: &Arc<Identities>) -> Self {
        Self(Arc::clone(&identities.bundle))
    }
}

impl PartialEq for X509Part {
    fn eq(&self, other: &Self) -> bool {
        self.0.x509 == other.0.x509
    }
}

/// What JWTs are verified with.
struct JwtPart(Arc<Bundle>);

impl JwtPart {
    fn of(identities: &Arc<Identities>) -> Self {
        Self(Arc::clone(&identities.bundle))
    }
}

impl PartialEq for JwtPart {
    fn eq(&self, other: &Self) -> bool {
        self.0.jwt == other.0.jwt
    }
}

fn x509_svids(identities: &Identities) -> X509svidResponse {
    let bundle = identities.bundle.x509.concat();
    let svids = identities.svids.iter().map(|keyed| X509svid {
        spiffe_id: keyed.svid.spiffe_id.clone(),
        x509_svid: keyed.svid.certificates.concat(),
        x509_svid_key: keyed.key.to_vec(),
        bundle: bundle.clone(),
        hint: keyed.svid.hint.clone(),
    });
    X509svidResponse {
        svids: unique_hints(svids.collect(), |svid| &mut svid.hint),
        crl: Vec::new(),
        federated_bundles: HashMap::new(),
    }
}

/// The first of several equal hints stays: a client takes that one. Empty ones may repeat.
fn unique_hints<S>(mut svids: Vec<S>, hint: fn(&mut S) -> &mut String) -> Vec<S> {
    let mut seen = Vec::new();
    for svid in &mut svids {
        let hint = hint(svid);
        if seen.contains(hint) {
            hint.clear();
        } else if !hint.is_empty() {
            seen.push(hint.clone());
        }
    }
    svids
}

fn of_domain(bundle: &Bundle, content: Vec<u8>) -> HashMap<String, Vec<u8>> {
    HashMap::from([(format!("spiffe://{}", bundle.trust_domain), content)])
}

fn check_audiences(audiences: &[String]) -> Result<(), Status> {
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        return Err(Status::invalid_argument("audience must be specified"));
    }
    if audiences.len() > MAX_AUDIENCES || audiences.iter().any(|one| one.len() > MAX_AUDIENCE) {
        let text =
            format!("more than {MAX_AUDIENCES} audiences, or one of over {MAX_AUDIENCE} bytes");
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}

fn no_wit() -> Status {
    Status::unimplemented("WIT-SVIDs are not supported")
}

/// JSON as google.protobuf.Struct.
fn structure(object: Map<String, Value>) -> Struct {
    Struct { fields: object.into_iter().map(|(name, value)| (name, proto_value(value))).collect() }
}

fn proto_value(value: Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(all) => {
            Kind::ListValue(ListValue { values: all.into_iter().map(proto_value).collect() })
        }
        Value::Object(object) => Kind::StructValue(structure(object)),
    };
    ProtoValue { kind: Some(kind) }
}
